"""The evaluation images with their labels: all of them, or those of one usage."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from starter.data.dataset import Dataset
from starter.evaluation.bootstrap import Resampling
from starter.evaluation.scoring import F1, macro_f1

Usage = Literal["Public", "Private"]
USAGES: tuple[Usage, ...] = ("Public", "Private")


@dataclass(frozen=True)
class LabelledImages:
    """A set of evaluation images: their positions in test.csv and their labels."""

    usage: Usage | None
    """Whose images; None: of both."""
    positions: tuple[int, ...]
    """Their indices among all evaluation images."""
    labels: tuple[int, ...]
    """The right class of each."""
    groups: tuple[str, ...]
    """What each was cropped from: draws take whole groups."""
    classes: tuple[str, ...]
    """The names of all classes."""
    f1_groups: tuple[str, ...] = ()
    """The group of each that has an F1 of its own; empty where the data set has none."""

    @classmethod
    def of(cls, dataset: Dataset, usage: Usage | None = None, *, first: int | None = None) -> Self:
        """Return the images of a usage, or of all; of the first `first` images only, where that is given."""
        rows = [
            (i, row)
            for i, row in enumerate(dataset.solution()[:first])
            if usage is None or row.usage == usage
        ]
        return cls(
            usage,
            tuple(i for i, _ in rows),
            tuple(row.label for _, row in rows),
            tuple(row.group for _, row in rows),
            dataset.info.classes,
            tuple(row.f1_group for _, row in rows if dataset.grouped_by),
        )

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.positions)

    def own(self, predictions: npt.ArrayLike) -> list[int]:
        """Return the predictions of these images out of those of all."""
        chosen: list[int] = np.asarray(predictions)[list(self.positions)].tolist()
        return chosen

    def f1(self, predictions: Sequence[int]) -> F1:
        """Return the macro F1 of predictions for all images on these images."""
        own = self.own(predictions)
        by_group = group_f1(self.labels, own, self.f1_groups) if self.f1_groups else None
        return macro_f1(self.labels, own, self.classes)._replace(by_group=by_group)

    @cached_property
    def draws(self) -> Resampling:
        """Bootstrap draws of these images, the same in each run."""
        return Resampling(list(self.labels), len(self.classes), groups=list(self.groups))


def group_f1(labels: Sequence[int], predictions: Sequence[int], groups: Sequence[str]) -> dict[str, float]:
    """Return the macro F1 of each group's images, by the groups' names.

    The mean is over the classes that the group has: nobody can be right about others, and a floor holds for
    all groups. An answer of another class is a miss all the same.
    """
    from sklearn.metrics import f1_score  # noqa: PLC0415 - a second of import

    rows: dict[str, list[tuple[int, int]]] = {name: [] for name in sorted(set(groups))}
    for group, label, prediction in zip(groups, labels, predictions, strict=True):
        rows[group].append((label, prediction))
    found = {}
    for name, pairs in rows.items():
        right, answered = zip(*pairs, strict=True)
        classes = sorted(set(right))
        found[name] = float(f1_score(right, answered, labels=classes, average="macro", zero_division=0.0))
    return found
