"""Many problems of one kind, told so that no other is lost among them: a few, how many, and where all are."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from starter.contract.errors import Code, Problem, StarterError
from starter.contract.system.files import write_table
from starter.report.terminal import describe, print_line, print_wrapped

MOST_TOLD = 5
"""So many problems of one kind are told."""

_DETAIL = re.compile(r"'[^']*'|\"[^\"]*\"|\d[\d,.]*")


def show_error(console: Console, error: StarterError) -> None:
    """Print an error of the caller's or of ours."""
    print_problems(console, error.problems, "", error.listed_in)


def print_problems(
    console: Console, problems: Sequence[Problem], subject: str, listed_in: Path | None
) -> None:
    """Print problems of one `subject`, or else each of its own; a few of each kind where a file holds all."""
    for alike in _kinds(problems):
        told = alike[:MOST_TOLD] if listed_in else alike
        for problem in told:
            print_wrapped(console, describe(problem, subject or problem.where))
        print_rest(console, len(alike) - len(told), listed_in)


def print_few(console: Console, lines: Sequence[str], listed_in: Path) -> None:
    """Print a few lines of one kind; the file holds all."""
    for line in lines[:MOST_TOLD]:
        print_line(console, line)
    print_rest(console, len(lines) - MOST_TOLD, listed_in)


def print_rest(console: Console, more: int, listed_in: Path | None) -> None:
    """Say how many more there are, and where."""
    if more > 0:
        print_line(console, f"... and {more:,} more of this kind; all are in {listed_in}")


def list_problems(problems: Sequence[Problem], target: Path) -> Path | None:
    """Write all problems with a data set beside it, where too many of them are of one kind; return the file.

    Beside it nothing can be written: into the working folder. Nor there: None, and all are to be told.
    """
    if all(len(alike) <= MOST_TOLD for alike in _kinds(problems)):
        return None
    name = f"{target.resolve().name}-problems.csv"
    rows = [(p.code.value, p.where, p.got, p.expected, p.hint) for p in problems]
    beside = target.parent if target.name not in {"", ".."} else target.resolve().parent
    for path in (beside / name, Path(name)):
        try:
            write_table(path, ("code", "where", "got", "wanted", "fix"), rows)
        except OSError:
            continue
        return path
    return None


def _kinds(problems: Sequence[Problem]) -> list[list[Problem]]:
    """Group problems that differ in names and numbers only, in the order of the first of each kind."""
    kinds: dict[tuple[Code, str], list[Problem]] = defaultdict(list)
    for problem in problems:
        kinds[problem.code, _DETAIL.sub("_", problem.got).partition(":")[0]].append(problem)
    return list(kinds.values())
