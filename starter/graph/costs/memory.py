"""The memory that a network needs: its weights, and the values alive at once.

Both come from the traced graph alone, with nothing allocated, so they are the same on every machine.
"""

from collections import Counter
from collections.abc import Collection

import numpy as np

from starter.graph.analysis import Trace
from starter.graph.format import INPUT, AtenValue, Node
from starter.graph.formulas import tensors_of
from starter.graph.fusion import BATCH_NORM, merged_norms, written_in_place

_NUMBER_BYTES = 8
"""Bytes of a number in the program's text."""
_MOST_FLOW = 2**31 - 1
"""The largest number that scipy's maximum_flow can count."""


def weight_bytes(walk: Trace) -> int:
    """Return the bytes of the constants that a program must carry, each in its own dtype.

    Values that do not depend on the image are carried as stored or as computed, by the cheapest
    choice of all. A tensor that is used twice is carried once, and a number in the text that
    computes a constant counts as 8 bytes. The cheapest choice is a minimum cut between the stored
    constants and the operators that depend on the image (Ford and Fulkerson 1956).
    """
    nodes = {node.name: node for node in walk.graph.file.nodes if node.name in walk.constants}
    keys = {t.name: t.key for t in walk.graph.file.tensors}
    wanted = {n for step in walk.steps for n in step.node.refs() if n in walk.constants}
    carried = {keys[name]: _bytes(walk.constants[name]) for name in wanted if name in keys}
    computed = _behind(nodes, wanted - keys.keys())
    return sum(carried.values()) + _cheapest(walk, computed, wanted, keys, carried.keys())


def _behind(nodes: dict[str, Node], wanted: set[str]) -> dict[str, Node]:
    """Return the nodes that compute the given constants."""
    found: dict[str, Node] = {}
    waiting = list(wanted)
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in found:
            found[name] = nodes[name]
            waiting += nodes[name].refs()
    return found


def _cheapest(
    walk: Trace, computed: dict[str, Node], wanted: set[str], keys: dict[str, str], free: Collection[str]
) -> int:
    """Return the fewest bytes from which the given constants can be computed.

    Each constant is an edge whose capacity is its bytes; cutting the edge means carrying the constant. The
    numbers in a node's text flow from the source, so a computed constant pays for them.
    """
    if not computed:
        return 0
    stored = {
        keys[n]: _bytes(walk.constants[n]) for node in computed.values() for n in node.refs() if n in keys
    }
    stored = {key: size for key, size in stored.items() if key not in free}
    text = {name: _NUMBER_BYTES * _numbers([*n.args, *n.kwargs.values()]) for name, n in computed.items()}
    most = sum(stored.values()) + sum(text.values())
    if most >= _MOST_FLOW:
        return most
    places = {label: 2 + 2 * i for i, label in enumerate([*stored, *computed])}
    edges: dict[tuple[int, int], int] = {}
    for key, size in stored.items():
        edges[0, places[key]] = edges[places[key], places[key] + 1] = size
    for name, node in computed.items():
        here = places[name]
        edges[0, here] = text[name]
        edges[here, here + 1] = min(_bytes(walk.constants[name]), most)
        for operand in node.refs():
            if (label := keys.get(operand, operand)) in places:
                edges[places[label] + 1, here] = most
        if name in wanted:
            edges[here + 1, 1] = most
    return _maximum_flow(edges, 2 + 2 * len(places))


def _maximum_flow(edges: dict[tuple[int, int], int], size: int) -> int:
    """Return the maximum flow from node 0 to node 1."""
    from scipy.sparse import csr_array  # noqa: PLC0415 - most networks compute no constant
    from scipy.sparse.csgraph import maximum_flow  # noqa: PLC0415

    rows, columns = np.array(list(edges)).T
    capacities = csr_array((np.array(list(edges.values()), dtype=np.int32), (rows, columns)), (size, size))
    return int(maximum_flow(capacities, 0, 1).flow_value)


def peak_memory_bytes(walk: Trace) -> int:
    """Return the most bytes alive at once while one image runs, weights included.

    The order is the program's. Alive at each operator are its inputs, its outputs, and all values that are
    read later. A view shares its operand's memory; so do a batch norm that is folded into the convolution
    before it and an in-place result. A kernel's temporary memory is left out.
    """
    memory = {INPUT: INPUT}
    sizes = {INPUT: _bytes(walk.shapes[INPUT])}
    same = merged_norms(walk).keys() | written_in_place(walk)
    last = {name: i for i, step in enumerate(walk.steps) for name in step.node.refs()}
    last[walk.graph.file.output] = len(walk.steps)
    names = Counter([INPUT])
    alive = peak = sizes[INPUT]
    for i, step in enumerate(walk.steps):
        name, operands = step.node.name, [n for n in step.node.refs() if n in memory]
        if step.rule.is_view or name in same:
            memory[name] = memory[operands[0]]
        else:
            memory[name] = name
            sizes[name] = _bytes(step.call.outputs[:1] if step.node.op == BATCH_NORM else step.call.outputs)
            alive += sizes[name]
        names[memory[name]] += 1
        peak = max(peak, alive)
        for dead in {n for n in (*operands, name) if last.get(n, i) <= i}:
            names[memory[dead]] -= 1
            alive -= 0 if names[memory[dead]] else sizes[memory[dead]]
    return peak + weight_bytes(walk)


def _bytes(value: AtenValue) -> int:
    return sum(t.numel() * t.element_size() for t in tensors_of(value))


def _numbers(value: AtenValue) -> int:
    """Return how many numbers an argument contains."""
    if isinstance(value, list | tuple):
        return sum(map(_numbers, value))
    return int(isinstance(value, int | float) and not isinstance(value, bool))
