"""Where an organizer's results are kept: SQLite by default, PostgreSQL by URL, by SQLAlchemy.

One result is one transaction: a kill at any moment loses no finished result and leaves no
half one. A result is found by its submission's hash and by what it holds under
(records.Context); what it says in full is kept as JSON beside the few columns that are
asked for. `standings` is each team's best ranked entry, kept up in the same transaction.
"""

import contextlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from starter.contract.errors import Code, Status, host_error, usage_error
from starter.contract.results import UsageScore
from starter.evaluation.records import Context, EvaluationRecord, Evidence
from starter.organizer.store.tables import FIGURES, contexts, entries, results, standings

_CHUNK = 500
"""How many values one query names."""

_ORDER = ("score", "macs", "minus_f1", "submitted_at", "name")
"""The total order of a leaderboard; lower is better in each."""


@dataclass(frozen=True)
class Entry:
    """One submission of one team, as it was handed in."""

    team: str
    """Whose."""
    name: str
    """The entry's name."""
    submission: str
    """The hash of its files; two entries may have the same."""
    submitted_at: datetime
    """When, UTC."""
    source: str = ""
    """Where it was found."""
    selected: bool = False
    """Whether its team wants it to count on the private images."""
    refused: str = ""
    """Why it is not evaluated: the team's limit of entries."""


