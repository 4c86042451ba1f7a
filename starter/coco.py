"""Cut the boxes of a COCO file into a classification data set.

Every box is accounted for: used, or skipped for a reason that the report counts.
All crops of one photograph go into one split. The COCO file is read by
coco_file.py and checked before any picture is opened.
"""

import io
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageOps

from starter.coco_file import CocoAnnotation, CocoFile, CocoImage, Mapping, read_coco, read_mapping
from starter.dataset import Dataset
from starter.dataset_writer import (
    Description,
    Item,
    Split,
    assign_splits,
    refuse_existing,
    shuffled_numbers,
    write_dataset,
)
from starter.errors import Code, Problem, UsageError, problem

CROWD = "crowd of several objects"
NO_AREA = "no area"
OUTSIDE = "outside the picture"
SMALL = "smaller than min_size"
SKIPPED = "category is skipped"
DUPLICATE = "same box and category twice"
OTHER_SIZE = "picture has another size than annotated"


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


@dataclass
class CropReport:
    """What became of every box: `boxes == used + sum(skipped)` in each row and in all."""

    dataset: Dataset
    rows: list[CategoryRow]
    """One per category, in the COCO file's order."""
    other_size: list[str]
    """Pictures whose size is not the annotated one."""

    @property
    def total(self) -> CategoryRow:
        """The sums of all rows."""
        total = CategoryRow("all", "")
        for row in self.rows:
            total.boxes += row.boxes
            total.used += row.used
            total.skipped += row.skipped
        return total


@dataclass(frozen=True)
class _CropOptions:
    """How boxes are cut."""

    min_size: int
    """Boxes with a side below this, after clipping, are skipped; pixels."""
    margin: float
    """Added on every side, as a share of the box's longer side."""
    max_side: int | None
    """Crops are scaled down to this; pixels."""
    quality: int
    """JPEG quality, 1-95."""


@dataclass(frozen=True)
class _Crop:
    """One box that will be cut."""

    image: CocoImage
    box: tuple[int, int, int, int]
    """Left, top, right, bottom; pixels inside the picture."""
    label: int
    row: CategoryRow


OpenImage = Callable[[CocoImage], Image.Image]


