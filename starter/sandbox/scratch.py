"""Folders that a stranger has filled: how much is in them, and how to empty them.

Whatever lies there: folders a thousand deep, names that are no text, links, paths longer than
the kernel takes. Neither function follows a link, recurses or holds more than one folder open.
"""

import contextlib
import os
import secrets
from pathlib import Path

LONGEST_PATH = 4096
"""What the kernel takes (PATH_MAX); what lies deeper can be reached step by step only."""


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
