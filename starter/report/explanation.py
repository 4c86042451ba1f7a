"""Explain a score: its formula and terms, what F1 is worth, and which layers use the MACs."""

from collections import Counter
from collections.abc import Sequence

from starter.contract.competition import CostName, ScoreRules
from starter.contract.costs import NodeCost
from starter.contract.results import EvaluationResult, Reference
from starter.contract.text import inline, listed, typed
from starter.evaluation.scoring import Counts, cost_term, cost_worth

COST_LABELS: dict[CostName, str] = {
    "macs": "MACs",
    "ptflops": "MACs as ptflops counts them",
    "thop": "MACs as thop sees them",
    "params": "params",
    "weight_bytes": "bytes of weights",
    "peak_memory_bytes": "bytes of peak memory",
    "memory_access": "elements of memory access",
    "depth": "layers of depth",
    "bit_operations": "bit operations",
    "speed": "of the baseline's time",
}
"""The label of each cost."""


def formula(reference: Reference, rules: ScoreRules) -> str:
    """Return the formula in force, with the baseline's costs; lower is better."""
    if rules.averages_ranks:
        ranks = [f"{_times(weight)}rank by {COST_LABELS[name]}" for name, weight in rules.weights.items()]
        total = f"{sum(rules.weights.values()) + 1:g}"
        return f"score = ({' + '.join([*ranks, 'rank by F1'])}) / {total}, among every team's best entry"
    return f"score = {_own_formula(reference, rules)}"


def formula_cases(reference: Reference, baseline_f1: float, rules: ScoreRules) -> list[str]:
    """Return what F1 does to the score, from the lowest F1 to the highest, one line for each case.

    Args:
        reference: the baseline's costs.
        baseline_f1: its macro F1 on the images that are scored.
        rules: the constants of the score.
    """
    floor, baseline = f"{rules.f1_floor:g}", f"{baseline_f1:.4f}"
    if rules.exponential:
        return [f"F1 < {floor}: unranked", f"F1 >= {floor}: F1 changes nothing"]
    reward = f"{_times(rules.reward)}(1 - F1 / {baseline})"
    penalty = f"{_times(rules.penalty)}(1 - F1 / {baseline})"
    if rules.averages_ranks:
        best = _own_formula(reference, rules).replace("F1 term", reward)
        return [f"F1 < {floor}: unranked", f"A team's best entry has the lowest {best}"]
    if rules.penalty == rules.reward:
        return [f"F1 < {floor}: F1 term = 1, unranked", f"F1 >= {floor}: F1 term = {reward}"]
    return [
        f"F1 < {floor}: F1 term = 1, unranked",
        f"{floor} <= F1 < {baseline}, the baseline's: F1 term = {penalty}",
        f"F1 >= {baseline}: F1 term = {reward}",
    ]


def _own_formula(reference: Reference, rules: ScoreRules) -> str:
    """Return the costs of an entry, each over the baseline's, and the F1 term where there is one."""
    its = Counts.of(reference)
    ratios = {name: f"{COST_LABELS[name]} / {getattr(its, name):,}" for name in rules.weights}
    if "speed" in ratios:
        ratios["speed"] = "time / the baseline's"
    terms = [_cost_term(ratios[name], weight, rules) for name, weight in rules.weights.items()]
    return " + ".join(terms if rules.exponential else [*terms, "F1 term"])


def _times(weight: float) -> str:
    return "" if weight == 1 else f"{weight:g} x "


def _cost_term(ratio: str, weight: float, rules: ScoreRules) -> str:
    """Return what a cost adds to the score, as `scoring.cost_term` computes it."""
    return _times(weight) + (f"exp(2 x {ratio})" if rules.exponential else ratio)


def explain_score(result: EvaluationResult, reference: Reference, rules: ScoreRules) -> str:
    """Return a score as its sum, the branch of the formula that applied, and the figures beside it."""
    seen = (
        f"accuracy {result.accuracy:.4f}, {result.params:,} params{_memory(result)},"
        f" thop sees {count_text(result.thop_macs)} MACs"
    )
    if result.score is None and "speed" in rules.weights and result.speed is None:
        path = typed("starter", "speed", inline(result.path))
        found = "no score: the organizer measures the speed with starter batch; to measure it here"
        return f"{found}: {path}\n  {seen}"
    if result.score is None or result.branch is None:
        costs = listed(list(rules.weights))
        return f"no score: competition.toml scores by {costs}, which could not be counted\n  {seen}"
    terms = [_cost_terms(result, reference, rules)] if rules.weights else []
    values = [result.macs_ratio or 0] if rules.weights else []
    term, why = _f1_term(result, reference, rules)
    if not rules.exponential:
        terms.append(term)
        values.append(result.f1_term or 0)
    total = " + ".join(f"{value:.4f}" for value in values).replace("+ -", "- ")
    steps = [" + ".join(terms), *([total] if len(values) > 1 else []), f"{result.score:.4f}"]
    if result.branch != "below_floor" and not result.ranked:
        why = f"the F1 of a group is below the floor for groups of {rules.group_floor:g}: unranked"
    ranks = "; places on the board follow the mean of ranks" if rules.averages_ranks else ""
    prices = _prices(result, reference, rules)
    return f"{' = '.join(steps)}\n  {why}{_absent(result)}{ranks}\n{_groups(result)}  {prices}\n  {seen}"


