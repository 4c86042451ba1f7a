"""The locked sandbox: what it refuses, what is left after a kill, and what one submission leaves another."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import isolations
import pytest
from conftest import GOOD

from starter.contract.competition import CompetitionFile, Limits
from starter.contract.errors import Code, HostError
from starter.contract.hookspecs import Competition
from starter.contract.isolation import Level
from starter.contract.submissions import Kind, SubmissionSource
from starter.evaluation.runner.client import Exported, export
from starter.sandbox import bubblewrap
from starter.sandbox.choice import choose, missing
from starter.sandbox.procfs import descendants
from starter.sandbox.sandbox import LockedSandbox

COMPETITION = Competition(num_classes=3, class_names=("a", "b", "c"), mean=(0.5,) * 3, std=(0.2,) * 3)
LIMITS = Limits(wall_seconds=60, cpu_seconds=60, memory_mb=3000, scratch_mb=64, output_mb=64)
RULES = CompetitionFile(name="test")


def submit(text: str, sandbox: LockedSandbox, folder: Path, **limits: int) -> Exported:
    target = Path(tempfile.mkdtemp(dir=folder))
    path = folder / "net.py"
    path.write_text(text, encoding="utf-8")
    source = SubmissionSource("net", path, Kind.FILE)
    return export(source, COMPETITION, LIMITS.model_copy(update=limits), target, sandbox)


SEES = """
import os, sys
from pathlib import Path
import json as shared
print("uid", os.getuid(), file=sys.stderr)
print("sees", sorted(str(p) for p in Path.cwd().rglob("*")), file=sys.stderr)
print("marked", hasattr(shared, "mark"), file=sys.stderr)
print("environment", dict(os.environ), file=sys.stderr)
shared.mark = 1
Path("left").write_text("secret")
"""


@pytest.mark.long
def test_a_submission_leaves_nothing_to_the_next_of_the_same_sandbox(
    tmp_path: Path, sandbox: LockedSandbox
) -> None:
    assert submit(GOOD, sandbox, tmp_path).is_complete
    before = sandbox.pid
    first, second = (submit(SEES + GOOD, sandbox, tmp_path) for _ in range(2))

    assert first.is_complete
    assert second.is_complete
    assert sandbox.pid == before
    assert first.log == second.log
    assert "marked False" in second.log
    assert "left" not in second.log
    assert ("uid 0" in second.log) is (os.getuid() == 0 and sandbox._user is None)


@pytest.mark.long
def test_a_sandbox_in_which_something_went_wrong_is_thrown_away(
    tmp_path: Path, sandbox: LockedSandbox
) -> None:
    assert submit(GOOD, sandbox, tmp_path).is_complete
    before = sandbox.pid
    (crash,) = submit("import ctypes; ctypes.string_at(0)", sandbox, tmp_path).report.problems

    assert (crash.code, crash.got) == (Code.CRASH, "killed by SIGSEGV")
    assert submit(GOOD, sandbox, tmp_path).is_complete
    assert sandbox.pid != before


@pytest.mark.parametrize(
    ("text", "limits", "code", "allowed"),
    [
        (
            "[open(str(i), 'w').close() for i in range(700)]; import time; time.sleep(50)",
            {"scratch_files": 500},
            Code.DISK,
            "500 files",
        ),
        (
            "import sys\nwhile True: print('x' * 10**6, file=sys.stderr)",
            {},
            Code.OUTPUT,
            "256 MiB of log",
        ),
    ],
)
def test_a_limit_says_what_was_allowed_and_what_was_measured(
    text: str, limits: dict[str, int], code: Code, allowed: str, tmp_path: Path, sandbox: LockedSandbox
) -> None:
    (limit,) = submit(text, sandbox, tmp_path, **limits).report.problems

    assert (limit.code, limit.expected) == (code, f"at most {allowed}")
    assert float(limit.got.split()[0]) >= float(allowed.split(maxsplit=1)[0])


@pytest.mark.slow
def test_a_level_below_the_competitions_least_is_refused() -> None:
    if not isolations.available():
        pytest.skip(isolations.lacks("lockdown"))
    strict = RULES.model_copy(update={"isolation": Level.BOX})

    with pytest.raises(HostError) as caught:
        choose(strict, "lockdown")
    assert caught.value.problems[0].code is Code.NO_ISOLATION
    assert choose(strict, "none").level is Level.NONE
    assert choose(RULES, "auto").level in {Level.BOX, Level.LOCKDOWN}


def test_without_bubblewrap_there_is_no_box(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert missing(Level.BOX, user=RULES.worker_user, limits=LIMITS) == "bubblewrap is not installed"


def test_the_lock_is_tried_at_every_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A box that hides nothing is noticed from inside: here it is not built at all."""
    if reason := isolations.lacks("box"):
        pytest.skip(reason)
    monkeypatch.setattr(bubblewrap, "command_line", lambda **_: [])
    assert missing(Level.BOX, user=RULES.worker_user, limits=LIMITS)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can stay root: run the tests as root")
