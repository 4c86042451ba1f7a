"""Write a data set: the layout of dataset.py, whole or not at all.

Also the split into training, public and private images, which keeps groups together
and the classes' shares alike.
"""

import json
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from starter.contract.errors import Code, usage_error
from starter.contract.system.files import atomic_write, write_table
from starter.data.dataset import (
    INFO_NAME,
    SOLUTION_NAME,
    TEST_NAME,
    TRAIN_NAME,
    Dataset,
    DatasetInfo,
    decode_image,
    open_dataset,
)
from starter.data.options import Description, Shares

__all__ = [
    "TRAINED", "Description", "Item", "Shares", "Split",
    "assign_splits", "refuse_existing", "shuffled_numbers", "toml_of", "write_dataset",
]  # fmt: skip

Split = Literal["train", "validation", "Public", "Private"]

TRAINED = ("train", "validation")
"""The splits that train.csv holds."""


@dataclass(frozen=True)
class Item:
    """One image on its way into a data set."""

    image_id: str
    """Path inside images/."""
    data: bytes
    """The image file."""
    label: int
    """Position of its class."""
    split: Split
    """Where it goes."""
    group: str = ""
    """Images of one group are in one split."""


def write_dataset(
    out: Path, items: Iterable[Item], description: Description, *, zip_images: bool = False
) -> Dataset:
    """Write the data set to the new folder `out` and open it.

    It is built beside `out` and renamed when it is complete, so an error, also one
    that `items` raises, leaves nothing behind.

    Raises:
        UsageError: `out` exists, or the items do not make a valid data set.
        ImageError: a training image cannot be decoded.
    """
    refuse_existing(out)
    _info(description, mean=(0, 0, 0), std=(1, 1, 1))  # before any work
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out, out.with_name(f".building-{secrets.token_hex(8)}")) as building:
        building.mkdir()
        _write(building, items, description, zip_images=zip_images)
        open_dataset(building)
    return open_dataset(out)


def refuse_existing(out: Path) -> None:
    """Raise UsageError where `out` exists: nothing is overwritten."""
    if out.exists():
        raise usage_error(Code.TARGET_EXISTS, where=str(out), got="it already exists")


def _write(root: Path, items: Iterable[Item], description: Description, *, zip_images: bool) -> None:
    pixels = _PixelStatistics()
    rows: list[tuple[str, str, str, Split]] = []
    with _ImageWriter(root, zip_images=zip_images) as images:
        for item in items:
            images.add(item.image_id, item.data)
            if item.split in TRAINED:
                pixels.add(item)
            rows.append((item.image_id, description.classes[item.label], item.group, item.split))
    rows.sort()
    info = _info(description, mean=pixels.mean(), std=pixels.std())
    (root / INFO_NAME).write_text(toml_of(info), encoding="utf-8", newline="\n")
    train = [row for row in rows if row[3] in TRAINED]
    test = [row for row in rows if row[3] not in TRAINED]
    if not train or not test:
        whole = len({row[2] or row[0] for row in rows})
        raise usage_error(
            Code.BAD_DATASET, where="the split", got=f"{len(rows):,} images on one side, in {whole:,} groups",
            expected="images for training and for evaluation, with groups kept whole",
            hint="Add photographs, change --test-share, or allow near-duplicates on both sides: "
            "--no-near-duplicates",
        )  # fmt: skip
    # The column is there only if it says anything.
    columns = 4 if any(row[3] == "validation" for row in train) else 3
    solution = [(image_id, label, split, group) for image_id, label, group, split in test]
    write_table(
        root / TRAIN_NAME, ("image_id", "label", "group", "split")[:columns], [r[:columns] for r in train]
    )
    write_table(root / TEST_NAME, ("image_id",), [row[:1] for row in test])
    write_table(root / SOLUTION_NAME, ("image_id", "label", "Usage", "group"), solution)


def _info(description: Description, **numbers: tuple[float, float, float]) -> DatasetInfo:
    try:
        return DatasetInfo(**vars(description), **numbers)
    except ValidationError as error:
        first = error.errors()[0]
        place, got = ".".join(map(str, first["loc"])), repr(first["input"])[:200]
        hint = "Join or rename classes in the --mapping file, or rename the class folders."
        raise usage_error(Code.BAD_DATASET, where=place, got=got, expected=first["msg"], hint=hint) from error


