"""Read a submission out of a stranger's zip, and hash submissions by what they contain.

Nothing in a zip is trusted: not its paths, its sizes, its counts or its flags. Members are
checked before anything is written, written under names of ours only as plain files, and
counted while they are read. Nothing of it is run.
"""

import stat
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import ValidationError

from starter.contract.competition import Limits
from starter.contract.errors import Code, Problem, problem
from starter.contract.results import Record
from starter.contract.submissions import PLUGIN_FILE, Kind, SubmissionSource
from starter.submission.content import MANIFEST, is_ignored, own_files, sha256_of_file, submission_digest

_CHUNK = 1 << 20
_MAX_NAME, _MAX_PART = 500, 200
_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\5\6"
_LOCATOR, _LOCATOR_SIGNATURE = struct.Struct("<4sLQL"), b"PK\6\7"
_END64, _END64_SIGNATURE = struct.Struct("<4sQ2H2L4Q"), b"PK\6\6"
"""Of zip64: the record, and where it is. APPNOTE.TXT 6.3.10, 4.3.14 to 4.3.16."""
_BYTES_PER_ENTRY = 2048
"""More than a member's line in the directory of a zip can honestly take."""


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


def unpack(path: Path, folder: Path, limits: Limits) -> Unpacked:
    """Unpack a submission's zip into an empty folder.

    A zip holds plugin.py and what belongs to it, at its top or in one folder; or NAME.py,
    perhaps with NAME.safetensors.

    Args:
        path: the zip; its name is the submission's.
        folder: where to.
        limits: how much it may hold.
    """
    too_long = _directory_problem(path, limits)
    if too_long is not None:
        return Unpacked(None, (too_long,))
    try:
        with zipfile.ZipFile(path) as archive:
            members = [i for i in archive.infolist() if not is_ignored(PurePosixPath(i.filename))]
            problems = [*_member_problems(path.name, members), *_size_problems(path.name, members, limits)]
            if not problems:
                _extract(archive, members, folder / path.stem)
    except _EXPECTED as error:
        problems = [problem(Code.BAD_ARCHIVE, where=path.name, got=str(error) or type(error).__name__)]
    if problems:
        return Unpacked(None, tuple(problems))
    source = _layout(path, folder / path.stem)
    if isinstance(source, Problem):
        return Unpacked(None, (source,))
    return Unpacked(source, tuple(_manifest_problems(path.name, source)))


# What the library raises on damaged zips; a password, another method and a lie about a size are among it.
_EXPECTED = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,
    ValueError,
    struct.error,
    UnicodeError,
    OverflowError,
)


