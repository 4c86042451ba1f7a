"""Which operators share memory when a graph runs, decided from the graph alone.

A batch norm behind a convolution becomes part of it, and an operator that works element by element writes
over an operand that nothing else reads. executor.py runs it so; costs/memory.py counts it so.
"""

import itertools
from collections import Counter

from starter.graph.analysis import Step, Trace
from starter.graph.format import GETITEM, Node, Ref
from starter.graph.formulas import CostClass

ATTENTION = "aten.scaled_dot_product_attention.default"
BATCH_NORM = "aten._native_batch_norm_legit_no_training.default"
CONVOLUTIONS = frozenset({"aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default"})
MAY_ALIAS = frozenset({"aten.einsum.default", "aten.to.dtype", "aten.type_as.default"})
"""Operators that compute, but may return their operand's own memory."""

IN_PLACE = {
    f"aten.{name}.{overload}": f"aten.{name}_.{overload}"
    for overload, names in {
        "default": """relu relu6 hardswish hardsigmoid hardtanh silu mish elu leaky_relu sigmoid tanh
            clamp_min clamp_max neg abs exp sqrt rsqrt reciprocal floor ceil round trunc""",
        "Tensor": "add sub mul div",
        "Scalar": "add sub mul div",
    }.items()
    for name in names.split()
}
"""Operators that work element by element, and what each is called where it writes over its first operand.

Those that torch.vmap would run image by image (gelu_, clamp_, square_) are left out.
"""


def merged_norms(walk: Trace) -> dict[str, str]:
    """Return the batch norms that a convolution takes in, and which one does.

    A convolution whose result only a batch norm reads is run with that norm in its weights. What reads the
    first of the norm's results stands here too: it names the same memory.
    """
    users = _users(walk)
    convolutions = {
        step.node.name
        for step in walk.steps
        if step.node.op in CONVOLUTIONS and users[step.node.name] == 1 and is_constant(step.node, walk)
    }
    merged: dict[str, str] = {}
    for node in (step.node for step in walk.steps):
        if node.op == BATCH_NORM and node.args[0].name in convolutions and is_constant(node, walk):
            merged[node.name] = node.args[0].name
        elif node.op == GETITEM and node.args[1] == 0 and node.args[0].name in merged:
            merged[node.name] = merged[node.args[0].name]
    return merged


def written_in_place(walk: Trace) -> frozenset[str]:
    """Return the operators that write over their first operand.

    The operand must be the result of an operator that has made memory of its own, nothing else may
    read it, and the result must have its shape and dtype.
    """
    users = _users(walk)
    steps = {step.node.name: step for step in walk.steps}
    return frozenset(name for name, step in steps.items() if _overwrites(step, steps, users))


def is_constant(node: Node, walk: Trace) -> bool:
    """Return whether everything but a node's first operand is constant, and that is not."""
    first, *others = node.refs()
    return first not in walk.constants and all(name in walk.constants for name in others)


def _users(walk: Trace) -> Counter[str]:
    users = Counter(itertools.chain.from_iterable(step.node.refs() for step in walk.steps))
    users[walk.graph.file.output] += 1
    return users


def _overwrites(step: Step, steps: dict[str, Step], users: Counter[str]) -> bool:
    operand = step.node.args[0] if step.node.args else None
    if step.node.op not in IN_PLACE or not isinstance(operand, Ref) or operand.name not in steps:
        return False
    owner = steps[operand.name]
    if users[operand.name] != 1 or owner.call.outputs[0].shape != step.call.outputs[0].shape:
        return False
    if owner.call.outputs[0].dtype != step.call.outputs[0].dtype:
        return False
    if owner.node.op == GETITEM:  # the first result of a norm, and so all that is left of it
        norm = steps[owner.node.args[0].name].node
        return norm.op == BATCH_NORM and owner.node.args[1] == 0 and users[norm.name] == 1
    makes_memory = owner.rule.kind in {CostClass.CONTRACTION, CostClass.POINTWISE}
    return makes_memory and owner.node.op not in MAY_ALIAS | {ATTENTION} and len(owner.call.outputs) == 1
