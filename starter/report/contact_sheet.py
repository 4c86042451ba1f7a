"""Show a data set: samples of every class and its duplicates, as one PNG or for the page.

A seed draws the samples from all splits. Broken images are left out; data/check.py
lists them. The page is in report/html/dataset.py.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from matplotlib import font_manager, ft2font
from PIL import Image, ImageDraw, ImageFont, ImageOps

from starter.contract.text import inline
from starter.data.check import ClassRow, Duplicates
from starter.data.dataset import Dataset, ImageError

THUMBNAIL = 112
"""Longer side of a sample, pixels."""

MOST_DUPLICATES = 24
"""Most duplicates shown, leaks first; all are counted."""

_FONTS = (
    "DejaVu Sans", "Noto Sans CJK KR", "Noto Sans CJK JP", "NanumGothic", "NanumBarunGothic", "Malgun Gothic",
    "Apple SD Gothic Neo", "AppleGothic", "UnDotum", "Noto Sans KR", "Noto Emoji",
)  # fmt: skip
_LEFT, _GAP, _LINE = 260, 6, 20


@dataclass(frozen=True)
class Sample:
    """One image of the sheet."""

    image_id: str
    split: str
    thumbnail: Image.Image


@dataclass(frozen=True)
class ClassSheet:
    """A class and some of its images."""

    row: ClassRow
    samples: list[Sample]


def samples(dataset: Dataset, rows: Sequence[ClassRow], *, per_class: int, seed: int) -> list[ClassSheet]:
    """Draw up to `per_class` images of every class, in the classes' order."""
    placed = {row.image_id: (row.label, "train") for row in dataset.train()}
    placed |= {row.image_id: (row.label, row.usage) for row in dataset.solution()}
    ids = sorted(placed)
    order = [ids[i] for i in np.random.default_rng(seed).permutation(len(ids))]
    sheets = []
    for label, row in enumerate(rows):
        chosen = [image_id for image_id in order if placed[image_id][0] == label][:per_class]
        found = (_sample(dataset, image_id, placed[image_id][1]) for image_id in chosen)
        sheets.append(ClassSheet(row, [sample for sample in found if sample]))
    return sheets


def duplicate_samples(
    dataset: Dataset, duplicates: Iterable[Duplicates]
) -> list[tuple[Duplicates, list[Sample]]]:
    """Return the duplicates to show with their images, those across splits first."""
    first = sorted(duplicates, key=lambda same: (not same.leaks, not same.exact))[:MOST_DUPLICATES]
    return [(same, list(_pictures(dataset, same))) for same in first]


def _pictures(dataset: Dataset, same: Duplicates) -> Iterator[Sample]:
    for image_id, split in zip(same.image_ids, same.splits, strict=True):
        if sample := _sample(dataset, image_id, split):
            yield sample


def _sample(dataset: Dataset, image_id: str, split: str) -> Sample | None:
    try:
        picture = dataset.images.open(image_id)
    except ImageError:
        return None
    return Sample(
        image_id, split, ImageOps.contain(picture, (THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    )


def png(title: str, sheets: Sequence[ClassSheet]) -> bytes:
    """Draw the contact sheet: a row of samples for every class, with its numbers."""
    columns = max((len(sheet.samples) for sheet in sheets), default=0)
    cell = THUMBNAIL + _GAP
    picture = Image.new("RGB", (_LEFT + max(columns, 2) * cell + _GAP, 60 + len(sheets) * cell), "white")
    draw = ImageDraw.Draw(picture)
    _write(draw, (12, 16), title, 20, fallback="contact sheet", width=picture.width - 24)
    most = max((row.train + row.public + row.private for row in (sheet.row for sheet in sheets)), default=1)
    for label, sheet in enumerate(sheets):
        row, top = sheet.row, 60 + label * cell
        total = row.train + row.public + row.private
        draw.line((12, top - _GAP // 2, picture.width - 12, top - _GAP // 2), fill="#d9dcdf")
        _write(draw, (12, top + 8), row.class_name, 16, fallback=f"class {label}", width=_LEFT - 24)
        _write(draw, (12, top + 8 + _LINE * 3 // 2), f"{total:,} images", 13)
        numbers = f"{row.train:,} train, {row.public:,} Public, {row.private:,} Private"
        _write(draw, (12, top + 8 + _LINE * 5 // 2), numbers, 12, width=_LEFT - 24)
        bar = round((_LEFT - 30) * total / max(most, 1))
        draw.rectangle((12, top + 86, 12 + bar, top + 94), fill="#2a6f97")
        for column, sample in enumerate(sheet.samples):
            left = _LEFT + column * cell + (THUMBNAIL - sample.thumbnail.width) // 2
            picture.paste(sample.thumbnail, (left, top + (THUMBNAIL - sample.thumbnail.height) // 2))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def undrawable(names: Iterable[str]) -> list[str]:
    """Return the names that no font on this machine can draw; the PNG shows their class numbers."""
    letters = {name: _letters(inline(name)) for name in names}
    return [name for name, text in letters.items() if not text or _font_file(text) is None]


def _letters(text: str) -> str:
    """Leave out symbols that no font has, such as emoji: the name is readable without them."""
    if _font_file(text) is None:
        text = "".join(sign for sign in text if sign.isascii() or sign.isalnum()).strip()
    return text


def _write(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, *, fallback: str = "",
    width: int = 0,
) -> None:  # fmt: skip
    """Write a text in a font that has all of its characters, shortened to the width."""
    shown = _letters(inline(text))
    path = _font_file(shown)
    if path is None or not shown:
        shown, path = fallback, _font_file(fallback)
    font = ImageFont.truetype(str(path), size)
    whole = shown
    while width and shown and font.getlength(shown) > width:
        whole = whole[:-1]
        shown = whole.rstrip() + "..."
    draw.text(at, shown, font=font, fill="#1c2126")


@cache
def _fonts() -> list[tuple[str, frozenset[int]]]:
    """Return the usable font files and the characters that they have, in order of preference."""
    files = {
        entry.name: entry.fname for entry in reversed(font_manager.fontManager.ttflist) if _upright(entry)
    }
    chosen = [files[name] for name in _FONTS if name in files]
    return [(path, frozenset(ft2font.FT2Font(path).get_charmap())) for path in chosen]


def _upright(entry: font_manager.FontEntry) -> bool:
    return entry.style == "normal" and str(entry.weight) in {"400", "normal", "regular"}


@cache
def _font_file(text: str) -> str | None:
    signs = {ord(sign) for sign in text}
    return next((path for path, has in _fonts() if signs <= has), None)
