"""The data set on disk: what its files must be, and reading them.

Owned here: the schema of dataset.toml and the fingerprint. The CSV files are read by
tables.py, the images by image_store.py. Writing is in writer.py, importing a folder in
folders.py, the full check with every image decoded in check.py.
"""

import hashlib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from starter.contract.errors import Code, Problem, UsageError, problem, usage_error
from starter.contract.hookspecs import Competition
from starter.contract.names import skeleton
from starter.contract.text import read_text
from starter.data.image_store import ImageError, ImageStore, broken_images, decode_image
from starter.data.tables import SOLUTION_NAME, TEST_NAME, TRAIN_NAME, Labelled, Solution, Tables

__all__ = [
    "INFO_NAME", "SOLUTION_NAME", "TEST_NAME", "TRAIN_NAME",
    "Dataset", "DatasetInfo", "ImageError", "ImageStore", "Labelled", "Solution",
    "decode_image", "open_dataset", "read_info", "read_questions",
]  # fmt: skip

INFO_NAME = "dataset.toml"

Positive = Annotated[float, Field(gt=0)]


class DatasetInfo(BaseModel):
    """The whole of dataset.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """The data set's name."""
    version: str
    """Its version, as its makers count."""
    classes: tuple[str, ...] = Field(min_length=2)
    """Class names; the position is the label."""
    mean: tuple[float, float, float]
    """Mean of the training images, RGB, for values in 0..1."""
    std: tuple[Positive, Positive, Positive]
    """Standard deviation of the training images, RGB, for values in 0..1."""
    licence: str
    """The licence of the images."""
    source: str
    """Where the images come from."""
    made_by: tuple[str, ...] = ()
    """The commands that made it, in order."""

    @field_validator("classes")
    @classmethod
    def _unique(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(classes)) != len(classes) or "" in classes:
            raise ValueError("class names must be unique and non-empty")
        if len(set(map(skeleton, classes))) != len(classes):
            raise ValueError(
                "class names must look different: 1 and l do not, nor do look-alike letters of two alphabets"
            )
        return classes

    @property
    def competition(self) -> Competition:
        """What a plugin may know of the data set."""
        return Competition(
            num_classes=len(self.classes), class_names=self.classes, mean=self.mean, std=self.std
        )


@dataclass(frozen=True)
class Dataset:
    """A data set whose dataset.toml and CSV files are valid. Made by `open_dataset`."""

    root: Path
    """Its folder."""
    info: DatasetInfo
    """Its dataset.toml."""
    images: ImageStore
    """Its images."""
    _train: tuple[Labelled, ...] = field(repr=False)
    _test: tuple[str, ...] = field(repr=False)
    _solution: tuple[Solution, ...] = field(repr=False)
    grouped_by: str = ""
    """The header of the column of solution.csv that makes groups with an F1 of their own; else empty."""

    @property
    def competition(self) -> Competition:
        """What a plugin may know of the data set."""
        return self.info.competition

    def train(self) -> list[Labelled]:
        """The rows of train.csv, in the file's order."""
        return list(self._train)

    def test_ids(self) -> list[str]:
        """The rows of test.csv, in the file's order."""
        return list(self._test)

    def solution(self) -> list[Solution]:
        """The rows of solution.csv, in the order of test.csv."""
        return list(self._solution)

    def fingerprint(self) -> str:
        """Hash of what the data set says: "sha256:" and 64 hex digits; the images are read the first time.

        It covers the classes, the rows with their groups, and the images' bytes, and not how they are stored:
        images/ and images.zip of one content, or other line ends, give the same. What is marked
        for validation does not count: it moves no score.

        Raises:
            UsageError: U203, image files are missing or cannot be read; all of them are named.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        total = hashlib.sha256()
        for part in self._parts():
            total.update(len(part).to_bytes(8, "big"))
            total.update(part)
        return f"sha256:{total.hexdigest()}"

    def _parts(self) -> Iterator[bytes]:
        names = self.info.classes
        yield repr(names).encode()
        for row in self._train:
            yield repr((row.image_id, names[row.label], row.group)).encode()
        for answer in self._solution:
            said = (answer.image_id, names[answer.label], answer.usage, answer.group)
            yield repr((*said, self.grouped_by, answer.f1_group) if self.grouped_by else said).encode()
        broken = []
        for image_id in sorted([row.image_id for row in self._train] + list(self._test)):
            try:
                yield hashlib.sha256(self.images.read(image_id)).digest()
            except ImageError as error:
                broken.append(error)
        if broken:
            raise broken_images(self.root, broken)


def open_dataset(path: Path) -> Dataset:
    """Open the data set in folder `path`. Images are opened later, when they are read.

    Raises:
        UsageError: nothing is there (U201), or dataset.toml or the CSV files are not valid
            (U202; every problem is listed).
    """
    if not (path / INFO_NAME).is_file():
        raise usage_error(Code.NO_DATASET, where=str(path), got=f"no {INFO_NAME}")
    problems: list[Problem] = []
    info = _read_info(path / INFO_NAME, problems)
    tables = Tables(path, info.classes if info else None, problems)
    train, test, solution = tables.train(), tables.test(), tables.solution()
    tables.compare(train, test, solution)
    try:
        images = ImageStore(path)
    except UsageError as error:
        problems.extend(error.problems)
    if problems or info is None:
        raise UsageError(problems)
    place = {image_id: position for position, image_id in enumerate(test)}
    ordered = sorted(solution, key=lambda row: place[row.image_id])
    return Dataset(path, info, images, tuple(train), tuple(test), tuple(ordered), tables.grouped_by)


def read_info(folder: Path) -> DatasetInfo:
    """Read the dataset.toml of a folder.

    Raises:
        UsageError: it is missing (U201) or not valid (U202).
    """
    if not (folder / INFO_NAME).is_file():
        raise usage_error(Code.NO_DATASET, where=str(folder), got=f"no {INFO_NAME}")
    problems: list[Problem] = []
    info = _read_info(folder / INFO_NAME, problems)
    if info is None:
        raise UsageError(problems)
    return info


def read_questions(folder: Path) -> tuple[str, ...]:
    """Read the ids of a folder's test.csv; labels need not be there.

    Raises:
        UsageError: it is not valid (U202).
    """
    problems: list[Problem] = []
    tables = Tables(folder, None, problems)
    ids = tables.test()
    tables.compare([], ids, [])
    problems = [found for found in problems if found.where.startswith(TEST_NAME)]
    if problems:
        raise UsageError(problems)
    return tuple(ids)


def _read_info(path: Path, problems: list[Problem]) -> DatasetInfo | None:
    try:
        return DatasetInfo.model_validate(tomllib.loads(read_text(path)))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(problem(Code.BAD_DATASET, where=str(path), got=str(error)))
    except ValidationError as error:
        for item in error.errors():
            place = ".".join(map(str, item["loc"]))
            problems.append(
                problem(
                    Code.BAD_DATASET, where=f"{path}: {place}", got=repr(item["input"]), expected=item["msg"]
                )
            )
    return None
