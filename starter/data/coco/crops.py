"""Cut the boxes of a COCO file into a classification data set.

Every box is accounted for: used, or skipped for a reason that the report counts.
All crops of one photograph, and of photographs that are nearly the same, go into one
split. The COCO file is read by annotations.py and checked before any picture is opened;
all pictures are opened (pictures.py) before the first box is cut.
"""

import io
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from starter.contract.errors import Code, UsageError, problem, usage_error
from starter.contract.system.processors import available
from starter.data.coco.annotations import (
    CocoAnnotation,
    CocoFile,
    CocoImage,
    Mapping,
    read_coco,
    read_mapping,
)
from starter.data.coco.pictures import Size, find_file, open_picture, same_shape
from starter.data.dataset import Dataset
from starter.data.near_duplicates import Look, alike_pairs, look, merged_groups
from starter.data.options import CropOptions, Description, Shares
from starter.data.writer import Item, assign_splits, refuse_existing, shuffled_numbers, write_dataset

CROWD = "crowd of several objects"
NO_AREA = "no area"
OUTSIDE = "outside the picture"
SMALL = "smaller than min_size"
SKIPPED = "category is skipped"
DUPLICATE = "same box and category twice"
OTHER_SHAPE = "picture has another shape than annotated"
LOST = "photograph is not there"


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
    other_shape: list[str]
    """Pictures whose shape is not the annotated one, nor that one scaled."""
    scaled: int
    """Pictures whose boxes were scaled with them."""
    alike: list[tuple[str, str]]
    """Pairs of pictures that are nearly the same; each is on one side."""

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
class _Crop:
    """One box that will be cut."""

    image: CocoImage
    bbox: tuple[float, float, float, float]
    """As in CocoAnnotation."""
    label: int
    row: CategoryRow


OpenImage = Callable[[CocoImage], Image.Image]
"""Gives the upright RGB picture of an entry; called from several threads."""


@dataclass(frozen=True)
class _Seen:
    """What is known of a picture from looking at it once."""

    size: Size
    look: Look


