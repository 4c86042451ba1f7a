"""The audit trail, on SQLite and PostgreSQL: what was changed behind the kit's back is found and located."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import organizing
import pytest
import sqlalchemy as sa
from organizing import CONTEXT, digest, entry, evidence, record

from starter.contract.errors import Code, HostError, UsageError
from starter.organizer.audit.trail import row_hash
from starter.organizer.store.store import Store
from starter.organizer.store.tables import audit

OLD = Path(__file__).parents[1] / "old_files" / "0.1.0.tar.xz"
UNGUARD = {
    "sqlite": ["DROP TRIGGER audit_no_update", "DROP TRIGGER audit_no_delete"],
    "postgresql": ["DROP TRIGGER audit_guard ON audit"],
}
"""What whoever owns the database can do first."""


@pytest.fixture
def used(store: Store, context: int) -> Store:
    """A store in which something of every kind has happened: 16 rows in its trail."""
    store.add(
        context, [entry("red", "first"), entry("red", "second", hours=1), entry("blue", "net", hours=2)]
    )
    store.put(context, record("first", 3_000_000), evidence([1, 2]))
    store.put(context, record("second", 2_000_000), evidence([1, 1]))
    store.put(context, record("net", failed=Code.TIMEOUT), None)
    store.put(context, record("net", 4_000_000), evidence([2, 2]), reason="the machine was slow")
    store.add(context, [entry("red", "first", selected=True)])
    store.acts.disqualify("red", "second", "trained on the test images")
    store.acts.reinstate("red", "second", "it was another team's mistake")
    store.acts.rename("blue", "azure", "a typing error")
    store.add(context, [entry("green", "leaf", hours=3)])
    store.acts.merge("green", "azure", "two accounts of one person")
    return store


def kinds(store: Store) -> list[str]:
    with store._database.reading() as connection:
        return list(connection.execute(sa.select(audit.c.kind).order_by(audit.c.id)).scalars())


def tamper(store: Store, *statements: str) -> None:
    """Write to the database as somebody who may."""
    with store._database.engine.begin() as connection:
        for statement in (*UNGUARD[connection.dialect.name], *statements):
            connection.exec_driver_sql(statement)


def breaks(store: Store, published: str = "") -> list[tuple[str, str]]:
    return [(one.where, one.got) for one in store.prove(published).breaks]


def test_everything_that_happened_is_in_the_trail_and_it_holds(used: Store) -> None:
    assert kinds(used) == [
        "start",
        *["entry"] * 3,
        *["result"] * 3,
        "rejudge",
        "entry",
        "disqualify",
        "reinstate",
        *["rename"] * 2,
        "entry",
        *["merge"] * 2,
    ]
    proof = used.prove()
    assert proof.breaks == []
    assert (proof.rows, proof.entries, proof.results) == (16, 4, 4)
    assert used.head() == (16, proof.head)


def test_anybody_can_compute_the_chain(used: Store) -> None:
    """SHA-256 over the JSON list of a row's columns, as docs/appeals.md says."""
    with used._database.reading() as connection:
        rows = connection.exec_driver_sql(
            "SELECT id, at, kind, submission, said, previous, hash FROM audit ORDER BY id"
        ).all()
    before = "0" * 64
    for *content, own in rows:
        assert content[-1] == before
        before = hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
        assert own == before
    assert used.head()[1] == before


def test_nothing_is_recorded_where_nothing_has_changed(used: Store, context: int) -> None:
    before = used.head()
    used.add(context, [entry("red", "first", selected=True, source="/elsewhere/first.zip")])
    assert used.head() == before
    used.add(context, [entry("red", "first")])
    assert used.head()[0] == before[0] + 1


@pytest.mark.parametrize("statement", ["UPDATE audit SET at = 0 WHERE id = 2", "DELETE FROM audit"])
def test_the_database_refuses_to_change_the_trail(used: Store, statement: str) -> None:
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), used._database.engine.begin() as connection:
        connection.exec_driver_sql(statement)
    assert breaks(used) == []


