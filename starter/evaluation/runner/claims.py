"""Read what a submission's process reports: untrusted claims, shown as such.

Only the kit's catalogue says what to do and whose fault it is; the entry's own text is quoted.
"""

import re

from pydantic import ValidationError

from starter.contract.errors import CATALOGUE, HINTS, INSTEAD, Code, Problem, problem
from starter.contract.protocol import WorkerReport

_A_NAME = r"\w[\w./-]{0,99}"
_HINTS = re.compile(
    "|".join(re.escape(hint).replace(r"\{\}", _A_NAME) for hint in (*HINTS.values(), *INSTEAD.values())),
    re.ASCII,
)


def read_report(text: bytes) -> WorkerReport:
    """Return a report whose problems name the participant's faults only, with no hint but the kit's own."""
    try:
        report = WorkerReport.model_validate_json(text, strict=False)
    except ValidationError as error:
        return _malformed(str(error)[:200])
    for found in report.problems:
        if not found.code.startswith("E"):  # a stranger cannot say that we have failed
            return _malformed(f"a problem {found.code}")
    return report.model_copy(update={"problems": tuple(map(_as_claimed, report.problems))})


def _malformed(got: str) -> WorkerReport:
    return WorkerReport(problems=(problem(Code.MALFORMED_GRAPH, where="report", got=got),))


def _as_claimed(found: Problem) -> Problem:
    """Return a problem with what the catalogue says of its code; what the entry says of it is quoted."""
    is_own = found.expected and found.expected != CATALOGUE[found.code].why
    return problem(
        found.code,
        where=found.where,
        expected=f"\u201c{found.expected}\u201d" if is_own else "",
        got=found.got,
        hint=found.hint if _HINTS.fullmatch(found.hint) else "",
    )
