"""Explain a score: the sum that it is, what F1 is worth, and where the MACs go."""

from collections import Counter
from collections.abc import Sequence

from starter.contract.competition import CostName, ScoreRules
from starter.contract.costs import NodeCost
from starter.contract.results import EvaluationResult, Reference
from starter.contract.text import inline, listed, typed
from starter.evaluation.scoring import Counts, cost_worth

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
"""What people read for each cost."""


def explain_score(result: EvaluationResult, reference: Reference, rules: ScoreRules) -> str:
    """Return a score as the sum that it is, which branch of the formula applied, and what is not scored."""
    seen = (
        f"accuracy {result.accuracy:.4f}, {result.params:,} params{_memory(result)},"
        f" thop sees {count_text(result.thop_macs)} MACs"
    )
    if result.score is None and "speed" in rules.weights and result.speed is None:
        path = typed("starter", "speed", inline(result.path))
        return f"no score: the organizer measures the speed, with starter batch; yours here: {path}\n  {seen}"
    if result.score is None or result.branch is None:
        costs = listed(list(rules.weights))
        return f"no score: competition.toml scores by {costs}, which could not be counted\n  {seen}"
    f1, baseline_f1 = f"{result.macro_f1:.4f}", f"{reference.macro_f1:.4f}"
    term, why = {
        "below_floor": ("1", f"F1 {f1} is below the floor of {rules.f1_floor:g}: unranked"),
        "penalty": (f"{rules.penalty:g} x (1 - {f1}/{baseline_f1})", "F1 is below the baseline's: penalty"),
        "reward": (f"{rules.reward:g} x (1 - {f1}/{baseline_f1})", "F1 is not below the baseline's: reward"),
    }[result.branch]
    if result.branch != "below_floor" and not result.ranked:
        why = f"the F1 of a group is below the floor for groups of {rules.group_floor:g}: unranked"
    sign = "-" if (result.f1_term or 0) < 0 else "+"
    return (
        f"{_cost_terms(result, reference, rules)} + {term}"
        f" = {result.macs_ratio:.4f} {sign} {abs(result.f1_term or 0):.4f} = {result.score:.4f}\n"
        f"  {why}{_absent(result)}\n{_groups(result)}  {_prices(result, reference, rules)}\n  {seen}"
    )


def _memory(result: EvaluationResult) -> str:
    if result.costs is None:
        return ""
    weights, peak = result.costs.weight_bytes, result.costs.peak_memory_bytes
    return f", {weights:,} bytes of weights, {peak:,} at the peak"


def _cost_terms(result: EvaluationResult, reference: Reference, rules: ScoreRules) -> str:
    """Return the costs that are scored, each over the baseline's, as they are added up."""
    own, its = Counts.of(result), Counts.of(reference)
    return " + ".join(
        f"{'' if weight == 1 else f'{weight:g} x '}{getattr(own, name):,} / {getattr(its, name):,}"
        f" {COST_LABELS[name]}"
        for name, weight in rules.weights.items()
    )


def _prices(result: EvaluationResult, reference: Reference, rules: ScoreRules) -> str:
    """Say what to change: what F1 is worth in MACs here, how far the thresholds are, where the MACs go."""
    assert result.branch is not None
    assert result.macro_f1 is not None
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
    price = f"+0.01 F1 is worth {prices}" if prices else "F1 counts from the floor on"
    text = (
        f"{price}; F1 is {_distance(result.macro_f1 - rules.f1_floor)} the floor"
        f" and {_distance(result.macro_f1 - reference.macro_f1)} the baseline's"
    )
    heaviest = heaviest_layers(result.layers or ())
    shares = ", ".join(f"{inline(name)} {share:.0%}" for name, share in heaviest)
    return f"{text}\n  most MACs: {shares}" if shares else text


def heaviest_layers(layers: Sequence[NodeCost], count: int = 3) -> list[tuple[str, float]]:
    """Return the modules (or lines, outside of one) with the most MACs, and their shares of all."""
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
    """Return a count for people; a dash where there is none."""
    return "-" if macs is None else f"{macs:,}"
