"""A submission's zip: what it must hold, and whether it is what its manifest says.

The zip itself is read by zip_reader.py; for an organizer in a process of its own (organizer/unpacking.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from starter.contract.competition import Limits
from starter.contract.errors import Code, Problem, problem
from starter.contract.names import MANIFEST
from starter.contract.results import Record
from starter.contract.submissions import PLUGIN_FILE, Kind, SubmissionSource
from starter.submission.content import own_files, sha256_of_file, submission_digest
from starter.submission.zip_reader import Finding, extract


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
    """The submission, unpacked; None where there is none."""
    problems: tuple[Problem, ...] = ()
    """Everything that is wrong with the zip."""


Extract = Callable[[Path, Path, int, int], list[Finding]]
"""zip_reader.extract, here or in another process."""


def unpack(path: Path, folder: Path, limits: Limits, *, extract: Extract = extract) -> Unpacked:
    """Unpack a submission's zip into an empty folder.

    A zip holds plugin.py and what belongs to it, at its top or in one folder; or NAME.py,
    perhaps with NAME.safetensors.

    Args:
        path: the zip; its name is the submission's.
        folder: where to.
        limits: how much it may hold.
        extract: what reads the zip; a stranger's is read in another process.
    """
    findings = extract(path, folder / path.stem, limits.submission_files, limits.submission_mb * 2**20)
    if findings:
        return Unpacked(None, tuple(_problem(path.name, finding, limits) for finding in findings))
    source = _layout(path, folder / path.stem)
    if isinstance(source, Problem):
        return Unpacked(None, (source,))
    return Unpacked(source, tuple(_manifest_problems(path.name, source)))


def _problem(zip_name: str, finding: Finding, limits: Limits) -> Problem:
    expected = f"at most {limits.submission_files} files and {limits.submission_mb} MiB"
    code = Code(finding.code)
    return problem(
        code,
        where=f"{zip_name}: {finding.where}" if finding.where else zip_name,
        expected=expected if code is Code.TOO_LARGE else "",
        got=finding.got,
    )


def _layout(path: Path, folder: Path) -> SubmissionSource | Problem:
    """Return the one submission in an unpacked folder."""
    name = path.stem
    top = sorted(child for child in folder.iterdir() if child.name != MANIFEST)
    if (folder / PLUGIN_FILE).is_file():
        return SubmissionSource(name, folder, Kind.FOLDER)
    if len(top) == 1 and (top[0] / PLUGIN_FILE).is_file():
        return SubmissionSource(name, top[0], Kind.FOLDER)
    plugins = [child for child in top if child.suffix == ".py" and child.is_file()]
    if len(plugins) == 1:
        others = [child for child in top if child not in {plugins[0], plugins[0].with_suffix(".safetensors")}]
        if not others:
            return SubmissionSource(name, plugins[0], Kind.FILE)
    got = ", ".join(child.name + "/" * child.is_dir() for child in top[:8]) or "nothing"
    if len(top) == 1 and top[0].suffix.lower() == ".zip":
        got = f"another zip, {got}"
    return problem(Code.ARCHIVE_LAYOUT, where=path.name, got=got)


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
    reasons += [(name, "another content") for name in wanted if found.get(name, wanted[name]) != wanted[name]]
    if not reasons and manifest.submission != submission_digest(source):
        reasons = [(MANIFEST, f"another hash of the whole: {manifest.submission}")]
    return [
        problem(Code.MANIFEST_DIFFERS, where=f"{where}: {name}", got=reason)
        for name, reason in sorted(reasons)
    ]