TAMPERED = {
    "UPDATE results SET public_score = 0 WHERE macs = 3000000": (
        f"result {digest('first')}",
        "it is not as row 5 of the trail has it",
    ),
    "UPDATE results SET record = predictions WHERE macs = 3000000": (
        f"result {digest('first')}",
        "it is not as row 5 of the trail has it",
    ),
    "UPDATE results SET status = 'timeout', public_ranked = NULL WHERE macs = 4000000": (
        f"result {digest('net')}",
        "it is not as row 8 of the trail has it",
    ),
    "DELETE FROM results WHERE macs = 3000000": (
        f"result {digest('first')}",
        "it is gone: row 5 of the trail has it",
    ),
    "UPDATE results SET submission = 'sha256:another' WHERE macs = 3000000": (
        "result sha256:another",
        "it is not in the trail",
    ),
    "UPDATE entries SET submitted_at = 1 WHERE name = 'first'": (
        "entry red/first",
        "it is not as row 9 of the trail has it",
    ),
    "UPDATE entries SET disqualified = 'no reason' WHERE name = 'second'": (
        "entry red/second",
        "it is not as row 11 of the trail has it",
    ),
    "UPDATE entries SET team = 'green' WHERE name = 'leaf'": ("entry green/leaf", "it is not in the trail"),
    "DELETE FROM superseded": ("earlier result with the digest", "it is gone or was changed"),
    "UPDATE superseded SET reason = 'none'": (
        f"earlier result {digest('net')}",
        "the trail has none with this content",
    ),
    "UPDATE contexts SET rules = 'sha256:others'": (
        f"result {digest('second')}",
        "it is not as row 6 of the trail has it",
    ),
    "UPDATE renamed SET team = 'red' WHERE name = 'blue'": (
        "the former team name blue",
        "red; the trail: azure",
    ),
    "DELETE FROM standings WHERE team = 'red'": (
        "the place of team red",
        "it does not follow from the entries and their results",
    ),
    "UPDATE audit SET said = '{}' WHERE id = 9": (
        "row 9 of the trail (entry, ",
        "its content is not what its hash was made of",
    ),
    "UPDATE audit SET at = at + 1 WHERE id = 10": (
        "row 10 of the trail (disqualify, ",
        "its content is not what its hash was made of",
    ),
    "DELETE FROM audit WHERE id = 10": (
        "row 11 of the trail (reinstate, ",
        "it follows row 9: rows are missing",
    ),
    "DELETE FROM audit WHERE id = 1": (
        "row 2 of the trail (entry, ",
        "it follows row 0: rows are missing",
    ),
    "DELETE FROM audit": ("the trail", "it has no row"),
}


@pytest.mark.parametrize("statement", TAMPERED)
def test_what_was_changed_by_sql_is_found_and_located(used: Store, statement: str) -> None:
    where, got = TAMPERED[statement]
    tamper(used, statement)
    found = breaks(used)
    assert any(place.startswith(where) and said == got for place, said in found), found


def test_a_row_with_a_hash_of_its_own_breaks_the_chain_after_it(used: Store) -> None:
    with used._database.reading() as connection:
        row = dict(connection.execute(sa.select(audit).filter_by(id=10)).mappings().one())
    row["said"] = row["said"].replace("trained on the test images", "a friend")
    own = row_hash(row)
    tamper(used)
    with used._database.engine.begin() as connection:
        connection.execute(sa.update(audit).filter_by(id=10).values(said=row["said"], hash=own))

    ((where, got),) = breaks(used)

    assert where.startswith("row 11 of the trail (reinstate, ")
    assert got.startswith("it was not written after the row before")


def rewrite(store: Store) -> None:
    """Forge a better figure and a whole new chain, as somebody can who knows the kit."""
    with store._database.engine.begin() as connection:
        for statement in UNGUARD[connection.dialect.name]:
            connection.exec_driver_sql(statement)
        before = "0" * 64
        for row in connection.execute(sa.select(audit).order_by(audit.c.id)).mappings().all():
            new = {**row, "previous": before}
            new["said"] = new["said"].replace("trained on the test images", "late")
            before = row_hash(new)
            connection.execute(
                sa.update(audit)
                .filter_by(id=row["id"])
                .values(said=new["said"], previous=new["previous"], hash=before)
            )


def test_only_a_published_head_tells_a_chain_that_was_written_anew(used: Store) -> None:
    _, published = used.head()
    used.add(1, [entry("late", "one", hours=9)])
    assert used.prove(published).published == 16
    assert breaks(used, published) == []

    rewrite(used)

    assert breaks(used) == []
    assert breaks(used, published) == [("the trail", f"no row has the published hash {published}")]