@dataclass(frozen=True)
class Standing:
    """A team's place."""

    place: int
    """From 1."""
    teams: int
    """How many teams have a place."""
    score: float
    """The team's best score."""


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
        try:
            parsed = sa.engine.make_url(url)
            self._engine = sa.create_engine(parsed, **_options(parsed))
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ModuleNotFoundError) as error:
            raise usage_error(Code.BAD_STORE_URL, where="--store", got=f"{url}: {error}") from error
        self.name = parsed.render_as_string(hide_password=True)
        if parsed.get_backend_name() == "sqlite":
            sa.event.listen(self._engine, "connect", _sqlite_settings)
            sa.event.listen(self._engine, "begin", _sqlite_begin)
        try:
            self._upgrade()
        except BaseException:
            self._engine.dispose()
            raise

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        self._engine.dispose()

    def context_id(self, context: Context) -> int:
        """Return the number of what results hold under, a new one where it is new."""
        row = context.model_dump()
        with self._writing() as connection:
            connection.execute(self._insert(contexts).values(row).on_conflict_do_nothing())
            return int(connection.execute(sa.select(contexts.c.id).filter_by(**row)).scalar_one())

    def contexts(self) -> dict[int, Context]:
        """Return everything that results hold under, by number."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(contexts)).mappings()
            return {row["id"]: Context(**{k: v for k, v in row.items() if k != "id"}) for row in rows}

    def add(self, context: int, new: Sequence[Entry]) -> None:
        """Keep entries; those that are known keep their first time, and take what was decided since."""
        if not new:
            return
        with self._writing() as connection:
            statement = self._insert(entries)
            statement = statement.on_conflict_do_update(
                index_elements=["team", "name", "submission"],
                set_={name: statement.excluded[name] for name in ("selected", "source", "refused")},
            )
            rows = [vars(e) | {"submitted_at": e.submitted_at.timestamp()} for e in new]
            connection.execute(statement, rows)
            for part in _chunks(sorted({e.submission for e in new})):
                known = results.c.context == context, results.c.submission.in_(part)
                for row in connection.execute(sa.select(results).where(*known)).mappings():
                    self._stand(connection, row)

    def statuses(self, context: int) -> dict[str, Status]:
        """Return the submissions that have a result, and how it went."""
        query = sa.select(results.c.submission, results.c.status).filter_by(context=context)
        with self._reading() as connection:
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
            **_figures("public", record.scores.get("Public")),
            **_figures("private", record.scores.get("Private")),
            "reason": _reason(record),
            "predictions": evidence and zlib.compress(evidence.to_bytes()),
            "graph": evidence and evidence.program,
            "record": zlib.compress(record.model_dump_json().encode()),
        }
        statement = self._insert(results).values(row)
        updated = {name: statement.excluded[name] for name in row if name not in {"context", "submission"}}
        statement = statement.on_conflict_do_update(index_elements=["context", "submission"], set_=updated)
        with self._writing() as connection:
            connection.execute(statement)
            self._stand(connection, row)

    def record(self, context: int, submission: str) -> tuple[EvaluationRecord, Evidence | None] | None:
        """Return one result and its evidence; None where there is none."""
        query = sa.select(results.c.record, results.c.predictions, results.c.graph)
        with self._reading() as connection:
            row = connection.execute(query.filter_by(context=context, submission=submission)).one_or_none()
        if row is None:
            return None
        evidence = row.predictions and Evidence(
            *Evidence.answers(zlib.decompress(row.predictions)), program=row.graph
        )
        return EvaluationRecord.model_validate_json(zlib.decompress(row.record)), evidence

    def standing(self, context: int, team: str) -> Standing | None:
        """Return a team's place on the public board; None where it has none."""
        own = sa.select(*(standings.c[name] for name in _ORDER)).filter_by(context=context, team=team)
        here = standings.c.context == context
        with self._reading() as connection:
            row = connection.execute(own).one_or_none()
            if row is None:
                return None
            before = sa.tuple_(*(standings.c[name] for name in _ORDER)) < sa.tuple_(*row)
            count = sa.select(sa.func.count()).select_from(standings)
            place = connection.execute(count.where(here, before)).scalar_one()
            teams = connection.execute(count.where(here)).scalar_one()
        return Standing(place + 1, teams, row.score)

    def lines(self, context: int, which: Literal["best", "ranked", "unranked"]) -> Iterator[Any]:
        """Yield entries with the figures of their results, as named rows.

        Args:
            context: of what.
            which: "best": each team's best entry, in the order of the board. "ranked": every
                entry that is ranked, by time. "unranked": the others, the latest first.
        """
        same = sa.and_(entries.c.submission == results.c.submission, results.c.context == context)
        joined = sa.join(entries, results, same, isouter=which == "unranked")
        figures = [
            c for c in results.c if c.name not in {"id", "submission", "predictions", "graph", "record"}
        ]
        query = sa.select(entries, *figures).select_from(joined)
        if which == "best":
            query = query.join(standings, standings.c.entry == entries.c.id)
            query = query.where(standings.c.context == context)
            query = query.order_by(*(standings.c[name] for name in _ORDER))
        elif which == "ranked":
            query = query.where(results.c.public_ranked, entries.c.refused == "")
            query = query.order_by(entries.c.submitted_at)
        else:
            failed = sa.and_(results.c.id.is_not(None), results.c.public_ranked.is_not(True))
            query = query.where(sa.or_(failed, entries.c.refused != ""))
            query = query.order_by(entries.c.submitted_at.desc(), entries.c.team, entries.c.name)
        with self._reading() as connection:
            yield from connection.execute(query)

    def stale(self, context: int) -> Iterator[Any]:
        """Yield entries that have a result of another context only, with that context's number."""
        current = sa.select(results.c.submission).filter_by(context=context)
        query = (
            sa.select(entries, results.c.context, results.c.public_score, results.c.macs)
            .select_from(sa.join(entries, results, entries.c.submission == results.c.submission))
            .where(results.c.context != context, results.c.submission.not_in(current))
            .order_by(entries.c.team, entries.c.name, results.c.evaluated_at)
        )
        with self._reading() as connection:
            yield from connection.execute(query)

    def entry_counts(self) -> dict[str, int]:
        """Return how many entries each team has."""
        query = sa.select(entries.c.team, sa.func.count()).group_by(entries.c.team)
        with self._reading() as connection:
            return {team: int(count) for team, count in connection.execute(query)}

    def entries(self, submissions: Iterable[str] | None = None) -> list[Entry]:
        """Return all entries, or those of some submissions, by time."""
        query = sa.select(*(c for c in entries.c if c.name != "id")).order_by(entries.c.submitted_at)
        parts = [None] if submissions is None else _chunks(sorted(set(submissions)))
        found = []
        with self._reading() as connection:
            for part in parts:
                chosen = query if part is None else query.where(entries.c.submission.in_(part))
                found += [
                    Entry(**row | {"submitted_at": datetime.fromtimestamp(row["submitted_at"], UTC)})
                    for row in map(dict, connection.execute(chosen).mappings())
                ]
        return found

    def duplicates(self) -> dict[str, list[tuple[str, str]]]:
        """Return the submissions that were handed in more than once: (team, name), by time."""
        several = sa.select(entries.c.submission).group_by(entries.c.submission)
        several = several.having(sa.func.count() > 1)
        found: dict[str, list[tuple[str, str]]] = {}
        columns = entries.c.submission, entries.c.team, entries.c.name
        query = sa.select(*columns).where(entries.c.submission.in_(several)).order_by(entries.c.submitted_at)
        with self._reading() as connection:
            for submission, team, name in connection.execute(query):
                found.setdefault(submission, []).append((team, name))
        return found

    def answers(self, context: int, submissions: Sequence[str]) -> dict[str, Any]:
        """Return the labels that submissions answered, in the order of test.csv."""
        found = {}
        with self._reading() as connection:
            for part in _chunks(submissions):
                query = sa.select(results.c.submission, results.c.predictions)
                query = query.where(results.c.context == context, results.c.submission.in_(part))
                for submission, block in connection.execute(query):
                    if block is not None:
                        found[submission] = Evidence.answers(zlib.decompress(block))[0]
        return found

    def _stand(self, connection: sa.Connection, result: Any) -> None:
        """Let the entries of a result take their teams' places where they are better."""
        if not result["public_ranked"]:
            return
        place = {
            "context": result["context"],
            "score": result["public_score"],
            "macs": result["macs"],
            "minus_f1": -result["public_macro_f1"],
        }
        found = sa.select(entries).where(
            entries.c.submission == result["submission"], entries.c.refused == ""
        )
        for entry in connection.execute(found).all():
            own = {"team": entry.team, "submitted_at": entry.submitted_at, "name": entry.name}
            statement = self._insert(standings).values(place | own | {"entry": entry.id})
            better = sa.tuple_(*(statement.excluded[n] for n in _ORDER)) < sa.tuple_(
                *(standings.c[n] for n in _ORDER)
            )
            statement = statement.on_conflict_do_update(
                index_elements=["context", "team"],
                set_={name: statement.excluded[name] for name in (*_ORDER, "entry")},
                where=better,
            )
            connection.execute(statement)

    def _insert(self, table: sa.Table) -> Any:
        """Return the dialect's INSERT, the one that knows ON CONFLICT."""
        dialects: dict[str, Any] = {"sqlite": sqlite, "postgresql": postgresql}
        return dialects[self._engine.dialect.name].insert(table)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._told(), self._engine.connect().execution_options(reads=True) as connection:
            yield connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with self._told(), self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Say what is wrong with the database in our terms.

        Raises:
            HostError: H201 to H203.
        """
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            got = str(getattr(error, "orig", None) or error).strip().splitlines()[0][:300]
            code = Code.STORE_FAILED
            if any(sign in got for sign in ("full", "No space left", "disk I/O error")):
                code = Code.STORE_FULL
            elif any(sign in got for sign in ("readonly", "read-only", "permission denied")):
                code = Code.STORE_READ_ONLY
            raise host_error(code, where=self.name, got=got) from error

    def _upgrade(self) -> None:
        """Bring the tables to this kit's version, from whichever they have."""
        from alembic import command  # noqa: PLC0415 - only where a store is opened
        from alembic.config import Config  # noqa: PLC0415
        from alembic.migration import MigrationContext  # noqa: PLC0415
        from alembic.script import ScriptDirectory  # noqa: PLC0415
        from alembic.util import CommandError  # noqa: PLC0415

        with as_file(files("starter.organizer.store") / "migrations") as folder:
            config = Config()
            config.set_main_option("script_location", str(folder).replace("%", "%%"))
            with self._reading() as connection:
                now = MigrationContext.configure(connection).get_current_revision()
            if now == ScriptDirectory.from_config(config).get_current_head():
                return
            try:
                with self._writing() as connection:
                    config.attributes["connection"] = connection
                    command.upgrade(config, "head")
            except CommandError as error:
                raise host_error(Code.STORE_NEWER, where=self.name, got=f"version {now}") from error


