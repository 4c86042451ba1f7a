"""COCO annotation files, as all tools write them.

A bad annotation keeps its place and says what is wrong with it; only what is wrong with the file as a
whole refuses it. `CocoFile.notes` says what was read differently from how it is written.
Source of the format: Lin et al. 2014, Microsoft COCO, arXiv:1405.0312. Single values: values.py.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from starter.contract.errors import Code, usage_error
from starter.contract.text import listed, read_text
from starter.data.coco.values import (
    NO_BOX,
    Box,
    Id,
    Size,
    box,
    crowd,
    identity,
    other_spelling,
    pixels,
    polygon_box,
)

NOT_AN_OBJECT = "annotation is not an object"
NO_CATEGORY = "category is not in the file"
TWO_CATEGORIES = "category id has several names"
NO_IMAGE = "image is not in the file"
TWO_IMAGES = "image id is used by several images"
ODD_CROWD = "iscrowd is neither 0 nor 1"

_PARTS = ("images", "annotations", "categories")
_SHOWN = 80


@dataclass(frozen=True)
class CocoImage:
    """One entry of the COCO file's images."""

    id: Id
    file_name: str
    """Path below the image folder, with slashes."""
    width: int | None = None
    """Pixels, upright; None if the file does not say."""
    height: int | None = None
    """Pixels, upright; None if the file does not say."""
    flickr_url: str | None = None
    """Where the photograph is, in its original size; TACO's files have it."""
    flickr_640_url: str | None = None
    """Where a copy is whose longer side is 640 pixels."""
    coco_url: str | None = None
    """Another place."""

    @property
    def size(self) -> Size | None:
        """The annotated size; None if the file does not say."""
        return (self.width, self.height) if self.width and self.height else None


@dataclass(frozen=True)
class CocoAnnotation:
    """One entry of the COCO file's annotations."""

    id: str
    """As it is shown: its id, or its place in the file."""
    category: str = ""
    """The name of its category; empty if that is not in the file."""
    image: CocoImage | None = None
    """None if it is not in the file."""
    bbox: Box | None = None
    """None if there is none that can be used."""
    is_crowd: bool = False
    fault: str = ""
    """Why it cannot be used; empty if it can."""
    found: str = ""
    """The value in the file."""


@dataclass(frozen=True)
class CocoFile:
    """What of a COCO file is read; the rest is ignored."""

    images: tuple[CocoImage, ...]
    annotations: tuple[CocoAnnotation, ...]
    """All of them, in the file's order."""
    categories: tuple[str, ...]
    """Their names, each once."""
    notes: tuple[str, ...]
    """Values that were read differently from how they are written."""


def read_coco(path: Path) -> CocoFile:
    """Read a COCO file.

    Raises:
        UsageError: it is missing, is not JSON, or has no images, annotations or categories (U204).
    """
    return _Reader(_load(path)).read()


