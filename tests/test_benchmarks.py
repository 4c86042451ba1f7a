"""The scripts in benchmarks/ start, and some do their work on a small data set."""

import runpy
import subprocess
import sys
from pathlib import Path

import ablation
import busy
import cluster_simulation
import front
import kernel_fuzzer
import numpy as np
import pytest

from starter.contract.hookspecs import Competition
from starter.contract.submissions import discover_one
from starter.data.dataset import Dataset
from starter.graph.operators import OPERATORS
from starter.plugin.count import count_model
from starter.plugin.load import load_plugin_apart

ROOT = Path(__file__).parents[1]
PEERS = {"peer_loop.py"}
"""What a benchmark compares with: called by it, not by a person."""
SCRIPTS = sorted({path.name for path in (ROOT / "benchmarks").glob("*.py")} - PEERS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_says_how_it_is_used(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [script, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "benchmarks" / script), run_name="__main__")
    assert end.value.code in (0, None)
    assert f"usage: {script}" in capsys.readouterr().out


@pytest.mark.slow
def test_the_ablation_compares_with_the_defaults_and_goes_on(
    easy_dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["ablation.py", str(ROOT / "submissions" / "separable"), "--data", str(easy_dataset.root)]
    command += ["--epochs", "1", "--only", "flip", "--results", str(tmp_path / "results.jsonl")]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", [*command, "--seeds", "1"])
    ablation.main()
    assert "seed 0  --no-flip" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", [*command, "--seeds", "2"])
    ablation.main()
    printed = capsys.readouterr().out
    assert "seed 1  --no-flip" in printed
    assert "seed 0" not in printed
    rows = [line.split("|") for line in printed.splitlines() if line.startswith("| `")]
    assert [(row[1].strip(), row[-2].strip()) for row in rows] == [("`defaults`", "2"), ("`--no-flip`", "2")]


@pytest.mark.long
def test_the_front_reaches_from_half_a_million_to_more_than_fifty_million(tmp_path: Path) -> None:
    competition = Competition(num_classes=6, class_names=tuple("abcdef"), mean=(0.5,) * 3, std=(0.2,) * 3)
    macs = []
    for name, member in front.MEMBERS.items():
        front.build(member, tmp_path / name)
        source = discover_one(tmp_path / name)
        submission = load_plugin_apart(source, competition, load_weights=False).submission
        assert submission.name == name
        macs.append(count_model(submission.model, (3, member.side, member.side), source).macs)
    assert min(macs) < 500_000
    assert max(macs) > 50_000_000
    assert len(set(macs)) == len(front.MEMBERS) == 8


@pytest.mark.long
def test_no_row_of_the_table_ends_the_process_on_a_few_extreme_calls() -> None:
    rows = kernel_fuzzer.fuzz(sorted(OPERATORS), 3, seed=0, twice=False)
    assert [line for row in rows.values() for line in row.bad] == []
    assert {row.outcomes.total() for row in rows.values()} == {3}
    assert [op for op, row in rows.items() if not row.outcomes["accepted"]] == []


@pytest.mark.long
def test_a_child_of_the_fuzzer_that_ends_is_told_and_the_others_go_on() -> None:
    """An operator that is not in the table is more than a child can bear."""
    rows = kernel_fuzzer.fuzz(
        ["aten.relu.default", "aten.no_such.default", "aten.neg.default"], 1, 0, twice=False
    )
    assert rows["aten.no_such.default"].outcomes == {"EXIT": 1}
    assert rows["aten.no_such.default"].bad[0].startswith("aten.no_such.default 0: EXIT 1: ")
    assert [rows[f"aten.{name}.default"].outcomes["accepted"] for name in ("relu", "neg")] == [1, 1]


@pytest.mark.slow
def test_the_other_program_ends_when_the_benchmark_is_interrupted() -> None:
    with pytest.raises(KeyboardInterrupt), busy.other_program() as load:
        raise KeyboardInterrupt
    assert load.returncode is not None


@pytest.mark.slow
def test_the_other_program_ends_when_the_benchmark_is_killed() -> None:
    """The kernel then closes the pipe that it reads."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", busy.LOAD, "1", "600"], stdin=pipe, stdout=pipe) as load:
        assert load.stdin is not None
        assert load.stdout is not None
        assert load.stdout.readline() == b"ready\n"
        load.stdin.close()
        assert load.wait(60) == 0


def test_busy_says_which_targets_are_met(capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the other program 60 s to 20 s is 3 times; alone 20 s is less than the 25 s before."""
    busy.report(
        {
            ("score", "now", "alone"): [20.0, 20.0, 20.0],
            ("score", "before", "alone"): [25.0, 20.0, 25.0],
            ("score", "now", "beside"): [40.0, 60.0, 80.0],
        }
    )
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "score now 20.0 (20.0 to 20.0) 60.0 (40.0 to 80.0) 3.00 (2.00 to 4.00)" in lines
    assert "score beside / alone 3.00 (2.00 to 4.00) at most 2.50: MISSED" in lines
    assert "score alone, now / before 0.80 (0.80 to 1.00) at most 1.05: met" in lines


def simulated(seconds: list[float], **cluster: float) -> cluster_simulation.Outcome:
    """Simulate entries that are all there at the start, on one node of two workers unless told otherwise."""
    made = cluster_simulation.Cluster(
        **{"nodes": 1, "workers": 2, "start": 0.0, "driver": 0.0, "ahead": 1} | cluster
    )
    entries = np.array(seconds)
    rng = np.random.default_rng(0)
    return cluster_simulation.Simulation(made, entries, np.zeros(len(entries)), rng).run()


def test_a_simulated_cluster_takes_what_one_works_out_by_hand() -> None:
    """Two workers: 3, then 1, 1 and 1 beside it; then a driver that takes 2 s for each result."""
    outcome = simulated([3, 1, 1, 1])
    assert (outcome.makespan, outcome.busy, outcome.waits.tolist()) == (3, 6, [0, 0, 1, 2])
    outcome = simulated([1, 1, 1, 1], driver=2.0)
    assert outcome.makespan == 1 + 4 * 2
    outcome = simulated([1] * 6, start=5.0)
    assert (outcome.makespan, outcome.paid) == (8, 8)


def test_a_worker_with_two_entries_in_hand_does_not_wait_for_the_driver() -> None:
    alone, ahead = (simulated([1] * 10, workers=1, driver=0.5, ahead=n).makespan for n in (1, 2))
    assert (alone, ahead) == (15, 10.5)


def test_every_simulated_entry_is_accounted_for_however_many_nodes_are_lost() -> None:
    outcome = simulated([1.0] * 3000, nodes=8, lost_after=60.0, replaced_after=10.0, noticed_after=5.0)
    assert outcome.lost_nodes > 5
    assert outcome.again > 0
    assert outcome.busy == pytest.approx(3000 - outcome.given_up)
    assert outcome.makespan > 3000 / 16
