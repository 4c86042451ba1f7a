"""The locked sandbox as the command sees it: which level, what is inside, and one submission after another.

It is a supervisor (supervisor.py), a process of its own, and its worker (plugin/worker.py), which locks
itself in and imports torch before a submission is known. The worker is a template: it forks one child for
each submission and runs nothing of a stranger's itself. After anything abnormal both are thrown away.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from starter.contract.competition import Limits
from starter.contract.isolation import Level
from starter.sandbox import bubblewrap
from starter.sandbox.child import clean_environment
from starter.sandbox.protocol import (
    BOX_FOLDER,
    Job,
    JobFiles,
    Payload,
    Sandbox,
    SandboxSpec,
    Started,
    Verdict,
    WorkerSpec,
)
from starter.sandbox.usage import empty_folder

_MAX_MESSAGE = 1 << 18


class LockedSandbox(Sandbox):
    """One locked sandbox.

    Args:
        level: how it is locked: box or lockdown.
        user: who the worker becomes where the kit runs as root; None: it stays root, without capabilities.
        limits: the size of the scratch folder.
        serves_many: whether one worker serves many submissions; else each has a new one.
        preload: whether the worker imports torch; without it only the lock is tried.
        readable: folders of installed submissions, outside the Python environment.
    """

    def __init__(
        self,
        level: Level,
        *,
        user: int | None,
        limits: Limits,
        serves_many: bool = True,
        preload: bool = True,
        readable: Sequence[Path] = (),
    ) -> None:
        self.level = level
        self.serves_many = serves_many
        self._user = user if os.getuid() == 0 else None
        self._limits = limits
        self._preload = preload
        self._readable = [str(path) for path in readable]
        self._place = tempfile.TemporaryDirectory(prefix="starter-", ignore_cleanup_errors=True)
        self.folder = Path(self._place.name)
        self._outside = tempfile.NamedTemporaryFile(prefix="starter-canary-")  # noqa: SIM115 - closed in close
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._start()

    def close(self) -> None:
        """End everything in it."""
        self._stop()
        self._outside.close()
        with contextlib.suppress(OSError):
            empty_folder(self.folder)  # deeper than the standard library could
        self._place.cleanup()

    @property
    def pid(self) -> int:
        """The supervisor's process."""
        assert self._process is not None
        return self._process.pid

    def failure(self, stop: threading.Event | None = None) -> str:
        """Wait until the worker is ready; return why it is not, or nothing."""
        if not self._ready:
            reply = self._receive(stop or threading.Event())
            if reply is None:
                return "its supervisor ended"
            failed = Started.from_json(reply).failed
            self._ready = not failed
            return failed
        return ""

    def _run(
        self, payload: Payload, reply: Path, log: Path, limits: Limits, stop: threading.Event
    ) -> Verdict:
        job = Job(limits.model_dump(), payload.unpacked_bytes, payload.unpacked_files + 1)
        answer = None
        with contextlib.suppress(BrokenPipeError, ConnectionError):
            with JobFiles.open(payload.path, reply, log) as files:
                files.send(self._socket, job.to_json().encode())
            answer = self._receive(stop)
        return Verdict.from_json(answer) if answer else Verdict(lost="")

    def _start(self) -> None:
        if self._process is not None:
            return
        self._ready = False
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-m", "starter.sandbox.supervisor"],
                stdin=theirs.fileno(),
                start_new_session=True,
            )
        if self._user is not None:
            os.chown(self.folder, self._user, self._user)
        empty_folder(self.folder)
        boxed = self.level is Level.BOX
        spec = SandboxSpec(
            command=[*(self._box() if boxed else ()), *self._worker()],
            environment=clean_environment(Path(BOX_FOLDER if boxed else self.folder, "scratch"), threads=1),
            folder="/" if boxed else str(self.folder),
            boxed=boxed,
            forks=self.serves_many,
        )
        self._socket.send(spec.to_json().encode())

    def _worker(self) -> list[str]:
        boxed = self.level is Level.BOX
        spec = WorkerSpec(
            forks=self.serves_many,
            preload=self._preload,
            user=self._user,
            root=os.getuid() == 0 and self._user is None,
            boxed=boxed,
            alone=boxed and os.getuid() != 0,
            outside=self._outside.name,
            readable=self._readable,
        )
        return [sys.executable, "-I", "-B", "-m", "starter.plugin.worker", spec.to_json()]

    def _box(self) -> list[str]:
        # A submission's files take whole pages; a full file system is the scratch limit and a little more.
        pages = self._limits.submission_files * os.sysconf("SC_PAGE_SIZE")
        size = (self._limits.scratch_mb + self._limits.submission_mb + 1) * 2**20 + pages
        return bubblewrap.command_line(user=self._user, readable=self._readable, size=size)

    def _receive(self, stop: threading.Event) -> bytes | None:
        """Return what the supervisor says; None where it ended, or nobody waits any more."""
        while not stop.is_set():
            ready, _, _ = select.select([self._socket], [], [], 0.1)
            if ready:
                try:
                    return self._socket.recv(_MAX_MESSAGE) or None
                except ConnectionError:
                    return None
        return None

    def _stop(self) -> None:
        if self._process is not None:
            self._socket.close()  # the supervisor sees it, and clears up
            if self._process.wait():
                self._sweep()
            self._process = None

    def _sweep(self) -> None:
        """Kill what a killed supervisor left: a starting bubblewrap waits for ever for its parent."""
        mark = os.fsencode(self._outside.name)
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if mark in (entry / "cmdline").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)
