"""Find the entries of a batch: zips and plugins, their teams and times; and copy one to be run.

What is hashed is what runs: an entry is copied to a folder of ours first, and the copy is
hashed and evaluated.
"""

import contextlib
import csv
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from starter.contract.competition import Limits
from starter.contract.errors import Code, Problem, problem, usage_error
from starter.contract.names import entry_fault, normalized
from starter.contract.rules.calendar import placed
from starter.contract.submissions import PLUGIN_FILE, Kind, SubmissionSource
from starter.contract.text import Table, read_text
from starter.organizer.unpacking import extract_in_child
from starter.submission.archive import unpack
from starter.submission.content import sha256, submission_digest


@dataclass(frozen=True)
class EntrySource:
    """An entry as it lies on the disk."""

    team: str
    """Whose: the folder it lies in below the given path, or else its own name."""
    path: Path
    """A zip, NAME.py or a folder."""
    submitted_at: datetime
    """When its file was last written, or what the index says."""
    selected: bool = False
    """Whether the index says so."""
    is_zone_assumed: bool = False
    """Whether the index gives its time without an offset."""
    below: Path = Path()
    """The folder that was named, or the entry itself where it was."""

    @property
    def name(self) -> str:
        """The entry's name."""
        return _own_name(self.path)

    @property
    def kind(self) -> Kind:
        """A folder, or a file."""
        return Kind.FOLDER if self.path.is_dir() else Kind.FILE

    @property
    def links(self) -> list[str]:
        """What is a link in it, or on the way to it from the folder that was named."""
        way = [path for path in (self.path, *self.path.parents) if path.is_relative_to(self.below)]
        led = [path.relative_to(self.below) for path in reversed(way[:-1]) if path.is_symlink()]
        source = SubmissionSource(self.name, self.path, self.kind)
        within = sorted(self.path.rglob("*")) if self.kind is Kind.FOLDER else source.files()
        led = led or [path.relative_to(self.path.parent) for path in within if path.is_symlink()]
        return [path.as_posix() for path in led]


class _IndexRow(BaseModel):
    """One line of the index; an empty field says nothing."""

    model_config = ConfigDict(extra="forbid")

    path: str
    team: str | None = None
    submitted: datetime | None = None
    selected: bool | None = None

    @field_validator("submitted")
    @classmethod
    def _shown_once(cls, at: datetime | None, info: ValidationInfo) -> datetime | None:
        zone = info.context
        assert isinstance(zone, tzinfo)
        if at is not None:
            placed(at, zone)
        return at

    def applied_to(self, source: EntrySource, zone: tzinfo) -> EntrySource:
        at = self.submitted or source.submitted_at
        return replace(
            source,
            team=normalized(self.team or source.team),
            submitted_at=placed(at, zone),
            is_zone_assumed=at.tzinfo is None,
            selected=source.selected if self.selected is None else self.selected,
        )


def find(
    paths: Sequence[Path], index: Path | None = None, zone: tzinfo = UTC, *, partial: bool = False
) -> list[EntrySource]:
    """Find entries: what a path is, or else what lies in it or in its folders, which are teams.

    Args:
        paths: zips, plugins, folders of them, or folders of teams' folders of them.
        index: a CSV file with a column `path`, relative to it, and any of `team`,
            `submitted` (ISO 8601) and `selected` (yes or no).
        zone: what times of the index without an offset are of.
        partial: whether more may come: then it is no error that there is no entry yet, or not yet one
            that the index names.

    Raises:
        UsageError: a path or the index is wrong, or nothing is there.
    """
    sources: dict[Path, EntrySource] = {}
    for path in paths:
        if not path.exists():
            raise usage_error(Code.NO_SUCH_PATH, where=str(path), got="nothing there")
        for team, file in _entries(path.resolve()):
            sources.setdefault(file, EntrySource(team, file, _written_at(file), below=path.resolve()))
    if not sources and not partial:
        raise usage_error(Code.NO_SUBMISSIONS, where=", ".join(map(str, paths)), got="no entry")
    for path, row in _read_index(index, zone, partial=partial).items() if index else ():
        if path in sources:
            sources[path] = row.applied_to(sources[path], zone)
    return sorted(sources.values(), key=lambda s: (s.submitted_at, s.team, s.name))


