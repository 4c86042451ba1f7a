"""The boundary of a sandbox: what the command, the supervisor and the worker say and hand to each other.

Standard library only: the supervisor imports this before anything is locked. When a limit is exceeded is
decided in usage.py.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import threading
    from types import TracebackType

    from starter.contract.competition import Limits
    from starter.contract.isolation import Level

BOX_FOLDER = "/sandbox"
"""The working folder in the box, and what a submission's messages show in place of our temporary folder."""

READY = b"ready"
"""Worker to supervisor: the sandbox is in force and the worker is ready."""
JOB = b"job"
"""Supervisor to worker, with the job's files."""
WAITING = b"waiting"
"""A submission's process to the supervisor: it runs nothing of a stranger's before it may."""
GO = b"go"
"""Supervisor to a submission's process: it is watched."""


class SandboxError(Exception):
    """A sandbox does not start, or ends without a verdict: the machine's fault, or nobody waits any more."""


@dataclass(frozen=True)
class Message:
    """What one process sends to another as JSON."""

    def to_json(self) -> str:
        """Return it on one line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return what `to_json` has written.

        Raises:
            ValueError: it is no JSON.
            TypeError: it is another message.
        """
        return cls(**json.loads(text))


@dataclass(frozen=True)
class WorkerSpec(Message):
    """The settings of a worker at its start, from the command to the worker, as its argument."""

    forks: bool
    """Whether it forks a process for each submission; else it has one itself."""
    preload: bool
    """Whether it imports torch before a submission is known."""
    user: int | None
    """The number of the user that it becomes; None: it stays who it is."""
    root: bool
    """Whether it may be root."""
    boxed: bool
    """Whether bubblewrap is around it."""
    alone: bool
    """Whether its user's processes are those of its sandbox alone, so that they can be counted."""
    outside: str
    """A file that exists and that the lock must hide."""
    readable: Sequence[str]
    """Folders of installed submissions, outside the Python environment."""


@dataclass(frozen=True)
class SandboxSpec(Message):
    """The worker that a supervisor starts: the command's to the supervisor, once."""

    command: Sequence[str]
    """The worker's command line, where it is boxed bubblewrap's before it."""
    environment: Mapping[str, str]
    """All its environment variables."""
    folder: str
    """Where it starts."""
    boxed: bool
    """Whether bubblewrap is around it."""
    forks: bool
    """Whether it serves many submissions."""


@dataclass(frozen=True)
class Started(Message):
    """Whether the worker is ready: the supervisor's to the command, once."""

    failed: str
    """Why it is not; nothing where it is."""


@dataclass(frozen=True)
class Payload:
    """A job and the submission's files, packed into one file."""

    path: Path
    """A line of JSON (contract.protocol.WorkerJob), then the bytes of the files."""
    unpacked_bytes: int = 0
    """What the unpacked files take, in whole pages: that is not charged to the submission."""
    unpacked_files: int = 0
    """How many files and folders the kit unpacks and makes."""


@dataclass(frozen=True)
class Job(Message):
    """One submission: the command's to the supervisor, with its files."""

    limits: Mapping[str, float]
    """What it may use, by the names of competition.Limits."""
    unpacked_bytes: int
    """As in Payload."""
    unpacked_files: int
    """As in Payload, and the file system's own root."""


@dataclass(frozen=True)
class JobFiles:
    """The open files of a job and their one owner: `with`, or `close`, closes them."""

    payload: int
    """To be read: Payload.path."""
    reply: int
    """Where the submission's process writes its answer."""
    log: int
    """Where its log goes: for the supervisor a file, for the worker a pipe to the supervisor."""
    handshake: int | None = None
    """Where its process waits until it is watched; only the worker is handed one."""

    @classmethod
    def open(cls, payload: Path, reply: Path, log: Path) -> Self:
        """Open a payload, and the reply and the log as new files."""
        with payload.open("rb") as given, reply.open("xb") as answer, log.open("xb") as printed:
            return cls(*(os.dup(file.fileno()) for file in (given, answer, printed)))

    @classmethod
    def receive(cls, sender: socket.socket) -> tuple[bytes, Self] | None:
        """Return a message and the files that came with it; None if the sender has ended."""
        message, numbers, _, _ = socket.recv_fds(sender, 1 << 16, 4)
        return (message, cls(*numbers)) if message else None

    def send(self, receiver: socket.socket, message: bytes) -> None:
        """Send a message with these files, which stay this process's own as well."""
        socket.send_fds(receiver, [message], self._numbers)

    def close(self) -> None:
        """Close them."""
        for number in self._numbers:
            os.close(number)

    def __enter__(self) -> Self:
        """Return the files."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close them."""
        self.close()

    @property
    def _numbers(self) -> list[int]:
        return [number for number in vars(self).values() if number is not None]


