"""Cutting COCO boxes: every box is accounted for, and no photograph is in two splits."""

import io
import json
from collections import Counter, defaultdict
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from starter.contract.errors import Code, UsageError
from starter.data.coco import boxes as co
from starter.data.coco.annotations import CocoImage, read_coco
from starter.data.coco.crops import crop_dataset
from starter.data.coco.mapping import read_mapping
from starter.data.coco.report import CropReport
from starter.data.options import CropOptions
from starter.data.writer import Shares

TACO = Path(__file__).parents[3] / "shared" / "data" / "taco" / "annotations.json"
MAPPINGS = Path(str(files("starter.data.coco"))) / "mappings"
SHIPPED = {
    "taco-6": ("Metal", "Paper", "Paperpack", "Plastic", "Plasticbag", "Styrofoam"),
    "taco-9": (
        "Battery", "Clothing", "Glass", "Metal", "Paper", "Paperpack", "Plastic", "Plasticbag", "Styrofoam",
    ),
}  # fmt: skip
SIZE = (200, 100)


def annotation(
    number: int, picture: int, box: list[float], category: int = 1, crowd: int = 0
) -> dict[str, Any]:
    return {"id": number, "image_id": picture, "category_id": category, "bbox": box, "iscrowd": crowd}


def eight_pictures() -> dict[str, Any]:
    """Each has one can, two bottles and a jar; picture 7 also has one box of every kind that is skipped."""
    boxes = []
    for picture in range(8):
        boxes += [
            annotation(10 * picture, picture, [5, 5, 60, 40], 1),
            annotation(10 * picture + 1, picture, [80.5, 10.2, 30, 50], 2),
            annotation(10 * picture + 2, picture, [120, 20, 100, 50], 2),
            annotation(10 * picture + 3, picture, [0, 0, 30, 30], 3),
        ]
    boxes += [
        annotation(100, 7, [1, 1, 50, 50], crowd=1),
        annotation(101, 7, [1, 1, 0, 50]),
        annotation(102, 7, [300, 1, 50, 50]),
        annotation(103, 7, [180, 1, 50, 50]),
        annotation(104, 7, [5, 5, 60, 40], 1),
    ]
    return {
        "images": [
            {"id": i, "file_name": f"p{i}.jpg", "width": SIZE[0], "height": SIZE[1]} for i in range(8)
        ],
        "annotations": boxes,
        "categories": [
            {"id": i, "name": n, "supercategory": "x"} for i, n in ((1, "can"), (2, "bottle"), (3, "jar"))
        ],
    }


class Source:
    """A COCO file, its pictures and a mapping, on disk."""

    def __init__(self, root: Path, coco: dict[str, Any]) -> None:
        self.root, self.coco = root, coco
        (root / "images").mkdir()
        self.mapping = root / "mapping.toml"
        self.mapping.write_text(
            'skip = ["jar"]\n[classes]\nPlastic = ["bottle"]\nMetal = ["can"]\n', encoding="utf-8"
        )
        for entry in coco["images"]:
            # A colour for each column, so that a crop shows where it was cut.
            picture = Image.new("RGB", SIZE)
            picture.putdata([(x, 25 * entry["id"], 0) for _ in range(SIZE[1]) for x in range(SIZE[0])])
            picture.save(root / "images" / entry["file_name"], quality=95)

    def crop(self, **options: Any) -> CropReport:
        (self.root / "a.json").write_text(json.dumps(self.coco), encoding="utf-8")
        options.setdefault("mapping", self.mapping)
        return crop_dataset(
            self.root / "a.json", self.root / "images", self.root / "out", shares=Shares(test=0.5), **options
        )

    def problems(self, **options: Any) -> list[tuple[str, str]]:
        with pytest.raises(UsageError) as caught:
            self.crop(**options)
        assert not (self.root / "out").exists()
        return [(p.code.value, f"{Path(p.where).name} {p.got}") for p in caught.value.problems]


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path, eight_pictures())


