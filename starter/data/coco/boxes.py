"""Decide about every box of a COCO file: it is cut, or left out for a reason that is counted.

From the annotations first (`plan`), so that no picture is opened in vain; then with the size that
each picture has (`fitting`).
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from starter.data.coco.annotations import CocoAnnotation, CocoFile, CocoImage
from starter.data.coco.mapping import Mapping as Classes
from starter.data.coco.pictures import same_shape
from starter.data.coco.values import Box, Id, Size
from starter.data.options import CropOptions

CROWD = "crowd of several objects"
NO_AREA = "no area"
OUTSIDE = "outside the picture"
SMALL = "smaller than min_size"
SKIPPED = "category is skipped"
DUPLICATE = "duplicate of another box"
OTHER_SHAPE = "shape differs from the annotation"
LOST = "photograph is missing"
NO_CATEGORY = "(no category)"

_BY_CHOICE = {CROWD, SMALL, SKIPPED, DUPLICATE, LOST}
"""Left out by the options, or with nothing wrong in the file."""


@dataclass
class CategoryRow:
    """What became of the boxes of one category."""

    category: str
    class_name: str
    """Empty if the category is skipped."""
    boxes: int = 0
    used: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    """Number of boxes by reason."""


@dataclass(frozen=True)
class LeftOut:
    """One box that is not cut: one row of the report."""

    annotation: str
    """Its id in the COCO file, or its place there."""
    file_name: str
    """Its photograph; empty if that is not in the file."""
    category: str
    reason: str
    found: str = ""
    """The value in the file or the picture."""

    @property
    def is_fault(self) -> bool:
        """Whether the annotation is wrong, rather than left out by choice."""
        return self.reason not in _BY_CHOICE


@dataclass(frozen=True)
class Crop:
    """One box that will be cut."""

    annotation: CocoAnnotation
    image: CocoImage
    bbox: Box
    """As in CocoAnnotation."""
    label: int


class Boxes:
    """The account of all boxes: `boxes == used + sum(skipped)` in each row, at any time."""

    def __init__(self, coco: CocoFile, classes: Classes, options: CropOptions) -> None:
        self._coco, self._options = coco, options
        names = list(classes.classes)
        self._labels = {name: label for label, group in enumerate(classes.classes.values()) for name in group}
        self.rows = {
            name: CategoryRow(name, names[self._labels[name]] if name in self._labels else "")
            for name in coco.categories
        }
        self.left_out: list[LeftOut] = []

    def plan(self, lost: Collection[str]) -> list[Crop]:
        """Decide about every box from the annotations alone; `lost` are file names without a photograph."""
        crops, seen = [], set()
        for annotation in self._coco.annotations:
            self._row(annotation).boxes += 1
            label, image, bbox = self._labels.get(annotation.category), annotation.image, annotation.bbox
            if annotation.fault or image is None or bbox is None:
                self._leave_out(annotation, annotation.fault, annotation.found)
            elif label is None:
                self._leave_out(annotation, SKIPPED)
            else:
                key = (image.file_name, annotation.category, bbox)
                reason = DUPLICATE if key in seen else self._unfit(annotation, bbox, image.size)
                seen.add(key)
                if reason := reason or (LOST if image.file_name in lost else ""):
                    self._leave_out(annotation, reason, str(list(bbox)))
                else:
                    self._row(annotation).used += 1
                    crops.append(Crop(annotation, image, bbox, label))
        return crops

    def fitting(self, crops: Sequence[Crop], sizes: Mapping[Id, Size]) -> list[Crop]:
        """Leave out what does not fit its picture: of another shape, outside of it, or too small in it."""
        kept = []
        for crop in crops:
            size, annotated = sizes[crop.image.id], crop.image.size
            if annotated and not same_shape(annotated, size):
                found = f"{size[0]}x{size[1]}, annotated as {annotated[0]}x{annotated[1]}"
                self._leave_out(crop.annotation, OTHER_SHAPE, found, was_used=True)
            elif reason := _misfit(pixel_box(crop, size, 0), self._options.min_size):
                self._leave_out(crop.annotation, reason, str(list(crop.bbox)), was_used=True)
            else:
                kept.append(crop)
        return kept

    def _unfit(self, annotation: CocoAnnotation, bbox: Box, size: Size | None) -> str:
        """Why a box cannot be used; empty if it can."""
        if annotation.is_crowd:
            return CROWD
        if min(bbox[2:]) <= 0:
            return NO_AREA
        return _misfit(_clip(bbox, size, 0), self._options.min_size) if size else ""

    def _row(self, annotation: CocoAnnotation) -> CategoryRow:
        name = annotation.category or NO_CATEGORY
        return self.rows.setdefault(name, CategoryRow(name, ""))

    def _leave_out(
        self, annotation: CocoAnnotation, reason: str, found: str = "", *, was_used: bool = False
    ) -> None:
        row = self._row(annotation)
        row.used -= was_used
        row.skipped[reason] += 1
        photograph = annotation.image.file_name if annotation.image else ""
        self.left_out.append(LeftOut(annotation.id, photograph, annotation.category, reason, found))


def _misfit(edges: tuple[int, int, int, int], min_size: int) -> str:
    left, top, right, bottom = edges
    if right <= left or bottom <= top:
        return OUTSIDE
    return SMALL if min(right - left, bottom - top) < min_size else ""


def pixel_box(crop: Crop, size: Size, margin: float) -> tuple[int, int, int, int]:
    """Return the box in a picture of that size, with its margin: left, top, right, bottom."""
    annotated = crop.image.size or size
    x, y = size[0] / annotated[0], size[1] / annotated[1]
    left, top, wide, tall = crop.bbox
    return _clip((left * x, top * y, wide * x, tall * y), size, margin)


def _clip(bbox: Box, size: Size, margin: float) -> tuple[int, int, int, int]:
    """Whole pixels (left, top, right, bottom) that hold the box with its margin, inside the picture."""
    left, top, wide, tall = bbox
    rim = margin * max(wide, tall)
    return (
        max(0, math.floor(left - rim)),
        max(0, math.floor(top - rim)),
        min(size[0], math.ceil(left + wide + rim)),
        min(size[1], math.ceil(top + tall + rim)),
    )
