"""The audit trail: a row for whatever changed what a board may say, chained by hashes.

A row's hash covers its content and the hash of the row before, so that none can be changed,
removed or put in between without changing all that follow. Rows say what an entry or a result is
afterwards (by its digest), so the tables can be compared with the trail (proof.py). Whoever may
write to the database can also write another chain from the start: only a head hash that was
published before tells them apart.
"""

import getpass
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from starter import __version__
from starter.contract.errors import Code, host_error
from starter.organizer.store.tables import Row, audit, contexts, entries, results

START = "0" * 64
"""What stands for the hash of the row before the first."""

ENTRY_FIELDS = ("team", "name", "submission", "submitted_at", "selected", "refused", "disqualified")
"""Columns of an entry that a board depends on: where its files lie is none of them."""

CONTEXT_FIELDS = ("data", "baseline", "rules", "cost_version")

_RESULT_COLUMNS = tuple(column for column in results.c if column.name not in {"id", "context"})
_LOCK = 0x57A7_7E12
"""Of PostgreSQL's advisory locks, the one that writers of a store's trail hold."""

_MOST_AT_ONCE = 1000


class Kind(StrEnum):
    """What happened."""

    START = "start"
    """The trail began."""
    BEFORE = "before"
    """An entry or a result was there when the trail began."""
    ENTRY = "entry"
    """An entry was submitted, or what was decided about it has changed."""
    RESULT = "result"
    """A result was stored."""
    REJUDGE = "rejudge"
    """A result was stored because somebody asked for it."""
    DISQUALIFY = "disqualify"
    REINSTATE = "reinstate"
    RENAME = "rename"
    MERGE = "merge"


@dataclass(frozen=True)
class TrailRow:
    """A row of the trail as it was read."""

    id: int
    """Its number, from 1."""
    at: float
    """When it was written, in seconds since 1970."""
    kind: str
    """What happened: a `Kind`."""
    submission: str
    """What it is about; empty for what is about no single one."""
    said: str
    """More about it, in JSON."""
    previous: str
    """The hash of the row before."""
    hash: str
    """Its own."""

    @property
    def computed(self) -> str:
        """The hash that its content makes."""
        return row_hash(vars(self))

    @cached_property
    def content(self) -> dict[str, Any]:
        """What `said` says; nothing where somebody has made it something else."""
        try:
            found = json.loads(self.said)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


class Trail:
    """The end of the trail in a transaction, which holds it against other writers until it ends.

    Args:
        connection: a transaction that has not written anything yet.

    Raises:
        HostError: H270, the trail has no row.
    """

    def __init__(self, connection: sa.Connection) -> None:
        if connection.dialect.name == "postgresql":  # a SQLite transaction that writes is alone anyway
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        last = sa.select(audit.c.id, audit.c.hash).order_by(audit.c.id.desc()).limit(1)
        row = connection.execute(last).one_or_none()
        if row is None:
            raise host_error(Code.TRAIL_EMPTY, where="table audit", got="no row")
        self._connection = connection
        self._number, self._hash = row
        self._at = time.time()
        self._rows: list[dict[str, Any]] = []

    def append(self, kind: Kind, submission: str, said: Mapping[str, Any]) -> None:
        """Add a row about a submission, which is there after `write`."""
        row = chained(self._number + 1, self._at, kind, submission, said, self._hash)
        self._number, self._hash = row["id"], row["hash"]
        self._rows.append(row)
        if len(self._rows) >= _MOST_AT_ONCE:
            self.write()

    def write(self) -> None:
        """Write what was appended."""
        if self._rows:
            self._connection.execute(sa.insert(audit), self._rows)
        self._rows = []


def chained(
    number: int, at: float, kind: str, submission: str, said: Mapping[str, Any], previous: str
) -> dict[str, Any]:
    """Return a row of the trail with its hash."""
    row = {
        "id": number,
        "at": at,
        "kind": str(kind),
        "submission": submission,
        "said": _canonical(said),
        "previous": previous,
    }
    return row | {"hash": row_hash(row)}