@dataclass(frozen=True)
class Ended(Message):
    """How a forked process ended: the worker's to the supervisor."""

    status: int
    """As waitpid says it."""
    clean: bool
    """Whether everything that it left is removed."""


@dataclass(frozen=True)
class LimitExceeded:
    """The limit that ended a process."""

    name: str
    """Its name in competition.Limits, or log_mb or scratch_path."""
    allowed: float
    """How much it may use."""
    measured: float
    """How much it used when it was stopped."""


@dataclass(frozen=True)
class Verdict(Message):
    """How the process of one submission ended: the supervisor's to the command."""

    status: int = 0
    """Its exit status; negative: the signal that ended it."""
    exceeded: LimitExceeded | None = None
    """The limit that it was stopped for."""
    used: Mapping[str, float] = field(default_factory=dict)
    """The most that it used, by the names of the limits."""
    reusable: bool = False
    """Whether its sandbox can have another submission."""
    lost: str | None = None
    """There is no verdict: what the worker said before it ended, or nobody waits for one any more."""

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return what `to_json` has written."""
        fields = json.loads(text)
        limit = fields.pop("exceeded")
        return cls(**fields, exceeded=LimitExceeded(**limit) if limit else None)


class Sandbox(ABC):
    """Where submissions run one after another; started at once, it prepares while others work.

    Locked (sandbox.py) or not (unlocked.py): what differs is how a process is started, watched and ended.
    """

    level: Level
    """How it is isolated."""
    folder: Path
    """Our temporary folder, where the last submission's process was."""
    serves_many: bool
    """Whether more than one submission is expected, so that the next process is prepared."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """The process that watches, or that has the next submission."""

    @abstractmethod
    def failure(self, stop: threading.Event | None = None) -> str:
        """Wait until it is ready; return why it is not, or nothing."""

    @abstractmethod
    def close(self) -> None:
        """End everything in it."""

    @abstractmethod
    def _start(self) -> None:
        """Start a process for the next submission, or for many, unless there is one already."""

    @abstractmethod
    def _stop(self) -> None:
        """End the process, if there is one, and everything that it started."""

    @abstractmethod
    def _run(
        self, payload: Payload, reply: Path, log: Path, limits: Limits, stop: threading.Event
    ) -> Verdict:
        """Run one submission in the process, which is ready."""

    def __enter__(self) -> Self:
        """Return the sandbox."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything in it."""
        self.close()

    def without_names(self, text: bytes) -> bytes:
        """Return what the last submission wrote without the name of our temporary folder: as in the box."""
        return text.replace(os.fsencode(self.folder), os.fsencode(BOX_FOLDER))

    def run(self, payload: Payload, reply: Path, log: Path, limits: Limits, stop: threading.Event) -> Verdict:
        """Run one submission; return how it ended.

        Args:
            payload: a job and the submission's files.
            reply: a new file, where its process writes.
            log: a new file, where the end of what it printed is written.
            limits: what it may use.
            stop: once it is set, its process is ended; nobody waits for the answer any more.

        Raises:
            SandboxError: it does not start, or broke.
        """
        self._start()
        if failed := self.failure(stop):
            self._stop()
            raise SandboxError(failed[-1000:])
        verdict = self._run(payload, reply, log, limits, stop)
        if not verdict.reusable:
            self._stop()
            if self.serves_many and not stop.is_set():
                self._start()
        if verdict.lost is not None:
            raise SandboxError("stopped" if stop.is_set() else f"its worker ended. {verdict.lost[-1000:]}")
        return verdict
