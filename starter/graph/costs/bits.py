"""Bit operations: multiply-accumulates weighted by the bits of what they multiply.

The bits are those of the operands' grids (grids.py), otherwise of their dtypes; no submission declares them.
Packing several numbers into one gains nothing: its grid has as many bits as all of them together.
"""

from collections.abc import Mapping
from functools import cache

import torch

from starter.graph.analysis import Step, Trace
from starter.graph.costs.grids import MAX_LEVELS, grids_of, levels_of_constant
from starter.graph.format import AtenValue, Ref, refs_in
from starter.graph.kernels import bind

_FULL = 32 * 32
"""The product of the bits of both operands in a float32 multiply-accumulate."""

_Operand = tuple[str, int | None]
_WEIGHTED: tuple[_Operand, _Operand] = ("input", None), ("weight", 0)
_TRANSPOSED: tuple[_Operand, _Operand] = ("input", None), ("weight", 1)
_OPERANDS: Mapping[str, tuple[_Operand, _Operand]] = {
    f"aten.{name}": operands
    for names, operands in {
        """conv1d.default conv2d.default conv3d.default conv1d.padding conv2d.padding conv3d.padding
        convolution.default linear.default""": _WEIGHTED,
        "conv_transpose1d.default conv_transpose2d.input conv_transpose3d.input": _TRANSPOSED,
        "mm.default bmm.default": (("self", -2), ("mat2", -1)),
        "matmul.default": (("self", -2), ("other", -1)),
        "mv.default": (("self", -2), ("vec", None)),
        "dot.default": (("self", None), ("tensor", None)),
        "addmm.default": (("mat1", -2), ("mat2", -1)),
        "baddbmm.default": (("batch1", -2), ("batch2", -1)),
    }.items()
    for name in names.split()
}
"""The operands of each contraction, with the axis along which a constant may have separate scales."""


def bit_operations(walk: Trace) -> int:
    """Add up MACs x bits x bits / 1,024 over all contractions; if all are float32, this equals their MACs."""
    grids = grids_of(walk)

    @cache
    def of_constant(name: str, axis: int | None) -> int:
        values = walk.constants[name]
        axis = axis if values.dim() > 1 else None
        return min(_bits(levels_of_constant(values, axis)), _width(values))

    def bits(value: AtenValue, axis: int | None) -> int:
        assert isinstance(value, Ref)
        if value.name not in walk.shapes:
            return of_constant(value.name, axis)
        grid = grids.get(value.name)
        return min(_bits(None if grid is None else grid.levels), _width(walk.shapes[value.name]))

    total = 0
    for step in walk.steps:
        macs = step.rule.cost(step.call).contraction
        if macs:
            left, right = _operands(step) or (None, None)
            width = _width(step.call.outputs[0])
            total += macs * (bits(*left) * bits(*right) if left and right else width * width)
    return -(-total // _FULL)


def _operands(step: Step) -> list[tuple[AtenValue, int | None]] | None:
    """Return the two operands with their axes; None if they are not known, as in attention."""
    op = step.node.op
    arguments = bind(op, step.node.args, step.node.kwargs)
    if op == "aten.einsum.default":
        return [(Ref(name), None) for name in refs_in(arguments["tensors"])]
    operands = _TRANSPOSED if arguments.get("transposed") else _OPERANDS.get(op)
    return operands and [(arguments[name], axis) for name, axis in operands]


def _bits(levels: float | None) -> int:
    """Return the bits for a number of levels; above the limit of a grid, those of float32."""
    return max(1, (int(levels) - 1).bit_length()) if levels is not None and levels <= MAX_LEVELS else 32


def _width(tensor: torch.Tensor) -> int:
    return 8 * tensor.element_size()
