"""Where an organizer's results are kept: a database (database.py) of the tables in tables.py.

One result is one transaction: a kill at any moment loses no finished result and leaves no
half one. A result is found by its submission's hash and by what it holds under
(records.Context); what it says in full is kept as JSON beside the few columns that are
asked for. `standings` is each team's best ranked entry, kept up in the same transaction.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import numpy as np
import sqlalchemy as sa
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.elements import KeyedColumnElement

from starter.contract.errors import Status
from starter.contract.results import UsageScore
from starter.evaluation.records import Context, EvaluationRecord, Evidence
from starter.evaluation.scoring import RankKey
from starter.organizer.store.database import Database
from starter.organizer.store.model import Entry, Figures, RankedEntry, StaleEntry, Standing, UnrankedEntry
from starter.organizer.store.tables import FIGURES, USAGES, contexts, entries, results, standings

Labels = np.ndarray[tuple[int], np.dtype[np.uint16]]

_CHUNK = 500
"""How many values one query names."""

_ENTRY = tuple(entries.c[field.name] for field in fields(Entry))
_FIGURES = tuple(results.c[f"{usage}_{name}"] for usage in USAGES for name in FIGURES)


class Store:
    """A database of entries and results.

    Args:
        url: for instance sqlite:///results.sqlite or postgresql+psycopg://user@host/name.

    Raises:
        UsageError: the URL is none, or its driver is not installed.
        HostError: it cannot be opened, or a newer kit wrote it.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._database = Database(url)

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        self._database.close()

    def known_context(self, context: Context) -> int | None:
        """Return the number of what results hold under; None where no result ever did. Nothing is written."""
        with self._database.reading() as connection:
            query = sa.select(contexts.c.id).filter_by(**context.model_dump())
            return connection.execute(query).scalar_one_or_none()

    def context_id(self, context: Context) -> int:
        """Return the number of what results hold under, a new one where it is new."""
        row = context.model_dump()
        with self._database.writing() as connection:
            connection.execute(self._database.insert(contexts).values(row).on_conflict_do_nothing())
            return int(connection.execute(sa.select(contexts.c.id).filter_by(**row)).scalar_one())

    def contexts(self) -> dict[int, Context]:
        """Return everything that results hold under, by number."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(contexts)).mappings()
            return {row["id"]: Context(**{k: v for k, v in row.items() if k != "id"}) for row in rows}

    def add(self, context: int, new: Sequence[Entry]) -> None:
        """Keep entries; those that are known keep their first time, and take what was decided since."""
        if not new:
            return
        with self._database.writing() as connection:
            statement = self._database.insert(entries)
            statement = statement.on_conflict_do_update(
                index_elements=["team", "name", "submission"],
                set_={name: statement.excluded[name] for name in ("selected", "source", "refused")},
            )
            rows = [vars(e) | {"submitted_at": e.submitted_at.timestamp()} for e in new]
            connection.execute(statement, rows)
            for part in _chunks(sorted({e.submission for e in new})):
                known = results.c.context == context, results.c.submission.in_(part)
                for row in connection.execute(sa.select(results).where(*known)).mappings():
                    self._place(connection, row)

    def statuses(self, context: int) -> dict[str, Status]:
        """Return the submissions that have a result, and how it went."""
        query = sa.select(results.c.submission, results.c.status).filter_by(context=context)
        with self._database.reading() as connection:
            return {submission: Status(status) for submission, status in connection.execute(query)}

    def put(self, context: int, record: EvaluationRecord, evidence: Evidence | None) -> None:
        """Keep one result, in place of an older one of the same submission, in one transaction."""
        row = {
            "context": context,
            "submission": record.submission,
            "status": record.result.status.value,
            "evaluated_at": record.evaluated_at.timestamp(),
            "macs": record.result.macs,
            "params": record.result.params,
            **_columns("public", record.scores.get("Public")),
            **_columns("private", record.scores.get("Private")),
            "reason": _reason(record),
            "predictions": evidence and zlib.compress(evidence.to_bytes()),
            "graph": evidence and evidence.program,
            "record": zlib.compress(record.model_dump_json().encode()),
        }
        statement = self._database.insert(results).values(row)
        updated = {name: statement.excluded[name] for name in row if name not in {"context", "submission"}}
        statement = statement.on_conflict_do_update(index_elements=["context", "submission"], set_=updated)
        with self._database.writing() as connection:
            connection.execute(statement)
            self._place(connection, row)

    def record(self, context: int, submission: str) -> tuple[EvaluationRecord, Evidence | None] | None:
        """Return one result and its evidence; None where there is none."""
        query = sa.select(results.c.record, results.c.predictions, results.c.graph)
        with self._database.reading() as connection:
            row = connection.execute(query.filter_by(context=context, submission=submission)).one_or_none()
        if row is None:
            return None
        evidence = row.predictions and Evidence(
            *Evidence.answers(zlib.decompress(row.predictions)), program=row.graph
        )
        return EvaluationRecord.model_validate_json(zlib.decompress(row.record)), evidence

    def standing(self, context: int, team: str) -> Standing | None:
        """Return a team's place on the public board; None where it has none."""
        order = self._order(standings.c)
        own = sa.select(*order).filter_by(context=context, team=team)
        here = standings.c.context == context
        with self._database.reading() as connection:
            row = connection.execute(own).one_or_none()
            if row is None:
                return None
            before = sa.tuple_(*order) < sa.tuple_(*row)
            count = sa.select(sa.func.count()).select_from(standings)
            place = connection.execute(count.where(here, before)).scalar_one()
            teams = connection.execute(count.where(here)).scalar_one()
        return Standing(place + 1, teams, row.score)

    def best(self, context: int) -> list[RankedEntry]:
        """Return each team's best entry on the public images, in the total order."""
        query = _ranked(context).join(standings, standings.c.entry == entries.c.id)
        query = query.where(standings.c.context == context).order_by(*self._order(standings.c))
        return self._ranked_entries(query)

    def ranked(self, context: int) -> list[RankedEntry]:
        """Return every entry that takes part in the public ranking, by time."""
        query = _ranked(context).where(results.c.public_ranked, entries.c.refused == "")
        return self._ranked_entries(query.order_by(entries.c.submitted_at))

    def unranked(self, context: int) -> list[UnrankedEntry]:
        """Return the entries that are refused or have a result without a rank, the latest first."""
        columns = (*_ENTRY, results.c.macs, results.c.params, results.c.reason, *_FIGURES)
        failed = sa.and_(results.c.id.is_not(None), results.c.public_ranked.is_not(True))
        query = (
            sa.select(*columns)
            .select_from(sa.join(entries, results, _has_result(context), isouter=True))
            .where(sa.or_(failed, entries.c.refused != ""))
            .order_by(entries.c.submitted_at.desc(), entries.c.team, entries.c.name)
        )
        with self._database.reading() as connection:
            return [
                UnrankedEntry(
                    *_entry(row),
                    macs=row.macs,
                    params=row.params,
                    public=_figures(row[-2 * len(FIGURES) : -len(FIGURES)]),
                    reason=row.refused or row.reason or "",
                )
                for row in connection.execute(query)
            ]

    def stale(self, context: int) -> list[StaleEntry]:
        """Return entries that have results of other contexts only, once for each result, the latest last."""
        current = sa.select(results.c.submission).filter_by(context=context)
        query = (
            sa.select(*_ENTRY, results.c.context, results.c.public_score, results.c.macs)
            .select_from(sa.join(entries, results, entries.c.submission == results.c.submission))
            .where(results.c.context != context, results.c.submission.not_in(current))
            .order_by(entries.c.team, entries.c.name, results.c.evaluated_at)
        )
        with self._database.reading() as connection:
            return [
                StaleEntry(*_entry(row), context=row.context, score=row.public_score, macs=row.macs)
                for row in connection.execute(query)
            ]

    def entry_counts(self) -> dict[str, int]:
        """Return how many entries each team has."""
        query = sa.select(entries.c.team, sa.func.count()).group_by(entries.c.team)
        with self._database.reading() as connection:
            return {team: int(count) for team, count in connection.execute(query)}

    def entries(self, submissions: Iterable[str] | None = None) -> list[Entry]:
        """Return all entries, or those of some submissions, by time."""
        query = sa.select(*_ENTRY).order_by(entries.c.submitted_at)
        parts = [None] if submissions is None else _chunks(sorted(set(submissions)))
        found: list[Entry] = []
        with self._database.reading() as connection:
            for part in parts:
                chosen = query if part is None else query.where(entries.c.submission.in_(part))
                found += [Entry(*_entry(row)) for row in connection.execute(chosen)]
        return found

    def duplicates(self) -> dict[str, list[tuple[str, str]]]:
        """Return the submissions that were handed in more than once: (team, name), by time."""
        several = sa.select(entries.c.submission).group_by(entries.c.submission)
        several = several.having(sa.func.count() > 1)
        found: dict[str, list[tuple[str, str]]] = {}
        columns = entries.c.submission, entries.c.team, entries.c.name
        query = sa.select(*columns).where(entries.c.submission.in_(several)).order_by(entries.c.submitted_at)
        with self._database.reading() as connection:
            for submission, team, name in connection.execute(query):
                found.setdefault(submission, []).append((team, name))
        return found

    def answers(self, context: int, submissions: Sequence[str]) -> dict[str, Labels]:
        """Return the labels that submissions answered, in the order of test.csv."""
        found: dict[str, Labels] = {}
        with self._database.reading() as connection:
            for part in _chunks(submissions):
                query = sa.select(results.c.submission, results.c.predictions)
                query = query.where(results.c.context == context, results.c.submission.in_(part))
                for submission, block in connection.execute(query):
                    if block is not None:
                        found[submission] = Evidence.answers(zlib.decompress(block))[0]
        return found

    def _order(
        self, columns: ReadOnlyColumnCollection[str, KeyedColumnElement[Any]]
    ) -> list[sa.ColumnElement[Any]]:
        """Return the columns of `scoring.RankKey`."""
        chosen = [columns[name] for name in RankKey._fields]
        return [self._database.by_code_point(c) if isinstance(c.type, sa.String) else c for c in chosen]

    def _ranked_entries(self, query: sa.Select[Any]) -> list[RankedEntry]:
        with self._database.reading() as connection:
            return [_ranked_entry(row) for row in connection.execute(query)]

    def _place(self, connection: sa.Connection, result: sa.RowMapping | dict[str, Any]) -> None:
        """Let the entries of a result take their teams' places where they are better."""
        if not result["public_ranked"]:
            return
        place = {
            "context": result["context"],
            "score": result["public_score"],
            "macs": result["macs"],
            "minus_f1": -result["public_macro_f1"],
        }
        same = sa.select(entries).where(entries.c.submission == result["submission"], entries.c.refused == "")
        for entry in connection.execute(same).all():
            own = {"team": entry.team, "submitted_at": entry.submitted_at, "name": entry.name}
            statement = self._database.insert(standings).values(place | own | {"entry": entry.id})
            new = statement.excluded
            statement = statement.on_conflict_do_update(
                index_elements=["context", "team"],
                set_={name: new[name] for name in (*RankKey._fields, "entry")},
                where=sa.tuple_(*self._order(new)) < sa.tuple_(*self._order(standings.c)),
            )
            connection.execute(statement)


