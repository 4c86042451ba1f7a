"""Sum up repeated problems so that none is buried: the first few, how many more, and a file with all."""

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
"""Most problems of one kind that are printed."""

_HERE = Path("starter")
"""For problems without a folder of their own: starter-problems.csv in the working folder."""

_DETAIL = re.compile(r"'[^']*'|\"[^\"]*\"|\d[\d,.]*")


def show_error(console: Console, error: StarterError) -> None:
    """Print an error: the caller's or the kit's own."""
    print_problems(console, error.problems, "", error.listed_in or list_problems(error.problems, _HERE))


def print_problems(
    console: Console, problems: Sequence[Problem], subject: str, listed_in: Path | None
) -> None:
    """Print problems, each under `subject` or its own place; only a few of each kind if a file has all."""
    for alike in kinds_of(problems):
        told = alike[:MOST_TOLD] if listed_in else alike
        for place in told:
            print_wrapped(console, describe(problems[place], subject or problems[place].where))
        print_rest(console, len(alike) - len(told), listed_in)


def print_found(
    console: Console, found: Sequence[tuple[str, Problem]], logs: Mapping[str, str] | None = None
) -> None:
    """Print the problems of many subjects in order; only a few of each kind if a file has all.

    Args:
        console: where to print.
        found: pairs of a subject, such as a submission's path, and one of its problems.
        logs: texts to print below the problems of a subject.
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
    """Print the first few lines of one kind; the file has all."""
    for line in lines[:MOST_TOLD]:
        print_line(console, line)
    print_rest(console, len(lines) - MOST_TOLD, listed_in)


def print_rest(console: Console, more: int, listed_in: Path | None, kind: str = "") -> None:
    """Say how many more there are, and which file lists them."""
    if more > 0:
        what = f"with {kind}" if kind else "of this kind"
        print_line(console, f"... and {more:,} more {what}; all are in {listed_in}")


def list_problems(problems: Sequence[Problem], target: Path) -> Path | None:
    """Write all problems to a file next to `target` if one kind has too many to print; return the file.

    If that folder is not writable, the file goes into the working folder. None: there is no file, so
    the caller prints all problems.
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
    """Group the indices of problems that differ only in names and numbers, in order of first appearance.

    A code has at most MOST_TOLD kinds and one for the rest, because its texts may differ every time.
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
