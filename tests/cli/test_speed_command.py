"""`starter speed` on packaged submissions: real processes, and whatever load this machine has."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from starter.contract.results import EvaluationResult

ROOT = Path(__file__).parents[2]


def speed(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "starter", "speed", "--seconds", "0.1", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.long
def test_two_submissions_are_faster_than_the_baseline_at_batch_32() -> None:
    """A fifth of its time and a quarter: no load of a machine turns that around."""
    run = speed("submissions/pruned", "submissions/separable", "--json", "-")
    assert run.returncode in (0, 3), run.stderr
    found = [EvaluationResult.model_validate(r) for r in json.loads(run.stdout)["results"]]
    assert [result.name for result in found] == ["pruned", "separable"]
    reports = [result.speed for result in found if result.speed is not None]
    assert len(reports) == 2
    for report in reports:
        one, many = report.batches
        assert (one.batch, many.batch) == (1, 32)
        assert many.interval[1] < 0.6
    unsure = [report for report in reports if report.ratio is None]
    assert (run.returncode == 3) == bool(unsure)
    assert ("this machine cannot tell today" in run.stderr) == bool(unsure)
    if sys.platform == "linux":
        assert all(report.core is not None for report in reports)


@pytest.mark.long
def test_a_plugin_that_fails_is_told_and_has_no_ratio(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('no network')\n", encoding="utf-8")
    run = speed(str(tmp_path / "broken.py"))
    assert run.returncode == 1
    assert "E10" in run.stdout
    assert "cannot tell" not in run.stderr


@pytest.mark.long
def test_a_machine_without_a_gpu_is_at_fault_itself() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    run = speed("submissions/pruned", "--device", "cuda", "--isolation", "none")
    assert run.returncode == 3
    assert "torch finds no GPU" in run.stdout + run.stderr
