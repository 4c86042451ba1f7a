"""Cut the boxes of a COCO file into a classification data set.

Every box is accounted for: used, or skipped for a reason that the report counts.
All crops of one photograph, and of photographs that are nearly the same, go into one
split. The COCO file is read by annotations.py, boxes.py decides about each box, lookup.py
finds the pictures; all of them are opened (pictures.py) before the first box is cut.
"""

import io
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from starter.contract.errors import Code, DataError, UsageError, problem, usage_error
from starter.contract.system.processors import available
from starter.data.coco.annotations import CocoImage, read_coco
from starter.data.coco.boxes import Boxes, Crop, pixel_box
from starter.data.coco.lookup import Pictures, UnclearNameError
from starter.data.coco.mapping import read_mapping
from starter.data.coco.pictures import Opened, WayUp, open_picture
from starter.data.coco.report import CropReport
from starter.data.coco.values import Id, Size
from starter.data.near_duplicates import Look, alike_pairs, look, merged_groups
from starter.data.options import CropOptions, Description, Shares
from starter.data.pixels import DepthError
from starter.data.writer import Item, assign_splits, refuse_existing, shuffled_numbers, write_dataset

OpenImage = Callable[[CocoImage], Image.Image]
"""Gives the upright RGB picture of an entry; called from several threads."""


@dataclass(frozen=True)
class _Seen:
    """What is known of a picture from looking at it once."""

    name: str
    """What all entries of one picture share."""
    size: Size
    look: Look
    way_up: WayUp


_Open = Callable[[CocoImage, bool], Opened]
"""Opens the picture of an entry, reduced or not."""
_RESTORE = (
    "Restore the file, or remove its annotations; --images names the folder that file names start from."
)

