"""The three CSV files of a data set: what their rows are, and reading them with everything that is wrong."""

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from starter.contract.errors import Code, Problem, problem
from starter.contract.text import Table, read_text
from starter.data.image_store import id_problem

TRAIN_NAME, TEST_NAME, SOLUTION_NAME = "train.csv", "test.csv", "solution.csv"

_ANSWER = ("image_id", "label", "Usage", "group")
"""The columns of solution.csv that mean the same in every data set; one more makes groups."""


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


class Tables:
    """Reads the CSV files and notes what is wrong with them."""

    def __init__(self, root: Path, classes: tuple[str, ...] | None, problems: list[Problem]) -> None:
        self.root, self.problems = root, problems
        self.labels = {name: label for label, name in enumerate(classes)} if classes else None
        self.grouped_by = ""

    def note(self, where: str, got: str, expected: str = "") -> None:
        """Note something that is wrong."""
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
        """Return the rows of train.csv that are well formed."""
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
        """Return the ids of test.csv that are well formed."""
        return [row["image_id"] for _, row in self.rows(TEST_NAME, ("image_id",))]

    def solution(self) -> list[Solution]:
        """Return the rows of solution.csv that are well formed."""
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
