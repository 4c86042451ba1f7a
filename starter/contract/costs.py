"""The records of what a network costs: operator by operator, layer by layer, and in all."""

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
