"""The drawn scenes: valid COCO, the same for one seed, unequal classes, and nothing flat."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from starter.contract.errors import Code, UsageError
from starter.data.coco.annotations import read_coco
from starter.data.dataset import open_dataset
from starter.data.synthetic.objects import Light, frame_for, light_up
from starter.data.synthetic.scenes import LEAST_VISIBLE, SHARES, draw_scene, draw_scenes
from starter.data.synthetic.textures import GROUNDS, Field
from starter.data.synthetic.waste import KINDS, Kind

PACKAGED = Path(__file__).parents[2] / "data" / "waste"
LIGHT = Light(direction=(0.5, 0.5, 0.7071), ambient=0.4, phase=(1.0, 2.0))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes")
    draw_scenes(out, num_scenes=20, seed=5)
    return out


def test_the_annotations_are_valid_coco_inside_their_pictures(scenes: Path) -> None:
    coco = read_coco(scenes / "annotations.json")
    sizes = {image.id: (image.width, image.height) for image in coco.images}

    assert coco.categories == tuple(KINDS)
    for image in coco.images:
        with Image.open(scenes / "images" / image.file_name) as picture:
            assert picture.size == sizes[image.id]
    for annotation in coco.annotations:
        assert annotation.bbox is not None
        assert annotation.image is not None
        left, top, wide, tall = annotation.bbox
        assert 0 <= left <= left + wide <= sizes[annotation.image.id][0]
        assert 0 <= top <= top + tall <= sizes[annotation.image.id][1]


def test_the_file_has_every_field_that_coco_tools_read(scenes: Path) -> None:
    coco = json.loads((scenes / "annotations.json").read_text(encoding="utf-8"))

    assert coco.keys() == {"info", "licenses", "images", "annotations", "categories"}
    needed = {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation"}
    assert all(annotation.keys() == needed for annotation in coco["annotations"])
    assert {image["license"] for image in coco["images"]} == {coco["licenses"][0]["id"]}
    assert all(category["supercategory"] for category in coco["categories"])
    assert len({annotation["id"] for annotation in coco["annotations"]}) == len(coco["annotations"])


def test_one_seed_gives_one_set_of_files_and_another_seed_another(scenes: Path, tmp_path: Path) -> None:
    draw_scenes(tmp_path / "same", num_scenes=3, seed=5)
    draw_scenes(tmp_path / "other", num_scenes=3, seed=6)

    def files(folder: Path) -> list[bytes]:
        return [(folder / "images" / f"{number:06d}.jpg").read_bytes() for number in range(3)]

    assert files(tmp_path / "same") == files(scenes)
    assert not set(files(tmp_path / "other")) & set(files(scenes))
    same, other = (
        json.loads((tmp_path / name / "annotations.json").read_text(encoding="utf-8"))["annotations"]
        for name in ("same", "other")
    )
    first = json.loads((scenes / "annotations.json").read_text(encoding="utf-8"))["annotations"]
    assert same == [annotation for annotation in first if annotation["image_id"] < 3]
    assert same != other


@pytest.mark.slow
def test_there_are_crowds_and_slips_for_the_cropping_to_skip() -> None:
    found = [draw_scene(np.random.default_rng(seed), (96, 120))[1] for seed in range(60)]
    annotations = [annotation for scene in found for annotation in scene]

    assert any(annotation["iscrowd"] for annotation in annotations)
    assert any(min(annotation["bbox"][2:]) < 4 for annotation in annotations)


def test_the_packaged_set_is_as_unequal_as_it_should_be() -> None:
    """The shares of its classes are the shares that were asked for, within 3 points."""
    dataset = open_dataset(PACKAGED)
    labels = [row.label for row in dataset.train()] + [row.label for row in dataset.solution()]
    counts = Counter(dataset.info.classes[label] for label in labels)

    assert sum(SHARES.values()) == pytest.approx(1)
    assert list(SHARES) == list(KINDS) == list(dataset.info.classes)
    for name, share in SHARES.items():
        assert counts[name] / len(labels) == pytest.approx(share, abs=0.03)


def test_a_box_holds_what_is_seen_of_the_object() -> None:
    """The area is the number of visible pixels, so it is never more than the box."""
    assert 0 < LEAST_VISIBLE < 1
    for seed in range(10):
        for annotation in draw_scene(np.random.default_rng(seed), (150, 200))[1]:
            wide, tall = annotation["bbox"][2:]
            assert annotation["area"] <= wide * tall


def test_progress_is_told_scene_by_scene(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    draw_scenes(tmp_path / "s", num_scenes=2, size=(60, 40), on_progress=lambda *step: seen.append(step))
    assert seen == [(1, 2), (2, 2)]


def test_a_folder_with_files_is_not_written_to(scenes: Path) -> None:
    with pytest.raises(UsageError) as caught:
        draw_scenes(scenes, num_scenes=1)
    assert caught.value.problems[0].code == Code.TARGET_EXISTS


@pytest.mark.parametrize("kind", [k for kinds in KINDS.values() for k in dict.fromkeys(kinds)])
def test_every_kind_is_drawn_whole_and_with_relief(kind: Kind) -> None:
    """It covers some of its frame, does not touch the frame's edge much, and is not of one tone."""
    frame = frame_for(np.random.default_rng(3), 80)
    patch = kind(frame)
    lit = light_up(patch, frame, LIGHT)
    inside = patch.mask > 0.5

    assert 0.02 < inside.mean() < 0.9
    assert inside[[0, -1]].mean() < 0.1
    assert np.isfinite(lit).all()
    assert lit[inside].std() > 0.01
    assert lit.dtype == patch.mask.dtype == np.float32


@pytest.mark.parametrize("kind", GROUNDS)
def test_every_ground_is_a_picture_with_texture(kind: object) -> None:
    assert callable(kind)
    picture: Field = kind(np.random.default_rng(0), (60, 90))
    assert picture.shape == (60, 90, 3)
    assert picture.std() > 0.005
