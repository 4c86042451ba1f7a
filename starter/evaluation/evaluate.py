"""Evaluate submissions: this process holds the labels and never runs their code.

What a submission costs and answers is measured without the labels (measure.py); here
the answers meet them.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from pydantic import ValidationError

from starter.contract.competition import CompetitionFile, ScoreRules
from starter.contract.errors import CATALOGUE, Code, Status, UsageError, usage_error
from starter.contract.isolation import Isolation, Level
from starter.contract.results import EvaluationResult, Reference, UsageScore
from starter.contract.submissions import SubmissionSource
from starter.data.dataset import Dataset
from starter.evaluation.bootstrap import Resampling, interval
from starter.evaluation.measure import Images, Measurement, Measurer, Measures
from starter.evaluation.scoring import (
    F1,
    Score,
    check_reference,
    compute_score,
    f1_terms,
    macro_f1,
    scored_macs,
)
from starter.sandbox.choice import choose

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
    """One submission's result, and what it answers for each image."""

    result: EvaluationResult
    predictions: tuple[int, ...] | None
    """The label of each image."""
    probabilities: tuple[float, ...] | None = None
    """The softmax of each image's logits at its label."""
    measurement: Measurement | None = None
    """What it was made from."""


Usage = Literal["Public", "Private"]


class Evaluator:
    """Evaluates submissions one after another on one data set.

    Args:
        competition: the rules.
        dataset: the images and labels.
        mode: how much is evaluated.
        reference: the baseline's figures; None measures without a score.
        reference_path: named when the reference is refused.
        isolation: what `sandbox.choice.choose` has chosen; None: what it chooses for strangers' code.
        measurer: makes whoever measures on the images; None: a `Measurer` in this machine.

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
        isolation: Isolation | None = None,
        measurer: Callable[[Images], Measures] | None = None,
    ) -> None:
        self._competition = competition
        self._dataset = dataset
        self._mode = mode
        self._reference = reference
        self._reference_path = reference_path
        rows = dataset.solution()
        count = {Mode.SMOKE: SMOKE_IMAGES, Mode.VALIDATE: 32}.get(mode, len(rows))
        self._rows = [] if mode is Mode.PROFILE and reference is None else rows[:count]
        self._judges: dict[Usage, Judge] = {}
        if measurer is None:
            chosen = isolation or choose(competition)
            measurer = partial(Measurer, competition, isolation=chosen, profile=mode is Mode.PROFILE)
        ids = tuple(row.image_id for row in self._rows)
        self._measurer = measurer(Images(dataset.root.resolve(), ids, dataset.competition))

    def __enter__(self) -> Self:
        """Return the evaluator."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the runner and remove what was kept."""
        self._measurer.close()

    @property
    def cost_version(self) -> str:
        """The version of the cost rule in force."""
        return self._measurer.hello.cost_version

    @property
    def versions(self) -> dict[str, str]:
        """What the graphs are run with."""
        return self._measurer.hello.versions

    @property
    def machine(self) -> str:
        """What the graphs are run on."""
        return self._measurer.machine

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The evaluation images, in the order of the predictions."""
        return tuple(row.image_id for row in self._rows)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the labels."""
        return self._dataset.info.classes

    def evaluate(self, sources: Iterable[SubmissionSource], usage: Usage | None = None) -> Iterator[Measured]:
        """Yield the result of each submission, in order; a failure is a result too.

        Args:
            sources: which; of a sequence, installed packages can be read.
            usage: the images that a result's figures are of; None: all. The others are
                answered too, for `score_on`.

        Raises:
            UsageError: the data set has broken images, or the reference does not hold.
        """
        for measurement in self._measurer.measure(sources, meanwhile=self._prepare):
            yield self.judge(measurement, usage)

    def judge(self, measurement: Measurement, usage: Usage | None = None) -> Measured:
        """Return the result of what was measured."""
        predictions = probabilities = None
        if measurement.logits is not None:
            logits = measurement.logits.astype(np.float64)
            odds = np.exp(logits - logits.max(axis=1, keepdims=True))
            predictions = tuple(logits.argmax(axis=1).tolist())
            probabilities = tuple((odds.max(axis=1) / odds.sum(axis=1)).tolist())
        return Measured(
            self._result(measurement, predictions, usage), predictions, probabilities, measurement
        )

    def score_on(self, measured: Measured, usage: Usage) -> UsageScore | None:
        """Return the figures on the images of one usage; None where there is no score or no such image."""
        if measured.predictions is None or measured.result.macs is None or self._reference is None:
            return None
        if usage not in self._judges:
            self._judges[usage] = Judge(self._dataset, self._reference, self._competition.score, usage)
        result = measured.result
        return self._judges[usage].score(measured.predictions, result.macs or 0, result.thop_macs)

    def labels(self, usage: str | None = None) -> tuple[list[int], list[int]]:
        """Return the positions and labels of the evaluation images, of one usage or of all."""
        chosen = [(i, row.label) for i, row in enumerate(self._rows) if usage in (None, row.usage)]
        return [i for i, _ in chosen], [label for _, label in chosen]

    def _prepare(self) -> None:
        """See that scores may stand, and import what takes long, while the first plugin is exported."""
        self._check_reference()
        if self._mode.is_scored and self._rows:
            import sklearn.metrics  # noqa: F401, PLC0415 - two seconds

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

    def _result(
        self, found: Measurement, predictions: tuple[int, ...] | None, usage: Usage | None
    ) -> EvaluationResult:
        cost, report, problems = found.reply.cost, found.report, found.problems
        fields: dict[str, Any] = {
            "name": found.source.name,
            "path": str(found.source.path),
            "status": CATALOGUE[problems[0].code].status if problems else Status.OK,
            "official": self._mode is Mode.FULL and self._measurer.isolation is not Level.NONE,
            "isolation": self._measurer.isolation.value,
            "thop_macs": report.thop_macs,
            "params": found.reply.params,
            "input_shape": found.reply.input_shape,
            "error": problems[0] if problems else None,
            "problems": problems,
            "title": report.title,
            "authors": report.authors,
            "description": report.description,
            "seconds": found.seconds,
            "log_tail": found.log,
        }
        if cost is not None:
            fields |= {
                "macs": cost.macs,
                "contraction_macs": cost.contraction,
                "pointwise_macs": cost.pointwise,
                "reduction_macs": cost.reduction,
                "layers": cost.nodes,
                "profile": found.reply.profile,
            }
        if predictions is not None and cost is not None and not problems and self._mode.is_scored:
            places, labels = self.labels(usage)
            f1 = macro_f1(labels, [predictions[i] for i in places], self._dataset.info.classes)
            fields |= {"num_images": len(labels), **_f1_fields(f1)}
            score = self._score(cost.macs, report.thop_macs, f1.macro, usage)
            if score is not None:
                fields |= {**score._asdict(), "ranked": score.ranked}
        return EvaluationResult(**fields)

    def _score(self, macs: int, thop_macs: int | None, f1: float, usage: Usage | None) -> Score | None:
        rules = self._competition.score
        counted = scored_macs(macs, thop_macs, rules)
        if self._reference is None or counted is None:
            return None
        baseline_macs = scored_macs(self._reference.macs, self._reference.thop_macs, rules)
        assert baseline_macs  # check_reference has seen it
        return compute_score(
            counted, f1, baseline_macs=baseline_macs, baseline_f1=self._reference.f1_on(usage), rules=rules
        )


