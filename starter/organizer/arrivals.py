"""Tell which entries have arrived: new or changed since the last look, and whole.

A look reads names, sizes and times, and never an entry's content. What is kept of an entry that was taken
is a digest of those, so that a watch of months stays small.
"""

import contextlib
import hashlib
import os
import stat
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from itertools import islice
from pathlib import Path

from starter.contract.submissions import Kind, SubmissionSource
from starter.organizer.entries import EntrySource, find

_CUT_LOOKS = 15
"""A zip without its end is believed to be broken after so many looks without a change."""

_MOST_FILES = 10_000
"""How many files of one entry are looked at: no limit of a competition's is as high."""


@dataclass(frozen=True)
class _Seen:
    """An entry that has not been taken yet."""

    state: bytes
    """What it was at the last looks."""
    looks: int
    """At how many of them."""


class Arrivals:
    """Looks at paths again and again.

    An entry is whole when its sizes and times are as they were at the look before, or when all of it was
    written before that: it was renamed in, or lay there when the watch began. A zip without its end waits
    longer.

    Args:
        paths: as `entries.find` takes them.
        index: as `entries.find` takes it; while it changes nothing is taken.
        every: seconds between two looks.
        zone: as `entries.find` takes it.
    """

    def __init__(
        self, paths: Sequence[Path], index: Path | None, *, every: float, zone: tzinfo = UTC
    ) -> None:
        self._paths, self._index, self._zone = paths, index, zone
        self.every = every
        self._taken: dict[str, bytes] = {}
        self._seen: dict[str, _Seen] = {}
        self._index_state = self._tree = b""
        self.unreadable: list[str] = []
        """What the last look found that is whole and may not be read."""

    def look(self, now: float) -> list[EntrySource]:
        """Return the entries that have arrived, by time; until they are `taken`, they come again.

        Args:
            now: the time, in seconds since the epoch.

        Raises:
            UsageError: a path is gone, or the index is wrong.
            OSError: a folder cannot be read.
        """
        tree = _tree([*self._paths, *([self._index] if self._index else [])])
        if tree == self._tree and not self._seen:
            return []
        index, written = _looked([self._index] if self._index else [])
        before, self._index_state, self._tree = self._index_state, index, b""
        if index != before and now - written < self.every:
            return []
        sources = find(self._paths, self._index, self._zone, partial=True)
        arrived, self.unreadable = [], []
        there: dict[str, _Seen] = {}
        for source in sources:
            name = str(source.path)
            state, written = _state(source)
            if self._taken.get(name) == state:
                continue
            seen = self._seen.get(name)
            looks = seen.looks + 1 if seen and seen.state == state else 0
            there[name] = _Seen(state, looks)
            age = now - written
            is_still = looks > 0 or age >= self.every
            is_old = looks >= _CUT_LOOKS or age >= _CUT_LOOKS * self.every
            if is_still and not _is_readable(source):
                self.unreadable.append(name)
            elif is_still and (is_old or not _is_cut(source.path)):
                arrived.append(source)
        names = {str(source.path) for source in sources}
        self._taken = {name: state for name, state in self._taken.items() if name in names}
        self._seen, self._tree = there, tree
        return arrived

    def is_as_seen(self, source: EntrySource) -> bool:
        """Say whether an entry is what it was at the last look: what has been read of it since is whole."""
        seen = self._seen.get(str(source.path))
        return seen is not None and seen.state == _state(source)[0]

    def taken(self, sources: Iterable[EntrySource]) -> None:
        """Let entries come again only when they have changed."""
        for name in (str(source.path) for source in sources):
            self._taken[name] = self._seen.pop(name).state


def _tree(paths: Iterable[Path]) -> bytes:
    """Return names, sizes and times of all that is below paths, as a digest that only a change changes.

    An entry costs microseconds here, and a hundred times as much when it is looked at by itself.
    """
    digest = hashlib.blake2b(digest_size=16)
    waiting = [os.path.realpath(path) for path in paths]
    while waiting:
        path = waiting.pop()
        with contextlib.suppress(OSError):
            found = os.lstat(path)
            digest.update(repr((path, found.st_mode, found.st_size, found.st_mtime_ns)).encode())
            if stat.S_ISDIR(found.st_mode):
                waiting += [f"{path}{os.sep}{name}" for name in sorted(os.listdir(path))]  # noqa: PTH208 - quick
    return digest.digest()


def _state(source: EntrySource) -> tuple[bytes, float]:
    """Return what is known of an entry without reading it, as a digest, and when it was last written."""
    digest, written = _looked(_files(source))
    said = repr((digest, source.team, source.submitted_at, source.selected))
    return hashlib.blake2b(said.encode(), digest_size=16).digest(), written


def _looked(files: Iterable[Path]) -> tuple[bytes, float]:
    """Return names, sizes and times of files as a digest, and when the last was written."""
    digest, written = hashlib.blake2b(digest_size=16), 0.0
    for path in files:
        try:
            found = path.lstat()
        except OSError:  # it has gone since
            continue
        digest.update(repr((str(path), found.st_size, found.st_mtime_ns)).encode())
        written = max(written, found.st_mtime)
    return digest.digest(), written


def _files(source: EntrySource) -> Iterator[Path]:
    """Yield an entry's files, and the folders in it."""
    if source.kind is Kind.FOLDER:
        yield from sorted(islice(source.path.rglob("*"), _MOST_FILES))
    elif source.path.suffix.lower() == ".zip":
        yield source.path
    else:
        yield from SubmissionSource(source.name, source.path, source.kind).files()


def _is_readable(source: EntrySource) -> bool:
    return all(os.access(path, os.R_OK) for path in _files(source) if not path.is_symlink())


def _is_cut(path: Path) -> bool:
    """Say whether a file is called a zip and has no zip's end."""
    if path.suffix.lower() != ".zip" or path.is_symlink() or not path.is_file():
        return False
    return not zipfile.is_zipfile(path)
