"""Each limit at its edge, and what the kit itself writes, unpacks or computes charged to no submission."""

import json
import tempfile
from pathlib import Path

import isolations
import pytest
from conftest import GOOD, Command

from starter.contract.competition import Limits
from starter.contract.errors import Code
from starter.contract.hookspecs import Competition
from starter.contract.protocol import MAX_REPORT, PARTS, WorkerReport
from starter.contract.submissions import Kind, SubmissionSource
from starter.data.dataset import Dataset
from starter.evaluation.runner.client import Exported, export
from starter.plugin.answer import _text
from starter.sandbox.choice import open_sandbox
from starter.sandbox.protocol import Sandbox
from starter.sandbox.unlocked import UnlockedSandbox
from starter.sandbox.usage import Usage, exceeded

COMPETITION = Competition(num_classes=3, class_names=("a", "b", "c"), mean=(0.5,) * 3, std=(0.2,) * 3)
LIMITS = Limits(wall_seconds=60, cpu_seconds=60, memory_mb=3000, scratch_mb=16, output_mb=1)
MIB = 2**20


def submit(text: str, sandbox: Sandbox, folder: Path, **limits: int) -> Exported:
    path = folder / "net.py"
    path.write_text(text, encoding="utf-8")
    return submit_path(SubmissionSource("net", path, Kind.FILE), sandbox, folder, **limits)


def submit_path(source: SubmissionSource, sandbox: Sandbox, folder: Path, **limits: int) -> Exported:
    target = Path(tempfile.mkdtemp(dir=folder))
    return export(source, COMPETITION, LIMITS.model_copy(update=limits), target, sandbox)


def described(length: int, floats: int) -> str:
    """A plugin whose reply grows by 4 bytes for each float and by one for each letter of its description."""
    text = GOOD.replace(
        "nn.Linear(3, 3)", f"nn.Linear(3, 3)\n        self.more = nn.Parameter(torch.zeros({floats}))"
    )
    text = text.replace("mean((2, 3)))", "mean((2, 3))) + self.more.sum()")
    return text.replace("return Submission(", f"return Submission(description='x' * {length}, ")


def reply_size(exported: Exported) -> int:
    sizes = {part: (exported.folder / part).stat().st_size for part in PARTS}
    return len(json.dumps(sizes)) + 1 + sum(sizes.values())


@pytest.mark.slow
def test_a_reply_of_just_the_limit_passes_and_one_byte_more_says_so(sandbox: Sandbox, tmp_path: Path) -> None:
    floats, letters = 250_000, 400
    missing = MIB - reply_size(submit(described(letters, floats), sandbox, tmp_path, output_mb=2))
    floats, letters = floats + missing // 4, letters + missing % 4
    fits = submit(described(letters, floats), sandbox, tmp_path)
    over = submit(described(letters + 1, floats), sandbox, tmp_path)

    assert fits.report.problems == ()
    assert reply_size(fits) == MIB
    (found,) = over.report.problems
    assert (found.code, found.expected) == (Code.OUTPUT, "\u201cat most 1 MiB\u201d")
    assert found.got == "1.0 MiB, 1 bytes over the limit"


WRITES = "open('junk', 'wb').write(b'x' * {size})\nimport time; time.sleep(0.3)\n"


@pytest.mark.slow
def test_a_scratch_folder_that_is_just_full_passes(each_sandbox: Sandbox, tmp_path: Path) -> None:
    """The graph and the weights, here of 12 MB, are the kit's own: they do not lie there."""
    large = described(1, 3_000_000)
    fits = submit(WRITES.format(size=16 * MIB) + large, each_sandbox, tmp_path, output_mb=32)
    over = submit(WRITES.format(size=17 * MIB) + large, each_sandbox, tmp_path, output_mb=32)

    assert fits.report.problems == ()
    assert (fits.folder / "weights").stat().st_size > 12_000_000
    assert [(found.code, found.expected) for found in over.report.problems] == [(Code.DISK, "at most 16 MiB")]


MAKES = "[open(f'f{{i}}', 'w').close() for i in range({count})]\nimport time; time.sleep(0.3)\n"


