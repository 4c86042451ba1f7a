"""Fixtures: a small data set that is easy to tell apart, and plugins written in the test."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from starter.competition import CompetitionFile
from starter.dataset import Dataset
from starter.dataset_writer import Description, Item, Split, write_dataset
from starter.errors import HostError
from starter.room import Level, Room, choose, missing

CLASSES = ("Metal", "Paper", "Plastic")

GOOD = '''
import torch
from torch import nn
from torchvision.transforms import v2
from starter import Submission, hookimpl

class Network(nn.Module):
    """Three templates of colour: exactly right on the drawn data set."""
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 3)
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(3))
            self.head.bias.zero_()
    def forward(self, images):
        return self.head(images.mean((2, 3)))

@hookimpl
def starter_submission(competition):
    return Submission(
        model=Network(),
        transforms=[v2.Resize((8, 8)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
'''
"""3 x 3 MACs in the head, 3 x 8 x 8 in the mean: 201."""


def drawn_image(label: int, seed: int) -> bytes:
    """Return a JPEG whose strongest channel is its label."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(40, 120, (12, 16, 3), dtype=np.uint8)
    pixels[:, :, label] += 100
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def room() -> Iterator[Room]:
    """One room for all tests that lock their plugin in, at the strictest level there is."""
    rules = CompetitionFile(name="test")
    try:
        level = choose(rules, "auto")
    except HostError as error:
        pytest.skip(str(error))
    with Room(level, user=rules.worker_user, limits=rules.limits) as shared:
        yield shared


@pytest.fixture(scope="module", params=[Level.BOX, Level.LOCKDOWN])
def each_room(request: pytest.FixtureRequest) -> Iterator[Room]:
    """One room for all tests of a module, at each level that this machine has."""
    level, rules = request.param, CompetitionFile(name="test")
    lacks = missing(level, user=rules.worker_user, limits=rules.limits)
    if lacks:
        pytest.skip(f"no {level} on this machine: {lacks.splitlines()[-1]}")
    with Room(level, user=rules.worker_user, limits=rules.limits) as shared:
        yield shared


@pytest.fixture(scope="session")
def easy_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Sixty images in three classes, thirty of them for the evaluation."""
    splits: tuple[Split, ...] = ("train", "Public", "Private", "train")
    items = (Item(f"{i:03d}.jpg", drawn_image(i % 3, i), i % 3, splits[i % 4]) for i in range(60))
    folder = tmp_path_factory.mktemp("data") / "easy"
    return write_dataset(folder, items, Description(name="easy", classes=CLASSES))


@pytest.fixture
def write_plugin(tmp_path: Path) -> Callable[..., Path]:
    """Write NAME.py into a folder of submissions; `changes` replace parts of the good plugin."""

    def write(name: str, *changes: tuple[str, str], text: str = GOOD) -> Path:
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "submissions" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write
