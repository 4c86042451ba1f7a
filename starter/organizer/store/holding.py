"""Hold a store, so that one batch or watch at a time evaluates into it; say who holds it.

The system or the database releases it when the holder ends, however that is. Who only reads, a leaderboard or
a plan, needs no hold.
"""

import contextlib
import os
import platform
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from starter.contract.errors import Code, UsageError, host_error, usage_error
from starter.contract.system.files import locked, write_whole

_KEY = 0x73746172
"""The first half of the number of PostgreSQL's lock; the second is the schema's."""

_MOST_NAME = 63
"""So many bytes of a session's name PostgreSQL keeps."""

_SOMEBODY = "another process"

_TRY = sa.text("SELECT pg_try_advisory_lock(:key, hashtext(current_schema()))")
_HOLDER = sa.text(
    "SELECT a.application_name, a.backend_start FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
    " WHERE l.locktype = 'advisory' AND l.granted AND l.classid::bigint = :key AND l.objsubid = 2"
    " AND l.objid::bigint = (hashtext(current_schema())::bigint & 4294967295)"
    " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@contextlib.contextmanager
def held(url: str, what: str) -> Iterator[Callable[[], None]]:
    """Hold a store; yield what raises where it is held no longer.

    Args:
        url: of a store that has been opened.
        what: the command that holds it, for whoever wants it meanwhile.

    Raises:
        UsageError: U130, another process holds it.
        HostError: H201 or H203, the hold cannot be taken or is lost.
    """
    parsed = sa.engine.make_url(url)
    me = f"{what}, process {os.getpid()} on {platform.node()}"
    if parsed.get_backend_name() == "postgresql":
        with _session(parsed, me) as check:
            yield check
    elif file := _file(parsed):
        with _locked_file(file, f"{me}, since {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"):
            yield lambda: None
    else:  # in memory: nobody else sees it
        yield lambda: None


def _file(url: sa.URL) -> Path | None:
    """Return the file of a SQLite URL; None where it is in memory."""
    name = (url.database or "").removeprefix("file:")
    return None if name in {"", ":memory:"} or url.query.get("mode") == "memory" else Path(name)


@contextlib.contextmanager
def _locked_file(store: Path, me: str) -> Iterator[None]:
    lock, note = (store.with_name(f"{store.name}.{ending}") for ending in ("lock", "holder"))
    with contextlib.ExitStack() as stack:
        try:
            is_ours = stack.enter_context(locked(lock))
            if is_ours:
                write_whole(note, me)
        except OSError as error:
            raise host_error(Code.STORE_READ_ONLY, where=str(lock), got=str(error)) from error
        if not is_ours:
            raise _is_held(str(store), note.read_text(encoding="utf-8") if note.exists() else _SOMEBODY)
        stack.callback(note.unlink, missing_ok=True)
        yield


@contextlib.contextmanager
def _session(url: sa.URL, me: str) -> Iterator[Callable[[], None]]:
    """Hold a lock of PostgreSQL's for as long as a connection lasts."""
    where = url.render_as_string(hide_password=True)
    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    name = me.encode("ascii", "replace")[:_MOST_NAME].decode()
    with contextlib.ExitStack() as stack:
        stack.callback(engine.dispose)
        with _errors(where):
            connection = stack.enter_context(engine.connect())
            connection.execute(sa.text("SELECT set_config('application_name', :name, false)"), {"name": name})
            if not connection.execute(_TRY, {"key": _KEY}).scalar_one():
                row = connection.execute(_HOLDER, {"key": _KEY}).first()
                raise _is_held(where, f"{row[0]}, since {row[1]:%Y-%m-%d %H:%M %Z}" if row else _SOMEBODY)

        def check() -> None:
            with _errors(where):
                connection.execute(sa.text("SELECT 1"))

        yield check


@contextlib.contextmanager
def _errors(where: str) -> Iterator[None]:
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        got = str(getattr(error, "orig", None) or error).strip().splitlines()[0][:300]
        raise host_error(Code.STORE_FAILED, where=where, got=got) from error


def _is_held(where: str, by: str) -> UsageError:
    return usage_error(Code.STORE_HELD, where=where, got=f"held by {by}")
