"""How long a batch takes, against the naive loop that trusts everyone; and how it grows.

The loop starts a fresh Python for each submission, which imports torch, builds the model from the
plugin, decodes the images with PIL and torchvision and runs the model eagerly, and computes the F1
with scikit-learn: no isolation, no export, no counting, no record. It is given the same cores in the
two ways that one would: one submission after another with all threads, or as many at once as there
are cores, with one thread each; the faster one is the peer. Plugins and images are the same.

    python benchmarks/batch.py                     40 submissions against the loop, then 10, 40, 160
    python benchmarks/batch.py --part images       1,208 and 12,080 images
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from starter.contract.system.processors import available
from starter.data.dataset import Dataset, open_dataset
from starter.data.writer import Description, Item, write_dataset

ROOT = Path(__file__).parents[1]
LOOP = Path(__file__).with_name("peer_loop.py")
PLUGIN = """
import torch
from torch import nn
from torchvision.transforms import v2
from starter import Submission, hookimpl

def block(channels_in, channels, stride):
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_in, 3, stride, 1, groups=channels_in, bias=False),
        nn.BatchNorm2d(channels_in),
        nn.Conv2d(channels_in, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
    )

@hookimpl
def starter_submission(competition):
    torch.manual_seed({seed})
    width = {width}
    layers = [nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    for stride in (1, 2, 1, 2, 1, 2):
        layers.append(block(width, width * stride, stride))
        width *= stride
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, competition.num_classes)]
    return Submission(
        model=nn.Sequential(*layers),
        transforms=[v2.Resize(({size}, {size})), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
                    v2.Normalize(competition.mean, competition.std)],
    )
"""
SIZES = (48, 56, 64, 72, 80)


def write_plugins(folder: Path, count: int) -> list[Path]:
    """Write small networks, no two alike, in five resolutions."""
    folder.mkdir()
    paths = []
    for number in range(count):
        path = folder / f"net{number:03d}.py"
        size, width = SIZES[number % len(SIZES)], 8 + 4 * (number % 7)
        path.write_text(PLUGIN.format(seed=number, width=width, size=size), encoding="utf-8")
        paths.append(path)
    return paths


def repeated(dataset: Dataset, times: int, folder: Path) -> Dataset:
    """Return a data set whose evaluation images are each there several times."""
    rows, train = dataset.solution(), dataset.train()
    names = dataset.info.classes
    items = [
        Item(f"{copy}/{row.image_id}", dataset.images.read(row.image_id), row.label, row.usage)
        for copy in range(times)
        for row in rows
    ]
    items += [Item(row.image_id, dataset.images.read(row.image_id), row.label, "train") for row in train[:60]]
    return write_dataset(folder, items, Description(name="repeated", classes=names))


def competition(folder: Path, data: Path, isolation: str) -> None:
    """Write a competition's folder with the packaged baseline, measured on the data."""
    shutil.copytree(ROOT / "baseline", folder / "baseline")
    text = f'name = "benchmark"\ndataset = "{data}"\nisolation = "{isolation}"\n'
    (folder / "competition.toml").write_text(text, encoding="utf-8")
    kit("baseline", "measure", folder=folder)


def kit(*words: str, folder: Path) -> str:
    """Run one command of the kit to its end."""
    return finish([sys.executable, "-m", "starter", *words], folder)


def finish(command: Sequence[str], folder: Path, **environment: str) -> str:
    """Run a command to its end, with more variables in its environment; its exit status must be 0."""
    run = subprocess.run(  # noqa: S603 - our own
        command, cwd=folder, capture_output=True, text=True, check=False, env=os.environ | environment
    )
    if run.returncode:
        sys.exit(f"{' '.join(command)}\n{run.stdout}{run.stderr}")
    return run.stdout