def _options(url: sa.engine.URL) -> dict[str, Any]:
    """Return what an engine needs, and make the folder of a SQLite file."""
    backend = url.get_backend_name()
    if backend == "sqlite":
        if url.database and url.database != ":memory:" and not url.database.startswith("file:"):
            with contextlib.suppress(OSError):  # opening it will say what is wrong
                Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        return {"connect_args": {"timeout": 60}}
    if backend == "postgresql":
        return {"pool_pre_ping": True}
    raise sa.exc.ArgumentError("neither sqlite nor postgresql")


def _sqlite_settings(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver begins no transactions of its own
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _sqlite_begin(connection: sa.Connection) -> None:
    reads = connection.get_execution_options().get("reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _figures(usage: str, score: UsageScore | None) -> dict[str, Any]:
    return {f"{usage}_{name}": score and getattr(score, name) for name in FIGURES}


def _reason(record: EvaluationRecord) -> str:
    """Return why a result has no place; nothing where it has one."""
    error, public = record.result.error, record.scores.get("Public")
    if error is not None:
        return f"{error.code} {error.got}"[:300]
    if public is None:
        return "no score"
    return "" if public.ranked else f"F1 {public.macro_f1:.4f} is below the floor"


def _chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    yield from (values[i : i + _CHUNK] for i in range(0, len(values), _CHUNK))
