"""Do the guidelines of ShuffleNetV2 hold in this kit's runner, on this machine?

Tables 1 to 4 of Ma et al. 2018 (arXiv:1807.11164): networks of equal contraction MACs, ten blocks
each on 56 x 56 positions, at batch 1 and 8. They go the way of a submission: export, graph, Program.
The paper measures a GPU and a phone, so only the direction can be compared. Widths are those of the
paper or half of them. The input has as many channels as the first block, so there is no stem, and
the logits are six numbers of the last map, so there is no head.

Every variant is timed beside the first of its table as `starter speed` times an entry beside the baseline
(graph/profiling/speed.py). A ratio is its speed over the first one's, so below 1 is slower, with the 99 %
interval. The first is timed beside itself. "?" marks a ratio that this machine cannot tell: the control
differs from itself, or the interval is wider than 3 %.

    python benchmarks/guidelines.py      six minutes on one core
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from starter.contract.system.processors import on_one_processor, waiting

os.environ.update(waiting(os.environ))  # before torch is loaded: as the kit's own processes

import torch
from torch import nn

from starter.contract.costs import BatchSpeed, SpeedVerdict
from starter.contract.submissions import Kind, SubmissionSource
from starter.graph.analysis import Trace, trace
from starter.graph.costs.macs import count_macs
from starter.graph.costs.memory_access import memory_access
from starter.graph.executor import to_bfloat16
from starter.graph.profiling.ratios import judged
from starter.graph.profiling.speed import Contest, undisturbed
from starter.graph.reader import read_graph
from starter.plugin.export import export_model, write_graph

SIZE = 56
BLOCKS = 10
BATCHES = (1, 8)
NUM_CLASSES = 6


@dataclass(frozen=True)
class Variant:
    """One row of a table."""

    name: str
    channels: str
    width: int
    """Channels of the input."""
    block: Callable[[], nn.Module]
    paper: str
    """What the paper says of it."""


class Network(nn.Module):
    """Ten blocks, then six numbers of the last map."""

    def __init__(self, block: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(block() for _ in range(BLOCKS)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits, float32 (1, 6), for an image, float32 (1, width, 56, 56)."""
        features: torch.Tensor = self.blocks(image)
        return features.flatten(1)[:, :NUM_CLASSES]


class Sum(nn.Module):
    """The sum of several branches."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the branches, the first two first."""
        first, *rest = self.branches
        result: torch.Tensor = first(x)
        for branch in rest:
            result = result + branch(x)
        return result


def conv(channels_in: int, channels_out: int, kernel: int = 1, groups: int = 1) -> nn.Module:
    """Return a convolution that keeps the size and has no bias."""
    return nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, groups=groups, bias=False)


def widths(ratio: str, c1: int, c2: int, paper: str) -> Variant:
    """Table 1: c1 to c2 channels and back."""
    return Variant(ratio, f"{c1}, {c2}", c1, lambda: nn.Sequential(conv(c1, c2), conv(c2, c1)), paper)


def groups(count: int, channels: int, paper: str) -> Variant:
    """Table 2: one grouped 1x1 convolution."""
    return Variant(
        f"g = {count}", str(channels), channels, lambda: conv(channels, channels, groups=count), paper
    )


def fragments(name: str, count: int, channels: int, paper: str) -> Variant:
    """Table 3: 1x1 convolutions one after the other, or side by side and then added."""
    join = Sum if "parallel" in name else nn.Sequential
    return Variant(
        name, str(channels), channels, lambda: join(*(conv(channels, channels) for _ in range(count))), paper
    )


def bottleneck(name: str, *, relu: bool, shortcut: bool, paper: str) -> Variant:
    """Table 4: ResNet's 1x1, 3x3, 1x1 with a quarter of the width between."""
    width, inner = 64, 16

    def block() -> nn.Module:
        convolutions = (conv(width, inner), conv(inner, inner, 3), conv(inner, width))
        layers = [layer for c in convolutions for layer in ((c, nn.ReLU()) if relu else (c,))]
        body = nn.Sequential(*layers)
        return Sum(body, nn.Identity()) if shortcut else body

    return Variant(name, f"{width}, {inner}", width, block, paper)