def _has_result(context: int) -> sa.ColumnElement[bool]:
    return sa.and_(entries.c.submission == results.c.submission, results.c.context == context)


def _ranked(context: int) -> sa.Select[Any]:
    columns = (*_ENTRY, results.c.macs, results.c.params, *_FIGURES)
    return sa.select(*columns).select_from(sa.join(entries, results, _has_result(context)))


def _entry(row: Sequence[Any]) -> tuple[Any, ...]:
    """Return the fields of an `Entry`, of a row that begins with `_ENTRY`."""
    team, name, submission, seconds, *others = row[: len(_ENTRY)]
    return (team, name, submission, datetime.fromtimestamp(seconds, UTC), *others)


def _ranked_entry(row: Sequence[Any]) -> RankedEntry:
    """Return what a row of `_ranked` says."""
    macs, params, *figures = row[len(_ENTRY) :]
    public = _figures(figures[: len(FIGURES)])
    assert public is not None  # it is ranked
    private = _figures(figures[len(FIGURES) :])
    return RankedEntry(*_entry(row), macs=macs, params=params, public=public, private=private)


def _figures(values: Sequence[Any]) -> Figures | None:
    """Return the figures of one usage, in the order of the columns; None where there is no score."""
    return None if values[0] is None else Figures(*values)


def _columns(usage: str, score: UsageScore | None) -> dict[str, Any]:
    return {f"{usage}_{name}": score and getattr(score, name) for name in FIGURES}


def _reason(record: EvaluationRecord) -> str:
    """Return why a result has no place; nothing where it has one."""
    error, public = record.result.error, record.scores.get("Public")
    if error is not None:
        return f"{error.code} {error.got}"[:300]
    if public is None:
        return "no score"
    if public.ranked:
        return ""
    if public.branch != "below_floor" and public.worst_group_f1 is not None:
        return f"the worst group's F1 {public.worst_group_f1:.4f} is below the group floor"
    return f"F1 {public.macro_f1:.4f} is below the floor"


def _chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    yield from (values[i : i + _CHUNK] for i in range(0, len(values), _CHUNK))