def row_hash(row: Mapping[str, Any]) -> str:
    """Return the hash of a row: of its content, the hash of the row before included."""
    content = [row[name] for name in ("id", "at", "kind", "submission", "said", "previous")]
    return hashlib.sha256(_canonical(content).encode()).hexdigest()


def entry_state(row: Row) -> dict[str, Any]:
    """Return what a row of `entries` says, as the trail keeps it."""
    at, selected = float(row["submitted_at"]), bool(row["selected"])
    return {name: row[name] for name in ENTRY_FIELDS} | {"submitted_at": at, "selected": selected}


def digest(state: Mapping[str, Any]) -> str:
    """Return the hash of an entry's state."""
    return hashlib.sha256(_canonical(state).encode()).hexdigest()


def result_digest(context: Sequence[str], row: Row) -> str:
    """Return the hash of a row of `results`, with what it holds under: the values of CONTEXT_FIELDS."""
    values = [convert(row[name]) for name, convert in _CONVERSIONS.items()]
    return hashlib.sha256(_canonical([*context, *values]).encode()).hexdigest()


def rows_of(connection: sa.Connection, submission: str | None = None) -> Iterator[TrailRow]:
    """Yield the rows of the trail in order, all or those about one submission."""
    query = sa.select(*(audit.c[field.name] for field in fields(TrailRow))).order_by(audit.c.id)
    if submission is not None:
        query = query.where(audit.c.submission == submission)
    for row in connection.execute(query.execution_options(yield_per=_MOST_AT_ONCE)):
        yield TrailRow(*row)


def operator() -> str:
    """Return who is at work: the system's name for the user, or the number where it has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # KeyError before Python 3.13
        return str(os.getuid()) if hasattr(os, "getuid") else ""


def enter_existing(connection: sa.Connection) -> None:
    """Begin the trail of a store with what it holds."""
    counts = {
        table.name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        for table in (entries, results)
    }
    said = {"starter": __version__, **counts}
    row = chained(1, time.time(), Kind.START, "", said, START)
    connection.execute(sa.insert(audit), [row])
    trail = Trail(connection)
    found = connection.execute(sa.select(*(entries.c[name] for name in ENTRY_FIELDS)).order_by(entries.c.id))
    for entry in found.mappings():
        trail.append(Kind.BEFORE, entry["submission"], {"entry": entry_state(entry)})
    for number, holds_under in contexts_of(connection).items():
        query = sa.select(*_RESULT_COLUMNS).where(results.c.context == number).order_by(results.c.id)
        for result in connection.execute(query.execution_options(yield_per=_MOST_AT_ONCE)).mappings():
            trail.append(Kind.BEFORE, result["submission"], result_said(number, holds_under, result))
    trail.write()


def contexts_of(connection: sa.Connection) -> dict[int, tuple[str, ...]]:
    """Return what results hold under by its number, as `result_digest` takes it."""
    query = sa.select(contexts.c.id, *(contexts.c[name] for name in CONTEXT_FIELDS))
    return {number: tuple(values) for number, *values in connection.execute(query)}


def result_said(context: int, holds_under: Sequence[str], row: Row) -> dict[str, Any]:
    """Return what the trail says about a row of `results`."""
    return {
        "context": context,
        "result": result_digest(holds_under, row),
        "status": row["status"],
        "score": row["public_score"],
    }


def _canonical(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))


def _conversion(column: sa.Column[Any]) -> Callable[[Any], Any]:
    """Return what makes the same value of whatever a database or a record has for a column."""
    kinds: dict[type[Any], Callable[[Any], Any]] = {
        sa.LargeBinary: lambda data: hashlib.sha256(data).hexdigest(),
        sa.Boolean: bool,
        sa.Double: float,
        sa.Integer: int,
        sa.String: str,
    }
    convert = next(convert for kind, convert in kinds.items() if isinstance(column.type, kind))
    return lambda value: None if value is None else convert(value)


_CONVERSIONS = {column.name: _conversion(column) for column in _RESULT_COLUMNS}