def test_every_box_is_used_or_skipped_for_a_counted_reason(source: Source) -> None:
    report = source.crop()

    can, bottle, jar = report.rows
    assert (can.boxes, can.used, can.class_name) == (13, 8, "Metal")
    assert can.skipped == {co.CROWD: 1, co.NO_AREA: 1, co.OUTSIDE: 1, co.SMALL: 1, co.DUPLICATE: 1}
    assert (bottle.boxes, bottle.used, bottle.skipped) == (16, 16, {})
    assert (jar.boxes, jar.used, jar.class_name, jar.skipped) == (8, 0, "", {co.SKIPPED: 8})
    total = report.total
    assert total.boxes == total.used + total.skipped.total() == len(source.coco["annotations"])
    assert len(report.dataset.images.ids()) == total.used == 24


def test_the_order_of_the_mapping_file_is_the_label_order(source: Source) -> None:
    assert source.crop().dataset.info.classes == ("Plastic", "Metal")


def test_without_a_mapping_the_categories_are_the_classes(source: Source) -> None:
    assert source.crop(mapping=None).dataset.info.classes == ("can", "bottle", "jar")


def test_a_crop_is_the_part_of_the_picture_under_its_box(source: Source) -> None:
    """Box (80.5, 10.2, 30, 50): columns 80 to 111. Box (120, 20, 100, 50) ends at the border, 200."""
    dataset = source.crop().dataset
    crops = [dataset.images.open(image_id) for image_id in dataset.images.ids()]
    sizes = Counter(crop.size for crop in crops)

    assert sizes == {(60, 40): 8, (31, 51): 8, (80, 50): 8}
    lefts = {crop.size: crop.getpixel((0, 20)) for crop in crops}
    expected = {(60, 40): 5, (31, 51): 80, (80, 50): 120}
    for size, pixel in lefts.items():
        assert isinstance(pixel, tuple)
        assert pixel[0] == pytest.approx(expected[size], abs=8)


def test_a_margin_widens_the_box_inside_the_picture_and_max_side_caps_it(source: Source) -> None:
    """6 pixels around (5, 5, 60, 40), the border being 5 away: 71 x 51, which is 40 x 29 when capped."""
    dataset = source.crop(options=CropOptions(margin=0.1, max_side=40)).dataset
    sizes = {dataset.images.open(image_id).size for image_id in dataset.images.ids()}

    assert (40, 29) in sizes
    assert max(max(size) for size in sizes) == 40


def test_all_crops_of_a_photograph_are_in_one_split(source: Source) -> None:
    dataset = source.crop().dataset
    splits = defaultdict(set)
    for row in dataset.train():
        splits[row.group].add("train")
    for answer in dataset.solution():
        splits[answer.group].add(answer.usage)

    assert len(splits) == 8
    assert Counter(name for names in splits.values() for name in names) == {
        "train": 4, "Public": 2, "Private": 2,
    }  # fmt: skip


def test_missing_and_broken_pictures_are_all_named_and_nothing_is_written(source: Source) -> None:
    (source.root / "images" / "p2.jpg").unlink()
    (source.root / "images" / "p5.jpg").write_bytes(b"damaged")

    (code, missing), (_, broken) = source.problems()

    assert code == "U203"
    assert missing.startswith("p2.jpg no such file")
    assert broken.startswith("p5.jpg cannot be decoded")


def test_a_picture_of_another_shape_than_annotated_is_left_out_and_named(source: Source) -> None:
    Image.new("RGB", (60, 60)).save(source.root / "images" / "p3.jpg")
    report = source.crop()

    assert report.other_shape == ["p3.jpg: 60x60, annotated as 200x100"]
    assert report.total.skipped[co.OTHER_SHAPE] == 3
    assert report.total.boxes == report.total.used + report.total.skipped.total()


def test_a_picture_that_is_stored_turned_is_cut_upright(source: Source) -> None:
    """Orientation 8: stored 100 x 200 and shown 200 x 100, as it is annotated."""
    exif = Image.Exif()
    exif[0x0112] = 8
    turned = Image.open(source.root / "images" / "p0.jpg").transpose(Image.Transpose.ROTATE_270)
    turned.save(source.root / "images" / "p0.jpg", quality=95, exif=exif)

    assert source.crop().other_shape == []


