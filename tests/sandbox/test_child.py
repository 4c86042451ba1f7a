"""Our own child processes: what they say is read line by line, what they use is measured, all of them end."""

import queue
import time
from pathlib import Path

import psutil
import pytest

from starter.sandbox.child import Allowance, MonitoredProcess, clean_environment, private_bytes

ALLOWANCE = Allowance(wall_seconds=60, memory_mb=200, scratch_mb=16, log_kb=64)
GRANDCHILD = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', {!r}]); input()"
SAY = """
import os, sys
sys.stdout.write("a\\r\\n" + input() + "\\n" + "half")
sys.stdout.flush()
os._exit(0)
"""
HOLD = "held = bytearray(2**28); input()"
MAP = """
import mmap
with open("large", "wb") as file:
    file.truncate(2**28)
file = open("large", "rb")
held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
sum(held[i] for i in range(0, len(held), 4096))
print("mapped", flush=True)
input()
"""


def start(scratch: Path, code: str) -> MonitoredProcess:
    """Run a statement in a child: as the set-up of timeit, a module that everybody has."""
    return MonitoredProcess("timeit", ["-n1", "-r1", "-s", code], scratch=scratch, allowance=ALLOWANCE)


def test_lines_arrive_without_their_ends_and_nothing_after_the_last(tmp_path: Path) -> None:
    child = start(tmp_path, SAY)
    with pytest.raises(queue.Empty):
        child.receive(0.01)
    child.send("분".encode())

    assert [child.receive(30) for _ in range(3)] == [b"a", "분".encode(), None]
    child.kill()


def test_the_memory_of_what_a_child_has_started_counts(tmp_path: Path) -> None:
    """On Windows the Python of a virtual environment is itself such a child."""
    child = start(tmp_path, GRANDCHILD.format(HOLD))
    deadline = time.monotonic() + 30
    while (found := child.check()) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    child.kill()

    assert found is not None
    assert found.name == "memory_mb"


def test_a_mapped_file_is_no_memory_of_the_child(tmp_path: Path) -> None:
    child = start(tmp_path, MAP)
    assert child.receive(30) == b"mapped"
    process = psutil.Process(child.process.pid)
    resident, private = process.memory_info().rss, private_bytes(process)
    child.kill()

    assert resident > 2**28
    assert private < 2**26
    assert private_bytes(process) == 0


@pytest.mark.slow
def test_what_a_child_has_started_ends_with_it(tmp_path: Path) -> None:
    child = start(tmp_path, GRANDCHILD.format("import time; time.sleep(600)"))
    deadline = time.monotonic() + 30
    while not (started := psutil.Process(child.process.pid).children()) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.kill()
    gone, _ = psutil.wait_procs(started, timeout=10)

    assert started
    assert gone == started


def test_a_child_finds_windows_and_nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    monkeypatch.setenv("SYSTEMROOT", r"C:\Windows")
    here = clean_environment(tmp_path, threads=1)
    with monkeypatch.context() as windows:
        windows.setattr("os.name", "nt")
        there = clean_environment(tmp_path, threads=1)

    assert not {"TOKEN", "SYSTEMROOT"} & here.keys()
    assert there["SYSTEMROOT"] == r"C:\Windows"
    assert "TOKEN" not in there
    assert {there[name] for name in ("TEMP", "TMP", "USERPROFILE")} == {str(tmp_path)}
