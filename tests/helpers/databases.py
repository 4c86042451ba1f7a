"""Fixtures: a store on SQLite, and on a real PostgreSQL server where one is installed."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import organizing
import pytest
import sqlalchemy as sa
from organizing import CONTEXT

from starter.organizer.store.store import Store

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[str | None]:
    """The URL of a real PostgreSQL server's databases; None where none is installed."""
    programs = organizing.postgresql_folder()
    if programs is None:
        yield None
        return
    with organizing.postgresql(programs) as (url, _):
        yield url


def make_database(url: str) -> str:
    """Make a new database of a server and return its URL."""
    name = f"store{next(_numbers)}"
    engine = sa.create_engine(url.format("postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        version = connection.exec_driver_sql("SHOW server_version_num").scalar_one()
        locale = "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en'" if int(version) >= 150000 else ""
        connection.exec_driver_sql(f"CREATE DATABASE {name} {locale}")
    engine.dispose()
    return url.format(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, server: str | None) -> str:
    """A database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'a folder' / 'results.sqlite'}"
    if server is None:
        pytest.skip("PostgreSQL is not installed: apt install postgresql")
    return make_database(server)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """A store without a result."""
    with Store(url) as store:
        yield store


@pytest.fixture
def context(store: Store) -> int:
    """What the results of `organizing.record` hold under."""
    return store.context_id(CONTEXT)
