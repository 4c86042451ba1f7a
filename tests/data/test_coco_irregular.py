"""COCO files as tools really write them: read, or skipped for a counted reason; never refused for one box."""

import csv
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from starter.contract.errors import Code, DataError, UsageError
from starter.data.coco import annotations as co
from starter.data.coco import boxes, values
from starter.data.coco.crops import crop_dataset
from starter.data.coco.report import CropReport
from starter.data.options import CropOptions

COUNT = 12
SIZE = (120, 80)
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images/0.jpg to images/11.jpg, of noise, so that none is like another."""
    folder = tmp_path_factory.mktemp("source") / "images"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for number in range(COUNT):
        picture = Image.fromarray(noise.integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8))
        picture.save(folder / f"{number}.jpg", quality=60)
    return folder.parent


def plain(name: str = "images/{}.jpg") -> dict[str, Any]:
    """One box of 60 x 60 on each picture, Metal and Paper in turn."""
    return {
        "images": [
            {"id": i, "file_name": name.format(i), "width": SIZE[0], "height": SIZE[1]} for i in range(COUNT)
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1 + i % 2, "bbox": [5, 5, 60, 60], "iscrowd": 0}
            for i in range(COUNT)
        ],
        "categories": [{"id": 1, "name": "Metal"}, {"id": 2, "name": "Paper"}],
    }


class Cropping:
    """Cuts a COCO file's boxes out of the pictures."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder

    def __call__(self, coco: object, **options: Any) -> CropReport:
        data = coco if isinstance(coco, bytes) else json.dumps(coco).encode()
        (self.root / "a.json").write_bytes(data)
        return crop_dataset(self.root / "a.json", self.folder, self.root / "out", **options)

    def changed(self, change: Change, **options: Any) -> CropReport:
        coco = plain()
        change(coco)
        return self(coco, **options)

    def refused(self, coco: object) -> list[str]:
        with pytest.raises(UsageError) as caught:
            self(coco)
        assert not (self.root / "out").exists()
        return [f"{problem.where}: {problem.got}" for problem in caught.value.problems]


@pytest.fixture
def crop(tmp_path: Path, pictures: Path) -> Cropping:
    return Cropping(tmp_path, pictures)


def used(report: CropReport) -> int:
    assert report.total.boxes == report.total.used + report.total.skipped.total()
    assert len(report.left_out) == report.total.skipped.total()
    assert len(report.dataset.images.ids()) == report.total.used
    return report.total.used


# Single annotations.


def first(**fields: Any) -> Change:
    return lambda coco: coco["annotations"][0].update(fields)


def without(part: str, *names: str) -> Change:
    def change(coco: dict[str, Any]) -> None:
        for name in names:
            coco[part][0].pop(name)

    return change


