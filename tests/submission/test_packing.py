"""starter pack: what goes along, what never does, and that the organizer's side reads it."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import GOOD

from starter.contract.competition import Limits
from starter.contract.errors import Code, ParticipantError
from starter.contract.names import MANIFEST
from starter.contract.submissions import Kind, SubmissionSource, discover_one
from starter.submission.archive import unpack
from starter.submission.content import submission_digest
from starter.submission.packing import choose, write_zip

ROOT = Path(__file__).parents[2]
LIMITS = Limits(submission_mb=1, submission_files=40)
TOKEN = "ghp_" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5"  # made up, of the right form


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "plugin.py").write_text(GOOD)
    (folder / "weights.safetensors").write_bytes(bytes(range(256)) * 10)
    (folder / "data").mkdir()
    (folder / "data" / "tabelle 표.json").write_text("{}")
    return folder


def packed(folder: Path, target: Path) -> dict[str, bytes]:
    source = discover_one(folder)
    write_zip(source, choose(source, LIMITS), target, LIMITS)
    with zipfile.ZipFile(target) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_folder_is_packed_whole_and_read_back(submission: Path, tmp_path: Path) -> None:
    members = packed(submission, tmp_path / "net.zip")

    assert members.keys() == {
        f"net/{name}" for name in ("plugin.py", "weights.safetensors", "data/tabelle 표.json", MANIFEST)
    }
    (tmp_path / "out").mkdir()
    found = unpack(tmp_path / "net.zip", tmp_path / "out", LIMITS)
    assert found.problems == ()
    assert found.source is not None
    assert submission_digest(found.source) == submission_digest(discover_one(submission))
    manifest = json.loads(members[f"net/{MANIFEST}"])
    assert manifest["submission"] == submission_digest(found.source)
    assert {"starter", "python", "torch"} == manifest["versions"].keys()


def test_a_file_is_packed_with_its_weights(tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(GOOD)
    (tmp_path / "small.safetensors").write_bytes(b"w")
    (tmp_path / "other.py").write_text(GOOD)
    assert packed(tmp_path / "small.py", tmp_path / "small.zip").keys() == {
        "small.py",
        "small.safetensors",
        MANIFEST,
    }


def test_the_same_content_gives_the_same_bytes(submission: Path, tmp_path: Path) -> None:
    packed(submission, tmp_path / "a.zip")
    for path in submission.rglob("*"):
        os.utime(path, (1, 1))
    packed(submission, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


@pytest.mark.parametrize(
    "name",
    [".git/config", "__pycache__/plugin.cpython-311.pyc", ".venv/lib/x.py", ".DS_Store",
     "notes/.ipynb_checkpoints/a",
     ".env", ".aws/credentials", "id_rsa", "server.pem", ".kaggle/kaggle.json", ".idea/x.xml"],
)  # fmt: skip
def test_caches_and_secrets_by_name_stay_out(submission: Path, tmp_path: Path, name: str) -> None:
    (submission / name).parent.mkdir(parents=True, exist_ok=True)
    (submission / name).write_text("x")
    source = discover_one(submission)
    content = choose(source, LIMITS)
    assert name in content.left_out
    assert content.left_out[name]
    assert not any(member.endswith(name) for member in packed(submission, tmp_path / "net.zip"))


@pytest.mark.parametrize(
    "line",
    [
        f'TOKEN = "{TOKEN}"',
        "-----BEGIN RSA PRIVATE KEY-----",
        'aws_key = "AKIA' + 'Q2W3E4R5T6Y7U8I9"',
        'password = "correct-horse-9 battery"',
        'url = "https://user:Xk29sLq0@host.example/x"',
    ],
)
def test_a_secret_in_a_file_is_named_by_its_line_and_not_told(
    submission: Path, tmp_path: Path, line: str
) -> None:
    (submission / "helper.py").write_text(f"import torch\n\n{line}\n")
    source = discover_one(submission)
    with pytest.raises(ParticipantError) as caught:
        write_zip(source, choose(source, LIMITS), tmp_path / "net.zip", LIMITS)
    assert {p.code for p in caught.value.problems} == {Code.CONFIDENTIAL}
    assert caught.value.problems[0].where == "helper.py:3"
    assert line[-12:] not in str(caught.value)
    assert not (tmp_path / "net.zip").exists()
    assert choose(source, LIMITS, allowed=["helper.py"]).problems == ()


def test_the_kits_own_plugins_raise_no_alarm() -> None:
    for path in (ROOT / "baseline", *(ROOT / "submissions").iterdir()):
        if path.suffix in {"", ".py"} and path.name != "README.md" and not path.name.startswith(("_", ".")):
            assert choose(discover_one(path), Limits()).problems == ()


def test_links_are_left_out(submission: Path) -> None:
    (submission / "link.txt").symlink_to("/etc/hostname")
    assert "a link" in choose(discover_one(submission), LIMITS).left_out["link.txt"]


def test_too_much_is_refused_with_the_organizers_words(submission: Path, tmp_path: Path) -> None:
    (submission / "large.bin").write_bytes(bytes(2 * 2**20))
    source = SubmissionSource("net", submission, Kind.FOLDER)
    with pytest.raises(ParticipantError) as caught:
        write_zip(source, choose(source, LIMITS), tmp_path / "net.zip", LIMITS)
    assert caught.value.problems[0].code is Code.TOO_LARGE
    assert "large.bin 2.0 MiB" in caught.value.problems[0].got


def run_starter(*arguments: str | Path, expected: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "starter", *map(str, arguments)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == expected, run.stdout + run.stderr
    return run


@pytest.mark.slow
def test_the_command_previews_packs_and_says_what_is_next(submission: Path, tmp_path: Path) -> None:
    target = tmp_path / "handed in.zip"
    dry = run_starter("pack", submission, "--out", target, "--dry-run")
    assert "weights.safetensors" in dry.stdout
    assert not target.exists()
    run = run_starter("pack", submission, "--out", target)
    assert f"{target}  {target.stat().st_size:,} bytes  sha256:" in run.stdout
    (submission / "key.py").write_text(f'TOKEN = "{TOKEN}"\n')
    refused = run_starter("pack", submission, "--out", target, expected=1)
    assert "key.py:1" in refused.stderr
    assert TOKEN not in refused.stdout + refused.stderr
