"""What isolation costs: time to a plugin's first line, and processor time for each submission.

plain is the naive harness: a fresh Python that imports what the worker imports and then the plugin, with
no limit and no lock. The others are sandboxes of the kit. All are measured in turn, in one run.

    python benchmarks/isolation.py --rounds 5
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from starter.contract.competition import CompetitionFile
from starter.contract.hookspecs import Competition
from starter.contract.isolation import Level
from starter.contract.submissions import Kind, SubmissionSource
from starter.evaluation.runner.client import export
from starter.sandbox.choice import missing
from starter.sandbox.sandbox import LockedSandbox

COMPETITION = Competition(num_classes=3, class_names=("a", "b", "c"), mean=(0.5,) * 3, std=(0.2,) * 3)
RULES = CompetitionFile(name="isolation")
PLUGIN = "import sys, time\nprint('first line', time.monotonic(), file=sys.stderr)\nraise SystemExit\n"
PLAIN = (
    "import thop, torchvision.models\n"
    "from starter import export, pipeline, plugins, transforms\n"
    "exec(open({!r}).read())"
)
TEMPLATE_SUBMISSIONS = 20


def children_seconds() -> float:
    """Return the processor time of every child that has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def first_line(log: str) -> float:
    """Return when the plugin said that it runs."""
    return float(log.split("first line")[1].split(maxsplit=1)[0])


def plain(path: Path) -> float:
    """Run the plugin without the kit."""
    started = time.monotonic()
    command = [sys.executable, "-I", "-B", "-c", PLAIN.format(str(path))]
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PATH": os.environ["PATH"]}
    run = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=False, env=environment
    )
    return first_line(run.stderr) - started


def submit(sandbox: LockedSandbox, path: Path) -> float:
    """Return when the plugin's first line ran in a sandbox."""
    with tempfile.TemporaryDirectory() as folder:
        source = SubmissionSource("net", path, Kind.FILE)
        return first_line(export(source, COMPETITION, RULES.limits, Path(folder), sandbox).log)


def sandbox_of(level: Level, *, forks: bool) -> LockedSandbox:
    """Return a sandbox of the default limits."""
    return LockedSandbox(level, user=RULES.worker_user, limits=RULES.limits, serves_many=forks)


def cold(level: Level, path: Path) -> float:
    """From the start of the sandbox on."""
    started = time.monotonic()
    with sandbox_of(level, forks=False) as sandbox:
        return submit(sandbox, path) - started


def spare(level: Level, path: Path) -> float:
    """From the moment at which the submission is known; the sandbox was ready before."""
    with sandbox_of(level, forks=False) as sandbox:
        assert not sandbox.failure()
        started = time.monotonic()
        return submit(sandbox, path) - started


def template(level: Level, path: Path) -> tuple[float, float]:
    """Return the median time to the first line, and the processor seconds of a submission."""
    before = children_seconds()
    times = []
    with sandbox_of(level, forks=True) as sandbox:
        assert not sandbox.failure()
        for _ in range(TEMPLATE_SUBMISSIONS):
            started = time.monotonic()
            times.append(submit(sandbox, path) - started)
    return statistics.median(times), (children_seconds() - before) / TEMPLATE_SUBMISSIONS


def main() -> None:
    """Measure all ways in turn and print their medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {}
    used: dict[str, list[float]] = {}

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.py")
        path.write_text(PLUGIN, encoding="utf-8")
        levels = [v for v in (Level.LOCKDOWN, Level.BOX) if not missing(v, user=65534, limits=RULES.limits)]
        ways: dict[str, Callable[[], float]] = {"plain": partial(plain, path)}
        for level in levels:
            ways[f"{level}"] = partial(cold, level, path)
            ways[f"{level}, warm spare"] = partial(spare, level, path)
        plain(path)  # the file system's cache
        for _ in range(rounds):
            for name, way in ways.items():
                before = children_seconds()
                times.setdefault(name, []).append(way())
                used.setdefault(name, []).append(children_seconds() - before)
            for level in levels:
                first, seconds = template(level, path)
                times.setdefault(f"{level}, template", []).append(first)
                used.setdefault(f"{level}, template", []).append(seconds)

    base, base_used = statistics.median(times["plain"]), statistics.median(used["plain"])
    print(f"{rounds} rounds, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; medians")
    print(f"{'way':22} {'first line, s':>13} {'to plain':>9} {'processor, s':>13} {'to plain':>9}")
    for name, measured in times.items():
        first, seconds = statistics.median(measured), statistics.median(used[name])
        print(f"{name:22} {first:13.3f} {first / base:9.3f} {seconds:13.3f} {seconds / base_used:9.3f}")


if __name__ == "__main__":
    main()
