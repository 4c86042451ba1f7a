"""The score: the only place that defines its formula.

    score   = MACs / MACs_baseline + f1_term            lower is better
    f1_term = 1                                  F1 < floor
            = penalty * (1 - F1 / F1_baseline)   floor <= F1 < F1_baseline
            = reward * (1 - F1 / F1_baseline)    F1 >= F1_baseline

The constants come from competition.toml. F1 is the macro F1 over the fixed class list. Three presets
of competition.toml change the formula (docs/scoring.md names their sources):

    ntire           score = sum of weight * exp(2 * cost / cost_baseline); F1 only has to reach the floor
    budget          score = 1 - F1 / F1_baseline; costs are limited, not scored
    rank-average    score of a board = weighted mean of an entry's ranks by each cost and by F1
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from starter.contract.competition import Budget, ScoreRules
from starter.contract.errors import Code, usage_error
from starter.contract.results import Branch, EvaluationResult, Reference

_MOST_EXPONENT = 350.0


class Score(NamedTuple):
    """A score and its terms."""

    score: float
    """macs_ratio + f1_term; lower is better."""
    macs_ratio: float
    """What the costs add: MACs over the baseline's, or as competition.toml weighs them."""
    f1_term: float
    """The F1's part of the score."""
    branch: Branch
    """Which case of the f1_term applied."""

    @property
    def ranked(self) -> bool:
        """Whether the entry is ranked; a constant answer must not tie with the baseline."""
        return self.branch != "below_floor"


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points (MACs, macro F1) that no other beats in both, by rising MACs.

    >>> pareto_front([(2, 0.7), (1, 0.5), (3, 0.6), (2, 0.6)])
    [1, 0]
    """
    found: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not found or points[i][1] > points[found[-1]][1]:
            found.append(i)
    return found


class F1(NamedTuple):
    """Macro F1 and the per-class values that it averages."""

    macro: float
    """Mean over all classes of the list."""
    per_class: dict[str, float]
    """By class name."""
    absent: tuple[str, ...]
    """Classes without an image; each counts as 0."""
    accuracy: float
    """Share of correctly classified images; shown, not scored."""
    by_group: dict[str, float] | None = None
    """Of each group of images, the mean over the classes that it has; None where there are no groups."""

    @property
    def worst_group(self) -> float | None:
        """The lowest F1 of a group."""
        return min(self.by_group.values()) if self.by_group else None


def compute_score(
    macs: float, f1: float, *, baseline_macs: float, baseline_f1: float, rules: ScoreRules
) -> Score:
    """Return the score of one entry, with every term.

    If competition.toml weighs several costs, `macs` is `Counts.over` and `baseline_macs` is 1.

    The original organizers' table (baseline 553 M MACs, F1 0.7), which rounds each term:

    >>> def terms(macs, f1):
    ...     score = compute_score(macs, f1, baseline_macs=553, baseline_f1=0.7, rules=ScoreRules())
    ...     return f"{score.macs_ratio:.2f} + {score.f1_term:.2f}"
    >>> terms(350, 0.4), terms(650, 0.8), terms(650, 0.4)  # 1.63, 1.11 and 2.18
    ('0.63 + 1.00', '1.18 + -0.07', '1.18 + 1.00')
    """
    branch: Branch = "below_floor" if f1 < rules.f1_floor else "penalty" if f1 < baseline_f1 else "reward"
    term = float(f1_terms(f1, baseline_f1=baseline_f1, rules=rules))
    ratio = macs / baseline_macs
    return Score(ratio + term, ratio, term, branch)


def cost_term(ratio: float, rules: ScoreRules) -> float:
    """Return what a cost adds to the score, unweighed: its ratio to the baseline's, or exp(2 ratio).

    Beyond 350 times the baseline's an exponential cost grows no more, so that it stays a number.
    """
    return math.exp(2 * min(ratio, _MOST_EXPONENT)) if rules.exponential else ratio


def mean_ranks(criteria: npt.ArrayLike, weights: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return the weighted mean of each entry's ranks, shape (entries, ...).

    Equal entries share the mean of their ranks.

    Args:
        criteria: shape (criteria, entries, ...), lower is better.
        weights: of each criterion.

    By MACs the first of two entries is ahead, by params they are equal, by F1 (negated) the second is:

    >>> mean_ranks([[1, 2], [5, 5], [-0.8, -0.9]], [1, 1, 1]).tolist()
    [1.5, 1.5]
    """
    from scipy.stats import rankdata  # noqa: PLC0415 - a second of import that most commands do not need

    ranks = rankdata(np.asarray(criteria, dtype=np.float64), axis=1)
    mean: npt.NDArray[np.float64] = np.average(ranks, axis=0, weights=weights)
    return mean


