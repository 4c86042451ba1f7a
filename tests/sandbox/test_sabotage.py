"""What a submission might do to its sandbox, to what watches it, or to the one that comes after it."""

import os
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import GOOD

from starter.contract.competition import CompetitionFile, Limits
from starter.contract.errors import Code, Problem
from starter.contract.hookspecs import Competition
from starter.contract.isolation import Level
from starter.contract.submissions import Kind, SubmissionSource
from starter.evaluation.runner.claims import read_report
from starter.evaluation.runner.client import Exported, export
from starter.sandbox.procfs import descendants, unfit
from starter.sandbox.sandbox import LockedSandbox
from starter.sandbox.usage import LONGEST_PATH, empty_folder, folder_usage

COMPETITION = Competition(num_classes=3, class_names=("a", "b", "c"), mean=(0.5,) * 3, std=(0.2,) * 3)
LIMITS = Limits(wall_seconds=60, cpu_seconds=60, memory_mb=3000, scratch_mb=64, output_mb=64)
RULES = CompetitionFile(name="test")


def submit(text: str, sandbox: LockedSandbox, folder: Path, **limits: int) -> Exported:
    path = folder / "net.py"
    path.write_text(text, encoding="utf-8")
    source = SubmissionSource("net", path, Kind.FILE)
    target = Path(tempfile.mkdtemp(dir=folder))
    return export(source, COMPETITION, LIMITS.model_copy(update=limits), target, sandbox)


def verdict(text: str, sandbox: LockedSandbox, folder: Path, **limits: int) -> Problem:
    found = submit(text, sandbox, folder, **limits)
    assert not found.is_complete
    return found.report.problems[0]


THREADS = """
import threading, time
for _ in range(1000):
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
time.sleep(60)
"""


@pytest.mark.slow
def test_a_thousand_threads_end_with_the_limit_named(each_sandbox: LockedSandbox, tmp_path: Path) -> None:
    found = verdict(THREADS, each_sandbox, tmp_path)
    # In an ordinary user's box the process itself reports it, and is quoted.
    expected = found.expected.strip("\u201c\u201d")
    assert (found.code, expected) == (Code.THREADS, "at most 256 threads")


@pytest.mark.long
def test_two_hundred_threads_are_no_harm(each_sandbox: LockedSandbox, tmp_path: Path) -> None:
    text = (
        "import threading, time\n"
        "crowd = [threading.Thread(target=time.sleep, args=(0.5,)) for _ in range(200)]\n"
        "[one.start() for one in crowd]; [one.join() for one in crowd]\n"
    )
    assert submit(text + GOOD, each_sandbox, tmp_path).is_complete


HEADLESS = """
import ctypes, threading, time
def fill():
    held = []
    while True:
        held.append(bytearray(b"x") * 2**26)
        time.sleep(0.05)
threading.Thread(target=fill).start()
ctypes.CDLL(None).syscall(EXIT, 0)
"""


@pytest.mark.slow
def test_memory_is_not_hidden_by_ending_the_first_thread(each_sandbox: LockedSandbox, tmp_path: Path) -> None:
    """The kernel shows none for such a process, so it is ended at once."""
    number = {"x86_64": 60, "aarch64": 93}[os.uname().machine]
    found = verdict(HEADLESS.replace("EXIT", str(number)), each_sandbox, tmp_path, wall_seconds=20)
    assert (found.code, found.got) == (Code.CRASH, "killed by SIGKILL")


DEEP = """
import os
here = os.getcwd()
for _ in range(DEPTH):
    os.mkdir("d")
    os.chdir("d")
open("left", "w").close()
os.chdir(here)
"""


@pytest.mark.long
def test_folders_a_thousand_deep_do_not_harm_the_sandbox(each_sandbox: LockedSandbox, tmp_path: Path) -> None:
    assert submit(GOOD, each_sandbox, tmp_path).is_complete
    before = each_sandbox.pid
    assert submit(DEEP.replace("DEPTH", "1500") + GOOD, each_sandbox, tmp_path).is_complete
    assert submit(GOOD, each_sandbox, tmp_path).is_complete
    assert each_sandbox.pid == before


