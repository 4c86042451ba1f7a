"""The data set on disk: what its files must be, and reading them.

Owned here: the schema of dataset.toml and the three CSV files, and the fingerprint.
The images are read by image_store.py. Writing is in writer.py, importing a folder in
folders.py, the full check with every image decoded in check.py.
"""

import csv
import hashlib
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from starter.contract.errors import Code, Problem, UsageError, problem, usage_error
from starter.contract.hookspecs import Competition
from starter.contract.names import skeleton
from starter.contract.text import Table, read_text
from starter.data.image_store import ImageError, ImageStore, decode_image, id_problem

__all__ = [
    "INFO_NAME", "SOLUTION_NAME", "TEST_NAME", "TRAIN_NAME",
    "Dataset", "DatasetInfo", "ImageError", "ImageStore", "Labelled", "Solution",
    "decode_image", "open_dataset",
]  # fmt: skip

INFO_NAME, TRAIN_NAME, TEST_NAME, SOLUTION_NAME = "dataset.toml", "train.csv", "test.csv", "solution.csv"

_ANSWER = ("image_id", "label", "Usage", "group")
"""The columns of solution.csv that mean the same in every data set; one more makes groups."""

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


@dataclass(frozen=True)
class Labelled:
    """One row of train.csv."""

    image_id: str
    """Path of the image inside images/."""
    label: int
    """Position of its class in DatasetInfo.classes."""
    group: str = ""
    """Images of one group (one photograph) belong into one split; empty if not known."""
    is_validation: bool = False
    """Whether it is marked for choosing among models rather than for training."""


@dataclass(frozen=True)
class Solution:
    """One row of solution.csv."""

    image_id: str
    """Path of the image inside images/."""
    label: int
    """Position of its class in DatasetInfo.classes."""
    usage: Literal["Public", "Private"]
    """Which leaderboard it counts for."""
    group: str = ""
    """As in Labelled."""
    f1_group: str = ""
    """Which images have an F1 of their own with this one: a camera, a place; empty without that column."""


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
        info = self.info
        return Competition(
            num_classes=len(info.classes), class_names=info.classes, mean=info.mean, std=info.std
        )

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
        """Hash of what the data set says: "sha256:" and 64 hex digits.

        It covers the classes, the rows with their groups, and the images' bytes, and not how they are stored:
        images/ and images.zip of one content, or other line ends, give the same. What is marked
        for validation does not count: it moves no score.

        Raises:
            ImageError: an image is missing.
        """
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
        for image_id in sorted([row.image_id for row in self._train] + list(self._test)):
            yield hashlib.sha256(self.images.read(image_id)).digest()


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
    tables = _Tables(path, info.classes if info else None, problems)
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


class _Tables:
    """Reads the CSV files and notes what is wrong with them."""

    def __init__(self, root: Path, classes: tuple[str, ...] | None, problems: list[Problem]) -> None:
        self.root, self.problems = root, problems
        self.labels = {name: label for label, name in enumerate(classes)} if classes else None
        self.grouped_by = ""

    def note(self, where: str, got: str, expected: str = "") -> None:
        self.problems.append(problem(Code.BAD_DATASET, where=where, got=got, expected=expected))

    def rows(self, name: str, needed: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield (where, row) for every row that is well formed, with an id that may be used."""
        try:
            table = Table(read_text(self.root / name))
            if missing := [column for column in needed if column not in (table.rows.fieldnames or ())]:
                self.note(name, f"no column {', '.join(missing)}", f"the columns {','.join(needed)}")
                return
            for row in table.rows:
                where = f"{name}:{table.line}"
                if None in row:
                    self.note(where, "more fields than the header has")
                elif reason := id_problem(row["image_id"]):
                    self.note(where, f"image_id {row['image_id']!r}: {reason}")
                else:
                    yield where, row
        except FileNotFoundError:
            self.note(name, "no such file")
        except (csv.Error, UnicodeDecodeError) as error:
            self.note(name, str(error))

    def label(self, where: str, name: str) -> int:
        """The label of class `name`; without a valid dataset.toml every name will do."""
        if self.labels is None:
            return 0
        if name not in self.labels:
            self.note(where, f"label {name!r}", f"one of {', '.join(self.labels)}")
        return self.labels.get(name, 0)

    def train(self) -> list[Labelled]:
        rows = self.rows(TRAIN_NAME, ("image_id", "label"))
        trained = []
        for where, row in rows:
            split = row.get("split", "") or "train"
            if split not in {"train", "validation"}:
                self.note(where, f"split {split!r}", "train or validation")
            label, group = self.label(where, row["label"]), row.get("group", "")
            trained.append(Labelled(row["image_id"], label, group, split == "validation"))
        return trained

    def test(self) -> list[str]:
        return [row["image_id"] for _, row in self.rows(TEST_NAME, ("image_id",))]

    def solution(self) -> list[Solution]:
        answers: list[Solution] = []
        for where, row in self.rows(SOLUTION_NAME, ("image_id", "label", "Usage")):
            if not answers:
                self.grouped_by = self._group_column(row)
            label = self.label(where, row["label"])
            usage: Literal["Public", "Private"] = "Public" if row["Usage"] == "Public" else "Private"
            if row["Usage"] != usage:
                self.note(where, f"Usage {row['Usage']!r}", "Public or Private")
            f1_group = row[self.grouped_by].strip() if self.grouped_by else ""
            if self.grouped_by and not f1_group:
                self.note(where, f"no {self.grouped_by}", "the name of the image's group")
            answers.append(Solution(row["image_id"], label, usage, row.get("group", ""), f1_group))
        return answers

    def _group_column(self, row: dict[str, str]) -> str:
        """Return the header of the one column that is none of those that every data set has."""
        others = [name for name in row if name.strip() and name not in _ANSWER]
        if len(others) > 1:
            self.note(SOLUTION_NAME, f"the columns {', '.join(others)}", "at most one column of groups")
        return others[0] if others else ""

    def compare(self, train: list[Labelled], test: list[str], solution: list[Solution]) -> None:
        """Note ids that stand twice, in the wrong file, or in one file only."""
        trained, answered = [row.image_id for row in train], [row.image_id for row in solution]
        for name, ids in ((TRAIN_NAME, trained), (TEST_NAME, test), (SOLUTION_NAME, answered)):
            self._list_ids(name, "listed twice", {i for i, count in Counter(ids).items() if count > 1})
            if not ids:
                self.note(name, "no valid row")
        self._list_ids(TEST_NAME, f"also in {TRAIN_NAME}", set(trained) & set(test))
        if test and answered:
            self._list_ids(TEST_NAME, f"not in {SOLUTION_NAME}", set(test) - set(answered))
            self._list_ids(SOLUTION_NAME, f"not in {TEST_NAME}", set(answered) - set(test))

    def _list_ids(self, name: str, complaint: str, ids: set[str]) -> None:
        for image_id in sorted(ids):
            self.note(f"{name}: {image_id}", complaint)
