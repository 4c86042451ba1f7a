"""Check a traced graph against the four guidelines of ShuffleNetV2.

Ma et al. 2018, ShuffleNet V2, arXiv:1807.11164, section 2. They compare networks of
equal MACs: following them makes a network faster, not cheaper in MACs. As there, hw is
the number of positions, c1 and c2 are the channels in and out, B is the MACs.
"""

import math
import operator
from collections import Counter
from collections.abc import Iterator
from functools import reduce
from typing import Literal, NamedTuple

from starter.contract.costs import Finding
from starter.graph.analysis import Step, Trace
from starter.graph.costs.memory_access import memory_access
from starter.graph.format import INPUT
from starter.graph.formulas import CostClass
from starter.graph.fusion import CONVOLUTIONS, merged_norms

MOST_FINDINGS = 5
"""Most findings returned per guideline."""

MOST_EXCESS = 1.1
"""G1: the largest memory access over its lower bound that still follows the guideline."""

LEAST_SHARE = 0.02
"""G4: the share of the network's memory access from which a module is reported."""

LEAST_SHARE_OF_ALL = 0.1
"""G4: the share of all elementwise operators from which the heaviest module is reported anyway."""

Guideline = Literal["G1", "G2", "G3", "G4"]
"""Which of the four."""

_CONVOLUTIONS = CONVOLUTIONS | {f"aten.conv{d}d.padding" for d in (1, 2, 3)} | {"aten.convolution.default"}
_ADD = "aten.add.Tensor"
_JOINS = {_ADD} | {f"aten.{name}.default" for name in ("cat", "concat", "stack", "hstack", "vstack")}


class _Layer(NamedTuple):
    """A convolution, or a linear layer seen as a 1x1 convolution."""

    step: Step
    positions_in: int
    positions: int
    channels_in: int
    channels_out: int
    groups: int
    kernel: int


class _Join(NamedTuple):
    """Values that are added or concatenated."""

    step: Step
    branches: list[int]
    """The contractions that each value depends on, one bit per contraction."""


def check_guidelines(trace: Trace) -> tuple[Finding, ...]:
    """Return the places that do not follow G1 to G4: at most five of each, the worst first.

    G1: 1x1 convolutions of stride 1, and linear layers over several positions, that access over 10 %
    more than they would with equal widths. G2: grouped convolutions except depthwise ones, for what
    they access beyond one group with the same MACs and the same input. G3: contractions beyond the
    longest of the branches that are added or concatenated. G4: modules whose elementwise operators make
    up at least 2 % of the memory access, and the heaviest module if all of them make up over 10 %;
    a batch norm that is merged into a convolution does not count.

    Savings are elements for one image, shares their part of the sum of `memory_access` over all
    operators; for G3, operators and their part of those that run (no views, no merged norms).
    """
    users = Counter(name for step in trace.steps for name in step.node.refs())
    merged = merged_norms(trace)
    running = [s for s in trace.steps if not s.rule.is_view and s.node.name not in merged]
    layers = [layer for step in trace.steps if (layer := _layer(step)) is not None]
    access = sum(memory_access(step).elements for step in trace.steps)
    by_guideline = (
        [_uneven_widths(layer, access) for layer in layers],
        [_many_groups(layer, access) for layer in layers],
        _fragments(trace, layers, users, len(running)),
        _elementwise(running, access),
    )
    findings: list[Finding] = []
    for sources in by_guideline:
        found = [finding for finding in sources if finding is not None]
        findings += sorted(found, key=lambda finding: -finding.saving)[:MOST_FINDINGS]
    return tuple(findings)


def _layer(step: Step) -> _Layer | None:
    arguments = step.call.arguments
    is_linear = step.node.op == "aten.linear.default"
    if not is_linear and (step.node.op not in _CONVOLUTIONS or arguments.get("transposed")):
        return None
    channels_out, *rest = arguments["weight"].shape
    if not rest or not channels_out or not math.prod(rest) or not step.call.size:
        return None
    groups = 1 if is_linear else arguments["groups"]
    channels_in = rest[0] * groups
    positions_in = arguments["input"].numel() // channels_in
    positions = step.call.size // channels_out
    return _Layer(step, positions_in, positions, channels_in, channels_out, groups, math.prod(rest[1:]))


def _uneven_widths(layer: _Layer, network: int) -> Finding | None:
    """G1. A single position (a classifier or a gate) is left out: its access is nearly all weights."""
    hw, c1, c2 = layer.positions, layer.channels_in, layer.channels_out
    if layer.groups > 1 or layer.kernel > 1 or hw == 1 or hw != layer.positions_in:
        return None
    access = hw * (c1 + c2) + c1 * c2
    equal = math.sqrt(c1 * c2)
    bound = 2 * hw * equal + c1 * c2  # 2 sqrt(hw B) + B/hw, because B = hw c1 c2
    if access <= MOST_EXCESS * bound:
        return None
    return _finding(
        "G1",
        layer.step,
        f"hw(c1 + c2) + c1 c2 = {hw:,} x ({c1} + {c2}) + {c1} x {c2} = {access:,}; "
        f"at least 2 sqrt(hw B) + B/hw = {bound:,.0f} with B = {hw * c1 * c2:,}",
        f"Bring the two widths together: {equal:.0f} channels in and out have the same MACs.",
        round(access - bound),
        network,
    )