def test_nothing_is_written_into_a_store_whose_trail_is_gone(used: Store, context: int) -> None:
    tamper(used, "DELETE FROM audit")
    with pytest.raises(HostError) as caught:
        used.put(context, record("more"), None)
    assert caught.value.problems[0].code is Code.TRAIL_EMPTY
    assert digest("more") not in used.statuses(context)


def test_an_old_store_is_entered_into_its_trail(tmp_path: Path) -> None:
    with tarfile.open(OLD) as archive:
        archive.extract("./.starter/results.sqlite", tmp_path)
    url = f"sqlite:///{tmp_path / '.starter' / 'results.sqlite'}"

    with Store(url) as store:
        assert kinds(store) == ["start", *["before"] * 6]
        proof = store.prove()
        assert (proof.breaks, proof.rows, proof.entries, proof.results) == ([], 7, 3, 3)
        tamper(store, "UPDATE entries SET submitted_at = 1 WHERE name = 'second'")
        assert next(where for where, _ in breaks(store)) == "entry red/second"


THREADS = 8
WRITER = """
import os, sys, threading
sys.path.insert(0, sys.argv[2])
from organizing import CONTEXT, entry, evidence, record
from starter.organizer.store.store import Store
url, _, prefix, count, threads = sys.argv[1:]
store = Store(url)
context = store.context_id(CONTEXT)
print("ready", flush=True)
sys.stdin.readline()

def write(thread):
    for i in range(int(count)):
        name = f"{prefix}-{thread}-{i}"
        store.add(context, [entry(name, name)])
        store.put(context, record(name), evidence([1] * 5000))
        os.write(1, f"{name}\\n".encode())

running = [threading.Thread(target=write, args=(number,)) for number in range(int(threads))]
for thread in running:
    thread.start()
for thread in running:
    thread.join()
"""


def started(url: str, prefix: str, count: int, threads: int) -> subprocess.Popen[str]:
    helpers = str(Path(organizing.__file__).parent)
    command = [sys.executable, "-c", WRITER, url, helpers, prefix, str(count), str(threads)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


@pytest.mark.slow
def test_processes_that_write_at_the_same_time_keep_one_chain(url: str) -> None:
    Store(url).__exit__(None, None, None)
    processes = [started(url, prefix, 10, 3) for prefix in ("one", "two")]
    for process in processes:
        go(process)
    for process in processes:
        out, _ = process.communicate(timeout=120)
        assert len(out.splitlines()) == 30
        assert process.returncode == 0
    with Store(url) as store:
        proof = store.prove()
        assert proof.breaks == []
        assert (proof.entries, proof.results, proof.rows) == (60, 60, 121)
        order = [kept.team.split("-")[0] for kept in store.entries()]
        assert {"one", "two"} == set(order)


@pytest.mark.slow
def test_a_kill_within_a_group_commit_leaves_whole_results_and_a_whole_chain(url: str) -> None:
    Store(url).__exit__(None, None, None)
    chance = random.Random(5)
    for attempt in range(4):
        process = started(url, f"try{attempt}", 10_000, THREADS)
        go(process)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0, 0.5))
        os.kill(process.pid, signal.SIGKILL)
        told = {line.strip() for line in process.stdout if line.endswith("\n")}
        process.communicate()

        with Store(url) as store:
            assert store.prove().breaks == []
            context = store.context_id(CONTEXT)
            own = {e.name: e for e in store.entries() if e.team.startswith(f"try{attempt}-")}
            kept = {name: store.record(context, e.submission) for name, e in own.items()}
            whole = {name for name, found in kept.items() if found is not None}
            assert told <= whole
            assert len(own) - len(whole) <= THREADS
            for name in whole:
                found = kept[name]
                assert found is not None
                assert found[1] is not None
                assert len(found[1].labels) == 5000
                assert store.standing(context, own[name].team) is not None


def together(*calls: Callable[[], None]) -> list[BaseException | None]:
    """Call all at the same moment; return what each has raised."""
    barrier = threading.Barrier(len(calls))

    def call(what: Callable[[], None]) -> BaseException | None:
        barrier.wait()
        try:
            what()
        except Exception as error:  # noqa: BLE001 - it is what is asked for
            return error
        return None

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


