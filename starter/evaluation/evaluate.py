"""Evaluate submissions: this process holds the labels and never runs their code.

What a submission costs and answers is measured without the labels (measure.py); here
the answers meet them.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

import numpy as np
from pydantic import ValidationError

from starter.contract.competition import CompetitionFile
from starter.contract.errors import CATALOGUE, Code, Status, UsageError, problem, usage_error
from starter.contract.isolation import Isolation, Level
from starter.contract.results import EvaluationResult, Reference, UsageScore
from starter.contract.submissions import PICKLES, Kind, SubmissionSource
from starter.contract.text import listed, typed
from starter.data.dataset import Dataset
from starter.evaluation.labelled import LabelledImages, Usage
from starter.evaluation.measure import Images, LocalMeasurer, Measurement, MeasurerProtocol
from starter.evaluation.scorer import Scorer, f1_fields
from starter.evaluation.scoring import Counts, check_reference
from starter.sandbox.choice import choose

REFERENCE_FILE = "reference.json"


@dataclass(frozen=True)
class Scope:
    """How much of a submission is evaluated."""

    images: int | None = None
    """On how many images, the first of the data set; None: on all."""
    scored: bool = True
    """Whether its answers are compared with the labels."""
    layers: bool = False
    """Whether memory access and latency of each layer are measured too."""
    extremes: bool = False
    """Whether the smallest, largest, widest and tallest of the other images are answered too."""
    reference_must_hold: bool = True
    """Whether a reference of other data or another cost rule is an error; else there is no score."""


FULL = Scope()
"""The official score."""
SMOKE = Scope(images=120)
"""A few images, to see that everything works."""
VALIDATE = Scope(images=32, scored=False, extremes=True)
"""Everything but F1 and score."""
PROFILE = Scope(layers=True, reference_must_hold=False)
"""The cost of each layer, and the score if there is a reference."""
LAYERS = Scope(images=0, layers=True, reference_must_hold=False)
"""What each layer costs, without running an image."""

COSTS = Scope(images=0, scored=False, reference_must_hold=False)
"""What can be measured without an image."""


@dataclass(frozen=True)
class Evaluation:
    """One submission's result, and what it answers for each image."""

    result: EvaluationResult
    predictions: tuple[int, ...] | None
    """The label of each image."""
    probabilities: tuple[float, ...] | None = None
    """The softmax of each image's logits at its label."""
    measurement: Measurement | None = None
    """What it was made from."""


