"""Strangers' names and texts, made fit to be shown: none is obeyed, breaks a line or is endless."""

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

MAX_LISTED = 8


def clean(text: str) -> str:
    """Replace what a terminal would obey: every control character but the line break."""
    return "".join(c if c == "\n" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def inline(text: str) -> str:
    """Return a text on one line: a line break in a name could show a row that is none."""
    return clean(text).replace("\n", " ")


def listed(items: Sequence[str]) -> str:
    """Return the first of many in a row, and how many more there are."""
    more = f", and {len(items) - MAX_LISTED} more" if len(items) > MAX_LISTED else ""
    return ", ".join(items[:MAX_LISTED]) + more


def typed(*words: str | Path) -> str:
    """Return words as they are typed in this system's shell."""
    texts = [str(word) for word in words]
    return subprocess.list2cmdline(texts) if os.name == "nt" else shlex.join(texts)


class LogTail:
    """The end of what a process printed, and how much that was."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self._data = bytearray()

    def add(self, chunk: bytes) -> None:
        """Take what was read."""
        self.total += len(chunk)
        self._data += chunk
        if len(self._data) > 2 * self.limit + 65536:
            del self._data[: -self.limit]

    def text(self) -> bytes:
        """Return the end, and before it how much was dropped."""
        kept = bytes(self._data[-self.limit :])
        dropped = self.total - len(kept)
        return (f"[{dropped:,} earlier bytes not kept]\n".encode() if dropped else b"") + kept