class Judge:
    """Scores answers on the images of one usage, and says how sure the scores are.

    Args:
        dataset: the labels.
        reference: the baseline's figures.
        rules: the constants of the score.
        usage: whose images.
    """

    def __init__(self, dataset: Dataset, reference: Reference, rules: ScoreRules, usage: Usage) -> None:
        rows = [(i, row) for i, row in enumerate(dataset.solution()) if row.usage == usage]
        self._classes = dataset.info.classes
        self._reference, self._rules, self._usage = reference, rules, usage
        self._places = [i for i, _ in rows]
        self._labels = [row.label for _, row in rows]
        groups = [row.group for _, row in rows]
        self._draws = Resampling(self._labels, len(self._classes), groups=groups) if rows else None

    def score(self, predictions: Sequence[int], macs: int, thop_macs: int | None) -> UsageScore | None:
        """Return the figures; None where there is no such image, or thop's missing count is scored.

        Args:
            predictions: the label of every image of the data set, in the order of test.csv.
            macs: MACs of one image.
            thop_macs: what thop sees.
        """
        counted = scored_macs(macs, thop_macs, self._rules)
        baseline_macs = scored_macs(self._reference.macs, self._reference.thop_macs, self._rules)
        if self._draws is None or counted is None or baseline_macs is None:
            return None
        own = [predictions[i] for i in self._places]
        f1 = macro_f1(self._labels, own, self._classes)
        baseline_f1 = self._reference.f1_on(self._usage)
        score = compute_score(
            counted, f1.macro, baseline_macs=baseline_macs, baseline_f1=baseline_f1, rules=self._rules
        )
        drawn = self._draws.macro_f1(own)
        terms = f1_terms(drawn, baseline_f1=baseline_f1, rules=self._rules)
        return UsageScore(
            num_images=len(self._places),
            f1_interval=interval(drawn),
            score_interval=interval(score.macs_ratio + terms),
            ranked=score.ranked,
            **_f1_fields(f1),
            **score._asdict(),
        )


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
