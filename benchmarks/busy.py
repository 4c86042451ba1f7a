"""How long `score`, `batch` and `train` take alone, and beside another torch program on the same cores.

The other program multiplies matrices with all cores until it is stopped; its idle threads spin, as those of
any torch program do that says nothing else. Commands, alone and beside it, take turns in each round. A ratio
is of one round's times; medians of all rounds are printed, and the least and the most.

    python benchmarks/busy.py --isolation none                  as the kit is
    python benchmarks/busy.py --isolation none --before alone   and with threads that spin, as before: alone
    python benchmarks/busy.py --isolation none --before both    beside the other program too: takes long

Targets: beside the other program at most 2.5 times the time alone; alone at most 1.05 times the time before.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.metadata import version
from pathlib import Path

from batch import competition, finish, write_plugins

from starter.contract.system.processors import available, machine
from starter.data.dataset import open_dataset
from starter.data.writer import Description, Item, write_dataset

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data" / "waste"
MOST_BESIDE, MOST_ALONE = 2.5, 1.05
SPINNING = {"GOMP_SPINCOUNT": "300000"}
"""What GNU's OpenMP does where nothing is set."""
LOAD = """
import os, sys, threading, time, torch
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
torch.set_num_threads(int(sys.argv[1]))
factor, until = torch.rand(1024, 1024), time.monotonic() + float(sys.argv[2])
print("ready", flush=True)
while time.monotonic() < until:
    factor @ factor
"""
LOAD_SECONDS = 1200

Times = dict[tuple[str, str, str], list[float]]
"""Seconds of each round, by command, side (now or before) and place (alone or beside)."""


@contextmanager
def other_program() -> Iterator[subprocess.Popen[bytes]]:
    """Keep all cores busy; it ends with the block, with this process however that ends, or by its clock."""
    command = [sys.executable, "-c", LOAD, str(available().threads), str(LOAD_SECONDS)]
    clean = {name: value for name, value in os.environ.items() if name not in SPINNING}
    pipe = subprocess.PIPE
    with subprocess.Popen(  # noqa: S603 - our own
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=clean
    ) as load:
        try:
            assert load.stdout is not None
            if load.stdout.readline() != b"ready\n":
                sys.exit("the other program did not start")
            yield load
            if load.poll() is not None:
                sys.exit("the other program ended too early: the time beside it means nothing")
        finally:
            load.kill()


def part(folder: Path, num_images: int) -> Path:
    """Write a data set of some of the packaged training images; return its folder."""
    dataset = open_dataset(DATA)
    read = dataset.images.read
    rows, evaluated = dataset.train()[:num_images], dataset.solution()[:60]
    items = [Item(row.image_id, read(row.image_id), row.label, "train") for row in rows]
    items += [Item(row.image_id, read(row.image_id), row.label, row.usage) for row in evaluated]
    return write_dataset(folder, items, Description(name="part", classes=dataset.info.classes)).root


def commands(place: Path, given: argparse.Namespace) -> dict[str, Callable[[dict[str, str]], float]]:
    """Prepare the folders; return what runs each command and times it."""
    competition(place, DATA, given.isolation)
    write_plugins(place / "entries", given.entries)
    shutil.copytree(ROOT / "submissions" / "separable", place / "separable")
    data = part(place / "part", given.images)
    train = ["train", "separable", "--data", str(data), "--epochs", str(given.epochs)]
    isolation = ["--isolation", given.isolation]
    words = {
        "score": ["score", *(str(path) for path in (ROOT / "baseline", ROOT / "submissions")), *isolation],
        "batch": ["batch", "entries", "--jobs", str(available().threads), *isolation],
        "train": [*train, "--validation-share", "0"],
    }
    return {name: partial(seconds, place, words[name]) for name in given.only}


def seconds(place: Path, words: Sequence[str], environment: dict[str, str]) -> float:
    """Return the wall time of one command; no result and no decoded image is kept from before."""
    shutil.rmtree(place / ".starter", ignore_errors=True)
    started = time.perf_counter()
    finish([sys.executable, "-m", "starter", *words], place, **environment)
    return time.perf_counter() - started


def measure(given: argparse.Namespace) -> Times:
    """Let commands, sides and places take turns."""
    before = {"alone": ("alone",), "both": ("alone", "beside")}.get(given.before, ())
    turns = [("now", "alone"), *(("before", where) for where in before), ("now", "beside")]
    times: Times = {}
    with tempfile.TemporaryDirectory(prefix="starter-busy-") as folder:
        ways = commands(Path(folder), given)
        for number in range(given.rounds):
            for name, way in ways.items():
                for side, where in turns:
                    with other_program() if where == "beside" else nullcontext():
                        taken = way(SPINNING if side == "before" else {})
                    times.setdefault((name, side, where), []).append(taken)
                    print(f"round {number + 1}  {name}, {side}, {where}: {taken:.1f} s", file=sys.stderr)
    return times


def ratios(times: Times, upper: tuple[str, str, str], lower: tuple[str, str, str]) -> list[float]:
    """Return the ratio of each round."""
    return [over / under for over, under in zip(times[upper], times[lower], strict=True)]


def shown(values: Sequence[float], digits: int) -> str:
    """Return the median, the least and the most."""
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({least:.{digits}f} to {most:.{digits}f})"


def report(times: Times) -> None:
    """Print the times, and whether the targets are met."""
    print(f"{'command':8}{'side':8}{'alone, s':>22}{'beside, s':>24}{'beside / alone':>22}")
    for name, side, where in times:
        if where == "alone":
            alone, beside = (name, side, "alone"), (name, side, "beside")
            print(f"{name:8}{side:8}{shown(times[alone], 1):>22}", end="")
            if beside in times:
                print(f"{shown(times[beside], 1):>24}{shown(ratios(times, beside, alone), 2):>22}", end="")
            print()
    print()
    for name in dict.fromkeys(name for name, _, _ in times):
        now = (name, "now", "alone")
        verdict(f"{name} beside / alone", ratios(times, (name, "now", "beside"), now), MOST_BESIDE)
        if (name, "before", "alone") in times:
            verdict(f"{name} alone, now / before", ratios(times, now, (name, "before", "alone")), MOST_ALONE)


def verdict(what: str, values: Sequence[float], most: float) -> None:
    """Print one target."""
    word = "met" if statistics.median(values) <= most else "MISSED"
    print(f"{what:28} {shown(values, 2):22} at most {most:4.2f}: {word}")


def main() -> None:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ["score", "batch", "train"]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", choices=("no", "alone", "both"), default="no")
    parser.add_argument("--isolation", default="box")
    parser.add_argument("--entries", type=int, default=10, help="of the batch")
    parser.add_argument("--images", type=int, default=1000, help="that are trained on")
    parser.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args()
    print(f"{machine()}, load {os.getloadavg()[0]:.1f}, {available().threads} threads ({available()})")
    print(f"Python {platform.python_version()}, torch {version('torch')}, isolation {given.isolation}")
    print(f"{given.entries} entries; {given.images:,} images, {given.epochs} epochs; {given.rounds} rounds\n")
    report(measure(given))
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
