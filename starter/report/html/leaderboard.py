"""Write the leaderboard as a static site: it needs no server, no network and no other file.

index.html and one page for each entry. Names are strangers' texts: everything is escaped,
control characters are replaced, and a content security policy names the only script and
style that a browser may run, by their hashes.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from markupsafe import Markup, escape

from starter.contract.competition import CostName
from starter.contract.errors import Code, usage_error
from starter.contract.system.files import atomic_write
from starter.contract.text import inline
from starter.evaluation.scoring import Counts, f1_terms, pareto_front
from starter.organizer.leaderboard.model import Board, Details, LeaderboardRow
from starter.report.explanation import COST_LABELS
from starter.report.html.page import render
from starter.report.html.svg import HEIGHT, LEFT, RIGHT, WIDTH, Axes, front_line, grid

FURTHER: tuple[CostName, ...] = ("weight_bytes", "peak_memory_bytes", "memory_access", "depth")
"""Costs that have a column of their own, on demand."""

_OURS = b'<meta name="generator" content="starter leaderboard">'
_SPARK = (84, 18)
_LEVELS = (-0.4, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)


def write_board(board: Board, folder: Path, details: Iterable[Details]) -> Path:
    """Write the site into a folder; a kill leaves the old site or the new one.

    Returns:
        Path: index.html.

    Raises:
        UsageError: U106, the folder holds something else than an older site.
    """
    if other := _not_ours(folder):
        raise usage_error(
            Code.TARGET_EXISTS, where=str(folder), expected="a new name or an older site", got=other
        )
    old = folder.with_name(f".{folder.name}.old")
    linked = set()
    with atomic_write(folder) as partial:
        (partial / "entries").mkdir(parents=True)
        for entry in details:
            linked.add(entry.row.id)
            text = _page("entry.html", board, dict(entry) | {"heaviest": _heaviest(entry)})
            (partial / "entries" / f"{entry.row.id}.html").write_text(text, encoding="utf-8", newline="\n")
        (partial / "index.html").write_text(_index(board, linked), encoding="utf-8", newline="\n")
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
    shutil.rmtree(old, ignore_errors=True)
    return folder / "index.html"


def _not_ours(folder: Path) -> str:
    """Return what a new site would destroy; nothing where there is only an older one."""
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


def _index(board: Board, linked: set[str]) -> str:
    # Heading and class of each column, as in board.html: `t` is text, `key` names the row; `more` is shown in
    # wide windows, `extra` on demand.
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
        ("of baseline", "more"),
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
    return _page("board.html", board, shown)


def _page(template: str, board: Board, shown: dict[str, object]) -> str:
    common = {"board": board, "formula": _formula(board), "further": FURTHER, "labels": COST_LABELS}
    return render(
        template, "leaderboard", styles=["board.css"], scripts=["table.js", "board.js"], **common, **shown
    )


def _heaviest(entry: Details) -> int:
    layers = entry.result.layers or ()
    return max((layer.contraction + layer.pointwise + layer.reduction for layer in layers), default=0) or 1


def _formula(board: Board) -> str:
    """Return the costs that are scored, each over the baseline's."""
    baseline = Counts.of(board.reference)
    return " + ".join(
        f"{'' if weight == 1 else f'{weight:g} x '}{COST_LABELS[name]} / {getattr(baseline, name):,}"
        for name, weight in board.rules.weights.items()
    )


def _cost_axis(board: Board) -> tuple[float, str]:
    """Return what a scored cost of 1 is in the picture, and what is drawn: of several costs, their sum."""
    (name, weight), *others = board.rules.weights.items()
    if others:
        return 1.0, "weighted costs over the baseline's"
    return getattr(Counts.of(board.reference), name) / weight, COST_LABELS[name]


def _spark(row: LeaderboardRow) -> str:
    """Return a small line of a team's best score over time; nothing for a single point."""
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
    rows = [row for row in board.rows if row.macs_ratio and row.macro_f1 is not None]
    points = [((row.macs_ratio or 0) * scale, row.macro_f1 or 0) for row in rows]
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
    """Draw where entries of one score lie: cost = (score - F1 term) x the baseline's."""
    f1 = np.linspace(max(axes.bottom, board.rules.f1_floor), axes.top, 60)
    terms = f1_terms(f1, baseline_f1=board.baseline_f1, rules=board.rules)
    used: list[float] = []
    for level in _LEVELS:
        costs = (level - terms) * scale
        places = [
            (axes.x(m), axes.y(v))
            for m, v in zip(costs.tolist(), f1.tolist(), strict=True)
            if m > 0 and axes.holds(axes.x(m))
        ]
        if len(places) < 5:
            continue
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        yield Markup('<path class="iso" d="{}"/>').format(path)
        x, y = places[-1]
        if all(abs(x - other) > 34 for other in used):
            used.append(x)
            yield Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>').format(
                x, y - 5, f"{level:g}"
            )


def _floor(board: Board, axes: Axes) -> Iterable[Markup]:
    if axes.bottom < board.rules.f1_floor < axes.top:
        y = axes.y(board.rules.f1_floor)
        yield Markup('<path class="floor" d="M{} {:.1f}H{}"/>').format(LEFT, y, WIDTH - RIGHT)
        yield Markup('<text x="{}" y="{:.1f}">F1 floor</text>').format(LEFT + 6, y - 5)


def _point(row: LeaderboardRow, x: float, axes: Axes, linked: set[str], *, on_front: bool) -> Markup:
    """Draw one entry; only the front and the baselines are reached by the tabulator key."""
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
