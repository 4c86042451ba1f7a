"""Zips of strangers: what is accepted, what is refused and why, and that nothing gets out of the folder."""

import io
import random
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starter.contract.competition import Limits
from starter.contract.errors import Code
from starter.contract.names import MANIFEST
from starter.contract.submissions import Kind, SubmissionSource
from starter.submission.archive import Manifest, PackedFile, Unpacked, unpack
from starter.submission.content import own_files, sha256, submission_digest, submission_files
from starter.submission.layout import WANTED

LIMITS = Limits(submission_mb=2, submission_files=20)
PLUGIN = b"# a plugin\n"
Members = list[tuple[str | zipfile.ZipInfo, bytes]]


def make(members: Members) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes | Members], Unpacked]:
    """Unpack a zip named entry.zip, and see that nothing was written beside its folder."""

    def unpacked(content: bytes | Members) -> Unpacked:
        path, folder = tmp_path / "entry.zip", tmp_path / "out" / "folder"
        path.write_bytes(content if isinstance(content, bytes) else make(content))
        folder.mkdir(parents=True)
        found = unpack(path, folder, LIMITS)
        assert {p.name for p in tmp_path.iterdir()} == {"entry.zip", "out"}
        assert list((tmp_path / "out").iterdir()) == [folder]
        return found

    return unpacked


