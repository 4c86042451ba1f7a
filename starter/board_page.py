"""Write the leaderboard as a static site: it needs no server, no network and no other file.

index.html and one page for each entry. Names are strangers' texts: everything is escaped,
control characters are replaced, and a content security policy names the only script and
style that a browser may run, by their hashes.
"""

import base64
import hashlib
import math
import shutil
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup, escape

from starter.board import Board, Details, Row
from starter.errors import CATALOGUE
from starter.scoreboard import clean, inline
from starter.scoring import f1_terms, scored_macs

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 960, 440, 56, 44, 24, 24
_SPARK = (84, 18)
_LEVELS = (-0.4, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)


def write_board(board: Board, folder: Path, details: Iterable[Details]) -> Path:
    """Write the site into a folder; a kill leaves the old site or the new one.

    Returns:
        Path: index.html.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "entries").mkdir(parents=True)
    page = _environment().get_template("entry.html")
    linked = set()
    for entry in details:
        linked.add(entry.row.id)
        text = page.render(_common(board) | dict(entry) | {"heaviest": _heaviest(entry)})
        (partial / "entries" / f"{entry.row.id}.html").write_text(text, encoding="utf-8")
    (partial / "index.html").write_text(_index(board, linked), encoding="utf-8")
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder / "index.html"


def _index(board: Board, linked: set[str]) -> str:
    revealed = board.usage == "Private"
    headings = [
        ("rank", ""),
        *([("public", "")] if revealed else []),
        ("team", "t"),
        ("entry", "t"),
        ("score", ""),
        ("95 %", ""),
        ("tie group", ""),
        *([] if revealed else [("ahead", "")]),
        ("MACs", ""),
        ("of baseline", ""),
        ("macro F1", ""),
        ("branch", ""),
        ("trend", ""),
        ("entries", ""),
        ("submitted", ""),
    ]
    shown = {"headings": headings, "linked": linked, "spark": _spark, "picture": _picture(board, linked)}
    return _environment().get_template("board.html").render(_common(board) | shown)


def _common(board: Board) -> dict[str, Any]:
    style, script = _source("board.css"), _source("board.js")
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'"
    return {
        "board": board,
        "baseline_macs": _baseline_macs(board),
        "css": Markup(style),  # noqa: S704 - our own file
        "js": Markup(script),  # noqa: S704 - our own file
        "policy": Markup(policy),  # noqa: S704 - hashes in quotes
    }


@cache
def _source(name: str) -> str:
    return files("starter").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.globals |= {
        "text": inline,
        "lines": clean,
        "date": _date,
        "f4": lambda value: f"{value:.4f}",
        "f3": lambda value: f"{value:.3f}",
        "title": lambda code: CATALOGUE[code].title,
    }
    return environment


def _date(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M}"


def _heaviest(entry: Details) -> int:
    layers = entry.result.layers or ()
    return max((layer.contraction + layer.pointwise + layer.reduction for layer in layers), default=0) or 1


def _baseline_macs(board: Board) -> int:
    return scored_macs(board.reference.macs, board.reference.thop_macs, board.rules) or 1


def _spark(row: Row) -> str:
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


class _Axes:
    """Where MACs (logarithmic) and F1 lie in the picture."""

    def __init__(self, macs: Sequence[float], f1: Sequence[float], floor: float) -> None:
        low, high = math.log10(min(macs)), math.log10(max(macs))
        pad = max(0.06 * (high - low), 0.1)
        self.low, self.high = low - pad, high + pad
        self.bottom = max(0.0, min([*f1, max(f1) - 0.1]) - 0.03)
        self.bottom = min(self.bottom, max(floor - 0.01, 0)) if min(f1) < floor + 0.05 else self.bottom
        self.top = min(1.0, max(f1) + 0.03)

    def x(self, macs: float) -> float:
        share = (math.log10(macs) - self.low) / (self.high - self.low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, f1: float) -> float:
        share = (f1 - self.bottom) / (self.top - self.bottom)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP)

    def holds(self, x: float) -> bool:
        return _LEFT <= x <= _WIDTH - _RIGHT


def _picture(board: Board, linked: set[str]) -> str:
    """Draw MACs against F1: the entries, their Pareto front, the baseline, equal scores, the floor."""
    rows = [row for row in board.rows if row.macs and row.macro_f1 is not None]
    axes = _Axes([row.macs or 1 for row in rows], [row.macro_f1 or 0 for row in rows], board.rules.f1_floor)
    front = _front(rows)
    parts = [
        *_grid(axes),
        *_iso_lines(board, axes),
        *_floor(board, axes),
        _front_line(front, axes),
        *(_point(row, axes, linked, on_front=row in front) for row in reversed(rows)),
    ]
    head = Markup('<svg viewBox="0 0 {} {}" role="group" aria-label="{}">').format(
        _WIDTH, _HEIGHT, f"MACs against macro F1 of {len(rows)} entries"
    )
    return head + Markup("\n").join(parts) + Markup("</svg>")


def _front(rows: Sequence[Row]) -> list[Row]:
    """Return the entries that no other beats in both, by rising MACs."""
    found: list[Row] = []
    for row in sorted(rows, key=lambda row: (row.macs or 0, -(row.macro_f1 or 0))):
        if not found or (row.macro_f1 or 0) > (found[-1].macro_f1 or 0):
            found.append(row)
    return found


def _grid(axes: _Axes) -> Iterable[Markup]:
    line = Markup('<path class="grid" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"/>')
    text = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    for exponent in range(math.floor(axes.low), math.ceil(axes.high) + 1):
        for step in (1, 2, 5):
            macs = step * 10.0**exponent
            if axes.holds(x := axes.x(macs)):
                yield line.format(x, _TOP, x, bottom)
                yield text.format(x, bottom + 18, "middle", _short(macs))
    step_size = 0.02 if axes.top - axes.bottom < 0.2 else 0.05 if axes.top - axes.bottom < 0.5 else 0.1
    for i in range(math.ceil(axes.bottom / step_size), math.floor(axes.top / step_size) + 1):
        y = axes.y(i * step_size)
        yield line.format(_LEFT, y, right, y)
        yield text.format(_LEFT - 8, y + 4, "end", f"{i * step_size:.2f}")
    yield text.format(right, bottom + 36, "end", "MACs of one image")
    yield text.format(_LEFT - 40, _TOP - 8, "start", "macro F1")


def _short(macs: float) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if macs >= unit:
            return f"{macs / unit:g} {name}"
    return f"{macs:g}"


def _iso_lines(board: Board, axes: _Axes) -> Iterable[Markup]:
    """Draw where entries of one score lie: MACs = (score - F1 term) x the baseline's."""
    f1 = np.linspace(max(axes.bottom, board.rules.f1_floor), axes.top, 60)
    terms = f1_terms(f1, baseline_f1=board.baseline_f1, rules=board.rules)
    used: list[float] = []
    for level in _LEVELS:
        macs = (level - terms) * _baseline_macs(board)
        places = [
            (axes.x(m), axes.y(v))
            for m, v in zip(macs.tolist(), f1.tolist(), strict=True)
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


def _floor(board: Board, axes: _Axes) -> Iterable[Markup]:
    if axes.bottom < board.rules.f1_floor < axes.top:
        y = axes.y(board.rules.f1_floor)
        yield Markup('<path class="floor" d="M{} {:.1f}H{}"/>').format(_LEFT, y, _WIDTH - _RIGHT)
        yield Markup('<text x="{}" y="{:.1f}">F1 floor</text>').format(_LEFT + 6, y - 5)


def _front_line(front: Sequence[Row], axes: _Axes) -> Markup:
    path = ""
    for row in front:
        x, y = axes.x(row.macs or 1), axes.y(row.macro_f1 or 0)
        path += f"H{x:.1f}V{y:.1f}" if path else f"M{x:.1f} {y:.1f}"
    return Markup('<path class="front" d="{}"/>').format(path)


def _point(row: Row, axes: _Axes, linked: set[str], *, on_front: bool) -> Markup:
    """Draw one entry; only the front and the baselines are reached by the tabulator key."""
    x, y = axes.x(row.macs or 1), axes.y(row.macro_f1 or 0)
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