def toml_of(info: DatasetInfo) -> str:
    """Return dataset.toml."""
    # JSON's strings, numbers and lists are TOML's too.
    values = info.model_dump(mode="json")
    return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items())


class _ImageWriter:
    """Writes images/ or images.zip."""

    def __init__(self, root: Path, *, zip_images: bool) -> None:
        self._folder = root / "images"
        # Photographs do not deflate, and stored members are read without work.
        self._zip = ZipFile(root / "images.zip", "w", ZIP_STORED) if zip_images else None
        if not zip_images:
            self._folder.mkdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._zip:
            self._zip.close()

    def add(self, image_id: str, data: bytes) -> None:
        if self._zip:
            self._zip.writestr(ZipInfo(image_id), data)  # ZipInfo's date is fixed: same content, same file
            return
        path = self._folder / image_id
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


class _PixelStatistics:
    """Mean and standard deviation of each channel over all pixels of the images added."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: NDArray[np.float64] = np.zeros(3)
        self._squares: NDArray[np.float64] = np.zeros(3)

    def add(self, item: Item) -> None:
        values = np.asarray(decode_image(item.data, item.image_id), np.float64).reshape(-1, 3) / 255
        self._count += len(values)
        self._sum += values.sum(axis=0)
        self._squares += (values**2).sum(axis=0)

    def mean(self) -> tuple[float, float, float]:
        return _triple(self._sum / max(self._count, 1))

    def std(self) -> tuple[float, float, float]:
        variance = self._squares / max(self._count, 1) - (self._sum / max(self._count, 1)) ** 2
        # A set of one flat colour has none; 1e-4 keeps the division by it defined.
        return _triple(np.maximum(np.sqrt(np.maximum(variance, 0)), 1e-4))


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    red, green, blue = (round(float(value), 4) for value in values)
    return red, green, blue


def assign_splits(labels: Sequence[int], groups: Sequence[str], shares: Shares) -> list[Split]:
    """Choose the split of each image: train, validation, Public or Private.

    Groups stay whole; each class is shared out alike as far as they allow.
    """
    rng = np.random.default_rng([shares.seed, 1])
    tested = _draw(labels, groups, shares.test, rng)
    splits: list[Split] = ["Private" if chosen else "train" for chosen in tested]
    _move(splits, "Private", "Public", labels, groups, shares.public, rng)
    _move(splits, "train", "validation", labels, groups, shares.validation, rng)
    return splits


def _move(
    splits: list[Split], source: Split, target: Split, labels: Sequence[int], groups: Sequence[str],
    share: float, rng: np.random.Generator,
) -> None:  # fmt: skip
    """Move a share of one split into another."""
    positions = [i for i, split in enumerate(splits) if split == source]
    chosen = _draw([labels[i] for i in positions], [groups[i] for i in positions], share, rng)
    for i in (i for i, moved in zip(positions, chosen, strict=True) if moved):
        splits[i] = target


def _draw(labels: Sequence[int], groups: Sequence[str], share: float, rng: np.random.Generator) -> list[bool]:
    """Mark about `share` of the images of each class, whole groups at a time.

    Groups go, the largest first and otherwise in random order, to the side that still
    lacks more of their classes; rare classes weigh more.
    """
    names = sorted(set(groups))
    totals = np.bincount(labels, minlength=1).astype(float)
    counts = {name: np.zeros_like(totals) for name in names}
    for label, group in zip(labels, groups, strict=True):
        counts[group][label] += 1
    order = [names[i] for i in rng.permutation(len(names))]
    order.sort(key=lambda name: -counts[name].sum())
    wanted = np.array([1 - share, share])[:, None] * totals
    given = np.zeros_like(wanted)
    marked = set()
    for name in order:
        lacking = (wanted - given) / np.maximum(wanted, 1e-9) / np.maximum(totals, 1)
        side = int(lacking[1] @ counts[name] > lacking[0] @ counts[name])
        given[side] += counts[name]
        if side:
            marked.add(name)
    return [group in marked for group in groups]


def shuffled_numbers(count: int, seed: int) -> Callable[[int], str]:
    """File stems for `count` images: the running numbers, shuffled so that they tell nothing of the class."""
    numbers = np.random.default_rng([seed, 2]).permutation(count)
    return lambda position: f"{numbers[position] + 1:06d}"
