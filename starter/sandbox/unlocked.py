"""A sandbox without isolation, on any system: a child process, and files between it and us.

For one's own code (contract/isolation.py), also where Linux's locks are not to be had. Nothing here
needs fork, passed descriptors, sockets or /proc. The child is starter/plugin/unlocked.py; it imports
torch before a submission is known, and each submission has a new one. psutil measures it.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from starter.contract.competition import Limits
from starter.contract.isolation import Level
from starter.contract.text import LogTail
from starter.sandbox.child import APART, clean_environment, family
from starter.sandbox.protocol import LimitExceeded, Payload, Sandbox, Verdict
from starter.sandbox.usage import PeakUsage, Usage, exceeded, folder_usage

_POLL_SECONDS = 0.05
_START_SECONDS = 180.0
_END_SECONDS = 10.0


class UnlockedSandbox(Sandbox):
    """A process for one submission at a time.

    Args:
        serves_many: whether more than one submission is expected, so that the next process is prepared.
        preload: whether it imports torch before a submission is known.
    """

    level = Level.NONE

    def __init__(self, *, serves_many: bool = True, preload: bool = True) -> None:
        self.serves_many = serves_many
        self._preload = preload
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: set[psutil.Process] = set()
        self._start()
        self.folder = self._next

    @property
    def pid(self) -> int:
        """The process that has the next submission, or has one."""
        assert self._process is not None
        return self._process.pid

    def close(self) -> None:
        """End everything that it started."""
        self._stop()

    def failure(self, stop: threading.Event | None = None) -> str:
        """Wait until the process is ready; return why it is not, or nothing."""
        assert self._process is not None
        until = time.monotonic() + _START_SECONDS
        while not (self._next / "ready").exists():
            if self._process.poll() is not None or time.monotonic() > until:
                return self._log()[-1000:].decode(errors="replace") or "it did not start"
            if stop is not None and stop.is_set():
                return "stopped"
            time.sleep(_POLL_SECONDS / 2)
        return ""

    def _run(
        self, payload: Payload, reply: Path, log: Path, limits: Limits, stop: threading.Event
    ) -> Verdict:
        self.folder = self._next
        peak = PeakUsage()
        limit = self._watch((payload.path, reply), limits, peak, stop)
        used = peak.total()
        status = self._end()
        tail = LogTail(limits.log_kb * 1024)
        tail.add(self._log())
        log.write_bytes(tail.text())
        return Verdict(status=status, exceeded=limit, used=used, lost="" if stop.is_set() else None)

    def _start(self) -> None:
        if self._process is not None:
            return
        self._place = tempfile.TemporaryDirectory(prefix="starter-", ignore_cleanup_errors=True)
        self._next = Path(self._place.name).resolve()  # as the process itself names it
        scratch = self._next / "scratch"
        scratch.mkdir()
        self._log_file = (self._next / "log").open("w+b")
        options = ["--preload"] if self._preload else []
        self._process = subprocess.Popen(  # noqa: S603 - our own module, in our own interpreter
            [sys.executable, "-I", "-B", "-X", "utf8", "-m", "starter.plugin.unlocked", *options],
            stdin=subprocess.PIPE,
            stdout=self._log_file,
            stderr=subprocess.STDOUT,
            cwd=self._next,
            env=clean_environment(scratch, threads=1),
            **APART,
        )
        self._seen = set()

    def _stop(self) -> None:
        if self._process is not None:
            self._end()
            self._log_file.close()
            self._place.cleanup()
            self._process = None

    def _watch(
        self, files: tuple[Path, Path], limits: Limits, peak: PeakUsage, stop: threading.Event
    ) -> LimitExceeded | None:
        """Hand over a job and wait for the end of the process; return the limit that it exceeded before."""
        assert self._process is not None
        assert self._process.stdin is not None
        process = psutil.Process(self._process.pid)
        before = _usage([process])
        allowed = limits.model_dump()
        with contextlib.suppress(OSError):  # it has ended: its status says how
            self._process.stdin.write(b"".join(os.fsencode(file.absolute()) + b"\n" for file in files))
            self._process.stdin.flush()
        while self._process.poll() is None and not stop.is_set():
            tree = family(process.pid)
            self._seen.update(tree[1:])
            cpu_seconds, memory, threads = _usage(tree)
            scratch, count, _ = folder_usage(self._next / "scratch")
            usage = Usage(
                wall_seconds=peak.elapsed,
                cpu_seconds=max(0.0, cpu_seconds - before[0]),
                memory_mb=memory / 2**20,
                threads=max(0, threads - before[2]),  # its first thread was there; our watching one was not
                log_mb=(self._next / "log").stat().st_size / 2**20,
                scratch_mb=scratch / 2**20,
                scratch_files=count,
            )
            peak.add(usage)
            if limit := exceeded(usage, allowed):
                return limit
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_POLL_SECONDS)
        return None

    def _end(self) -> int:
        """Kill the process and everything that it started, also what has left the tree; return its status."""
        assert self._process is not None
        until = time.monotonic() + _END_SECONDS
        while time.monotonic() < until:
            self._seen.update(family(self._process.pid)[1:])
            if self._process.poll() is None:
                self._process.kill()
            self._seen.update(_marked(self._next / "scratch"))
            left = [one for one in self._seen if _kill(one)]
            if self._process.poll() is not None and not left:
                break
            time.sleep(_POLL_SECONDS / 5)
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        return self._process.wait()

    def _log(self) -> bytes:
        return (self._next / "log").read_bytes()


def _marked(scratch: Path) -> Iterable[psutil.Process]:
    """Yield the processes whose temporary folder is this one: children that have left the tree."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("TMPDIR") == str(scratch):
                yield process


def _kill(process: psutil.Process) -> bool:
    """End a process; say whether it was still there."""
    try:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return False
        process.kill()
    except psutil.Error:
        return False
    return True


def _usage(processes: Iterable[psutil.Process]) -> tuple[float, int, int]:
    """Return processor seconds, resident bytes and threads of several processes together."""
    seconds, memory, threads = 0.0, 0, 0
    for process in processes:
        with contextlib.suppress(psutil.Error), process.oneshot():
            times = process.cpu_times()
            seconds += times.user + times.system
            memory += process.memory_info().rss
            threads += process.num_threads()
    return seconds, memory, threads
