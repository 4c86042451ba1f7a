"""What the command, the supervisor and the process of a plugin say to each other about one submission.

Standard library only: the supervisor imports this before anything is locked. Limits are measured by
whoever watches the process (supervisor.py, portable.py); when one is exceeded is decided here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from starter.sandbox.scratch import LONGEST_PATH

LOG_MB = 256
"""A submission that prints more is stopped."""


@dataclass(frozen=True)
class Payload:
    """A job and the submission's files, packed into one file."""

    path: Path
    """A line of JSON (messages.WorkerJob), then the bytes of the files."""
    unpacked_bytes: int = 0
    """What the unpacked files take, in whole pages: that is not charged to the submission."""
    unpacked_files: int = 0
    """How many files and folders the kit unpacks and makes."""


@dataclass(frozen=True)
class LimitExceeded:
    """The limit that ended a submission."""

    name: str
    """Its name in competition.Limits, or log_mb or scratch_path."""
    allowed: float
    """How much it may use."""
    measured: float
    """How much it used when it was stopped."""


@dataclass(frozen=True)
class Usage:
    """What a submission's process uses at one moment, less what the kit itself has used there before."""

    wall_seconds: float = 0
    cpu_seconds: float = 0
    memory_mb: float = 0
    threads: int = 0
    log_mb: float = 0
    scratch_mb: float = 0
    scratch_files: int = 0
    scratch_path: int = 0
    """The longest path in bytes; 0 where the kernel counts the files."""

    def exceeded(self, limits: Mapping[str, float]) -> LimitExceeded | None:
        """Return the first limit that is exceeded; a limit is what may still be used.

        Args:
            limits: by the names of competition.Limits.
        """
        allowed = {"log_mb": LOG_MB, "scratch_path": LONGEST_PATH - 1, **limits}
        for name, measured in vars(self).items():
            if measured > allowed[name]:
                return LimitExceeded(name, allowed[name], round(measured, 1))
        return None


@dataclass(frozen=True)
class Verdict:
    """How the process of one submission ended."""

    status: int = 0
    """Its exit status; negative: the signal that ended it."""
    exceeded: LimitExceeded | None = None
    """The limit that it was stopped for."""
    used: Mapping[str, float] = field(default_factory=dict)
    """The most that it used, by the names of the limits."""
    reusable: bool = False
    """Whether its sandbox can have another submission."""
    lost: str | None = None
    """The machine's fault: what the worker said before it ended without a verdict."""

    @classmethod
    def of(cls, message: dict[str, Any]) -> Self:
        """Return what `dataclasses.asdict` made a message of."""
        exceeded = message.pop("exceeded")
        return cls(**message, exceeded=LimitExceeded(**exceeded) if exceeded else None)
