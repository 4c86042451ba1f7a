"""The page of a profile: charts, totals, score, findings and layers, in one file."""

from collections.abc import Sequence

from starter.contract.competition import ScoreRules
from starter.contract.results import EvaluationResult, Reference
from starter.report.explanation import explain_score
from starter.report.html.page import render
from starter.report.html.roofline import roofline_picture
from starter.report.profile import (
    GUIDELINES,
    Profiled,
    heaviest,
    ops,
    roofline,
    saving,
    share,
    totals,
    working,
)


def page(profiled: Sequence[Profiled], reference: Reference | None, rules: ScoreRules) -> str:
    """Return one HTML page that needs no other file."""

    def explained(result: EvaluationResult) -> str:
        return explain_score(result, reference, rules) if reference and result.score is not None else ""

    return render(
        "profile.html",
        "profile",
        styles=["profile.css"],
        scripts=["table.js"],
        profiled=profiled,
        heaviest=heaviest,
        roofline=roofline,
        roofline_picture=roofline_picture,
        totals=lambda result: totals(result, reference),
        explained=explained,
        guidelines=GUIDELINES,
        saving=saving,
        ops=ops,
        working=working,
        share=share,
    )
