"""Write the leaderboard as a static site that needs no server, no network and no other file.

It has an index.html and one page for each entry. Names are strangers' texts: everything is
escaped, control characters are replaced, and a content security policy names by hash the
only script and style that a browser may run.
"""

import errno
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from markupsafe import Markup, escape

from starter.contract.competition import CostName
from starter.contract.errors import Code, usage_error
from starter.contract.system.files import atomic_folder
from starter.contract.text import inline
from starter.evaluation.scoring import Counts, f1_terms, pareto_front
from starter.organizer.leaderboard.model import Board, Details, LeaderboardRow
from starter.organizer.waiting import Queue
from starter.report.explanation import COST_LABELS, formula, formula_cases
from starter.report.html.page import render
from starter.report.html.svg import HEIGHT, LEFT, RIGHT, WIDTH, Axes, front_line, grid

FURTHER: tuple[CostName, ...] = ("weight_bytes", "peak_memory_bytes", "memory_access", "depth")
"""Costs with an optional column of their own."""

MOST_WAITING = 100
"""How many of the entries that wait a page names."""

_OURS = b'<meta name="generator" content="starter leaderboard">'
_SPARK = (84, 18)
_LEVELS = (-0.4, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)


def write_board(board: Board, folder: Path, details: Iterable[Details], queue: Queue | None = None) -> Path:
    """Write the site into a folder; if the process is killed, the old site or the new one remains.

    Args:
        board: the leaderboard.
        folder: where to; an older site is replaced.
        details: what the pages of entries show.
        queue: who waits for an evaluation, where the competition is watched.

    Returns:
        Path: index.html.

    Raises:
        UsageError: U106, the folder holds something other than an older site.
    """
    if other := _not_ours(folder):
        raise usage_error(
            Code.TARGET_EXISTS, where=str(folder), expected="a new name or an older site", got=other
        )
    try:
        with atomic_folder(folder) as partial:
            _write_pages(board, partial, details, queue)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        expected, got = "a folder in the one that is mounted", "a mount point, which cannot be replaced"
        raise usage_error(Code.TARGET_EXISTS, where=str(folder), expected=expected, got=got) from error
    return folder / "index.html"


def _write_pages(board: Board, partial: Path, details: Iterable[Details], queue: Queue | None) -> None:
    linked = set()
    (partial / "entries").mkdir(parents=True)
    for entry in details:
        linked.add(entry.row.id)
        text = _page("entry.html", board, dict(entry) | {"heaviest": _heaviest(entry)})
        (partial / "entries" / f"{entry.row.id}.html").write_text(text, encoding="utf-8", newline="\n")
    (partial / "index.html").write_text(_index(board, linked, queue), encoding="utf-8", newline="\n")


def _not_ours(folder: Path) -> str:
    """Return what a new site would destroy; empty if there is only an older one."""
    if not folder.exists():
        return ""
    if not folder.is_dir():
        return "a file of that name"
    names = {path.name for path in folder.iterdir()}
    if other := sorted(names - {"index.html", "entries"}):
        return f"{other[0]} in it"
    index = folder / "index.html"
    if names and not (index.is_file() and _OURS in index.read_bytes()):
        return "files of something else in it"
    return ""


def _index(board: Board, linked: set[str], queue: Queue | None) -> str:
    # Heading and class of each column, as in board.html: `t` is text, `key` names the row, `more` shows in
    # wide windows, `extra` on request.
    revealed = board.usage == "Private"
    headings = [
        ("rank", ""),
        *([("public", "")] if revealed else []),
        ("team", "t key"),
        ("entry", "t"),
        ("score", ""),
        ("95 %", "more"),
        ("tie group", "more"),
        *([] if revealed else [("ahead", "more")]),
        ("MACs", ""),
        ("cost term" if board.rules.preset in {"ntire", "budget"} else "of baseline", "more"),
        ("macro F1", ""),
        *([("worst group", "more")] if board.grouped_by else []),
        ("branch", "extra t"),
        ("params", "extra"),
        *((COST_LABELS[name], "extra") for name in FURTHER),
        ("trend", "more"),
        ("entries", "extra"),
        ("submitted", "more"),
    ]
    shown = {"headings": headings, "linked": linked, "spark": _spark, "picture": _picture(board, linked)}
    return _page("board.html", board, shown | {"queue": queue, "most_waiting": MOST_WAITING})


def _page(template: str, board: Board, shown: dict[str, object]) -> str:
    formulas = {
        "formula": formula(board.reference, board.rules),
        "cases": formula_cases(board.reference, board.baseline_f1, board.rules),
    }
    common = {"board": board, **formulas, "further": FURTHER, "labels": COST_LABELS}
    return render(
        template, "leaderboard", styles=["board.css"], scripts=["table.js", "board.js"], **common, **shown
    )


def _heaviest(entry: Details) -> int:
    layers = entry.result.layers or ()
    return max((layer.contraction + layer.pointwise + layer.reduction for layer in layers), default=0) or 1


def _cost_axis(board: Board) -> tuple[float, str]:
    """Return the value of a cost term of 1 in the picture, and the axis label; several costs are summed."""
    match list(board.rules.weights.items()):
        case [(name, weight)] if not board.rules.exponential:
            return getattr(Counts.of(board.reference), name) / weight, COST_LABELS[name]
        case []:
            return 1.0, COST_LABELS["macs"]
        case _:
            return 1.0, "sum of the cost terms"


def _drawn_cost(board: Board, row: LeaderboardRow, scale: float) -> float:
    """Return a row's place on the cost axis: what is scored, or the MACs where no cost is."""
    return (row.macs_ratio or 0) * scale if board.rules.weights else float(row.macs or 0)


