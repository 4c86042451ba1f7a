"""Kept images: the same bits as decoded ones, bounded, shared, and never half a file."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import transforms as v1
from torchvision.transforms import v2

from starter.contract.errors import ParticipantError, UsageError
from starter.contract.protocol import KeptImages
from starter.data.dataset import Dataset
from starter.evaluation.runner.image_batches import image_batches, keep_images
from starter.evaluation.runner.image_cache import ImageCache, Images
from starter.submission import pipeline, transforms
from starter.submission.transform_records import TransformRecord

FLOAT = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
NORMALIZE = v2.Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
PARTED: dict[str, list[Any]] = {
    "v2": [v2.Resize((9, 7)), *FLOAT, NORMALIZE],
    "v2 on tensors": [v2.ToImage(), v2.Resize((9, 7), antialias=True), FLOAT[1], NORMALIZE],
    "v1": [v1.Resize((9, 7)), v1.ToTensor(), v1.Normalize((0.4,) * 3, (0.2,) * 3)],
    "v1 by type": [v1.Resize((9, 7)), v1.PILToTensor(), v1.ConvertImageDtype(torch.float32)],
    "grey": [v2.Resize((9, 7)), v2.Grayscale(), *FLOAT],
    "unscaled": [v2.CenterCrop(9), v2.ToImage(), v2.ToDtype(torch.float32)],
}
WHOLE: dict[str, list[Any]] = {
    "resized as float": [*FLOAT, v2.Resize((9, 7)), NORMALIZE],
    "normalized before a border": [v2.Resize((9, 7)), *FLOAT, NORMALIZE, v2.Pad(1)],
}


def records_of(steps: Sequence[Any]) -> list[TransformRecord]:
    return transforms.describe(list(steps))


def kept_batches(
    dataset: Dataset, ids: Sequence[str], records: list[TransformRecord], kept: KeptImages
) -> Iterator[torch.Tensor]:
    """Keep images as the keeper does, then read them as the runner does."""
    keep_images(dataset.root, ids, records, kept)
    yield from image_batches(dataset.root, ids, records, 8, kept)


@pytest.mark.parametrize("name", [*PARTED, *WHOLE])
def test_decoded_kept_and_found_again_are_the_same_bits(
    name: str, easy_dataset: Dataset, tmp_path: Path
) -> None:
    records = records_of({**PARTED, **WHOLE}[name])
    ids = easy_dataset.test_ids()
    build = pipeline.build(records)
    expected = torch.stack([build(easy_dataset.images.open(i)) for i in ids])
    kept = KeptImages(folder=tmp_path, limit_mb=10, fingerprint="sha256:easy")

    first, second = (torch.cat(list(kept_batches(easy_dataset, ids, records, kept))) for _ in range(2))
    without = torch.cat(list(image_batches(easy_dataset.root, ids, records, 8)))

    (file,) = tmp_path.iterdir()
    assert np.load(file).dtype == (np.uint8 if name in PARTED else np.float32)
    assert torch.equal(first, expected)
    assert torch.equal(second, expected)
    assert torch.equal(without, expected)


def test_kept_images_are_read_and_not_decoded_again(easy_dataset: Dataset, tmp_path: Path) -> None:
    """Another normalization finds them too; other images, another data set or another size do not."""
    ids = easy_dataset.test_ids()

    def kept(steps: Sequence[Any], ids: Sequence[str] = ids, fingerprint: str = "sha256:easy") -> int:
        where = KeptImages(folder=tmp_path, limit_mb=10, fingerprint=fingerprint)
        torch.cat(list(kept_batches(easy_dataset, ids, records_of(steps), where)))
        return len(list(tmp_path.iterdir()))

    assert kept([v2.Resize((9, 7)), *FLOAT]) == 1
    (file,) = tmp_path.iterdir()
    pixels = np.load(file, mmap_mode="r+")
    pixels[:] = 255
    pixels.flush()
    where = KeptImages(folder=tmp_path, limit_mb=10, fingerprint="sha256:easy")
    batches = image_batches(easy_dataset.root, ids, records_of([v2.Resize((9, 7)), *FLOAT]), 8, where)
    assert torch.cat(list(batches)).eq(1).all()
    assert kept([v2.Resize((9, 7)), *FLOAT, NORMALIZE]) == 1
    assert kept([v2.Resize((9, 8)), *FLOAT]) == 2
    assert kept([v2.Resize((9, 7)), *FLOAT], ids[:-1]) == 3
    assert kept([v2.Resize((9, 7)), *FLOAT], fingerprint="sha256:other") == 4


@pytest.mark.parametrize("damage", [b"", b"no npy file", None])
def test_a_damaged_file_is_written_anew(damage: bytes | None, easy_dataset: Dataset, tmp_path: Path) -> None:
    ids, records = easy_dataset.test_ids(), records_of([v2.Resize((9, 7)), *FLOAT])
    kept = KeptImages(folder=tmp_path, limit_mb=10, fingerprint="sha256:easy")
    expected = torch.cat(list(kept_batches(easy_dataset, ids, records, kept)))
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] if damage is None else damage)

    assert torch.equal(torch.cat(list(kept_batches(easy_dataset, ids, records, kept))), expected)
    assert file.read_bytes() == whole


def fill(cache: ImageCache, key: str, images: Images) -> None:
    with cache.writer(key, len(images)) as writer:
        writer.add(images[:1])
        writer.add(images[1:])


def test_the_least_recently_used_go_when_the_limit_is_reached(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, limit_bytes=3500)
    images = np.zeros((4, 1, 15, 16), np.uint8)  # 960 bytes, and a head of 128
    for key in ("a", "b", "c"):
        fill(cache, key, images)
        time.sleep(0.01)
    cache.touch("a")  # b is now the oldest
    fill(cache, "d", images)

    assert {key for key in "abcd" if cache.find(key, 4) is not None} == {"a", "c", "d"}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3500


def test_what_is_larger_than_the_limit_is_not_kept_and_takes_nobodys_place(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, limit_bytes=2000)
    fill(cache, "small", np.zeros((4, 1, 10, 10), np.uint8))
    fill(cache, "large", np.zeros((4, 1, 100, 100), np.uint8))

    assert cache.find("small", 4) is not None
    assert cache.find("large", 4) is None


def test_images_are_kept_only_where_the_last_was_made(easy_dataset: Dataset, tmp_path: Path) -> None:
    """Where an image is broken, or a step fails on one, none is kept."""
    records = records_of([v2.Resize((9, 7)), *FLOAT])
    kept = KeptImages(folder=tmp_path, limit_mb=10, fingerprint="sha256:easy")
    ids = easy_dataset.test_ids()
    with pytest.raises(UsageError, match=r"none\.jpg"):
        list(kept_batches(easy_dataset, [*ids, "none.jpg"], records, kept))
    small = records_of([v2.ToImage(), v2.Pad(13, padding_mode="reflect"), v2.Resize((9, 7)), FLOAT[1]])
    with pytest.raises(ParticipantError):
        list(kept_batches(easy_dataset, ids, small, kept))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("hindrance", ["no rights", "a file", "full"])
def test_where_nothing_can_be_kept_nothing_fails(
    hindrance: str, easy_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    if hindrance == "a file":
        folder.write_text("")
    elif hindrance == "no rights":
        folder = Path("/proc/starter")  # not even root can make a folder there
    else:
        monkeypatch.setattr("starter.evaluation.runner.image_cache._MARGIN", 2**62)
    kept = KeptImages(folder=folder, limit_mb=10, fingerprint="sha256:easy")
    records, ids = records_of([v2.Resize((9, 7)), *FLOAT]), easy_dataset.test_ids()

    assert len(torch.cat(list(kept_batches(easy_dataset, ids, records, kept)))) == len(ids)
    assert not folder.is_dir() or list(folder.iterdir()) == []


WRITER = """
import sys
import numpy as np
from pathlib import Path
from starter.evaluation.runner.image_cache import ImageCache
cache = ImageCache(Path(sys.argv[1]), 2**30)
number = 0
while True:
    number += 1
    with cache.writer(f"key{number % 5}", 64) as writer:
        for i in range(64):
            writer.add(np.full((1, 3, 64, 64), number % 5, np.uint8))
        print(number, flush=True)
"""


@pytest.mark.long
def test_a_writer_that_is_killed_leaves_no_half_file_and_its_rest_is_removed(tmp_path: Path) -> None:
    draw = random.Random(5)
    for _ in range(12):
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
            for _ in range(2)
        ]
        for writer in writers:
            assert writer.stdout is not None
            writer.stdout.readline()
        time.sleep(draw.random() * 0.05)
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
            writer.communicate()
        for path in tmp_path.glob("*.npy"):
            found = np.load(path)
            assert found.shape == (64, 3, 64, 64)
            assert (found == int(path.stem[3:])).all()
    fill(ImageCache(tmp_path, 2**30), "last", np.zeros((2, 1, 4, 4), np.uint8))
    assert [path for path in tmp_path.iterdir() if path.suffix != ".npy"] == []