@pytest.mark.long
def test_files_are_not_hidden_by_a_path_that_is_too_long(each_sandbox: LockedSandbox, tmp_path: Path) -> None:
    """In the box the file system itself is counted; outside, a path that cannot be looked into is refused."""
    text = DEEP.replace("DEPTH", "3000").replace(
        'open("left", "w").close()',
        "import time\nfor i in range(40): open(f'left{i}', 'wb').write(b'x' * 2**22)\ntime.sleep(30)",
    )
    found = verdict(text, each_sandbox, tmp_path)
    allowed = "64 MiB" if each_sandbox.level is Level.BOX else f"{LONGEST_PATH - 1} bytes in a path"
    assert (found.code, found.expected) == (Code.DISK, f"at most {allowed}")
    assert submit(GOOD, each_sandbox, tmp_path).is_complete


NAMELESS = """
import mmap, os, time
held = []
for i in range(40):
    with open(f"{i}", "wb+", buffering=0) as file:
        os.unlink(f"{i}")
        file.write(b"x" * 2**22)
        held.append(HELD)
time.sleep(30)
"""


@pytest.mark.slow
@pytest.mark.parametrize("held", ["os.dup(file.fileno())", "mmap.mmap(file.fileno(), 2**22)"])
def test_files_without_a_name_are_counted(held: str, each_sandbox: LockedSandbox, tmp_path: Path) -> None:
    found = verdict(NAMELESS.replace("HELD", held), each_sandbox, tmp_path)
    assert (found.code, found.expected) == (Code.DISK, "at most 64 MiB")


@pytest.mark.parametrize(
    "attempt", ["os.mkdir('hidden', 0o300)", "os.mkdir('hidden', 0)", "os.umask(0o400)", "os.umask(0o777)"]
)
def test_a_folder_that_cannot_be_looked_into_cannot_be_made(
    attempt: str, each_sandbox: LockedSandbox, tmp_path: Path
) -> None:
    """Files in it would not be counted, nor removed before the next submission."""
    found = verdict(f"import os\n{attempt}\n", each_sandbox, tmp_path)
    assert found.code is Code.IMPORT_FAILED
    assert "Error: [Errno" in found.got  # umask cannot fail, so Python gives its failure no name
    harmless = "import os\nos.umask(os.umask(0o077))\nos.mkdir('shown', 0o700)\n"
    assert submit(harmless + GOOD, each_sandbox, tmp_path).is_complete


LEFT = """
import os
for i in range(5000):
    open(f"{i}", "w").close()
for name in (b"\\xff\\xfe", b"new\\nline", b" ", b"-rf", b"x" * 255):
    os.mkdir(name)
    open(name + b"/" + name, "w").close()
"""


@pytest.mark.slow
def test_what_it_leaves_is_gone_and_the_sandbox_stays(each_sandbox: LockedSandbox, tmp_path: Path) -> None:
    assert submit(GOOD, each_sandbox, tmp_path).is_complete
    before = each_sandbox.pid
    assert submit(LEFT + GOOD, each_sandbox, tmp_path).is_complete
    seen = submit("import os, sys\nprint(os.listdir(), file=sys.stderr)\n" + GOOD, each_sandbox, tmp_path)

    assert seen.is_complete
    assert "[]" in seen.log
    assert each_sandbox.pid == before


@pytest.mark.slow
def test_a_process_that_stops_itself_is_ended_by_the_wall_clock(
    each_sandbox: LockedSandbox, tmp_path: Path
) -> None:
    stop = "import os, signal\nsignal.raise_signal(signal.SIGSTOP)\n"
    found = verdict(stop, each_sandbox, tmp_path, wall_seconds=2)
    assert (found.code, found.expected) == (Code.TIMEOUT, "at most 2 s")


