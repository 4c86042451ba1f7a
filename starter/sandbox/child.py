"""A child process of our own that reads a stranger's data: its pipes, its limits, its end.

It works on any system: threads read the pipes, psutil reads the memory. A stranger's code runs in a
sandbox (sandbox.py) instead.
"""

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from starter.contract.competition import Limits
from starter.contract.system.processors import waiting
from starter.contract.text import LogTail
from starter.sandbox.protocol import LimitExceeded
from starter.sandbox.usage import Usage, exceeded, folder_usage

_INHERITED = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
_INHERITED_ON_WINDOWS = (
    *("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT"),  # nothing starts without them
    *("PROGRAMDATA", "PROGRAMFILES", "PROCESSOR_ARCHITECTURE", "NUMBER_OF_PROCESSORS"),
    "PATH",  # the libraries of Python and CUDA are found along it
)
_PROCESSOR_SETTINGS = "OPENBLAS_"  # administrators set them where the library misjudges the processor
APART: dict[str, Any] = {
    "start_new_session": True,
    "creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
}
"""Ctrl-C is for the command, which then ends its children."""

_KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**25),  # the most that glibc takes
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(2**26),
}
"""A graph allocates and frees the same large tensors again and again: glibc gives none back to the kernel."""

_MAX_LINE = 64 * 2**20
_CLOSING_SECONDS = 0.5


@dataclass(frozen=True)
class Allowance:
    """What one child may use."""

    wall_seconds: float
    memory_mb: int
    scratch_mb: int
    log_kb: int

    @classmethod
    def for_runner(cls, limits: Limits) -> "Allowance":
        """Return the limits of one request to the runner: it holds images as well as the graph."""
        return cls(limits.evaluate_seconds, 2 * limits.memory_mb, limits.scratch_mb, limits.log_kb)


class MonitoredProcess:
    """A Python module of ours in a process of its own, watched.

    Args:
        module: what `python -m` runs.
        scratch: its working folder, home and temporary folder; private and empty.
        allowance: its limits; `check` says when one is exceeded.
        threads: how many threads its numerical libraries may use.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str] = (),
        *,
        scratch: Path,
        allowance: Allowance,
        threads: int = 1,
    ) -> None:
        self.scratch = scratch
        self.allowance = allowance
        # -I: no environment variable, no working folder on the path. It may write bytecode: importing a
        # torch that nobody has compiled takes thrice the time, here and in every worker, which may not.
        command = [sys.executable, "-I", "-X", "utf8", "-m", module, *arguments]
        self.process = subprocess.Popen(  # noqa: S603 - our own module, in our own interpreter
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=scratch,
            env=clean_environment(scratch, threads),
            **APART,
        )
        self._lines = _Lines(self.process.stdout)
        self._log = _Log(self.process.stderr, allowance.log_kb * 1024)
        self._tree = family(self.process.pid)
        self.started = time.monotonic()
        self._polls = 0

    def restart_clock(self) -> None:
        """Begin a new request: the wall-clock limit counts from now."""
        self.started = time.monotonic()

    def send(self, line: bytes) -> None:
        """Write one line to its stdin.

        Raises:
            OSError: it has ended.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def receive(self, timeout: float) -> bytes | None:
        """Return the next line of its stdout, without its end; None where it has closed it.

        Raises:
            queue.Empty: nothing has come in `timeout` seconds.
        """
        return self._lines.get(timeout)

    def check(self, wall_seconds: float | None = None) -> LimitExceeded | None:
        """Return the limit that the child has exceeded, if any.

        Args:
            wall_seconds: another wall-clock limit than the allowance's.
        """
        limits = vars(self.allowance) | ({} if wall_seconds is None else {"wall_seconds": wall_seconds})
        self._polls += 1
        looks = self._polls % 10 == 0
        if looks:
            self._tree = family(self.process.pid)
        usage = Usage(
            wall_seconds=time.monotonic() - self.started,
            memory_mb=sum(map(private_bytes, self._tree)) / 2**20,  # kept images are mapped, and everybody's
            scratch_mb=folder_usage(self.scratch)[0] / 2**20 if looks else 0,
        )
        return exceeded(usage, limits)

    def kill(self) -> None:
        """End the child and what it has started, and close its pipes."""
        tree = family(self.process.pid)
        self.process.kill()
        for process in tree[1:]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self._lines.close()

    def log(self) -> str:
        """Return the end of what the child wrote to stderr."""
        return self._log.text()


class _Lines:
    """Read the lines of a pipe for as long as it is open."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        assert pipe is not None
        self._pipe = pipe
        self._read: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        with self._pipe:
            while (line := self._pipe.readline(_MAX_LINE)).endswith(b"\n"):
                self._read.put(line.rstrip(b"\r\n"))
        self._read.put(None)

    def get(self, timeout: float) -> bytes | None:
        """Return the next line, or None at the end; raise queue.Empty where none has come."""
        return self._read.get(timeout=timeout)

    def close(self) -> None:
        """Wait for the end of a pipe whose writers have ended."""
        self._thread.join(_CLOSING_SECONDS)


class _Log:
    """Drain a pipe for as long as it is open; keep its end."""

    def __init__(self, pipe: IO[bytes] | None, limit: int) -> None:
        assert pipe is not None
        self._pipe = pipe
        self._tail = LogTail(limit)
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        with self._pipe:
            while chunk := self._pipe.read1(65536):  # type: ignore[attr-defined]
                self._tail.add(chunk)

    def text(self) -> str:
        self._thread.join(_CLOSING_SECONDS)
        return self._tail.text().decode("utf-8", errors="replace")


def family(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants; nothing where it has ended.

    The Python of a virtual environment on Windows is a launcher: what works is its child.
    """
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def private_bytes(process: psutil.Process) -> int:
    """Return the resident memory of a process without files that it has mapped; 0 when it has ended.

    macOS does not tell the two apart: there, mapped files count.
    """
    try:
        memory = process.memory_info()
    except psutil.Error:
        return 0
    committed: int = getattr(memory, "private", memory.rss)  # Windows
    return min(committed, memory.rss - getattr(memory, "shared", 0))  # Linux


def clean_environment(scratch: Path, threads: int) -> dict[str, str]:
    """Return an environment for a child without anything of ours: no tokens, no paths, no options."""
    inherited = {*_INHERITED, *(_INHERITED_ON_WINDOWS if os.name == "nt" else ())}
    kept = {
        key: value
        for key, value in os.environ.items()
        if key in inherited or key.startswith(_PROCESSOR_SETTINGS)
    }
    home = dict.fromkeys(("HOME", "TMPDIR", "TORCH_HOME", "USERPROFILE", "TEMP", "TMP"), str(scratch))
    return {
        "PATH": os.defpath,  # ours names folders of ours
        **kept,
        **waiting(os.environ),
        **_KEEP_MEMORY,
        **home,
        "TORCHINDUCTOR_CACHE_DIR": str(scratch),  # torch makes this folder, and a submission pays for it
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": "1",
    }