def test_root_is_never_who_a_worker_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is told to become nobody else ends at once, at each level."""
    said = LockedSandbox._worker
    as_root = f'"user": {RULES.worker_user}', '"user": null'  # and not "root": true
    monkeypatch.setattr(
        LockedSandbox, "_worker", lambda self: [*said(self)[:-1], said(self)[-1].replace(*as_root)]
    )
    for level in (Level.LOCKDOWN, Level.BOX):
        if level is Level.LOCKDOWN or shutil.which("bwrap"):
            reason = missing(level, user=RULES.worker_user, limits=LIMITS)
            assert reason.splitlines()[-1] == "the worker is root"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can stay root: run the tests as root")
def test_an_environment_that_the_worker_cannot_read_is_the_reason_that_is_given() -> None:
    if all(path.stat().st_mode & 0o001 for path in Path(os.__file__).parents):
        pytest.skip("every user can read this Python: run the tests as root with a Python below root's home")
    reason = missing(Level.LOCKDOWN, user=RULES.worker_user, limits=LIMITS)
    assert reason.splitlines()[-1] == f"PermissionError: [Errno 13] Permission denied: '{os.__file__}'"


STAY = "import time; time.sleep(60)"


def left_over(folder: Path) -> list[int]:
    """Return the live processes that were started with this temporary folder: no other test's."""
    mark, found = bytes(folder), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                state = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split(maxsplit=1)[0]
                seen = mark in (entry / "cmdline").read_bytes() or mark in (entry / "environ").read_bytes()
            except OSError:
                continue
            if seen and state not in "ZX":
                found.append(int(entry.name))
    return found


RACES = int(os.environ.get("STARTER_KILL_RACES", "5"))
"""How often each is tried; a release runs 200."""


@pytest.mark.long
@pytest.mark.parametrize("name", isolations.NAMES)
@pytest.mark.parametrize("victim", ["supervisor", "worker", "command"])
def test_nothing_is_left_when_one_is_killed_at_a_random_moment(
    victim: str, name: str, tmp_path: Path
) -> None:
    if reason := isolations.lacks(name):
        pytest.skip(reason)
    isolation = isolations.named(name)
    path = tmp_path / "net.py"
    path.write_text(STAY, encoding="utf-8")
    draw = random.Random(7)
    running = 0
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    arguments = [sys.executable, "-c", COMMAND, isolation.level, str(isolation.user or "")]
    for _ in range(RACES):
        with subprocess.Popen([*arguments, str(path)], env=environment) as command:
            while not list(descendants(command.pid)) and command.poll() is None:
                time.sleep(
                    0.002
                )  # until its supervisor is there; from then on a second and a half is its life
            time.sleep(draw.random() * 1.2)
            children = list(descendants(command.pid))
            running += len(children) == (4 if isolation.level is Level.BOX else 3)
            pid = {"command": [command.pid], "supervisor": children[:1], "worker": children[-1:]}[victim]
            for one in pid:
                os.kill(one, signal.SIGKILL)
            if victim != "command" and not pid:
                command.kill()
            command.wait(30)
        until = time.monotonic() + 5
        while (left := left_over(tmp_path)) and time.monotonic() < until:
            time.sleep(0.02)
        assert not left
    print(f"{RACES} kills of the {victim}, {running} with the submission running")  # noqa: T201 - shown by -rP


COMMAND = """
import sys, tempfile, threading
from pathlib import Path
from starter.contract.competition import CompetitionFile
from starter.contract.submissions import SubmissionSource, Kind
from starter.contract.hookspecs import Competition
from starter.evaluation.runner.client import export
from starter.contract.isolation import Level
from starter.sandbox.sandbox import LockedSandbox
rules = CompetitionFile(name="race")
user = int(sys.argv[2]) if sys.argv[2] else None
sandbox = LockedSandbox(Level(sys.argv[1]), user=user, limits=rules.limits, preload=False)
competition = Competition(num_classes=3, class_names=("a", "b", "c"), mean=(0.5,) * 3, std=(0.2,) * 3)
limits = rules.limits.model_copy(update={"wall_seconds": 2})
try:
    with sandbox:
        export(SubmissionSource("net", Path(sys.argv[3]), Kind.FILE), competition, limits,
               Path(tempfile.mkdtemp()), sandbox)
except Exception:
    pass
"""


@pytest.mark.slow
def test_giving_up_ends_the_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    path = tmp_path / "net.py"
    path.write_text(STAY, encoding="utf-8")
    target = tmp_path / "reply"
    target.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    name = (isolations.available() or ["lockdown"])[0]
    with isolations.sandbox_of(name, limits=LIMITS, preload=False) as sandbox:
        assert not sandbox.failure()
        assert left_over(tmp_path)
        threading.Timer(1.5, stop.set).start()
        with pytest.raises(HostError):
            export(SubmissionSource("net", path, Kind.FILE), COMPETITION, LIMITS, target, sandbox, stop=stop)
    assert not left_over(tmp_path)
