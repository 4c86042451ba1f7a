"""Scores of submissions against one reference: where a cost and answers become a score."""

from collections.abc import Sequence
from typing import Any

from starter.contract.competition import ScoreRules
from starter.contract.errors import Code, usage_error
from starter.contract.results import Reference, UsageScore
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
        """Return the score of a cost and an F1; None where the count that is scored is missing.

        Args:
            counts: of one image.
            f1: the macro F1.
            usage: the images that the F1 is of; None: all.
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
        """Say whether an entry takes part in the ranking: F1 and that of the worst group reach the floors.

        Raises:
            UsageError: there is a floor for groups, and the data set has none.
        """
        floor, worst = self._rules.group_floor, f1.worst_group
        if floor is not None and worst is None:
            raise usage_error(
                Code.BAD_COMPETITION,
                where="competition.toml: score.group_floor",
                expected="a column of groups in solution.csv, such as camera",
                got="none",
            )
        return score.ranked and (floor is None or worst is None or worst >= floor)

    def drawn(self, macs_ratio: float, f1: Floats, usage: Usage | None = None) -> Floats:
        """Return the scores of many draws of the F1."""
        terms = f1_terms(f1, baseline_f1=self._reference.f1_on(usage), rules=self._rules)
        return macs_ratio + terms

    def on(self, images: LabelledImages, predictions: Sequence[int], counts: Counts) -> UsageScore | None:
        """Return the figures on the images of one usage, with their intervals.

        Args:
            images: whose figures.
            predictions: the label of every evaluation image, in the order of test.csv.
            counts: of one image.

        Returns:
            UsageScore | None: None where there is no such image, or the count that is scored is missing.
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
    """Return an F1 by the names that results give it."""
    return {
        "macro_f1": f1.macro,
        "f1_per_class": f1.per_class,
        "absent_classes": f1.absent,
        "accuracy": f1.accuracy,
        "f1_by_group": f1.by_group,
        "worst_group_f1": f1.worst_group,
    }
