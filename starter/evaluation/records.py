"""The record of one evaluation that an organizer keeps: enough to show the result and to verify it.

An `EvaluationRecord` holds the result, the submission, the rules and the machine;
`Evidence` holds the answers and the program behind it. The JSON Schema is published:
`starter leaderboard --schema`.
"""

import csv
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self

import numpy as np
from pydantic import Field

from starter.contract.competition import CompetitionFile, Limits
from starter.contract.errors import Record
from starter.contract.results import EvaluationResult, Reference, UsageScore
from starter.submission.content import sha256

GRAPH, WEIGHTS_HEADER, TRANSFORMS = "graph.json", "weights.header", "transforms.json"
"""The members of a program's zip."""


class Context(Record):
    """The conditions that a result holds under; when one of them changes, the result is stale."""

    data: str
    """The fingerprint of the data set."""
    baseline: str
    """The hash of the baseline's reference.json."""
    rules: str
    """The hash of the score's constants, the limits and the organizer's cost rules."""
    cost_version: str
    """The version of the cost rule."""

    @classmethod
    def of(cls, competition: CompetitionFile, data_fingerprint: str, reference: Reference) -> Self:
        """Return the conditions that hold now."""
        budget = competition.budget.model_dump(mode="json", exclude_none=True)
        rules = {
            "score": competition.score.model_dump(mode="json", exclude={"cost_version"}),
            "limits": competition.limits.model_dump(mode="json"),
            **({"budget": budget} if budget else {}),
            "operator_costs": [sha256(competition.path(p).read_bytes()) for p in competition.operator_costs],
        }
        return cls(
            data=data_fingerprint,
            baseline=sha256(reference.model_dump_json().encode()),
            rules=sha256(json.dumps(rules, sort_keys=True).encode()),
            cost_version=reference.cost_version,
        )

    def changed(self, now: "Context") -> tuple[str, ...]:
        """Return the names of the conditions that have changed."""
        return tuple(
            name.replace("_", " ")
            for name in type(self).model_fields
            if getattr(self, name) != getattr(now, name)
        )


class EvaluationRecord(Record):
    """One evaluation."""

    schema_version: Literal[1] = 1
    """The version of this record."""
    submission: str
    """The hash of the submission's files; together with `context`, the key of the record."""
    context: Context
    """The conditions that the result holds under."""
    evaluated_at: datetime
    """Time of the evaluation, UTC."""
    result: EvaluationResult
    """The result, with the figures of the Public images only."""
    scores: dict[str, UsageScore] = Field(default_factory=dict)
    """By usage. A participant's copy has only "Public"."""
    limits: Limits
    """The limits of the submission's process."""
    used: dict[str, float] = Field(default_factory=dict)
    """What that process used, under the same names."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Python, torch, torchvision, the kit, the machine and its threads."""
    predictions: str = ""
    """The hash of predictions.csv; empty if there is none."""
    program: str = ""
    """The hash of the program that was counted and run; empty if there is none."""
    left_out: tuple[str, ...] = Field(default=(), exclude_if=lambda names: not names)
    """Further files in the evaluated zip; another zip of the same submission may hold different ones."""

    def for_participant(self, *, withhold_predictions: bool = False) -> "EvaluationRecord":
        """Return the copy for its author: without private figures and without the organizer's paths.

        The time is left out too, because a network can take longer for some images than for others.
        `withhold_predictions` also leaves out the hash of the predictions,
        and the F1 of each group: that of a small group tells which of its images are right.
        """
        hidden = {"f1_by_group": None} if withhold_predictions else {}
        result = self.result.model_copy(update={"path": self.result.name, "seconds": 0.0, **hidden})
        scores = {
            usage: score.model_copy(update=hidden)
            for usage, score in self.scores.items()
            if usage == "Public"
        }
        predictions = "" if withhold_predictions else self.predictions
        return self.model_copy(update={"result": result, "scores": scores, "predictions": predictions})


@dataclass(frozen=True)
class Evidence:
    """What proves an evaluation."""

    labels: np.ndarray[tuple[int], np.dtype[np.uint16]]
    """The answer for each image, in the order of the data set's test.csv."""
    probabilities: np.ndarray[tuple[int], np.dtype[np.float32]]
    """The softmax probability of that answer."""
    program: bytes
    """A zip of the graph, the header of its weights file and its transforms."""

    def to_bytes(self) -> bytes:
        """Return the answers as one block: all labels, then all probabilities."""
        return self.labels.astype("<u2").tobytes() + self.probabilities.astype("<f4").tobytes()

    @staticmethod
    def answers(
        block: bytes,
    ) -> tuple[np.ndarray[tuple[int], np.dtype[np.uint16]], np.ndarray[tuple[int], np.dtype[np.float32]]]:
        """Return the labels and probabilities of a block."""
        count = len(block) // 6
        return np.frombuffer(block[: 2 * count], "<u2"), np.frombuffer(block[2 * count :], "<f4")


def pack_program(graph: bytes, weights_header: bytes, transforms: bytes) -> bytes:
    """Return a program as a zip; equal content gives equal bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        members = {GRAPH: graph, WEIGHTS_HEADER: weights_header, TRANSFORMS: transforms}
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def predictions_csv(
    image_ids: Sequence[str], labels: Sequence[int], probabilities: Sequence[float], classes: Sequence[str]
) -> str:
    """Return answers as a CSV file with the columns image_id, label and probability."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image_id", "label", "probability"])
    for image_id, label, probability in zip(image_ids, labels, probabilities, strict=True):
        writer.writerow([image_id, classes[label], f"{probability:.6f}"])
    return text.getvalue()
