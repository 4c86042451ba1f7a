"""The pictures that a COCO file annotates: opened as they were annotated, also where they are scaled.

Boxes are in pixels of the annotated width and height. A picture of that shape in another
size is used, and its boxes are scaled; one of another shape is some other picture. The
same rule decides whether the EXIF orientation counts: what fits the annotation is right.
"""

import unicodedata
from pathlib import Path, PurePosixPath
from typing import IO

from PIL import ExifTags, Image, ImageOps

from starter.data.coco.annotations import CocoImage

Size = tuple[int, int]
"""Width and height, pixels."""

_TURNED = {5, 6, 7, 8}
"""EXIF orientations that swap the sides."""

REDUCED = (512, 512)
"""JPEG files opened reduced are decoded at an 8th, a 4th or half of their size, but no smaller."""


def same_shape(annotated: Size, size: Size) -> bool:
    """Say whether a picture is the annotated one, scaled: each side right to a pixel, as scaling rounds.

    >>> same_shape((3264, 2448), (640, 480)), same_shape((3264, 2448), (500, 333))
    (True, False)
    """
    scale = max(size[0] / annotated[0], size[1] / annotated[1])
    return all(abs(now - scale * then) <= 1 for now, then in zip(size, annotated, strict=True))


def open_picture(
    source: Path | IO[bytes], entry: CocoImage, *, reduced: bool = False
) -> tuple[Image.Image, Size]:
    """Decode a picture to RGB and return it with its size, the way up that fits the annotation.

    Reduced, the picture may be smaller than the size says: enough to look at, and quicker.

    Raises:
        Exception: anything, as PIL's decoders do on damaged bytes; ValueError for too many pixels.
    """
    with Image.open(source) as stored:
        size = stored.size
        if Image.MAX_IMAGE_PIXELS and size[0] * size[1] > Image.MAX_IMAGE_PIXELS:
            raise ValueError(f"{size[0]} x {size[1]} pixels are more than {Image.MAX_IMAGE_PIXELS:,}")
        turned = stored.getexif().get(ExifTags.Base.Orientation) in _TURNED
        upright = size[::-1] if turned else size
        if reduced:
            stored.draft("RGB", REDUCED)
        if turned and _prefer_stored(stored=size, upright=upright, annotated=(entry.width, entry.height)):
            return stored.convert("RGB"), size
        return ImageOps.exif_transpose(stored).convert("RGB"), upright


def _prefer_stored(*, stored: Size, upright: Size, annotated: Size) -> bool:
    return not same_shape(annotated, upright) and same_shape(annotated, stored)


def find_file(folder: Path, name: str) -> Path:
    """Return the file of that name; accents and Hangul may be written composed or not, as macOS does."""
    path = folder / name
    if path.exists():
        return path
    path = folder
    for part in PurePosixPath(name).parts:
        forms = (part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD")))
        path = next((path / form for form in forms if (path / form).exists()), path / part)
    return path
