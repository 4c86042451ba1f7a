"""The lock: each attack succeeds in an unlocked process, or it shows nothing, and fails in a locked one."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from starter.sandbox import lockdown

pytestmark = pytest.mark.skipif(bool(lockdown.missing()), reason=lockdown.missing() or "everything is there")

HEAD = """
import ctypes, os, socket, subprocess, sys, threading
from pathlib import Path
from starter.sandbox.lockdown import lock_down
victim, scratch, parent = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    if libc.syscall(*args) < 0:
        raise OSError(ctypes.get_errno(), "refused")
if sys.argv[4] == "locked":
    lock_down([], scratch)
"""

ATTACKS = {
    "read a file": "victim.read_text()",
    "list a folder": "os.listdir(victim.parent)",
    "write a file": "victim.write_text('x')",
    "empty a file": "os.truncate(victim, 0)",
    "remove a file": "victim.unlink()",
    "rename a file": "victim.rename(victim.with_name('moved'))",
    "link a file into the scratch folder": "os.link(victim, scratch / 'link')",
    "make a file": "(victim.parent / 'new').touch()",
    "change a file's mode": "victim.chmod(0o777)",
    "change a file's time": "os.utime(victim, (1, 1))",
    "open a TCP socket": "socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
    "open a UDP socket": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "open a unix socket": "socket.socket(socket.AF_UNIX)",
    "make a pair of datagram sockets": "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
    "fork": "pid = os.fork(); pid or os._exit(0)",
    "run a program": "subprocess.run(['/bin/true'], check=True)",
    "replace itself by a program": "os.execv('/bin/true', ['true'])",
    "signal the parent": "os.kill(parent, 0)",
    "signal by an owner of a descriptor": "import fcntl; fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, parent)",
    "limit the parent": "import resource; resource.prlimit(parent, resource.RLIMIT_CORE)",
    "move the parent to one processor": "os.sched_setaffinity(parent, os.sched_getaffinity(parent))",
    "memory that no limit sees": "os.memfd_create('x')",
    "shared memory of System V": "id = libc.shmget(0, 99, 0o1600); assert id >= 0; libc.shmctl(id, 0, None)",
    "watch files": "assert libc.inotify_init() >= 0",
    "a name of its own for the machine": "call(272, 0x10000000)",
}


def attack(code: str, folder: Path, mode: str) -> subprocess.CompletedProcess[str]:
    scratch, victim = folder / "scratch", folder / "outside" / "victim"
    scratch.mkdir()
    victim.parent.mkdir()
    victim.write_text("secret")
    command = [
        sys.executable,
        "-I",
        "-B",
        "-c",
        HEAD + code,
        str(victim),
        str(scratch),
        str(os.getpid()),
        mode,
    ]
    return subprocess.run(command, capture_output=True, text=True, cwd=scratch, check=False, timeout=60)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_succeeds_unlocked_and_fails_locked(name: str, tmp_path: Path) -> None:
    if name == "a name of its own for the machine" and platform.machine() != "x86_64":
        pytest.skip("the number of unshare is x86-64's")
    for mode in ("unlocked", "locked"):
        (tmp_path / mode).mkdir()
    free = attack(ATTACKS[name], tmp_path / "unlocked", "unlocked")
    locked = attack(ATTACKS[name], tmp_path / "locked", "locked")

    assert free.returncode == 0, free.stderr
    assert locked.returncode != 0
    assert "Error" in locked.stderr
    assert (tmp_path / "locked" / "outside" / "victim").read_text() == "secret"


def test_what_an_honest_plugin_needs_still_works(tmp_path: Path) -> None:
    code = """
import asyncio, numpy, tempfile
thread = threading.Thread(target=lambda: (scratch / 'a').write_text('b')); thread.start(); thread.join()
asyncio.run(asyncio.sleep(0))
tempfile.TemporaryFile(dir=scratch).write(b'c')
print(numpy.ones((64, 64)) @ numpy.ones(64) == 64)
"""
    found = attack(code, tmp_path, "locked")

    assert found.returncode == 0, found.stderr
    assert (tmp_path / "scratch" / "a").read_text() == "b"


@pytest.mark.parametrize("machine", lockdown.MACHINES)
def test_the_filter_fits_every_machine(machine: str) -> None:
    calls = lockdown.allowed_calls(machine)
    program = lockdown.filter_for(lockdown.MACHINES[machine], calls, 1234)

    assert len(calls) == len(set(calls.values()))
    assert not {"execve", "fork", "socket", "connect", "kill", "ptrace", "memfd_create"} & calls.keys()
    assert len(program) < 4096
    assert all(i + 1 + max(step.if_true, step.if_false) < len(program) for i, step in enumerate(program[:-1]))