def _entries(path: Path) -> Iterator[tuple[str, Path]]:
    if _is_entry(path):
        yield _own_name(path), path
        return
    for child in sorted(path.iterdir()) if path.is_dir() else ():
        if _is_entry(child):
            yield _own_name(child), child
        elif child.is_dir() and not child.name.startswith("."):
            yield from (
                (normalized(child.name), entry) for entry in sorted(child.iterdir()) if _is_entry(entry)
            )


def _own_name(path: Path) -> str:
    return normalized(path.name if path.is_dir() else path.stem)


def _is_entry(path: Path) -> bool:
    if path.name.startswith((".", "__")):
        return False
    if path.is_dir():
        return (path / PLUGIN_FILE).is_file()
    return path.suffix.lower() in {".zip", ".py"} and path.is_file()


def _written_at(path: Path) -> datetime:
    file = path / PLUGIN_FILE if path.is_dir() else path
    return datetime.fromtimestamp(file.lstat().st_mtime, UTC)


def _read_index(index: Path, zone: tzinfo, *, partial: bool) -> dict[Path, _IndexRow]:
    """Return what an index says of each path."""
    rows: dict[Path, _IndexRow] = {}
    line = 1
    try:
        table = Table(read_text(index))
        for fields in table.rows:
            line = table.line
            told = {name: text for name, text in fields.items() if text}
            row = _IndexRow.model_validate(told, context=zone)
            path = (index.resolve().parent / row.path).resolve()
            if not (path.exists() or partial):
                raise usage_error(Code.BAD_INDEX, where=f"{index}:{line}", got=f"no entry {row.path}")
            rows[path] = row
    except ValidationError as error:
        first = error.errors()[0]
        got = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise usage_error(Code.BAD_INDEX, where=f"{index}:{line}", got=got) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise usage_error(Code.BAD_INDEX, where=f"{index}:{line}", got=str(error)) from error
    return rows


@dataclass(frozen=True)
class StagedEntry:
    """An entry that has been copied to a folder of ours."""

    submission: str
    """The hash of its content."""
    source: SubmissionSource
    """The copy; the original where something is wrong with it."""
    problems: tuple[Problem, ...] = ()
    """Everything that is wrong with it: it cannot be run."""
    left_out: tuple[str, ...] = ()
    """What its zip holds besides the submission, for people."""


@contextlib.contextmanager
def staged(entry: EntrySource, limits: Limits) -> Iterator[StagedEntry]:
    """Copy an entry to a folder of ours, for as long as the context lasts."""
    original = SubmissionSource(entry.name, entry.path, entry.kind)
    if links := entry.links:
        where = str(entry.path)
        found = [problem(Code.LINKED_ENTRY, where=where, got=f"{name}: a link") for name in links[:20]]
        # What a link leads to is not read.
        yield StagedEntry(sha256(os.fsencode(entry.path)), original, tuple(found))
        return
    with tempfile.TemporaryDirectory(prefix="starter-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        left_out: tuple[str, ...] = ()
        if entry.path.suffix.lower() == ".zip" and entry.kind is Kind.FILE:
            unpacked = unpack(entry.path, folder, limits, extract=extract_in_child)
            source, problems, left_out = unpacked.source or original, unpacked.problems, unpacked.left_out
        else:
            problems = tuple(original.problems(limits))
            source = original if problems else _copied(original, folder)
        source = replace(source, name=entry.name)
        if not problems and entry_fault(entry.name):
            problems = tuple(source.problems(limits))
        yield StagedEntry(submission_digest(source), source, problems, left_out)


def _copied(source: SubmissionSource, folder: Path) -> SubmissionSource:
    above = source.path.parent
    for path in source.files():
        target = folder / path.relative_to(above)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(
            path, target, follow_symlinks=False
        )  # one that has become a link stays one: not its own
    return replace(source, path=folder / source.path.name)