_Located = Mapping[Id, Path | str]
"""As Pictures.locate returns it."""


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

    Without a `mapping` the categories are the classes. `lost` are file names without a photograph.
    `open_image` gives the picture of an entry; by default it is read. `on_progress` takes (done, all).

    Raises:
        UsageError: `out` exists (U106), the COCO file (U204) or the mapping (U205) is not valid,
            pictures are missing or broken (U203; all are listed), or no box is left (U202).
        DataError: an annotation cannot be used, and the options are strict (U207).
    """
    refuse_existing(out)
    coco = read_coco(annotations)
    classes = read_mapping(mapping, coco.categories)
    boxes = Boxes(coco, classes, options)
    planned = boxes.plan(frozenset(lost))
    entries = list({crop.image.id: crop.image for crop in planned}.values())
    located = {} if open_image else Pictures(images).locate(entries)
    opened = _given(open_image) if open_image else partial(_from_file, images, located, options)
    seen = _look_at(entries, opened, located, on_progress)
    crops = boxes.fitting(planned, {key: picture.size for key, picture in seen.items()})
    _refuse(boxes, crops, annotations, strict=options.strict)
    groups, alike = _groups(crops, seen, near_duplicates=near_duplicates)
    splits = assign_splits([crop.label for crop in crops], groups, shares)
    stem = shuffled_numbers(len(crops), shares.seed)

    def items() -> Iterator[Item]:
        for i, data in _cut_all(crops, seen, opened, options, on_progress):
            yield Item(f"{stem(i)}.jpg", data, crops[i].label, splits[i], group=groups[i])

    description = description.completed(
        name=annotations.stem, source=annotations.name, classes=tuple(classes.classes)
    )
    dataset = write_dataset(out, items(), description, zip_images=zip_images)
    used = {crop.image.id: crop.image for crop in crops}.values()
    return CropReport(
        dataset,
        list(boxes.rows.values()),
        boxes.left_out,
        coco.notes,
        [(image.file_name, seen[image.id].name) for image in used if _is_respelled(image, located)],
        sum(image.size not in {None, seen[image.id].size} for image in used),
        Counter(seen[image.id].way_up for image in used),
        options.orientation,
        alike,
    )


def _refuse(boxes: Boxes, crops: Sequence[Crop], annotations: Path, *, strict: bool) -> None:
    """Raise an error where no box is left, or where one is at fault and that is refused."""
    faults = [box for box in boxes.left_out if box.is_fault]
    if strict and faults:
        raise DataError(
            [
                problem(
                    Code.BAD_ANNOTATION,
                    where=f"{annotations}: annotation {box.annotation} ({box.file_name or 'no image'})",
                    got=f"{box.reason}: {box.found}".removesuffix(": "),
                )
                for box in faults
            ]
        )
    if not crops:
        counts = Counter(box.reason for box in boxes.left_out).most_common()
        got = ", ".join(["no box to cut", *(f"{count:,} {reason}" for reason, count in counts)])
        raise usage_error(Code.BAD_DATASET, where=str(annotations), got=got, expected="usable boxes")


def _given(open_image: OpenImage) -> _Open:
    def opened(entry: CocoImage, _: bool) -> Opened:
        picture = open_image(entry)
        return Opened(picture, picture.size)

    return opened


def _from_file(
    folder: Path, located: _Located, options: CropOptions, entry: CocoImage, reduced: bool,
) -> Opened:  # fmt: skip
    found = located[entry.id]
    if isinstance(found, str):
        raise UnclearNameError(found)
    return open_picture(folder / found, entry.size, orientation=options.orientation, reduced=reduced)


def _shown_name(entry: CocoImage, located: _Located) -> str:
    """Return the name that all entries of one picture share."""
    found = located.get(entry.id)
    return unicodedata.normalize("NFC", found.as_posix()) if isinstance(found, Path) else entry.file_name


def _is_respelled(entry: CocoImage, located: _Located) -> bool:
    is_file = isinstance(located.get(entry.id), Path)
    return is_file and unicodedata.normalize("NFC", entry.file_name) != _shown_name(entry, located)


def _look_at(
    entries: Sequence[CocoImage],
    opened: _Open,
    located: _Located,
    on_progress: Callable[[int, int], None],
) -> dict[Id, _Seen]:
    """Open every picture once; raises UsageError if any is missing or broken, with all of them."""

    def glance(entry: CocoImage) -> _Seen | str:
        try:
            found = opened(entry, True)
            return _Seen(_shown_name(entry, located), found.size, look(found.image), found.way_up)
        except (UnclearNameError, DepthError) as error:
            return str(error)
        # PIL's decoders raise nearly anything on damaged bytes.
        except Exception as error:  # noqa: BLE001 - kept as a problem; all broken pictures are named
            return f"cannot be decoded: {error}"

    seen, problems = {}, []
    with ThreadPoolExecutor(available().threads) as pool:
        for done, (entry, found) in enumerate(zip(entries, pool.map(glance, entries), strict=True), start=1):
            if isinstance(found, str):
                problems.append(problem(Code.BROKEN_IMAGES, where=entry.file_name, got=found, hint=_RESTORE))
            else:
                seen[entry.id] = found
            on_progress(done, 2 * len(entries))
    if problems:
        raise UsageError(problems)
    return seen


def _groups(
    crops: Sequence[Crop], seen: dict[Id, _Seen], *, near_duplicates: bool
) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the group of each crop, and the pairs of pictures that are nearly the same."""
    of_crop = [seen[crop.image.id].name for crop in crops]
    if not near_duplicates:
        return of_crop, []
    used = list({seen[crop.image.id].name: seen[crop.image.id] for crop in crops}.values())
    names = [picture.name for picture in used]
    pairs = alike_pairs([picture.look for picture in used])
    group_of = dict(zip(names, merged_groups(names, pairs), strict=True))
    return [group_of[name] for name in of_crop], [(names[i], names[j]) for i, j in pairs]


def _cut_all(
    crops: Sequence[Crop], seen: dict[Id, _Seen], opened: _Open, options: CropOptions,
    on_progress: Callable[[int, int], None],
) -> Iterator[tuple[int, bytes]]:  # fmt: skip
    """Open each picture once and yield (position, JPEG file) of its crops."""
    of_picture = defaultdict(list)
    for position, crop in enumerate(crops):
        of_picture[crop.image.id].append(position)
    for done, positions in enumerate(of_picture.values(), start=1):
        picture = opened(crops[positions[0]].image, False).image
        for i in positions:
            box = pixel_box(crops[i], seen[crops[i].image.id].size, options.margin)
            yield i, _cut(picture, box, options)
        on_progress(len(of_picture) + done, 2 * len(of_picture))


def _cut(picture: Image.Image, box: tuple[int, int, int, int], options: CropOptions) -> bytes:
    crop = picture.crop(box)
    if side := options.max_side:
        crop.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    crop.save(buffer, "JPEG", quality=options.quality, optimize=True)
    return buffer.getvalue()
