"""`starter data show`: the contact sheet and the page, of sound and of unsound data sets."""

import base64
import io
import re
from pathlib import Path

import pytest
from photo_server import photograph
from PIL import Image
from typer.testing import CliRunner

from starter.cli.app import app
from starter.data.writer import Description, Item, Split, write_dataset
from starter.report import contact_sheet

NAMES = ("can", "<script>alert(1)</script>")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eight images in two classes, one photograph in train and in Public, in two sizes."""
    splits: tuple[Split, ...] = ("train", "Public", "Private", "train")
    seeds = (0, 0, 1, 2, 3, 4, 5, 6)
    items = (
        Item(f"{i}.jpg", photograph(seed, size=(240 - 20 * i, 160)), i // 4, splits[i % 4])
        for i, seed in enumerate(seeds)
    )
    write_dataset(tmp_path / "data", items, Description(name="two & one", classes=NAMES, licence="<i>"))
    return tmp_path / "data"


def show(*words: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(
        app, ["data", "show", *map(str, words)], catch_exceptions=False, standalone_mode=False
    )
    return int(done.return_value or 0), done.output


def test_the_terminal_shows_classes_sizes_duplicates_and_balance(data: Path) -> None:
    _, text = show(data)
    assert "can                    2       1       1" in text
    assert "8 images, 100 x 160 to 240 x 160, median 170 x 160 pixels" in text
    assert "nearly the same: 1 times, 1 of them across splits" in text
    assert "0.jpg (train, can), 1.jpg (Public, can)" in text
    assert "balance: can has 1.0 times the images of can" in text


def test_the_page_needs_no_other_file_and_escapes_names(data: Path, tmp_path: Path) -> None:
    code, _ = show(data, "--html", tmp_path / "new" / "page.html", "--per-class", "3")
    text = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")

    assert code == 0
    assert text.count("<script") == 1, "the page's own"
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert re.findall(r'(?:src|href)="(?!data:|#)', text) == []
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(pictures) == 2 * 3 + 2  # samples, and one pair of duplicates
    for encoded in pictures:
        with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
            assert max(picture.size) == contact_sheet.THUMBNAIL
    assert "nearly the same, across splits" in text


def test_the_sheet_has_a_row_of_samples_for_every_class(data: Path, tmp_path: Path) -> None:
    show(data, "--png", tmp_path / "a.png", "--seed", "1")
    show(data, "--png", tmp_path / "b.png", "--seed", "1")
    show(data, "--png", tmp_path / "c.png", "--seed", "2")
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.height == 60 + 2 * 118
        assert sheet.width > 260 + 4 * 112
    first, again, other = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert first == again != other


def test_a_name_that_no_font_can_draw_is_shown_by_number_and_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact_sheet, "_FONTS", ("DejaVu Sans",))
    contact_sheet._fonts.cache_clear()
    contact_sheet._font_file.cache_clear()
    toml = data / "dataset.toml"
    toml.write_text(toml.read_text(encoding="utf-8").replace('"can"', '"금속"'), encoding="utf-8")
    for name in ("train.csv", "solution.csv"):
        text = (data / name).read_text(encoding="utf-8").replace(",can,", ",금속,")
        (data / name).write_text(text, encoding="utf-8")
    code, text = show(data, "--png", tmp_path / "a.png")
    assert code == 0
    assert "no installed font can draw 금속: shown as class numbers" in text
    assert contact_sheet.undrawable(["can 🥫", "Dose ü"]) == []  # only the emoji is left out


def test_broken_images_are_told_and_left_out_of_the_page(data: Path, tmp_path: Path) -> None:
    (data / "images" / "3.jpg").write_bytes(b"damaged")
    code, text = show(data, "--html", tmp_path / "page.html", "--png", tmp_path / "sheet.png")
    assert code == 2
    assert "U203" in text
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "3.jpg: cannot be decoded: not an image file, or damaged" in page
    assert page.count("<figcaption>") == 7 + 2


def test_a_data_set_whose_tables_are_wrong_is_told_without_a_page(data: Path, tmp_path: Path) -> None:
    (data / "test.csv").unlink()
    code, text = show(data, "--html", tmp_path / "page.html")
    assert code == 2
    assert "test.csv" in text
    assert not (tmp_path / "page.html").exists()
