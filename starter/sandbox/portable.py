"""A submission's process without isolation, on any system: a child, and files between it and us.

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
from types import TracebackType
from typing import Self

import psutil

from starter.contract.competition import Limits
from starter.contract.errors import Code, host_error
from starter.contract.isolation import Level
from starter.sandbox.child import APART, clean_environment, family
from starter.sandbox.log_tail import LogTail
from starter.sandbox.protocol import LimitExceeded, Payload, Usage, Verdict
from starter.sandbox.scratch import folder_usage

_POLL_SECONDS = 0.05
_START_SECONDS = 180.0
_END_SECONDS = 10.0


class PortableProcess:
    """A process for one submission at a time; started at once, it prepares while others work.

    Args:
        several: whether more than one submission is expected, so that the next process is prepared.
        preload: whether it imports torch before a submission is known.
    """

    level = Level.NONE

    def __init__(self, *, several: bool = True, preload: bool = True) -> None:
        self._several = several
        self._preload = preload
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: set[psutil.Process] = set()
        self._start()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything that it started."""
        self.close()

    @property
    def pid(self) -> int:
        """The process that has the next submission, or has one."""
        assert self._process is not None
        return self._process.pid

    def close(self) -> None:
        """End everything that it started."""
        if self._process is not None:
            self._end()
            self._log_file.close()
            self._place.cleanup()
            self._process = None

    def without_names(self, text: bytes) -> bytes:
        """Return what a submission wrote without the name of our temporary folder."""
        return text.replace(os.fsencode(self._folder), b"room")

    def failure(self, stop: threading.Event | None = None) -> str:
        """Wait until the process is ready; return why it is not, or nothing."""
        assert self._process is not None
        until = time.monotonic() + _START_SECONDS
        while not (self._folder / "ready").exists():
            if self._process.poll() is not None or time.monotonic() > until:
                return self._log()[-1000:].decode(errors="replace") or "it does not start"
            if stop is not None and stop.is_set():
                return "stopped"
            time.sleep(_POLL_SECONDS / 2)
        return ""

    def run(self, payload: Payload, reply: Path, log: Path, limits: Limits, stop: threading.Event) -> Verdict:
        """Have one submission run; return how it ended. As `Room.run`.

        Raises:
            HostError: the process does not start, or nobody waits any more.
        """
        if self._process is None:
            self._start()
        if failed := self.failure(stop):
            self.close()
            raise host_error(Code.WORKER_FAILED, where=f"isolation {self.level}", got=failed)
        used = {"cpu_seconds": 0.0, "memory_mb": 0.0}
        started = time.monotonic()
        exceeded = self._watch((payload.path, reply), limits, used, stop)
        used["wall_seconds"] = round(time.monotonic() - started, 2)
        status = self._end()
        tail = LogTail(limits.log_kb * 1024)
        tail.add(self._log())
        log.write_bytes(tail.text())
        self.close()
        if stop.is_set():
            raise host_error(Code.WORKER_FAILED, where=f"isolation {self.level}", got="stopped")
        if self._several:
            self._start()
        return Verdict(status=status, exceeded=exceeded, used=used)

    def _start(self) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="starter-", ignore_cleanup_errors=True)
        self._folder = Path(self._place.name)
        scratch = self._folder / "scratch"
        scratch.mkdir()
        self._log_file = (self._folder / "log").open("w+b")
        options = ["--preload"] if self._preload else []
        self._process = subprocess.Popen(  # noqa: S603 - our own module, in our own interpreter
            [sys.executable, "-I", "-B", "-X", "utf8", "-m", "starter.plugin.unlocked", *options],
            stdin=subprocess.PIPE,
            stdout=self._log_file,
            stderr=subprocess.STDOUT,
            cwd=self._folder,
            env=clean_environment(scratch, threads=1),
            **APART,
        )
        self._seen = set()

    def _watch(
        self, files: tuple[Path, Path], limits: Limits, used: dict[str, float], stop: threading.Event
    ) -> LimitExceeded | None:
        """Hand over a job and wait for the end of the process; return the limit that it exceeded before."""
        assert self._process is not None
        assert self._process.stdin is not None
        process = psutil.Process(self._process.pid)
        before = _usage([process])
        allowed = limits.model_dump()
        started = time.monotonic()
        with contextlib.suppress(OSError):  # it has ended: its status says how
            self._process.stdin.write(b"".join(os.fsencode(file.absolute()) + b"\n" for file in files))
            self._process.stdin.flush()
        while self._process.poll() is None and not stop.is_set():
            tree = family(process.pid)
            self._seen.update(tree[1:])
            cpu_seconds, memory, threads = _usage(tree)
            scratch, count, _ = folder_usage(self._folder / "scratch")
            usage = Usage(
                wall_seconds=time.monotonic() - started,
                cpu_seconds=max(0.0, cpu_seconds - before[0]),
                memory_mb=memory / 2**20,
                threads=max(0, threads - before[2]),  # its first thread was there; our watching one was not
                log_mb=(self._folder / "log").stat().st_size / 2**20,
                scratch_mb=scratch / 2**20,
                scratch_files=count,
            )
            for name in ("cpu_seconds", "memory_mb"):
                used[name] = max(used[name], round(getattr(usage, name), 2))
            if exceeded := usage.exceeded(allowed):
                return exceeded
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
            self._seen.update(_marked(self._folder / "scratch"))
            left = [one for one in self._seen if _kill(one)]
            if self._process.poll() is not None and not left:
                break
            time.sleep(_POLL_SECONDS / 5)
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        return self._process.wait()

    def _log(self) -> bytes:
        return (self._folder / "log").read_bytes()


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
