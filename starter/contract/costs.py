"""The records of what a network costs: operator by operator, layer by layer, in all, and in time."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from starter.contract.errors import Record


class NodeCost(Record):
    """The cost of one operator for one image."""

    name: str
    """The node's name."""
    op: str
    """The operator."""
    module: str
    """The participant's module path."""
    source: str
    """The participant's line."""
    shape: tuple[int, ...]
    """Shape of its (first) output."""
    contraction: int
    """MACs of convolutions and matrix products."""
    pointwise: int
    """MACs of elementwise operators."""
    reduction: int
    """MACs of sums, pools and norms."""


class CostReport(Record):
    """What one image costs: totals by class, and every operator."""

    contraction: int
    """MACs of convolutions and matrix products: the literature's convention."""
    pointwise: int
    """MACs of elementwise operators."""
    reduction: int
    """MACs of sums, pools and norms."""
    nodes: tuple[NodeCost, ...]
    """In the order in which they run."""
    ptflops_macs: int = 0
    """By the rule of ptflops, which the original competition was scored by."""

    @property
    def macs(self) -> int:
        """The sum of all classes: the number that is scored."""
        return self.contraction + self.pointwise + self.reduction


class GraphCosts(Record):
    """What one image costs beside MACs, read off the graph: exact, and the same on every machine."""

    weight_bytes: int
    """Of the constants that the program carries, each at its own dtype, once."""
    peak_memory_bytes: int
    """The most that is alive at once, with the weights; views and what is written in place count once."""
    memory_access: int
    """Elements that all operators read and write."""
    depth: int
    """Convolutions and matrix products one after another, on the longest way."""
    bit_operations: int | None = Field(default=None, exclude_if=lambda count: count is None)
    """MACs of contractions x the bits of both operands / 1,024; None where an earlier kit has measured."""


class Finding(Record):
    """One place where a network does not follow one of ShuffleNetV2's guidelines."""

    guideline: Literal["G1", "G2", "G3", "G4"]
    """Which of the four."""
    module: str
    """The participant's module path."""
    source: str
    """The participant's line."""
    formula: str
    """The paper's formula with this place's numbers in it."""
    advice: str
    """What following the guideline would mean here."""
    saving: int
    """What following it would save, estimated: elements of memory access; for G3 operators."""
    share: float
    """The saving over the whole network's: of its memory access, or of its operators."""


class Timing(Record):
    """How long something takes, in microseconds."""

    median: float
    """Of all rounds."""
    low: float
    """The first quartile."""
    high: float
    """The third quartile."""


class LayerProfile(Record):
    """What one line of one module costs for one image, each time that it runs."""

    module: str
    """The participant's module path."""
    source: str
    """The participant's line, or the library's where none of the participant's is."""
    ops: tuple[str, ...]
    """Its operators, each once."""
    shape: tuple[int, ...]
    """Shape of what the last of them gives."""
    params: int
    """Elements of the parameters that are used here first."""
    contraction: int
    """MACs of convolutions and matrix products."""
    pointwise: int
    """MACs of elementwise operators."""
    reduction: int
    """MACs of sums, pools and norms."""
    flops: int
    """Floating-point operations; a dot product of length n has 2n - 1."""
    access: int
    """Memory access cost: elements read and written."""
    access_bytes: int
    """The same in bytes."""
    latency: dict[int, Timing]
    """By batch size, for the whole batch."""

    @property
    def macs(self) -> int:
        """The sum of all classes."""
        return self.contraction + self.pointwise + self.reduction

    @property
    def intensity(self) -> float:
        """Arithmetic intensity, FLOPs per byte; 0 where nothing is read."""
        return self.flops / self.access_bytes if self.access_bytes else 0.0

    @property
    def label(self) -> str:
        """Module and line."""
        return "  ".join(part for part in (self.module, self.source) if part) or self.ops[0]


class ProfileReport(Record):
    """Where a network's cost, memory access and time go."""

    layers: tuple[LayerProfile, ...]
    """In the order in which they run."""
    latency: dict[int, Timing]
    """Of the whole network, by batch size, for the whole batch."""
    findings: tuple[Finding, ...]
    """Where it does not follow the four guidelines of ShuffleNetV2."""
    device: str
    """What it was measured on."""
    threads: int
    """With how many threads."""
    peak_flops: float
    """FLOPs per second of a large matrix product on that device."""
    peak_bytes: float
    """Bytes per second of a large copy on that device."""

    @property
    def flops(self) -> int:
        """Of all layers."""
        return sum(layer.flops for layer in self.layers)

    @property
    def access(self) -> int:
        """Of all layers, elements."""
        return sum(layer.access for layer in self.layers)

    @property
    def access_bytes(self) -> int:
        """Of all layers, bytes."""
        return sum(layer.access_bytes for layer in self.layers)


class SpeedVerdict(StrEnum):
    """Whether a machine can tell how fast an entry is, and if not, why."""

    OK = "ok"
    """The ratio holds within its interval."""
    CONTROL = "control"
    """The baseline differs from itself: its interval leaves 1."""
    WIDE = "wide"
    """The interval is wider than 3 % of the ratio."""


class SpeedRound(Record):
    """Six blocks of calls: the entry, the baseline and the baseline's control, there and back."""

    taking: int = Field(ge=0)
    """Which of the takings it belongs to."""
    order: str = Field(pattern="^[ebc]{6}$")
    """Whose blocks ran, in order: e the entry, b the baseline, c the control, the baseline once more."""
    microseconds: tuple[float, ...] = Field(min_length=6, max_length=6)
    """The mean time of one call in each of those blocks."""


class BatchSpeed(Record):
    """How fast an entry is beside the baseline at one batch size."""

    batch: int
    """How many images a call takes."""
    verdict: SpeedVerdict
    """Whether the ratio may be believed."""
    ratio: float
    """The entry's time over the baseline's, median of the rounds: lower is faster."""
    interval: tuple[float, float]
    """99 % bootstrap interval of the ratio, over the rounds."""
    control_interval: tuple[float, float]
    """The same of the baseline's time over its own."""
    rounds: tuple[SpeedRound, ...]
    """Every block that was timed."""


class SpeedReport(Record):
    """How fast an entry is beside the baseline: both measured in turns, in one process."""

    ratio: float | None
    """Time over the baseline's, geometric mean of the batch sizes; None: this machine cannot tell today."""
    batches: tuple[BatchSpeed, ...]
    """For each batch size."""
    device: str
    """What it was measured on."""
    clock: Literal["processor time", "wall clock", "CUDA events"]
    """What was read; processor time leaves out what other programs take of the core."""
    core: int | None
    """The one processor that it was kept on; None: the system cannot, or it is a GPU."""
    seed: int
    """Of the order of the blocks, the images and where memory lies."""
