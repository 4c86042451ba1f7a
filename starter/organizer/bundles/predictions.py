"""Answer images without labels, and write the submission.csv of a Kaggle competition."""

from dataclasses import dataclass
from pathlib import Path

from starter.contract.competition import CompetitionFile
from starter.contract.errors import ParticipantError
from starter.contract.isolation import Isolation
from starter.contract.submissions import SubmissionSource
from starter.contract.system.files import write_table
from starter.data.dataset import read_info, read_questions
from starter.evaluation.measure import Images, LocalMeasurer, Measurement
from starter.evaluation.scoring import Counts
from starter.organizer.bundles.kaggle import claimed_costs, columns
from starter.submission.content import submission_digest


@dataclass(frozen=True)
class Answered:
    """What a submission answers and costs."""

    submission: str
    """The hash of its content."""
    counts: Counts
    """What one image costs."""
    image_ids: tuple[str, ...]
    """The images, in the order of test.csv."""
    labels: tuple[str, ...]
    """The class of each."""


def answer(source: SubmissionSource, rules: CompetitionFile, data: Path, isolation: Isolation) -> Answered:
    """Count a submission and run its graph on images, as a score does.

    Args:
        source: which submission.
        rules: the rules, with the cost version in force.
        data: the folder of dataset.toml, test.csv and the images; no label is read.
        isolation: what `sandbox.choice.choose` has chosen.

    Raises:
        ParticipantError: it cannot be evaluated.
        UsageError: the data is missing or broken.
    """
    info, ids = read_info(data), read_questions(data)
    submission = submission_digest(source)
    images = Images(data.resolve(), ids, info.competition)
    measurer = LocalMeasurer(rules, images, isolation=isolation)
    try:
        (found,) = measurer.measure([source])
    finally:
        measurer.close()
    if found.problems or found.logits is None:
        raise ParticipantError(found.problems)
    labels = tuple(info.classes[label] for label in found.logits.argmax(axis=1).tolist())
    return Answered(submission, _counts(found), ids, labels)


def write_submission(path: Path, answered: Answered, rules: CompetitionFile) -> None:
    """Write submission.csv: an answer in each row, and the same costs and hash in all."""
    costs = [getattr(answered.counts, name) for name in claimed_costs(rules)]
    rows = zip(answered.image_ids, answered.labels, strict=True)
    write_table(path, columns(rules), [(*row, *costs, answered.submission) for row in rows])


def _counts(found: Measurement) -> Counts:
    cost, further = found.reply.cost, found.reply.costs
    assert cost is not None  # it has been run
    counted = further.model_dump() if further else {}
    thop = found.report.thop_macs
    return Counts(cost.macs, cost.ptflops_macs, thop, params=found.reply.params, **counted)
