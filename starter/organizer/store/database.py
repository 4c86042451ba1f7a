"""The database behind a store: opened by its URL, brought up to date, and its errors in our terms.

SQLite by default, PostgreSQL by URL, by SQLAlchemy; migrations/ makes the tables. What they hold: tables.py.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import TypedDict

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from starter.contract.errors import Code, host_error, usage_error

Insert = sqlite.Insert | postgresql.Insert
"""An INSERT that knows ON CONFLICT."""

_COLLATIONS = {"sqlite": "BINARY", "postgresql": "C"}
"""By dialect, the one that compares texts by code point, as Python does."""


class Database:
    """An open database with the tables of this kit's version.

    Args:
        url: for instance sqlite:///results.sqlite or postgresql+psycopg://user@host/name.

    Raises:
        UsageError: the URL is none, or its driver is not installed.
        HostError: it cannot be opened, or a newer kit wrote it.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = sa.engine.make_url(url)
            self.engine = sa.create_engine(parsed, **_options(parsed))
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ModuleNotFoundError) as error:
            raise usage_error(Code.BAD_STORE_URL, where="--store", got=f"{url}: {error}") from error
        self.name = parsed.render_as_string(hide_password=True)
        if parsed.get_backend_name() == "sqlite":
            sa.event.listen(self.engine, "connect", _sqlite_settings)
            sa.event.listen(self.engine, "begin", _sqlite_begin)
        try:
            self._upgrade()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Yield a connection that sees one state of the tables."""
        options: dict[str, object] = {"reads": True}
        if self.engine.dialect.name == "postgresql":  # by default each statement sees a state of its own
            options["isolation_level"] = "REPEATABLE READ"
        with self._errors(), self.engine.connect().execution_options(**options) as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Yield a connection whose changes are kept together, or none of them."""
        with self._errors(), self.engine.begin() as connection:
            yield connection

    def insert(self, table: sa.Table) -> Insert:
        """Return the dialect's own INSERT."""
        return sqlite.insert(table) if self.engine.dialect.name == "sqlite" else postgresql.insert(table)

    def by_code_point(self, column: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
        """Return a text column that compares as Python's texts do, whatever the database's locale."""
        return column.collate(_COLLATIONS[self.engine.dialect.name])

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
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
            with self.reading() as connection:
                now = MigrationContext.configure(connection).get_current_revision()
            if now == ScriptDirectory.from_config(config).get_current_head():
                return
            try:
                with self.writing() as connection:
                    config.attributes["connection"] = connection
                    command.upgrade(config, "head")
            except CommandError as error:
                raise host_error(Code.STORE_NEWER, where=self.name, got=f"version {now}") from error


class _Options(TypedDict, total=False):
    """What create_engine is told."""

    connect_args: dict[str, int]
    pool_pre_ping: bool


def _options(url: sa.engine.URL) -> _Options:
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


def _sqlite_settings(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # the driver begins no transactions of its own
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _sqlite_begin(connection: sa.Connection) -> None:
    reads = connection.get_execution_options().get("reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
