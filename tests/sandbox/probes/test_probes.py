"""Every attack succeeds in a plain Python process, or it would show nothing, and fails in a sandbox."""

import contextlib
import platform
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import isolations
import pytest
from attacks import ATTACKS, NUMBERS, PREAMBLE

from starter.contract.competition import CompetitionFile
from starter.contract.errors import UsageError
from starter.contract.hookspecs import Competition
from starter.contract.submissions import Kind, SubmissionSource
from starter.evaluation.runner.client import export
from starter.evaluation.runner.process import Runner
from starter.sandbox.sandbox import LockedSandbox

RULES = CompetitionFile(name="probes")
COMPETITION = Competition(num_classes=3, class_names=("a", "b", "c"), mean=(0.5,) * 3, std=(0.2,) * 3)
pytestmark = pytest.mark.skipif(
    platform.machine() not in NUMBERS, reason=f"no system calls known for {platform.machine()}"
)


@pytest.fixture(scope="module")
def sandboxes() -> Iterator[dict[str, LockedSandbox]]:
    """A sandbox of each isolation that this machine has."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(isolations.sandbox_of(name)) for name in isolations.available()}


@pytest.fixture
def targets() -> Iterator[str]:
    """Fresh targets, as the lines of Python that name them; their folder is short, for sockets."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="starter-probe-")))
        outside = folder / "outside"
        (outside / "other").mkdir(parents=True)
        (outside / "empty").mkdir()
        for path in (outside / "victim", outside / "other" / "plugin.py"):
            path.write_text("secret")
        sleeper = stack.enter_context(
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
        )
        stack.callback(sleeper.kill)
        ports = []
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            by_port, by_path = (
                stack.enter_context(socket.socket(family, kind))
                for family in (socket.AF_INET, socket.AF_UNIX)
            )
            by_port.bind(("127.0.0.1", 0))
            by_path.bind(str(folder / f"socket{int(kind)}"))
            if kind is socket.SOCK_STREAM:
                by_port.listen()
                by_path.listen()
            ports.append(by_port.getsockname()[1])
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0{folder.name}")
        abstract.listen()
        yield "\n".join(
            (
                f"NUMBERS = {NUMBERS[platform.machine()]}",
                f"from pathlib import Path; victim = Path({str(outside / 'victim')!r})",
                f"pid, tcp, udp = {sleeper.pid}, {ports[0]}, {ports[1]}",
                f"stream, datagram = {str(folder / 'socket1')!r}, {str(folder / 'socket2')!r}",
                f"abstract = {folder.name!r}",
                PREAMBLE,
            )
        )


def in_plain_python(code: str) -> str:
    """Run the code without any lock; return what went wrong."""
    with tempfile.TemporaryDirectory(prefix="starter-probe-") as scratch:
        command = [sys.executable, "-I", "-B", "-c", code]
        run = subprocess.run(command, capture_output=True, text=True, cwd=scratch, check=False, timeout=60)
        return "" if run.returncode == 0 else run.stderr or str(run.returncode)


def in_sandbox(sandbox: LockedSandbox, code: str) -> str:
    """Run the code as a plugin; return what its process printed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.py")
        path.write_text(f"{code}\nimport sys\nprint('succeeded', file=sys.stderr)\n", encoding="utf-8")
        return export(
            SubmissionSource("net", path, Kind.FILE), COMPETITION, RULES.limits, Path(folder), sandbox
        ).log


def test_there_are_enough_attacks() -> None:
    assert len(ATTACKS) >= 69


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_succeeds_in_plain_python_and_fails_in_a_sandbox(
    name: str, targets: str, sandboxes: dict[str, LockedSandbox]
) -> None:
    if not sandboxes:
        pytest.skip(isolations.lacks("lockdown"))
    held = {
        isolation: in_sandbox(sandbox, targets + ATTACKS[name]) for isolation, sandbox in sandboxes.items()
    }
    assert {isolation for isolation, log in held.items() if "succeeded" in log} == set()
    assert in_plain_python(targets + ATTACKS[name]) == ""


@pytest.mark.slow
def test_an_attack_fails_in_the_process_that_runs_graphs(
    targets: str, tmp_path: Path, sandboxes: dict[str, LockedSandbox]
) -> None:
    """An organizer's rule is the one file of Python that it runs: here each is an attack."""
    if not sandboxes:
        pytest.skip(isolations.lacks("lockdown"))
    files = [tmp_path / f"{name.replace('/', '_')}.py" for name in ATTACKS]
    for file, attack in zip(files, ATTACKS.values(), strict=True):
        file.write_text(f"{targets}\n{attack}\nraise RuntimeError('succeeded')\n", encoding="utf-8")
    with Runner(RULES.limits, threads=1, cost_rules=files) as runner, pytest.raises(UsageError) as refused:
        runner.hello  # noqa: B018 - waits until it has loaded them
    found = {Path(problem.where).stem: problem.got for problem in refused.value.problems}
    assert len(found) == len(ATTACKS)
    assert [name for name, got in found.items() if got.startswith("RuntimeError: succeeded")] == []


@pytest.mark.parametrize("name", isolations.NAMES)
def test_a_file_outside_can_be_asked_for_by_name_at_lockdown_only(
    name: str, targets: str, sandboxes: dict[str, LockedSandbox]
) -> None:
    """The one known gap of the level lockdown."""
    if name not in sandboxes:
        pytest.skip(isolations.lacks(name))
    seen = "succeeded" in in_sandbox(sandboxes[name], targets + "assert victim.stat().st_size == 6")
    assert seen is name.startswith("lockdown")