def info(name: str, *, mode: int = 0, **fields: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.external_attr = mode << 16
    for field, value in fields.items():
        setattr(member, field, value)
    return member


def raw(name: str) -> zipfile.ZipInfo:
    """Return a member whose name the library does not clean first: as tools on other systems write it."""
    member = zipfile.ZipInfo("x")
    member.filename = name
    return member


@pytest.mark.parametrize(
    "members",
    [
        [("plugin.py", PLUGIN), ("weights.safetensors", b"w"), ("data/table.json", b"{}")],
        [("folder/plugin.py", PLUGIN), ("folder/network.py", b"")],
        [("any name.py", PLUGIN), ("any name.safetensors", b"w")],
        [("한국어/plugin.py", PLUGIN), ("__MACOSX/한국어/._plugin.py", b"x"), ("한국어/.DS_Store", b"x")],
        [
            (info("f/", mode=stat.S_IFDIR | 0o755), b""),
            (info("f/plugin.py", mode=stat.S_IFREG | 0o4777), PLUGIN),
        ],
    ],
)
def test_honest_layouts_are_read(read: Callable[..., Unpacked], members: Members) -> None:
    found = read(members)

    assert found.problems == ()
    assert found.source is not None
    assert found.source.name == "entry"
    assert found.source.file.read_bytes() == PLUGIN
    assert all(path.stat().st_mode & 0o7111 == 0 for path in found.source.files())


LINK = info("plugin.py", mode=stat.S_IFLNK | 0o777)
REFUSED: dict[str, tuple[Members, Code, str]] = {
    "zip slip": ([("plugin.py", PLUGIN), ("../evil.py", b"x")], Code.UNSAFE_ARCHIVE, "leads out"),
    "deep slip": ([("plugin.py", PLUGIN), ("a/../../evil.py", b"x")], Code.UNSAFE_ARCHIVE, "leads out"),
    "absolute": ([("plugin.py", PLUGIN), ("/tmp/evil.py", b"x")], Code.UNSAFE_ARCHIVE, "leads out"),  # noqa: S108
    "drive": ([("plugin.py", PLUGIN), ("C:/evil.py", b"x")], Code.UNSAFE_ARCHIVE, "leads out"),
    "backslash": ([("plugin.py", PLUGIN), ("..\\evil.py", b"x")], Code.UNSAFE_ARCHIVE, "leads out"),
    "control character": ([("plugin.py", PLUGIN), ("a\x1b[2Jb.py", b"x")], Code.UNSAFE_ARCHIVE, "control"),
    "right to left": ([("plugin.py", PLUGIN), ("a\u202eyp.txt", b"x")], Code.UNSAFE_ARCHIVE, "control"),
    "drive, backslash": (
        [("plugin.py", PLUGIN), (raw("C:\\a.py"), b"x")],
        Code.UNSAFE_ARCHIVE,
        "leads out",
    ),
    "share": ([("plugin.py", PLUGIN), (raw("\\\\host\\a.py"), b"x")], Code.UNSAFE_ARCHIVE, "leads out"),
    "below": (
        [("plugin.py", PLUGIN), (raw("a\\..\\..\\b"), b"x")],
        Code.UNSAFE_ARCHIVE,
        "leads out",
    ),
    "dot and slip": ([("plugin.py", PLUGIN), ("./../b", b"x")], Code.UNSAFE_ARCHIVE, "leads out"),
    "null": ([("plugin.py", PLUGIN), (raw("plugin.py\0.txt"), b"x")], Code.UNSAFE_ARCHIVE, "control"),
    "dots alone": ([("plugin.py", PLUGIN), (raw("./."), b"x")], Code.UNSAFE_ARCHIVE, "no name"),
    "link": ([(LINK, b"/etc/passwd")], Code.UNSAFE_ARCHIVE, "a link"),
    "pipe": ([(info("plugin.py", mode=stat.S_IFIFO | 0o644), b"")], Code.UNSAFE_ARCHIVE, "special"),
    "device": ([(info("plugin.py", mode=stat.S_IFBLK | 0o644), b"")], Code.UNSAFE_ARCHIVE, "special"),
    "case": ([("plugin.py", PLUGIN), ("Plugin.py", b"x")], Code.UNSAFE_ARCHIVE, "twice"),
    "case of a folder": ([("a/plugin.py", PLUGIN), ("A/x.bin", b"x")], Code.UNSAFE_ARCHIVE, "two spellings"),
    "two contents": (
        [("plugin.py", PLUGIN), ("./plugin.py", b"x")],
        Code.UNSAFE_ARCHIVE,
        "different content",
    ),
    "unicode": (
        [("plugin.py", PLUGIN), *((unicodedata.normalize(f, "é.py"), b"x") for f in ("NFC", "NFD"))],
        Code.UNSAFE_ARCHIVE,
        "twice",
    ),
    "file and folder": ([("plugin.py", PLUGIN), ("a", b"x"), ("a/b", b"x")], Code.UNSAFE_ARCHIVE, "a folder"),
    "long": ([("plugin.py", PLUGIN), ("n" * 300, b"x")], Code.UNSAFE_ARCHIVE, "300 bytes"),
    "method": ([(info("plugin.py", compress_type=zipfile.ZIP_LZMA), PLUGIN)], Code.UNSAFE_ARCHIVE, "14"),
    "bomb": ([("plugin.py", PLUGIN), ("zeros.bin", bytes(3 * 2**20))], Code.TOO_LARGE, "zeros.bin 3.0 MiB"),
    "many": ([("plugin.py", PLUGIN), *((f"f{i}", b"") for i in range(30))], Code.TOO_LARGE, "31 files"),
    "nothing": ([], Code.ARCHIVE_LAYOUT, "nothing"),
    "no plugin": ([("readme.md", b"x"), ("notes/a", b"x")], Code.ARCHIVE_LAYOUT, "notes/a, readme.md"),
    "two plugins": ([("a.py", PLUGIN), ("b.py", PLUGIN)], Code.ARCHIVE_LAYOUT, "a.py, b.py"),
    "two folders": (
        [("a/plugin.py", PLUGIN), ("b/plugin.py", b"")],
        Code.ARCHIVE_LAYOUT,
        "a/plugin.py, b/plugin.py",
    ),
    "two shapes": (
        [("a/plugin.py", PLUGIN), ("b.py", b"def starter_submission(): ...")],
        Code.ARCHIVE_LAYOUT,
        "2 plugins: a/plugin.py, b.py",
    ),
    "weights apart": (
        [("a/plugin.py", PLUGIN), ("best.safetensors", b"w")],
        Code.ARCHIVE_LAYOUT,
        "a/plugin.py, and weights that it would not load: best.safetensors",
    ),
    "weights of another name": (
        [("net.py", PLUGIN), ("weights.safetensors", b"w")],
        Code.ARCHIVE_LAYOUT,
        "net.py, and weights that it would not load: weights.safetensors",
    ),
    "litter alone": ([(".git/hooks/plugin.py", PLUGIN), ("._net.py", b"x")], Code.ARCHIVE_LAYOUT, "nothing"),
    "nested": ([("a.zip", make([("plugin.py", PLUGIN)]))], Code.ARCHIVE_LAYOUT, "another zip"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", REFUSED)
def test_what_a_submission_may_not_hold_is_refused_with_its_reason(
    read: Callable[..., Unpacked], name: str
) -> None:
    members, code, reason = REFUSED[name]
    found = read(members)

    assert found.source is None
    assert {p.code for p in found.problems} == {code}
    assert reason in found.problems[0].got


TAKEN: dict[str, tuple[Members, list[str], list[str]]] = {
    "PowerShell": ([(raw("net\\plugin.py"), PLUGIN), (raw("net\\data\\a.json"), b"x")], ["data/a.json"], []),
    "folders of PowerShell": ([(raw("net\\"), b""), (raw("net\\plugin.py"), PLUGIN)], [], []),
    "folders by their attribute": (
        [(info("net", mode=stat.S_IFDIR), b""), ("net/plugin.py", PLUGIN)],
        [],
        [],
    ),
    "dots": ([(raw("./"), b""), (raw("./plugin.py"), PLUGIN), (raw(".//a/./b.bin"), b"x")], ["a/b.bin"], []),
    "the same twice": ([("plugin.py", PLUGIN), ("./plugin.py", PLUGIN)], [], []),
    "folders too many": (
        [("a/", b""), ("a/b/", b""), ("a/b/plugin.py", PLUGIN), ("a/b/w.safetensors", b"w")],
        ["w.safetensors"],
        [],
    ),
    "macOS": (
        [("net.py", PLUGIN), ("._net.py", b"x"), ("__MACOSX/._net.py", b"x"), ("__MACOSX/._a", b"x")],
        [],
        ["._net.py", "__MACOSX/ (2 files)"],
    ),
    "litter among the files": (
        [
            ("net/plugin.py", PLUGIN),
            ("net/a/x.py", b"x"),
            *((f"net/{name}", b"x") for name in (".git/plugin.py", ".idea/a", "a/.DS_Store", "THUMBS.DB")),
            *((f"net/{name}", b"x") for name in (".ipynb_checkpoints/plugin-checkpoint.py", "desktop.ini")),
            ("net/__pycache__/plugin.cpython-311.pyc", b"x"),
        ],
        ["a/x.py"],
        [
            "net/.git/",
            "net/.idea/",
            "net/.ipynb_checkpoints/",
            "net/THUMBS.DB",
            "net/__pycache__/",
            "net/a/.DS_Store",
            "net/desktop.ini",
        ],
    ),
    "documents beside a file": (
        [
            ("x/net.py", PLUGIN),
            ("x/net.safetensors", b"w"),
            *((f"x/{name}", b"x") for name in ("README.md", "LICENSE", "requirements.txt", "a.ipynb")),
        ],
        ["net.safetensors"],
        ["x/LICENSE", "x/README.md", "x/a.ipynb", "x/requirements.txt"],
    ),
    "documents beside plugin.py are its own": (
        [("plugin.py", PLUGIN), ("README.md", b"x"), ("a.png", b"x")],
        ["README.md", "a.png"],
        [],
    ),
    "a repository": (
        [
            ("repo/README.md", b"x"),
            ("repo/train.py", b"import torch"),
            ("repo/docs/a.md", b"x"),
            ("repo/docs/b.md", b"x"),
            ("repo/submissions/net/plugin.py", PLUGIN),
            ("repo/submissions/net/sub/plugin.py", b"x"),
        ],
        ["sub/plugin.py"],
        ["repo/README.md", "repo/docs/ (2 files)", "repo/train.py"],
    ),
    "more weights than its own": (
        [("net.py", PLUGIN), ("net.safetensors", b"w"), ("old.safetensors", b"w")],
        ["net.safetensors"],
        ["old.safetensors"],
    ),
    "any script in what is left out": (
        [("net.py", PLUGIN), ("\u0430dmin ⅷ.txt", b"x"), ("n" * 300, b"x")],
        [],
        ["n" * 100, "\u0430dmin ⅷ.txt"],
    ),
    "many left out": (
        [("net.py", PLUGIN), *((f"{i:02d}.md", b"x") for i in range(19))],
        [],
        [f"{i:02d}.md" for i in range(19)],
    ),
}
"""The members, the submission's own files beside its plugin, and what is left out."""


@pytest.mark.parametrize("name", TAKEN)
def test_what_people_and_their_tools_put_beside_one_plugin_is_left_out(
    read: Callable[..., Unpacked], name: str
) -> None:
    members, own, left_out = TAKEN[name]
    found = read(members)

    assert found.problems == ()
    assert found.source is not None
    assert found.source.file.read_bytes() == PLUGIN
    assert sorted(own_files(found.source).keys() - {found.source.file.name}) == own
    assert list(found.left_out) == left_out
    written = {path for path in found.source.folder.rglob("*") if path.is_file()}
    assert written == set(own_files(found.source).values())  # nothing else is written either


def test_a_long_list_of_what_is_left_out_ends_with_a_number(tmp_path: Path) -> None:
    path, folder = tmp_path / "entry.zip", tmp_path / "out"
    path.write_bytes(make([("net.py", PLUGIN), *((f"{i:03d}.md", b"x") for i in range(100))]))
    folder.mkdir()
    found = unpack(path, folder, Limits())
    assert found.left_out[-2:] == ("019.md", "and 80 more")


def test_what_is_left_out_has_no_say_in_the_hash(tmp_path: Path) -> None:
    clean: Members = [("plugin.py", PLUGIN), ("a/w.bin", b"w"), ("README.md", b"x")]
    digests = set()
    for number, litter in enumerate(
        [[], [(".git/HEAD", b"x")], [("._plugin.py", b"x"), ("a/.DS_Store", b"x")]]
    ):
        (tmp_path / f"{number}.zip").write_bytes(make([*clean, *litter]))
        (tmp_path / str(number)).mkdir()
        found = unpack(tmp_path / f"{number}.zip", tmp_path / str(number), LIMITS)
        assert found.source is not None
        digests.add(submission_digest(found.source))
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ([(f".git/{i}", b"") for i in range(30)], Code.TOO_LARGE),
        ([("__MACOSX/zeros", bytes(3 * 2**20))], Code.TOO_LARGE),
        ([("docs/zeros", bytes(3 * 2**20))], Code.TOO_LARGE),
        ([(f"__MACOSX/{i}/", b"") for i in range(30)], Code.TOO_LARGE),
        ([("__MACOSX/../../evil", b"x")], Code.UNSAFE_ARCHIVE),
        ([(info(".DS_Store", mode=stat.S_IFLNK), b"/etc")], Code.UNSAFE_ARCHIVE),
        ([(info(".git/x", compress_type=zipfile.ZIP_LZMA), b"x")], Code.UNSAFE_ARCHIVE),
        ([(raw(".git/\0"), b"x")], Code.UNSAFE_ARCHIVE),
    ],
)
def test_what_would_be_left_out_is_counted_and_checked_before(
    read: Callable[..., Unpacked], members: Members, code: Code
) -> None:
    assert {p.code for p in read([("net/plugin.py", PLUGIN), *members]).problems} == {code}


@pytest.mark.parametrize(
    ("written", "own", "left_out"),
    [
        ("net/무.bin".encode("cp949"), {"plugin.py", "무.bin"}, []),  # Windows in Korea
        ("설명서.md".encode("cp949"), {"plugin.py"}, ["설명서.md"]),
        (
            "제출/plugin.py".encode("cp949"),
            {"plugin.py"},
            [],
        ),  # beside no other: its folder's name is no matter
        ("net/é/w.bin".encode(), {"plugin.py", "é/w.bin"}, []),  # a Mac: UTF-8 without its flag
        ("net/é/w.bin".encode("cp437"), {"plugin.py", "é/w.bin"}, []),  # what the format says
        (b"\xff\xfe.md", {"plugin.py"}, [b"\xff\xfe.md".decode("cp437")]),
    ],
)
def test_names_without_a_flag_are_read_in_the_encoding_that_they_are_in(
    read: Callable[..., Unpacked], written: bytes, own: set[str], left_out: list[str]
) -> None:
    name = "@" * len(written)
    plugin: Members = [] if written.endswith(b"plugin.py") else [("net/plugin.py", PLUGIN)]
    found = read(make([*plugin, (name, PLUGIN)]).replace(name.encode(), written))

    assert found.problems == ()
    assert found.source is not None
    assert own_files(found.source).keys() == own
    assert list(found.left_out) == left_out


def test_a_second_name_in_an_extra_field_is_not_believed(read: Callable[..., Unpacked]) -> None:
    """Python 3.12 and newer take it for the member's name, after others have looked at the first."""
    member, second = zipfile.ZipInfo("w.bin"), b"../evil.bin"
    head = struct.pack("<HHBL", 0x7075, 5 + len(second), 1, zlib.crc32(b"w.bin"))
    member.extra = head + second
    found = read([("plugin.py", PLUGIN), (member, b"w")])

    assert found.problems == ()
    assert found.source is not None
    assert own_files(found.source).keys() == {"plugin.py", "w.bin"}


def test_a_wrong_layout_is_told_with_the_files_and_the_layouts_that_are_taken(
    read: Callable[..., Unpacked],
) -> None:
    (found,) = read([("a.py", PLUGIN), ("b/c.py", PLUGIN), ("README.md", b"x")]).problems

    assert found.got == "no plugin.py, but 2 Python files: a.py, b/c.py"
    assert found.expected == WANTED
    assert "plugin.py" in found.hint


def test_all_bad_members_are_named_at_once(read: Callable[..., Unpacked]) -> None:
    found = read([("../a", b""), ("plugin.py", PLUGIN), ("/b", b""), (info("c", mode=stat.S_IFLNK), b"d")])
    assert [p.where for p in found.problems] == ["entry.zip: '../a'", "entry.zip: '/b'", "entry.zip: 'c'"]


def patched(content: bytes, old: bytes, new: bytes, count: int = -1) -> bytes:
    assert old in content
    return content.replace(old, new, count)


def with_zip64(content: bytes, count: int, length: int, start: int) -> bytes:
    """Put a zip64 end record, and where it is, before the classic one."""
    body, end = content[:-22], content[-22:]
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, start)
    return body + record + struct.pack("<4sLQL", b"PK\6\7", 0, len(body), 1) + end


