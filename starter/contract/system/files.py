"""Files that are whole or absent, and folders that last as long as their owner, on any system.

Windows renames no open file, removes none, and locks the bytes that others want to read: so a lock
is a file of its own. The system releases it when its owner ends, however that is.
"""

import contextlib
import csv
import ctypes
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

_LOCK = ".lock"
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of renameat2(2)
_TEMPORARY = "starter-command-"


@contextlib.contextmanager
def atomic_write(path: Path, partial: Path | None = None) -> Iterator[Path]:
    """Yield where to make a file, or a new folder, that gets the name `path` when the block has ended.

    A kill leaves the old file or the new one; an error leaves nothing else.

    Args:
        path: its name; a file of that name is replaced.
        partial: where it is made, on the same disk; default: beside, and only one process may be at it.
    """
    partial = partial or path.with_name(f".{path.name}.partial")
    _remove(partial)
    try:
        yield partial
        partial.replace(path)
    finally:
        _remove(partial)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder's place; when the block has ended it gets the name `path`, also of an older folder.

    On Linux one step exchanges the two, so that a reader always finds one of them. Elsewhere, and on a disk
    that cannot, none has the name for a moment.
    """
    partial, old = (path.with_name(f".{path.name}.{ending}") for ending in ("partial", "old"))
    _remove(partial)
    try:
        yield partial
        if path.exists() and not _exchanged(partial, path):
            _remove(old)
            path.rename(old)
        if not path.exists():
            partial.rename(path)
    finally:
        _remove(partial)
        _remove(old)


def _exchanged(one: Path, other: Path) -> bool:
    """Give two files or folders each other's names in one step; say whether this system and disk can."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    places = _HERE, os.fsencode(one.absolute()), _HERE, os.fsencode(other.absolute())
    return bool(rename(*places, _EXCHANGE) == 0)


def write_whole(path: Path, text: str) -> Path:
    """Write UTF-8 text with the same line ends on every system; a kill leaves the old file or the new one."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
    return path


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Write a CSV file in UTF-8; a kill leaves the old file or the new one."""
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path


def replace_with(path: Path, source: Path) -> None:
    """Copy a file to `path`, from any disk; a kill leaves the old file or the new one."""
    with atomic_write(path) as partial:
        shutil.copyfile(source, partial)


def is_full(folder: Path) -> bool:
    """Say whether the disk of a folder takes no more than a megabyte."""
    return shutil.disk_usage(folder).free < 2**20


def _remove(path: Path) -> None:
    """Remove what a killed run left, or an error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold the lock file `path` if nobody else does; say whether it is held. It is removed afterwards.

    Raises:
        OSError: the file cannot be made.
    """
    lock = FileLock(path)
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        with contextlib.suppress(OSError):  # Windows: not while it is open
            path.unlink()
        lock.release()  # there, this removes it


@contextlib.contextmanager
def own_folder(above: Path, prefix: str) -> Iterator[Path]:
    """Make a folder that is removed afterwards; by `remove_abandoned` where this process is killed."""
    folder = above / f"{prefix}{secrets.token_hex(8)}"
    with locked(folder.with_suffix(_LOCK), wait=True):  # before it is there, so none is without
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(above: Path, prefix: str) -> None:
    """Remove the folders of `own_folder` whose owners have been killed."""
    for lock in above.glob(f"{prefix}*{_LOCK}"):
        with contextlib.suppress(OSError), locked(lock) as is_abandoned:
            if is_abandoned:
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)


@contextlib.contextmanager
def own_temporary_folder() -> Iterator[Path]:
    """Keep this process's temporary files in a folder of its own; remove those of killed ones."""
    above = Path(tempfile.gettempdir())
    remove_abandoned(above, _TEMPORARY)
    before = tempfile.tempdir
    with own_folder(above, _TEMPORARY) as folder:
        folder.chmod(0o711)  # a submission's process becomes another user, and has its own folder in it
        tempfile.tempdir = str(folder)
        try:
            yield folder
        finally:
            tempfile.tempdir = before
