"""What the commands share: consoles, options, progress, JSON, the data set.

Commands are in app.py and the modules and folders beside it.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from starter.cli.exits import EXIT_HOST, EXIT_OK, EXIT_PARTICIPANT
from starter.contract.competition import NEWEST_COST_VERSION, CompetitionFile
from starter.contract.errors import Status
from starter.contract.isolation import TRUST, Isolation, Level
from starter.contract.results import EvaluationResult, Reference
from starter.contract.submissions import SubmissionSource
from starter.contract.text import inline
from starter.data.dataset import Dataset
from starter.report.terminal import print_line


class Requested(StrEnum):
    """What --isolation takes: a level, or the strictest that works."""

    AUTO = "auto"
    BOX = Level.BOX.value
    LOCKDOWN = Level.LOCKDOWN.value
    NONE = Level.NONE.value


out = Console(highlight=False)
"""Results."""
err = Console(stderr=True, highlight=False)
"""Progress and errors."""


def can_be_made(path: Path | None) -> Path | None:
    """Refuse a target that cannot be written, before any work is done for it."""
    if path is not None:
        above = next(folder for folder in path.absolute().parents if folder.exists())
        if not above.is_dir():
            raise typer.BadParameter(f"{above} is not a folder")
        if not os.access(above, os.W_OK | os.X_OK):
            raise typer.BadParameter(f"{above} cannot be written to")
    return path


def _json_target(target: str | None) -> str | None:
    if target is not None and target != "-":
        path = Path(target)
        if path.is_dir():
            raise typer.BadParameter(f"{path} is a folder")
        if not path.absolute().parent.is_dir():
            raise typer.BadParameter(f"there is no folder {path.parent}")
        can_be_made(path)
    return target


DataOption = Annotated[
    Path | None, typer.Option("--data", help="Use this data set instead of the competition's.")
]
RulesOption = Annotated[
    Path | None, typer.Option("--competition", dir_okay=False, help="Use this competition.toml.")
]
_ISOLATION_HELP = "How to isolate plugins; auto: as strictly as this machine can."
OwnIsolationOption = Annotated[
    Requested | None, typer.Option("--isolation", envvar="STARTER_ISOLATION", help=_ISOLATION_HELP)
]
"""For commands that run your own code."""
IsolationOption = Annotated[Requested | None, typer.Option("--isolation", help=_ISOLATION_HELP)]
"""For strangers' code: no variable that was set for something else may weaken it."""


def isolation_for(command: str, rules: CompetitionFile, requested: str | None) -> Isolation:
    """Return the isolation of a command, and announce it where your own code runs without any.

    Raises:
        HostError: H104, this machine has none that is strict enough.
    """
    from starter.sandbox.choice import choose

    isolation = choose(rules, requested, trust=TRUST[command])
    if isolation.level is Level.NONE and isolation.lacks:
        print_line(
            err,
            f"isolation none: this machine has no sandbox ({isolation.reasons}), so your plugin runs "
            "unprotected and the result is not official; to get one: starter doctor",
        )
    return isolation


JsonOption = Annotated[
    str | None,
    typer.Option(
        "--json", callback=_json_target, help="Write the results as JSON to this file, or to stdout for -."
    ),
]


def open_data(data: Path | None, rules: CompetitionFile) -> Dataset:
    """Open the data set of the command line, or else of the competition."""
    from starter.data.dataset import open_dataset

    return open_dataset(data or rules.path(rules.dataset))


StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store", help="Database for the results, an SQLAlchemy URL; default: a file beside the rules."
    ),
]


def store_url(given: str | None, rules: CompetitionFile) -> str:
    """Return the store's URL: the one given, or a file in the competition's folder."""
    return given or f"sqlite:///{rules.path('.starter') / 'results.sqlite'}"


def in_force(rules: CompetitionFile, reference: Reference | None) -> CompetitionFile:
    """Return the rules with their cost version; print a line on stderr if it is an old one."""
    rules = rules.counted_as(reference)
    if rules.score.cost_version != NEWEST_COST_VERSION:
        print_line(
            err,
            f"cost version {rules.score.cost_version}: packed products count once; "
            f"for version {NEWEST_COST_VERSION} set cost_version = {NEWEST_COST_VERSION} under [score] in "
            "competition.toml, then run: starter baseline measure",
        )
    return rules


@contextlib.contextmanager
def progress(what: str, *, estimate: bool = False) -> Iterator[Callable[..., None]]:
    """Show a progress bar on stderr, where that is a terminal; with an estimate of what is left.

    What it yields is called with (done, total) and, where it has one, a name to show.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),  # names are strangers' texts
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        *((TextColumn("left"), TimeRemainingColumn()) if estimate else ()),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def tick(done: int, total: int, name: str = "") -> None:
            bar.update(task, completed=done, total=total, description=inline(f"{what} {name}".rstrip()))

        yield tick


def write_json(target: str, record: dict[str, Any]) -> None:
    """Write a record to a file, or to stdout for `-`."""
    if target == "-":
        is_unicode = sys.stdout.encoding.lower().startswith("utf")
        sys.stdout.write(json.dumps(record, ensure_ascii=not is_unicode, indent=2) + "\n")
    else:
        text = json.dumps(record, ensure_ascii=False, indent=2)
        Path(target).write_text(text + "\n", encoding="utf-8", newline="\n")


def evaluate_all(
    command: str,
    sources: Sequence[SubmissionSource],
    rules: CompetitionFile,
    data: Path | None,
    *,
    isolation: str | None,
    **options: Any,
) -> list[EvaluationResult]:
    """Evaluate with a progress bar; `options` are Evaluator's, and `reference_folder`."""
    from starter.evaluation.evaluate import REFERENCE_FILE, Evaluator

    reference_folder = options.pop("reference_folder", Path())
    dataset = open_data(data, rules)
    options["isolation"] = isolation_for(command, rules, isolation)
    rules = in_force(rules, options.get("reference"))
    names = [c.name for c in sources]
    results: list[EvaluationResult] = []
    with (
        Evaluator(rules, dataset, reference_path=reference_folder / REFERENCE_FILE, **options) as evaluator,
        progress("evaluating") as tick,
    ):
        tick(0, len(names), names[0])
        for measured in evaluator.evaluate(sources):
            results.append(measured.result)
            tick(len(results), len(names), "".join(names[len(results) :][:1]))
    return results


def wrote_json(target: str | None, results: Sequence[EvaluationResult]) -> bool:
    """Write the results where --json says; say whether that was stdout, so that nothing else goes there."""
    if target is None:
        return False
    write_json(target, {"results": [r.model_dump(mode="json") for r in results]})
    return target == "-"


def worst(results: Sequence[EvaluationResult]) -> int:
    """Return the exit code of the worst result."""
    statuses = {r.status for r in results}
    if Status.HOST_ERROR in statuses:
        return EXIT_HOST
    return EXIT_OK if statuses <= {Status.OK} else EXIT_PARTICIPANT