def _spark(row: LeaderboardRow) -> str:
    """Return a sparkline of a team's best score over time; nothing for a single point."""
    if len(row.trend) < 2:
        return ""
    width, height = _SPARK
    times = np.array([point.at.timestamp() for point in row.trend])
    scores = np.array([point.score for point in row.trend])
    xs = 2 + (times - times[0]) / max(times[-1] - times[0], 1) * (width - 4)
    ys = 2 + (scores[0] - scores) / max(scores[0] - scores[-1], 1e-9) * (height - 4)
    path = f"M{xs[0]:.0f} {ys[0]:.0f}" + "".join(
        f"H{x:.0f}V{y:.0f}" for x, y in zip(xs[1:], ys[1:], strict=True)
    )
    label = f"best score from {scores[0]:.4f} to {scores[-1]:.4f} in {len(scores)} steps"
    return Markup(
        '<svg width="{}" height="{}" role="img" aria-label="{}"><path class="spark" d="{}"/></svg>'
    ).format(width, height, label, path)


def _picture(board: Board, linked: set[str]) -> str:
    """Draw the cost against F1: the entries, their Pareto front, the baseline, equal scores, the floor."""
    scale, label = _cost_axis(board)
    drawn = [(row, _drawn_cost(board, row, scale)) for row in board.rows if row.macro_f1 is not None]
    rows = [row for row, cost in drawn if cost]
    points = [(cost, row.macro_f1 or 0) for row, cost in drawn if cost]
    axes = Axes([cost for cost, _ in points], [f1 for _, f1 in points], board.rules.f1_floor)
    on_front = {rows[i].id for i in pareto_front(points)}
    parts = [
        *grid(axes, label),
        *_iso_lines(board, axes, scale),
        *_floor(board, axes),
        front_line(points, axes),
        *(
            _point(row, axes.x(cost), axes, linked, on_front=row.id in on_front)
            for row, (cost, _) in reversed(list(zip(rows, points, strict=True)))
        ),
    ]
    head = Markup('<svg viewBox="0 0 {} {}" role="group" aria-label="{}">').format(
        WIDTH, HEIGHT, f"{label} against macro F1 of {len(rows)} entries"
    )
    return head + Markup("\n").join(parts) + Markup("</svg>")


def _iso_lines(board: Board, axes: Axes, scale: float) -> Iterable[Markup]:
    """Draw the lines of equal score: cost = (score - F1 term) x the baseline's."""
    if board.rules.averages_ranks:
        return  # a rank is no function of an entry's own figures
    f1 = np.linspace(max(axes.bottom, board.rules.f1_floor), axes.top, 60)
    terms = f1_terms(f1, baseline_f1=board.baseline_f1, rules=board.rules)
    used: list[float] = []
    for level in _LEVELS:
        if not board.rules.weights:
            yield from _iso_level(board, axes, level)
            continue
        costs = (level - terms) * scale
        places = [
            (axes.x(m), axes.y(v))
            for m, v in zip(costs.tolist(), f1.tolist(), strict=True)
            if m > 0 and axes.holds(axes.x(m))
        ]
        if len(places) < 5:
            continue
        yield _iso_path(places)
        x, y = places[-1]
        if all(abs(x - other) > 34 for other in used):
            used.append(x)
            yield _iso_label(x, y - 5, level)


def _iso_level(board: Board, axes: Axes, level: float) -> Iterable[Markup]:
    """Draw a score that F1 alone decides: a level line."""
    f1 = board.baseline_f1 * (1 - level / (board.rules.reward if level < 0 else board.rules.penalty))
    if max(axes.bottom, board.rules.f1_floor) < f1 < axes.top:
        yield _iso_path([(LEFT, axes.y(f1)), (WIDTH - RIGHT, axes.y(f1))])
        yield _iso_label(WIDTH - RIGHT - 16, axes.y(f1) - 5, level)


def _iso_path(places: Iterable[tuple[float, float]]) -> Markup:
    return Markup('<path class="iso" d="M{}"/>').format("L".join(f"{x:.1f} {y:.1f}" for x, y in places))


def _iso_label(x: float, y: float, level: float) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="middle">{:g}</text>').format(x, y, level)


def _floor(board: Board, axes: Axes) -> Iterable[Markup]:
    if axes.bottom < board.rules.f1_floor < axes.top:
        y = axes.y(board.rules.f1_floor)
        yield Markup('<path class="floor" d="M{} {:.1f}H{}"/>').format(LEFT, y, WIDTH - RIGHT)
        yield Markup('<text x="{}" y="{:.1f}">F1 floor</text>').format(LEFT + 6, y - 5)


def _point(row: LeaderboardRow, x: float, axes: Axes, linked: set[str], *, on_front: bool) -> Markup:
    """Draw one entry; the Tab key stops only at the front and the baselines."""
    y = axes.y(row.macro_f1 or 0)
    who = f"{inline(row.team)}/{inline(row.name)}" if row.team else inline(row.name)
    what = "baseline " if row.is_baseline else f"{row.place}. "
    label = f"{what}{who}: score {row.score:.4f}, {row.macs:,} MACs, F1 {row.macro_f1:.4f}"
    if row.is_baseline:
        shape = Markup('<path class="ref" d="M{:.1f} {:.1f}l7 7l-7 7l-7 -7z"/>').format(x, y - 7)
    else:
        shape = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"/>').format(
            "top" if on_front else "dot", x, y, 5 if on_front else 4
        )
    target = f"entries/{row.id}.html" if row.id in linked else f"#r{row.id}"
    skip = "" if on_front or row.is_baseline else Markup(' tabindex="-1"')
    return Markup('<a href="{}" aria-label="{}"{}>{}</a>').format(target, escape(label), skip, shape)
