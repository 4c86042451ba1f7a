"""The uncertainty of a score: a bootstrap over the evaluation images, paired between entries.

All entries are scored on the same draws, so images that are hard for both entries do not
hide the spread of their difference. Images of one group (crops of one photograph) are
drawn together, because they are not independent. The bootstrap assumes nothing about how
close rivals are, so it overstates the chance to stay ahead among many nearly equal entries.
`scipy.stats.bootstrap` does not fit: its samples are as large as the original, so none can represent
the private images (`unseen`), its intervals differ from those in existing records, and it is slower.
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
        num_classes: the number of classes, with or without an image.
        groups: the group of each image; an image with an empty group is independent.
        unseen: the size of a new sample (the private half) that the draws represent; each
            draw then has two steps: the uncertainty about the images' source, and the spread
            of the new sample. None: draws of these images, for the spread of what was measured.
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

    An entry joins the group of the entry before it as long as it is indistinguishable from the
    group's first entry: the interval of their paired difference includes 0.

    Args:
        scores: the scores of each entry's draws, in ranking order.
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