TABLES = {
    "Table 1 (G1): two 1x1 convolutions, c1 to c2 channels and back": (
        widths("1:1", 64, 64, "fastest"),
        widths("1:2", 45, 90, "slower"),
        widths("1:6", 26, 156, "slower still"),
        widths("1:12", 18, 222, "slowest: about half on the GPU"),
    ),
    "Table 2 (G2): a grouped 1x1 convolution": (
        groups(1, 128, "fastest"),
        groups(2, 180, "slower"),
        groups(4, 256, "slower still"),
        groups(8, 360, "slowest: under half on the GPU, 30 % less on ARM"),
    ),
    "Table 3 (G3): 1x1 convolutions in series or in parallel": (
        fragments("1-fragment", 1, 128, "fastest"),
        fragments("2-fragment-series", 2, 90, "slower"),
        fragments("4-fragment-series", 4, 64, "slower still"),
        fragments("2-fragment-parallel", 2, 90, "slower"),
        fragments("4-fragment-parallel", 4, 64, "slowest: a third on the GPU, little less on ARM"),
    ),
    "Table 4 (G4): bottlenecks": (
        bottleneck("ReLU and shortcut", relu=True, shortcut=True, paper="slowest"),
        bottleneck("no ReLU", relu=False, shortcut=True, paper="faster"),
        bottleneck("no shortcut", relu=True, shortcut=False, paper="faster"),
        bottleneck("neither", relu=False, shortcut=False, paper="fastest: about 20 % more"),
    ),
}


def trace_of(variant: Variant) -> Trace:
    """Take a network the way that a submission goes, in this process; weights of seed 0."""
    torch.manual_seed(0)
    here = SubmissionSource("benchmark", Path(__file__), Kind.FILE)
    with tempfile.TemporaryDirectory() as folder:
        graph, weights = Path(folder) / "graph", Path(folder) / "weights"
        network = Network(variant.block).eval()
        write_graph(export_model(network, (variant.width, SIZE, SIZE), here), here, graph, weights)
        return trace(read_graph(graph, weights), num_classes=NUM_CLASSES)


def beside(walk: Trace, first: Trace, batch: int, seconds: float) -> BatchSpeed:
    """Time a variant beside the first of its table."""
    contest = Contest(walk, first, rounding=to_bfloat16)
    return judged(batch, list(contest.rounds(batch, seconds)))


def images_per_second(found: BatchSpeed) -> float:
    """Return a variant's own speed: the median of its blocks."""
    times = [
        time for r in found.rounds for side, time in zip(r.order, r.microseconds, strict=True) if side == "e"
    ]
    return found.batch * 1e6 / statistics.median(times)


def show(title: str, variants: Sequence[Variant], seconds: float) -> None:
    """Measure one of the paper's tables and print it as Markdown, once for each batch size."""
    traces = [trace_of(variant) for variant in variants]
    for batch in BATCHES:
        print(f"\n**{title}, batch {batch}**\n")
        headings = ("variant", "channels", "MACs", "elementwise", "memory access", "images/s", "ratio")
        print(f"| {' | '.join((*headings, 'interval', 'paper'))} |")
        print("|---|---|--:|--:|--:|--:|--:|---|---|")
        for variant, walk in zip(variants, traces, strict=True):
            found = beside(walk, traces[0], batch, seconds)
            cost = count_macs(walk)
            access = sum(memory_access(step).elements for step in walk.steps)
            slowest, fastest = (1 / ratio for ratio in reversed(found.interval))
            unsure = "" if found.verdict is SpeedVerdict.OK else "?"
            print(
                f"| {variant.name} | {variant.channels} | {cost.contraction:,} | {cost.pointwise:,} "
                f"| {access:,} | {images_per_second(found):.1f} | {1 / found.ratio:.3f}{unsure} "
                f"| {slowest:.3f} to {fastest:.3f} | {variant.paper} |",
                flush=True,
            )


def main() -> None:
    """Measure all tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="for each row, at least")
    seconds = parser.parse_args().seconds
    print(
        f"torch {torch.__version__}, one thread on one core of {os.cpu_count()}, "
        f"load {os.getloadavg()[0]:.1f}, {seconds:g} seconds a row"
    )
    with on_one_processor(0), undisturbed():  # 0: this process
        for title, variants in TABLES.items():
            show(title, variants, seconds)


if __name__ == "__main__":
    main()
