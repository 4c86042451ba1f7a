"""Print many problems of one kind so that no other problem is lost among them: a few, a count, and a file."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from rich.console import Console

from starter.contract.errors import CATALOGUE, Code, Problem, StarterError
from starter.contract.system.files import write_table
from starter.contract.text import no_formula
from starter.report.terminal import describe, print_line, print_wrapped

MOST_TOLD = 5
"""At most this many problems of one kind are printed."""

_HERE = Path("starter")
"""What has no folder of its own is listed beside this: starter-problems.csv in the working folder."""

_DETAIL = re.compile(r"'[^']*'|\"[^\"]*\"|\d[\d,.]*")


def show_error(console: Console, error: StarterError) -> None:
    """Print an error of the caller's or of ours."""
    print_problems(console, error.problems, "", error.listed_in or list_problems(error.problems, _HERE))


def print_problems(
    console: Console, problems: Sequence[Problem], subject: str, listed_in: Path | None
) -> None:
    """Print problems of one `subject`, or else each of its own; a few of each kind where a file holds all."""
    for alike in kinds_of(problems):
        told = alike[:MOST_TOLD] if listed_in else alike
        for place in told:
            print_wrapped(console, describe(problems[place], subject or problems[place].where))
        print_rest(console, len(alike) - len(told), listed_in)


def print_found(
    console: Console, found: Sequence[tuple[str, Problem]], logs: Mapping[str, str] | None = None
) -> None:
    """Print what is wrong with many subjects in their order; a few of each kind where a file can hold all.

    Args:
        console: where to.
        found: a subject, for instance a submission's path, and one of its problems.
        logs: what stands below a subject's problems.
    """
    problems = [problem for _, problem in found]
    listed_in = list_problems([_located(*one) for one in found], _HERE)
    kinds = kinds_of(problems)
    told = {place for alike in kinds for place in (alike[:MOST_TOLD] if listed_in else alike)}
    shown = [found[place] for place in sorted(told)]
    for subject, own in groupby(shown, key=itemgetter(0)):
        print_line(console)
        for _, problem in own:
            print_wrapped(console, describe(problem, subject))
        if log := (logs or {}).get(subject):
            print_line(console, log)
    if len(told) < len(found):
        print_line(console)
    for alike in kinds:
        more = len(alike) - len(told.intersection(alike))
        code = problems[alike[0]].code
        print_rest(console, more, listed_in, kind=f"{code}, {CATALOGUE[code].title}")


def _located(subject: str, problem: Problem) -> Problem:
    where = subject if subject.endswith(problem.where) else f"{subject}: {problem.where}"
    return problem.model_copy(update={"where": where})


def print_few(console: Console, lines: Sequence[str], listed_in: Path) -> None:
    """Print a few lines of one kind; the file holds all."""
    for line in lines[:MOST_TOLD]:
        print_line(console, line)
    print_rest(console, len(lines) - MOST_TOLD, listed_in)


def print_rest(console: Console, more: int, listed_in: Path | None, kind: str = "") -> None:
    """Say how many more there are, and where."""
    if more > 0:
        what = f"with {kind}" if kind else "of this kind"
        print_line(console, f"... and {more:,} more {what}; all are in {listed_in}")


def list_problems(problems: Sequence[Problem], target: Path) -> Path | None:
    """Write all problems with a data set beside it, where too many of them are of one kind; return the file.

    Beside it nothing can be written: into the working folder. Nor there: None, and all are to be told.
    """
    if all(len(alike) <= MOST_TOLD for alike in kinds_of(problems)):
        return None
    name = f"{target.resolve().name}-problems.csv"
    rows = [(p.code.value, *map(no_formula, (p.where, p.got, p.expected, p.hint))) for p in problems]
    beside = target.parent if target.name not in {"", ".."} else target.resolve().parent
    for path in (beside / name, Path(name)):
        try:
            write_table(path, ("code", "where", "got", "wanted", "fix"), rows)
        except OSError:
            continue
        return path
    return None


def kinds_of(problems: Sequence[Problem]) -> list[list[int]]:
    """Group the places of problems that differ in names and numbers only, in the order of their first.

    What a code finds beyond its first kinds is one more kind: texts may differ each time.
    """
    kinds: dict[tuple[Code, str], list[int]] = {}
    num_kinds: Counter[Code] = Counter()
    for place, problem in enumerate(problems):
        key = problem.code, _DETAIL.sub("_", problem.got).partition(":")[0]
        if key not in kinds:
            num_kinds[problem.code] += 1
            if num_kinds[problem.code] > MOST_TOLD:
                key = problem.code, "..."
        kinds.setdefault(key, []).append(place)
    return list(kinds.values())
