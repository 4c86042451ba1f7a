"""Hide installed modules from this process, as if their packages were not there.

For a submission's process: its author finds out at home what the competition does not allow. It is a
service and no lock, because a plugin may undo it; no figure depends on it.
"""

import sys
from collections.abc import Collection, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any


class _Without:
    """A finder that does not find some modules.

    Args:
        finder: what finds the others.
        hidden: their top-level names.
    """

    def __init__(self, finder: Any, hidden: Collection[str]) -> None:
        self._finder = finder
        self._hidden = hidden

    def __getattr__(self, name: str) -> Any:
        """Return what the finder has besides, such as `find_distributions`."""
        return getattr(self._finder, name)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module that is not hidden."""
        if name.partition(".")[0] in self._hidden and path is None:
            return None
        found: ModuleSpec | None = self._finder.find_spec(name, path, target)
        return found


class _InFolder:
    """Finds modules in one folder: a submission may bring its own module of a hidden name.

    Args:
        folder: where.
        names: of which modules.
    """

    def __init__(self, folder: Path, names: Collection[str]) -> None:
        self._folder = str(folder)
        self._names = names

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module of the folder."""
        if name not in self._names or path is not None:
            return None
        return PathFinder.find_spec(name, [self._folder], target)


def hide(names: Collection[str], *, beside: Path | None = None) -> None:
    """Hide top-level modules, also those that are imported already.

    Args:
        names: which modules.
        beside: a folder in which they are found nevertheless; None: nowhere.
    """
    hidden = frozenset(names)
    others: list[Any] = [_Without(finder, hidden) for finder in sys.meta_path]
    sys.meta_path[:] = [*([_InFolder(beside, hidden)] if beside else ()), *others]
    for name in [name for name in sys.modules if name.partition(".")[0] in hidden]:
        del sys.modules[name]
