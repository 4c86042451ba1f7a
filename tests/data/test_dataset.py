"""The data set on disk: what is refused, what is read back, what the check finds."""

import csv
import io
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from starter.contract.errors import Code, UsageError
from starter.data.check import check
from starter.data.dataset import ImageError, ImageStore, open_dataset
from starter.data.folders import import_folder
from starter.data.writer import Description, Item, Shares, Split, assign_splits, write_dataset

PACKAGED = Path(__file__).parents[2] / "data" / "waste"
TRASHNET = Path(__file__).parents[3] / "shared" / "data" / "trashnet-150"
SPLITS: tuple[Split, ...] = ("train", "train", "Public", "Private")


def jpeg(colour: tuple[int, int, int], size: tuple[int, int] = (12, 8), orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def items() -> Iterator[Item]:
    """Two classes, each with two training images and one image in either half of the test set."""
    for label in (0, 1):
        for number, split in enumerate(SPLITS):
            data = jpeg((40 * number, 200 * label, 90))
            yield Item(f"{label}{number}.jpg", data, label, split, group=f"photo {label}{number}")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "data", items(), Description(name="two", classes=("can", "Flasche ü")))
    return tmp_path / "data"


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def complaints(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        open_dataset(path)
    assert {p.code for p in caught.value.problems} == {Code.BAD_DATASET}
    return "\n".join(f"{p.where}: {p.got} (expected {p.expected})" for p in caught.value.problems)


def test_what_was_written_is_read_back(data: Path) -> None:
    dataset = open_dataset(data)

    assert [(row.image_id, row.label, row.group) for row in dataset.train()] == [
        ("00.jpg", 0, "photo 00"), ("01.jpg", 0, "photo 01"),
        ("10.jpg", 1, "photo 10"), ("11.jpg", 1, "photo 11"),
    ]  # fmt: skip
    assert dataset.test_ids() == ["02.jpg", "03.jpg", "12.jpg", "13.jpg"]
    answers = [(row.label, row.usage) for row in dataset.solution()]
    assert answers == [(0, "Public"), (0, "Private"), (1, "Public"), (1, "Private")]
    assert dataset.competition.class_names == ("can", "Flasche ü")
    assert dataset.competition.num_classes == 2


def test_mean_and_deviation_are_those_of_the_training_pixels(tmp_path: Path) -> None:
    """Half of the pixels black, half white: mean 0.5, deviation 0.5. The test images do not count."""
    colours = ((0, 0, 0), (255, 255, 255), (255, 0, 0), (255, 0, 0))
    written = [
        Item(f"{i}.jpg", jpeg(colour), i % 2, split)
        for i, (colour, split) in enumerate(zip(colours, SPLITS, strict=True))
    ]
    info = write_dataset(tmp_path / "d", written, Description(name="d", classes=("a", "b"))).info

    assert info.mean == (0.5, 0.5, 0.5)
    assert info.std == (0.5, 0.5, 0.5)


def test_images_in_a_folder_and_in_a_zip_have_one_fingerprint(data: Path, tmp_path: Path) -> None:
    zipped = write_dataset(
        tmp_path / "zip", items(), Description(name="other", classes=("can", "Flasche ü")), zip_images=True
    )

    assert (tmp_path / "zip" / "images.zip").is_file()
    assert zipped.fingerprint() == open_dataset(data).fingerprint()
    assert zipped.fingerprint().startswith("sha256:")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: (d / "images" / "02.jpg").write_bytes(jpeg((1, 2, 3))),
        lambda d: (d / "train.csv").write_text(
            (d / "train.csv").read_text(encoding="utf-8").replace("00.jpg,can", "00.jpg,Flasche ü"),
            encoding="utf-8",
        ),
        lambda d: (d / "solution.csv").write_text(
            (d / "solution.csv").read_text(encoding="utf-8").replace("Public", "Private", 1), encoding="utf-8"
        ),
    ],
    ids=["an image", "a label", "a usage"],
)
def test_the_fingerprint_changes_with(data: Path, change: Callable[[Path], object]) -> None:
    before = open_dataset(data).fingerprint()
    change(data)
    assert open_dataset(data).fingerprint() != before


