"""The command `starter leaderboard`: show what a store holds. Joined to the command line by cli.py."""

import json
from pathlib import Path
from typing import Annotated

import typer

from starter.cli_shared import (
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
from starter.competition import load_competition
from starter.errors import Code, usage_error
from starter.scoreboard import inline, say


def leaderboard(  # noqa: PLR0913, PLR0917 - the command's options, one to one
    store: StoreOption = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="The final order, on the private images.")] = False,
    csv_to: Annotated[
        Path | None, typer.Option("--csv", callback=can_be_made, help="Write all rows to a CSV file.")
    ] = None,
    html_to: Annotated[
        Path | None,
        typer.Option("--html", callback=can_be_made, help="Write a static page and one for each entry."),
    ] = None,
    team: Annotated[str | None, typer.Option(help="Only this team's place.")] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of a result's record.")
    ] = False,
    data: DataOption = None,
    competition: RulesOption = None,
    json_to: JsonOption = None,
) -> None:
    """Show the leaderboard of what `starter batch` has evaluated."""
    from starter.board_page import write_board
    from starter.board_text import show_board, to_csv
    from starter.evaluate import read_reference
    from starter.records import EvaluationRecord
    from starter.standings import Standings
    from starter.store import Store

    if schema:
        out.print_json(json.dumps(EvaluationRecord.model_json_schema()))
        return
    rules = load_competition(competition)
    reference = read_reference(rules.path(rules.baseline))
    dataset = open_data(data, rules)
    with Store(store_url(store, rules)) as kept:
        standings = Standings(kept, rules, dataset, reference)
        if team is not None:
            found = kept.standing(standings.context, team)
            if found is None:
                raise usage_error(Code.NO_TEAM, where="--team", got=team)
            say(out, f"{inline(team)}: place {found.place} of {found.teams}, score {found.score:.4f}")
            return
        board = standings.board(reveal=reveal)
        if html_to is not None:
            say(err, f"{write_board(board, html_to, standings.details(board))}")
    if csv_to is not None:
        csv_to.write_text(to_csv(board), encoding="utf-8")
        say(err, f"{csv_to}: {len(board.rows) + len(board.others)} rows")
    if json_to is not None:
        write_json(json_to, board.model_dump(mode="json"))
    if json_to != "-":
        show_board(out, board)