def f1_terms(f1: npt.ArrayLike, *, baseline_f1: float, rules: ScoreRules) -> npt.NDArray[np.float64]:
    """Return the f1_term of one F1, or of an array of any shape."""
    missing = 1 - np.asarray(f1, dtype=np.float64) / baseline_f1
    term = np.where(missing > 0, rules.penalty * missing, rules.reward * missing)
    return np.where(np.asarray(f1) < rules.f1_floor, 0.0 if rules.exponential else 1.0, term)


def cost_worth(
    f1_step: float,
    branch: Branch,
    *,
    baseline_cost: float,
    baseline_f1: float,
    rules: ScoreRules,
    digits: int | None = None,
) -> float:
    """Return the amount of a cost that changes the score as much as `f1_step` of F1 on a branch.

    Below the floor that is 0, because F1 does not count there. `baseline_cost` is the baseline's cost
    divided by the weight of that cost in the score. `digits` is the number of decimals; None rounds to
    a whole number.

    >>> cost_worth(0.01, "reward", baseline_cost=14_000_000, baseline_f1=0.7, rules=ScoreRules())
    100000
    """
    weight = {"below_floor": 0.0, "penalty": rules.penalty, "reward": rules.reward}[branch]
    return round(weight * f1_step / baseline_f1 * baseline_cost, digits)


def macro_f1(labels: Sequence[int], predictions: Sequence[int], class_names: Sequence[str]) -> F1:
    """Return the F1 of every class and their mean, computed by scikit-learn.

    The mean is over `class_names`, whether a class occurs or not: a class without
    an image counts as 0 and is listed in `absent`.
    """
    from sklearn.metrics import f1_score  # noqa: PLC0415 - a second of import that most commands do not need

    right, answered = np.asarray(labels), np.asarray(predictions)
    values = f1_score(right, answered, labels=np.arange(len(class_names)), average=None, zero_division=0.0)
    per_class = {name: float(value) for name, value in zip(class_names, values, strict=True)}
    present = set(labels)
    absent = tuple(name for i, name in enumerate(class_names) if i not in present)
    accuracy = float(np.mean(right == answered))
    return F1(sum(per_class.values()) / len(per_class), per_class, absent, accuracy)


