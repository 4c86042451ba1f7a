"""EXIF orientations: the annotated shape decides; where it fits both ways, --orientation does; it is told."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from starter.data.coco.crops import crop_dataset
from starter.data.coco.pictures import WayUp
from starter.data.coco.report import CropReport
from starter.data.options import CropOptions, Orientation
from starter.data.writer import Shares

COUNT = 8
COLOURS = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200), "grey": (120, 120, 120)}
BOX = [0, 0, 40, 40]
"""The upper left quarter of the least side."""


def quarters(size: tuple[int, int], seed: int) -> Image.Image:
    """Red at the upper left, green at the upper right, blue below red; noise makes each another picture."""
    wide, high = size
    pixels = np.random.default_rng(seed).integers(0, 50, (high, wide, 3)).astype(np.uint8)
    halves = ((slice(0, high // 2), slice(high // 2, high)), (slice(0, wide // 2), slice(wide // 2, wide)))
    places = ((0, 0), (0, 1), (1, 0), (1, 1))
    for (down, across), colour in zip(places, COLOURS.values(), strict=True):
        pixels[halves[0][down], halves[1][across]] += np.array(colour, np.uint8)
    return Image.fromarray(pixels)


def colour(dataset: Any) -> str:
    """Return the colour of all crops."""
    found = set()
    for image_id in dataset.images.ids():
        pixel = np.asarray(dataset.images.open(image_id)).mean(axis=(0, 1)) - 25
        found.add(min(COLOURS, key=lambda name: float(np.abs(pixel - COLOURS[name]).sum())))
    (only,) = found
    return only


def cropped(
    root: Path, size: tuple[int, int], tag: int, annotated: tuple[int, int] | None, orientation: Orientation
) -> CropReport:
    """Cut the upper left quarter out of pictures that are stored as `quarters` and carry a tag."""
    (root / "in").mkdir()
    exif = Image.Exif()
    exif[0x0112] = tag
    for number in range(COUNT):
        quarters(size, number).save(root / "in" / f"{number}.png", exif=exif)
    stated = dict(zip(("width", "height"), annotated, strict=True)) if annotated else {}
    coco = {
        "images": [{"id": i, "file_name": f"{i}.png", **stated} for i in range(COUNT)],
        "annotations": [{"id": i, "image_id": i, "category_id": i % 2, "bbox": BOX} for i in range(COUNT)],
        "categories": [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}],
    }
    (root / "a.json").write_text(json.dumps(coco))
    return crop_dataset(
        root / "a.json", root / "in", root / "out", shares=Shares(test=0.5), near_duplicates=False,
        options=CropOptions(quality=95, orientation=orientation),
    )  # fmt: skip


def upper_left(tag: int) -> str:
    """Which colour is at the upper left when a viewer shows the picture."""
    exif = Image.Exif()
    exif[0x0112] = tag
    shown = quarters((80, 80), 0)
    shown.getexif()[0x0112] = tag
    pixel = ImageOps.exif_transpose(shown).getpixel((10, 10))
    assert isinstance(pixel, tuple)
    return min(COLOURS, key=lambda name: sum(abs(a - b) for a, b in zip(pixel, COLOURS[name], strict=True)))


@pytest.mark.parametrize(
    ("size", "tag"),
    [*(((80, 80), tag) for tag in range(2, 9)), *(((120, 80), tag) for tag in (2, 3, 4))],
)
@pytest.mark.parametrize("orientation", Orientation)
def test_what_fits_both_ways_is_turned_as_the_option_says_and_said(
    tmp_path: Path, size: tuple[int, int], tag: int, orientation: Orientation
) -> None:
    """A square, and what a half turn or a mirror leaves the shape of."""
    report = cropped(tmp_path, size, tag, size, orientation)

    assert colour(report.dataset) == ("red" if orientation is Orientation.STORED else upper_left(tag))
    assert report.way_up == Counter({WayUp.CHOSEN: COUNT})
    other = {
        Orientation.EXIF: "turned upright (--orientation stored leaves them)",
        Orientation.STORED: "left as stored (--orientation exif turns them)",
    }
    (said,) = report.remarks
    assert said == f"8 pictures have an EXIF orientation: 8 fit both ways and were {other[orientation]}"


@pytest.mark.parametrize("orientation", Orientation)
def test_the_shape_decides_where_it_can_whatever_the_option_says(
    tmp_path: Path, orientation: Orientation
) -> None:
    """Stored 120 x 80: annotated as 80 x 120 the boxes were drawn on the turned picture, else on this."""
    for name, annotated, corner, way_up in (
        ("turned", (80, 120), upper_left(6), WayUp.TURNED),
        ("stored", (120, 80), "red", WayUp.STORED),
    ):
        (tmp_path / name).mkdir()
        report = cropped(tmp_path / name, (120, 80), 6, annotated, orientation)
        assert colour(report.dataset) == corner
        assert report.way_up == Counter({way_up: COUNT})


@pytest.mark.parametrize("orientation", Orientation)
def test_without_an_annotated_size_the_option_decides(tmp_path: Path, orientation: Orientation) -> None:
    report = cropped(tmp_path, (120, 80), 6, None, orientation)
    assert colour(report.dataset) == ("red" if orientation is Orientation.STORED else upper_left(6))
    assert report.way_up == Counter({WayUp.CHOSEN: COUNT})


@pytest.mark.parametrize("tag", [0, 1, 9])
def test_what_is_no_orientation_is_not_counted(tmp_path: Path, tag: int) -> None:
    report = cropped(tmp_path, (80, 80), tag, (80, 80), Orientation.EXIF)
    assert report.remarks == []
    assert colour(report.dataset) == "red"
