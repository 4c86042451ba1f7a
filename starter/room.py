"""The locked room as the command sees it: which level, what is inside, and one submission after another.

A room is a supervisor (supervisor.py), a process of its own, and its worker (worker.py), which locks
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
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from starter import lockdown
from starter.competition import CompetitionFile, Limits
from starter.errors import Code, host_error
from starter.folders import empty_folder
from starter.sandbox.child import clean_environment

BOX_FOLDER = Path("/room")
_START_SECONDS = 200.0


class Level(StrEnum):
    """How a submission's process is locked in."""

    BOX = "box"
    """bubblewrap around the worker's own lock-down: a file system and a network of its own."""
    LOCKDOWN = "lockdown"
    """Landlock and seccomp; names of files outside can be guessed by asking for them."""
    NONE = "none"
    """Not at all: for one's own code."""

    @property
    def rank(self) -> int:
        """Higher is stricter."""
        return [Level.NONE, Level.LOCKDOWN, Level.BOX].index(self)


class Room:
    """One locked room, started at once; it prepares while others work.

    Args:
        level: how it is locked.
        user: who the worker becomes where the kit runs as root.
        limits: the size of the scratch folder.
        forks: whether one worker serves many submissions; else each has a new one.
        preload: whether the worker imports torch; without it only the lock is tried.
        readable: folders of installed submissions, outside the Python environment.
    """

    def __init__(
        self,
        level: Level,
        *,
        user: int,
        limits: Limits,
        forks: bool = True,
        preload: bool = True,
        readable: Sequence[Path] = (),
    ) -> None:
        self.level = level
        self._user = user if os.getuid() == 0 and level is not Level.NONE else None
        self._limits = limits
        self._forks = forks and level is not Level.NONE
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

    def run(
        self, payload: BinaryIO, reply: BinaryIO, log: BinaryIO, limits: Limits, stop: threading.Event
    ) -> dict[str, Any]:
        """Have one submission run; return the supervisor's verdict.

        Args:
            payload: a job and the submission's files, as processes.py writes them.
            reply: where the worker writes.
            log: where the end of what it printed is written.
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
        message = limits.model_dump() | {"payload_bytes": os.fstat(payload.fileno()).st_size}
        verdict = None
        with contextlib.suppress(BrokenPipeError, ConnectionError):
            descriptors = [payload.fileno(), reply.fileno(), log.fileno()]
            socket.send_fds(self._socket, [json.dumps(message).encode()], descriptors)
            verdict = self._receive(stop)
        if verdict is None or not verdict["reusable"]:
            self._stop()
            if self._forks and not stop.is_set():
                self._start()
        if verdict is None or "lost" in verdict:
            got = (
                "stopped" if stop.is_set() else f"its worker ended. {(verdict or {}).get('lost', '')[-1000:]}"
            )
            raise host_error(Code.WORKER_FAILED, where=f"isolation {self.level}", got=got)
        return verdict

    def _start(self) -> None:
        self._ready = False
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-m", "starter.supervisor"],
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
            "locked": self.level is not Level.NONE,
        }
        self._socket.send(json.dumps(spec).encode())

    def _worker(self) -> list[str]:
        arguments = {
            "forks": self._forks,
            "locked": self.level is not Level.NONE,
            "preload": self._preload,
            "user": self._user,
            "boxed": self.level is Level.BOX,
            "alone": self.level is Level.BOX and self._user is None,
            "outside": self._outside.name,
            "readable": self._readable,
        }
        return [sys.executable, "-I", "-B", "-m", "starter.worker", json.dumps(arguments)]

    def _box(self) -> list[str]:
        """Return bubblewrap's command line: an empty root, and the Python environment read-only in it."""
        bubblewrap = shutil.which("bwrap") or "bwrap"  # by our PATH; the worker has the system's
        command = [bubblewrap, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
        command += ["--unshare-cgroup-try", "--hostname", "room", "--as-pid-1", "--die-with-parent"]
        command += ["--new-session", "--cap-drop", "ALL"]
        if self._user is None:
            command += ["--unshare-user", "--disable-userns"]
        else:  # root needs no user namespace; the worker becomes another user as its first act
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
        size = (self._limits.scratch_mb + self._limits.submission_mb) * 2**20
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


def missing(level: Level, *, user: int, limits: Limits) -> str:
    """Return what a machine lacks for a level; nothing where a worker has locked itself in by it.

    The worker that is started here tries the lock from inside: a file outside, a socket, its user.
    """
    if level is Level.NONE:
        return ""
    if lacks := lockdown.missing(boxed=level is Level.BOX):
        return lacks
    if level is Level.BOX and shutil.which("bwrap") is None:
        return "bubblewrap is not installed"
    with Room(level, user=user, limits=limits, forks=False, preload=False) as room:
        return room.failure()


def choose(
    competition: CompetitionFile, requested: str | None = None, *, lacks: dict[Level, str] | None = None
) -> Level:
    """Return the level for strangers' code: the one asked for, or else the strictest that works.

    Args:
        competition: its `isolation` is what the organizer asks for at least.
        requested: a level or "auto"; None is the competition's own.
        lacks: filled with why each stricter level does not work.

    Raises:
        HostError: no level that is strict enough works on this machine.
    """
    lacks = {} if lacks is None else lacks
    least = Level(competition.isolation)
    wanted = Level.NONE if least is Level.NONE and requested is None else None
    if requested not in {None, "auto"}:
        wanted = Level(requested or "")
    if wanted is Level.NONE:
        return wanted  # it was typed
    levels = [wanted] if wanted else [Level.BOX, Level.LOCKDOWN]
    for level in levels:
        reason = missing(level, user=competition.worker_user, limits=competition.limits)
        if not reason and level.rank >= least.rank:
            return level
        lacks[level] = reason or f"competition.toml asks for {least} at least"
    got = "; ".join(f"{level}: {reason.splitlines()[-1]}" for level, reason in lacks.items())
    raise host_error(
        Code.NO_ISOLATION, where="this machine", expected=f"isolation {wanted or least}", got=got
    )
