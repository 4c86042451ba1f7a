"""A submission's zip: the submission in it, and whether it is what its manifest says.

The zip itself is read by zip_reader.py; for an organizer in a process of its own (organizer/unpacking.py).
What it must hold: layout.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from starter.contract.competition import Limits
from starter.contract.errors import Code, Problem, Record, problem
from starter.contract.names import MANIFEST
from starter.contract.submissions import PLUGIN_FILE, Kind, SubmissionSource
from starter.submission.content import own_files, sha256_of_file, submission_digest
from starter.submission.layout import WANTED
from starter.submission.zip_reader import Extracted, Finding, extract


class PackedFile(Record):
    """One file of a manifest."""

    path: str
    """Relative to the submission."""
    bytes: int
    """Its length."""
    sha256: str
    """Its hash."""


class Manifest(Record):
    """What `starter pack` says of a zip; checked when it is read back."""

    schema_version: Literal[1] = 1
    """The version of this record."""
    name: str
    """The submission's name."""
    submission: str
    """The hash of all its files."""
    files: tuple[PackedFile, ...]
    """Every file."""
    versions: dict[str, str]
    """The kit, Python and torch that it was packed with."""


@dataclass(frozen=True)
class Unpacked:
    """What a zip holds."""

    source: SubmissionSource | None
    """The unpacked submission; None if there is none."""
    problems: tuple[Problem, ...] = ()
    """Everything that is wrong with the zip."""
    left_out: tuple[str, ...] = ()
    """What it holds besides the submission, for people."""


Extract = Callable[[Path, Path, int, int], Extracted]
"""zip_reader.extract, here or in another process."""


def unpack(path: Path, folder: Path, limits: Limits, *, extract: Extract = extract) -> Unpacked:
    """Unpack a submission's zip into an empty folder.

    Args:
        path: the zip; its name is the submission's.
        folder: where to.
        limits: how much it may hold.
        extract: what reads the zip; a stranger's is read in another process.
    """
    target = folder / path.stem
    findings, left_out = extract(path, target, limits.submission_files, limits.submission_mb * 2**20)
    if findings:
        return Unpacked(None, tuple(_problem(path.name, finding, limits) for finding in findings))
    if (target / PLUGIN_FILE).is_file():
        source = SubmissionSource(path.stem, target, Kind.FOLDER)
    else:
        (plugin,) = target.glob("*.py")
        source = SubmissionSource(path.stem, plugin, Kind.FILE)
    return Unpacked(source, tuple(_manifest_problems(path.name, source)), tuple(left_out))


def _problem(zip_name: str, finding: Finding, limits: Limits) -> Problem:
    code = Code(finding.code)
    wanted = {
        Code.TOO_LARGE: f"at most {limits.submission_files} files and {limits.submission_mb} MiB",
        Code.ARCHIVE_LAYOUT: WANTED,
    }
    where = f"{zip_name}: {finding.where}" if finding.where else zip_name
    return problem(code, where=where, expected=wanted.get(code, ""), got=finding.got)


def _manifest_problems(where: str, source: SubmissionSource) -> list[Problem]:
    """Compare an unpacked submission with its manifest, where it has one."""
    path = source.folder / MANIFEST
    if not path.is_file():
        return []
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        got = error.errors()[0]["msg"]
        return [problem(Code.MANIFEST_DIFFERS, where=f"{where}: {MANIFEST}", got=got)]
    wanted = {file.path: file.sha256 for file in manifest.files}
    found = {name: sha256_of_file(path) for name, path in own_files(source).items()}
    reasons = [(name, "missing") for name in wanted.keys() - found.keys()]
    reasons += [(name, "not in the manifest") for name in found.keys() - wanted.keys()]
    reasons += [
        (name, "different content") for name in wanted if found.get(name, wanted[name]) != wanted[name]
    ]
    if not reasons and manifest.submission != submission_digest(source):
        reasons = [(MANIFEST, f"the hash of the whole submission differs: {manifest.submission}")]
    return [
        problem(Code.MANIFEST_DIFFERS, where=f"{where}: {name}", got=reason)
        for name, reason in sorted(reasons)
    ]
