"""Writes entries and results: each change with its row of the trail and the places it moves."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from starter.organizer.audit.trail import (
    Kind,
    Trail,
    contexts_of,
    entry_state,
    operator,
    result_digest,
    result_said,
)
from starter.organizer.store.database import Database
from starter.organizer.store.group import GroupCommit
from starter.organizer.store.model import Entry
from starter.organizer.store.places import Places
from starter.organizer.store.rows import chunks
from starter.organizer.store.tables import entries, results, superseded

_DECIDED = ("selected", "source", "refused")
"""What an entry that is known takes from the one that is added again."""

_Key = tuple[int, str]
"""A result's context and submission."""


@dataclass(frozen=True)
class _New:
    """A result that is to be stored."""

    row: Mapping[str, Any]
    said: Mapping[str, Any]
    """What the trail says about it."""
    kind: Kind

    @property
    def key(self) -> _Key:
        return self.row["context"], self.row["submission"]


class Writer:
    """Writes into a store.

    Args:
        database: the store's.
        places: its teams' places.
    """

    def __init__(self, database: Database, places: Places) -> None:
        self._database = database
        self._places = places
        self._group = GroupCommit(self._commit)
        self._holds_under: dict[int, tuple[str, ...]] = {}

    def add(self, context: int, new: Sequence[Entry]) -> None:
        """Keep entries, as `Store.add` says."""
        if not new:
            return
        statement = self._database.insert(entries)
        statement = statement.on_conflict_do_update(
            index_elements=["team", "name", "submission"],
            set_={name: statement.excluded[name] for name in _DECIDED},
        )
        rows = [vars(e) | {"submitted_at": e.submitted_at.timestamp()} for e in new]
        submissions = sorted({e.submission for e in new})
        with self._database.writing() as connection:
            trail = Trail(connection)
            lost = _record_entries(trail, rows, states_of(connection, submissions))
            self._places.leave(connection, lost)
            connection.execute(statement, rows)
            trail.write()
            self._places.find(connection, lost)
            self._places.improve_by(connection, context, submissions)

    def put(self, row: Mapping[str, Any], reason: str) -> None:
        """Keep a row of `results`, as `Store.put` says."""
        context = row["context"]
        if context not in self._holds_under:
            with self._database.reading() as connection:
                self._holds_under = contexts_of(connection)
        said = result_said(context, self._holds_under[context], row)
        if reason:
            said |= {"reason": reason, "by": operator()}
        self._group.put(_New(row, said, Kind.REJUDGE if reason else Kind.RESULT))

    def _commit(self, group: Sequence[_New]) -> None:
        """Store results in one transaction; of one submission the last holds, the others are superseded."""
        with self._database.writing() as connection:
            trail = Trail(connection)
            for one in _rounds(group):
                self._keep(connection, trail, one)
            trail.write()

    def _keep(self, connection: sa.Connection, trail: Trail, group: Sequence[_New]) -> None:
        """Store results of different submissions or contexts."""
        rows = [new.row for new in group]
        replaced, teams = self._supersede(connection, {new.key for new in group})
        statement = self._database.insert(results)
        updated = {
            name: statement.excluded[name] for name in rows[0] if name not in {"context", "submission"}
        }
        self._places.leave(connection, teams)
        connection.execute(
            statement.on_conflict_do_update(index_elements=["context", "submission"], set_=updated), rows
        )
        for new in group:
            old = {"replaces": replaced[new.key]} if new.key in replaced else {}
            trail.append(new.kind, new.row["submission"], {**new.said, **old})
        for context in {row["context"] for row in rows}:
            self._places.improve(connection, [row for row in rows if row["context"] == context])
        self._places.find(connection, teams)

    def _supersede(self, connection: sa.Connection, keys: set[_Key]) -> tuple[dict[_Key, str], set[str]]:
        """Keep the results that others replace; return their digests, and the teams that stand by them."""
        replaced: dict[_Key, str] = {}
        ranked: set[str] = set()
        for part in chunks(sorted({submission for _, submission in keys})):
            query = sa.select(results).where(results.c.submission.in_(part))
            for row in connection.execute(query).mappings().all():
                if (key := (row["context"], row["submission"])) in keys:
                    old = {name: value for name, value in row.items() if name != "id"}
                    connection.execute(sa.insert(superseded).values(old))
                    replaced[key] = result_digest(self._holds_under[row["context"]], old)
                    ranked |= {row["submission"]} if row["public_ranked"] else set()
        return replaced, {team for team, _, _ in states_of(connection, sorted(ranked))}


def states_of(
    connection: sa.Connection, submissions: Sequence[str]
) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return the states of the entries with these contents, by team, name and submission."""
    found = {}
    for part in chunks(submissions):
        query = sa.select(entries).where(entries.c.submission.in_(part))
        for row in connection.execute(query).mappings():
            found[row["team"], row["name"], row["submission"]] = entry_state(row)
    return found


def _record_entries(
    trail: Trail, rows: Iterable[Mapping[str, Any]], known: dict[tuple[str, str, str], dict[str, Any]]
) -> set[str]:
    """Record what is new about entries; return the teams of those that are refused from now on."""
    lost: set[str] = set()
    for row in rows:
        key = row["team"], row["name"], row["submission"]
        before = known.get(key)
        state = entry_state(row)
        if before is not None:
            state |= {name: before[name] for name in ("submitted_at", "disqualified")}
        if state != before:
            trail.append(Kind.ENTRY, row["submission"], {"entry": state})
            known[key] = state
            lost |= {row["team"]} if before and state["refused"] else set()
    return lost


def _rounds(group: Iterable[_New]) -> list[list[_New]]:
    """Return results in rounds of different ones: mostly there is one round."""
    rounds: list[dict[_Key, _New]] = []
    for new in group:
        free = next((keys for keys in rounds if new.key not in keys), None)
        if free is None:
            rounds.append(free := {})
        free[new.key] = new
    return [list(one.values()) for one in rounds]