def crop_dataset(  # noqa: PLR0913 - the options of `starter data crops`
    annotations: Path,
    images: Path,
    out: Path,
    *,
    mapping: Path | None = None,
    options: CropOptions = CropOptions(),  # noqa: B008 - frozen
    shares: Shares = Shares(),  # noqa: B008 - frozen
    near_duplicates: bool = True,
    lost: Collection[str] = (),
    zip_images: bool = False,
    description: Description = Description(source=""),  # noqa: B008 - frozen
    open_image: OpenImage | None = None,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> CropReport:
    """Cut the boxes of `annotations` out of the pictures below `images` into the new data set `out`.

    Without a `mapping` the categories are the classes. The boxes of the file names in `lost`
    are skipped. With `near_duplicates` such pictures are kept in one split. `open_image` gives
    the picture of an entry; the default reads the file. `on_progress` is called with (done, all).

    Raises:
        UsageError: `out` exists (U106), the COCO file is not valid (U204), the mapping does
            not fit it (U205), pictures are missing or broken (U203; all are listed), or no
            box is left (U202).
    """
    refuse_existing(out)
    coco = read_coco(annotations)
    classes = read_mapping(mapping, coco)
    rows, planned = _plan(coco, classes, options, frozenset(lost))
    seen = _look_at([c.image for c in planned], images, open_image, on_progress)
    crops, other_shape = _fitting(planned, seen, options)
    if not crops:
        raise usage_error(
            Code.BAD_DATASET, where=str(annotations), got="no box to cut", expected="boxes that can be used"
        )
    names, alike = _groups(crops, seen) if near_duplicates else ({}, [])
    groups = [names.get(crop.image.file_name, crop.image.file_name) for crop in crops]
    splits = assign_splits([crop.label for crop in crops], groups, shares)
    stem = shuffled_numbers(len(crops), shares.seed)

    def items() -> Iterator[Item]:
        for i, data in _cut_all(crops, seen, open_image or _reader(images), options, on_progress):
            yield Item(f"{stem(i)}.jpg", data, crops[i].label, splits[i], group=groups[i])

    description = description.completed(
        name=annotations.stem, source=annotations.name, classes=tuple(classes.classes)
    )
    dataset = write_dataset(out, items(), description, zip_images=zip_images)
    used = {crop.image.id: crop.image for crop in crops}.values()
    scaled = sum(seen[image.id].size != (image.width, image.height) for image in used)
    return CropReport(dataset, rows, other_shape, scaled, alike)


def _plan(
    coco: CocoFile, mapping: Mapping, options: CropOptions, lost: Collection[str]
) -> tuple[list[CategoryRow], list[_Crop]]:
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
        if label is None:
            row.skipped[SKIPPED] += 1
            continue
        reason = DUPLICATE if key in seen else _unfit(annotation, image, options)
        if not reason and image.file_name in lost:
            reason = LOST
        seen.add(key)
        if reason:
            row.skipped[reason] += 1
            continue
        row.used += 1
        crops.append(_Crop(image, annotation.bbox, label, row))
    return list(rows.values()), crops


def _unfit(annotation: CocoAnnotation, image: CocoImage, options: CropOptions) -> str:
    """Why a box cannot be used; empty if it can."""
    if annotation.iscrowd:
        return CROWD
    if min(annotation.bbox[2:]) <= 0:
        return NO_AREA
    left, top, right, bottom = _clip(annotation.bbox, (image.width, image.height), 0)
    if right <= left or bottom <= top:
        return OUTSIDE
    return SMALL if min(right - left, bottom - top) < options.min_size else ""


def _clip(bbox: tuple[float, float, float, float], size: Size, margin: float) -> tuple[int, int, int, int]:
    """Whole pixels (left, top, right, bottom) that hold the box with its margin, inside the picture."""
    left, top, wide, tall = bbox
    rim = margin * max(wide, tall)
    return (
        max(0, math.floor(left - rim)),
        max(0, math.floor(top - rim)),
        min(size[0], math.ceil(left + wide + rim)),
        min(size[1], math.ceil(top + tall + rim)),
    )


def _box(crop: _Crop, size: Size, margin: float) -> tuple[int, int, int, int]:
    """The box in a picture of that size, with its margin."""
    x, y = size[0] / crop.image.width, size[1] / crop.image.height
    left, top, wide, tall = crop.bbox
    return _clip((left * x, top * y, wide * x, tall * y), size, margin)


def _reader(folder: Path) -> OpenImage:
    return lambda entry: open_picture(find_file(folder, entry.file_name), entry)[0]


def _look_at(
    entries: Sequence[CocoImage],
    folder: Path,
    open_image: OpenImage | None,
    on_progress: Callable[[int, int], None],
) -> dict[int, _Seen]:
    """Open every picture once; raises UsageError if any is missing or broken, with all of them."""

    def glance(entry: CocoImage) -> _Seen | str:
        try:
            if open_image:
                picture = open_image(entry)
                return _Seen(picture.size, look(picture))
            picture, size = open_picture(find_file(folder, entry.file_name), entry, reduced=True)
            return _Seen(size, look(picture))
        # PIL's decoders raise nearly anything on damaged bytes.
        except Exception as error:  # noqa: BLE001 - kept as a problem; all broken pictures are named
            reason = "no such file" if isinstance(error, FileNotFoundError) else "cannot be decoded"
            return f"{reason}: {error}"

    once = list({entry.id: entry for entry in entries}.values())
    seen, problems = {}, []
    with ThreadPoolExecutor(available().threads) as pool:
        for done, (entry, found) in enumerate(zip(once, pool.map(glance, once), strict=True), start=1):
            if isinstance(found, str):
                problems.append(problem(Code.BROKEN_IMAGES, where=entry.file_name, got=found))
            else:
                seen[entry.id] = found
            on_progress(done, 2 * len(once))
    if problems:
        raise UsageError(problems)
    return seen


def _fitting(
    crops: Sequence[_Crop], seen: dict[int, _Seen], options: CropOptions
) -> tuple[list[_Crop], list[str]]:
    """Leave out the boxes of pictures of another shape, and those that a scaled picture makes too small."""
    kept, other_shape = [], {}
    for crop in crops:
        size, annotated = seen[crop.image.id].size, (crop.image.width, crop.image.height)
        left, top, right, bottom = _box(crop, size, 0)
        reason = ""
        if not same_shape(annotated, size):
            reason = OTHER_SHAPE
            shown = f"{size[0]}x{size[1]}, annotated as {annotated[0]}x{annotated[1]}"
            other_shape[crop.image.id] = f"{crop.image.file_name}: {shown}"
        elif min(right - left, bottom - top) < options.min_size:
            reason = SMALL
        if reason:
            crop.row.used -= 1
            crop.row.skipped[reason] += 1
        else:
            kept.append(crop)
    return kept, list(other_shape.values())


def _groups(crops: Sequence[_Crop], seen: dict[int, _Seen]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Return the group of each file name, and the pairs that are nearly the same."""
    used = list({crop.image.id: crop.image for crop in crops}.values())
    names = [image.file_name for image in used]
    pairs = alike_pairs([seen[image.id].look for image in used])
    merged = merged_groups(names, pairs)
    return dict(zip(names, merged, strict=True)), [(names[i], names[j]) for i, j in pairs]


def _cut_all(
    crops: Sequence[_Crop], seen: dict[int, _Seen], open_image: OpenImage, options: CropOptions,
    on_progress: Callable[[int, int], None],
) -> Iterator[tuple[int, bytes]]:  # fmt: skip
    """Open each picture once and yield (position, JPEG file) of its crops."""
    of_picture = defaultdict(list)
    for position, crop in enumerate(crops):
        of_picture[crop.image.id].append(position)
    for done, positions in enumerate(of_picture.values(), start=1):
        picture = open_image(crops[positions[0]].image)
        for i in positions:
            box = _box(crops[i], seen[crops[i].image.id].size, options.margin)
            yield i, _cut(picture, box, options)
        on_progress(len(of_picture) + done, 2 * len(of_picture))


def _cut(picture: Image.Image, box: tuple[int, int, int, int], options: CropOptions) -> bytes:
    crop = picture.crop(box)
    if side := options.max_side:
        crop.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    crop.save(buffer, "JPEG", quality=options.quality, optimize=True)
    return buffer.getvalue()
