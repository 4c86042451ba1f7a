"""The store, on SQLite and on a real PostgreSQL server: nothing lost, nothing half, in order."""

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import organizing
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from databases import make_database
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from organizing import CONTEXT, digest, entry, evidence, record

from starter.contract.errors import CATALOGUE, Code, HostError, Status, UsageError
from starter.evaluation.records import EvaluationRecord
from starter.evaluation.scoring import RankKey
from starter.organizer.store.model import Standing
from starter.organizer.store.store import Store
from starter.organizer.store.tables import metadata, standings

_numbers = itertools.count()


def test_a_result_and_its_evidence_come_back_as_they_were(store: Store, context: int) -> None:
    kept = record("first", 2_000_000, 0.81, private_f1=0.79)
    store.put(context, kept, evidence([0, 1, 1, 5]))
    store.put(context, record("broken", failed=Code.NO_HOOK), None)

    found = store.record(context, digest("first"))

    assert found is not None
    assert found[0] == kept
    assert found[1] is not None
    assert found[1].labels.tolist() == [0, 1, 1, 5]
    assert found[1].probabilities.tolist() == [0.5] * 4
    assert found[1].program == evidence([]).program
    assert store.record(context, digest("broken")) == (record("broken", failed=Code.NO_HOOK), None)
    assert store.record(context, digest("other")) is None
    assert store.statuses(context) == {digest("first"): Status.OK, digest("broken"): Status.INVALID}
    assert store.answers(context, [digest("first"), digest("broken")]).keys() == {digest("first")}


def test_a_result_is_kept_once_and_a_new_one_takes_its_place(store: Store, context: int) -> None:
    store.add(context, [entry("team", "late")])
    store.put(context, record("late", failed=Code.TIMEOUT), None)
    assert store.standing(context, "team") is None

    store.put(context, record("late"), evidence([1]))

    assert store.statuses(context) == {digest("late"): Status.OK}
    found = store.standing(context, "team")
    assert found is not None
    assert (found.place, found.teams) == (1, 1)


def test_what_results_hold_under_is_told_apart(store: Store, context: int) -> None:
    other = CONTEXT.model_copy(update={"rules": "sha256:others", "cost_version": "2"})
    second = store.context_id(other)

    assert second != context
    assert store.context_id(CONTEXT) == context
    assert store.contexts() == {context: CONTEXT, second: other}
    assert CONTEXT.changed(other) == ("rules", "cost version")

    store.add(context, [entry("team", "old"), entry("team", "new", hours=1)])
    store.put(second, record("old", context=other), None)
    store.put(second, record("new", context=other), None)
    store.put(context, record("new"), None)
    assert [(row.team, row.name) for row in store.stale(context)] == [("team", "old")]
    assert [row.name for row in store.stale(second)] == []


def with_figures(name: str, score: float, macs: int, f1: float) -> EvaluationRecord:
    """A record with the score that is written: scores tie exactly where MACs fall by what the F1 loses."""
    base = record(name, 4_000_000, 0.8)
    public = base.scores["Public"].model_copy(update={"score": score, "macro_f1": f1})
    result = base.result.model_copy(update={"macs": macs})
    return base.model_copy(update={"result": result, "scores": {"Public": public}})


def test_the_order_is_score_then_macs_then_f1_then_time_then_name(store: Store, context: int) -> None:
    wanted = {
        "best": (0.1, 4, 0.8, 9.0),
        "fewer": (0.2, 3, 0.7, 9.0),
        "better": (0.2, 4, 0.9, 9.0),
        "earlier": (0.2, 4, 0.8, 1.0),
        "a": (0.2, 4, 0.8, 5.0),
        "b": (0.2, 4, 0.8, 5.0),
        "last": (-0.1 + 1, 4, 0.8, 0.0),
    }
    names = list(wanted)
    random.Random(1).shuffle(names)
    for name in names:
        score, macs, f1, hours = wanted[name]
        store.add(context, [entry(f"team {name}", name, hours=hours)])
        store.put(context, with_figures(name, score, macs, f1), None)

    assert [row.name for row in store.best(context)] == list(wanted)
    for place, name in enumerate(wanted, 1):
        found = store.standing(context, f"team {name}")
        assert found is not None
        assert (found.place, found.teams) == (place, len(wanted))


