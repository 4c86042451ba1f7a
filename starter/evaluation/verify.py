"""Verify a result: recompute its figures from the answers and labels, and its cost from the program.

This needs only what is kept with the result: the answer for each image, the graph, the
header of its weights file and its transforms. The values of the weights do not affect the
cost, so zeros replace them; only the bit operations depend on the values, and keep their
recorded number.
"""

import csv
import io
import json
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from starter.contract.competition import CompetitionFile
from starter.contract.errors import Code, Record, Status, usage_error
from starter.contract.protocol import RunnerReply, RunnerRequest
from starter.contract.results import EvaluationResult, Reference, UsageScore
from starter.contract.system.files import write_whole
from starter.data.dataset import Dataset
from starter.evaluation.labelled import USAGES, LabelledImages
from starter.evaluation.records import (
    GRAPH,
    TRANSFORMS,
    WEIGHTS_HEADER,
    Context,
    EvaluationRecord,
    Evidence,
    predictions_csv,
)
from starter.evaluation.runner.process import Runner
from starter.evaluation.scorer import Scorer
from starter.evaluation.scoring import Counts
from starter.graph.profiling.ratios import in_all, judged
from starter.submission.content import sha256

RECORD, PREDICTIONS, PROGRAM = "result.json", "predictions.csv", "program.zip"
"""The files of a report."""

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Check:
    """One recorded figure and the same figure recomputed."""

    name: str
    """The figure's name."""
    said: Any
    """The recorded value."""
    found: Any
    """The recomputed value."""

    @property
    def holds(self) -> bool:
        """Whether the two agree."""
        if isinstance(self.said, float) and isinstance(self.found, float):
            return abs(self.said - self.found) <= _TOLERANCE
        return bool(self.said == self.found)