@pytest.mark.parametrize(
    ("change", "reason", "found"),
    [
        (without("annotations", "bbox"), values.NO_BOX, "None"),
        (first(bbox=None), values.NO_BOX, "None"),
        (first(bbox=[]), values.NO_BOX, "[]"),
        (first(bbox=[], segmentation=[[]]), values.NO_BOX, "[]"),
        (first(bbox=None, segmentation={"counts": "abc", "size": [80, 120]}), values.NO_BOX, "None"),
        (first(bbox=None, segmentation=[[1, 2, 3, math.nan, 5, 6]]), values.NO_BOX, "None"),
        (first(bbox=[5, 5, 60]), values.NOT_NUMBERS, "[5, 5, 60]"),
        (first(bbox=[5, 5, 60, 60, 60]), values.NOT_NUMBERS, "[5, 5, 60, 60, 60]"),
        (first(bbox=[5, 5, "wide", 60]), values.NOT_NUMBERS, "[5, 5, 'wide', 60]"),
        (first(bbox=[5, 5, None, 60]), values.NOT_NUMBERS, "[5, 5, None, 60]"),
        (first(bbox=[5, 5, True, 60]), values.NOT_NUMBERS, "[5, 5, True, 60]"),
        (first(bbox=[[5], 5, 60, 60]), values.NOT_NUMBERS, "[[5], 5, 60, 60]"),
        (first(bbox={"x": 5}), values.NOT_NUMBERS, "{'x': 5}"),
        (first(bbox="5 5 60 60"), values.NOT_NUMBERS, "'5 5 60 60'"),
        (first(bbox=[math.inf, math.inf, -math.inf, -math.inf]), values.NOT_FINITE, "[inf, inf, -inf, -inf]"),
        (first(bbox=[5, math.nan, 60, 60]), values.NOT_FINITE, "[5, nan, 60, 60]"),
        (first(bbox=[5, 5, 10**400, 60]), values.NOT_FINITE, f"[5, 5, 1{'0' * 72}"),
        (first(bbox=[5, 5, -60, 60]), values.NEGATIVE, "[5, 5, -60, 60]"),
        (first(bbox=[5, 5, 60, -0.5]), values.NEGATIVE, "[5, 5, 60, -0.5]"),
        (first(bbox=[5, 5, 0, 60]), boxes.NO_AREA, "[5.0, 5.0, 0.0, 60.0]"),
        (first(bbox=[500, 5, 60, 60]), boxes.OUTSIDE, "[500.0, 5.0, 60.0, 60.0]"),
        (first(iscrowd=2), co.ODD_CROWD, "2"),
        (first(iscrowd="yes"), co.ODD_CROWD, "'yes'"),
        (first(image_id=99), co.NO_IMAGE, "99"),
        (first(image_id=None), co.NO_IMAGE, "None"),
        (first(image_id=[0]), co.NO_IMAGE, "[0]"),
        (without("annotations", "image_id"), co.NO_IMAGE, "None"),
        (first(category_id=99), co.NO_CATEGORY, "99"),
        (first(category_id=True), co.NO_CATEGORY, "True"),
        (first(category_id=1.5), co.NO_CATEGORY, "1.5"),
        (without("annotations", "category_id"), co.NO_CATEGORY, "None"),
        (lambda c: c["annotations"].__setitem__(0, [1, 2]), co.NOT_AN_OBJECT, "[1, 2]"),
        (lambda c: c["annotations"].__setitem__(0, None), co.NOT_AN_OBJECT, "None"),
        (without("images", "file_name"), co.NO_IMAGE, "0"),
        (lambda c: c["images"].__setitem__(0, None), co.NO_IMAGE, "0"),
        (lambda c: c["images"][0].update(file_name="a\0b.jpg"), co.NO_IMAGE, "0"),
        (lambda c: c["images"][0].update(file_name="\ud800.jpg"), co.NO_IMAGE, "0"),
        (lambda c: c["images"][0].update(file_name=7), co.NO_IMAGE, "0"),
        (first(id="\ud800", bbox=[]), values.NO_BOX, "[]"),
        (lambda c: c["categories"].append({"id": 3, "name": "\ud800"}) or first(category_id=3)(c),
         co.NO_CATEGORY, "3"),
    ],
)  # fmt: skip
def test_one_bad_annotation_is_skipped_for_a_reason_and_the_others_are_used(
    crop: Cropping, change: Change, reason: str, found: str
) -> None:
    report = crop.changed(change)

    assert used(report) == COUNT - 1
    assert report.total.skipped == {reason: 1}
    assert (report.left_out[0].reason, report.left_out[0].found) == (reason, found)
    assert report.left_out[0].is_fault


@pytest.mark.parametrize(
    "change",
    [
        first(iscrowd=None), first(iscrowd=False), first(iscrowd=0.0), first(iscrowd="0"),
        without("annotations", "iscrowd"),
        first(bbox=["5", "5", "60", "60"]), first(bbox=[5, 5, 1e300, 1e300]),
        first(bbox=[-1e308, -1e308, 1.5e308, 1.5e308]),
        first(score=0.9, attributes={"occluded": True}, segmentation="none"),
        without("images", "width", "height"), without("images", "height"),
        lambda c: c["images"][0].update(width=None, height=None),
        lambda c: c["images"][0].update(width=0, height=0),
        lambda c: c["images"][0].update(width=-1, height=-1),
        lambda c: c["images"][0].update(width="?", height=math.nan),
        lambda c: c["images"][0].update(width=120.0, height="80"),
        lambda c: c["images"][0].update(license=[1], flickr_url=5, extra={}),
        lambda c: c.update(info=None, licenses=5),
    ],
)  # fmt: skip
def test_what_tools_write_otherwise_is_read(crop: Cropping, change: Change) -> None:
    report = crop.changed(change)
    assert used(report) == COUNT
    assert (report.total.skipped, report.other_shape, report.scaled) == ({}, [], 0)


@pytest.mark.parametrize("value", [1, 1.0, True, "1"])
def test_a_crowd_is_a_crowd_in_any_spelling(crop: Cropping, value: object) -> None:
    report = crop.changed(first(iscrowd=value))
    assert report.total.skipped == {boxes.CROWD: 1}
    assert not report.left_out[0].is_fault


