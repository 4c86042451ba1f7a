"""Pictures of 16 bits and of floats: levels that 8 bits can tell are kept, and nothing is clipped unsaid."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from starter.contract.errors import UsageError
from starter.data.coco.crops import crop_dataset
from starter.data.folders import import_folder
from starter.data.image_store import ImageError, decode_image

LEVELS = 64
RAMP = np.repeat(np.arange(LEVELS)[None], 48, axis=0)
"""Columns of 0 to 63."""
SIXTEEN = (RAMP * 65535 / 63).round().astype(np.uint16)
EIGHT = (RAMP * 255 / 63).round().astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(colour_type: int, pixels: NDArray[np.uint16]) -> bytes:
    """Write a PNG of 16 bits a channel, which Pillow itself cannot for colours."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return b"".join(
        (b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    )


@pytest.mark.parametrize(
    "data",
    [
        saved(Image.fromarray(SIXTEEN), "PNG"),
        saved(Image.fromarray(SIXTEEN), "TIFF"),
        saved(Image.fromarray(SIXTEEN.astype(">u2")), "TIFF"),
        saved(Image.fromarray(SIXTEEN.astype(np.int32)), "TIFF"),
        saved(Image.fromarray((RAMP / 63).astype(np.float32)), "TIFF"),
        png(0, SIXTEEN[:, :, None]),
        png(2, np.repeat(SIXTEEN[:, :, None], 3, axis=2)),
        png(4, np.stack([SIXTEEN, np.full_like(SIXTEEN, 65535)], axis=2)),
        png(6, np.stack([SIXTEEN] * 3 + [np.full_like(SIXTEEN, 65535)], axis=2)),
        saved(Image.fromarray(EIGHT), "PNG"),
    ],
    ids=[
        "PNG",
        "TIFF",
        "TIFF of a Mac",
        "32-bit integers",
        "floats",
        "grey",
        "RGB",
        "grey and alpha",
        "RGBA",
        "8 bits",
    ],
)
def test_sixty_four_levels_stay_sixty_four(data: bytes) -> None:
    """Value / 65535 x 255, rounded; of colours Pillow keeps the upper 8 bits: one less at most."""
    image = decode_image(data, "a")
    pixels = np.asarray(image).astype(int)

    assert image.mode == "RGB"
    assert len(np.unique(pixels)) == LEVELS
    assert np.abs(pixels - EIGHT[:, :, None]).max() <= 1
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_every_value_of_16_bits_is_scaled_by_the_rule() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    found = np.asarray(decode_image(saved(Image.fromarray(values), "PNG"), "a"))[:, :, 0]
    assert (found == (values / 257).round()).all()


def test_a_picture_of_16_bits_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode_image(saved(Image.fromarray(SIXTEEN), "PNG", exif=exif), "a")
    assert image.size == (48, 64)
    assert image.getpixel((0, 63)) == (255, 255, 255)


def test_black_is_black() -> None:
    black = decode_image(saved(Image.fromarray(np.zeros((8, 8), np.uint16)), "PNG"), "a")
    assert np.asarray(black).max() == 0


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (RAMP * 65, "no value above 4095 in a picture of 16 bits"),
        (RAMP, "no value above 63 in a picture of 16 bits"),
        (RAMP.astype(np.int32) * 2000, "values from 0 to 126000: of a picture of mode I only 0 to 65535"),
        (RAMP.astype(np.int32) - 5000, "values from -5000 to -4937"),
        ((RAMP * 4.0).astype(np.float32), "values from 0 to 252: of a picture of mode F only 0 to 1"),
        ((RAMP - 5.0).astype(np.float32), "values from -5 to 58"),
        (np.where(RAMP == 7, np.inf, RAMP / 63).astype(np.float32), "values from 0 to inf"),
        (np.where(RAMP == 7, np.nan, RAMP / 63).astype(np.float32), "values from nan to nan"),
    ],
)
def test_what_fits_no_rule_is_refused_with_what_to_do(pixels: NDArray[np.generic], said: str) -> None:
    image = Image.fromarray(pixels.astype(np.uint16) if pixels.dtype == np.int64 else pixels)
    with pytest.raises(ImageError) as caught:
        decode_image(saved(image, "TIFF"), "a.tif")
    assert caught.value.reason.startswith(said)
    assert "magick FILE" in caught.value.reason


def deep(number: int) -> bytes:
    """A picture of 16 bits like no other."""
    noise = np.random.default_rng(number).integers(0, 65536, (6, 8)).astype(np.uint16)
    return saved(Image.fromarray(np.kron(noise, np.ones((8, 8), np.uint16))), "PNG")


def test_class_folders_keep_their_files_and_are_read_scaled(tmp_path: Path) -> None:
    for number in range(12):
        path = tmp_path / "in" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(deep(number))
    dataset = import_folder(tmp_path / "in", tmp_path / "out").dataset

    assert {dataset.images.read(i) for i in dataset.images.ids()} == {deep(number) for number in range(12)}
    levels = len(np.unique(np.asarray(dataset.images.open(dataset.images.ids()[0]))))
    assert levels > 40  # of 48
    assert dataset.info.mean[0] == pytest.approx(0.5, abs=0.1)


def test_crops_are_cut_scaled_and_what_cannot_be_is_named(tmp_path: Path) -> None:
    import json

    (tmp_path / "in").mkdir()
    for number in range(12):
        (tmp_path / "in" / f"{number}.png").write_bytes(deep(number))
    coco = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 48} for i in range(12)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": i % 2, "bbox": [0, 0, 64, 48]} for i in range(12)
        ],
        "categories": [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(coco))
    dataset = crop_dataset(tmp_path / "a.json", tmp_path / "in", tmp_path / "out").dataset
    assert dataset.info.mean[0] == pytest.approx(0.5, abs=0.1)

    (tmp_path / "in" / "3.png").write_bytes(saved(Image.fromarray((RAMP * 65).astype(np.uint16)), "PNG"))
    with pytest.raises(UsageError) as caught:
        crop_dataset(tmp_path / "a.json", tmp_path / "in", tmp_path / "again")
    (said,) = caught.value.problems
    assert (said.where, said.got.partition(":")[0]) == (
        "3.png",
        "no value above 4095 in a picture of 16 bits",
    )
