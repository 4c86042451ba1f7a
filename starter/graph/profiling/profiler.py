"""Profile a network's cost, memory access and time, line by line of the participant's code.

Costs come from the scored graph, times from the scored program on random numbers. An operator
that graph/executor.py merges into another takes no time.
"""

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from starter.contract.costs import CostReport, LayerProfile, NodeCost, ProfileReport, Timing
from starter.graph.analysis import Step, Trace
from starter.graph.costs.memory_access import memory_access
from starter.graph.executor import Program
from starter.graph.formulas import CostClass
from starter.graph.fusion import ATTENTION
from starter.graph.profiling.guidelines import check_guidelines

BATCHES = (1, 32)
"""Batch sizes to time."""

_ROUNDS = 30
_MOST_SECONDS = 5.0
_PEAK_SIDE = 1024
_PEAK_ELEMENTS = 2**24


@dataclass
class _Layer:
    steps: list[tuple[Step, NodeCost]] = field(default_factory=list)
    params: int = 0


def profile(walk: Trace, cost: CostReport) -> ProfileReport:
    """Measure a traced graph at batch sizes 1 and 32, on a GPU if there is one, else with one thread.

    Several threads wait for each other at the end of each operator: on a machine that runs
    other programs, waiting would dominate the time of a small operator.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _profile(walk, cost)
    finally:
        torch.set_num_threads(threads)


def _profile(walk: Trace, cost: CostReport) -> ProfileReport:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    program = Program(walk, batch_size=max(BATCHES)).to(device)
    shape = walk.graph.file.input_shape[1:]
    nodes: dict[int, dict[str, Timing]] = {}
    whole: dict[int, Timing] = {}
    for batch in BATCHES:
        if batch <= program.batch_size:
            images = torch.rand(batch, *shape, device=device)
            nodes[batch], whole[batch] = _measure(program, images)
    peak_flops, peak_bytes = _peaks(device)
    return ProfileReport(
        layers=tuple(_report(layer, nodes) for layer in _layers(walk, cost)),
        latency=whole,
        findings=check_guidelines(walk),
        device=device_name(device),
        threads=torch.get_num_threads(),
        peak_flops=peak_flops,
        peak_bytes=peak_bytes,
    )


def device_name(device: torch.device) -> str:
    """Return the common name of a device."""
    return torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or "CPU"


def flops(step: Step, cost: NodeCost) -> int:
    """Return the floating-point operations of one call: 2n - 1 for a dot product of length n.

    A product of a 3 x 3 matrix and a vector has 9 MACs and 15 FLOPs. A bias is one more.
    """
    if step.rule.kind is not CostClass.CONTRACTION or not cost.contraction:
        return cost.contraction + cost.pointwise + cost.reduction
    dots = step.call.size
    if step.node.op == ATTENTION:
        dots += cost.reduction // 3  # the scores are dot products as well
    bias = step.call.size if step.call.arguments.get("bias") is not None else cost.pointwise
    return 2 * cost.contraction - dots + bias + cost.reduction


def _layers(walk: Trace, cost: CostReport) -> list[_Layer]:
    """Group neighbouring steps of the same line and module."""
    layers: list[_Layer] = []
    origins = _parameters_behind_constants(walk)
    seen: set[str] = set()
    for step, node in zip(walk.steps, cost.nodes, strict=True):
        before = layers[-1].steps[-1][1] if layers else None
        if before is None or (before.module, before.source) != (node.module, node.source):
            layers.append(_Layer())
        layer = layers[-1]
        layer.steps.append((step, node))
        used = {p for name in step.node.refs() for p in origins.get(name, ())} - seen
        seen |= used
        layer.params += sum(walk.graph.weights[name].numel() for name in used)
    return layers


def _parameters_behind_constants(walk: Trace) -> dict[str, frozenset[str]]:
    """Return the parameters that each constant is computed from."""
    origins = {t.name: frozenset([t.name]) for t in walk.graph.file.tensors if t.kind == "parameter"}
    for node in walk.graph.file.nodes:
        if node.name in walk.constants:
            origins[node.name] = frozenset().union(*(origins.get(name, ()) for name in node.refs()))
    return origins


def _report(layer: _Layer, timings: dict[int, dict[str, Timing]]) -> LayerProfile:
    access = [memory_access(step) for step, _ in layer.steps]
    last = layer.steps[-1][1]
    return LayerProfile(
        module=last.module,
        source=last.source,
        ops=tuple(dict.fromkeys(node.op for _, node in layer.steps)),
        shape=last.shape,
        params=layer.params,
        contraction=sum(node.contraction for _, node in layer.steps),
        pointwise=sum(node.pointwise for _, node in layer.steps),
        reduction=sum(node.reduction for _, node in layer.steps),
        flops=sum(flops(step, node) for step, node in layer.steps),
        access=sum(a.elements for a in access),
        access_bytes=sum(a.bytes for a in access),
        latency={
            batch: _added([times[node.name] for _, node in layer.steps]) for batch, times in timings.items()
        },
    )


def _added(timings: list[Timing]) -> Timing:
    return Timing(
        median=sum(t.median for t in timings),
        low=sum(t.low for t in timings),
        high=sum(t.high for t in timings),
    )


class _CpuClock:
    """Timestamps after each node; operators on a CPU have finished when they return."""

    def __init__(self) -> None:
        self._stamps: list[tuple[str, float]] = [("", time.perf_counter())]

    def __call__(self, name: str) -> None:
        self._stamps.append((name, time.perf_counter()))

    def microseconds(self) -> dict[str, float]:
        return {
            name: (after - before) * 1e6
            for (_, before), (name, after) in zip(self._stamps, self._stamps[1:], strict=False)
        }


class _CudaClock:
    """CUDA events after each node: the time on the device, without that of launching."""

    def __init__(self) -> None:
        self._stamps: list[tuple[str, torch.cuda.Event]] = []
        self("")

    def __call__(self, name: str) -> None:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        self._stamps.append((name, event))

    def microseconds(self) -> dict[str, float]:
        torch.cuda.synchronize()
        pairs = zip(self._stamps, self._stamps[1:], strict=False)
        return {name: before.elapsed_time(after) * 1e3 for (_, before), (name, after) in pairs}


def _measure(program: Program, images: torch.Tensor) -> tuple[dict[str, Timing], Timing]:
    """Return the times of each node and of the whole, after two warm-up rounds."""
    new_clock = _CudaClock if images.is_cuda else _CpuClock
    rounds: list[dict[str, float]] = []
    totals: list[float] = []
    started = time.monotonic()
    for number in range(_ROUNDS + 2):
        whole = new_clock()
        program(images)
        whole("whole")
        clock = new_clock()
        program(images, after_each=clock)
        if number >= 2:
            totals.append(whole.microseconds()["whole"])
            rounds.append(clock.microseconds())
        if number >= 6 and time.monotonic() - started > _MOST_SECONDS:
            break
    names = rounds[0]
    return {name: _timing([r[name] for r in rounds]) for name in names}, _timing(totals)


def _timing(values: list[float]) -> Timing:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Timing(median=median, low=low, high=high)


def _peaks(device: torch.device) -> tuple[float, float]:
    """Return FLOPs per second of a large matrix product and bytes per second of a large copy."""
    matrix = torch.rand(_PEAK_SIDE, _PEAK_SIDE, device=device)
    source = torch.rand(_PEAK_ELEMENTS, device=device)
    target = torch.empty_like(source)
    product = _fastest(device, lambda: matrix @ matrix)
    copy = _fastest(device, lambda: target.copy_(source))
    return 2 * _PEAK_SIDE**3 / product, 2 * source.nbytes / copy


def _fastest(device: torch.device, call: Callable[[], object]) -> float:
    times = []
    for _ in range(6):
        clock = _CudaClock() if device.type == "cuda" else _CpuClock()
        call()
        clock("call")
        times.append(clock.microseconds()["call"] / 1e6)
    return min(times)
