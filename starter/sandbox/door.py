"""The door to a process that submissions run in: locked (sandbox.py), or not (portable.py)."""

import threading
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from starter.contract.competition import Limits
from starter.contract.isolation import Level
from starter.sandbox.protocol import Payload, Verdict


class Door(Protocol):
    """One process after another, or one for many; started at once, it prepares while others work."""

    level: Level
    """How it is isolated."""

    @property
    def pid(self) -> int:
        """The process that watches, or that has the next submission."""

    def __enter__(self) -> Self:
        """Return itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything in it."""

    def close(self) -> None:
        """End everything in it."""

    def failure(self, stop: threading.Event | None = None) -> str:
        """Wait until it is ready; return why it is not, or nothing."""

    def without_names(self, text: bytes) -> bytes:
        """Return what a submission wrote without the name of our temporary folder."""

    def run(self, payload: Payload, reply: Path, log: Path, limits: Limits, stop: threading.Event) -> Verdict:
        """Have one submission run; return how it ended. As `Room.run`."""