@pytest.mark.slow
def test_a_message_that_is_no_text_is_still_a_message(each_sandbox: LockedSandbox, tmp_path: Path) -> None:
    found = verdict("raise ValueError('\\ud800')", each_sandbox, tmp_path)
    assert (found.code, found.got) == (Code.IMPORT_FAILED, "ValueError: \\ud800")


def test_a_submission_has_no_descriptor_but_its_own_and_no_name_of_ours(
    each_sandbox: LockedSandbox, tmp_path: Path
) -> None:
    """Input, output, log and reply; what the worker was started with is not told."""
    text = (
        "import os, sys\n"
        "def is_open(n):\n    try: os.fstat(n)\n    except OSError: return False\n    return True\n"
        "print('descriptors', sum(map(is_open, range(512))), file=sys.stderr)\n"
        "print('arguments', sys.argv, sys.orig_argv, file=sys.stderr)\n"
    )
    log = submit(text + GOOD, each_sandbox, tmp_path).log
    assert "descriptors 4\n" in log
    assert "starter-canary-" not in log


def test_a_template_shares_no_memory_with_what_it_forks(each_sandbox: LockedSandbox) -> None:
    """A mapping that is shared and writable would be a letter to the next submission."""
    assert not each_sandbox.failure()
    worker = list(descendants(each_sandbox.pid))[-1]
    maps = Path(f"/proc/{worker}/maps").read_text().splitlines()
    assert len(maps) > 100
    assert not [line for line in maps if line.split()[1].startswith("rw-s")]


def test_a_stranger_cannot_say_that_we_have_failed() -> None:
    """A batch stops after several failures of ours."""
    ours = Problem(code=Code.WORKER_FAILED, stage="host", where="", expected="", got="", hint="")
    (found,) = read_report(f'{{"problems": [{ours.model_dump_json()}]}}'.encode()).problems
    assert (found.code, found.got) == (Code.MALFORMED_GRAPH, "a problem H102")


THREADED = """
import threading, time
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
from starter.plugin.worker import main
main()
"""


def test_a_template_with_a_second_thread_is_not_used(
    each_sandbox: LockedSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that starts one when it is imported would do this."""
    arguments = each_sandbox._worker()[-1].replace('"preload": true', '"preload": false')
    monkeypatch.setattr(LockedSandbox, "_worker", lambda _: [sys.executable, "-I", "-c", THREADED, arguments])
    user = each_sandbox._user
    with LockedSandbox(each_sandbox.level, user=user, limits=LIMITS, preload=False) as threaded:
        assert threaded.failure() == "the worker has 2 threads before it forks; it must have one"


def test_a_worker_that_says_it_is_ready_unlocked_is_not_used(
    each_sandbox: LockedSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel is asked, not the worker."""
    lie = "import socket, time; socket.socket(fileno=0).send(b'ready'); time.sleep(60)"
    monkeypatch.setattr(LockedSandbox, "_worker", lambda _: [sys.executable, "-I", "-c", lie])
    with LockedSandbox(each_sandbox.level, user=each_sandbox._user, limits=LIMITS, preload=False) as unlocked:
        assert unlocked.failure().startswith("a thread of the worker is outside the sandbox: {'Seccomp': '0'")
    assert unfit(os.getpid(), forks=False).startswith("a thread of the worker is outside the sandbox")


@pytest.mark.slow
def test_folders_of_any_depth_are_measured_and_emptied(tmp_path: Path) -> None:
    here = Path.cwd()
    os.chdir(tmp_path)
    for _ in range(3000):
        Path("d").mkdir()
        os.chdir("d")
    Path("deepest").write_bytes(b"x" * 5000)
    os.chdir(here)
    assert sys.getrecursionlimit() < 3000
    _, count, longest = folder_usage(tmp_path)
    assert LONGEST_PATH / 2 - len(bytes(tmp_path)) < count < 3000
    assert longest >= LONGEST_PATH - 2
    empty_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []
