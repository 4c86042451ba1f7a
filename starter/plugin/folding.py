"""Compute what no image changes, where the table of operators has no row for it.

A weight norm or a decomposition of a weight gives the same numbers for every image, so it is free; its
result becomes one more constant of the graph. It is computed here, in the submission's own process and
within its limits: the process that runs graphs meets only operators of the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node as FxNode

from starter.graph.format import GETITEM, STORED_DTYPES, AtenValue
from starter.graph.operators import OPERATORS


@dataclass(frozen=True)
class FoldedConstant:
    """The result of operators that read constants only."""

    value: torch.Tensor
    """What they compute."""
    is_parameter: bool
    """Whether a parameter is among what they read."""


def name_of(fx_node: FxNode) -> str:
    """Return an operator's name as the table of operators has it."""
    if isinstance(fx_node.target, torch._ops.OpOverload):  # noqa: SLF001 - the type has no public name
        return str(fx_node.target)
    name = str(getattr(fx_node.target, "__name__", fx_node.target))
    return GETITEM if name == "getitem" else name


def fold(exported: ExportedProgram) -> dict[str, FoldedConstant]:
    """Return, by the node's name, each constant that operators without a row compute for one with a row.

    What raises, or has no place in a weights file, is left as it is, to be refused by its operator's name.
    """
    stored = {**exported.state_dict, **exported.constants}
    values: dict[FxNode, AtenValue] = {}
    parameters: set[FxNode] = set()
    without_row: set[FxNode] = set()
    placeholders = {n.name: n for n in exported.graph.nodes if n.op == "placeholder"}
    for spec in exported.graph_signature.input_specs:
        if spec.kind is not InputKind.USER_INPUT and spec.target in stored:
            values[placeholders[spec.arg.name]] = stored[spec.target].detach()
            if spec.kind is InputKind.PARAMETER:
                parameters.add(placeholders[spec.arg.name])
    constant = set(values)
    for node in (n for n in exported.graph.nodes if n.op == "call_function"):
        if _reads_shapes_only(node) or (
            all(read in constant for read in node.all_input_nodes) and _is_pure(node)
        ):
            constant.add(node)
            if parameters.intersection(node.all_input_nodes):
                parameters.add(node)
            read = node.all_input_nodes
            if any(map(_has_no_row, (node, *read))) or without_row.intersection(read):
                without_row.add(node)
    wanted = [node for node in without_row if any(user not in without_row for user in node.users)]
    found = {}
    with torch.no_grad():
        for node in wanted:
            value = _computed(node, values)
            if isinstance(value, torch.Tensor) and value.dtype in STORED_DTYPES:
                found[node.name] = FoldedConstant(value, node in parameters)
    return found


def _is_pure(node: FxNode) -> bool:
    """Say whether a call gives the same for the same arguments, and does nothing else."""
    if not isinstance(node.target, torch._ops.OpOverload):  # noqa: SLF001 - as above
        return name_of(node) == GETITEM
    op = node.target
    return (
        op.namespace == "aten"
        and torch.Tag.nondeterministic_seeded not in op.tags
        and not op._schema.is_mutable  # noqa: SLF001 - torch's only way to ask
        and not op.__name__.startswith(("empty", "new_empty", "from_file"))
    )


def _has_no_row(node: FxNode) -> bool:
    return node.op == "call_function" and name_of(node) not in OPERATORS


def _reads_shapes_only(node: FxNode) -> bool:
    rule = OPERATORS.get(name_of(node))
    return rule is not None and rule.ignores_values


def _computed(node: FxNode, values: dict[FxNode, AtenValue]) -> AtenValue:
    """Compute a node and what it reads, each once; None where that raises."""
    order, waiting = [], [node]
    while waiting:  # a loop: torch's recursion limit is lower than the length of a graph
        following = waiting.pop()
        if following not in values:
            order.append(following)
            waiting += [] if _reads_shapes_only(following) else following.all_input_nodes
    for read in sorted(set(order), key=_places(node).__getitem__):
        try:
            values[read] = _call(read, values)
        except Exception:  # noqa: BLE001 - a kernel may raise anything: the reader says what is wrong
            return None
    return values[node]


def _places(node: FxNode) -> Mapping[FxNode, int]:
    return {other: i for i, other in enumerate(node.graph.nodes)}


def _call(node: FxNode, values: Mapping[FxNode, AtenValue]) -> AtenValue:
    def value(read: FxNode) -> AtenValue:
        if read in values:
            return values[read]
        example = read.meta["val"]  # of the image: only its shape will be read
        return torch.zeros(example.shape, dtype=example.dtype)

    args = torch.fx.map_arg(node.args, value)
    kwargs = torch.fx.map_arg(node.kwargs, value)
    return node.target(*args, **kwargs)  # type: ignore[operator]
