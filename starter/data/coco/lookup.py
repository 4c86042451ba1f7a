"""Find the pictures of an image folder by the names that COCO files of other machines give them.

Names come from strangers: whatever a name says, only files inside the folder are opened.
"""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath

from starter.contract.errors import Code, usage_error
from starter.data.coco.annotations import CocoImage
from starter.data.coco.values import Id

_ROOT = re.compile(r"/|[A-Za-z]:/|[A-Za-z][A-Za-z0-9+.-]+://")
"""What absolute names begin with: a slash, a drive, or the scheme of a URL."""


class UnclearNameError(Exception):
    """No file of the folder, or no single one, is meant by a name; the message says why."""


class Pictures:
    """The files of an image folder.

    Raises:
        UsageError: there is no such folder (U101).
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise usage_error(Code.NO_SUCH_PATH, where=str(folder), got="no such folder")
        self._folder = Path(os.path.realpath(folder))

    def locate(self, entries: Iterable[CocoImage]) -> dict[Id, Path | str]:
        """Return the path inside the folder of each entry's picture, by its id, or why there is none.

        Where names from elsewhere lead to one file, some would be given another's picture: none is taken.
        """
        found: dict[Id, Path | str] = {}
        names: dict[Path, set[str]] = defaultdict(set)
        once = {entry.id: _plain(entry.file_name) for entry in entries}
        for key, name in once.items():
            try:
                found[key] = path = self.find(name)
                names[path].add(name)
            except UnclearNameError as error:
                found[key] = str(error)
        for key, name in once.items():
            there = found[key]
            if isinstance(there, Path) and name != _composed(there) and len(names[there]) > 1:
                found[key] = f"ambiguous: {len(names[there])} file names refer to {there.as_posix()}"
        return found

    def find(self, name: str) -> Path:
        """Return the path inside the folder of the file that a name means.

        The name as it is, or else composed or not (macOS) and in another case (Windows) if that is one file.
        Of an absolute name, or one that leads out by "..", the longest end that is a file of the folder.

        Raises:
            UnclearNameError: there is none, there are several, or it is a link out of the folder.
        """
        parts, is_foreign = _parts(name)
        for skipped in range(len(parts) if is_foreign else 1):
            if path := self._match("/".join(parts[skipped:])):
                if not Path(os.path.realpath(self._folder / path)).is_relative_to(self._folder):
                    raise UnclearNameError(f"{path} is a link to a place outside the folder")
                return path
        raise UnclearNameError("no such file")

    def _match(self, name: str) -> Path | None:
        if name and os.path.isfile(self._folder / name):  # noqa: PTH113 - Path's raises for long names
            return Path(name)
        same = self._files.get(_folded(name), [])
        exact = [path for path in same if _composed(path) == unicodedata.normalize("NFC", name)]
        hits = exact if len(exact) == 1 else same
        if len(hits) > 1:
            shown = ", ".join(path.as_posix() for path in sorted(hits))
            raise UnclearNameError(f"ambiguous: the names of several files differ only in case: {shown}")
        return hits[0] if hits else None

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        """Every file by its name without case; only made where a name is not found as it is."""
        found = defaultdict(list)
        for path in self._folder.rglob("*"):
            if path.is_file():
                inside = path.relative_to(self._folder)
                found[_folded(_composed(inside))].append(inside)
        return dict(found)


def _parts(name: str) -> tuple[list[str], bool]:
    """Split a name, and say whether it is absolute or leads out, and so is one of another folder."""
    root = _ROOT.match(name)
    is_foreign = root is not None
    parts: list[str] = []
    for part in name[root.end() if root else 0 :].split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part == "..":
            is_foreign = True
        elif part not in {"", "."}:
            parts.append(part)
    return parts, is_foreign


def _plain(name: str) -> str:
    """Return a name without what does not matter in it, so that two that mean the same are the same."""
    parts, is_foreign = _parts(unicodedata.normalize("NFC", name))
    return "/" * is_foreign + "/".join(parts)


def _composed(path: Path) -> str:
    """Return a name as COCO files write it; tools that unpack zips of Windows leave backslashes in it."""
    return unicodedata.normalize("NFC", PurePosixPath(path).as_posix().replace("\\", "/"))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
