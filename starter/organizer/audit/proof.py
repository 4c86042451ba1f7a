"""Prove a store by its trail: that no row of it was changed, and that the tables are what it says."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from starter.evaluation.scoring import RankKey
from starter.organizer.audit.trail import (
    ENTRY_FIELDS,
    START,
    Kind,
    TrailRow,
    contexts_of,
    digest,
    entry_state,
    result_digest,
    rows_of,
)
from starter.organizer.store.database import Database
from starter.organizer.store.places import contenders
from starter.organizer.store.tables import entries, renamed, results, standings, superseded

_AT_ONCE = 500


@dataclass(frozen=True)
class Break:
    """Something in a store that its trail does not bear out."""

    where: str
    """The row of the trail, the entry, the result or the place."""
    got: str
    """What is wrong with it."""


@dataclass
class Proof:
    """What a store's trail bears out."""

    rows: int = 0
    """How many rows the trail has."""
    head: str = START
    """The hash of the last row."""
    published: int | None = None
    """The row whose hash was published, where one was asked for."""
    entries: int = 0
    """How many entries the store has."""
    results: int = 0
    """How many results, with those that others have replaced."""
    breaks: list[Break] = field(default_factory=list)
    """What is wrong, the trail's own rows first."""


@dataclass(frozen=True)
class _Known:
    """What the trail says about something, and where."""

    row: int
    digest: str


def prove(database: Database, published: str = "") -> Proof:
    """Read a store's trail and all that it is about.

    Args:
        database: the store's.
        published: a head hash that was published; it must be in the trail.
    """
    proof = Proof()
    said = _Said()
    with database.reading() as connection:
        for row in rows_of(connection):
            proof.breaks += _links(proof, row)
            proof.rows, proof.head = row.id, row.hash
            if row.hash == published:
                proof.published = row.id
            with contextlib.suppress(KeyError, TypeError, ValueError):  # what else a forger may have written
                said.take(row)
        if not proof.rows:
            proof.breaks.append(Break("the trail", "it has no row"))
        if published and proof.published is None:
            proof.breaks.append(Break("the trail", f"no row has the published hash {published}"))
        proof.breaks += _entries(connection, said, proof)
        proof.breaks += _results(connection, said, proof)
        proof.breaks += _names(connection, said)
        proof.breaks += _places(connection)
    return proof


class _Said:
    """What the tables must hold by the trail."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str, str], _Known] = {}
        self.results: dict[tuple[int, str], _Known] = {}
        self.replaced: Counter[str] = Counter()
        self.names: dict[str, str] = {}

    def take(self, row: TrailRow) -> None:
        """Follow one row."""
        said = row.content
        if was := said.get("was"):
            self.entries.pop(tuple(was), None)
        if entry := said.get("entry"):
            key = entry["team"], entry["name"], entry["submission"]
            self.entries[key] = _Known(row.id, digest(entry))
        if result := said.get("result"):
            self.results[said["context"], row.submission] = _Known(row.id, result)
        if replaced := said.get("replaces"):
            self.replaced[replaced] += 1
        if team := said.get("team"):
            old, new = team
            moved = {name: new if now == old else now for name, now in self.names.items()}
            self.names = {**moved, old: new}
            self.names.pop(new, None)


def _links(before: Proof, row: TrailRow) -> Iterator[Break]:
    """Yield what is wrong with a row of the trail, after those that were read."""
    where = f"row {row.id:,} of the trail ({row.kind}, {_moment(row.at)})"
    if row.id != before.rows + 1:
        yield Break(where, f"it follows row {before.rows:,}: rows are missing")
    if row.previous != before.head:
        yield Break(
            where, "it was not written after the row before: that one was changed, or rows are missing"
        )
    if row.hash != row.computed:
        yield Break(where, "its content is not what its hash was made of")
    if (row.id == 1) != (row.kind == Kind.START):
        yield Break(where, "a trail begins with a row of the kind start, and has one")


def _entries(connection: sa.Connection, said: _Said, proof: Proof) -> Iterator[Break]:
    left = dict(said.entries)
    for row in _streamed(connection, sa.select(*(entries.c[name] for name in ENTRY_FIELDS))):
        proof.entries += 1
        known = left.pop((row["team"], row["name"], row["submission"]), None)
        yield from _differs(f"entry {row['team']}/{row['name']}", known, digest(entry_state(row)))
    for (team, name, _), known in left.items():
        yield Break(f"entry {team}/{name}", f"it is gone: row {known.row:,} of the trail has it")


def _results(connection: sa.Connection, said: _Said, proof: Proof) -> Iterator[Break]:
    holds_under = contexts_of(connection)
    left = dict(said.results)
    for row in _streamed(connection, sa.select(results)):
        proof.results += 1
        known = left.pop((row["context"], row["submission"]), None)
        now = result_digest(holds_under.get(row["context"], ()), row)
        yield from _differs(f"result {row['submission']}", known, now)
    for (_, submission), known in left.items():
        yield Break(f"result {submission}", f"it is gone: row {known.row:,} of the trail has it")
    replaced = said.replaced.copy()
    for row in _streamed(connection, sa.select(superseded)):
        proof.results += 1
        replaced[now := result_digest(holds_under.get(row["context"], ()), row)] -= 1
        if replaced[now] < 0:
            yield Break(f"earlier result {row['submission']}", "the trail has none with this content")
    for missing in (+replaced).elements():
        yield Break(f"earlier result with the digest {missing}", "it is gone or was changed")


def _names(connection: sa.Connection, said: _Said) -> Iterator[Break]:
    now = {row.name: row.team for row in connection.execute(sa.select(renamed))}
    for name in sorted(said.names.keys() | now.keys()):
        if said.names.get(name) != now.get(name):
            yield Break(f"the former team name {name}", f"{now.get(name)}; the trail: {said.names.get(name)}")


def _places(connection: sa.Connection) -> Iterator[Break]:
    """Yield the places that do not follow from entries and results."""
    best: dict[tuple[int, str], tuple[Any, ...]] = {}
    for row in _streamed(connection, contenders()):
        key = tuple(row[name] for name in RankKey._fields)
        place = row["context"], row["team"]
        best[place] = min(best.get(place, key), key)
    now = {
        (row["context"], row["team"]): tuple(row[name] for name in RankKey._fields)
        for row in _streamed(connection, sa.select(standings))
    }
    for context, team in sorted(best.keys() | now.keys()):
        if best.get((context, team)) != now.get((context, team)):
            yield Break(f"the place of team {team}", "it does not follow from the entries and their results")


def _differs(what: str, known: _Known | None, now: str) -> Iterator[Break]:
    if known is None:
        yield Break(what, "it is not in the trail")
    elif known.digest != now:
        yield Break(what, f"it is not as row {known.row:,} of the trail has it")


def _streamed(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[sa.RowMapping]:
    yield from connection.execute(query.execution_options(yield_per=_AT_ONCE)).mappings()


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(" ", "seconds").removesuffix("+00:00") + " UTC"
