"""The images of a training run: split, decoded and transformed once, kept in memory."""

import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor

from starter.contract.errors import Code, usage_error
from starter.data.dataset import Dataset, Labelled
from starter.data.image_store import ImageError, broken_images
from starter.submission import pipeline
from starter.submission.transform_records import TransformRecord


class Split(BaseModel):
    """Images in memory, float16 (images, C, H, W) from the plugin's transforms, with their labels."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    images: Tensor
    labels: Tensor


def load(dataset: Dataset, rows: Sequence[Labelled], records: Sequence[TransformRecord]) -> Split:
    """Decode and transform every image once.

    Raises:
        UsageError: U203, every image file that is broken.
    """
    transform, shape = pipeline.build(records), pipeline.input_shape(records)
    images = torch.empty(len(rows), *shape, dtype=torch.half)
    broken: list[ImageError] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # handing such small pieces to threads takes longer than the work
    for i, row in enumerate(rows):
        try:
            images[i] = transform(dataset.images.open(row.image_id))
        except ImageError as error:
            broken.append(error)
    torch.set_num_threads(threads)
    if broken:
        raise broken_images(dataset.root, broken)
    return Split(images=images, labels=torch.tensor([row.label for row in rows], dtype=torch.long))


def split(rows: Sequence[Labelled], share: float, seed: int) -> tuple[list[Labelled], list[Labelled]]:
    """Split the training rows into training and validation by class, with no group in both.

    If the data set marks rows for validation, those are used; otherwise they are drawn.

    Raises:
        UsageError: no class has two images.
    """
    if share == 0:
        return list(rows), []
    if any(row.is_validation for row in rows):
        return [r for r in rows if not r.is_validation], [r for r in rows if r.is_validation]
    most = max(Counter(row.label for row in rows).values())
    if most < 2:
        raise usage_error(
            Code.BAD_DATASET,
            where="train.csv",
            got=f"{len(rows)} images, no two of the same class",
            expected="more images, or a validation share of 0",
        )
    num_folds = min(round(1 / share), most)
    folds = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    groups = [row.group or row.image_id for row in rows]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # it may be missing on one side
        kept, held_out = next(iter(folds.split(np.zeros(len(rows)), [row.label for row in rows], groups)))
    return [rows[i] for i in kept], [rows[i] for i in held_out]


def epoch_order(labels: Tensor, sampling: str) -> Tensor:
    """Return the order of an epoch's images: each image once, or every class equally often."""
    if sampling == "shuffle":
        return torch.randperm(len(labels))
    counts = torch.bincount(labels).double()
    return torch.multinomial(1 / counts[labels], len(labels), replacement=True)


def class_weights(labels: Tensor, num_classes: int, balance: str) -> Tensor:
    """Return class weights, float (num_classes,), with mean 1 over the images; absent classes get 1."""
    power = {"none": 0.0, "sqrt": 0.5, "inverse": 1.0}[balance]
    counts = torch.bincount(labels, minlength=num_classes).float()
    weights = torch.where(counts > 0, counts.clamp(min=1).pow(-power), 1.0)
    return weights * (counts.sum() / (weights * counts).sum())