def test_unmapped_categories_are_all_listed(source: Source) -> None:
    source.mapping.write_text('[classes]\nMetal = ["can", "can"]\n', encoding="utf-8")
    assert source.problems() == [
        ("U205", "mapping.toml 'can' is listed 2 times"),
        ("U205", 'mapping.toml 2 categories are neither in a class nor skipped: "bottle", "jar"'),
    ]


def test_an_existing_target_is_refused_before_any_work(source: Source) -> None:
    (source.root / "out").mkdir()
    with pytest.raises(UsageError) as caught:
        source.crop()
    assert caught.value.problems[0].code == Code.TARGET_EXISTS


@cache
def plain_picture(width: int, height: int) -> Image.Image:
    return Image.new("L", (width, height), 128)


@pytest.mark.long
@pytest.mark.skipif(not TACO.is_file(), reason="TACO's annotations are not beside the checkout")
@pytest.mark.parametrize("name", SHIPPED)
def test_taco_is_cropped_with_every_category_and_box_accounted_for(tmp_path: Path, name: str) -> None:
    """Its 1,500 photographs are not needed: plain pictures of their sizes stand in for them."""
    mapping = MAPPINGS / f"{name}.toml"

    def open_image(entry: CocoImage) -> Image.Image:
        assert entry.size is not None
        return plain_picture(*entry.size)

    report = crop_dataset(
        TACO, tmp_path, tmp_path / "out",
        mapping=mapping, options=CropOptions(max_side=8, quality=50), zip_images=True, open_image=open_image,
    )  # fmt: skip

    assert len(report.rows) == 60
    assert report.total.boxes == report.total.used + report.total.skipped.total() == 4784
    assert report.total.used == len(report.dataset.images.ids())
    assert report.dataset.info.classes == SHIPPED[name]
    assert report.alike == []  # plain pictures are like nothing
    trained = {row.group for row in report.dataset.train()}
    public = {row.group for row in report.dataset.solution() if row.usage == "Public"}
    private = {row.group for row in report.dataset.solution() if row.usage == "Private"}
    assert not trained & public
    assert not trained & private
    assert not public & private
    for label in range(len(SHIPPED[name])):
        train = sum(row.label == label for row in report.dataset.train())
        test = sum(row.label == label for row in report.dataset.solution())
        # TACO has 2 batteries and 7 shoes.
        assert test / (train + test) == pytest.approx(0.3, abs=0.05 if train + test > 10 else 0.21)


@pytest.mark.skipif(not TACO.is_file(), reason="TACO's annotations are not beside the checkout")
@pytest.mark.parametrize("name", SHIPPED)
def test_the_taco_mappings_name_nothing_that_taco_does_not_have(name: str) -> None:
    coco = read_coco(TACO)
    mapping = read_mapping(MAPPINGS / f"{name}.toml", coco.categories)
    names = {name for group in (*mapping.classes.values(), mapping.skip) for name in group}
    assert names == set(coco.categories)


def test_crops_are_written_at_the_quality_asked_for(source: Source) -> None:
    def bytes_at(quality: int) -> int:
        dataset = source.crop(options=CropOptions(quality=quality)).dataset
        size = sum(len(dataset.images.read(image_id)) for image_id in dataset.images.ids())
        source.root.joinpath("out").rename(source.root / f"q{quality}")
        return size

    assert bytes_at(30) < bytes_at(95)


def test_a_pluggable_source_of_pictures_takes_the_place_of_files(source: Source) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", SIZE, (200, 10, 10)).save(buffer, "PNG")
    report = source.crop(open_image=lambda _: Image.open(io.BytesIO(buffer.getvalue())))

    pixel = report.dataset.images.open(report.dataset.images.ids()[0]).getpixel((3, 3))
    assert isinstance(pixel, tuple)
    assert pixel[0] == pytest.approx(200, abs=8)
