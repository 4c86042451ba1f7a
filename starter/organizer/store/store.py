"""Where an organizer's results are kept: a database (database.py) of the tables in tables.py.

One result is one transaction: a kill at any moment loses no finished result and leaves no
half one. A result is found by its submission's hash and by what it holds under
(records.Context); what it says in full is kept as JSON beside the few columns that are
asked for. `standings` is each team's best ranked entry, kept up in the same transaction
(places.py), and so is the audit trail (audit/trail.py). A result in whose place another is put is kept in
`superseded`. Threads that store results at the same time share a transaction (writer.py, group.py).
"""

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa

from starter.contract.errors import Status
from starter.evaluation.records import Context, EvaluationRecord, Evidence
from starter.organizer.audit.proof import Proof, prove
from starter.organizer.audit.trail import START, TrailRow, rows_of
from starter.organizer.store.acts import Acts
from starter.organizer.store.database import Database
from starter.organizer.store.model import Entry, RankedEntry, StaleEntry, Standing, UnrankedEntry
from starter.organizer.store.places import COUNTS, Places
from starter.organizer.store.rows import (
    ENTRY,
    FIGURE_COLUMNS,
    Labels,
    answers,
    chunks,
    entry_fields,
    figures,
    kept_result,
    ranked_entry,
    result_row,
)
from starter.organizer.store.tables import (
    FIGURES,
    audit,
    contexts,
    entries,
    renamed,
    results,
    standings,
    superseded,
)
from starter.organizer.store.writer import Writer


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
        self.name = self._database.name
        self._places = Places(self._database)
        self.acts = Acts(self._database, self._places)
        self._writer = Writer(self._database, self._places)

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
        self._writer.add(context, new)

    def statuses(self, context: int) -> dict[str, Status]:
        """Return the submissions that have a result, and how it went."""
        query = sa.select(results.c.submission, results.c.status).filter_by(context=context)
        with self._database.reading() as connection:
            return {submission: Status(status) for submission, status in connection.execute(query)}

    def put(
        self, context: int, record: EvaluationRecord, evidence: Evidence | None, *, reason: str = ""
    ) -> None:
        """Keep one result: it is durable and whole when this returns, or not there at all.

        An older one of the same submission is kept in `superseded`. Threads that call this at the same
        time share a transaction, and none of them suffers from another's result.

        Args:
            context: under what it holds.
            record: the result.
            evidence: what it can be proved by.
            reason: why somebody asked for it to be judged again.
        """
        self._writer.put(result_row(context, record, evidence), reason)

    def record(self, context: int, submission: str) -> tuple[EvaluationRecord, Evidence | None] | None:
        """Return one result and its evidence; None where there is none."""
        query = sa.select(results).filter_by(context=context, submission=submission)
        with self._database.reading() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else kept_result(row)

    def history(self, submission: str) -> list[tuple[EvaluationRecord, Evidence | None]]:
        """Return every result that a submission has or had, under whatever it held, the latest first."""
        found: list[sa.RowMapping] = []
        with self._database.reading() as connection:
            for table in (results, superseded):
                query = sa.select(table).filter_by(submission=submission).order_by(table.c.id.desc())
                found += connection.execute(query).mappings()
        found.sort(key=lambda row: row["evaluated_at"], reverse=True)
        return [kept_result(row) for row in found]

    def trail(self, submission: str) -> list[TrailRow]:
        """Return what the trail says about a submission, in order."""
        with self._database.reading() as connection:
            return list(rows_of(connection, submission))

    def head(self) -> tuple[int, str]:
        """Return the number and the hash of the trail's last row."""
        query = sa.select(audit.c.id, audit.c.hash).order_by(audit.c.id.desc()).limit(1)
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        return (0, START) if row is None else (row.id, row.hash)

    def prove(self, published: str = "") -> Proof:
        """Compare everything with the trail.

        Args:
            published: a hash that was published as the trail's head: the trail must hold it.
        """
        return prove(self._database, published)

    def former_names(self) -> dict[str, str]:
        """Return names that teams had, and what these teams are called today, renamed or merged."""
        with self._database.reading() as connection:
            return {row.name: row.team for row in connection.execute(sa.select(renamed))}

    def team(self, name: str) -> str:
        """Return what a team is called today."""
        return self.former_names().get(name, name)

    def standing(self, context: int, team: str) -> Standing | None:
        """Return a team's place on the public board; None where it has none."""
        order = self._places.order(standings.c)
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
        query = query.where(standings.c.context == context).order_by(*self._places.order(standings.c))
        return self._ranked_entries(query)

    def ranked(self, context: int) -> list[RankedEntry]:
        """Return every entry that takes part in the public ranking, by time."""
        query = _ranked(context).where(results.c.public_ranked, COUNTS)
        return self._ranked_entries(query.order_by(entries.c.submitted_at))

    def unranked(self, context: int) -> list[UnrankedEntry]:
        """Return entries that are refused, disqualified or have a result without a rank, the latest first."""
        columns = (*ENTRY, results.c.macs, results.c.params, results.c.reason, *FIGURE_COLUMNS)
        failed = sa.and_(results.c.id.is_not(None), results.c.public_ranked.is_not(True))
        query = (
            sa.select(*columns)
            .select_from(sa.join(entries, results, _has_result(context), isouter=True))
            .where(sa.or_(failed, sa.not_(COUNTS)))
            .order_by(entries.c.submitted_at.desc(), entries.c.team, entries.c.name)
        )
        with self._database.reading() as connection:
            return [
                UnrankedEntry(
                    *entry_fields(row),
                    macs=row.macs,
                    params=row.params,
                    public=figures(row[-2 * len(FIGURES) : -len(FIGURES)]),
                    reason=_why_unranked(row),
                )
                for row in connection.execute(query)
            ]

    def stale(self, context: int) -> list[StaleEntry]:
        """Return entries that have results of other contexts only, once for each result, the latest last."""
        current = sa.select(results.c.submission).filter_by(context=context)
        query = (
            sa.select(*ENTRY, results.c.context, results.c.public_score, results.c.macs)
            .select_from(sa.join(entries, results, entries.c.submission == results.c.submission))
            .where(results.c.context != context, results.c.submission.not_in(current))
            .order_by(entries.c.team, entries.c.name, results.c.evaluated_at)
        )
        with self._database.reading() as connection:
            return [
                StaleEntry(*entry_fields(row), context=row.context, score=row.public_score, macs=row.macs)
                for row in connection.execute(query)
            ]

    def entry_counts(self) -> dict[str, int]:
        """Return how many entries each team has."""
        query = sa.select(entries.c.team, sa.func.count()).group_by(entries.c.team)
        with self._database.reading() as connection:
            return {team: int(count) for team, count in connection.execute(query)}

    def entries(self, submissions: Iterable[str] | None = None) -> list[Entry]:
        """Return all entries, or those of some submissions, by time."""
        query = sa.select(*ENTRY).order_by(entries.c.submitted_at)
        parts = [None] if submissions is None else chunks(sorted(set(submissions)))
        found: list[Entry] = []
        with self._database.reading() as connection:
            for part in parts:
                chosen = query if part is None else query.where(entries.c.submission.in_(part))
                found += [Entry(*entry_fields(row)) for row in connection.execute(chosen)]
        return found

    def duplicates(self) -> dict[str, list[tuple[str, str]]]:
        """Return the submissions that were submitted more than once: (team, name), by time."""
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
            for part in chunks(submissions):
                query = sa.select(results.c.submission, results.c.predictions)
                query = query.where(results.c.context == context, results.c.submission.in_(part))
                for submission, block in connection.execute(query):
                    if block is not None:
                        found[submission] = answers(block)
        return found

    def _ranked_entries(self, query: sa.Select[Any]) -> list[RankedEntry]:
        with self._database.reading() as connection:
            return [ranked_entry(row) for row in connection.execute(query)]


def _has_result(context: int) -> sa.ColumnElement[bool]:
    return sa.and_(entries.c.submission == results.c.submission, results.c.context == context)


def _ranked(context: int) -> sa.Select[Any]:
    columns = (*ENTRY, results.c.macs, results.c.params, *FIGURE_COLUMNS)
    return sa.select(*columns).select_from(sa.join(entries, results, _has_result(context)))


def _why_unranked(row: sa.Row[Any]) -> str:
    if row.disqualified:
        return f"disqualified: {row.disqualified}"
    return row.refused or row.reason or ""