TEXTS = st.sampled_from(["a", "B", "b", "Z", "_", "a b", "ab", "ä", "é", "작은"])
"""Texts that dictionaries sort otherwise than code points."""


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from([-0.25, 0.1, 0.2]),
            st.sampled_from([3, 4]),
            st.sampled_from([0.7, 0.8]),
            st.sampled_from([0.0, 0.001, 1.5]),
            TEXTS,
            TEXTS,
        ),
        max_size=30,
    )
)
def test_the_database_orders_any_entries_as_python_does(
    store: Store, drawn: list[tuple[float, int, float, float, str, str]]
) -> None:
    number = next(_numbers)
    context = store.context_id(CONTEXT.model_copy(update={"rules": f"sha256:{number}"}))
    keys: dict[str, list[RankKey]] = {}
    for i, (score, macs, f1, hours, name, team) in enumerate(drawn):
        content = f"{number} {i}"
        handed_in = entry(team, name, hours=hours, of=content)
        store.add(context, [handed_in])
        store.put(context, with_figures(content, score, macs, f1), None)
        at = handed_in.submitted_at.timestamp()
        keys.setdefault(team, []).append(RankKey(score, macs, -f1, at, name, team))
    wanted = sorted(min(own) for own in keys.values())

    assert [e.rank_key("Public") for e in store.best(context)] == wanted
    for place, key in enumerate(wanted, 1):
        assert store.standing(context, key.team) == Standing(place, len(wanted), key.score)


def test_a_team_stands_with_its_best_entry(store: Store, context: int) -> None:
    store.add(context, [entry("one", name, hours=i) for i, name in enumerate("abc")])
    store.add(context, [entry("two", "d", hours=9), entry("one", "cheat", hours=3, refused="over the limit")])
    for name, macs in (("a", 5_000_000), ("b", 3_000_000), ("c", 4_000_000), ("d", 3_500_000), ("cheat", 1)):
        store.put(context, record(name, macs), None)

    assert [(row.team, row.name) for row in store.best(context)] == [("one", "b"), ("two", "d")]
    trend = [(row.team, round(row.public.score, 4)) for row in store.ranked(context)]
    assert trend == [("one", 0.3125), ("one", 0.1875), ("one", 0.25), ("two", 0.2188)]
    assert store.entry_counts() == {"one": 4, "two": 1}
    assert [(row.name, row.refused) for row in store.unranked(context)] == [("cheat", "over the limit")]


def test_an_entry_that_was_evaluated_for_another_team_stands_at_once(store: Store, context: int) -> None:
    store.add(context, [entry("one", "a")])
    store.put(context, record("a"), None)
    store.add(context, [entry("two", "copy", hours=1, of="a")])

    assert [row.team for row in store.best(context)] == ["one", "two"]
    assert store.duplicates() == {digest("a"): [("one", "a"), ("two", "copy")]}


def test_adding_again_keeps_the_time_and_takes_the_choice(store: Store, context: int) -> None:
    store.add(context, [entry("one", "a", hours=1), entry("one", "b", hours=2)])
    store.add(context, [entry("one", "a", hours=5, selected=True)])

    found = store.entries()
    assert [(e.name, e.selected, e.submitted_at) for e in found] == [
        ("a", True, organizing.START.replace(hour=13)),
        ("b", False, organizing.START.replace(hour=14)),
    ]
    assert store.entries([digest("b")]) == found[1:]


