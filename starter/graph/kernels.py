"""Torch's kernels: the callable of each operator, its arguments by name, and the numbers that they may be.

What a kernel costs: operators.py.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

from starter.graph.format import GETITEM, AtenValue

TORCH_ERRORS = (
    RuntimeError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    MemoryError,
)
"""What torch raises for arguments that do not fit an operator."""

# A view asks for a memory layout; the layout is ours to choose, the values are the same.
_RUN_AS = {
    "aten.view.default": "aten.reshape.default",
    "aten._unsafe_view.default": "aten.reshape.default",
}


def kernel(op: str) -> Callable[..., AtenValue]:
    """Return the callable of an operator.

    Raises:
        AttributeError: this version of torch does not have it.
    """
    if op == GETITEM:
        return _getitem
    _, name, overload = _RUN_AS.get(op, op).split(".")
    found: Callable[..., AtenValue] = getattr(getattr(torch.ops.aten, name), overload)
    return found


def _getitem(values: Sequence[AtenValue], index: int) -> AtenValue:
    if isinstance(values, torch.Tensor):
        raise TypeError("getitem reads one of several results, not a tensor")
    return values[index]


class Declared(NamedTuple):
    """One argument as the operator's schema declares it."""

    name: str
    default: AtenValue
    only_by_name: bool


def call_kernel(
    op: str, args: Sequence[AtenValue], kwargs: Mapping[str, AtenValue], device: torch.device
) -> AtenValue:
    """Call an operator; one that makes a tensor out of nothing makes it on `device`."""
    if any(argument.name == "device" for argument in declared_arguments(op)):
        kwargs = {**kwargs, "device": device}
    return kernel(op)(*args, **kwargs)


@functools.cache
def declared_arguments(op: str) -> tuple[Declared, ...]:
    """Return the arguments of an operator of the table, in order."""
    if op == GETITEM:
        return (Declared("values", None, only_by_name=False), Declared("index", None, only_by_name=False))
    schema = kernel(op)._schema  # type: ignore[attr-defined]  # noqa: SLF001 - torch's only way to ask
    return tuple(Declared(a.name, a.default_value, a.kwarg_only) for a in schema.arguments)


def bind(op: str, args: Sequence[AtenValue], kwargs: Mapping[str, AtenValue]) -> dict[str, AtenValue]:
    """Name the arguments of a call by the operator's schema, defaults included."""
    declared = declared_arguments(op)
    given = {a.name: value for a, value in zip(declared, args, strict=False)} | dict(kwargs)
    return {a.name: given.get(a.name, a.default) for a in declared}