def crop_dataset(  # noqa: PLR0913 - the options of `starter data crops`, one to one
    annotations: Path,
    images: Path,
    out: Path,
    *,
    name: str = "",
    mapping: Path | None = None,
    min_size: int = 24,
    margin: float = 0.0,
    max_side: int | None = None,
    quality: int = 90,
    seed: int = 0,
    test_share: float = 0.3,
    public_share: float = 0.5,
    zip_images: bool = False,
    version: str = "1",
    licence: str = "not stated",
    source: str = "",
    made_by: Sequence[str] = (),
    open_image: OpenImage | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CropReport:
    """Cut the boxes of `annotations` out of the pictures below `images` into the new data set `out`.

    Without a `mapping` the categories are the classes. `open_image` gives the upright RGB
    picture of an entry; the default reads the file. `progress` is called with (pictures done, all).

    Raises:
        UsageError: `out` exists (U106), the COCO file is not valid (U204), the mapping does
            not fit it (U205), or pictures are missing or broken (U203); all are listed.
    """
    refuse_existing(out)
    coco = read_coco(annotations)
    classes = read_mapping(mapping, coco)
    options = _CropOptions(min_size, margin, max_side, quality)
    rows, crops = _plan(coco, classes, options)
    splits = assign_splits(
        [crop.label for crop in crops],
        [crop.image.file_name for crop in crops],
        seed=seed, test_share=test_share, public_share=public_share,
    )  # fmt: skip
    cutter = _Cutter(open_image or _reader(images), options, progress)
    description = Description(
        name=name or annotations.stem, classes=tuple(classes.classes), version=version, licence=licence,
        source=source or annotations.name, made_by=tuple(made_by),
    )  # fmt: skip
    dataset = write_dataset(out, cutter.items(crops, splits, seed), description, zip_images=zip_images)
    return CropReport(dataset, rows, cutter.other_size)


def _plan(coco: CocoFile, mapping: Mapping, options: _CropOptions) -> tuple[list[CategoryRow], list[_Crop]]:
    """Decide about every box from the annotations alone."""
    place = {name: label for label, group in enumerate(mapping.classes.values()) for name in group}
    classes = list(mapping.classes)
    rows, labels = {}, {}
    for category in coco.categories:
        labels[category.id] = place.get(category.name)
        label = labels[category.id]
        rows[category.id] = CategoryRow(category.name, "" if label is None else classes[label])
    pictures = {image.id: image for image in coco.images}
    crops, seen = [], set()
    for annotation in coco.annotations:
        row, image = rows[annotation.category_id], pictures[annotation.image_id]
        row.boxes += 1
        key = (annotation.image_id, annotation.category_id, annotation.bbox)
        label = labels[annotation.category_id]
        reason = (
            SKIPPED if label is None else DUPLICATE if key in seen else _unfit(annotation, image, options)
        )
        seen.add(key)
        if reason or label is None:
            row.skipped[reason] += 1
            continue
        row.used += 1
        crops.append(_Crop(image, _clip(annotation.bbox, image, options.margin), label, row))
    return list(rows.values()), crops


def _unfit(annotation: CocoAnnotation, image: CocoImage, options: _CropOptions) -> str:
    """Why a box cannot be used; empty if it can."""
    if annotation.iscrowd:
        return CROWD
    if min(annotation.bbox[2:]) <= 0:
        return NO_AREA
    left, top, right, bottom = _clip(annotation.bbox, image, 0)
    if right <= left or bottom <= top:
        return OUTSIDE
    return SMALL if min(right - left, bottom - top) < options.min_size else ""


def _clip(
    bbox: tuple[float, float, float, float], image: CocoImage, margin: float
) -> tuple[int, int, int, int]:
    """Whole pixels (left, top, right, bottom) that hold the box with its margin, inside the picture."""
    left, top, wide, tall = bbox
    rim = margin * max(wide, tall)
    return (
        max(0, math.floor(left - rim)),
        max(0, math.floor(top - rim)),
        min(image.width, math.ceil(left + wide + rim)),
        min(image.height, math.ceil(top + tall + rim)),
    )


def _reader(folder: Path) -> OpenImage:
    def read(entry: CocoImage) -> Image.Image:
        """Open one picture upright; as stored, if only then it has the annotated size."""
        with Image.open(folder / entry.file_name) as stored:
            upright = ImageOps.exif_transpose(stored)
            annotated = (entry.width, entry.height)
            fits_as_stored = upright.size != annotated == stored.size
            return (stored if fits_as_stored else upright).convert("RGB")

    return read


class _Cutter:
    """Opens each picture once and yields its crops."""

    def __init__(
        self, open_image: OpenImage, options: _CropOptions, progress: Callable[[int, int], None] | None
    ) -> None:
        self._open, self._options, self._progress = open_image, options, progress
        self.other_size: list[str] = []
        self._broken: list[Problem] = []

    def items(self, crops: list[_Crop], splits: list[Split], seed: int) -> Iterator[Item]:
        """Yield the crops; raises UsageError at the end if pictures could not be opened."""
        stem = shuffled_numbers(len(crops), seed)
        of_picture = defaultdict(list)
        for position, crop in enumerate(crops):
            of_picture[crop.image.id].append(position)
        for done, positions in enumerate(of_picture.values(), start=1):
            entry = crops[positions[0]].image
            picture = self._picture(entry, [crops[i].row for i in positions])
            for i in positions if picture and not self._broken else ():
                assert picture
                data = self._cut(picture, crops[i].box)
                yield Item(f"{stem(i)}.jpg", data, crops[i].label, splits[i], group=entry.file_name)
            if self._progress:
                self._progress(done, len(of_picture))
        if self._broken:
            raise UsageError(self._broken)

    def _picture(self, entry: CocoImage, rows: list[CategoryRow]) -> Image.Image | None:
        try:
            picture = self._open(entry)
        # PIL's decoders raise nearly anything on damaged bytes.
        except Exception as error:  # noqa: BLE001 - kept as a problem; all broken pictures are named
            reason = "no such file" if isinstance(error, FileNotFoundError) else "cannot be decoded"
            self._broken.append(problem(Code.BROKEN_IMAGES, where=entry.file_name, got=f"{reason}: {error}"))
            return None
        if picture.size == (entry.width, entry.height):
            return picture
        self.other_size.append(
            f"{entry.file_name}: {picture.width}x{picture.height}, annotated as {entry.width}x{entry.height}"
        )
        for row in rows:
            row.used -= 1
            row.skipped[OTHER_SIZE] += 1
        return None

    def _cut(self, picture: Image.Image, box: tuple[int, int, int, int]) -> bytes:
        crop = picture.crop(box)
        if side := self._options.max_side:
            crop.thumbnail((side, side), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        crop.save(buffer, "JPEG", quality=self._options.quality, optimize=True)
        return buffer.getvalue()
