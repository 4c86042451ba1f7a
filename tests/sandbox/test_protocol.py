"""What crosses a sandbox's boundary: typed messages, files with one owner, limits, and no name of ours."""

import os
import socket
from pathlib import Path

import isolations
import pytest

from starter.contract.competition import Limits
from starter.contract.hookspecs import Competition
from starter.contract.submissions import Kind, SubmissionSource
from starter.evaluation.runner.client import export
from starter.sandbox.child import Allowance
from starter.sandbox.protocol import (
    BOX_FOLDER,
    Ended,
    Job,
    JobFiles,
    LimitExceeded,
    Message,
    Sandbox,
    SandboxSpec,
    Started,
    Verdict,
    WorkerSpec,
)
from starter.sandbox.unlocked import UnlockedSandbox
from starter.sandbox.usage import PeakUsage, Usage, exceeded

COMPETITION = Competition(num_classes=3, class_names=("a", "b", "c"), mean=(0.5,) * 3, std=(0.2,) * 3)
MESSAGES = [
    WorkerSpec(
        forks=True,
        preload=False,
        user=65534,
        root=False,
        boxed=True,
        alone=False,
        outside="/tmp/외부",  # noqa: S108 - nothing is opened
        readable=["/opt/a", "/opt/b"],
    ),
    SandboxSpec(["python", "-I"], {"HOME": "/sandbox/scratch"}, "/", boxed=True, forks=True),
    Started("bwrap: no\npermissions"),
    Job({"wall_seconds": 0.5, "log_kb": 64}, unpacked_bytes=4096, unpacked_files=2),
    Ended(status=9, clean=False),
    Verdict(status=-9, exceeded=LimitExceeded("threads", 256, 300.0), used={"memory_mb": 1.5}),
    Verdict(reusable=True),
    Verdict(lost="its last words"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_is_the_same_on_the_other_side(message: Message) -> None:
    text = message.to_json()
    assert "\n" not in text
    assert type(message).from_json(text.encode()) == message


def test_another_message_is_refused() -> None:
    with pytest.raises(TypeError):
        Ended.from_json(Started("").to_json())
    with pytest.raises(ValueError, match="Extra data"):
        Ended.from_json(b"9 clean")


def opened() -> set[Path]:
    """The descriptors of this process, without the one that lists them."""
    return {path for path in list(Path("/proc/self/fd").iterdir()) if path.exists()}


@pytest.mark.skipif(not hasattr(socket, "send_fds"), reason="descriptors are passed on Linux only")
def test_each_side_closes_its_own_descriptors_of_a_job(tmp_path: Path) -> None:
    (tmp_path / "payload").write_bytes(b"job")
    paths = [tmp_path / name for name in ("payload", "reply", "log")]
    before = opened()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        with JobFiles.open(*paths) as files:
            files.send(ours, b"hello")
        received = JobFiles.receive(theirs)
        assert received is not None
        message, handed = received
        with handed:
            assert (message, os.read(handed.payload, 16), handed.handshake) == (b"hello", b"job", None)
            os.write(handed.reply, b"answer")
            os.write(handed.log, b"said")
        ours.close()
        assert JobFiles.receive(theirs) is None
        with pytest.raises(FileExistsError):  # a reply is never written over
            JobFiles.open(*paths)

    assert [path.read_bytes() for path in paths] == [b"job", b"answer", b"said"]
    assert opened() == before


def test_everything_that_is_measured_has_a_limit() -> None:
    """One without a limit is an error, never unlimited."""
    ours = {"log_mb", "scratch_path"}
    assert vars(Usage()).keys() - ours <= Limits.model_fields.keys()
    allowance = vars(Allowance.for_runner(Limits()))
    assert exceeded(Usage(wall_seconds=1, memory_mb=1, scratch_mb=1), allowance) is None
    with pytest.raises(KeyError):
        exceeded(Usage(threads=1), allowance)


def test_the_peak_is_what_is_told_of_a_submission() -> None:
    peak = PeakUsage()
    for usage in (Usage(memory_mb=10, cpu_seconds=1), Usage(memory_mb=7.126, cpu_seconds=1.5)):
        peak.add(usage)
    used = peak.total()

    assert (used["memory_mb"], used["cpu_seconds"]) == (10, 1.5)
    assert 0 <= used["wall_seconds"] < 60


NAMES = "import os, sys\nprint(os.getcwd(), __file__, file=sys.stderr)\nraise ValueError(os.getcwd())\n"


def no_name_of_ours(sandbox: Sandbox, folder: Path) -> None:
    """Fail where a submission's messages name our temporary folder; the next process has one of its own."""
    (folder / "net.py").write_text(NAMES, encoding="utf-8")
    for number in range(2):
        target = folder / str(number)
        target.mkdir()
        source = SubmissionSource("net", folder / "net.py", Kind.FILE)
        found = export(source, COMPETITION, Limits(), target, sandbox)
        for text in (found.log, found.report.problems[0].got):
            assert f"{BOX_FOLDER}{os.sep}scratch" in text
            assert sandbox.folder.name not in text
            assert "starter-" not in text


@pytest.mark.slow
def test_an_unlocked_submission_shows_no_folder_of_ours(tmp_path: Path) -> None:
    with UnlockedSandbox(preload=False) as sandbox:
        no_name_of_ours(sandbox, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", isolations.NAMES)
def test_a_locked_submission_shows_no_folder_of_ours(name: str, tmp_path: Path) -> None:
    with isolations.sandbox_of(name, preload=False) as sandbox:
        no_name_of_ours(sandbox, tmp_path)