def _many_groups(layer: _Layer, network: int) -> Finding | None:
    """G2. With one group, the same MACs give c2/g channels; weights and input keep their size."""
    c1, c2, g = layer.channels_in, layer.channels_out, layer.groups
    if g in (1, c1):
        return None
    read, weights, written = layer.positions_in * c1, c1 * c2 * layer.kernel // g, layer.positions * c2
    return _finding(
        "G2",
        layer.step,
        f"hw c1 + B g/c1 + B/hw = {read:,} + {written:,} + {weights:,} with g = {g}; "
        f"{read:,} + {written // g:,} + {weights:,} with g = 1",
        f"Use fewer groups: one group with {c2 // g} channels out has the same MACs.",
        written - written // g,
        network,
    )


def _fragments(trace: Trace, layers: list[_Layer], users: Counter[str], operators: int) -> list[Finding]:
    """G3. A residual block whose shortcut is the identity or one 1x1 convolution is a single path."""
    contractions = [step.node.name for step in trace.steps if step.rule.kind is CostClass.CONTRACTION]
    bits = {name: 1 << i for i, name in enumerate(contractions)}
    small = {bits[layer.step.node.name] for layer in layers if layer.kernel == 1}
    findings = []
    for step, values in _joins(trace, bits, users):
        shared = reduce(operator.and_, values)  # what lies before the fork
        branches = sorted((b for value in values if (b := value & ~shared)), key=int.bit_count)
        if len(branches) < 2:
            continue
        total, longest = reduce(operator.or_, branches).bit_count(), branches[-1].bit_count()
        is_residual = step.node.op == _ADD and len(branches) == 2 and branches[0] in small and longest > 1
        if total == longest or is_residual:
            continue
        formula = f"{len(branches)} fragments with {total} contractions; the longest has {longest}"
        advice = (
            f"Join fewer branches: a path as deep as the longest has {longest} contractions, not {total}."
        )
        findings.append(_finding("G3", step, formula, advice, total - longest, operators))
    return findings


def _joins(trace: Trace, bits: dict[str, int], users: Counter[str]) -> Iterator[_Join]:
    """Yield the joins of values; a chain of additions is one join."""
    made_of = {INPUT: 0}
    joins: dict[str, _Join] = {}
    for step in trace.steps:
        name = step.node.name
        inputs = [ref for ref in dict.fromkeys(step.node.refs()) if ref in made_of]
        made_of[name] = reduce(operator.or_, (made_of[ref] for ref in inputs), bits.get(name, 0))
        if step.node.op not in _JOINS:
            continue
        branches: list[int] = []
        for ref in inputs:
            before = joins.get(ref)
            if before and step.node.op == before.step.node.op == _ADD and users[ref] == 1:
                before.branches.extend(branches)
                branches = joins.pop(ref).branches
            else:
                branches.append(made_of[ref])
        joins[name] = _Join(step, branches)
    yield from joins.values()


def _elementwise(running: list[Step], network: int) -> list[Finding]:
    """G4. The paper gives no formula: few MACs, much memory access."""
    modules: dict[str, list[Step]] = {}
    for step in running:
        if step.rule.kind is CostClass.POINTWISE:
            modules.setdefault(step.node.module, []).append(step)
    sums = {name: sum(memory_access(step).elements for step in steps) for name, steps in modules.items()}
    count, of_all = sum(map(len, modules.values())), sum(sums.values())
    least = LEAST_SHARE * network
    if of_all > LEAST_SHARE_OF_ALL * network:
        least = min(least, max(sums.values()))
    return [
        _finding(
            "G4",
            max(modules[name], key=lambda step: memory_access(step).elements),
            f"{len(modules[name])} of {count} elementwise operators, {access:,} of {of_all:,} elements; "
            f"all of them are {of_all / network:.1%} of the network's memory access",
            "Leave out activations and sums that accuracy does not need, and let batch norms directly "
            "follow convolutions, where they are merged.",
            access,
            network,
        )
        for name, access in sums.items()
        if access >= least
    ]


def _finding(
    guideline: Guideline, step: Step, formula: str, advice: str, saving: int, network: int
) -> Finding:
    """Return the record; `network` is the total of which the saving is a share."""
    place = {"module": step.node.module, "source": step.node.source}
    share = saving / network
    return Finding(guideline=guideline, formula=formula, advice=advice, saving=saving, share=share, **place)