def test_results_that_come_together_share_commits_and_a_bad_one_fails_alone(
    store: Store, context: int
) -> None:
    names = [f"entry{i}" for i in range(40)]
    store.add(context, [entry(name, name) for name in names])
    bad = record("entry7")
    bad = bad.model_copy(update={"result": bad.result.model_copy(update={"macs": 2**70})})
    commits = []
    sa.event.listen(store._database.engine, "commit", lambda _: commits.append(1))

    def put(name: str) -> Callable[[], None]:
        chosen = bad if name == "entry7" else record(name)
        return lambda: store.put(context, chosen, evidence([1] * 2000))

    errors = together(*map(put, names))

    failed = [name for name, error in zip(names, errors, strict=True) if error is not None]
    assert failed == ["entry7"]
    assert store.statuses(context).keys() == {digest(name) for name in names if name != "entry7"}
    assert len(commits) < len(names)
    assert store.prove().breaks == []


def test_of_two_results_of_one_submission_one_holds_and_the_other_is_kept(store: Store, context: int) -> None:
    store.add(context, [entry("team", "net")])
    puts = [lambda macs=macs: store.put(context, record("net", macs), None) for macs in (1, 2, 3, 4)]

    assert together(*puts) == [None] * 4

    assert sorted(found.result.macs or 0 for found, _ in store.history(digest("net"))) == [1, 2, 3, 4]
    assert store.prove().breaks == []


def test_a_worse_result_takes_the_place_of_a_better_one(store: Store, context: int) -> None:
    store.add(context, [entry("team", "a"), entry("team", "b", hours=1), entry("other", "c")])
    for name, macs in (("a", 1_000_000), ("b", 2_000_000), ("c", 1_500_000)):
        store.put(context, record(name, macs), None)
    assert [row.name for row in store.best(context)] == ["a", "c"]

    store.put(context, record("a", 9_000_000), None, reason="an appeal")

    assert [row.name for row in store.best(context)] == ["c", "b"]
    store.put(context, record("b", failed=Code.TIMEOUT), None, reason="another appeal")
    assert [row.name for row in store.best(context)] == ["c", "a"]


def test_a_disqualified_entry_leaves_its_place_to_the_next(store: Store, context: int) -> None:
    store.add(context, [entry("team", "a"), entry("team", "b", hours=1), entry("other", "c")])
    for name, macs in (("a", 1_000_000), ("b", 2_000_000), ("c", 1_500_000)):
        store.put(context, record(name, macs), None)

    store.acts.disqualify("team", "a", "copied")
    store.add(context, [entry("team", "a", selected=True)])  # the next batch finds it again

    assert [row.name for row in store.best(context)] == ["c", "b"]
    assert [row.name for row in store.ranked(context)] == ["c", "b"]
    assert [(row.name, row.reason) for row in store.unranked(context)] == [("a", "disqualified: copied")]
    store.acts.reinstate("team", "a", "it was not")
    assert [row.name for row in store.best(context)] == ["a", "c"]
    with pytest.raises(UsageError) as caught:
        store.acts.reinstate("team", "a", "again")
    assert caught.value.problems[0].code is Code.NO_ENTRY


def test_a_merged_team_stands_with_the_best_of_both(store: Store, context: int) -> None:
    store.add(context, [entry("one", "a"), entry("two", "b", hours=1)])
    store.add(context, [entry("one", "same", hours=5), entry("two", "same", hours=4)])
    for name, macs in (("a", 2_000_000), ("b", 1_000_000), ("same", 3_000_000)):
        store.put(context, record(name, macs), None)

    store.acts.merge("one", "two", "one person")

    assert [(row.team, row.name) for row in store.best(context)] == [("two", "b")]
    assert [(e.team, e.name, e.submitted_at.hour) for e in store.entries()] == [
        ("two", "a", 12),
        ("two", "b", 13),
        ("two", "same", 16),
    ]
    assert store.team("one") == "two"
    store.acts.rename("two", "both", "as they wish")
    assert store.former_names() == {"one": "both", "two": "both"}
    assert breaks(store) == []


@pytest.mark.parametrize(
    ("new", "got"),
    [("blue", "team 'blue' is there"), ("b1ue", "team 'blue' is there"), ("", "0 characters")],
)
def test_a_team_cannot_take_anothers_name(store: Store, context: int, new: str, got: str) -> None:
    store.add(context, [entry("red", "a"), entry("blue", "b")])
    with pytest.raises(UsageError) as caught:
        store.acts.rename("red", new, "because")
    assert caught.value.problems[0].code is Code.TEAM_TAKEN
    assert got in caught.value.problems[0].got
    assert {e.team for e in store.entries()} == {"red", "blue"}
