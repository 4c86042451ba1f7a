"""Find submissions without importing them.

A submission is NAME.py, a folder NAME/ with plugin.py, or an installed package's
entry point in the group starter.submissions. NAME is its row on the leaderboard.
"""

import importlib.metadata
import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from starter.contract.competition import Limits
from starter.contract.errors import Code, Problem, UsageError, problem, usage_error
from starter.contract.hookspecs import ENTRY_POINT_GROUP
from starter.contract.names import entry_fault, normalized, path_fault

PLUGIN_FILE = "plugin.py"

PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle", ".tar")
"""What the files of torch.save are called, in lower case; none is read: weights are safetensors files."""

WEIGHTS = (".safetensors", *PICKLES, ".pt2", ".torchscript", ".onnx", ".npz", ".h5")
"""What files of weights are called."""


class Kind(StrEnum):
    """The shapes a submission can have."""

    FILE = "file"
    FOLDER = "folder"
    ENTRY_POINT = "entry_point"


@dataclass(frozen=True)
class SubmissionSource:
    """One submission, found but not imported."""

    name: str
    """The row's name."""
    path: Path
    """NAME.py or the folder."""
    kind: Kind

    def __post_init__(self) -> None:
        """Take the name as it is shown and compared, however the disk spells it."""
        object.__setattr__(self, "name", normalized(self.name))

    @property
    def file(self) -> Path:
        """The Python file with the hook."""
        return self.path / PLUGIN_FILE if self.kind is Kind.FOLDER else self.path

    @property
    def folder(self) -> Path:
        """The folder of the submission's own files."""
        return self.path if self.path.is_dir() else self.path.parent

    def owns(self, filename: str) -> bool:
        """Say whether a file of a stack trace is the participant's own."""
        path = Path(filename)
        if self.kind is Kind.FILE:
            return path == self.path
        return path.is_relative_to(self.folder)

    def relative(self, filename: str) -> str:
        """Return an own file's path relative to the submission."""
        return Path(filename).relative_to(self.folder).as_posix()

    def files(self) -> list[Path]:
        """Return the submission's own files: the folder's, or the plugin and its weights."""
        if self.kind is Kind.FOLDER:
            return [path for path in self.path.rglob("*") if path.is_file()]
        return [path for path in (self.path, self.path.with_suffix(".safetensors")) if path.is_file()]

    def unread_weights(self) -> list[str]:
        """Return the names of the weights that lie with a plugin which loads none, and does not name them.

        Beside NAME.py those are NAME's, and all where it is the only plugin there.
        """
        if self.kind is Kind.ENTRY_POINT:
            return []
        if self.kind is Kind.FOLDER:
            found = self.files()
        else:
            beside = sorted(self.folder.iterdir())
            alone = [path for path in beside if path.suffix == ".py"] == [self.path]
            found = [path for path in beside if alone or path.stem == self.path.stem]
        weights = [path for path in found if path.suffix.lower() in WEIGHTS]
        code = b"".join(_head(path) for path in self.files() if weights and path.suffix == ".py")
        return [self.relative(str(path)) for path in weights if path.name.encode() not in code]

    def problems(self, limits: Limits) -> list[Problem]:
        """Return the problems that can be found without importing anything."""
        if found := entry_fault(self.name):
            return [problem(Code.BAD_NAME, where=str(self.path), got=f"{self.name!r}: {found}")]
        if self.kind is Kind.FOLDER and not self.file.is_file():
            return [problem(Code.NO_PLUGIN_FILE, where=str(self.path), got=f"no {PLUGIN_FILE}")]
        # The kit's own commands compile Python there: that is not the participant's.
        files = [path for path in self.files() if "__pycache__" not in path.parts]
        names = sorted(self.relative(str(path)) for path in files)
        if faults := [(name, found) for name in names if (found := path_fault(name))]:
            return [
                problem(Code.BAD_NAME, where=str(self.path), got=f"{n!r}: {why}") for n, why in faults[:20]
            ]
        sizes = {path: path.stat().st_size for path in files}
        if len(sizes) <= limits.submission_files and sum(sizes.values()) <= limits.submission_mb * 2**20:
            return []
        largest = sorted(sizes, key=lambda path: -sizes[path])[:3]
        named = ", ".join(f"{self.relative(str(p))} {sizes[p] / 2**20:.1f} MiB" for p in largest)
        return [
            problem(
                Code.TOO_LARGE,
                where=str(self.path),
                expected=f"at most {limits.submission_mb} MiB in {limits.submission_files} files",
                got=f"{sum(sizes.values()) / 2**20:.1f} MiB in {len(sizes)} files; the largest: {named}",
            )
        ]


