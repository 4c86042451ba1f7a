"""Make the record of an evaluation from what was measured."""

from datetime import UTC, datetime

import numpy as np

from starter import __version__
from starter.contract.competition import Limits
from starter.contract.errors import CATALOGUE, Problem
from starter.contract.results import EvaluationResult
from starter.contract.submissions import SubmissionSource
from starter.evaluation.evaluate import Evaluation, Evaluator
from starter.evaluation.labelled import USAGES
from starter.evaluation.records import Context, EvaluationRecord, Evidence, pack_program, predictions_csv
from starter.submission.content import sha256


def refusal(source: SubmissionSource, problems: tuple[Problem, ...]) -> Evaluation:
    """Return the result of a submission that cannot be run at all."""
    return Evaluation(
        EvaluationResult(
            name=source.name,
            path=str(source.path),
            status=CATALOGUE[problems[0].code].status,
            official=True,
            error=problems[0],
            problems=problems,
        ),
        None,
    )


def record_of(
    evaluator: Evaluator,
    measured: Evaluation,
    *,
    submission: str,
    context: Context,
    limits: Limits,
    left_out: tuple[str, ...] = (),
) -> EvaluationRecord:
    """Return the record of a measured submission: its figures on each usage, and what proves them."""
    scores = {usage: evaluator.score_on(measured, usage) for usage in USAGES}
    measurement, proof = measured.measurement, evidence_of(measured)
    answers = (
        predictions_csv(
            evaluator.image_ids, proof.labels.tolist(), proof.probabilities.tolist(), evaluator.classes
        )
        if proof
        else ""
    )
    return EvaluationRecord(
        submission=submission,
        context=context,
        evaluated_at=datetime.now(UTC),
        result=measured.result,
        scores={usage: score for usage, score in scores.items() if score is not None},
        limits=limits,
        used=measurement.used if measurement else {},
        versions={**evaluator.versions, "starter": __version__, "machine": evaluator.machine},
        predictions=sha256(answers.encode()) if proof else "",
        program=sha256(proof.program) if proof else "",
        left_out=left_out,
    )


def evidence_of(measured: Evaluation) -> Evidence | None:
    """Return what a result can be proved by; None where it answered nothing."""
    if measured.measurement is None or measured.predictions is None or measured.probabilities is None:
        return None
    found = measured.measurement
    return Evidence(
        np.asarray(measured.predictions, dtype=np.uint16),
        np.asarray(measured.probabilities, dtype=np.float32),
        pack_program(found.graph, found.weights_header, found.transforms),
    )