def batch_seconds(folder: Path, entries: Path, count: int, jobs: int, isolation: str) -> float:
    """Return the wall time of a batch into a new store; no image is kept from before."""
    shutil.rmtree(folder / ".starter", ignore_errors=True)
    started = time.perf_counter()
    words = ("batch", str(entries), "--jobs", str(jobs), "--isolation", isolation, "--json", "-")
    results = json.loads(kit(*words, folder=folder))["results"]
    seconds = time.perf_counter() - started
    assert [r["result"]["status"] for r in results] == ["ok"] * count
    return seconds


def loop_seconds(paths: Sequence[Path], data: Path, at_once: int, threads: int) -> float:
    """Return the wall time of the naive loop."""

    def one(path: Path) -> None:
        command = [sys.executable, str(LOOP), str(path), str(data)]
        finish(command, path.parent, OMP_NUM_THREADS=str(threads))

    started = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one, paths))
    return time.perf_counter() - started


def processor_seconds() -> float:
    """Return what all children that have ended took, theirs included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def against_the_loop(place: Path, cores: int, isolation: str) -> None:
    """Print the batch's time and the loop's, in turns."""
    entries = place / "forty"
    paths = write_plugins(entries, 40)
    data = ROOT / "data" / "waste"
    ours = batch_seconds(place, entries, 40, cores, isolation)
    loops = {
        f"one at a time, {cores} threads": loop_seconds(paths, data, 1, cores),
        f"{cores} at a time, 1 thread each": loop_seconds(paths, data, cores, 1),
    }
    again = batch_seconds(place, entries, 40, cores, isolation)
    print(f"starter batch --jobs {cores}, isolation {isolation}: {ours:.1f} s and {again:.1f} s")
    for name, seconds in loops.items():
        print(f"naive loop, {name}: {seconds:.1f} s")
    ratio = max(ours, again) / min(loops.values())
    print(f"the slower batch over the faster loop: {ratio:.2f}")


def growth(place: Path, cores: int, isolation: str) -> None:
    """Print the time of each submission of small and large batches, and what one more costs."""
    taken = {}
    for count in (10, 40, 160):
        entries = place / f"entries{count}"
        write_plugins(entries, count)
        busy = processor_seconds()
        seconds = batch_seconds(place, entries, count, cores, isolation)
        busy = processor_seconds() - busy
        taken[count] = np.array([seconds, busy])
        print(
            f"{count:4} submissions  {seconds:7.1f} s  {seconds / count:6.2f} s each,"
            f"  processor {busy / count:5.2f} s each",
            flush=True,
        )
    wall, busy = (taken[160] - taken[40]) / 120
    print(f"one more: {wall:.2f} s on {cores} cores, {busy:.2f} s of processor")


def images(place: Path, cores: int, isolation: str) -> None:
    """Print the time of twenty submissions on the packaged images, and on ten times as many."""
    original = open_dataset(ROOT / "data" / "waste")
    for times in (1, 10):
        folder = place / f"times{times}"
        folder.mkdir()
        data = repeated(original, times, folder / "data")
        competition(folder, folder / "data", isolation)
        entries = folder / "entries"
        write_plugins(entries, 20)
        seconds = batch_seconds(folder, entries, 20, cores, isolation)
        count = len(data.solution())
        print(
            f"{count:6,} images  {seconds:7.1f} s  {seconds / 20 / count * 1e3:6.2f} ms an image", flush=True
        )


def main() -> None:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=("loop", "growth", "images"), nargs="+", default=["loop", "growth"])
    parser.add_argument("--isolation", default="box")
    arguments = parser.parse_args()
    cores = available().threads
    print(f"{cores} cores, load {os.getloadavg()[0]:.1f}")
    parts = {"loop": against_the_loop, "growth": growth, "images": images}
    for part in arguments.part:
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            if part != "images":
                competition(place, ROOT / "data" / "waste", arguments.isolation)
            parts[part](place, cores, arguments.isolation)


if __name__ == "__main__":
    main()
