"""Evaluate submissions: this process holds the labels and never runs their code.

For each submission: its own process gives a graph (processes.export), our
label-free process counts it and runs it on the images (processes.Runner), and the
logits meet the labels here. While one graph runs, the next plugin is exported.
"""

import json
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from pydantic import ValidationError

from starter.competition import CompetitionFile
from starter.dataset import Dataset
from starter.discovery import Candidate, Kind
from starter.errors import CATALOGUE, Code, HostError, Problem, Status, UsageError, usage_error
from starter.processes import Exported, Runner, export
from starter.room import Level, Room, choose
from starter.schema import EvaluationResult, Reference, RunnerReply, RunnerRequest, WorkerReport
from starter.scoring import F1, check_reference, compute_score, macro_f1, scored_macs

REFERENCE_FILE = "reference.json"
SMOKE_IMAGES = 120


class Mode(StrEnum):
    """How much is evaluated."""

    FULL = "full"
    """All images: the official score."""
    SMOKE = "smoke"
    """A few images, to see that everything works; not official."""
    VALIDATE = "validate"
    """Everything but F1 and score."""
    PROFILE = "profile"
    """The cost, memory access and latency of each layer; with a reference, the score too."""

    @property
    def is_scored(self) -> bool:
        """Whether there is an F1."""
        return self is not Mode.VALIDATE


@dataclass(frozen=True)
class Measured:
    """One submission's result, and the predicted label of each image."""

    result: EvaluationResult
    predictions: tuple[int, ...] | None