@pytest.mark.parametrize(
    "segmentation",
    [
        [[10, 20, 60, 20, 60, 70, 10, 70]],
        [[10, 20, 30, 20, 30, 70], [40, 20, 60, 20, 60, 70]],
        [10, 20, 60, 20, 60, 70],
        [[[10, 20], [60, 20], [60, 70]]],
        [["10", "20", 60.0, 20, 60, 70]],
    ],
)
def test_without_a_box_that_around_the_polygon_is_taken_and_said(
    crop: Cropping, segmentation: list[Any]
) -> None:
    """From (10, 20) to (60, 70): 50 x 50."""
    report = crop.changed(first(bbox=[], segmentation=segmentation))

    assert used(report) == COUNT
    sizes = [report.dataset.images.open(image_id).size for image_id in report.dataset.images.ids()]
    assert sorted(sizes) == [(50, 50), *[(60, 60)] * 11]
    assert report.notes == ("1 annotations have no box: the box around their polygon is used",)


def test_a_box_that_is_there_and_wrong_is_not_replaced_by_the_polygon(crop: Cropping) -> None:
    report = crop.changed(first(bbox=[math.inf] * 4, segmentation=[[10, 20, 60, 20, 60, 70]]))
    assert report.total.skipped == {values.NOT_FINITE: 1}


def test_without_an_annotated_size_boxes_are_measured_on_the_picture(crop: Cropping) -> None:
    """(100, 5, 60, 60) ends at the border, 120, and is 20 wide: too small. (130, ...) is outside."""

    def change(coco: dict[str, Any]) -> None:
        for entry in coco["images"]:
            entry["width"] = entry["height"] = None
        coco["annotations"][0]["bbox"] = [100, 5, 60, 60]
        coco["annotations"][1]["bbox"] = [130, 5, 60, 60]
        coco["annotations"][2]["bbox"] = [90, 5, 60, 60]

    report = crop.changed(change)

    assert used(report) == COUNT - 2
    assert report.total.skipped == {boxes.SMALL: 1, boxes.OUTSIDE: 1}
    sizes = {report.dataset.images.open(image_id).size for image_id in report.dataset.images.ids()}
    assert sizes == {(30, 60), (60, 60)}
    assert report.notes == ("12 images have no width and height: read from the picture",)


# Ids.


@pytest.mark.parametrize("spell", [str, float, "img{}".format, lambda i: i - 5, lambda i: 2**60 + i])
def test_ids_may_be_texts_floats_or_any_integers(crop: Cropping, spell: Callable[[int], object]) -> None:
    coco = plain()
    for entry in coco["images"]:
        entry["id"] = spell(entry["id"])
    for entry in coco["annotations"]:
        entry.update(
            id=spell(entry["id"]), image_id=spell(entry["image_id"]), category_id=spell(entry["category_id"])
        )
    for entry in coco["categories"]:
        entry["id"] = spell(entry["id"])
    report = crop(coco)
    assert used(report) == COUNT
    assert report.notes == ()


def test_a_reference_of_another_type_is_taken_and_said(crop: Cropping) -> None:
    def change(coco: dict[str, Any]) -> None:
        for entry in coco["annotations"]:
            entry["image_id"] = str(entry["image_id"])

    report = crop.changed(change)
    assert used(report) == COUNT
    assert report.notes == ("12 references to images have ids of another type ('7' for 7): accepted",)


def test_a_text_and_a_number_that_look_alike_are_two_images(crop: Cropping) -> None:
    """Image "1" is a picture of its own: annotation 0 is on it, and annotation 1 is on image 1."""

    def change(coco: dict[str, Any]) -> None:
        coco["images"][0]["id"] = "1"
        coco["annotations"][0]["image_id"] = "1"

    report = crop.changed(change)
    assert used(report) == COUNT
    groups = {row.group for row in report.dataset.train()} | {row.group for row in report.dataset.solution()}
    assert groups == {f"images/{i}.jpg" for i in range(COUNT)}


def test_ids_that_stand_for_two_images_are_not_guessed(crop: Cropping) -> None:
    """Two files joined without new numbers: whose box it is cannot be known."""
    report = crop.changed(lambda c: c["images"][1].update(id=0))
    assert report.total.skipped == {co.TWO_IMAGES: 1, co.NO_IMAGE: 1}
    assert used(report) == COUNT - 2
    assert report.notes == ("1 image ids are used by several images; their boxes are skipped: 0",)