def test_a_folder_without_a_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        open_dataset(tmp_path / "nothing")
    assert caught.value.problems[0].code == Code.NO_DATASET


def test_all_problems_are_listed_at_once(data: Path) -> None:
    append(data / "train.csv", "x.jpg,kan,\n00.jpg,can,\n../../etc/passwd,can,\n02.jpg,can,\n")
    append(data / "test.csv", "y.jpg\n")
    append(data / "solution.csv", "z.jpg,can,Secret,\n")

    found = complaints(data)

    assert "train.csv:6: label 'kan' (expected one of can, Flasche ü)" in found
    assert "train.csv: 00.jpg: listed twice" in found
    assert "train.csv:8: image_id '../../etc/passwd': it is not a plain relative path" in found
    assert "test.csv: 02.jpg: also in train.csv" in found
    assert "test.csv: y.jpg: not in solution.csv" in found
    assert "solution.csv: z.jpg: not in test.csv" in found
    assert "Usage 'Secret' (expected Public or Private)" in found


@pytest.mark.parametrize("name", ["train.csv", "test.csv", "solution.csv"])
def test_a_missing_csv_is_named(data: Path, name: str) -> None:
    (data / name).unlink()
    assert f"{name}: no such file" in complaints(data)


def test_a_missing_column_is_named(data: Path) -> None:
    (data / "solution.csv").write_text("image_id,label\n02.jpg,can\n", encoding="utf-8")
    assert "solution.csv: no column Usage" in complaints(data)


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ('["can", "Flasche ü"]', '["can", "can"]', "unique"),
        ("std = [", "std = [0, ", "std"),
        ("mean", "maen", "maen"),
        ('name = "two"', "name = ", "Invalid value"),
    ],
)
def test_a_wrong_dataset_toml_is_explained(data: Path, old: str, new: str, word: str) -> None:
    text = (data / "dataset.toml").read_text(encoding="utf-8")
    assert old in text
    (data / "dataset.toml").write_text(text.replace(old, new), encoding="utf-8")
    assert word in complaints(data)


def test_missing_images_are_an_error(data: Path) -> None:
    shutil.rmtree(data / "images")
    assert "neither images/ nor images.zip" in complaints(data)


def test_line_ends_and_a_byte_order_mark_do_not_matter(data: Path) -> None:
    before = open_dataset(data).fingerprint()
    for name in ("train.csv", "test.csv", "solution.csv"):
        text = (data / name).read_text(encoding="utf-8")
        (data / name).write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert open_dataset(data).fingerprint() == before


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp949"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_files_saved_by_excel_on_korean_windows_are_one_data_set(
    tmp_path: Path, encoding: str, separator: str
) -> None:
    written = write_dataset(tmp_path / "d", items(), Description(name="둘", classes=("캔", "병")))
    before = written.fingerprint()
    for name in ("dataset.toml", "train.csv", "test.csv", "solution.csv"):
        text = (tmp_path / "d" / name).read_text(encoding="utf-8")
        if name.endswith(".csv"):
            text = f"sep={separator}\r\n" + text.replace(",", separator).replace("\n", "\r\n")
        (tmp_path / "d" / name).write_bytes(text.encode(encoding))

    dataset = open_dataset(tmp_path / "d")

    assert (dataset.info.name, dataset.info.classes) == ("둘", ("캔", "병"))
    assert dataset.fingerprint() == before


# Images.