class Evaluator:
    """Evaluates submissions one after another on one data set.

    Args:
        competition: the rules.
        dataset: the images and labels.
        mode: how much is evaluated.
        reference: the baseline's figures; None measures without a score.
        reference_path: named when the reference is refused.
        isolation: a level of isolation, or "auto"; None is the competition's own.

    Raises:
        UsageError: scores may not stand on this reference.
        HostError: the runner does not start, or this machine cannot lock submissions in.
    """

    def __init__(
        self,
        competition: CompetitionFile,
        dataset: Dataset,
        *,
        mode: Mode = Mode.FULL,
        reference: Reference | None = None,
        reference_path: Path = Path(REFERENCE_FILE),
        isolation: str | None = None,
    ) -> None:
        self._competition = competition
        self._dataset = dataset
        self._mode = mode
        self._reference = reference
        self._reference_path = reference_path
        self.isolation = choose(competition, isolation)
        rows = dataset.solution()
        count = {Mode.SMOKE: SMOKE_IMAGES, Mode.VALIDATE: 32}.get(mode, len(rows))
        self._rows = [] if mode is Mode.PROFILE and reference is None else rows[:count]
        rules = [competition.path(name) for name in competition.operator_costs]
        self._runner = Runner(competition.limits, cost_rules=rules)
        self._folder = tempfile.TemporaryDirectory(prefix="starter-", ignore_cleanup_errors=True)

    def __enter__(self) -> Self:
        """Return the evaluator."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the runner and remove what was kept."""
        self._runner.__exit__(kind, error, trace)
        self._folder.cleanup()

    @property
    def cost_version(self) -> str:
        """The version of the cost rule in force."""
        return self._runner.hello.cost_version

    @property
    def versions(self) -> dict[str, str]:
        """What the graphs are run with."""
        return self._runner.hello.versions

    def evaluate(self, candidates: Sequence[Candidate]) -> Iterator[Measured]:
        """Yield the result of each submission, in order; a failure is a result too.

        Raises:
            UsageError: the data set has broken images, or the reference does not hold.
        """
        stop = threading.Event()
        installed = [c.folder for c in candidates if c.kind is Kind.ENTRY_POINT]
        room = Room(
            self.isolation,
            user=self._competition.worker_user,
            limits=self._competition.limits,
            forks=len(candidates) > 1,
            readable=installed,
        )
        with room, ThreadPoolExecutor(max_workers=1) as pool:
            exports: list[Future[Exported]] = [pool.submit(self._export, c, room, stop) for c in candidates]
            try:
                self._check_reference()
                if self._mode.is_scored and self._rows:
                    _import_metrics()
                for candidate, exported in zip(candidates, exports, strict=True):
                    yield self._one(candidate, exported)
            finally:
                stop.set()  # on Ctrl-C as well: the pool waits for the export under way
                for future in exports:
                    future.cancel()

    def labels(self, usage: str | None = None) -> tuple[list[int], list[int]]:
        """Return the positions and labels of the evaluation images, of one usage or of all."""
        chosen = [(i, row.label) for i, row in enumerate(self._rows) if usage in (None, row.usage)]
        return [i for i, _ in chosen], [label for _, label in chosen]

    def _check_reference(self) -> None:
        if self._reference is None:
            return
        try:
            check_reference(
                self._reference,
                rules=self._competition.score,
                dataset_fingerprint=self._dataset.fingerprint(),
                cost_version=self.cost_version,
                where=str(self._reference_path),
            )
        except UsageError:
            if self._mode is not Mode.PROFILE:
                raise
            self._reference = None  # a profile needs no score

    def _export(self, candidate: Candidate, room: Room, stop: threading.Event) -> Exported:
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        problems = candidate.problems(self._competition.limits)
        if problems:
            return Exported(WorkerReport(problems=tuple(problems)), folder, "")
        return export(
            candidate,
            self._dataset.competition,
            self._competition.limits,
            folder,
            room,
            stop=stop,
        )

    def _one(self, candidate: Candidate, future: "Future[Exported]") -> Measured:
        started = time.monotonic()
        reply, predictions = RunnerReply(), None
        exported = Exported(WorkerReport(problems=()), Path(), "")
        try:
            exported = future.result()
            if exported.is_complete:
                reply, predictions = self._run(exported)
            problems = [*exported.report.problems, *reply.problems]
        except HostError as error:
            problems = list(error.problems)
        result = self._result(candidate, exported, reply, problems, predictions)
        seconds = round(time.monotonic() - started, 3)
        return Measured(result.model_copy(update={"seconds": seconds}), predictions)

    def _run(self, exported: Exported) -> tuple[RunnerReply, tuple[int, ...] | None]:
        logits = exported.folder / "logits.npy"
        request = RunnerRequest(
            graph=exported.folder / "graph",
            weights=exported.folder / "weights",
            transforms=exported.folder / "transforms",
            num_classes=len(self._dataset.info.classes),
            dataset=self._dataset.root.resolve(),
            image_ids=tuple(row.image_id for row in self._rows),
            logits=logits,
            profile=self._mode is Mode.PROFILE,
        )
        reply = self._runner.ask(request)
        if reply.data_problems:
            raise UsageError(reply.data_problems)
        if reply.problems or not self._rows:
            return reply, None
        scores = np.load(logits, allow_pickle=False)
        return reply, tuple(int(i) for i in scores.argmax(axis=1))

    def _result(
        self,
        candidate: Candidate,
        exported: Exported,
        reply: RunnerReply,
        problems: Sequence[Problem],
        predictions: tuple[int, ...] | None,
    ) -> EvaluationResult:
        cost = reply.cost
        report = exported.report
        fields: dict[str, Any] = {
            "name": candidate.name,
            "path": str(candidate.path),
            "status": CATALOGUE[problems[0].code].status if problems else Status.OK,
            "official": self._mode is Mode.FULL and self.isolation is not Level.NONE,
            "isolation": self.isolation.value,
            "thop_macs": report.thop_macs,
            "params": reply.params,
            "input_shape": reply.input_shape,
            "error": problems[0] if problems else None,
            "problems": tuple(problems),
            "title": report.title,
            "authors": report.authors,
            "description": report.description,
            "log_tail": exported.log,
        }
        if cost is not None:
            fields |= {
                "macs": cost.macs,
                "contraction_macs": cost.contraction,
                "pointwise_macs": cost.pointwise,
                "reduction_macs": cost.reduction,
                "layers": cost.nodes,
                "profile": reply.profile,
            }
        if predictions is not None and not problems and self._mode.is_scored:
            _, labels = self.labels()
            f1 = macro_f1(labels, predictions, self._dataset.info.classes)
            fields |= {"num_images": len(labels), **_f1_fields(f1)}
            fields |= self._score_fields(fields["macs"], report.thop_macs, f1.macro)
        return EvaluationResult(**fields)

    def _score_fields(self, macs: int, thop_macs: int | None, f1: float) -> dict[str, Any]:
        rules = self._competition.score
        counted = scored_macs(macs, thop_macs, rules)
        if self._reference is None or counted is None:
            return {}
        baseline_macs = scored_macs(self._reference.macs, self._reference.thop_macs, rules)
        assert baseline_macs  # check_reference has seen it
        score = compute_score(
            counted, f1, baseline_macs=baseline_macs, baseline_f1=self._reference.macro_f1, rules=rules
        )
        return {**score._asdict(), "ranked": score.ranked}


def _import_metrics() -> None:
    """Import scikit-learn's metrics, two seconds' work, while the first plugin is being exported."""
    import sklearn.metrics  # noqa: F401, PLC0415


def _f1_fields(f1: F1) -> dict[str, Any]:
    return {
        "macro_f1": f1.macro,
        "f1_per_class": f1.per_class,
        "absent_classes": f1.absent,
        "accuracy": f1.accuracy,
    }


def read_reference(folder: Path) -> Reference:
    """Read the baseline's figures from its folder.

    Raises:
        UsageError: it has not been measured, or the file is not valid.
    """
    path = folder / REFERENCE_FILE
    try:
        return Reference.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise usage_error(Code.NO_REFERENCE, where=str(path), got="no such file") from error
    except (ValidationError, json.JSONDecodeError) as error:
        raise usage_error(Code.NO_REFERENCE, where=str(path), got=str(error)[:300]) from error
