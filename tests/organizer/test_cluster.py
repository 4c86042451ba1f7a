"""The batch on a real Ray cluster of two nodes: a node may be killed, and no label leaves the driver."""

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import crowd
import pytest
from conftest import CLASSES, Command, drawn_image
from crowd import stored, told

from starter.contract.competition import load_competition
from starter.contract.errors import Code, Status
from starter.contract.submissions import discover_one
from starter.data.dataset import Dataset
from starter.data.writer import Description, Item, write_dataset
from starter.evaluation.measure import Measurement
from starter.organizer.cluster.node import Sent, Worker, work_of

HOST = Path(__file__).parents[1] / "helpers" / "cluster_host.py"
Tell = Callable[[str], None]


@pytest.fixture
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Tell]]:
    """A cluster of one and two processors: its address, and what tells it what to do.

    With the parameter "no bubblewrap" its nodes have none.
    """
    pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
    if getattr(request, "param", "") == "no bubblewrap":
        programs = tmp_path / "programs"
        programs.mkdir()
        for name in ("bash", "env"):  # Ray starts its workers by them
            (programs / name).symlink_to(shutil.which(name) or "")
        environment["PATH"] = str(programs)
    command = [sys.executable, str(HOST), "1", "2"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as host:
        assert host.stdin is not None
        assert host.stdout is not None

        def tell(what: str) -> None:
            print(what, file=host.stdin, flush=True)
            assert host.stdout is not None
            assert host.stdout.readline() == "done\n"

        try:
            yield host.stdout.readline().strip(), tell
        finally:
            host.stdin.close()
            host.wait(60)


def write_entries(place: Path, count: int) -> None:
    (place / "entries").mkdir()
    for number in range(count):
        (place / "entries" / f"honest{number}.py").write_text(crowd.honest(number))


@pytest.mark.slow
def test_a_node_that_is_killed_loses_nothing_and_nobody_is_blamed(
    starter: Command, place: Path, easy_dataset: Dataset, cluster: tuple[str, Tell]
) -> None:
    """Two of three workers go in the middle; what they had in hand is evaluated by the third."""
    address, tell = cluster
    write_entries(place, 30)
    (place / "entries" / "crash.py").write_text("import ctypes\nctypes.string_at(0)")
    command = [sys.executable, "-m", "starter", "batch", "entries", "--engine", "ray", "--cluster", address]
    with subprocess.Popen(
        [*command, "--isolation", "auto"], cwd=place, stderr=subprocess.PIPE, text=True
    ) as batch:
        assert batch.stderr is not None
        first = [batch.stderr.readline() for _ in range(4)]
        tell("kill")
        rest = batch.stderr.read()
        assert batch.wait() == 0, rest

    found = stored(place, easy_dataset)
    assert len(found) == 31
    assert {name for name, (status, _) in found.items() if status is not Status.OK} == {"crash"}
    assert found["crash"][0] is Status.CRASH
    said = told("".join(first) + rest)
    assert sorted(said) == sorted(found)  # each once
    again = starter("batch", "entries", "--engine", "ray", "--cluster", address)
    assert told(again.stderr) == []


@pytest.mark.long
@pytest.mark.parametrize("cluster", ["no bubblewrap"], indirect=True)
def test_a_node_that_cannot_lock_submissions_in_is_not_used(
    starter: Command, place: Path, cluster: tuple[str, Tell]
) -> None:
    address, _ = cluster
    rules = place / "competition.toml"
    rules.write_text(rules.read_text().replace('isolation = "none"', 'isolation = "box"'))
    write_entries(place, 2)
    run = starter("batch", "entries", "--engine", "ray", "--cluster", address, expected=3)
    assert "H106" in run.stderr
    assert "H104" in run.stderr


@pytest.mark.slow
def test_without_a_cluster_the_address_is_at_fault(starter: Command, place: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    write_entries(place, 1)
    run = starter("batch", "entries", "--engine", "ray", "--cluster", "127.0.0.1:1", expected=2)
    assert "U406" in run.stderr


def test_what_is_sent_to_a_node_does_not_depend_on_a_label(place: Path, tmp_path: Path) -> None:
    """Two data sets of the same images and other answers: the same bytes are sent."""
    rules = load_competition(place / "competition.toml")
    sent = []
    for shift in range(2):
        usages = ("Public", "Private")
        images = [Item(f"{i}.jpg", drawn_image(i % 3, i), (i + shift) % 3, usages[i % 2]) for i in range(12)]
        train = [Item(f"t{i}.jpg", drawn_image(i % 3, 50 + i), i % 3, "train") for i in range(6)]
        data = write_dataset(tmp_path / str(shift), [*images, *train], Description(name="x", classes=CLASSES))
        labels = {row.image_id: row.label for row in data.solution()}
        assert labels == {f"{i}.jpg": (i + shift) % 3 for i in range(12)}
        sent.append(pickle.dumps(work_of(rules, data, isolation=None, cache_mb=1, device="cpu")))
    assert sent[0] == sent[1]


@pytest.mark.long
def test_a_worker_measures_what_the_driver_would(place: Path, easy_dataset: Dataset) -> None:
    """In this process, without Ray; and a broken plugin is its author's fault there too."""
    rules = load_competition(place / "competition.toml")
    write_entries(place, 1)
    (place / "entries" / "broken.py").write_text("import nothing")
    worker = Worker(work_of(rules, easy_dataset, isolation="none", cache_mb=10, device="cpu"))
    try:
        hello = worker.hello()
        assert hello.problems == ()
        sources = [discover_one(place / "entries" / f"{name}.py") for name in ("honest0", "broken")]
        good, broken = (worker.measure(Sent.of(c)) for c in sources)
    finally:
        worker.close()
    assert isinstance(good, Measurement)
    assert isinstance(broken, Measurement)
    assert good.source == sources[0]
    assert good.logits is not None
    labels = [row.label for row in easy_dataset.solution()]
    assert good.logits.argmax(axis=1).tolist() == labels
    assert [p.code for p in broken.problems] == [Code.IMPORT_FAILED]
