"""Names that are no ASCII, with spaces, or very long go through every command on data."""

import csv
import json
import os
import unicodedata
from pathlib import Path
from zipfile import ZipFile

import pytest
from conftest import GOOD, drawn_image
from typer.testing import CliRunner

from starter.cli.app import app
from starter.contract.errors import UsageError
from starter.data.dataset import open_dataset
from starter.data.folders import import_folder
from starter.data.near_duplicates import alike_pairs, look
from starter.data.writer import Description, Item, Shares, Split, write_dataset

CLASSES = ("금속 캔", "종이 🗞️", "플라스틱 & <b>비닐")
LONG = "가" * 65 + " é"
"""200 bytes: 255 is the most that a file system takes."""


def invoke(*words: str | Path) -> str:
    line = ["data", *map(str, words)]
    done = CliRunner().invoke(app, line, catch_exceptions=False, standalone_mode=False)
    assert not done.return_value, done.output
    return done.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty photographs of each class, under long names with spaces."""
    for label, name in enumerate(CLASSES):
        (tmp_path / "사진 모음" / name).mkdir(parents=True)
        for number in range(20):
            data = drawn_image(label, 20 * label + number)
            (tmp_path / "사진 모음" / name / f"{LONG} {number} 🥫.JPG").write_bytes(data)
    return tmp_path / "사진 모음"


@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_a_folder_is_imported_checked_and_shown(folder: Path, tmp_path: Path, *, zipped: bool) -> None:
    target = tmp_path / ("자료 " + "나" * 60)
    printed = invoke(
        "folder", folder, "--out", target, "--name", "쓰레기", "--validation-share", "0.2",
        *(["--zip"] if zipped else []),
    )  # fmt: skip
    assert all(name in printed for name in CLASSES)
    assert open_dataset(target).info.classes == CLASSES
    page, sheet = tmp_path / "보기.html", tmp_path / "보기.png"
    assert "balance" in invoke("show", target, "--html", page, "--png", sheet)
    text = page.read_text(encoding="utf-8")
    assert "금속 캔" in text
    assert "&lt;b&gt;비닐" in text
    assert "<b>비닐" not in text
    assert sheet.read_bytes().startswith(b"\x89PNG")


def test_class_names_from_macos_are_composed(folder: Path, tmp_path: Path) -> None:
    """On macOS names have Hangul in its parts, and lists of names are typed composed."""
    for number, path in enumerate(sorted(folder.rglob("*.JPG"))):
        path.rename(path.with_name(unicodedata.normalize("NFD", f"사진 {number}.JPG")))
    (folder / CLASSES[0]).rename(folder / unicodedata.normalize("NFD", CLASSES[0]))
    lists = {"train": range(0, 60, 3), "validation": range(1, 60, 3), "test": range(2, 60, 3)}
    for name, numbers in lists.items():
        lines = "".join(f"사진 {number}.JPG\n" for number in numbers)
        (tmp_path / f"{name}.txt").write_text(lines, encoding="utf-8")

    train, validation, test = (tmp_path / f"{name}.txt" for name in lists)
    report = import_folder(
        folder, tmp_path / "out", train_lists=[train], validation_list=validation, test_list=test
    )  # fmt: skip

    dataset = report.dataset
    assert report.not_found == ()
    assert sum(row.is_validation for row in dataset.train()) == len(dataset.test_ids()) == 20
    assert dataset.info.classes == CLASSES
    assert len(dataset.images.ids()) == 60


def test_a_folder_name_in_another_encoding_is_explained(tmp_path: Path) -> None:
    """A zip made on Korean Windows unpacks to names in code page 949."""
    raw = os.fsencode(tmp_path) + b"/in/" + "금속".encode("cp949")
    os.makedirs(raw)  # noqa: PTH103 - no Path holds such a name
    with open(raw + b"/a.jpg", "wb") as file:  # noqa: PTH123 - as above
        file.write(drawn_image(0, 0))
    with pytest.raises(UsageError, match="is not valid UTF-8") as caught:
        import_folder(tmp_path / "in", tmp_path / "out")
    assert "convmv" in caught.value.problems[0].hint


def test_coco_files_with_such_names_are_cut(folder: Path, tmp_path: Path) -> None:
    first = min((folder / CLASSES[0]).iterdir())
    first.rename(first.with_name(unicodedata.normalize("NFD", "가나.JPG")))  # as macOS would write it
    names = sorted(
        unicodedata.normalize("NFC", p.relative_to(folder).as_posix()) for p in folder.rglob("*.JPG")
    )
    coco = {
        "images": [{"id": i, "file_name": n, "width": 16, "height": 12} for i, n in enumerate(names)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": i // 20, "bbox": [2, 2, 10, 9]} for i in range(60)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES)],
    }
    (tmp_path / "주석.json").write_text(json.dumps(coco, ensure_ascii=False), encoding="utf-8")

    invoke(
        "crops", tmp_path / "주석.json", "--images", folder, "--out", tmp_path / "자른 것",
        "--min-size", "4", "--zip",
    )  # fmt: skip

    dataset = open_dataset(tmp_path / "자른 것")
    assert dataset.info.classes == CLASSES
    assert {row.group for row in dataset.train()} < set(names)


@pytest.mark.long
@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_a_data_set_with_such_names_is_scored(tmp_path: Path, *, zipped: bool) -> None:
    """Ids with folders, spaces and 200 bytes, as an organizer may write them by hand."""
    splits: tuple[Split, ...] = ("train", "Public", "Private", "validation")
    items = (
        Item(f"{CLASSES[i % 3]}/{LONG} {i}, 'x' 🥫.jpg", drawn_image(i % 3, i), i % 3, splits[i % 4])
        for i in range(60)
    )  # fmt: skip
    root = tmp_path / "대회"
    root.mkdir()
    dataset = write_dataset(root / "자료", items, Description(name="가", classes=CLASSES), zip_images=zipped)
    if zipped:
        with ZipFile(root / "자료" / "images.zip") as file:
            assert sorted(file.namelist()) == dataset.images.ids()
    with (root / "자료" / "train.csv").open(encoding="utf-8", newline="") as file:
        assert {row["split"] for row in csv.DictReader(file)} == {"train", "validation"}
    (root / "competition.toml").write_text('name = "대회"\ndataset = "자료"\n', encoding="utf-8")
    (root / "baseline").mkdir()
    (root / "baseline" / "plugin.py").write_text(GOOD, encoding="utf-8")
    (root / "submissions").mkdir()
    (root / "submissions" / "mine.py").write_text(GOOD, encoding="utf-8")
    for words in (("baseline", "measure"), ("score", "--json", str(root / "결과.json"))):
        rules = ["--competition", str(root / "competition.toml")]
        done = CliRunner().invoke(app, [*words, *rules], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    result, _ = json.loads((root / "결과.json").read_text(encoding="utf-8"))["results"]
    assert result["macro_f1"] == 1.0
    assert set(result["f1_per_class"]) == set(CLASSES)


def test_the_validation_share_is_drawn_from_what_is_not_evaluated(folder: Path, tmp_path: Path) -> None:
    """60 images: 18 for testing; a quarter of the other 42, from every class alike."""
    with_marks = import_folder(folder, tmp_path / "a", shares=Shares(validation=0.25)).dataset
    without = import_folder(folder, tmp_path / "b").dataset

    marked = [row.label for row in with_marks.train() if row.is_validation]
    assert sorted(marked.count(label) for label in range(3)) in ([3, 3, 4], [3, 4, 4], [4, 4, 4])
    assert with_marks.test_ids() == without.test_ids()
    assert with_marks.fingerprint() == without.fingerprint()
    assert not alike_pairs([look(with_marks.images.open(i)) for i in with_marks.test_ids()])
