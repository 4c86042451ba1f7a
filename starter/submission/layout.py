"""Which files of a zip are the submission: one plugin and what belongs to it; the rest is left out.

Decided by names, before anything is written. Standard library only: see zip_reader.py.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

from starter.contract.names import MANIFEST, litter

WANTED = (
    "one plugin: plugin.py with its files beside and below it, at the top or in a folder;"
    " or NAME.py, with NAME.safetensors beside it"
)
"""The layouts that are taken."""

_PLUGIN, _WEIGHTS = "plugin.py", ".safetensors"
_MOST_NAMED, _MOST_LISTED, _LONGEST = 8, 20, 100


class Layout(NamedTuple):
    """What a zip's files are."""

    folder: str = ""
    """The plugin's folder in the zip."""
    files: tuple[str, ...] = ()
    """The submission's files, by their names in the zip; none unless there is exactly one plugin."""
    wrong: str = ""
    """What was found instead of one plugin."""


def layout(names: Collection[str], has_hook: Callable[[str], bool]) -> Layout:
    """Find the one plugin among files and what belongs to it.

    Args:
        names: the files' plain relative paths, without what `litter` says is none.
        has_hook: whether a Python file names the hook; asked only of those beside a plugin.py.
    """
    paths = sorted(map(PurePosixPath, names))
    homes = {path.parent for path in paths if path.name == _PLUGIN}
    plugins = [home / _PLUGIN for home in sorted(homes) if homes.isdisjoint(home.parents)]
    python = [path for path in paths if path.suffix == ".py"]
    if len(plugins) == 1:
        (home,) = {path.parent for path in plugins}
        own = [path for path in paths if path.is_relative_to(home)]
        plugins += [path for path in python if path not in own and has_hook(str(path))]
    elif len(python) == 1:
        plugins, home = python, python[0].parent
        own = [
            path for path in (*plugins, plugins[0].with_suffix(_WEIGHTS), home / MANIFEST) if path in paths
        ]
    if len(plugins) != 1:
        return Layout(wrong=_no_plugin(paths, plugins, python))
    weights = [path for path in paths if path.suffix == _WEIGHTS]
    if weights and not set(weights) & set(own):
        return Layout(wrong=f"{plugins[0]}, and weights that it would not load: {_named(weights)}")
    return Layout("" if home == PurePosixPath() else str(home), tuple(map(str, own)))


def _no_plugin(paths: list[PurePosixPath], plugins: list[PurePosixPath], python: list[PurePosixPath]) -> str:
    if len(plugins) > 1:
        return f"{len(plugins)} plugins: {_named(plugins)}"
    if python:
        return f"no plugin.py, but {len(python)} Python files: {_named(python)}"
    if zips := [path for path in paths if path.suffix.lower() == ".zip"]:
        return f"another zip: {_named(zips)}"
    return f"no Python file: {_named(paths)}" if paths else "nothing"


def _named(paths: list[PurePosixPath]) -> str:
    more = f" and {len(paths) - _MOST_NAMED} more" if len(paths) > _MOST_NAMED else ""
    return ", ".join(str(path)[:_LONGEST] for path in paths[:_MOST_NAMED]) + more


def named(left_out: Iterable[str], folder: str) -> list[str]:
    """Return the names of files that are left out, as people read them: of a folder only its name.

    Args:
        left_out: the files.
        folder: the plugin's folder; those above it are named file by file.
    """
    above = {PurePosixPath(folder), *PurePosixPath(folder).parents}
    counts: Counter[str] = Counter()
    for name in left_out:
        path = PurePosixPath(name)
        beside = [way for way in (path, *path.parents) if way.parent in above and way not in above]
        top = litter(path) or beside[0]
        counts[f"{top}/" if top != path else name] += 1
    said = [name[:_LONGEST] + f" ({count} files)" * (count > 1) for name, count in sorted(counts.items())]
    more = [f"and {len(said) - _MOST_LISTED} more"] if len(said) > _MOST_LISTED else []
    return said[:_MOST_LISTED] + more