class Evaluator:
    """Evaluates submissions one after another on one data set: a context manager.

    Args:
        competition: the rules.
        dataset: the images and labels.
        scope: how much is evaluated.
        reference: the baseline's figures; None measures without a score.
        reference_path: named when the reference is refused.
        isolation: what `sandbox.choice.choose` has chosen; None: what it chooses for strangers' code.
        measurer: makes whoever measures on the images; None: a `LocalMeasurer` in this machine.
    """

    def __init__(
        self,
        competition: CompetitionFile,
        dataset: Dataset,
        *,
        scope: Scope = FULL,
        reference: Reference | None = None,
        reference_path: Path = Path(REFERENCE_FILE),
        isolation: Isolation | None = None,
        measurer: Callable[[Images], MeasurerProtocol] | None = None,
    ) -> None:
        self._competition = competition.counted_as(reference)
        self._dataset = dataset
        self._scope = scope
        self._reference = reference
        self._reference_path = reference_path
        self._isolation = isolation
        self._make_measurer = measurer
        self._labelled = cache(partial(LabelledImages.of, dataset, first=scope.images))
        self._scorer = Scorer(reference, competition.score) if reference else None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start the processes that measure.

        Raises:
            HostError: the runner does not start, or this machine cannot lock submissions in.
        """
        ids = self.image_ids
        if self._scope.extremes:
            others = (row.image_id for row in self._dataset.solution()[len(ids) :])
            ids += tuple(self._dataset.images.extremes(others))
        images = Images(self._dataset.root.resolve(), ids, self._dataset.competition)
        if self._make_measurer is not None:
            self._measurer = self._make_measurer(images)
        else:
            isolation = self._isolation or choose(self._competition)
            self._measurer = LocalMeasurer(
                self._competition, images, isolation=isolation, profile=self._scope.layers
            )
        self._stack.callback(self._measurer.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the runner and remove what was kept."""
        self._stack.close()

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
        return tuple(row.image_id for row in self._dataset.solution()[: self._scope.images])

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the labels."""
        return self._dataset.info.classes

    def evaluate(
        self, sources: Iterable[SubmissionSource], usage: Usage | None = None
    ) -> Iterator[Evaluation]:
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

    def judge(self, measurement: Measurement, usage: Usage | None = None) -> Evaluation:
        """Return the result of what was measured."""
        predictions = probabilities = None
        if measurement.logits is not None:
            logits = measurement.logits.astype(np.float64)
            odds = np.exp(logits - logits.max(axis=1, keepdims=True))
            predictions = tuple(logits.argmax(axis=1).tolist())
            probabilities = tuple((odds.max(axis=1) / odds.sum(axis=1)).tolist())
        fields = self._measured_fields(measurement)
        counts = Counts.of(EvaluationResult(**fields))
        if not measurement.problems:
            fields |= self._over_budget(counts)
        if predictions is not None and not fields["problems"] and self._scope.scored:
            fields |= self._score_fields(counts, predictions, usage)
        return Evaluation(EvaluationResult(**fields), predictions, probabilities, measurement)

    def score_on(self, evaluation: Evaluation, usage: Usage) -> UsageScore | None:
        """Return the figures on the images of one usage; None if there is no score or no such image."""
        result = evaluation.result
        if evaluation.predictions is None or result.macs is None or self._scorer is None:
            return None
        images = self.labelled(usage)
        return self._scorer.on(images, evaluation.predictions, Counts.of(result))

    def labelled(self, usage: Usage | None = None) -> LabelledImages:
        """Return the evaluation images of one usage, or all."""
        return self._labelled(usage)

    def _prepare(self) -> None:
        """Check the reference and import slow packages while the first plugin is exported."""
        self._check_reference()
        if self._scope.scored and self.labelled():
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
            if self._scope.reference_must_hold:
                raise
            self._scorer = None

    def _measured_fields(self, found: Measurement) -> dict[str, Any]:
        """Return the fields of a result that do not depend on a label."""
        cost, report, problems = found.reply.cost, found.report, found.problems
        fields: dict[str, Any] = {
            "name": found.source.name,
            "path": str(found.source.path),
            "status": CATALOGUE[problems[0].code].status if problems else Status.OK,
            "official": self._scope == FULL and self._measurer.isolation is not Level.NONE,
            "isolation": self._measurer.isolation.value,
            "thop_macs": report.thop_macs,
            "params": found.reply.params,
            "input_shape": found.reply.input_shape,
            "error": problems[0] if problems else None,
            "problems": problems,
            "warnings": _warnings(found),
            "title": report.title,
            "authors": report.authors,
            "description": report.description,
            "seconds": found.seconds,
            "log_tail": found.log,
        }
        if cost is not None:
            fields |= {
                "speed": found.reply.speed,
                "macs": cost.macs,
                "contraction_macs": cost.contraction,
                "pointwise_macs": cost.pointwise,
                "reduction_macs": cost.reduction,
                "ptflops_macs": cost.ptflops_macs,
                "costs": found.reply.costs,
                "layers": cost.nodes,
                "profile": found.reply.profile,
            }
        return fields

    def _over_budget(self, counts: Counts) -> dict[str, Any]:
        """Return the fields of an entry that exceeds the competition's budget; none otherwise."""
        problems = tuple(
            problem(
                Code.OVER_BUDGET,
                where=name,
                expected=f"at most {most:,}",
                got=f"{own:,} ({round(own - most, 4):,} over)",
            )
            for name, most, own in counts.exceeding(self._competition.budget)
        )
        status = CATALOGUE[Code.OVER_BUDGET].status
        return {"problems": problems, "error": problems[0], "status": status} if problems else {}

    def _score_fields(
        self, counts: Counts, predictions: tuple[int, ...], usage: Usage | None
    ) -> dict[str, Any]:
        """Return the fields of a result that the labels decide."""
        images = self.labelled(usage)
        if counts.macs is None:
            return {}
        f1 = images.f1(predictions)
        fields = {"num_images": len(images), **f1_fields(f1)}
        if self._scorer is None or (score := self._scorer.score(counts, f1.macro, usage)) is None:
            return fields
        return fields | score._asdict() | {"ranked": self._scorer.ranked(score, f1)}


def _warnings(found: Measurement) -> tuple[str, ...]:
    """Return what is not an error but probably not intended: a checkpoint that nothing loads."""
    if found.report.has_weights or found.report.opened:
        return ()
    unread = found.source.unread_weights()
    if not unread:
        return ()
    first = PurePosixPath(unread[0])
    if first.suffix.lower() in PICKLES:
        is_folder = found.source.kind is Kind.FOLDER
        loaded = "weights.safetensors" if is_folder else f"{found.source.path.stem}.safetensors"
        # Names alone: a team reads this, and the folder may be an organizer's.
        command = typed("starter", "convert", unread[0], "--out", loaded)
        fix = f"Convert it, in the plugin's folder: {command}"
    elif first.suffix.lower() == ".safetensors" and found.source.kind is Kind.FOLDER:
        fix = f'Name it: Submission(..., weights="{unread[0]}")'
    elif first.suffix.lower() == ".safetensors":
        fix = f"Rename it: {found.source.path.stem}.safetensors"
    else:
        fix = "Weights are safetensors files: safetensors.torch.save_file(model.state_dict(), PATH)"
    return (f"random weights: {listed(unread)} is not read. {fix}",)


def read_reference(folder: Path) -> Reference:
    """Read the baseline's reference.json from its folder.

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