def _load(path: Path) -> dict[str, list[Any]]:
    try:
        found = json.loads(read_text(path))
    except OSError as error:
        raise usage_error(Code.BAD_COCO, where=str(path), got=error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise usage_error(Code.BAD_COCO, where=str(path), got=f"not text: {error}") from error
    except (ValueError, RecursionError) as error:  # ValueError: also a number of too many digits
        raise usage_error(Code.BAD_COCO, where=str(path), got=f"not JSON: {error}") from error
    if isinstance(found, dict):
        lacking = [f"no {part}" for part in _PARTS if not found.get(part)]
        lacking += [f"{part} is not a list" for part in _PARTS if not isinstance(found.get(part) or [], list)]
        if not lacking:
            return {part: found[part] for part in _PARTS}
        got = ", ".join(lacking)
    else:
        got = f"{'a list' if isinstance(found, list) else repr(found)[:_SHOWN]} at the top level"
    wanted = "an object with the lists images, annotations and categories"
    raise usage_error(Code.BAD_COCO, where=str(path), got=got, expected=wanted)


Entry = TypeVar("Entry")


class _Pool(dict[Id, Entry]):
    """Entries by id. Ids of several different entries are in `ambiguous`; the reader does not guess."""

    def __init__(self) -> None:
        super().__init__()
        self.ambiguous: set[Id] = set()
        self.repeated = 0
        self.respelled = 0
        self.unusable: list[int] = []

    def add(self, position: int, key: Id | None, entry: Entry | None) -> None:
        """Take the entry at a position; without a key or content it is unusable."""
        if key is None or entry is None:
            self.unusable.append(position)
        elif key not in self:
            self[key] = entry
        elif self[key] == entry:
            self.repeated += 1
        else:
            self.ambiguous.add(key)

    def referred(self, value: object, absent: str, ambiguous: str) -> tuple[Entry | None, str]:
        """Return the entry that a reference means, by its id or its other spelling, or why it is none."""
        key = identity(value)
        if key is not None and key not in self:
            key = other_spelling(key)
            self.respelled += key in self
        if key is None or key not in self:
            return None, absent
        return (self[key], "") if key not in self.ambiguous else (None, ambiguous)

    def notes(self, part: str, singular: str, needs: str) -> Iterator[str]:
        """Note a value that was read differently from how it is written."""
        if self.unusable:
            first = f"the first: {part}[{self.unusable[0]}]"
            yield f"{len(self.unusable):,} entries of {part} skipped: no usable {needs}; {first}"
        if self.repeated:
            yield f"{self.repeated:,} entries of {part} occur twice: read once"
        if self.ambiguous:
            shown = listed([*map(repr, self.ambiguous)])
            what = f"{singular} ids are used by several {part}; their boxes are skipped"
            yield f"{len(self.ambiguous):,} {what}: {shown}"
        if self.respelled:
            yield f"{self.respelled:,} references to {part} have ids of another type ('7' for 7): accepted"


class _Reader:
    """Reads one file, and notes the values that it reads differently from how they are written."""

    def __init__(self, raw: dict[str, list[Any]]) -> None:
        self.raw = raw
        self.images: _Pool[CocoImage] = _Pool()
        self.categories: _Pool[str] = _Pool()
        self.above: dict[str, set[object]] = {}
        """Category name to its supercategories."""
        self.from_polygons = 0

    def read(self) -> CocoFile:
        for position, entry in enumerate(self.raw["images"]):
            self.images.add(position, *_image(entry))
        for position, entry in enumerate(self.raw["categories"]):
            self._category(position, entry)
        annotations = tuple(
            map(self._annotation, range(len(self.raw["annotations"])), self.raw["annotations"])
        )
        names = list(dict.fromkeys(self.categories.values()))
        root = self._root(names, {annotation.category for annotation in annotations})
        return CocoFile(
            tuple(self.images.values()),
            annotations,
            tuple(name for name in names if name != root),
            tuple(self._notes(annotations, root)),
        )

    def _category(self, position: int, entry: Any) -> None:
        fields = entry if isinstance(entry, dict) else {}
        name = identity(fields.get("name"))
        self.categories.add(position, identity(fields.get("id")), None if name is None else str(name))
        if name is not None:
            self.above.setdefault(str(name), set()).add(str(fields.get("supercategory")))

    def _root(self, names: Sequence[str], used: set[str]) -> str | None:
        """Return the category that only stands above all others and has no box, as Roboflow's exports do."""
        for name in names:
            others = [self.above[other] for other in names if other != name]
            if name not in used and others and all(above == {name} for above in others):
                return name
        return None

    def _annotation(self, position: int, entry: Any) -> CocoAnnotation:
        if not isinstance(entry, dict):
            return CocoAnnotation(f"[{position}]", fault=NOT_AN_OBJECT, found=_shown(entry))
        key = identity(entry.get("id"))
        shown = f"[{position}]" if key is None else str(key)
        category_id, image_id = entry.get("category_id"), entry.get("image_id")
        category, category_fault = self.categories.referred(category_id, NO_CATEGORY, TWO_CATEGORIES)
        image, image_fault = self.images.referred(image_id, NO_IMAGE, TWO_IMAGES)
        is_crowd = crowd(entry.get("iscrowd"))
        bbox = self._box(entry)
        for fault, found in (
            (category_fault, category_id),
            (image_fault, image_id),
            (ODD_CROWD if is_crowd is None else "", entry.get("iscrowd")),
            (bbox if isinstance(bbox, str) else "", entry.get("bbox")),
        ):
            if fault:
                return CocoAnnotation(shown, category or "", image, fault=fault, found=_shown(found))
        usable = None if isinstance(bbox, str) else bbox
        return CocoAnnotation(shown, category or "", image, usable, is_crowd=bool(is_crowd))

    def _box(self, entry: dict[str, Any]) -> Box | str:
        """Return the box; without one, the box around the polygon; without either, the reason."""
        found = box(entry.get("bbox"))
        if found != "":
            return found
        around = polygon_box(entry.get("segmentation"))
        self.from_polygons += around is not None
        return around or NO_BOX

    def _notes(self, annotations: Sequence[CocoAnnotation], root: str | None) -> Iterator[str]:
        if root is not None:
            yield f"category {root!r} skipped: it has no box and is the parent of all others"
        merged = Counter(self.categories.values())
        if again := [f"{name!r} ({count} ids)" for name, count in merged.items() if count > 1]:
            yield f"{len(again):,} category names have several ids, read as one category: {listed(again)}"
        yield from self.categories.notes("categories", "category", "id or name")
        yield from self.images.notes("images", "image", "id or file_name")
        if self.from_polygons:
            yield f"{self.from_polygons:,} annotations have no box: the box around their polygon is used"
        ids = Counter(annotation.id for annotation in annotations)
        if twice := [key for key, count in ids.items() if count > 1]:
            yield f"{len(twice):,} annotation ids are used more than once; all are kept: {listed(twice)}"
        names = Counter(image.file_name for image in self.images.values())
        if twice := [name for name, count in names.items() if count > 1]:
            yield f"{len(twice):,} file names occur in several images, read as one: {listed(twice)}"
        raw = [fields.get("file_name") for fields in self.raw["images"] if isinstance(fields, dict)]
        if slashed := [name for name in raw if isinstance(name, str) and "\\" in name]:
            yield f"{len(slashed):,} file names have backslashes, read as slashes: {listed(slashed)}"
        unknown = sum(image.size is None for image in self.images.values())
        if unknown:
            yield f"{unknown:,} images have no width and height: read from the picture"


def _image(entry: Any) -> tuple[Id | None, CocoImage | None]:
    if not isinstance(entry, dict):
        return None, None
    key, name = identity(entry.get("id")), entry.get("file_name")
    if key is None or not isinstance(name, str) or identity(name) is None:
        return key, None
    if any(unicodedata.category(character) == "Cc" for character in name):  # no file can have it
        return key, None
    urls = (entry.get(field) for field in ("flickr_url", "flickr_640_url", "coco_url"))
    return key, CocoImage(
        key,
        name.replace("\\", "/"),
        pixels(entry.get("width")),
        pixels(entry.get("height")),
        *(url if isinstance(url, str) else None for url in urls),
    )


def _shown(value: object) -> str:
    return repr(value)[:_SHOWN]