def _directory_problem(path: Path, limits: Limits) -> Problem | None:
    """Return what is wrong before the library reads the whole directory of a zip into memory."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _END.size - 0xFFFF))
        tail = file.read()
    place = tail.rfind(_END_SIGNATURE)
    if place < 0 or len(tail) - place < _END.size:
        return problem(Code.BAD_ARCHIVE, where=path.name, got="not a zip file, or cut off")
    _, _, _, _, count, length, start, _ = _END.unpack_from(tail, place)
    if _contradicts(path, size - len(tail) + place, (count, length, start)):
        return problem(Code.BAD_ARCHIVE, where=path.name, got="two end records that say different things")
    if size > limits.submission_mb * 2**20 + length:
        return _too_large(path.name, limits, f"a zip of {size / 2**20:.1f} MiB")
    if count == 0xFFFF or length == 0xFFFFFFFF or length > limits.submission_files * _BYTES_PER_ENTRY:
        return _too_large(path.name, limits, f"a directory of {length:,} bytes for {count:,} files")
    return None


def _contradicts(path: Path, end: int, classic: tuple[int, int, int]) -> bool:
    """Say whether a zip64 record, which the library would believe, differs from the classic end record.

    Args:
        path: the zip.
        end: where its classic end record begins.
        classic: the count of members, and the length and place of the directory, as that record says.
    """
    with path.open("rb") as file:
        file.seek(max(0, end - _LOCATOR.size))
        head = file.read(_LOCATOR.size)
        if len(head) < _LOCATOR.size or not head.startswith(_LOCATOR_SIGNATURE):
            return False
        _, _, place, _ = _LOCATOR.unpack(head)
        file.seek(min(place, end))
        record = file.read(_END64.size)
    if len(record) < _END64.size or not record.startswith(_END64_SIGNATURE):
        return True
    return classic != _END64.unpack(record)[-3:]


def _too_large(where: str, limits: Limits, got: str) -> Problem:
    expected = f"at most {limits.submission_files} files and {limits.submission_mb} MiB"
    return problem(Code.TOO_LARGE, where=where, expected=expected, got=got)


def _size_problems(where: str, members: list[zipfile.ZipInfo], limits: Limits) -> list[Problem]:
    files = [m for m in members if not m.filename.endswith("/")]
    folders = {m.filename.rstrip("/") for m in members if m.filename.endswith("/")}
    total = sum(m.file_size for m in files)
    for member in members:  # a folder costs as much as a file, whether it is a member or only in a path
        folders.update(str(above) for above in PurePosixPath(member.filename).parents[:-1])
        if len(folders) > limits.submission_files:
            break
    most = max(len(files), len(folders))
    if most <= limits.submission_files and total <= limits.submission_mb * 2**20:
        return []
    largest = sorted(files, key=lambda m: -m.file_size)[:3]
    named = ", ".join(f"{m.filename} {m.file_size / 2**20:.1f} MiB" for m in largest)
    more = " or more" if len(folders) > limits.submission_files else ""
    got = f"{len(files)} files in {len(folders)}{more} folders, {total / 2**20:.1f} MiB; the largest: {named}"
    return [_too_large(where, limits, got)]


def _member_problems(where: str, members: list[zipfile.ZipInfo]) -> list[Problem]:
    """Return every member that a submission may not have, with the reason."""
    reasons = [(m.orig_filename, reason) for m in members if (reason := _member_problem(m))]
    files = [
        unicodedata.normalize("NFC", m.filename).casefold() for m in members if not m.filename.endswith("/")
    ]
    reasons += [(name, "twice, or in two spellings") for name, n in Counter(files).items() if n > 1]
    folders = {str(above) for name in files for above in PurePosixPath(name).parents}
    reasons += [(name, "a file and a folder") for name in files if name in folders]
    spans = sorted((m.header_offset, m.compress_size, m.filename) for m in members)
    for (start, length, _), (following, _, name) in pairwise(spans):
        if start + length > following:
            reasons.append((name, "overlaps another member"))
    return [
        problem(Code.UNSAFE_ARCHIVE, where=f"{where}: {name[:100]!r}", got=reason)
        for name, reason in reasons[:20]
    ]


def _member_problem(member: zipfile.ZipInfo) -> str:
    """Say what keeps a member out; nothing if nothing does."""
    name = member.orig_filename
    path = PurePosixPath(name)
    kind = stat.S_IFMT(member.external_attr >> 16)
    length = max(
        len(name.encode()) - (_MAX_NAME - _MAX_PART), *(len(part.encode()) for part in path.parts), 0
    )
    reasons = {
        "a control character in its name": any(unicodedata.category(c).startswith("C") for c in name),
        "a path that leads out of the folder": "\\" in name
        or ":" in name
        or ".." in path.parts
        or name[:1] == "/",
        "not a plain relative path": str(path) != name.rstrip("/") or name in {"", "."},
        f"a name of {len(name.encode())} bytes": length > _MAX_PART,
        "encrypted": bool(member.flag_bits & 1),
        "a link": stat.S_ISLNK(kind),
        "a special file": kind not in {0, stat.S_IFREG, stat.S_IFDIR},
        f"compression method {member.compress_type}: neither stored nor deflated": member.compress_type
        not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED},
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _extract(archive: zipfile.ZipFile, members: Iterable[zipfile.ZipInfo], folder: Path) -> None:
    """Write the members; the library stops each at its declared size, which has been checked."""
    folder.mkdir()
    for member in members:
        target = folder / member.filename
        if member.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as member_file, target.open("xb") as file:
            while chunk := member_file.read(_CHUNK):
                file.write(chunk)
        if target.stat().st_size != member.file_size:
            raise zipfile.BadZipFile(f"{member.filename} is shorter than it says")


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
    if len(top) == 1 and zipfile.is_zipfile(top[0]):
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
