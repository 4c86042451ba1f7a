"""Read a stranger's zip: check every member before anything is written, then write the submission's files.

Nothing in a zip is trusted: not its paths, its sizes, its counts or its flags. What is left out (layout.py)
counts like everything else. Standard library only: organizer/unpacking.py runs this in a small, limited
process, which has nothing else to load.
"""

import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, pairwise
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from starter.contract.names import litter, normalized, path_fault
from starter.submission.layout import layout, named

DAMAGED, UNSAFE, TOO_LARGE, LAYOUT = "E111", "E112", "E110", "E113"
"""Codes of contract/errors.py, whose records are not loaded here."""

_CHUNK = 1 << 20
_HEAD = 1 << 20
"""Of a Python file, where the hook is looked for."""
_HOOK = b"starter_submission"
_MAX_PATH, _MAX_NAME, _MAX_PART = 4096, 500, 200
_MOST_FINDINGS = 20
_UTF8_FLAG, _FOLDER_FLAG = 0x800, 0x10
_HANGUL = re.compile(rb"(?:[\x00-\x7f]|[\xb0-\xc8][\xa1-\xfe])+")
"""Korean in code page 949: bytes that code page 437, which a zip's names are in, has frames of tables for."""
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
    """DAMAGED, UNSAFE, TOO_LARGE or LAYOUT."""
    where: str
    """The member; nothing where it is the whole zip."""
    got: str
    """What was found."""


class Extracted(NamedTuple):
    """What became of a zip."""

    findings: list[Finding]
    """Everything that is wrong with it; then its folder is not whole."""
    left_out: list[str]
    """What is none of the submission's, for people: files, and folders with the number of their files."""


class Member(NamedTuple):
    """One member of a zip."""

    info: zipfile.ZipInfo
    """What the zip says of it."""
    name: str
    """Its path as every system means it: no backslash, no `.` and no empty part."""
    is_folder: bool
    """Whether it is a folder's entry; it holds nothing."""

    @classmethod
    def of(cls, info: zipfile.ZipInfo) -> "Member":
        """Return a member with its plain name; whether it is a safe one is asked later."""
        path = _decoded(info).replace("\\", "/")
        marked = stat.S_ISDIR(info.external_attr >> 16) or info.external_attr & _FOLDER_FLAG
        is_folder = path.endswith("/") or (bool(marked) and info.file_size == 0)
        return cls(info, "/".join(part for part in path.split("/") if part not in {"", "."}), is_folder)


def _decoded(info: zipfile.ZipInfo) -> str:
    """Return a member's name; without the flag for UTF-8 it may be that yet (macOS), or Korean (Windows)."""
    name = info.orig_filename
    if name.isascii() or info.flag_bits & _UTF8_FLAG:
        return name
    written = name.encode("cp437")
    try:
        return written.decode()
    except UnicodeDecodeError:
        return written.decode("cp949") if _HANGUL.fullmatch(written) else name


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


def extract(path: Path, folder: Path, most_files: int, most_bytes: int) -> Extracted:
    """Write the files of a zip's one submission to a new folder, the plugin at its top.

    Args:
        path: the zip.
        folder: where to; its parent exists.
        most_files: how many files it may hold, and how many folders.
        most_bytes: how large they may be together.
    """
    too_long = _directory_finding(path, most_files, most_bytes)
    if too_long is not None:
        return Extracted([too_long], [])
    try:
        with zipfile.ZipFile(path) as archive:
            members = list(map(Member.of, archive.infolist()))
            faults = _found((m.info.orig_filename, fault) for m in members if (fault := _member_fault(m)))
            findings = [*faults, *_size_findings(members, most_files, most_bytes)]
            findings = findings or _found(_clashes(members))  # whose paths are few enough now
            return Extracted(findings, []) if findings else _extract(archive, members, folder)
    except _EXPECTED as error:
        return Extracted([Finding(DAMAGED, "", str(error) or type(error).__name__)], [])


def _extract(archive: zipfile.ZipFile, members: list[Member], folder: Path) -> Extracted:
    """Choose the submission's files of a zip without a dangerous member, check their names and write them."""
    files = {member.name: member.info for member in members if not member.is_folder}
    own = [name for name in files if litter(PurePosixPath(name)) is None]

    def has_hook(name: str) -> bool:
        with archive.open(files[name]) as file:
            return _HOOK in file.read(_HEAD)

    found = layout(own, has_hook)
    if found.wrong:
        return Extracted([Finding(LAYOUT, "", found.wrong)], [])
    inside = {name: name.removeprefix(f"{found.folder}/") for name in found.files}
    findings = _found((name, fault) for name, own in inside.items() if (fault := _name_fault(own)))
    if not findings:
        _write(archive, {own: files[name] for name, own in inside.items()}, folder)
    return Extracted(findings, named(files.keys() - inside.keys(), found.folder))


