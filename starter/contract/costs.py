"""The records of a network's cost: by operator, by layer, in total, and in time."""

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
    """The cost of one image: the total of each class, and every operator."""

    contraction: int
    """MACs of convolutions and matrix products: the literature's convention."""
    pointwise: int
    """MACs of elementwise operators."""
    reduction: int
    """MACs of sums, pools and norms."""
    nodes: tuple[NodeCost, ...]
    """In the order in which they run."""
    ptflops_macs: int = 0
    """MACs by the rule of ptflops, which scored the original competition."""

    @property
    def macs(self) -> int:
        """The sum of all classes: the number that is scored."""
        return self.contraction + self.pointwise + self.reduction


class GraphCosts(Record):
    """The costs of one image besides MACs, read from the graph: exact, and the same on every machine."""

    weight_bytes: int
    """Bytes of the constants that the program carries, each counted once in its own dtype."""
    peak_memory_bytes: int
    """The most bytes alive at once, weights included; views and in-place results add nothing."""
    memory_access: int
    """Elements that all operators read and write."""
    depth: int
    """Convolutions and matrix products on the longest path."""
    bit_operations: int | None = Field(default=None, exclude_if=lambda count: count is None)
    """MACs of contractions x the bits of both operands / 1,024; None if an earlier kit measured."""


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
    """How to follow the guideline here."""
    saving: int
    """The estimated saving: elements of memory access; for G3, operators."""
    share: float
    """The saving as a share of the network's memory access; for G3, of its operators."""


class Timing(Record):
    """How long something takes, in microseconds."""

    median: float
    """Of all rounds."""
    low: float
    """The first quartile."""
    high: float
    """The third quartile."""


class LayerProfile(Record):
    """The cost for one image of one line of one module, each time that it runs."""

    module: str
    """The participant's module path."""
    source: str
    """The participant's line, or the library's if no line is the participant's."""
    ops: tuple[str, ...]
    """Its operators, each once."""
    shape: tuple[int, ...]
    """Shape of the last operator's output."""
    params: int
    """Elements of the parameters that are first used here."""
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
        """Arithmetic intensity, FLOPs per byte; 0 if nothing is read."""
        return self.flops / self.access_bytes if self.access_bytes else 0.0

    @property
    def label(self) -> str:
        """Module and line."""
        return "  ".join(part for part in (self.module, self.source) if part) or self.ops[0]


class ProfileReport(Record):
    """The breakdown of a network's cost, memory access and time."""

    layers: tuple[LayerProfile, ...]
    """In the order in which they run."""
    latency: dict[int, Timing]
    """Of the whole network, by batch size, for the whole batch."""
    findings: tuple[Finding, ...]
    """The places that do not follow the four guidelines of ShuffleNetV2."""
    device: str
    """The device that it was measured on."""
    threads: int
    """Number of threads."""
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
    """Whether the measurement of an entry's speed is reliable, and if not, why."""

    OK = "ok"
    """The ratio holds within its interval."""
    CONTROL = "control"
    """The baseline differs from itself: its interval excludes 1."""
    WIDE = "wide"
    """The interval is wider than 3 % of the ratio."""


class SpeedRound(Record):
    """Six blocks of calls: the entry, the baseline and its control in one order, then in reverse."""

    taking: int = Field(ge=0)
    """The number of its repetition, from 0."""
    order: str = Field(pattern="^[ebc]{6}$")
    """The order of the blocks: e is the entry, b the baseline, c the control (the baseline again)."""
    microseconds: tuple[float, ...] = Field(min_length=6, max_length=6)
    """The mean time of one call in each of those blocks."""


class BatchSpeed(Record):
    """The speed of an entry relative to the baseline at one batch size."""

    batch: int
    """Images per call."""
    verdict: SpeedVerdict
    """Whether the ratio is reliable."""
    ratio: float
    """The entry's time over the baseline's, median of the rounds: lower is faster."""
    interval: tuple[float, float]
    """99 % bootstrap interval of the ratio, over the rounds."""
    control_interval: tuple[float, float]
    """The same interval for the control's time over the baseline's."""
    rounds: tuple[SpeedRound, ...]
    """All timed blocks."""


class SpeedReport(Record):
    """The speed of an entry relative to the baseline, both measured alternately in one process."""

    ratio: float | None
    """Time over the baseline's, geometric mean of the batch sizes; None if the measurement is unreliable."""
    batches: tuple[BatchSpeed, ...]
    """One for each batch size."""
    device: str
    """The device that it was measured on."""
    clock: Literal["processor time", "wall clock", "CUDA events"]
    """The clock that was read; processor time excludes what other programs use of the core."""
    core: int | None
    """The core that the process was pinned to; None on a GPU, or if the system cannot pin it."""
    seed: int
    """The seed of the order of the blocks, the images and the memory layout."""
