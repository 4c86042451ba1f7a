"""Score submissions against one reference: turn a cost and predictions into a score."""

from collections.abc import Sequence
from typing import Any

from starter.contract.competition import ScoreRules
from starter.contract.errors import Code, usage_error
from starter.contract.results import Reference, UsageScore
from starter.data.dataset import Dataset
from starter.evaluation.bootstrap import Floats, interval
from starter.evaluation.labelled import LabelledImages, Usage
from starter.evaluation.scoring import F1, Counts, Score, compute_score, f1_terms


class Scorer:
    """Scores against one reference by one set of rules.

    Args:
        reference: the baseline's figures.
        rules: the constants of the score.
    """

    def __init__(self, reference: Reference, rules: ScoreRules) -> None:
        self._reference = reference
        self._rules = rules
        self._baseline = Counts.of(reference)

    def score(self, counts: Counts, f1: float, usage: Usage | None = None) -> Score | None:
        """Return the score of a cost and an F1; None if a scored count is missing.

        Args:
            counts: the cost of one image.
            f1: the macro F1.
            usage: the images that the F1 was computed on; None: all.
        """
        ratio = counts.over(self._baseline, self._rules)
        if ratio is None:
            return None
        return compute_score(
            ratio,
            f1,
            baseline_macs=1,
            baseline_f1=self._reference.f1_on(usage),
            rules=self._rules,
        )

    def ranked(self, score: Score, f1: F1) -> bool:
        """Say whether an entry is ranked: its F1 and that of its worst group, if any, reach the floors."""
        floor, worst = self._rules.group_floor, f1.worst_group
        return score.ranked and (floor is None or worst is None or worst >= floor)

    def drawn(self, macs_ratio: float, f1: Floats, usage: Usage | None = None) -> Floats:
        """Return the score of each bootstrap draw of the F1."""
        terms = f1_terms(f1, baseline_f1=self._reference.f1_on(usage), rules=self._rules)
        return macs_ratio + terms

    def on(self, images: LabelledImages, predictions: Sequence[int], counts: Counts) -> UsageScore | None:
        """Return the figures on the images of one usage, with their intervals.

        Args:
            images: the images of that usage.
            predictions: the predicted label of every evaluation image, in the order of test.csv.
            counts: the cost of one image.

        Returns:
            UsageScore | None: None if the usage has no image or a scored count is missing.
        """
        if not images:
            return None
        f1 = images.f1(predictions)
        score = self.score(counts, f1.macro, images.usage)
        if score is None:
            return None
        drawn = images.draws.macro_f1(images.own(predictions))
        return UsageScore(
            num_images=len(images),
            f1_interval=interval(drawn),
            score_interval=interval(self.drawn(score.macs_ratio, drawn, images.usage)),
            ranked=self.ranked(score, f1),
            **f1_fields(f1),
            **score._asdict(),
        )


def f1_fields(f1: F1) -> dict[str, Any]:
    """Return an F1 under the field names of a result."""
    return {
        "macro_f1": f1.macro,
        "f1_per_class": f1.per_class,
        "absent_classes": f1.absent,
        "accuracy": f1.accuracy,
        "f1_by_group": f1.by_group,
        "worst_group_f1": f1.worst_group,
    }


def require_groups(rules: ScoreRules, dataset: Dataset) -> None:
    """See that a floor for groups has groups to apply to, where it decides about places.

    A participant's own data may have none.

    Raises:
        UsageError: the data set's solution.csv has no column of groups.
    """
    if rules.group_floor is not None and not dataset.grouped_by:
        raise usage_error(
            Code.BAD_COMPETITION,
            where="competition.toml: score.group_floor",
            expected="a column of groups in solution.csv, such as camera",
            got="none",
            hint="Add the column to solution.csv, or remove group_floor.",
        )
