"""What counts as nearly the same picture, and what does not."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from photo_server import photograph
from PIL import Image, ImageEnhance

from starter.data.check import check
from starter.data.folders import import_folder
from starter.data.near_duplicates import ALIKE, alike_pairs, look, merged_groups
from starter.data.writer import Description, Item, Split, write_dataset

TRASHNET = Path(__file__).parents[3] / "shared" / "data" / "trashnet-150"


def picture(seed: int) -> Image.Image:
    return Image.open(io.BytesIO(photograph(seed))).convert("RGB")


def saved(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        lambda p: Image.open(io.BytesIO(saved(p, 30))),
        lambda p: p.resize((97, 65)),
        lambda p: ImageEnhance.Brightness(p).enhance(0.7),
        lambda p: ImageEnhance.Contrast(p).enhance(0.6),
        lambda p: p.crop((3, 2, 238, 158)),
        lambda p: p.convert("L"),
    ],
    ids=["saved badly", "scaled", "darker", "flatter", "moved by 1 %", "grey"],
)
def test_the_same_photograph_is_found_again(change: Callable[[Image.Image], Image.Image]) -> None:
    looks = [look(picture(1)), look(change(picture(1)))]
    assert alike_pairs(looks) == [(0, 1)]


def test_other_photographs_are_not_alike() -> None:
    """4,950 pairs of coarse noise."""
    assert alike_pairs([look(picture(seed)) for seed in range(100)]) == []


def test_plain_pictures_and_ramps_are_like_nothing() -> None:
    ramp = np.tile(np.linspace(0, 255, 64, dtype=np.uint8), (48, 1))
    plain = [Image.new("RGB", (64, 48), (200, 200, 200)), Image.fromarray(ramp), Image.fromarray(ramp)]
    assert alike_pairs([look(image) for image in plain]) == []
    assert alike_pairs([]) == []


def test_pairs_across_blocks_of_the_table_are_found() -> None:
    generator = np.random.default_rng(0)
    table = generator.normal(size=(3000, 128)).astype(np.float32)
    table[2999] = table[5]
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    assert alike_pairs(list(table)) == [(5, 2999)]
    assert ALIKE == 0.95


def test_groups_hang_together_over_any_number_of_steps() -> None:
    assert merged_groups(list("abcdef"), [(4, 5), (3, 4), (0, 3)]) == ["a", "b", "c", "a", "a", "a"]


def test_near_duplicates_of_a_folder_are_on_one_side(tmp_path: Path) -> None:
    """Each of 20 photographs three times, saved at three qualities: 60 pairs, 20 groups."""
    for number in range(20):
        for quality in (95, 80, 60):
            path = tmp_path / "in" / ("can", "jar")[number % 2] / f"{number}-{quality}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(saved(picture(number), quality))
    report = import_folder(tmp_path / "in", tmp_path / "out")
    drawn_apart = import_folder(tmp_path / "in", tmp_path / "apart", near_duplicates=False)

    assert (report.alike, drawn_apart.alike) == (60, 0)
    assert len({row.group for row in report.dataset.train()} - {""}) == 14
    assert not any(same.leaks for same in check(tmp_path / "out").duplicates)
    assert any(same.leaks for same in check(tmp_path / "apart").duplicates)


def test_the_check_tells_exact_and_near_duplicates_and_where_they_are(tmp_path: Path) -> None:
    splits: tuple[Split, ...] = ("train", "Public", "validation", "Private", "train", "Private")
    files = [photograph(1), photograph(1), photograph(2), photograph(3), saved(picture(2), 40), photograph(4)]
    items = [
        Item(f"{i}.jpg", data, i % 2, split)
        for i, (data, split) in enumerate(zip(files, splits, strict=True))
    ]
    write_dataset(tmp_path / "d", items, Description(name="d", classes=("a", "b")))

    exact, near = check(tmp_path / "d").duplicates

    assert (exact.image_ids, exact.exact, exact.leaks) == (("0.jpg", "1.jpg"), True, True)
    assert (exact.splits, exact.labels) == (("train", "Public"), ("a", "b"))
    assert (near.exact, near.leaks) == (False, False)  # training and validation are one side
    assert set(near.image_ids) == {"2.jpg", "4.jpg"}


@pytest.mark.long
@pytest.mark.skipif(not TRASHNET.is_dir(), reason="the TrashNet sample is not beside the checkout")
def test_the_split_of_trashnet_is_free_of_duplicates(tmp_path: Path) -> None:
    report = import_folder(TRASHNET, tmp_path / "out")
    found = check(tmp_path / "out")

    assert report.alike == 30
    assert sum(same.exact for same in found.duplicates) == 3
    assert not any(same.leaks for same in found.duplicates)
    assert found.problems == []
