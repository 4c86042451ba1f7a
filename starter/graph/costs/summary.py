"""Every cost of a network besides its MACs, read from the graph."""

from starter.contract.costs import GraphCosts
from starter.graph.analysis import Trace
from starter.graph.costs.bits import bit_operations
from starter.graph.costs.memory import peak_memory_bytes, weight_bytes
from starter.graph.costs.memory_access import memory_access
from starter.graph.formulas import CostClass


def graph_costs(walk: Trace) -> GraphCosts:
    """Return the cost of one image in memory, memory access, depth and bit operations."""
    return GraphCosts(
        weight_bytes=weight_bytes(walk),
        peak_memory_bytes=peak_memory_bytes(walk),
        memory_access=sum(memory_access(step).elements for step in walk.steps),
        depth=depth(walk),
        bit_operations=bit_operations(walk),
    )


def depth(walk: Trace) -> int:
    """Return the number of convolutions and matrix products on the longest path.

    Networks are named by this number: 18 for ResNet-18, 16 for VGG-16.
    """
    depths: dict[str, int] = {}
    for step in walk.steps:
        before = max((depths.get(name, 0) for name in step.node.refs()), default=0)
        depths[step.node.name] = before + (step.rule.kind is CostClass.CONTRACTION)
    return depths.get(walk.graph.file.output, 0)