def test_what_is_there_twice_is_read_once_and_said(crop: Cropping) -> None:
    def change(coco: dict[str, Any]) -> None:
        coco["images"].append(dict(coco["images"][0]))
        coco["annotations"][1]["id"] = 0
        coco["images"].append({**coco["images"][2], "id": 99})
        coco["annotations"].append({**coco["annotations"][2], "id": 98, "image_id": 99})

    report = crop.changed(change)
    assert report.notes == (
        "1 entries of images occur twice: read once",
        "1 annotation ids are used more than once; all are kept: 0",
        "1 file names occur in several images, read as one: images/2.jpg",
    )
    assert report.total.skipped == {boxes.DUPLICATE: 1}
    assert used(report) == COUNT


def test_two_entries_of_one_photograph_are_one_group(crop: Cropping) -> None:
    def change(coco: dict[str, Any]) -> None:
        coco["images"].append({**coco["images"][2], "id": 99})
        coco["annotations"].append({**coco["annotations"][3], "image_id": 99, "bbox": [50, 10, 60, 60]})

    report = crop.changed(change)
    rows = [(row.group, "train") for row in report.dataset.train()]
    rows += [(row.group, row.usage) for row in report.dataset.solution()]
    assert len([row for row in rows if row[0] == "images/2.jpg"]) == 2
    assert len(set(rows)) == COUNT
    assert report.alike == []


# Categories.


def test_a_root_category_without_boxes_is_left_out_and_said(crop: Cropping) -> None:
    """Roboflow: a category that is the supercategory of all others, and owns no box."""

    def change(coco: dict[str, Any]) -> None:
        for category in coco["categories"]:
            category["supercategory"] = "trash-objects"
        coco["categories"].insert(0, {"id": 0, "name": "trash-objects", "supercategory": "none"})

    report = crop.changed(change)
    assert report.dataset.info.classes == ("Metal", "Paper")
    assert report.notes == (
        "category 'trash-objects' skipped: it has no box and is the parent of all others",
    )
    assert [row.category for row in report.rows] == ["Metal", "Paper"]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["annotations"][0].update(category_id=0),
        lambda c: c["categories"][1].update(supercategory="other"),
    ],
    ids=["it owns a box", "one stands elsewhere"],
)
def test_a_category_that_is_no_root_is_a_class(crop: Cropping, change: Change) -> None:
    def rooted(coco: dict[str, Any]) -> None:
        for category in coco["categories"]:
            category["supercategory"] = "rest"
        change(coco)
        coco["categories"].append({"id": 0, "name": "rest", "supercategory": "none"})

    assert crop.changed(rooted).dataset.info.classes == ("Metal", "Paper", "rest")


def test_a_name_with_two_ids_is_one_category_and_said(crop: Cropping) -> None:
    def change(coco: dict[str, Any]) -> None:
        coco["categories"].append({"id": 3, "name": "Metal"})
        coco["annotations"][0]["category_id"] = 3

    report = crop.changed(change)
    assert [(row.category, row.boxes) for row in report.rows] == [("Metal", 6), ("Paper", 6)]
    assert report.notes == ("1 category names have several ids, read as one category: 'Metal' (2 ids)",)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [(("Metal",), "at least 2 items"), (("c1an", "clan"), "class names must look different")],
)
def test_classes_that_make_no_data_set_are_told_before_any_picture_is_cut(
    crop: Cropping, names: tuple[str, ...], wanted: str
) -> None:
    coco = plain()
    coco["categories"] = [{"id": 1 + i, "name": name} for i, name in enumerate(names)]
    with pytest.raises(UsageError) as caught:
        crop(coco)
    (said,) = caught.value.problems
    assert (said.where, said.got) == ("classes", repr(names))
    assert wanted in said.expected


def test_an_id_with_two_names_is_not_guessed(crop: Cropping) -> None:
    report = crop.changed(lambda c: c["categories"].append({"id": 2, "name": "Glass"}))
    assert report.total.skipped == {co.TWO_CATEGORIES: 6}
    assert report.notes == ("1 category ids are used by several categories; their boxes are skipped: 2",)


