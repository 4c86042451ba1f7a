"""COCO annotation files and the mapping of their categories to classes.

Only what the cropping needs is read, and all of it is checked.
Source of the format: Lin et al. 2014, Microsoft COCO, arXiv:1405.0312.
"""

import json
import math
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from starter.contract.errors import Code, Problem, UsageError, problem, usage_error
from starter.contract.text import read_text


class CocoImage(BaseModel):
    """One entry of the COCO file's images."""

    id: int
    file_name: str
    """Path below the image folder."""
    width: int
    """Pixels, upright."""
    height: int
    """Pixels, upright."""
    flickr_url: str | None = None
    """Where the photograph is, in its original size; TACO's files have it."""
    flickr_640_url: str | None = None
    """Where a copy is whose longer side is 640 pixels."""
    coco_url: str | None = None
    """Another place."""


class CocoAnnotation(BaseModel):
    """One entry of the COCO file's annotations."""

    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    """Left, top, width, height in pixels."""
    iscrowd: Literal[0, 1] = 0


class CocoCategory(BaseModel):
    """One entry of the COCO file's categories."""

    id: int
    name: str


class CocoFile(BaseModel):
    """What of a COCO file is read; the rest is ignored."""

    images: list[CocoImage]
    annotations: list[CocoAnnotation]
    categories: list[CocoCategory]


class Mapping(BaseModel):
    """A mapping file: which categories make up a class, and which are left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: dict[str, tuple[str, ...]]
    """Class name to category names; the order is the label order."""
    skip: tuple[str, ...] = ()
    """Categories left out on purpose."""


def read_coco(path: Path) -> CocoFile:
    """Read and check a COCO file.

    Raises:
        UsageError: it is missing, is not JSON or COCO, or its ids do not fit together.
    """
    try:
        coco = CocoFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise usage_error(Code.BAD_COCO, where=str(path), got=error.strerror or str(error)) from error
    except ValidationError as error:
        raise UsageError(
            [
                problem(
                    Code.BAD_COCO,
                    where=f"{path}: {'.'.join(map(str, item['loc']))}",
                    expected=item["msg"],
                    got=repr(item["input"])[:200],
                )
                for item in error.errors()
            ]
        ) from error
    if complaints := list(_contradictions(coco)):
        raise UsageError([problem(Code.BAD_COCO, where=f"{path}: {w}", got=got) for w, got in complaints])
    return coco


def _contradictions(coco: CocoFile) -> Iterator[tuple[str, str]]:
    """Yield (where, what) for ids and names used twice, and for references to nothing.

    Annotation ids may repeat, as two do in TACO: nothing refers to them.
    """
    pools: dict[str, list[int] | list[str]] = {
        "images.id": [image.id for image in coco.images],
        "images.file_name": [image.file_name for image in coco.images],
        "categories.id": [category.id for category in coco.categories],
        "categories.name": [category.name for category in coco.categories],
    }
    for where, values in pools.items():
        for value, count in Counter[int | str](values).items():
            if count > 1:
                yield where, f"{value!r} is used {count} times"
    pictures, categories = set(pools["images.id"]), set(pools["categories.id"])
    for annotation in coco.annotations:
        where = f"annotation {annotation.id}"
        if annotation.image_id not in pictures:
            yield where, f"image_id {annotation.image_id} is not in images"
        if annotation.category_id not in categories:
            yield where, f"category_id {annotation.category_id} is not in categories"
        if not all(map(math.isfinite, annotation.bbox)):
            yield where, f"bbox {annotation.bbox} is not finite"


def read_mapping(path: Path | None, coco: CocoFile) -> Mapping:
    """Read a mapping file and check that it places every category once.

    Without a file each category is a class of its own, in the COCO file's order.

    Raises:
        UsageError: the file is missing or not valid, or categories are placed twice or not at all.
    """
    names = [category.name for category in coco.categories]
    if path is None:
        return Mapping(classes={name: (name,) for name in names})
    try:
        mapping = Mapping.model_validate(tomllib.loads(read_text(path)))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise usage_error(Code.BAD_MAPPING, where=str(path), got=str(error)) from error
    placed = Counter(name for group in (*mapping.classes.values(), mapping.skip) for name in group)
    problems = [
        problem(Code.BAD_MAPPING, where=str(path), got=f"{name!r} is listed {count} times")
        for name, count in placed.items()
        if count > 1
    ]
    if missing := [name for name in names if name not in placed]:
        problems.append(_unmapped(path, missing))
    if problems:
        raise UsageError(problems)
    return mapping


def _unmapped(path: Path, names: list[str]) -> Problem:
    """Name all categories that a mapping forgets, ready to be pasted into it."""
    shown = ", ".join(json.dumps(name, ensure_ascii=False) for name in names)
    what = "1 category is" if len(names) == 1 else f"{len(names)} categories are"
    return problem(
        Code.BAD_MAPPING,
        where=str(path),
        got=f"{what} in no class and not skipped: {shown}",
        hint=f"Put each into a class, or add skip = [{shown}] at the top of a copy of the file; "
        "then type the same command again with --mapping COPY.",
    )