def test_an_image_is_turned_upright(tmp_path: Path) -> None:
    """Orientation 6 is a quarter turn: a file of 12 x 8 is a picture of 8 x 12."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(jpeg((1, 2, 3), size=(12, 8), orientation=6))
    assert ImageStore(tmp_path).open("a.jpg").size == (8, 12)


@pytest.mark.parametrize(
    ("image_id", "reason"),
    [("no.jpg", "no such file"), ("text.jpg", "not an image file"), ("../x.jpg", "not a valid image_id")],
)
@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_an_image_that_cannot_be_opened_is_named_with_the_reason(
    tmp_path: Path, image_id: str, reason: str, *, zipped: bool
) -> None:
    if zipped:
        with ZipFile(tmp_path / "images.zip", "w") as file:
            file.writestr("text.jpg", b"hello")
    else:
        (tmp_path / "images").mkdir()
        (tmp_path / "images" / "text.jpg").write_bytes(b"hello")
    with pytest.raises(ImageError, match=reason) as caught:
        ImageStore(tmp_path).open(image_id)
    assert caught.value.image_id == image_id


def test_a_truncated_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "cut.jpg").write_bytes(jpeg((9, 9, 9), size=(64, 64))[:-80])
    with pytest.raises(ImageError, match=r"cut\.jpg: cannot be decoded"):
        ImageStore(tmp_path).open("cut.jpg")


def test_a_decompression_bomb_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "big.jpg").write_bytes(jpeg((9, 9, 9), size=(15, 10)))
    with pytest.raises(ImageError, match="exceeds limit of 100 pixels"):
        ImageStore(tmp_path).open("big.jpg")


def test_threads_share_a_zip() -> None:
    store = ImageStore(PACKAGED)
    ids = store.ids()[:200] * 4
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(store.read, ids))
    assert together == [store.read(image_id) for image_id in ids]


# Writing.


def test_an_existing_target_is_not_overwritten(data: Path) -> None:
    with pytest.raises(UsageError) as caught:
        write_dataset(data, items(), Description(name="x", classes=("a", "b")))
    assert caught.value.problems[0].code == Code.TARGET_EXISTS


def test_one_group_of_all_images_is_told_with_what_to_do(tmp_path: Path) -> None:
    together = [Item(f"{i}.jpg", jpeg((9 * i, 0, 0)), i % 2, "train", group="alike 1") for i in range(4)]
    with pytest.raises(UsageError) as caught:
        write_dataset(tmp_path / "d", together, Description(name="d", classes=("a", "b")))
    (said,) = caught.value.problems
    assert said.got == "4 images on one side, in 1 groups"
    assert "--no-near-duplicates" in said.hint


def test_a_failure_halfway_leaves_nothing_behind(tmp_path: Path) -> None:
    def failing() -> Iterator[Item]:
        yield next(items())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "out", failing(), Description(name="x", classes=("a", "b")))
    assert list(tmp_path.iterdir()) == []


@given(
    photographs=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=4, max_size=60),
    seed=st.integers(0, 9),
)
def test_a_photograph_is_never_in_two_splits(photographs: list[list[int]], seed: int) -> None:
    labels = [label for photograph in photographs for label in photograph]
    groups = [str(number) for number, photograph in enumerate(photographs) for _ in photograph]

    splits = assign_splits(labels, groups, Shares(test=0.4, validation=0.2, seed=seed))

    assert len(set(zip(groups, splits, strict=True))) == len(photographs)


def test_every_class_is_shared_out_alike() -> None:
    """100, 50 and 10 images, 0.3 for testing, half of those public: 15, 7.5 and 1.5 each."""
    labels = [0] * 100 + [1] * 50 + [2] * 10
    splits = assign_splits(labels, list(map(str, range(160))), Shares())

    counts = {
        (label, split): sum(pair == (label, split) for pair in zip(labels, splits, strict=True))
        for label in range(3)
        for split in SPLITS
    }
    assert [counts[label, "train"] for label in range(3)] == [70, 35, 7]
    assert counts[0, "Public"] == counts[0, "Private"] == 15
    assert {counts[2, "Public"], counts[2, "Private"]} == {1, 2}


# Importing a folder.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, shade in (("캔 금속", 40), ("종이", 200)):
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(10):
            (tmp_path / "in" / name / f"사진 {number}.JPG").write_bytes(jpeg((shade, number * 20, 0)))
    (tmp_path / "in" / "readme.txt").write_text("not an image", encoding="utf-8")
    (tmp_path / "in" / "종이" / "._사진 1.jpg").write_bytes(b"macOS leaves these")
    return tmp_path / "in"


def test_a_folder_is_imported_byte_for_byte_under_names_that_tell_nothing(
    folder: Path, tmp_path: Path
) -> None:
    report = import_folder(folder, tmp_path / "out")
    dataset = report.dataset

    assert dataset.info.classes == ("종이", "캔 금속")
    assert (report.used, report.skipped) == (20, {"not an image file": 2})
    assert (len(dataset.train()), len(dataset.test_ids())) == (14, 6)
    assert sorted(dataset.images.ids()) == [f"{number:06d}.jpg" for number in range(1, 21)]
    originals = {path.read_bytes() for path in folder.rglob("사진*")}
    assert {dataset.images.read(image_id) for image_id in dataset.images.ids()} == originals
    # In the order of their new names the classes are mixed.
    labels = [row.label for row in sorted(dataset.train(), key=lambda row: row.image_id)]
    assert labels not in (sorted(labels), sorted(labels, reverse=True))


def test_another_seed_gives_another_split(folder: Path, tmp_path: Path) -> None:
    first, again, other = (
        import_folder(folder, tmp_path / name, shares=Shares(seed=seed)).dataset.fingerprint()
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == again != other


def test_broken_images_are_all_named_and_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    for name in ("b.jpg", "d.jpg"):
        (folder / "종이" / name).write_bytes(b"damaged")
    with pytest.raises(UsageError) as caught:
        import_folder(folder, tmp_path / "out")
    assert [(p.code, Path(p.where).name) for p in caught.value.problems] == [
        (Code.BROKEN_IMAGES, "b.jpg"), (Code.BROKEN_IMAGES, "d.jpg"),
    ]  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_lists_give_the_split_also_for_names_with_spaces(folder: Path, tmp_path: Path) -> None:
    for path in (folder / "캔 금속").iterdir():
        path.rename(path.with_name("k" + path.name))
    (tmp_path / "train.txt").write_text("사진 0.JPG 1\nk사진 0.JPG\n사진 1.JPG 1\n", encoding="utf-8")
    (tmp_path / "more.txt").write_text("k사진 1.JPG 2\n", encoding="utf-8")
    (tmp_path / "test.txt").write_text(
        "사진 2.JPG 1\n사진 3.JPG 1\nk사진 2.JPG 2\nk사진 3.JPG 2\ngone.jpg 2\n", encoding="utf-8"
    )
    report = import_folder(
        folder, tmp_path / "out",
        train_lists=[tmp_path / "train.txt", tmp_path / "more.txt"], test_list=tmp_path / "test.txt",
    )  # fmt: skip
    assert (len(report.dataset.train()), len(report.dataset.test_ids())) == (4, 4)
    assert report.skipped["in none of the lists"] == 12
    assert report.not_found == ("gone.jpg",)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp949"])
@pytest.mark.parametrize("separator", [",", ";", "\t", " "])
def test_lists_may_come_from_excel_on_korean_windows(
    folder: Path, tmp_path: Path, encoding: str, separator: str
) -> None:
    for name, numbers in (("train", range(4)), ("test", range(4, 8))):
        lines = [f"{kind}\\사진 {i}.JPG{separator}1\r\n" for kind in ("캔 금속", "종이") for i in numbers]
        (tmp_path / f"{name}.txt").write_bytes("".join(lines).encode(encoding))
    train, test = [tmp_path / "train.txt"], tmp_path / "test.txt"
    report = import_folder(folder, tmp_path / "out", train_lists=train, test_list=test)
    assert (len(report.dataset.train()), len(report.dataset.test_ids())) == (8, 8)
    assert report.not_found == ()


def test_a_name_in_both_lists_or_in_two_folders_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("사진 0.JPG 1\n종이/사진 1.JPG 1\n", encoding="utf-8")
    (tmp_path / "test.txt").write_text("종이/사진 1.JPG 1\n", encoding="utf-8")
    with pytest.raises(UsageError, match="in several class folders") as caught:
        import_folder(
            folder, tmp_path / "out", train_lists=[tmp_path / "train.txt"], test_list=tmp_path / "test.txt"
        )
    assert "'종이/사진 1.JPG' is in a training list and in the test list" in str(caught.value)


@pytest.mark.long
@pytest.mark.skipif(not TRASHNET.is_dir(), reason="the TrashNet sample is not beside the checkout")
def test_the_authors_split_of_trashnet_is_kept(tmp_path: Path) -> None:
    train_lists = [TRASHNET / f"split-notrash-{part}.txt" for part in ("train", "val")]
    test_list = TRASHNET / "split-notrash-test.txt"
    report = import_folder(TRASHNET, tmp_path / "out", train_lists=train_lists, test_list=test_list)

    listed = {line.split()[0] for line in test_list.read_text(encoding="utf-8").splitlines() if line}
    present = {path.name: path.read_bytes() for path in TRASHNET.rglob("*.jpg")}
    dataset = report.dataset
    tested = sorted(dataset.images.read(image_id) for image_id in dataset.test_ids())
    assert tested == sorted(data for name, data in present.items() if name in listed)
    assert report.used + sum(report.skipped.values()) == sum(p.is_file() for p in TRASHNET.rglob("*"))


# Checking.


def test_a_sound_data_set_has_no_problems(data: Path) -> None:
    report = check(data)

    assert report.problems == []
    assert report.rows() == [("can", 2, 1, 1), ("Flasche ü", 2, 1, 1)]
    assert report.width
    assert (report.width.least, report.width.median, report.width.most) == (12, 12, 12)
    assert report.fingerprint == open_dataset(data).fingerprint()


def test_the_check_lists_everything_that_is_wrong_with_the_images(data: Path) -> None:
    (data / "images" / "00.jpg").unlink()
    (data / "images" / "01.jpg").write_bytes(b"damaged")
    (data / "images" / "surplus.jpg").write_bytes(jpeg((7, 7, 7)))
    (data / "images" / "12.jpg").write_bytes((data / "images" / "10.jpg").read_bytes())
    solution = (data / "solution.csv").read_text(encoding="utf-8").replace("photo 13", "photo 11")
    (data / "solution.csv").write_text(solution, encoding="utf-8")

    found = {(p.code.value, p.where, p.got) for p in check(data).problems}

    assert found == {
        ("U203", "00.jpg", "listed, but the image file does not exist"),
        ("U203", "01.jpg", "cannot be decoded: not an image file, or damaged"),
        ("U202", "10.jpg", "the same file in train.csv and test.csv: 10.jpg, 12.jpg"),
        ("U202", "group photo 11", "in several splits: Private, train"),
        ("U202", "images", "1 files that no CSV file lists: surplus.jpg"),
    }


def test_the_check_decodes_the_images_even_if_a_csv_is_wrong(data: Path) -> None:
    (data / "images" / "01.jpg").write_bytes(b"damaged")
    append(data / "train.csv", "x.jpg,kan,\n")

    assert {p.code for p in check(data).problems} == {Code.BAD_DATASET, Code.BROKEN_IMAGES}


# The packaged data set.


@pytest.mark.slow
def test_the_packaged_data_set_is_sound_and_is_the_one_its_readme_describes() -> None:
    report = check(PACKAGED)
    readme = (PACKAGED / "README.md").read_text(encoding="utf-8")
    info = open_dataset(PACKAGED).info

    assert report.problems == []
    assert report.fingerprint in readme
    for label, row in enumerate(report.rows()):
        assert f"| {label} | {' | '.join(map(str, row))} |" in readme
    assert all(command in readme for command in info.made_by)
    assert sum(path.stat().st_size for path in PACKAGED.iterdir()) < 8_000_000


def test_the_packaged_mean_and_deviation_are_those_of_its_images() -> None:
    dataset = open_dataset(PACKAGED)
    pixels = np.concatenate(
        [np.asarray(dataset.images.open(row.image_id)).reshape(-1, 3) / 255 for row in dataset.train()[::8]]
    )
    np.testing.assert_allclose(pixels.mean(axis=0), dataset.info.mean, atol=0.02)
    np.testing.assert_allclose(pixels.std(axis=0), dataset.info.std, atol=0.02)


def test_the_packaged_csv_files_have_kaggles_columns() -> None:
    headers = {}
    for name in ("train", "test", "solution"):
        with (PACKAGED / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            headers[name] = next(csv.reader(file))
    assert headers["train"][:2] == ["image_id", "label"]
    assert headers["test"] == ["image_id"]
    assert headers["solution"][:3] == ["image_id", "label", "Usage"]


def add_column(data: Path, header: str, values: tuple[str, ...]) -> None:
    """Add a column to solution.csv."""
    path = data / "solution.csv"
    first, *rows = path.read_text(encoding="utf-8").splitlines()
    lines = [f"{first},{header}", *(f"{row},{value}" for row, value in zip(rows, values, strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_one_more_column_of_the_solution_makes_groups(data: Path) -> None:
    add_column(data, "camera", ("front", " rear ", "front", "rear"))
    dataset = open_dataset(data)

    assert dataset.grouped_by == "camera"
    assert [row.f1_group for row in dataset.solution()] == ["front", "rear", "front", "rear"]
    assert [row.group for row in dataset.solution()] == ["photo 02", "photo 03", "photo 12", "photo 13"]


def test_the_fingerprint_changes_with_the_groups_alone(data: Path) -> None:
    """Without groups it is what earlier references hold: test_docs.py has that of the packaged data set."""
    plain = open_dataset(data)
    found = {plain.fingerprint()}
    text = (data / "solution.csv").read_text(encoding="utf-8")
    for header, values in (("camera", "abab"), ("camera", "abba"), ("place", "abab")):
        (data / "solution.csv").write_text(text, encoding="utf-8")
        add_column(data, header, tuple(values))
        found.add(open_dataset(data).fingerprint())
    (data / "solution.csv").write_text(text, encoding="utf-8")

    assert len(found) == 4
    assert open_dataset(data).fingerprint() == plain.fingerprint()
    assert (plain.grouped_by, {row.f1_group for row in plain.solution()}) == ("", {""})


def test_an_image_without_a_group_and_a_second_column_are_refused(data: Path) -> None:
    add_column(data, "camera", ("front", "", "front", "rear"))
    assert complaints(data) == "solution.csv:3: no camera (expected the name of the image's group)"
    add_column(data, "season", ("a", "b", "a", "b"))
    assert "the columns camera, season (expected at most one column of groups)" in complaints(data)


def test_the_check_counts_the_images_of_each_group_and_warns_of_few(data: Path) -> None:
    add_column(data, "camera", ("front", "rear", "front", "front"))
    report = check(data)

    assert report.problems == []
    assert report.grouped_by == "camera"
    assert [(row.name, row.public, row.private) for row in report.groups] == [("front", 2, 1), ("rear", 0, 1)]
    assert report.warnings == [
        "camera front, 1 Private images: 1 of Flasche ü, none of can",
        "camera front, 2 Public images: 1 of can, 1 of Flasche ü",
        "camera rear, 1 Private images: 1 of can, none of Flasche ü",
    ]
