"""Turn the times of alternating blocks into a ratio with its interval, or find them inconclusive.

A round runs its blocks in one order and then in reverse (graph/profiling/speed.py), so a steady drift
affects all of them equally. Rounds are drawn with replacement, and the median of each draw is one value of
the bootstrap: B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
"""

import math
from collections.abc import Sequence

import numpy as np

from starter.contract.costs import BatchSpeed, SpeedRound, SpeedVerdict

LEVEL = 0.99
"""The level of the intervals, at which a false finding in twenty runs is rare."""
WIDEST = 0.03
"""The widest conclusive interval, as a share of its ratio."""
ENTRY, BASELINE, CONTROL = "ebc"

_REPLICATES = 2000
_SEED = 20_240_229


def judged(batch: int, rounds: Sequence[SpeedRound]) -> BatchSpeed:
    """Return the ratio from the rounds of one batch size, and whether it is reliable."""
    ratios = [_ratio(r, ENTRY) for r in rounds]
    ratio, interval = float(np.median(ratios)), median_interval(ratios)
    control = median_interval([_ratio(r, CONTROL) for r in rounds])
    verdict = SpeedVerdict.OK
    if not control[0] <= 1 <= control[1]:
        verdict = SpeedVerdict.CONTROL
    elif interval[1] - interval[0] > WIDEST * ratio:
        verdict = SpeedVerdict.WIDE
    return BatchSpeed(
        batch=batch,
        verdict=verdict,
        ratio=ratio,
        interval=interval,
        control_interval=control,
        rounds=tuple(rounds),
    )


def in_all(batches: Sequence[BatchSpeed]) -> float | None:
    """Return the geometric mean of the ratios, to four digits; None if one of them is inconclusive."""
    if any(b.verdict is not SpeedVerdict.OK for b in batches):
        return None
    return round(math.exp(math.fsum(math.log(b.ratio) for b in batches) / len(batches)), 4)


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the percentile interval of the median that holds LEVEL of the draws."""
    draws = np.random.default_rng(_SEED).integers(0, len(values), (_REPLICATES, len(values)))
    medians = np.median(np.asarray(values)[draws], axis=1)
    low, high = np.quantile(medians, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _ratio(found: SpeedRound, side: str) -> float:
    """Return one side's time over the baseline's, in one round."""
    return _time(found, side) / _time(found, BASELINE)


def _time(found: SpeedRound, side: str) -> float:
    blocks = zip(found.order, found.microseconds, strict=True)
    return math.fsum(time for block, time in blocks if block == side)
