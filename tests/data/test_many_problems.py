"""A problem that repeats is told five times, then how many more there are and which file holds them all."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import drawn_image

from starter.data.writer import Description, Item, Split, write_dataset

COUNT = 60


def starter(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "starter", "data", *map(str, words)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, check=False)


def listed(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Sixty images in two classes, in all splits."""
    splits: tuple[Split, ...] = ("train", "train", "Public", "Private")
    items = (Item(f"{i}.jpg", drawn_image(i % 2, i), i % 2, splits[i // 2 % 4]) for i in range(COUNT))
    write_dataset(tmp_path / "data", items, Description(name="two", classes=("a", "b")))
    return tmp_path / "data"


def test_missing_photographs_of_a_coco_file(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    coco = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 90, "height": 80} for i in range(COUNT)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 0, "bbox": [0, 0, 60, 60]} for i in range(COUNT)
        ],
        "categories": [{"id": 0, "name": "can"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(coco))
    run = starter("crops", "a.json", "--images", "photos", "--out", "made", cwd=tmp_path)

    assert run.returncode == 2
    assert run.stderr.count("code   U203") == 5
    assert run.stderr.endswith("... and 55 more of this kind; all are in made-problems.csv\n")
    rows = listed(tmp_path / "made-problems.csv")
    assert [(row["code"], row["where"], row["got"]) for row in rows] == [
        ("U203", f"{i}.jpg", "no such file") for i in range(COUNT)
    ]


def test_broken_images_do_not_hide_another_problem(data: Path, tmp_path: Path) -> None:
    """All but two are broken, each in its own way; one is missing, and one is in no table."""
    for number in range(2, COUNT):
        (data / "images" / f"{number}.jpg").write_bytes(b"damaged %d" % number)
    (data / "images" / "0.jpg").unlink()
    (data / "images" / "surplus.jpg").write_bytes(drawn_image(0, 99))
    run = starter("check", "data", cwd=tmp_path)

    assert run.returncode == 2
    assert run.stderr.count("got    cannot be decoded") == 5
    assert "... and 53 more of this kind; all are in data-problems.csv" in run.stderr
    assert "listed, but the image file does not exist" in run.stderr
    assert "1 files that no CSV file lists: surplus.jpg" in run.stderr
    assert len(listed(tmp_path / "data-problems.csv")) == 58 + 2


def test_wrong_rows_of_a_table(data: Path, tmp_path: Path) -> None:
    text = (data / "train.csv").read_text(encoding="utf-8")
    (data / "train.csv").write_text(text.replace(",a,", ",A,") + "../x,a,\n", encoding="utf-8")
    run = starter("check", "data", cwd=tmp_path)
    assert run.stderr.count("got    label 'A'") == 5
    assert "... and 11 more of this kind" in run.stderr
    assert "image_id '../x': it is not a plain relative path" in run.stderr


def test_the_working_folder_itself_is_checked_and_stays_as_it_is(data: Path, tmp_path: Path) -> None:
    for number in range(COUNT):
        (data / "images" / f"{number}.jpg").write_bytes(b"damaged %d" % number)
    run = starter("check", ".", cwd=data)
    assert f"all are in {tmp_path / 'data-problems.csv'}" in run.stderr
    assert len(listed(tmp_path / "data-problems.csv")) == COUNT
    assert not list(data.glob("*problems*"))


def test_few_problems_are_told_and_no_file_is_written(data: Path, tmp_path: Path) -> None:
    for number in range(5):
        (data / "images" / f"{number}.jpg").write_bytes(b"damaged")
    run = starter("check", "data", cwd=tmp_path)
    assert run.stderr.count("got    cannot be decoded") == 5
    assert "more of this kind" not in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_where_beside_the_set_nothing_can_be_written_the_working_folder_takes_the_file(
    data: Path, tmp_path: Path
) -> None:
    for number in range(COUNT):
        (data / "images" / f"{number}.jpg").write_bytes(b"damaged %d" % number)
    (tmp_path / "data-problems.csv").mkdir()
    (tmp_path / "data-problems.csv" / "full").touch()
    (tmp_path / "work").mkdir()
    run = starter("check", "../data", cwd=tmp_path / "work")
    assert "all are in data-problems.csv" in run.stderr
    assert len(listed(tmp_path / "work" / "data-problems.csv")) == COUNT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "data-problems.csv", "work"]


@pytest.mark.slow
def test_broken_images_and_unknown_names_of_a_folder(tmp_path: Path) -> None:
    for number in range(40):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(drawn_image(number % 2, number))
    lists = {"train": range(20), "test": range(20, 40)}
    for name, numbers in lists.items():
        lines = [*(f"{i}.jpg" for i in numbers), *(f"{name}-{i}.jpg" for i in range(10))]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")
    words = ("folder", "photos", "--out", "made", "--train-list", "train.txt", "--test-list", "test.txt")
    run = starter(*words, cwd=tmp_path)

    assert run.returncode == 0, run.stderr
    assert run.stderr.count("listed, but not in the folder: ") == 5
    assert "more of this kind; all are in made-report.csv" in run.stderr

    for path in (tmp_path / "photos").rglob("*.jpg"):
        path.write_bytes(b"damaged")
    run = starter("folder", "photos", "--out", "again", cwd=tmp_path)

    assert run.returncode == 2
    assert run.stderr.count("code   U203") == 5
    assert "... and 35 more of this kind; all are in again-problems.csv" in run.stderr
    assert len(listed(tmp_path / "again-problems.csv")) == 40