def _directory_finding(path: Path, most_files: int, most_bytes: int) -> Finding | None:
    """Return what is wrong before the library reads the whole directory of a zip into memory."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _END.size - 0xFFFF))
        tail = file.read()
    place = tail.rfind(_END_SIGNATURE)
    if place < 0 or len(tail) - place < _END.size:
        return Finding(DAMAGED, "", "not a zip file, or truncated")
    _, _, _, _, count, length, start, _ = _END.unpack_from(tail, place)
    if _contradicts(path, size - len(tail) + place, (count, length, start)):
        return Finding(DAMAGED, "", "two end records that contradict each other")
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


def _size_findings(members: list[Member], most_files: int, most_bytes: int) -> list[Finding]:
    files = [m for m in members if not m.is_folder]
    folders = {m.name for m in members if m.is_folder}
    total = sum(m.info.file_size for m in members)
    for member in members:  # a folder costs as much as a file, whether it is a member or only in a path
        folders.update(str(above) for above in PurePosixPath(member.name[:_MAX_PATH]).parents[:-1])
        if len(folders) > most_files:
            break
    most = max(len(files), len(folders))
    if most <= most_files and total <= most_bytes:
        return []
    largest = sorted(files, key=lambda m: -m.info.file_size)[:3]
    named = ", ".join(f"{m.name[:100]} {m.info.file_size / 2**20:.1f} MiB" for m in largest)
    more = " or more" if len(folders) > most_files else ""
    got = f"{len(files)} files in {len(folders)}{more} folders, {total / 2**20:.1f} MiB; the largest: {named}"
    return [Finding(TOO_LARGE, "", got)]


def _clashes(members: list[Member]) -> Iterator[tuple[str, str]]:
    """Yield members that conflict with another one, with the reason."""
    contents: dict[str, set[tuple[int, int]]] = {}
    for name, info in ((m.name, m.info) for m in members if not m.is_folder):
        contents.setdefault(name, set()).add((info.CRC, info.file_size))
    yield from (
        (name, "occurs twice, with different content") for name, found in contents.items() if len(found) > 1
    )
    files = {name: PurePosixPath(name) for name in contents if litter(PurePosixPath(name)) is None}
    spelled: dict[str, str] = {}
    for way in (str(way) for path in files.values() for way in (path, *path.parents)):
        first = spelled.setdefault(normalized(way).casefold(), way)
        if first != way:
            yield way, f"occurs twice, in two spellings: {first[:100]!r}"
    folders = {m.name for m in members if m.is_folder}
    folders.update(str(above) for path in files.values() for above in path.parents)
    yield from ((name, "a file and a folder") for name in files if name in folders)
    spans = sorted((m.info.header_offset, m.info.compress_size, m.name) for m in members)
    for (start, length, _), (following, _, name) in pairwise(spans):
        if start + length > following:
            yield name, "overlaps another member"


def _found(reasons: Iterable[tuple[str, str]]) -> list[Finding]:
    """Return what a zip may not have, each once and not too many: there may be thousands."""
    first = islice(dict.fromkeys(reasons), _MOST_FINDINGS)
    return [Finding(UNSAFE, repr(name[:100]), reason) for name, reason in first]


def _member_fault(member: Member) -> str:
    """Say why a zip may not have a member; nothing where it may."""
    info, path = member.info, PurePosixPath(member.name)
    written = _decoded(info).replace("\\", "/")
    kind = stat.S_IFMT(info.external_attr >> 16)
    reasons = {
        "a control character in its name": any(unicodedata.category(c) == "Cc" for c in written),
        "a path that leads outside the folder": ":" in written or ".." in path.parts or written[:1] == "/",
        "no name": not (member.name or member.is_folder),
        f"a name of {len(written.encode())} bytes": len(written.encode()) > _MAX_PATH,
        "encrypted": bool(info.flag_bits & 1),
        "a link": stat.S_ISLNK(kind),
        "a special file": kind not in {0, stat.S_IFREG, stat.S_IFDIR},
        f"compression method {info.compress_type}: neither stored nor deflated": info.compress_type
        not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED},
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _name_fault(name: str) -> str:
    """Say why a submission's own file may not have a name; nothing where it may."""
    if fault := path_fault(name):
        return f"{fault} in its name"
    length = max(
        len(name.encode()) - (_MAX_NAME - _MAX_PART), *(len(part.encode()) for part in name.split("/"))
    )
    return f"a name of {len(name.encode())} bytes" if length > _MAX_PART else ""


def _write(archive: zipfile.ZipFile, files: Mapping[str, zipfile.ZipInfo], folder: Path) -> None:
    """Write files; the library stops each at its declared size, which has been checked."""
    folder.mkdir()
    for name, info in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(info) as member_file, target.open("xb") as file:
            while chunk := member_file.read(_CHUNK):
                file.write(chunk)
        if target.stat().st_size != info.file_size:
            raise zipfile.BadZipFile(f"{name} is shorter than its header says")
