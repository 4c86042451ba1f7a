"""A stranger's zip is read in a process with limits: it may take no more time, memory or files than that."""

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from starter.evaluation.runner.process import can_lock
from starter.organizer.unpacking import extract_in_child
from starter.submission.zip_reader import DAMAGED, LAYOUT, TOO_LARGE, UNSAFE

FILES, BYTES = 1000, 2**20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "entry"


def written(path: Path, members: dict[str, bytes]) -> Path:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    path.write_bytes(file.getvalue())
    return path


def test_an_honest_zip_is_read_whole(tmp_path: Path, folder: Path) -> None:
    members = {"plugin.py": b"# a plugin\n", "data/표.json": b"{}" * 1000}
    path = written(tmp_path / "entry.zip", members | {".DS_Store": b"x"})

    assert extract_in_child(path, folder, FILES, BYTES) == ([], [".DS_Store"])

    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert found == members


@pytest.mark.parametrize(
    ("members", "code"),
    [({"../evil.py": b""}, UNSAFE), ({"zeros": bytes(2 * 2**20)}, TOO_LARGE), ({}, LAYOUT)],
)
def test_findings_come_back_from_the_process(
    tmp_path: Path, folder: Path, members: dict[str, bytes], code: str
) -> None:
    found = extract_in_child(written(tmp_path / "entry.zip", members), folder, FILES, BYTES).findings
    assert [finding.code for finding in found] == [code]
    assert not (tmp_path / "evil.py").exists()


@pytest.mark.skipif(os.name != "posix", reason="a pipe that has a path is POSIX's")
def test_a_file_that_never_ends_takes_no_more_time_than_it_may(tmp_path: Path, folder: Path) -> None:
    os.mkfifo(tmp_path / "entry.zip")
    found = extract_in_child(tmp_path / "entry.zip", folder, FILES, BYTES, seconds=1).findings
    assert [(finding.code, finding.got) for finding in found] == [(DAMAGED, "reading it takes more than 1 s")]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="macOS and Windows have no limit of the address space")
def test_a_long_directory_takes_no_more_memory_than_it_may(tmp_path: Path, folder: Path) -> None:
    path = written(tmp_path / "entry.zip", {f"{number:x}": b"" for number in range(30_000)})
    found = extract_in_child(path, folder, FILES, 10 * BYTES, memory_mb=8).findings
    assert [finding.code for finding in found] == [DAMAGED]
    assert "memory" in found[0].got or "status" in found[0].got
    assert not folder.exists()
    assert extract_in_child(path, folder, FILES, 10 * BYTES).findings[0].code == TOO_LARGE


PROBES = {
    "read another file": "open(labels).read()",
    "write beside the folder": "open(f'{labels}.new', 'w')",
    "start a process": "os.fork()",
    "open a socket": "socket.socket()",
    "take more memory": "bytearray(2**30)",
}


@pytest.mark.skipif(not can_lock(), reason="this machine has no lock-down")
@pytest.mark.parametrize("probe", PROBES)
def test_the_process_can_do_nothing_else(tmp_path: Path, folder: Path, probe: str) -> None:
    path, labels = written(tmp_path / "entry.zip", {"a": b"a"}), tmp_path / "labels.csv"
    labels.write_text("secret")
    code = f"""
import os, socket
from pathlib import Path
from starter.organizer.unpacking import give_up
labels = {str(labels)!r}
give_up(Path({str(path)!r}), Path({str(folder.parent)!r}), {BYTES}, 9, 2**28)
open({str(path)!r}, "rb").read()
open({str(folder.parent / "may")!r}, "w").write("x")
try:
    {PROBES[probe]}
except (OSError, MemoryError):
    print("refused")
"""
    ended = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert ended.stdout.strip() == "refused", ended.stderr