# The file as a whole.


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (b"{", "not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"[" * 100_000, "not JSON: maximum recursion depth exceeded"),
        (b'{"images": ' + b"9" * 5000, "not JSON: Exceeds the limit"),
        (b"\xff\xff\xff", "not text: 'utf-8' codec can't decode byte 0xff"),
        (b"[]", "a list at the top level"),
        (b"NaN", "nan at the top level"),
        (b"{}", "no images, no annotations, no categories"),
        (b'{"images": [{}], "annotations": [{}], "categories": []}', "no categories"),
        (b'{"images": {"1": {}}, "annotations": [{}]}', "no categories, images is not a list"),
    ],
)
def test_what_is_wrong_with_the_file_as_a_whole_is_one_message(crop: Cropping, data: bytes, got: str) -> None:
    (said,) = crop.refused(data)
    assert said.startswith(f"{crop.root / 'a.json'}: {got}")


def test_a_file_without_any_usable_box_says_why(crop: Cropping) -> None:
    coco = plain()
    for entry in coco["annotations"]:
        entry["bbox"] = [] if entry["id"] else [1, 2, 3]
    (said,) = crop.refused(coco)
    assert said.endswith(f"no box to cut, 11 {values.NO_BOX}, 1 {values.NOT_NUMBERS}")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp949"])
def test_the_file_may_come_from_any_system(crop: Cropping, encoding: str) -> None:
    coco = plain()
    coco["categories"][0]["name"] = "금속"
    report = crop(json.dumps(coco, ensure_ascii=False).encode(encoding))
    assert report.dataset.info.classes == ("금속", "Paper")


# File names.


@pytest.mark.parametrize(
    "name",
    [
        "images\\{}.jpg", ".\\images\\{}.jpg", "./images//{}.jpg", "images/../images/{}.jpg",
        "C:\\x\\images\\{}.jpg", "c:/images/{}.jpg", "\\\\server\\share\\images\\{}.jpg",
        "/home/u/images/{}.jpg", "../images/{}.jpg", "../../x/../images/{}.jpg",
        "https://host.example/bucket/images/{}.jpg", "file:///home/u/images/{}.jpg", "s3://bucket/images/{}.jpg",
        "images/{}.JPG", "Images/{}.Jpg", "D:\\IMAGES\\{}.JPG",
    ],
)  # fmt: skip
def test_a_file_name_of_another_system_is_found_in_the_folder(crop: Cropping, name: str) -> None:
    report = crop(plain(name))
    assert used(report) == COUNT
    assert {row.group for row in report.dataset.train()} < {f"images/{i}.jpg" for i in range(COUNT)}


def test_names_that_are_spelled_otherwise_are_said(crop: Cropping) -> None:
    report = crop(plain("C:\\x\\images\\{}.jpg"))
    assert report.remarks[1] == (
        "12 file names are spelled differently in the folder: C:/x/images/0.jpg is images/0.jpg"
    )
    assert report.notes[0].startswith(
        "12 file names have backslashes, read as slashes: C:\\x\\images\\0.jpg, "
    )


@pytest.mark.parametrize("name", ["../secret/{}.jpg", "{}", "images/../../secret/{}.jpg", "link/{}.jpg"])
def test_nothing_outside_of_the_folder_is_read(tmp_path: Path, pictures: Path, name: str) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "secret")
    for number in range(COUNT):
        (tmp_path / "secret" / f"{number}.jpg").write_bytes((pictures / f"images/{number}.jpg").read_bytes())
    if name == "{}":
        name = f"{tmp_path}/secret/{{}}.jpg"

    found = Cropping(tmp_path, tmp_path / "inside").refused(plain(name))

    assert len(found) == COUNT
    reason = "link/0.jpg is a link to a place outside the folder" if "link" in name else "no such file"
    assert found[0] == f"{name.format(0)}: {reason}"


