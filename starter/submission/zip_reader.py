"""Read a stranger's zip: check every member before anything is written, then write plain files.

Nothing in a zip is trusted: not its paths, its sizes, its counts or its flags. Standard library only:
organizer/unpacking.py runs this in a small, limited process, which has nothing else to load.
"""

import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from starter.contract.names import is_ignored, normalized, path_fault

DAMAGED, UNSAFE, TOO_LARGE = "E111", "E112", "E110"
"""Codes of contract/errors.py, whose records are not loaded here."""

_CHUNK = 1 << 20
_MAX_NAME, _MAX_PART = 500, 200
_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\5\6"
_LOCATOR, _LOCATOR_SIGNATURE = struct.Struct("<4sLQL"), b"PK\6\7"
_END64, _END64_SIGNATURE = struct.Struct("<4sQ2H2L4Q"), b"PK\6\6"
"""Of zip64: the record, and where it is. APPNOTE.TXT 6.3.10, 4.3.14 to 4.3.16."""
BYTES_PER_ENTRY = 2048
"""More than a member's line in the directory of a zip can honestly take."""


class Finding(NamedTuple):
    """One thing that is wrong with a zip."""

    code: str
    """DAMAGED, UNSAFE or TOO_LARGE."""
    where: str
    """The member; nothing where it is the whole zip."""
    got: str
    """What was found."""


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


def extract(path: Path, folder: Path, most_files: int, most_bytes: int) -> list[Finding]:
    """Write a zip's files to a new folder; return what is wrong with it, and then the folder is not whole.

    Args:
        path: the zip.
        folder: where to; its parent exists.
        most_files: how many files it may hold, and how many folders.
        most_bytes: how large they may be together.
    """
    too_long = _directory_finding(path, most_files, most_bytes)
    if too_long is not None:
        return [too_long]
    try:
        with zipfile.ZipFile(path) as archive:
            members = [i for i in archive.infolist() if not is_ignored(PurePosixPath(i.filename))]
            findings = [*_member_findings(members), *_size_findings(members, most_files, most_bytes)]
            if not findings:
                _write(archive, members, folder)
    except _EXPECTED as error:
        return [Finding(DAMAGED, "", str(error) or type(error).__name__)]
    return findings


def _directory_finding(path: Path, most_files: int, most_bytes: int) -> Finding | None:
    """Return what is wrong before the library reads the whole directory of a zip into memory."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _END.size - 0xFFFF))
        tail = file.read()
    place = tail.rfind(_END_SIGNATURE)
    if place < 0 or len(tail) - place < _END.size:
        return Finding(DAMAGED, "", "not a zip file, or cut off")
    _, _, _, _, count, length, start, _ = _END.unpack_from(tail, place)
    if _contradicts(path, size - len(tail) + place, (count, length, start)):
        return Finding(DAMAGED, "", "two end records that say different things")
    if size > most_bytes + length:
        return Finding(TOO_LARGE, "", f"a zip of {size / 2**20:.1f} MiB")
    if count == 0xFFFF or length == 0xFFFFFFFF or length > most_files * BYTES_PER_ENTRY:
        return Finding(TOO_LARGE, "", f"a directory of {length:,} bytes for {count:,} files")
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


def _size_findings(members: list[zipfile.ZipInfo], most_files: int, most_bytes: int) -> list[Finding]:
    files = [m for m in members if not m.filename.endswith("/")]
    folders = {m.filename.rstrip("/") for m in members if m.filename.endswith("/")}
    total = sum(m.file_size for m in files)
    for member in members:  # a folder costs as much as a file, whether it is a member or only in a path
        folders.update(str(above) for above in PurePosixPath(member.filename).parents[:-1])
        if len(folders) > most_files:
            break
    most = max(len(files), len(folders))
    if most <= most_files and total <= most_bytes:
        return []
    largest = sorted(files, key=lambda m: -m.file_size)[:3]
    named = ", ".join(f"{m.filename} {m.file_size / 2**20:.1f} MiB" for m in largest)
    more = " or more" if len(folders) > most_files else ""
    got = f"{len(files)} files in {len(folders)}{more} folders, {total / 2**20:.1f} MiB; the largest: {named}"
    return [Finding(TOO_LARGE, "", got)]


def _member_findings(members: list[zipfile.ZipInfo]) -> list[Finding]:
    """Return every member that a submission may not have, with the reason."""
    reasons = [(m.orig_filename, reason) for m in members if (reason := _member_problem(m))]
    files = [normalized(m.filename).casefold() for m in members if not m.filename.endswith("/")]
    reasons += [(name, "twice, or in two spellings") for name, n in Counter(files).items() if n > 1]
    folders = {str(above) for name in files for above in PurePosixPath(name).parents}
    reasons += [(name, "a file and a folder") for name in files if name in folders]
    spans = sorted((m.header_offset, m.compress_size, m.filename) for m in members)
    for (start, length, _), (following, _, name) in pairwise(spans):
        if start + length > following:
            reasons.append((name, "overlaps another member"))
    return [Finding(UNSAFE, repr(name[:100]), reason) for name, reason in reasons[:20]]


def _member_problem(member: zipfile.ZipInfo) -> str:
    """Say what keeps a member out; nothing if nothing does."""
    name = member.orig_filename
    path = PurePosixPath(name)
    kind = stat.S_IFMT(member.external_attr >> 16)
    length = max(
        len(name.encode()) - (_MAX_NAME - _MAX_PART), *(len(part.encode()) for part in path.parts), 0
    )
    reasons = {
        f"{path_fault(name)} in its name": path_fault(name) != "",
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


def _write(archive: zipfile.ZipFile, members: Iterable[zipfile.ZipInfo], folder: Path) -> None:
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
