"""Show the leaderboard as text: a table in a terminal, plain lines otherwise, and CSV."""

import csv
import io

from rich.console import Console
from rich.table import Table
from rich.text import Text

from starter.contract.costs import GraphCosts
from starter.contract.text import inline, no_formula
from starter.organizer.leaderboard.model import Board, LeaderboardRow
from starter.report.explanation import formula
from starter.report.terminal import print_line, print_wrapped

_COLUMNS = (
    "place", "team", "name", "score", "interval_low", "interval_high", "tie_group", "holds", "public_place",
    "macs", "macs_ratio", "macro_f1", "worst_group_f1", "f1_term", "branch", "params",
    *GraphCosts.model_fields, "entries", "submitted_at", "baseline",
    "reason", "stale", "duplicates", "submission",
)  # fmt: skip


def to_csv(board: Board) -> str:
    """Return all rows as CSV; no stranger's text can act as a spreadsheet formula."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in (*board.rows, *board.others):
        low, high = row.interval or (None, None)
        fields = row.model_dump(mode="json", include=set(_COLUMNS))
        fields |= {
            **(row.costs.model_dump() if row.costs else {}),
            "interval_low": low,
            "interval_high": high,
            "baseline": "yes" if row.is_baseline else "",
            "stale": ", ".join(row.stale),
            "duplicates": ", ".join(row.duplicates),
        }
        writer.writerow({name: _safe(value) for name, value in fields.items()})
    return text.getvalue()


def _safe(value: object) -> object:
    return no_formula(value) if isinstance(value, str) else value


def show_board(console: Console, board: Board) -> None:
    """Print a leaderboard."""
    images = f"{board.num_images:,} {board.usage.lower()} images"
    phase = f", phase {board.phase}" if board.phase else ""
    print_line(
        console,
        f"{board.competition}{phase}: {board.num_teams} teams, {board.num_entries} entries, {images}",
        "bold",
    )
    if board.reveal_at is not None:
        print_line(console, f"private figures from {board.reveal_at:%Y-%m-%d %H:%M:%S} UTC")
    if board.agreement is not None:
        print_line(
            console, f"agreement of the public and the private ranking: Kendall's tau {board.agreement:.2f}"
        )
    print_wrapped(console, formula(board.reference, board.rules))
    print_line(console)
    if console.is_terminal:
        console.print(_table(board))
        if any(row.tie_group is not None for row in board.rows):
            print_line(console)
            print_line(console, "tie: on these images, the entries of a group cannot be ranked.", "dim")
    else:
        for row in board.rows:
            print_line(console, _line(row))
    if board.others:
        print_line(console)
        print_line(console, "not ranked:", "bold")
        for row in board.others:
            print_line(console, f"  {inline(row.team)}/{inline(row.name)}  {inline(row.reason)}")
        if board.more_others:
            print_line(console, f"  and {board.more_others:,} more")


def _line(row: LeaderboardRow) -> str:
    place = "baseline" if row.is_baseline else str(row.place)
    low, high = row.interval or (row.score, row.score)
    team = f"{inline(row.team)}/" if row.team else ""
    return (
        f"{place}  {team}{inline(row.name)}  score {row.score:.4f} ({low:.4f} to {high:.4f})"
        f"  MACs {row.macs:,}  macro-F1 {row.macro_f1:.4f}"
        + ("" if row.worst_group_f1 is None else f"  worst group {row.worst_group_f1:.4f}")
    )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _table(board: Board) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    revealed = board.usage == "Private"
    headings = [
        "rank",
        "public" if revealed else "",
        "team",
        "entry",
        "score",
        "95 %",
        "tie",
        "ahead",
        "MACs",
    ]
    for heading in [*headings, "macro F1", "worst group" if board.grouped_by else ""]:
        if heading:
            left = heading in {"team", "entry"}
            table.add_column(heading, justify="left" if left else "right", overflow="fold", no_wrap=not left)
    for row in board.rows:
        half = (row.interval[1] - row.interval[0]) / 2 if row.interval else None
        cells = [
            str(row.place) if row.place else "-",
            *([str(row.public_place or "-")] if revealed else []),
            inline(row.team),
            inline(row.name) + (" (baseline)" if row.is_baseline else ""),
            f"{row.score:.4f}",
            "" if half is None else f"+-{half:.4f}",
            str(row.tie_group or ""),
            "" if row.holds is None else f"{row.holds:.0%}",
            f"{row.macs:,}",
            f"{row.macro_f1:.4f}",
            *([_figure(row.worst_group_f1)] if board.grouped_by else []),
        ]
        table.add_row(*(Text(cell) for cell in cells), style="dim" if row.is_baseline else "")
    return table
