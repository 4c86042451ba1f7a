"""A child process of our own on a stranger's data (runner.py): hold its pipes, watch its limits, end it.

A stranger's code runs behind room.py instead.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from starter.competition import Limits
from starter.contract.processors import waiting
from starter.errors import Code, Problem, problem
from starter.folders import folder_usage
from starter.observe import private_bytes

_INHERITED = ("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
_PROCESSOR_SETTINGS = "OPENBLAS_"  # administrators set them where the library misjudges the processor


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


class Child:
    """A Python module of ours in a process of its own, watched.

    Args:
        module: what `python -m` runs.
        scratch: its working folder, home and temporary folder; private and empty.
        allowance: its limits; they strike in `check`.
        pass_fds: descriptors that it inherits.
        threads: how many threads its numerical libraries may use.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str] = (),
        *,
        scratch: Path,
        allowance: Allowance,
        pass_fds: Sequence[int] = (),
        threads: int = 1,
    ) -> None:
        self.scratch = scratch
        self.allowance = allowance
        # -I: no environment variable, no working folder on the path. It may write bytecode: importing a
        # torch that nobody has compiled takes thrice the time, here and in every worker, which may not.
        command = [sys.executable, "-I", "-m", module, *arguments]
        self.process = subprocess.Popen(  # noqa: S603 - our own module, in our own interpreter
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=scratch,
            env=clean_environment(scratch, threads),
            start_new_session=True,
            pass_fds=tuple(pass_fds),
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin: IO[bytes] = self.process.stdin
        self.stdout: IO[bytes] = self.process.stdout
        self._log = _LogTail(self.process.stderr, allowance.log_kb * 1024)
        self.started = time.monotonic()
        self._polls = 0

    def restart_clock(self) -> None:
        """Begin a new request: the wall-clock limit counts from now."""
        self.started = time.monotonic()

    def check(self, wall_seconds: float | None = None) -> Problem | None:
        """Return the limit that the child has reached, if any.

        Args:
            wall_seconds: another wall-clock limit than the allowance's.
        """
        elapsed = time.monotonic() - self.started
        allowed = self.allowance.wall_seconds if wall_seconds is None else wall_seconds
        if elapsed > allowed:
            return _limit(Code.TIMEOUT, f"{allowed:g} s", f"{elapsed:.1f} s")
        memory = private_bytes(self.process.pid) / 2**20  # kept images are mapped, and everybody's
        if memory > self.allowance.memory_mb:
            return _limit(Code.MEMORY, f"{self.allowance.memory_mb} MiB", f"{memory:.0f} MiB")
        self._polls += 1
        if self._polls % 10 == 0:
            used = folder_usage(self.scratch)[0] / 2**20
            if used > self.allowance.scratch_mb:
                return _limit(Code.DISK, f"{self.allowance.scratch_mb} MiB", f"{used:.0f} MiB")
        return None

    def kill(self) -> None:
        """End the child and close its pipes."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.stdin, self.stdout):
            with contextlib.suppress(OSError):
                pipe.close()

    def log(self) -> str:
        """Return the end of what the child wrote to stderr."""
        return self._log.text()


class _LogTail:
    """Drain a pipe for as long as it is open; keep its end, count the rest."""

    def __init__(self, pipe: IO[bytes] | None, limit: int) -> None:
        assert pipe is not None
        self._pipe = pipe
        self._limit = limit
        self._chunks: deque[bytes] = deque()
        self._kept = 0
        self._dropped = 0
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        with self._pipe:
            while chunk := self._pipe.read1(65536):  # type: ignore[attr-defined]
                self._chunks.append(chunk)
                self._kept += len(chunk)
                while self._kept - len(self._chunks[0]) >= self._limit:
                    oldest = self._chunks.popleft()
                    self._kept -= len(oldest)
                    self._dropped += len(oldest)

    def text(self) -> str:
        self._thread.join(timeout=0.5)
        data = b"".join(tuple(self._chunks))
        surplus = max(0, len(data) - self._limit)
        dropped = self._dropped + surplus
        head = f"[{dropped:,} earlier bytes not kept]\n" if dropped else ""
        return head + data[surplus:].decode("utf-8", errors="replace")


def clean_environment(scratch: Path, threads: int) -> dict[str, str]:
    """Return an environment for a child without anything of ours: no tokens, no paths, no options."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if key in _INHERITED or key.startswith(_PROCESSOR_SETTINGS)
    }
    return {
        **kept,
        **waiting(os.environ),
        "PATH": os.defpath,  # ours names folders of ours
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "TORCH_HOME": str(scratch),
        "TORCHINDUCTOR_CACHE_DIR": str(scratch),  # torch makes this folder, and a submission pays for it
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": "1",
    }


def _limit(code: Code, allowed: str, measured: str) -> Problem:
    return problem(code, where="the submission's process", expected=f"at most {allowed}", got=measured)
