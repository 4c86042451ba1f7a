"""The uncertainty of a score: a bootstrap over the evaluation images, paired between entries.

All entries are scored on the same draws, so the spread of a difference between two entries
is not hidden by what is hard for both. Images of one group (crops of one photograph) are
drawn together: they are not independent. Nothing is assumed of how close rivals are, so
among many entries of nearly equal strength the chance to stay ahead is too sure.
`scipy.stats.bootstrap` does not fit: its samples are as large as the original, so none stands for
the private images (`unseen`), its intervals are not those that records hold, and it takes longer.
B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993; chapters 8 and 13.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

REPLICATES = 1000
LEVEL = 0.95
_SEED = 20_240_229


class Resampling:
    """Random draws of the evaluation images, the same for every entry.

    Args:
        labels: the label of each image.
        num_classes: how many classes there are, with an image or not.
        groups: which images belong together; empty text stands alone.
        unseen: how many images of a new sample (the private half) the draws stand for; each
            draw then has two steps, what is not known of the images' source and what the new
            sample adds. None: draws of these images, for the spread of what was measured.
    """

    def __init__(
        self,
        labels: Sequence[int],
        num_classes: int,
        *,
        groups: Sequence[str] = (),
        unseen: int | None = None,
    ) -> None:
        self._classes = np.arange(num_classes)
        self._labels = np.asarray(labels)
        names = [group or f"\0{i}" for i, group in enumerate(groups or [""] * len(labels))]
        members = np.unique(names, return_inverse=True)[1]
        total = int(members.max()) + 1
        rng = np.random.default_rng(_SEED)
        draws = rng.multinomial(total, np.full(total, 1 / total), size=REPLICATES)
        if unseen is not None:
            size = max(1, round(unseen * total / len(self._labels)))
            draws = np.stack([rng.multinomial(size, row / total) for row in draws])
        self._weights = draws[:, members].astype(np.float32)
        self._of_class = (self._labels[:, None] == self._classes).astype(np.float32)
        self._support = self._weights @ self._of_class

    def macro_f1(self, predictions: Sequence[int]) -> Floats:
        """Return the macro F1 of each draw, shape (REPLICATES,); a class without an image counts 0."""
        predicted = np.asarray(predictions)
        as_class = (predicted[:, None] == self._classes).astype(np.float32)
        right = self._of_class * as_class
        counts = self._weights @ np.hstack([right, as_class])
        hits, answers = np.hsplit(counts, 2)
        either = self._support + answers
        f1 = np.divide(2 * hits, either, out=np.zeros_like(hits), where=either > 0)
        mean: Floats = f1.mean(axis=1, dtype=np.float64)
        return mean


def interval(values: Floats) -> tuple[float, float]:
    """Return the percentile interval that holds LEVEL of the draws' values."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def tie_groups(scores: Sequence[Floats]) -> list[int]:
    """Return a group number, from 1, for each entry of a ranking.

    An entry is in the group of the entry before it as long as it cannot be told from the
    group's first: the interval of their paired difference includes 0.

    Args:
        scores: the scores of each entry's draws, in the order of the ranking.
    """
    groups: list[int] = []
    first = None
    for values in scores:
        if first is not None:
            low, high = interval(values - first)
        if first is None or not low <= 0 <= high:
            first = values
            groups.append(len(set(groups)) + 1)
        else:
            groups.append(groups[-1])
    return groups


def chance_ahead(scores: Floats, following: Floats) -> float:
    """Return the share of draws in which the first of two entries is ahead; a tie counts half."""
    return float(np.mean((scores < following) + 0.5 * (scores == following)))