def write_report(
    folder: Path,
    record: EvaluationRecord,
    evidence: Evidence | None,
    dataset: Dataset,
    *,
    withhold_predictions: bool = False,
) -> Path:
    """Write the participant's copy of a result with its program, and its answers unless they are withheld.

    Returns:
        Path: result.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if evidence is not None and not withhold_predictions:
        (folder / PREDICTIONS).write_text(answers_csv(evidence, dataset), encoding="utf-8", newline="\n")
    if evidence is not None:
        (folder / PROGRAM).write_bytes(evidence.program)
    copy = record.for_participant(withhold_predictions=withhold_predictions)
    return write_whole(folder / RECORD, copy.model_dump_json(indent=2) + "\n")


def answers_csv(evidence: Evidence, dataset: Dataset) -> str:
    """Return the answers as predictions.csv."""
    ids = [row.image_id for row in dataset.solution()]
    return predictions_csv(
        ids, evidence.labels.tolist(), evidence.probabilities.tolist(), dataset.info.classes
    )


def read_report(path: Path, dataset: Dataset) -> tuple[EvaluationRecord, Evidence | None]:
    """Read a report from result.json or from its folder.

    Raises:
        UsageError: one of its files is missing or not valid.
    """
    record_path = path / RECORD if path.is_dir() else path
    try:
        record = EvaluationRecord.model_validate_json(record_path.read_bytes())
        if not record.predictions:
            return record, None
        labels, probabilities = _read_answers(record_path.with_name(PREDICTIONS), dataset)
        return record, Evidence(labels, probabilities, record_path.with_name(PROGRAM).read_bytes())
    except (OSError, ValidationError, ValueError, KeyError) as error:
        raise usage_error(Code.BAD_REPORT, where=str(path), got=str(error)[:300]) from error


def _read_answers(path: Path, dataset: Dataset) -> tuple[Any, Any]:
    numbers = {name: i for i, name in enumerate(dataset.info.classes)}
    rows = {row["image_id"]: row for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))}
    ordered = [rows[row.image_id] for row in dataset.solution()]
    labels = np.array([numbers[row["label"]] for row in ordered], dtype=np.uint16)
    return labels, np.array([float(row["probability"]) for row in ordered], dtype=np.float32)


def verify(
    record: EvaluationRecord,
    evidence: Evidence | None,
    *,
    dataset: Dataset,
    competition: CompetitionFile,
    reference: Reference,
    runner: Runner,
) -> Iterator[Check]:
    """Yield every recorded figure with its recomputed value."""
    now = Context.of(competition, dataset.fingerprint(), reference)
    for name in Context.model_fields:
        yield Check(name.replace("_", " "), getattr(record.context, name), getattr(now, name))
    if evidence is None:
        return
    yield Check("predictions", record.predictions, sha256(answers_csv(evidence, dataset).encode()))
    yield Check("program", record.program, sha256(evidence.program))
    reply = _count(evidence.program, dataset, runner)
    cost = _counted(reply, record.result)
    for name, found in cost.items():
        said = getattr(record.result, name)
        if name not in {"ptflops_macs", "costs"} or said is not None:  # a record of an earlier kit has none
            yield from _figures(name, _plain(said), _plain(found))
    if speed := record.result.speed:  # the recorded blocks give the ratio again
        yield Check("speed", speed.ratio, in_all([judged(b.batch, b.rounds) for b in speed.batches]))
    scorer = Scorer(reference, competition.score)
    for usage in USAGES:
        said = record.scores.get(usage)
        if said is None:
            continue
        images = LabelledImages.of(dataset, usage)
        recounted = record.result.model_copy(update=cost)
        counts = Counts.of(recounted)
        score = scorer.on(images, evidence.labels.tolist(), counts)
        for name in UsageScore.model_fields:
            yield from _figures(f"{usage} {name}", getattr(said, name), getattr(score, name, None))
            if usage == "Public" and name in EvaluationResult.model_fields:  # the row that people see
                yield from _figures(name, getattr(record.result, name), _shown(record, score, name))


def _shown(record: EvaluationRecord, score: UsageScore | None, name: str) -> Any:
    """Return what a row shows of a score; an entry that failed after its images were run shows nothing."""
    if record.result.status is not Status.OK:
        return EvaluationResult.model_fields[name].default
    return getattr(score, name, None)


def _plain(value: Any) -> Any:
    """Return a record as a dictionary of its numbers, and anything else unchanged."""
    return value.model_dump() if isinstance(value, Record) else value


def _figures(name: str, said: Any, found: Any) -> Iterator[Check]:
    if isinstance(said, tuple) and isinstance(found, tuple):
        pairs = zip_longest(said, found)
        yield from (Check(f"{name}[{i}]", a, b) for i, (a, b) in enumerate(pairs))
    elif isinstance(said, dict) and isinstance(found, dict):
        yield from (Check(f"{name}[{key}]", said.get(key), found.get(key)) for key in said | found)
    else:
        yield Check(name, said, found)


def _count(program: bytes, dataset: Dataset, runner: Runner) -> RunnerReply:
    """Count a program again, in our label-free process."""
    with (
        tempfile.TemporaryDirectory(prefix="starter-") as place,
        zipfile.ZipFile(io.BytesIO(program)) as archive,
    ):
        folder = Path(place)
        for name in (GRAPH, TRANSFORMS):
            (folder / name).write_bytes(archive.read(name))
        _write_zeros(folder / "weights", archive.read(WEIGHTS_HEADER))
        return runner.ask(
            RunnerRequest(
                graph=folder / GRAPH,
                weights=folder / "weights",
                transforms=folder / TRANSFORMS,
                num_classes=len(dataset.info.classes),
                dataset=dataset.root.resolve(),
                image_ids=(),
                logits=folder / "logits.npy",
            )
        )


def _counted(reply: RunnerReply, said: EvaluationResult) -> dict[str, Any]:
    """Return the counts under the field names of a result, with the recorded bit operations."""
    costs = reply.costs
    if costs is not None and said.costs is not None:
        costs = costs.model_copy(update={"bit_operations": said.costs.bit_operations})
    found: dict[str, Any] = {"params": reply.params, "costs": costs}
    for name in ("macs", "contraction", "pointwise", "reduction", "ptflops_macs"):
        field = name if name.endswith("macs") else f"{name}_macs"
        found[field] = getattr(reply.cost, name) if reply.cost else None
    return found


def _write_zeros(path: Path, header: bytes) -> None:
    """Write a safetensors file with the header's tensors; the file is sparse, so zeros take no space."""
    tensors = json.loads(header[8:] or b"{}")
    ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + max(ends, default=0))
