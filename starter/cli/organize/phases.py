"""Which phase a command is about, and what a batch does for it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.common import err, progress
from starter.contract.errors import Status
from starter.report.terminal import print_line

if TYPE_CHECKING:
    from starter.contract.competition import CompetitionFile
    from starter.organizer.entries import EntrySource
    from starter.organizer.plan import PlannedEntry
    from starter.organizer.store.store import Store

PhaseOption = Annotated[
    str | None,
    typer.Option(
        "--phase", help="Name of a phase of the competition; default: the last one that has opened."
    ),
]


def planned(
    sources: "Sequence[EntrySource]",
    rules: "CompetitionFile",
    store: "Store",
    context: int,
    *,
    retry: Callable[[Status], bool],
    limit: int | None,
) -> "list[PlannedEntry]":
    """Plan a batch with a progress bar, and print what an organizer should know of it on stderr."""
    from starter.organizer.plan import notes, plan

    with progress("reading") as tick:
        entries = plan(sources, rules, store, context, retry=retry, limit=limit, on_progress=tick)
    for note in notes(entries, rules, store, context):
        print_line(err, note)
    return entries
