"""The command `starter leaderboard`: show what a store holds."""

import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.common import (
    DataOption,
    JsonOption,
    RulesOption,
    StoreOption,
    can_be_made,
    err,
    open_data,
    out,
    store_url,
    write_json,
)
from starter.cli.organize.phases import PhaseOption
from starter.contract.competition import load_competition
from starter.contract.errors import Code, usage_error
from starter.contract.rules.calendar import placed
from starter.contract.text import inline
from starter.report.terminal import print_line

if TYPE_CHECKING:
    from starter.contract.competition import CompetitionFile
    from starter.data.dataset import Dataset
    from starter.organizer.leaderboard.standings import Standings


RevealOption = Annotated[
    bool | None,
    typer.Option("--reveal/--no-reveal", help="Rank on the private images; default: as the calendar says."),
]
AtOption = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="TIME",
        help="Show the board as of this time (ISO 8601): its phase, its entries, revealed or not.",
    ),
]
CsvOption = Annotated[
    Path | None, typer.Option("--csv", callback=can_be_made, help="Write all rows to this CSV file.")
]
HtmlOption = Annotated[
    Path | None,
    typer.Option("--html", callback=can_be_made, help="Write a leaderboard page and one page per entry."),
]
ReportsOption = Annotated[
    Path | None,
    typer.Option(callback=can_be_made, help="Write a copy of each entry's result, for its team."),
]


def leaderboard(  # noqa: PLR0913, PLR0917 - the command's options, one to one
    store: StoreOption = None,
    reveal: RevealOption = None,
    phase: PhaseOption = None,
    at: AtOption = None,
    csv_to: CsvOption = None,
    html_to: HtmlOption = None,
    reports: ReportsOption = None,
    team: Annotated[str | None, typer.Option(help="Show only this team's rank.")] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of a result record.")
    ] = False,
    data: DataOption = None,
    competition: RulesOption = None,
    json_to: JsonOption = None,
) -> None:
    """Show the leaderboard of the entries that `starter batch` evaluated."""
    from starter.evaluation.evaluate import read_reference
    from starter.evaluation.records import EvaluationRecord
    from starter.organizer.leaderboard.standings import Standings
    from starter.organizer.store.store import Store
    from starter.report.html.leaderboard import write_board
    from starter.report.leaderboard import show_board, to_csv

    if schema:
        out.print_json(json.dumps(EvaluationRecord.model_json_schema()))
        return
    whole = load_competition(competition)
    as_of = _moment(at, whole)
    rules = whole.in_phase(phase, as_of)
    reveals = _reveals(rules, as_of or datetime.now(UTC), reveal)
    reference = read_reference(rules.path(rules.baseline))
    dataset = open_data(data, rules)
    with Store(store_url(store, rules)) as kept:
        standings = Standings(kept, rules, dataset, reference, now=as_of)
        if team is not None:
            _show_team(standings, kept.team(team), reveal=reveals)
            return
        board = standings.board(reveal=reveals)
        if html_to is not None:
            print_line(err, f"{write_board(board, html_to, standings.details(board))}")
        if reports is not None:
            _write_reports(standings, rules, dataset, reports)
    if csv_to is not None:
        csv_to.write_text(to_csv(board), encoding="utf-8", newline="\n")
        print_line(err, f"{csv_to}: {len(board.rows) + len(board.others)} rows")
    if json_to is not None:
        write_json(json_to, board.model_dump(mode="json"))
    if json_to != "-":
        show_board(out, board)


def _moment(text: str | None, rules: "CompetitionFile") -> datetime | None:
    """Return the time of --at; one without an offset is of the competition's zone."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        wanted = "must be a time such as 2026-03-31T18:00:00 or 2026-03-31T18:00:00+09:00"
        raise typer.BadParameter(f"{wanted}, not {text!r}", param_hint="--at") from error
    try:
        return placed(at, rules.calendar.timezone)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--at") from error


def _reveals(rules: "CompetitionFile", at: datetime, asked: bool | None) -> bool:
    """Say whether a board ranks on the private images: as is asked, or else as the calendar says."""
    calendar = rules.calendar
    due = calendar.is_revealed(at)
    if asked and calendar.reveal is not None and not due:
        print_line(err, f"not to be published before {calendar.shown(calendar.reveal)}: private figures")
    return due if asked is None else asked


def _show_team(standings: "Standings", team: str, *, reveal: bool) -> None:
    found = standings.standing(team, reveal=reveal)
    if found is None:
        raise usage_error(Code.NO_TEAM, where="--team", got=team)
    images = " on the private images" if reveal else ""
    print_line(out, f"{inline(team)}: place {found.place} of {found.teams}, score {found.score:.4f}{images}")


def _write_reports(
    standings: "Standings", rules: "CompetitionFile", dataset: "Dataset", folder: Path
) -> None:
    from starter.evaluation.verify import write_report

    write = partial(write_report, withhold_predictions=rules.leaderboard.withhold_predictions)
    written = [write(folder / place, *kept, dataset) for place, kept in standings.reports()]
    print_line(err, f"{folder}: {len(written)} reports")
