"""The locked room as the command sees it: which level, what is inside, and one submission after another.

A room is a supervisor (supervisor.py), a process of its own, and its worker (plugin/worker.py), which locks
itself in and imports torch before a submission is known. At the levels that lock, the worker is a
template: it forks one child for each submission and runs nothing of a stranger's itself. After
anything abnormal the room is thrown away.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from starter.contract.competition import Limits
from starter.contract.errors import Code, host_error
from starter.contract.isolation import Level
from starter.sandbox import lockdown
from starter.sandbox.child import clean_environment
from starter.sandbox.protocol import Payload, Verdict
from starter.sandbox.scratch import empty_folder

BOX_FOLDER = Path("/room")


class Room:
    """One locked room, started at once; it prepares while others work.

    Args:
        level: how it is locked: box or lockdown.
        user: who the worker becomes where the kit runs as root; None: it stays root, without capabilities.
        limits: the size of the scratch folder.
        forks: whether one worker serves many submissions; else each has a new one.
        preload: whether the worker imports torch; without it only the lock is tried.
        readable: folders of installed submissions, outside the Python environment.
    """

    def __init__(
        self,
        level: Level,
        *,
        user: int | None,
        limits: Limits,
        forks: bool = True,
        preload: bool = True,
        readable: Sequence[Path] = (),
    ) -> None:
        self.level = level
        self._user = user if os.getuid() == 0 else None
        self._limits = limits
        self._forks = forks
        self._preload = preload
        self._readable = [str(path) for path in readable]
        self._folder = tempfile.TemporaryDirectory(prefix="starter-", ignore_cleanup_errors=True)
        self._outside = tempfile.NamedTemporaryFile(prefix="starter-canary-")  # noqa: SIM115 - closed in __exit__
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._start()

    def __enter__(self) -> Self:
        """Return the room."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything in it."""
        self.close()

    def close(self) -> None:
        """End everything in it."""
        self._stop()
        self._outside.close()
        with contextlib.suppress(OSError):
            empty_folder(Path(self._folder.name))  # deeper than the standard library could
        self._folder.cleanup()

    @property
    def pid(self) -> int:
        """The supervisor's process."""
        assert self._process is not None
        return self._process.pid

    def without_names(self, text: bytes) -> bytes:
        """Return what a submission wrote without the name of our temporary folder: as it is in the box."""
        return text.replace(os.fsencode(self._folder.name), os.fsencode(BOX_FOLDER))

    def failure(self, stop: threading.Event | None = None) -> str:
        """Wait until the worker is ready; return why it is not, or nothing."""
        if not self._ready:
            reply = self._receive(stop or threading.Event())
            if reply is None:
                return "its supervisor ended"
            self._ready = not reply["failed"]
            return str(reply["failed"])
        return ""

    def run(self, payload: Payload, reply: Path, log: Path, limits: Limits, stop: threading.Event) -> Verdict:
        """Have one submission run; return how it ended.

        Args:
            payload: a job and the submission's files.
            reply: a new file, where the worker writes.
            log: a new file, where the end of what it printed is written.
            limits: what it may use.
            stop: once it is set, the room is closed; nobody waits for the answer any more.

        Raises:
            HostError: the room does not start, or broke.
        """
        if self._process is None:
            self._start()
        failed = self.failure(stop)
        if failed:
            self._stop()
            raise host_error(Code.WORKER_FAILED, where=f"isolation {self.level}", got=failed[-1000:])
        job = {
            "limits": limits.model_dump(),
            "payload_bytes": payload.unpacked_bytes,
            "payload_files": payload.unpacked_files + 1,  # the file system's own root
        }
        message = None
        with contextlib.suppress(BrokenPipeError, ConnectionError):
            with payload.path.open("rb") as given, reply.open("xb") as answer, log.open("xb") as printed:
                descriptors = [given.fileno(), answer.fileno(), printed.fileno()]
                socket.send_fds(self._socket, [json.dumps(job).encode()], descriptors)
            message = self._receive(stop)
        verdict = Verdict.of(message) if message else Verdict(lost="")
        if not verdict.reusable:
            self._stop()
            if self._forks and not stop.is_set():
                self._start()
        if verdict.lost is not None:
            got = "stopped" if stop.is_set() else f"its worker ended. {verdict.lost[-1000:]}"
            raise host_error(Code.WORKER_FAILED, where=f"isolation {self.level}", got=got)
        return verdict

    def _start(self) -> None:
        self._ready = False
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-m", "starter.sandbox.supervisor"],
                stdin=theirs.fileno(),
                start_new_session=True,
            )
        if self._user is not None:
            os.chown(self._folder.name, self._user, self._user)
        empty_folder(Path(self._folder.name))
        boxed = self.level is Level.BOX
        folder = BOX_FOLDER if boxed else Path(self._folder.name)
        spec = {
            "command": [*(self._box() if boxed else ()), *self._worker()],
            "environment": clean_environment(folder / "scratch", threads=1),
            "folder": "/" if boxed else self._folder.name,
            "box": boxed,
            "forks": self._forks,
        }
        self._socket.send(json.dumps(spec).encode())

    def _worker(self) -> list[str]:
        arguments = {
            "forks": self._forks,
            "preload": self._preload,
            "user": self._user,
            "root": os.getuid() == 0 and self._user is None,
            "boxed": self.level is Level.BOX,
            "alone": self.level is Level.BOX and os.getuid() != 0,
            "outside": self._outside.name,
            "readable": self._readable,
        }
        return [sys.executable, "-I", "-B", "-m", "starter.plugin.worker", json.dumps(arguments)]

    def _box(self) -> list[str]:
        """Return bubblewrap's command line: an empty root, and the Python environment read-only in it."""
        bubblewrap = shutil.which("bwrap") or "bwrap"  # by our PATH; the worker has the system's
        command = [bubblewrap, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
        command += ["--unshare-cgroup-try", "--hostname", "room", "--as-pid-1", "--die-with-parent"]
        command += ["--new-session", "--cap-drop", "ALL"]
        if os.getuid() != 0:
            command += ["--unshare-user", "--disable-userns"]
        elif self._user is not None:  # root needs no user namespace; the worker becomes another user first
            command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"]
        for path in ("/bin", "/sbin", "/lib", "/lib32", "/lib64"):
            if Path(path).is_symlink():
                command += ["--symlink", str(Path(path).readlink()), path]
            else:
                command += ["--ro-bind-try", path, path]
        shown = [path for path in map(str, lockdown.environment()) if path not in {"/lib", "/lib64"}]
        for folder in sorted({str(above) for path in shown for above in Path(path).parents}):
            command += ["--perms", "0755", "--dir", folder]  # bubblewrap's own would be its user's alone
        for visible in (*shown, *self._readable):
            bind = "--dev-bind-try" if visible.startswith("/dev/") else "--ro-bind-try"
            command += [bind, visible, visible]
        command += ["--dev-bind", "/dev/null", "/dev/null"]
        # A submission's files take whole pages; a full file system is the scratch limit and a little more.
        pages = self._limits.submission_files * os.sysconf("SC_PAGE_SIZE")
        size = (self._limits.scratch_mb + self._limits.submission_mb + 1) * 2**20 + pages
        command += ["--size", str(size), "--perms", "0777", "--tmpfs", str(BOX_FOLDER)]
        return [*command, "--chdir", str(BOX_FOLDER), "--remount-ro", "/", "--"]

    def _receive(self, stop: threading.Event) -> dict[str, Any] | None:
        while not stop.is_set():
            ready, _, _ = select.select([self._socket], [], [], 0.1)
            if ready:
                try:
                    message = self._socket.recv(1 << 18)
                except ConnectionError:
                    return None
                return json.loads(message) if message else None
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