def _f1_term(result: EvaluationResult, reference: Reference, rules: ScoreRules) -> tuple[str, str]:
    """Return the F1 term with its numbers, and why it is this one."""
    f1, its = f"{result.macro_f1:.4f}", f"{reference.macro_f1:.4f}"
    if result.branch == "below_floor":
        return "1", f"F1 {f1} is below the floor of {rules.f1_floor:g}: unranked"
    if rules.exponential:
        return "", f"F1 {f1} reaches the floor of {rules.f1_floor:g}: ranked by costs alone"
    weight, which = (rules.penalty, "penalty") if result.branch == "penalty" else (rules.reward, "reward")
    why = f"F1 is {'below' if which == 'penalty' else 'not below'} the baseline's: {which}"
    return f"{weight:g} x (1 - {f1}/{its})", why


def _memory(result: EvaluationResult) -> str:
    if result.costs is None:
        return ""
    weights, peak = result.costs.weight_bytes, result.costs.peak_memory_bytes
    return f", {weights:,} bytes of weights, {peak:,} at the peak"


def _cost_terms(result: EvaluationResult, reference: Reference, rules: ScoreRules) -> str:
    """Return the sum of the scored costs, each over the baseline's."""
    own, its = Counts.of(result), Counts.of(reference)
    return " + ".join(
        _cost_term(f"{getattr(own, name):,} / {getattr(its, name):,} {COST_LABELS[name]}", weight, rules)
        for name, weight in rules.weights.items()
    )


def _prices(result: EvaluationResult, reference: Reference, rules: ScoreRules) -> str:
    """Say what to change: what F1 or a cost is worth, the distance to each threshold, the heaviest layers."""
    assert result.macro_f1 is not None
    price = _cost_price if rules.exponential else _f1_price
    text = (
        f"{price(result, reference, rules)}; F1 is {_distance(result.macro_f1 - rules.f1_floor)} the floor"
        f" and {_distance(result.macro_f1 - reference.macro_f1)} the baseline's"
    )
    heaviest = heaviest_layers(result.layers or ())
    shares = ", ".join(f"{inline(name)} {share:.0%}" for name, share in heaviest)
    return f"{text}\n  most MACs: {shares}" if shares else text


def _f1_price(result: EvaluationResult, reference: Reference, rules: ScoreRules) -> str:
    """Say what 0.01 F1 is worth, in costs or, where costs are only limited, in the score."""
    assert result.branch is not None
    if result.branch == "below_floor":
        return "F1 counts from the floor up"
    if not rules.weights:
        own = 0.01 * (rules.penalty if result.branch == "penalty" else rules.reward) / reference.macro_f1
        return f"+0.01 F1 is worth {own:.4f} of the score, and a lower cost nothing"
    baseline = Counts.of(reference)
    worth = {
        name: cost_worth(
            0.01,
            result.branch,
            baseline_cost=getattr(baseline, name) / weight,
            baseline_f1=reference.macro_f1,
            rules=rules,
            digits=4 if name == "speed" else None,
        )
        for name, weight in rules.weights.items()
    }
    prices = " or ".join(f"{amount:,} {COST_LABELS[name]}" for name, amount in worth.items() if amount)
    return f"+0.01 F1 is worth {prices or 'nothing'}"


def _cost_price(result: EvaluationResult, reference: Reference, rules: ScoreRules) -> str:
    """Say what a percent of each cost is worth where only costs are scored."""
    own, its = Counts.of(result), Counts.of(reference)
    ratios = {name: getattr(own, name) / getattr(its, name) for name in rules.weights}
    worth = {
        name: weight * (cost_term(ratios[name], rules) - cost_term(0.99 * ratios[name], rules))
        for name, weight in rules.weights.items()
    }
    prices = [f"{amount:.4f} ({COST_LABELS[name]})" for name, amount in worth.items()]
    return f"1 % off a cost is worth {listed(prices)} of the score"


def heaviest_layers(layers: Sequence[NodeCost], count: int = 3) -> list[tuple[str, float]]:
    """Return the modules (outside of any, the lines) with the most MACs, and their shares of all MACs."""
    macs: Counter[str] = Counter()
    for node in layers:
        macs[node.module or node.source or node.op] += node.contraction + node.pointwise + node.reduction
    total = macs.total() or 1
    return [(name, n / total) for name, n in macs.most_common(count) if n]


def _distance(difference: float) -> str:
    return f"{abs(difference):.4f} {'above' if difference >= 0 else 'below'}"


def _groups(result: EvaluationResult) -> str:
    """Return a line with the worst and the best group; nothing where there are none."""
    if not result.f1_by_group:
        return ""
    ordered = sorted(result.f1_by_group.items(), key=lambda item: item[1])
    worst, best = (f"{inline(name)} {f1:.4f}" for name, f1 in (ordered[0], ordered[-1]))
    return f"  F1 of {len(ordered)} groups: worst {worst}, best {best}\n"


def _absent(result: EvaluationResult) -> str:
    if not result.absent_classes:
        return ""
    return f"; no image of {', '.join(result.absent_classes)}, which count as F1 0"


def count_text(macs: int | None) -> str:
    """Return a count as text; a dash if there is none."""
    return "-" if macs is None else f"{macs:,}"
