"""How many threads compute, and that they sleep while they wait for each other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from starter.contract.system.processors import PASSIVE, Processors, available, cgroup_quota, waiting
from starter.sandbox.child import clean_environment

ROOT = Path(__file__).parents[2]
MEMBERSHIP = "proc/self/cgroup"


def made_up(root: Path, files: dict[str, str]) -> Path:
    """Write /proc/self/cgroup and the files of cgroups below a folder."""
    for name, text in files.items():
        path = root / (name if name == MEMBERSHIP else f"sys/fs/cgroup/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="ascii")
    return root


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python where nothing but `environment` says how many threads compute and how they wait."""
    kept = {name: value for name, value in os.environ.items() if name not in {*PASSIVE, "OMP_NUM_THREADS"}}
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        env=kept | environment,
        cwd=ROOT,
    )


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        pytest.param({MEMBERSHIP: "0::/", "cpu.max": "100000 100000"}, 1.0, id="docker --cpus=1, version 2"),
        pytest.param({MEMBERSHIP: "0::/", "cpu.max": "max 100000"}, None, id="version 2, no limit"),
        pytest.param(
            {MEMBERSHIP: "0::/a/b", "a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"},
            1.5,
            id="the limit is of a cgroup above",
        ),
        pytest.param(
            {MEMBERSHIP: "0::/a/b", "a/cpu.max": "50000 100000", "a/b/cpu.max": "400000 100000"},
            0.5,
            id="the least on the way up holds",
        ),
        pytest.param(
            {MEMBERSHIP: "0::/a", "a/cpu.max": "max 100000", "b/cpu.max": "100000 100000"},
            None,
            id="another's limit is nothing to us",
        ),
        pytest.param(
            {
                MEMBERSHIP: "4:cpu,cpuacct:/docker/1f\n2:memory:/docker/1f",
                "cpu,cpuacct/cpu.cfs_quota_us": "200000",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            2.0,
            id="docker, version 1: the name is the host's",
        ),
        pytest.param(
            {
                MEMBERSHIP: "1:cpu:/a\n0::/",
                "cpu/a/cpu.cfs_quota_us": "-1",
                "cpu/a/cpu.cfs_period_us": "100000",
            },
            None,
            id="version 1, no limit",
        ),
        pytest.param({MEMBERSHIP: "0::/", "cpu.max": "what?"}, None, id="a file that says nothing"),
        pytest.param({}, None, id="no cgroups"),
    ],
)
def test_the_quota_is_the_least_of_the_own_cgroup_and_those_above(
    files: dict[str, str], quota: float | None, tmp_path: Path
) -> None:
    assert cgroup_quota(made_up(tmp_path, files)) == quota


@pytest.mark.parametrize(
    ("processors", "threads", "text"),
    [
        (Processors(2, 2, None, None), 2, "2 processors, no quota"),
        (Processors(1, 1, None, None), 1, "1 processor, no quota"),
        (Processors(16, 3, None, None), 3, "3 of 16 processors (affinity), no quota"),
        (
            Processors(16, 16, 1.0, None),
            1,
            "a quota of 1.0 processors (cgroup), 16 processors in the machine",
        ),
        (
            Processors(16, 16, 2.5, None),
            3,
            "a quota of 2.5 processors (cgroup), 16 processors in the machine",
        ),
        (
            Processors(16, 16, 0.1, None),
            1,
            "a quota of 0.1 processors (cgroup), 16 processors in the machine",
        ),
        (
            Processors(16, 2, 4.0, None),
            2,
            "a quota of 4.0 processors (cgroup), 2 of 16 processors (affinity)",
        ),
        (Processors(16, 16, 1.0, 4), 4, "OMP_NUM_THREADS in the environment"),
    ],
)
def test_threads_are_as_many_as_can_run_and_the_reason_is_said(
    processors: Processors, threads: int, text: str
) -> None:
    assert processors.threads == threads
    assert str(processors) == text


@pytest.mark.parametrize(("given", "asked"), [("3", 3), ("4,2", 4), ("0", None), ("", None), ("many", None)])
def test_the_user_may_ask_for_another_number_of_threads(
    given: str, asked: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert available().asked == asked


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_a_process_on_one_processor_counts_one() -> None:
    code = (
        "import os, sys\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from starter.contract.system.processors import available\n"
        "print(available().allowed, available().threads)"
    )
    assert run("-c", code).stdout.split() == ["1", "1"]


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({}, PASSIVE),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
        ({"GOMP_SPINCOUNT": "300000", "HOME": "/root"}, {"GOMP_SPINCOUNT": "300000"}),
    ],
)
def test_threads_wait_passively_unless_the_user_says_how(
    given: dict[str, str], chosen: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert waiting(given) == chosen
    for name in PASSIVE:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    child = clean_environment(tmp_path, threads=1)
    assert {name: child[name] for name in PASSIVE if name in child} == chosen


@pytest.mark.skipif(sys.platform != "linux", reason="torch's OpenMP is GNU's on Linux alone")
@pytest.mark.parametrize(
    ("given", "spins"),
    [
        ({}, PASSIVE["GOMP_SPINCOUNT"]),
        pytest.param({"GOMP_SPINCOUNT": "7"}, "7", marks=pytest.mark.long),
        pytest.param({"OMP_WAIT_POLICY": "ACTIVE"}, "30000000000", marks=pytest.mark.long),
    ],
)
def test_the_command_sets_it_before_openmp_is_loaded(given: dict[str, str], spins: str) -> None:
    """OpenMP itself prints what it has read; `train` imports torch before it refuses the switch."""
    refused = run("-m", "starter", "train", "mine", "--epochs", "0", OMP_DISPLAY_ENV="verbose", **given)
    assert refused.returncode == 2
    read = [line.split(" = ")[1] for line in refused.stderr.splitlines() if "GOMP_SPINCOUNT" in line]
    assert read
    assert set(read) == {f"'{spins}'"}


@pytest.mark.slow
def test_the_doctor_says_how_many_threads_there_are_and_that_they_wait_passively(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # as `run` leaves it out
    lines = run("-m", "starter", "doctor").stdout.splitlines()
    threads = available().threads
    assert any(line.startswith(f"ok    {threads} thread") for line in lines)
    chosen = " ".join(f"{name}={value}" for name, value in PASSIVE.items())
    assert f"ok    threads wait passively: {chosen}" in lines


@pytest.mark.slow
def test_the_doctor_names_what_the_user_has_set() -> None:
    said = run("-m", "starter", "doctor", OMP_NUM_THREADS="1", OMP_WAIT_POLICY="ACTIVE").stdout.splitlines()
    assert "ok    1 thread: OMP_NUM_THREADS in the environment" in said
    assert "ok    threads wait as your environment sets it: OMP_WAIT_POLICY=ACTIVE" in said