def _head(path: Path) -> bytes:
    """Return the beginning of a Python file, more than a person writes."""
    with path.open("rb") as file:
        return file.read(2**20)


def discover(paths: Sequence[Path]) -> list[SubmissionSource]:
    """Return the submissions that `paths` name, in order, each once.

    A path is a plugin file, a plugin folder, or a folder of those.

    Raises:
        UsageError: a path does not exist or holds no submission; all such paths at once.
    """
    found: dict[Path, SubmissionSource] = {}
    problems: list[Problem] = []
    for path in paths:
        if not path.exists():
            problems.append(problem(Code.NO_SUCH_PATH, where=str(path), got="nothing there"))
            continue
        sources = list(_at(path.resolve()))
        if not sources:
            problems.append(_nothing_at(path))
        found.update((c.path, c) for c in sources)
    if problems:
        raise UsageError(problems)
    return list(found.values())


def discover_one(path: Path) -> SubmissionSource:
    """Return the one submission at `path`.

    Raises:
        UsageError: there is none, or the folder holds several.
    """
    sources = discover([path])
    if len(sources) > 1:
        names = ", ".join(c.name for c in sources)
        raise usage_error(
            Code.NO_SUCH_PATH,
            where=str(path),
            expected="one submission",
            got=f"a folder of several submissions: {names}",
            hint="Name one of them.",
        )
    return sources[0]


def discover_installed() -> list[SubmissionSource]:
    """Return the submissions that installed packages offer as entry points."""
    return [
        SubmissionSource(entry.name, _module_file(entry), Kind.ENTRY_POINT)
        for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    ]


def _module_file(entry: importlib.metadata.EntryPoint) -> Path:
    # A parent package would be imported by find_spec for a dotted name; the top one is not.
    spec = importlib.util.find_spec(entry.module.partition(".")[0])
    if spec is None or spec.origin is None:
        raise usage_error(
            Code.NO_SUCH_PATH, where=f"entry point {entry.name}", got=f"no module {entry.module}"
        )
    return Path(spec.origin)


def _at(path: Path) -> Iterable[SubmissionSource]:
    if path.is_file():
        return [SubmissionSource(path.stem, path, Kind.FILE)] if path.suffix == ".py" else []
    if (path / PLUGIN_FILE).is_file():
        return [SubmissionSource(path.name, path, Kind.FOLDER)]
    return (_entry(child) for child in sorted(path.iterdir()) if _looks_like_one(child))


def _looks_like_one(path: Path) -> bool:
    if path.name.startswith((".", "__")):
        return False
    if path.is_dir():
        # A folder of Python files without plugin.py is a mistake worth a message, not silence.
        return (path / PLUGIN_FILE).is_file() or any(path.glob("*.py"))
    return path.suffix == ".py"


def _entry(path: Path) -> SubmissionSource:
    return (
        SubmissionSource(path.name, path, Kind.FOLDER)
        if path.is_dir()
        else SubmissionSource(path.stem, path, Kind.FILE)
    )


def _nothing_at(path: Path) -> Problem:
    if path.is_file():
        return problem(Code.NO_SUCH_PATH, where=str(path), expected="a .py file", got=f"a {path.suffix} file")
    return problem(Code.NO_SUBMISSIONS, where=str(path), got="neither NAME.py nor NAME/plugin.py")