def test_a_zip64_record_that_says_the_same_is_taken(read: Callable[..., Unpacked]) -> None:
    honest = make([("plugin.py", PLUGIN)])
    *_, count, length, start, _ = struct.unpack("<4s4H2LH", honest[-22:])
    assert read(with_zip64(honest, count, length, start)).problems == ()


@pytest.mark.parametrize(
    "members",
    [
        [(f"f{i}/", b"") for i in range(30)],
        [("/".join(f"{i}{part}" for part in range(15)) + "/x", b"") for i in range(2)],
    ],
)
def test_folders_are_counted_before_anything_is_written(
    read: Callable[..., Unpacked], tmp_path: Path, members: Members
) -> None:
    found = read([("plugin.py", PLUGIN), *members])
    assert [p.code for p in found.problems] == [Code.TOO_LARGE]
    assert "or more folders" in found.problems[0].got
    assert not list((tmp_path / "out" / "folder").iterdir())


def test_what_is_hashed_is_all_that_the_process_gets(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    (folder / "part").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("x")
    plain = ["plugin.py", "part/w.bin", unicodedata.normalize("NFD", "é.bin")]
    ignored = ["desktop.ini", "Thumbs.db", ".DS_Store", "part/network.pyc", MANIFEST]
    for name in [*plain, *ignored]:
        (folder / name).write_bytes(b"x")
    (folder / "link.bin").symlink_to(folder / "plugin.py")
    (folder / "linked").symlink_to(tmp_path / "outside")
    source = SubmissionSource("net", folder, Kind.FOLDER)
    before = submission_digest(source)
    assert sorted(submission_files(source)) == ["net/part/w.bin", "net/plugin.py", "net/\u00e9.bin"]

    for name in ignored:
        (folder / name).write_bytes(b"another")
    assert submission_digest(source) == before


def test_damaged_and_lying_zips_are_refused(read: Callable[..., Unpacked], tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(5000)
    honest = make([("plugin.py", PLUGIN), ("noise.bin", noise)])
    start = honest.index(noise[:100])
    cases = {
        "not a zip": b"#!/usr/bin/env python\n" * 10,
        "empty file": b"",
        "cut off": honest[:-30],
        "checksum": honest[:start] + bytes([honest[start] ^ 1]) + honest[start + 1 :],
        "encrypted": patched(honest, b"PK\1\2\x14\x03\x14\x00\x00\x00", b"PK\1\2\x14\x03\x14\x00\x01\x00", 1),
        "directory of four million files": patched(
            honest, b"PK\5\6\0\0\0\0\2\0\2\0", b"PK\5\6\0\0\0\0\xff\xff\xff\xff"
        ),
        "zip64 says otherwise": with_zip64(honest, 2, 150, 0),
        "zip64 lies nowhere": with_zip64(honest, 2, 150, 0)[:-22].replace(b"PK\6\6", b"PK\0\0")
        + honest[-22:],
        "larger than it says": patched(honest, struct.pack("<L", 5000), struct.pack("<L", 4000)),
        "smaller than it says": patched(honest, struct.pack("<L", 5000), struct.pack("<L", 6000)),
    }
    for name, content in cases.items():
        found = read(content)
        assert found.source is None, name
        assert {p.code for p in found.problems} <= {Code.BAD_ARCHIVE, Code.UNSAFE_ARCHIVE, Code.TOO_LARGE}, (
            name
        )
        for path in sorted((tmp_path / "out").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (tmp_path / "out").rmdir()


def test_members_that_share_their_bytes_are_refused(read: Callable[..., Unpacked]) -> None:
    """The trick of the bomb that needs no nesting: many members, one block of data."""
    content = bytearray(make([("plugin.py", PLUGIN), ("b.bin", b"1" * 100), ("c.bin", b"1" * 100)]))
    places = [i for i in range(len(content)) if content[i : i + 4] == b"PK\1\2"]
    content[places[2] + 42 : places[2] + 46] = content[places[1] + 42 : places[1] + 46]
    found = read(bytes(content))
    assert found.source is None


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_mutated_zips_never_crash_hang_or_leave_the_folder(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(HONEST)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    top = tmp_path_factory.mktemp("mutated")
    (top / "folder").mkdir()
    (top / "entry.zip").write_bytes(content)

    found = unpack(top / "entry.zip", top / "folder", LIMITS)

    assert (found.source is None) == bool(found.problems) or found.problems[0].code is Code.MANIFEST_DIFFERS
    assert {p.name for p in top.iterdir()} == {"entry.zip", "folder"}
    assert sum(p.stat().st_size for p in (top / "folder").rglob("*")) < 4 * 2**20


HONEST = make(
    [("f/plugin.py", PLUGIN), ("f/w.bin", bytes(2000)), ("f/n.bin", random.Random(2).randbytes(300))]
)


def test_content_has_one_hash_in_a_folder_a_zip_and_under_another_name(tmp_path: Path) -> None:
    def written(name: str, plugin: bytes = PLUGIN) -> SubmissionSource:
        folder = tmp_path / "out" / name
        (folder / "__pycache__").mkdir(parents=True)
        (folder / "plugin.py").write_bytes(plugin)
        (folder / "w.bin").write_bytes(b"w")
        (folder / "__pycache__" / "plugin.cpython-311.pyc").write_bytes(b"x")
        return SubmissionSource(name, folder, Kind.FOLDER)

    (tmp_path / "entry.zip").write_bytes(
        make([("f/plugin.py", PLUGIN), ("f/w.bin", b"w"), (f"f/{MANIFEST}", b"{}")])
    )
    (tmp_path / "unpacked").mkdir()
    zipped = unpack(tmp_path / "entry.zip", tmp_path / "unpacked", LIMITS)
    assert [p.code for p in zipped.problems] == [Code.MANIFEST_DIFFERS]
    assert zipped.source is not None
    one = submission_digest(zipped.source)
    assert one == submission_digest(written("a")) == submission_digest(written("b"))
    assert one != submission_digest(written("c", b"# another\n"))


def test_a_file_and_its_weights_have_one_hash_under_another_name(tmp_path: Path) -> None:
    def written(name: str) -> SubmissionSource:
        (tmp_path / f"{name}.py").write_bytes(PLUGIN)
        (tmp_path / f"{name}.safetensors").write_bytes(b"w")
        return SubmissionSource(name, tmp_path / f"{name}.py", Kind.FILE)

    first = written("a")
    assert submission_digest(first) == submission_digest(written("b"))
    (tmp_path / "a.safetensors").write_bytes(b"v")
    assert submission_digest(first) != submission_digest(SubmissionSource("b", tmp_path / "b.py", Kind.FILE))


def with_manifest(tmp_path: Path, **changes: bytes) -> Members:
    """Members of a zip as `starter pack` writes them, then changed."""
    folder = tmp_path / "original"
    folder.mkdir()
    content = {"plugin.py": PLUGIN, "w.bin": b"w"}
    for name, data in content.items():
        (folder / name).write_bytes(data)
    source = SubmissionSource("original", folder, Kind.FOLDER)
    files = [PackedFile(path=n, bytes=len(d), sha256=sha256(d)) for n, d in content.items()]
    whole = submission_digest(source)
    manifest = Manifest(name="original", submission=whole, files=tuple(files), versions={})
    content |= {name.replace("_", "."): data for name, data in changes.items()}
    for path in own_files(source).values():
        path.unlink()
    folder.rmdir()
    members: Members = [(f"f/{n}", d) for n, d in content.items() if d != b"gone"]
    return [*members, (f"f/{MANIFEST}", manifest.model_dump_json().encode())]


@pytest.mark.parametrize(
    ("changes", "got"),
    [
        ({}, []),
        ({"w_bin": b"v"}, [("w.bin", "different content")]),
        ({"w_bin": b"gone"}, [("w.bin", "missing")]),
        ({"x_bin": b"x"}, [("x.bin", "not in the manifest")]),
    ],
)
def test_a_manifest_is_compared_with_what_is_there(
    read: Callable[..., Unpacked], tmp_path: Path, changes: dict[str, bytes], got: list[tuple[str, str]]
) -> None:
    found = read(with_manifest(tmp_path, **changes))

    assert found.source is not None
    assert [(p.where.partition(": ")[2], p.got) for p in found.problems] == got
    assert all(p.code is Code.MANIFEST_DIFFERS for p in found.problems)