@pytest.mark.long
def test_the_submissions_own_files_are_no_scratch_files(each_sandbox: Sandbox, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    (folder / "inner").mkdir(parents=True)
    for number in range(300):
        (folder / "inner" / f"{number}.txt").write_text("x")
    source = SubmissionSource("many", folder, Kind.FOLDER)
    verdicts = []
    for count in (100, 101):
        (folder / "plugin.py").write_text(MAKES.format(count=count) + GOOD)
        found = submit_path(source, each_sandbox, tmp_path, scratch_files=100).report.problems
        verdicts.append([(one.code, one.expected, one.got) for one in found])

    assert verdicts == [[], [(Code.DISK, "at most 100 files", "101 files")]]


@pytest.mark.long
def test_small_files_of_a_submission_take_no_scratch_space(each_sandbox: Sandbox, tmp_path: Path) -> None:
    """Each takes a page of the box's memory: 900 of them nearly four MiB."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(900):
        (folder / f"{number}.txt").write_text("x")
    (folder / "plugin.py").write_text(WRITES.format(size=MIB) + GOOD)
    found = submit_path(SubmissionSource("many", folder, Kind.FOLDER), each_sandbox, tmp_path, scratch_mb=1)
    assert found.report.problems == ()


@pytest.mark.slow
def test_a_scratch_file_may_be_larger_than_the_reply(each_sandbox: Sandbox, tmp_path: Path) -> None:
    assert submit(WRITES.format(size=8 * MIB) + GOOD, each_sandbox, tmp_path).report.problems == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", isolations.NAMES)
def test_the_time_to_import_torch_is_nobodys(name: str, tmp_path: Path) -> None:
    """Nor in a worker that serves one submission only, and imports torch in the same process."""
    if reason := isolations.lacks(name):
        pytest.skip(reason)
    isolation = isolations.named(name)
    with open_sandbox(isolation, limits=LIMITS, forks=False) as alone:
        used = submit("import time; time.sleep(0.5); raise ValueError", alone, tmp_path).used
    assert used["cpu_seconds"] < 1


@pytest.mark.long
def test_the_time_to_import_torch_is_nobodys_without_isolation(tmp_path: Path) -> None:
    with UnlockedSandbox(serves_many=False) as alone:
        used = submit("import time; time.sleep(0.5); raise ValueError", alone, tmp_path).used
    assert 0.5 <= used["wall_seconds"] < 5
    assert used["cpu_seconds"] < 1


def test_a_report_is_cut_to_what_is_read(sandbox: Sandbox, tmp_path: Path) -> None:
    """A hundred problems of forty kilobytes would be refused as a forgery."""
    (known,) = submit("raise ValueError", sandbox, tmp_path).report.problems
    long = known.model_copy(update={"got": "x" * 40_000})
    report = WorkerReport(problems=(long,) * 100)
    kept = WorkerReport.model_validate_json(_text(report))

    assert len(report.model_dump_json()) > MAX_REPORT >= len(_text(report))
    assert 1 <= len(kept.problems) < 100


def test_bytecode_that_the_kit_has_written_is_no_part_of_a_submission(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "plugin.py").write_text(GOOD)
    (folder / "__pycache__" / "plugin.cpython-311.pyc").write_bytes(bytes(2 * MIB))
    source = SubmissionSource("net", folder, Kind.FOLDER)
    assert source.problems(Limits(submission_mb=1, submission_files=1)) == []


@pytest.mark.parametrize(
    ("usage", "name"),
    [
        (Usage(wall_seconds=60), None),
        (Usage(wall_seconds=60.1), "wall_seconds"),
        (Usage(memory_mb=3000), None),
        (Usage(memory_mb=3000.1), "memory_mb"),
        (Usage(threads=256), None),
        (Usage(threads=257), "threads"),
        (Usage(log_mb=256), None),
        (Usage(log_mb=256.1), "log_mb"),
        (Usage(scratch_path=4095), None),
        (Usage(scratch_path=4096), "scratch_path"),
    ],
)
def test_a_limit_is_what_may_be_used(usage: Usage, name: str | None) -> None:
    found = exceeded(usage, LIMITS.model_dump())
    assert (found and found.name) == name


VIT = """
import torch
from torchvision.models import vit_b_16
from torchvision.transforms import v2
from starter import Submission, hookimpl

@hookimpl
def starter_submission(competition):
    return Submission(
        model=vit_b_16(num_classes=competition.num_classes),
        transforms=[v2.Resize((224, 224)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
"""


@pytest.mark.slow
def test_a_model_of_330_megabytes_is_valid_under_the_default_limits(
    place: Path, starter: Command, easy_dataset: Dataset
) -> None:
    """Its weights are larger than the scratch folder may be, and nobody's plugin writes them."""
    (place / "competition.toml").write_text(f'name = "Large"\ndataset = "{easy_dataset.root}"\n')
    (place / "net.py").write_text(VIT)
    (result,) = json.loads(starter("validate", "net.py", "--json", "-").stdout)["results"]

    assert (result["status"], result["params"]) == ("ok", 85_798_656 + 3 * 768 + 3)
    assert 4 * result["params"] > Limits().scratch_mb * MIB
