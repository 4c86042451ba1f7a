"""Lines of the leaderboard: made of what the store says, put into one order, compared with another."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from starter.contract.text import inline
from starter.organizer.leaderboard.model import LeaderboardRow, TrendPoint
from starter.organizer.store.model import Entry, Figures, RankedEntry, StaleEntry, UnrankedEntry


def trends_of(ranked: Iterable[RankedEntry]) -> dict[str, tuple[TrendPoint, ...]]:
    """Return each team's best score over time: one point for each time that it got better."""
    points: dict[str, list[TrendPoint]] = {}
    for entry in ranked:
        own = points.setdefault(entry.team, [])
        if not own or entry.public.score < own[-1].score:
            own.append(TrendPoint(at=entry.submitted_at, score=entry.public.score))
    return {team: tuple(own) for team, own in points.items()}


def row_of(
    entry: RankedEntry | UnrankedEntry | StaleEntry, figures: Figures | None, **fields: Any
) -> LeaderboardRow:
    """Return an entry's line, with its figures on some images."""
    own = vars(figures) if figures is not None else {}
    return LeaderboardRow(
        id=row_id(entry.team, entry.name, entry.submission),
        submission=entry.submission,
        team=entry.team,
        name=entry.name,
        submitted_at=entry.submitted_at,
        macs=entry.macs,
        **{name: value for name, value in own.items() if name != "ranked"},
        **{"place": None, **fields},
    )


def row_id(*parts: str) -> str:
    """Return a name for a line's page, which no stranger's text can shape."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def file_name(text: str) -> str:
    """Return a stranger's text as one part of a path; no two texts become the same."""
    name = "".join(c if c.isalnum() or c in " -_." else "_" for c in inline(text)).strip(" .")
    return name if name == text else f"{name}-{row_id(text)}".lstrip("-")


def copies_of(copies: Iterable[tuple[str, str]], entry: Entry) -> tuple[str, ...]:
    """Return TEAM/NAME of the other entries with the same content."""
    return tuple(f"{team}/{name}" for team, name in copies if (team, name) != (entry.team, entry.name))


def merged(rows: Sequence[LeaderboardRow], baselines: Sequence[LeaderboardRow]) -> list[LeaderboardRow]:
    """Return ranked rows with the baselines where their score puts them; a tie is the entry's."""
    return sorted([*rows, *baselines], key=lambda row: (row.score or 0, row.is_baseline, row.place or 0))


def compared(
    rows: Sequence[LeaderboardRow], public: Sequence[LeaderboardRow]
) -> tuple[list[LeaderboardRow], float | None]:
    """Add each row's place on the public board; return how far the two orders agree."""
    from scipy.stats import kendalltau  # noqa: PLC0415 - a second of import

    before = {row.team: place for place, row in enumerate(public, 1)}
    rows = [row.model_copy(update={"public_place": before[row.team]}) for row in rows]
    places = [row.public_place for row in rows]
    if len(rows) < 2:
        return rows, None
    return rows, float(kendalltau(places, range(len(rows))).statistic)