class Counts(NamedTuple):
    """The cost of one image in every unit that the kit counts; None if there is no count."""

    macs: int | None
    """MACs by the kit's operator table."""
    ptflops: int | None
    """MACs by the rule of ptflops, on the kit's graph."""
    thop: int | None
    """MACs as thop counts them in the submission's process."""
    params: int | None = None
    """Elements of the parameters in use."""
    weight_bytes: int | None = None
    """Bytes of the constants that the program carries."""
    peak_memory_bytes: int | None = None
    """The most bytes alive at once, weights included."""
    memory_access: int | None = None
    """Elements read and written."""
    depth: int | None = None
    """Convolutions and matrix products on the longest path."""
    bit_operations: int | None = None
    """MACs of contractions, each x the bits of both its operands / 1,024."""
    speed: float | None = None
    """Time divided by the baseline's."""

    @classmethod
    def of(cls, measured: Reference | EvaluationResult) -> Self:
        """Return the counts of a result, or of the baseline."""
        further = measured.costs.model_dump() if measured.costs else {}
        macs = (measured.macs, measured.ptflops_macs, measured.thop_macs)
        if isinstance(measured, Reference):
            speed: float | None = 1.0
        else:
            speed = measured.speed.ratio if measured.speed else None
        return cls(*macs, params=measured.params, **further, speed=speed)

    def over(self, baseline: Self, rules: ScoreRules) -> float | None:
        """Return the weighted sum of the scored costs over the baseline's; None if a count is missing.

        By NTIRE's formula the baseline scores e^2, whatever the weights:

        >>> own = Counts(1, 1, 1, params=1, speed=1.0)
        >>> round(own.over(own, ScoreRules(preset="ntire")), 4)
        7.3891
        """
        terms: list[float] = []
        for name, weight in rules.weights.items():
            own, its = getattr(self, name), getattr(baseline, name)
            if own is None or not its:
                return None
            terms.append(weight * cost_term(own / its, rules))
        return sum(terms)

    def exceeding(self, budget: Budget) -> list[tuple[str, float, float]]:
        """Return the costs that exceed a budget: name, limit and value."""
        limits = budget.model_dump(exclude_none=True)
        fields = {name: "speed" if name == "latency_ratio" else name for name in limits}
        found = ((name, most, getattr(self, fields[name])) for name, most in limits.items())
        return [(name, most, own) for name, most, own in found if own is not None and own > most]


def check_reference(
    reference: Reference, *, rules: ScoreRules, dataset_fingerprint: str, cost_version: str, where: str
) -> None:
    """Check that scores can be relative to a reference.

    Raises:
        UsageError: the reference was measured on other data or under another cost rule, its F1
            is below the floor, or a scored cost is missing or zero.
    """
    if reference.dataset_fingerprint != dataset_fingerprint:
        raise usage_error(
            Code.STALE_REFERENCE,
            where=where,
            expected=f"data fingerprint {dataset_fingerprint}",
            got=f"{reference.dataset_fingerprint} ({reference.dataset})",
        )
    if reference.cost_version != cost_version:
        raise usage_error(
            Code.STALE_REFERENCE,
            where=where,
            expected=f"cost version {cost_version}",
            got=reference.cost_version,
        )
    if reference.macro_f1 < rules.f1_floor or reference.macro_f1 <= 0:
        raise usage_error(
            Code.BASELINE_BELOW_FLOOR,
            where=where,
            expected=f"a macro F1 of at least {rules.f1_floor}",
            got=f"{reference.macro_f1:.4f}",
        )
    counts = Counts.of(reference)
    for name in rules.weights:
        count = getattr(counts, name)
        if count is None and name != "thop":  # measured by an earlier kit
            raise usage_error(Code.STALE_REFERENCE, where=where, expected=f"a count of {name}", got="none")
        if not count:
            raise usage_error(Code.BASELINE_FREE, where=where, got=f"{name} = {count}")


class RankKey(NamedTuple):
    """The key that ranks an entry: keys compare field by field, and the lower one is ahead.

    The store sorts by columns of these names; docs/scoring.md shows the table.
    """

    score: float
    """Lower score."""
    macs: int
    """Fewer MACs."""
    minus_f1: float
    """Higher macro F1."""
    submitted_at: float
    """Earlier entry, in seconds since 1970; 0 for a result that nobody submitted."""
    name: str
    """Name of the entry, by code point."""
    team: str
    """Name of the team, by code point; empty if there is none."""


def rank_key(result: EvaluationResult) -> RankKey:
    """Return the key of a result that no team submitted."""
    assert result.score is not None
    assert result.macs is not None
    assert result.macro_f1 is not None
    return RankKey(result.score, result.macs, -result.macro_f1, 0.0, result.name, "")


def rank(results: Sequence[EvaluationResult]) -> list[EvaluationResult]:
    """Return ranked entries in order, then unranked ones by score, then those without a score."""
    ranked = sorted((r for r in results if r.ranked), key=rank_key)
    unranked = sorted((r for r in results if r.score is not None and not r.ranked), key=rank_key)
    failed = sorted((r for r in results if r.score is None), key=lambda r: r.name)
    return [*ranked, *unranked, *failed]
