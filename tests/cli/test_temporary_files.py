"""Temporary files: the next command removes what a killed one has left, and a full disk is named."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import GOOD

from starter.data.dataset import Dataset

COMPETITION = 'name = "test"\ndataset = "data"\n'


@pytest.fixture
def place(tmp_path: Path, easy_dataset: Dataset) -> Path:
    (tmp_path / "competition.toml").write_text(COMPETITION)
    (tmp_path / "data").symlink_to(easy_dataset.root)
    (tmp_path / "temporary").mkdir(mode=0o777)
    return tmp_path


def validating(place: Path, plugin: str, temporary: Path) -> subprocess.Popen[str]:
    """Start `starter validate` with a folder for temporary files."""
    (place / "net.py").write_text(plugin)
    return subprocess.Popen(
        [sys.executable, "-m", "starter", "validate", "net.py", "--isolation", "none"],
        cwd=place,
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_the_next_command_removes_what_a_killed_one_has_left(place: Path) -> None:
    temporary = place / "temporary"
    plugin = f"import time\nopen({str(place / 'started')!r}, 'w').close()\ntime.sleep(600)\n" + GOOD
    with validating(place, plugin, temporary) as process:
        until = time.monotonic() + 60
        while not (place / "started").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    (left,) = [path for path in temporary.iterdir() if path.is_dir()]
    assert len(list(left.iterdir())) > 1

    with validating(place, "", temporary) as process:
        said, _ = process.communicate()
    assert "E101" in said
    assert not [path for path in temporary.iterdir() if path.suffix != ".lock"]


@pytest.fixture
def full(place: Path) -> Iterator[Path]:
    """A folder on a disk of its own with nearly no space."""
    if sys.platform != "linux" or os.getuid() != 0:
        pytest.skip("only root of Linux mounts a disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=1777", "tmpfs", str(place / "temporary")]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this container mounts no disk")
    yield place / "temporary"
    subprocess.run(["umount", "-l", str(place / "temporary")], check=True)  # noqa: S607 - as mount


@pytest.mark.slow
def test_a_full_disk_is_named_and_no_bug(place: Path, full: Path) -> None:
    (place / "net.safetensors").write_bytes(bytes(2**20))
    with validating(place, GOOD, full) as process:
        _, said = process.communicate()
    assert process.returncode == 3
    assert f"{full}: no space is left on a disk" in said
    assert "TMPDIR" in said
    assert "bug" not in said