def test_entries_below_the_floor_and_failed_ones_have_their_reasons(store: Store, context: int) -> None:
    store.add(context, [entry("one", "weak"), entry("two", "broken", hours=1)])
    store.put(context, record("weak", f1=0.4), None)
    store.put(context, record("broken", failed=Code.NO_HOOK), None)

    assert store.best(context) == []
    assert [(row.name, row.reason) for row in store.unranked(context)] == [
        ("broken", "E101 something that is wrong"),
        ("weak", "F1 0.4000 is below the floor"),
    ]


def test_many_writers_lose_nothing(url: str) -> None:
    names = [f"entry{i}" for i in range(60)]
    with Store(url) as store:
        context = store.context_id(CONTEXT)
        store.add(context, [entry("team", name, hours=i) for i, name in enumerate(names)])

        def put(i: int) -> None:
            store.put(context, record(names[i], 1_000_000 + i), evidence([i]))

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(put, random.Random(2).sample(range(60), 60)))

        assert len(store.statuses(context)) == 60
        assert [row.name for row in store.best(context)] == ["entry0"]


WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from organizing import CONTEXT, entry, evidence, record
from starter.evaluation.scoring import RankKey
from starter.organizer.store.model import Standing
from starter.organizer.store.store import Store
store = Store(sys.argv[1])
context = store.context_id(CONTEXT)
for i in range(10_000):
    name = f"{sys.argv[3]}-{i}"
    store.add(context, [entry(name, name)])
    store.put(context, record(name), evidence([1] * 5000))
    print(i, flush=True)
"""


@pytest.mark.slow
def test_a_killed_writer_leaves_every_finished_result_and_no_half_one(url: str) -> None:
    Store(url).__exit__(None, None, None)
    chance = random.Random(3)
    for attempt in range(4):
        command = [sys.executable, "-c", WRITER, url, str(Path(organizing.__file__).parent), str(attempt)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        told = 1 + sum(1 for _ in process.stdout)  # what it said is stored
        process.wait()
        process.stdout.close()

        with Store(url) as store:
            context = store.context_id(CONTEXT)
            own = [e for e in store.entries() if e.team.startswith(f"{attempt}-")]
            whole = [e for e in own if store.record(context, e.submission) is not None]
            assert told <= len(whole) <= told + 1
            assert len(own) - len(whole) <= 1
            for e in whole:
                found = store.record(context, e.submission)
                assert found is not None
                assert found[1] is not None
                assert len(found[1].labels) == 5000
                assert store.standing(context, e.team) is not None


def test_the_scripts_make_the_tables_that_the_code_knows(store: Store) -> None:
    with store._database.engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    assert differences == []


SECOND_VERSION = '''
"""A later version of the store."""
import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

def upgrade():
    with op.batch_alter_table("entries") as table:
        table.add_column(sa.Column("country", sa.String(2), nullable=False, server_default="??"))
'''


def test_an_older_store_is_brought_up_to_date_and_keeps_what_it_holds(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kit with one more migration opens a store of today's; today's then refuses it."""
    with Store(url) as store:
        context = store.context_id(CONTEXT)
        store.add(context, [entry("team", "a")])
        store.put(context, record("a"), evidence([1, 2]))
    later = tmp_path / "later" / "migrations"
    original = Path(str(files("starter.organizer.store"))) / "migrations"
    shutil.copytree(original, later)
    (later / "versions" / "0003_country.py").write_text(SECOND_VERSION)

    with monkeypatch.context() as patch:
        patch.setattr("starter.organizer.store.database.files", lambda _: later.parent)
        with Store(url) as store:
            assert [row.team for row in store.best(context)] == ["team"]
            with store._database.engine.connect() as connection:
                country = connection.exec_driver_sql("SELECT country FROM entries").scalar_one()
            assert country == "??"
            found = store.record(context, digest("a"))
            assert found is not None
            assert found[0] == record("a")

    with pytest.raises(HostError) as caught:
        Store(url)
    assert caught.value.problems[0].code is Code.STORE_NEWER
    assert "0003" in caught.value.problems[0].got