def copied(pictures: Path, folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((pictures / f"images/{number}.jpg").read_bytes())
    return folder


def test_several_files_of_a_name_in_another_case_are_ambiguous(tmp_path: Path, pictures: Path) -> None:
    folder = copied(pictures, tmp_path / "in", "a.jpg", "A.jpg", "b.jpg")
    coco = plain()
    coco["images"] = [{"id": i, "file_name": name} for i, name in enumerate(("a.JPG", "A.jpg", "B.jpg"))]
    (said,) = Cropping(tmp_path, folder).refused(coco)
    assert said == "a.JPG: ambiguous: the names of several files differ only in case: A.jpg, a.jpg"


def test_names_from_elsewhere_that_lead_to_one_file_are_ambiguous(tmp_path: Path, pictures: Path) -> None:
    """The folder holds one 1.jpg, the file speaks of two: one would be cut out of the other's picture."""
    folder = copied(pictures, tmp_path / "in", "1.jpg", "2.jpg")
    coco = plain()
    names = ("/data/train/1.jpg", "/data/test/1.jpg", "/data/test/2.jpg")
    coco["images"] = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    assert Cropping(tmp_path, folder).refused(coco) == [
        f"{name}: ambiguous: 2 file names refer to 1.jpg" for name in names[:2]
    ]


def test_files_with_backslashes_in_their_names_are_found(tmp_path: Path, pictures: Path) -> None:
    """Some tools unpack a zip of Windows so."""
    folder = copied(pictures, tmp_path / "in", *(f"images\\{i}.jpg" for i in range(COUNT)))
    assert used(Cropping(tmp_path, folder)(plain("images\\{}.jpg"))) == COUNT


def test_a_missing_file_is_told_with_what_to_do(crop: Cropping) -> None:
    with pytest.raises(UsageError) as caught:
        crop(plain("photos/{}.jpg"))
    assert {problem.hint for problem in caught.value.problems} == {
        "Restore the file, or remove its annotations; --images names the folder that file names start from."
    }


def test_a_folder_that_is_not_there_is_one_message(tmp_path: Path) -> None:
    (said,) = Cropping(tmp_path, tmp_path / "none").refused(plain())
    assert said == f"{tmp_path / 'none'}: no such folder"


# What is told.


def three_bad(coco: dict[str, Any]) -> None:
    coco["annotations"][0]["bbox"] = []
    coco["annotations"][3]["image_id"] = 99
    coco["annotations"][4]["bbox"] = [5, 5, -1, 60]
    coco["annotations"][5]["iscrowd"] = 1


def test_strict_refuses_a_file_with_a_bad_annotation_and_lists_them(crop: Cropping) -> None:
    with pytest.raises(DataError) as caught:
        crop.changed(three_bad, options=CropOptions(strict=True))
    assert [(problem.where.partition(": ")[2], problem.got) for problem in caught.value.problems] == [
        ("annotation 0 (images/0.jpg)", f"{values.NO_BOX}: []"),
        ("annotation 3 (no image)", f"{co.NO_IMAGE}: 99"),
        ("annotation 4 (images/4.jpg)", f"{values.NEGATIVE}: [5, 5, -1, 60]"),
    ]
    assert {problem.code for problem in caught.value.problems} == {Code.BAD_ANNOTATION}
    assert not (crop.root / "out").exists()


def test_strict_takes_a_file_whose_boxes_are_only_left_out_by_choice(crop: Cropping) -> None:
    report = crop.changed(first(iscrowd=1), options=CropOptions(strict=True))
    assert report.total.skipped == {boxes.CROWD: 1}


def command(*words: str | Path, cwd: Path) -> tuple[int, str, str]:
    line = [sys.executable, "-m", "starter", "data", *map(str, words)]
    run = subprocess.run(line, cwd=cwd, capture_output=True, text=True, check=False)
    return run.returncode, run.stdout, run.stderr


@pytest.mark.slow
def test_the_command_prints_and_writes_what_was_skipped(tmp_path: Path, pictures: Path) -> None:
    coco = plain()
    three_bad(coco)
    (tmp_path / "a.json").write_text(json.dumps(coco))
    words = ("crops", "a.json", "--images", pictures, "--test-share", "0.5", "--out", "made")
    code, stdout, stderr = command(*words, cwd=tmp_path)

    assert code == 0, stderr
    assert "12 boxes      8 used" in stdout
    assert (
        "1 box has a negative side, 1 crowd of several objects, 1 image is not in the file, 1 no box"
        in stdout
    )
    assert "skipped, box has a negative side: annotation 4, images/4.jpg, [5, 5, -1, 60]" in stderr
    assert "written: made-report.csv" in stderr
    with (tmp_path / "made-report.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["annotation", "file_name", "category", "reason", "found"],
            ["0", "images/0.jpg", "Metal", values.NO_BOX, "[]"],
            ["3", "", "Paper", co.NO_IMAGE, "99"],
            ["4", "images/4.jpg", "Metal", values.NEGATIVE, "[5, 5, -1, 60]"],
            ["5", "images/5.jpg", "Paper", boxes.CROWD, "[5.0, 5.0, 60.0, 60.0]"],
        ]

    code, _, stderr = command(*words[:-1], "strict", "--strict", cwd=tmp_path)

    assert code == 1
    assert stderr.count("U207: starter explain U207") == 3
    assert not (tmp_path / "strict").exists()
