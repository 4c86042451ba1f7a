"""Measure the baseline, and check that it still matches its reference.json."""

from collections.abc import Iterator
from pathlib import Path

from starter.contract.competition import CompetitionFile
from starter.contract.errors import Code, ParticipantError, UsageError, problem
from starter.contract.isolation import Isolation
from starter.contract.results import Reference
from starter.contract.submissions import SubmissionSource
from starter.contract.system.files import write_whole
from starter.data.dataset import Dataset
from starter.evaluation.evaluate import REFERENCE_FILE, Evaluator
from starter.evaluation.labelled import USAGES
from starter.evaluation.scoring import check_reference

F1_TOLERANCE = 0.005
"""Another processor rounds differently, which can turn a near tie: about six of 1,200 images."""

EXACT = (
    "macs",
    "contraction_macs",
    "pointwise_macs",
    "reduction_macs",
    "thop_macs",
    "ptflops_macs",
    "params",
    "dataset_fingerprint",
    "cost_version",
)
"""What must be measured again to the last digit: none of it depends on the processor."""


def measure(
    source: SubmissionSource,
    competition: CompetitionFile,
    dataset: Dataset,
    *,
    made_by: str,
    isolation: Isolation | None = None,
) -> Reference:
    """Evaluate the baseline on all images.

    Args:
        source: the baseline's plugin.
        competition: the rules.
        dataset: the images and labels.
        made_by: what the reference says of its origin.
        isolation: as `Evaluator`'s.

    Raises:
        ParticipantError: it cannot be evaluated.
        UsageError: its F1 is below the floor, or it costs nothing.
    """
    with Evaluator(competition, dataset, isolation=isolation) as evaluator:
        (measured,) = evaluator.evaluate([source])
        result, versions, cost_version = measured.result, evaluator.versions, evaluator.cost_version
        if result.problems or measured.predictions is None:
            raise ParticipantError(result.problems)
        parts = {usage: evaluator.labelled(usage) for usage in USAGES}  # a public copy has no Private image
        by_usage = {usage: part.f1(measured.predictions).macro for usage, part in parts.items() if part}
    reference = Reference(
        name=source.name,
        macs=result.macs,
        contraction_macs=result.contraction_macs,
        pointwise_macs=result.pointwise_macs,
        reduction_macs=result.reduction_macs,
        thop_macs=result.thop_macs,
        ptflops_macs=result.ptflops_macs,
        costs=result.costs,
        params=result.params,
        macro_f1=result.macro_f1,
        macro_f1_by_usage=by_usage,
        dataset=f"{dataset.info.name} {dataset.info.version}",
        dataset_fingerprint=dataset.fingerprint(),
        cost_version=cost_version,
        versions=versions,
        made_by=made_by,
    )
    check_reference(
        reference,
        rules=competition.score,
        dataset_fingerprint=reference.dataset_fingerprint,
        cost_version=cost_version,
        where=str(source.path),
    )
    return reference


def write_reference(reference: Reference, folder: Path) -> Path:
    """Write reference.json beside the baseline; a kill leaves the old file or the new one."""
    return write_whole(folder / REFERENCE_FILE, reference.model_dump_json(indent=2) + "\n")


def check(reference: Reference, measured: Reference, where: Path) -> None:
    """Compare a new measurement with the reference.

    Raises:
        UsageError: U305, one problem for each figure that differs.
    """
    problems = [
        problem(Code.BASELINE_DIFFERS, where=f"{where}: {name}", expected=str(old), got=str(new))
        for name, old, new in _differences(reference, measured)
    ]
    if problems:
        raise UsageError(problems)


def changes(old: Reference, new: Reference) -> list[tuple[str, str, str]]:
    """Return the figures that a new measurement changed: name, before, now."""
    before, now = old.model_dump(mode="json"), new.model_dump(mode="json")
    return [(name, str(before.get(name)), str(now[name])) for name in now if before.get(name) != now[name]]


def figures(reference: Reference) -> dict[str, object]:
    """Return what must be measured again to the last digit; costs only where the reference has them."""
    further = reference.costs.model_dump() if reference.costs else {}
    return {name: getattr(reference, name) for name in EXACT} | further


def _differences(reference: Reference, measured: Reference) -> Iterator[tuple[str, object, object]]:
    now = figures(measured)
    for name, old in figures(reference).items():
        if old != now[name] and (name != "ptflops_macs" or old is not None):  # an earlier kit counted none
            yield name, old, now[name]
    if abs(reference.macro_f1 - measured.macro_f1) > F1_TOLERANCE:
        yield "macro_f1", f"{reference.macro_f1:.4f} +- {F1_TOLERANCE}", f"{measured.macro_f1:.4f}"
