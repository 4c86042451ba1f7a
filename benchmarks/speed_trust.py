"""Can the speed that `starter speed` measures be trusted, on a machine left alone and on a busy one?

The same network is timed beside the same baseline in 20 runs, each in a fresh process, and in 20 more beside
another program that multiplies matrices half of the time. The baseline is a network of 20 equal layers, the
entry one of 21: they are 5 % apart. Printed for each batch size and kind of run:

    agree       runs whose 99 % interval holds the median ratio of all 40 runs; at least 19 of 20 are wanted
    told apart  runs whose interval lies above 1: the entry is slower; all that give a number are wanted
    a number    runs that give one: the control holds 1 and the interval is not wider than 3 %

    python benchmarks/speed_trust.py               a quarter of an hour, on two cores
    python benchmarks/speed_trust.py --runs 3      a look
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from starter.contract.system.processors import waiting

os.environ.update(waiting(os.environ))  # before torch is loaded: as the kit's own processes

import torch
from torch import nn
from torchvision.transforms import v2

from starter.contract.competition import Limits
from starter.contract.costs import BatchSpeed, SpeedVerdict
from starter.contract.protocol import RunnerRequest, SpeedRequest
from starter.contract.submissions import Kind, SubmissionSource
from starter.contract.system.processors import machine
from starter.evaluation.runner.process import Runner
from starter.plugin.export import export_model, write_graph
from starter.submission.transform_records import dump
from starter.submission.transforms import describe

LAYERS = {"baseline": 20, "entry": 21}
WIDTH, SIDE, NUM_CLASSES = 24, 16, 6
LOAD = """
import os, sys, threading, time, torch
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
torch.set_num_threads(1)
matrix = torch.rand(512, 512)
print("ready", flush=True)
while True:
    started = time.perf_counter()
    while time.perf_counter() - started < 0.05:
        matrix @ matrix
    time.sleep(0.05)
"""
"""Multiplies for 50 ms, rests for 50 ms, and ends with the benchmark, however that ends."""


class Equal(nn.Module):
    """Equal layers, then six numbers of the last map: neither a stem nor a head."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(layers)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits, float32 (1, 6), for an image, float32 (1, 3, 16, 16)."""
        wide = torch.cat([image] * (WIDTH // 3 + 1), dim=1)[:, :WIDTH]
        features: torch.Tensor = self.layers(wide)
        return features.flatten(1)[:, :NUM_CLASSES]


def write(layers: int, folder: Path) -> None:
    """Export a network as a submission is; weights of seed 0."""
    torch.manual_seed(0)
    here = SubmissionSource("benchmark", Path(__file__), Kind.FILE)
    folder.mkdir()
    exported = export_model(Equal(layers).eval(), (3, SIDE, SIDE), here)
    write_graph(exported, here, folder / "graph", folder / "weights")
    steps = [v2.Resize((SIDE, SIDE)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    (folder / "transforms").write_text(dump(describe(v2.Compose(steps))), encoding="utf-8")


@contextmanager
def other_program() -> Iterator[None]:
    """Run LOAD beside."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", LOAD]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as load:  # noqa: S603 - our own
        assert load.stdout is not None
        load.stdout.readline()
        try:
            yield
        finally:
            load.kill()


def run(place: Path, seed: int, seconds: float) -> Sequence[BatchSpeed]:
    """Time the entry beside the baseline in a fresh process."""
    entry, baseline = place / "entry", place / "baseline"
    request = RunnerRequest(
        graph=entry / "graph",
        weights=entry / "weights",
        transforms=entry / "transforms",
        num_classes=NUM_CLASSES,
        dataset=place,
        image_ids=(),
        logits=place / "logits.npy",
        speed=SpeedRequest(
            graph=baseline / "graph", weights=baseline / "weights", seconds=seconds, seed=seed
        ),
    )
    with Runner(Limits(), threads=1, readable=[baseline]) as runner:
        reply = runner.ask(request)
    assert reply.speed is not None, reply
    return reply.speed.batches


def show(kinds: dict[str, list[Sequence[BatchSpeed]]]) -> bool:
    """Print a row for each batch size and kind of run; say whether everything that is wanted holds."""
    print(
        f"{'batch':>5}  {'runs':18}  {'median, least to most':26}  {'agree':>8}  {'told apart':>10}  a number"
    )
    holds = True
    for number, first in enumerate(next(iter(kinds.values()))[0]):
        pooled = statistics.median(found[number].ratio for runs in kinds.values() for found in runs)
        for kind, runs in kinds.items():
            mine = [found[number] for found in runs]
            ratios = [found.ratio for found in mine]
            sure = [found for found in mine if found.verdict is SpeedVerdict.OK]
            agree = sum(found.interval[0] <= pooled <= found.interval[1] for found in mine)
            apart = sum(found.interval[0] > 1 for found in mine)
            spread = f"{statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}"
            counts = f"{f'{agree} of {len(mine)}':>8}  {f'{apart} of {len(mine)}':>10}"
            print(f"{first.batch:5}  {kind:18}  {spread:26}  {counts}  {len(sure)} of {len(mine)}")
            holds &= 20 * agree >= 19 * len(mine) and all(found.interval[0] > 1 for found in sure)
    return holds


def main() -> None:
    """Time, and compare the runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20, help="of each kind")
    parser.add_argument("--seconds", type=float, default=4.0, help="as starter speed's")
    options = parser.parse_args()
    kinds: dict[str, list[Sequence[BatchSpeed]]] = {"alone": [], "beside the other": []}
    print(f"torch {torch.__version__}, {machine()}, load at the start {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name, layers in LAYERS.items():
            write(layers, place / name)
        for number in range(options.runs):
            for kind, runs in kinds.items():
                with nullcontext() if kind == "alone" else other_program():
                    runs.append(run(place, 2 * number + len(kind) % 2, options.seconds))
                shown = ", ".join(f"batch {f.batch}: {f.ratio:.3f} {f.verdict}" for f in runs[-1])
                load = f"load {os.getloadavg()[0]:.1f}"
                print(f"{number + 1:2} {kind}, {load}: {shown}", file=sys.stderr, flush=True)
    print(f"load at the end {os.getloadavg()[0]:.1f}\n")
    sys.exit(0 if show(kinds) else 1)


if __name__ == "__main__":
    main()
