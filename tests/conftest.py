"""Fixtures: a small data set that is easy to tell apart, plugins written in the test, and a competition."""

import gc
import io
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from starter.contract.system.processors import available, waiting

os.environ.update(waiting(os.environ))  # before anything loads OpenMP, for the tests' own processes too
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available().threads // workers)))

import crowd
import isolations
import numpy as np
import pytest
from crowd import GOOD
from PIL import Image

from starter.contract.competition import CompetitionFile
from starter.contract.isolation import Isolation, Level
from starter.contract.results import Reference
from starter.contract.submissions import discover_one
from starter.data.dataset import Dataset
from starter.data.writer import Description, Item, Split, write_dataset
from starter.evaluation.baseline import measure, write_reference
from starter.sandbox.choice import absent
from starter.sandbox.protocol import Sandbox

# A shell starts what it runs in the background with Ctrl-C switched off, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["databases"]

LINUX_ONLY = [
    "graph/test_fuzz.py",
    "sandbox/probes",
    "sandbox/test_filter.py",
    "sandbox/test_lockdown.py",
    "sandbox/test_sandbox.py",
    "sandbox/test_sabotage.py",
    "sandbox/test_weaker_hosts.py",
    "test_benchmarks.py",
]
"""What needs the sandbox from inside, or `resource`: neither can be imported on other systems."""

collect_ignore = LINUX_ONLY if absent() else []

NEED_BUBBLEWRAP = {
    "probes",
    "test_cluster.py",
    "test_demanding.py",
    "test_limit_edges.py",
    "test_messages.py",
    "test_processes.py",
    "test_protocol.py",
    "test_sandbox.py",
    "test_sabotage.py",
    "test_trust.py",
    "test_weaker_hosts.py",
}
"""Files whose tests run in another sandbox if bubblewrap is installed."""

NEED_PROGRAM = {"own_server", "postgresql", "box", "box as root"}
"""A fixture and values of parameters that start PostgreSQL or bubblewrap."""

UNCHANGED = [name for name in isolations.NAMES if not name.startswith("box")]
"""Values of parameters: the isolation that a test asks for, which is the same with bubblewrap and without."""

SLOW = "takes long: tox -e test-all"

Command = Callable[..., subprocess.CompletedProcess[str]]
"""Calls the command line with arguments, and `expected`: the exit code."""

ROOT = Path(__file__).parents[1]
CLASSES = ("Metal", "Paper", "Plastic")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --all."""
    parser.addoption("--all", action="store_true", help="Also run the slow and the long tests.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is slow, unless all is asked for; mark what a bare machine skips."""
    for item in items:
        if needs_packages(item):
            item.add_marker(pytest.mark.packages)
        for name in () if config.getoption("--all") else ("slow", "long"):
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=SLOW))


def pytest_collection_finish() -> None:
    """Keep the collector from what is imported by now: a million objects of torch's, which all stay."""
    gc.collect()
    gc.freeze()


def needs_packages(item: pytest.Item) -> bool:
    """Return whether bubblewrap, PostgreSQL or Chromium makes a difference to a test."""
    parameters = getattr(getattr(item, "callspec", None), "params", {}).values()
    names = {*getattr(item, "fixturenames", ()), *(value for value in parameters if isinstance(value, str))}
    reasons = (mark.kwargs.get("reason", "") for mark in item.iter_markers("skipif"))
    is_unchanged = not names.isdisjoint(UNCHANGED)
    return bool(
        (NEED_BUBBLEWRAP.intersection(item.path.parts) and not is_unchanged)
        or NEED_PROGRAM.intersection(names)
        or any("apt install" in reason for reason in reasons)
    )


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print one line for each reason of skipping: how many tests, and what to install to run them."""
    reasons = Counter(
        str(report.longrepr[2]).removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", ())
    )
    if collect_ignore:
        reasons[f"the sandbox and the benchmarks need Linux: {', '.join(collect_ignore)}"] = len(
            collect_ignore
        )
    if reasons:
        terminalreporter.section("skipped")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count:5}  {reason}")


def drawn_image(label: int, seed: int) -> bytes:
    """Return a JPEG whose strongest channel is its label."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(40, 120, (12, 16, 3), dtype=np.uint8)
    pixels[:, :, label] += 100
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """One sandbox for all tests that lock their plugin in, at the strictest level there is."""
    with isolations.sandbox_of((isolations.available() or ["lockdown"])[0]) as shared:
        yield shared


@pytest.fixture(scope="module", params=isolations.NAMES)
def each_sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """One sandbox for all tests of a module, for each isolation that this machine has."""
    with isolations.sandbox_of(request.param) as shared:
        yield shared


@pytest.fixture(scope="session")
def easy_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Sixty images in three classes, thirty of them for the evaluation."""
    splits: tuple[Split, ...] = ("train", "Public", "Private", "train")
    items = (Item(f"{i:03d}.jpg", drawn_image(i % 3, i), i % 3, splits[i % 4]) for i in range(60))
    folder = tmp_path_factory.mktemp("data") / "easy"
    return write_dataset(folder, items, Description(name="easy", classes=CLASSES))


@pytest.fixture
def competition(tmp_path: Path) -> Path:
    """A competition folder of one's own, with no submission, on the packaged data and baseline."""
    text = (ROOT / "competition.toml").read_text(encoding="utf-8")
    for name in ("data/waste", "baseline"):
        text = text.replace(f'"{name}"', f'"{ROOT / name}"')
    (tmp_path / "competition.toml").write_text(text, encoding="utf-8")
    (tmp_path / "submissions").mkdir()
    return tmp_path


@pytest.fixture
def write_plugin(tmp_path: Path) -> Callable[..., Path]:
    """Write NAME.py into a folder of submissions; `changes` replace parts of the good plugin."""

    def write(name: str, *changes: tuple[str, str], text: str = GOOD) -> Path:
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "submissions" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def reference(easy_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The good plugin, measured on the easy data."""
    path = tmp_path_factory.mktemp("baseline") / "good.py"
    path.write_text(crowd.honest(0))
    rules = CompetitionFile(name="test")
    isolation = Isolation(Level.NONE)
    return measure(discover_one(path), rules, easy_dataset, made_by="a test", isolation=isolation)


@pytest.fixture
def place(tmp_path: Path, easy_dataset: Dataset, reference: Reference) -> Path:
    """A competition's folder."""
    folder = tmp_path / "competition"
    (folder / "baseline").mkdir(parents=True)
    write_reference(reference, folder / "baseline")
    text = f'name = "A crowd"\ndataset = "{easy_dataset.root}"\nisolation = "none"\n{crowd.LIMITS}'
    (folder / "competition.toml").write_text(text)
    return folder


@pytest.fixture
def starter(place: Path) -> Command:
    """The command line, in the competition's folder."""

    def call(*arguments: str | Path, expected: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "starter", *map(str, arguments)]
        run = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        assert run.returncode == expected, run.stdout + run.stderr
        return run

    return call
