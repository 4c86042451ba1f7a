"""What a stranger's process uses and leaves: when that is too much, and how its folder is emptied.

Limits are measured by whoever watches a process (supervisor.py, unlocked.py, child.py); `exceeded` decides.
Whatever a folder contains: folders a thousand deep, names that are not text, links, paths longer than
the kernel takes. No function here follows a link, recurses or holds more than one folder open.
Standard library only, as protocol.py.
"""

import contextlib
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starter.sandbox.protocol import LimitExceeded

LOG_MB = 256
"""A submission that prints more is stopped."""
LONGEST_PATH = 4096
"""What the kernel takes (PATH_MAX); what lies deeper can be reached step by step only."""


@dataclass(frozen=True)
class Usage:
    """What a process uses at one moment, less what the kit itself has used there before; 0: not measured."""

    wall_seconds: float = 0
    cpu_seconds: float = 0
    memory_mb: float = 0
    threads: int = 0
    log_mb: float = 0
    scratch_mb: float = 0
    scratch_files: int = 0
    scratch_path: int = 0
    """The longest path in bytes; 0 where the kernel counts the files."""


def exceeded(usage: Usage, limits: Mapping[str, float]) -> LimitExceeded | None:
    """Return the first limit that is exceeded; a limit is what may still be used.

    Args:
        usage: what is measured; each needs a limit.
        limits: by the names of competition.Limits; log_mb and scratch_path are our own.
    """
    allowed = {"log_mb": LOG_MB, "scratch_path": LONGEST_PATH - 1, **limits}
    for name, measured in vars(usage).items():
        if measured and measured > allowed[name]:
            return LimitExceeded(name, allowed[name], round(measured, 1))
    return None


class PeakUsage:
    """The most that a submission's process has used, from now on."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._most = {"cpu_seconds": 0.0, "memory_mb": 0.0}

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def add(self, usage: Usage) -> None:
        """Take a measurement."""
        for name, most in self._most.items():
            self._most[name] = max(most, round(getattr(usage, name), 2))

    def total(self) -> dict[str, float]:
        """Return the most so far and the time until now, by the names of the limits."""
        return {**self._most, "wall_seconds": round(self.elapsed, 2)}


def folder_usage(folder: Path) -> tuple[int, int, int]:
    """Return bytes on disk, number of files, and length in bytes of the longest path below a folder.

    What lies deeper than `LONGEST_PATH` is not counted: its folder's length then says so.
    """
    total = count = longest = 0
    waiting = [os.fspath(folder)]
    while waiting:
        path = waiting.pop()
        # Files vanish while they are looked at; a folder that is too deep is known by its length.
        with contextlib.suppress(OSError), os.scandir(path) as entries:
            for entry in entries:
                count += 1
                longest = max(longest, len(os.fsencode(entry.path)))
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                with contextlib.suppress(OSError):
                    total += _bytes_on_disk(entry.stat(follow_symlinks=False))
    return total, count, longest


def _bytes_on_disk(found: os.stat_result) -> int:
    return found.st_blocks * 512 if hasattr(found, "st_blocks") else found.st_size  # Windows has none


def empty_folder(folder: Path) -> None:
    """Remove everything in a folder that nobody writes to any more.

    A folder in it is emptied by moving its own folders up, so no path is longer than two names.

    Raises:
        OSError: something cannot be removed.
    """
    while entries := list(folder.iterdir()):
        for entry in entries:
            if entry.is_symlink() or not entry.is_dir():
                entry.unlink()
                continue
            with contextlib.suppress(PermissionError):
                entry.chmod(0o700)  # where a lock forbids it, it has kept the folder's maker from less
            for inner in list(entry.iterdir()):
                if inner.is_dir() and not inner.is_symlink():
                    inner.rename(folder / f".starter-{secrets.token_hex(8)}")
                else:
                    inner.unlink()
            entry.rmdir()