def test_a_wrong_url_is_the_callers_fault() -> None:
    for wrong in ("nonsense", "mysql://host/name", "sqlite+nodriver:///x"):
        with pytest.raises(UsageError) as caught:
            Store(wrong)
        assert caught.value.problems[0].code is Code.BAD_STORE_URL


def test_a_password_is_not_told(tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught:
        Store(f"postgresql+psycopg://kit:secret@/none?host={tmp_path}")
    assert caught.value.problems[0].code is Code.STORE_FAILED
    assert "secret" not in str(caught.value)


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    """SQLite's own limit on the file's pages stands for the disk: the same error comes from both."""
    with Store(f"sqlite:///{tmp_path / 'results.sqlite'}") as store:
        context = store.context_id(CONTEXT)
        store.put(context, record("kept"), evidence([1]))

        def small(connection: sa.Connection) -> None:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

        sa.event.listen(store._database.engine, "begin", small)
        noise = random.Random(4).choices(range(6), k=200_000)
        with pytest.raises(HostError) as caught:
            store.put(context, record("large"), evidence(noise))
        sa.event.remove(store._database.engine, "begin", small)

        assert caught.value.problems[0].code is Code.STORE_FULL
        assert CATALOGUE[Code.STORE_FULL].status is Status.HOST_ERROR
        assert store.statuses(context) == {digest("kept"): Status.OK}
    with Store(f"sqlite:///{tmp_path / 'results.sqlite'}") as store:
        store.put(context, record("large"), evidence([1]))
        assert len(store.statuses(context)) == 2


def test_a_store_that_may_only_be_read_shows_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    with Store(f"sqlite:///{path}") as store:
        context = store.context_id(CONTEXT)
        store.add(context, [entry("team", "a")])
        store.put(context, record("a"), None)
    with Store(f"sqlite:///file:{path}?mode=ro&uri=true") as store:
        assert [row.team for row in store.best(context)] == ["team"]
        with pytest.raises(HostError) as caught:
            store.put(context, record("b"), None)
        assert caught.value.problems[0].code is Code.STORE_READ_ONLY
    assert not Path("file:").exists()


@pytest.fixture
def own_server() -> Iterator[tuple[str, Callable[[str], None]]]:
    """A server that the test may stop and start: the URL, and what does it."""
    programs = organizing.postgresql_folder()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt install postgresql")
    with organizing.postgresql(programs) as (url, folder):

        def control(action: str) -> None:
            user = "postgres" if os.getuid() == 0 else None
            how = {"stop": ["--mode=immediate"], "start": ["--options", f"-k {folder} -h ''", "--log=log"]}
            command = [programs / "pg_ctl", action, "--wait", "--pgdata=data", *how[action]]
            subprocess.run(command, check=True, capture_output=True, user=user, cwd=folder)

        yield make_database(url), control


@pytest.mark.slow
def test_a_database_that_goes_away_is_told_and_comes_back_whole(
    own_server: tuple[str, Callable[[str], None]],
) -> None:
    url, control = own_server
    with Store(url) as store:
        context = store.context_id(CONTEXT)
        store.put(context, record("before"), evidence([1]))
        control("stop")
        with pytest.raises(HostError) as caught:
            store.put(context, record("during"), evidence([2]))
        assert caught.value.problems[0].code is Code.STORE_FAILED
        control("start")
        store.put(context, record("after"), evidence([3]))
        assert store.statuses(context).keys() == {digest("before"), digest("after")}


def test_one_teams_rank_takes_one_look_and_no_walk_over_the_results(store: Store, context: int) -> None:
    """The standings are one row for each team, whatever it has submitted."""
    for i in range(50):
        store.add(context, [entry(f"team {i % 5}", f"e{i}", hours=i)])
        store.put(context, record(f"e{i}", 5_000_000 - i), None)
    with store._database.engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(standings)).scalar_one() == 5
    found = store.standing(context, "team 4")
    assert found is not None
    assert (found.place, found.teams) == (1, 5)
