"""The pictures that a COCO file annotates: opened as they were annotated, also where they are scaled.

Boxes are in pixels of the annotated width and height. A picture of that shape in another
size is used, and its boxes are scaled; one of another shape is some other picture. The
same rule decides whether the EXIF orientation counts: what fits the annotation is right.
Where both ways fit, or no size is annotated, the caller's choice decides.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO

from PIL import ExifTags, Image, ImageOps

from starter.data.coco.values import Size
from starter.data.options import Orientation
from starter.data.pixels import to_rgb

_UPRIGHT = 1
_TURNED = range(2, 9)
"""EXIF orientations that are not upright."""
_SWAPPED = range(5, 9)
"""Those that swap the sides."""

REDUCED = (512, 512)
"""JPEG files opened reduced are decoded at an 8th, a 4th or half of their size, but no smaller."""


def same_shape(annotated: Size, size: Size) -> bool:
    """Say whether a picture is the annotated one, scaled: each side right to a pixel, as scaling rounds.

    >>> same_shape((3264, 2448), (640, 480)), same_shape((3264, 2448), (500, 333))
    (True, False)
    """
    scale = max(size[0] / annotated[0], size[1] / annotated[1])
    return all(abs(now - scale * then) <= 1 for now, then in zip(size, annotated, strict=True))


class WayUp(StrEnum):
    """What decided which way up a picture is."""

    PLAIN = "have none"
    TURNED = "turned upright, as the annotated shape says"
    STORED = "left as stored, as the annotated shape says"
    CHOSEN = "fit both ways"


@dataclass(frozen=True)
class Opened:
    """A decoded picture."""

    image: Image.Image
    """RGB; it may be smaller than `size` where it was opened reduced."""
    size: Size
    """The way up that it is."""
    way_up: WayUp = WayUp.PLAIN


def open_picture(
    source: Path | IO[bytes],
    annotated: Size | None,
    *,
    orientation: Orientation = Orientation.EXIF,
    reduced: bool = False,
) -> Opened:
    """Decode a picture to RGB, the way up that fits the annotated size.

    Reduced, the picture may be smaller than its size says: enough to look at, and quicker.

    Raises:
        Exception: anything, as PIL's decoders do on damaged bytes; ValueError for too many pixels.
    """
    with Image.open(source) as stored:
        size = stored.size
        if Image.MAX_IMAGE_PIXELS and size[0] * size[1] > Image.MAX_IMAGE_PIXELS:
            raise ValueError(f"{size[0]} x {size[1]} pixels are more than {Image.MAX_IMAGE_PIXELS:,}")
        tag = stored.getexif().get(ExifTags.Base.Orientation, _UPRIGHT)
        upright = size[::-1] if tag in _SWAPPED else size
        way_up = _decide(size, upright, annotated) if tag in _TURNED else WayUp.PLAIN
        as_stored = way_up is WayUp.STORED or (way_up is WayUp.CHOSEN and orientation is Orientation.STORED)
        if reduced:
            stored.draft("RGB", REDUCED)
        if as_stored:
            return Opened(to_rgb(stored), size, way_up)
        return Opened(to_rgb(ImageOps.exif_transpose(stored)), upright, way_up)


def _decide(stored: Size, upright: Size, annotated: Size | None) -> WayUp:
    fits_stored, fits_upright = (
        annotated is None or same_shape(annotated, size) for size in (stored, upright)
    )
    if fits_stored == fits_upright:
        return WayUp.CHOSEN
    return WayUp.TURNED if fits_upright else WayUp.STORED
