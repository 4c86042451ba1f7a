"""Torch's kernels: the callable of each operator, its arguments by name, and the numbers that they may be.

What a kernel costs: operators.py.
"""

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

from starter.contract.errors import Code, ParticipantError, participant_error
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


class Bounds(NamedTuple):
    """What a number may be."""

    least: float
    most: float
    also: tuple[float, ...] = ()
    """What is allowed beyond them."""
    is_size: bool = False
    """Whether more is a graph that is too large."""

    def allow(self, number: float) -> bool:
        """Say whether a number is within them."""
        return self.least <= number <= self.most or number in self.also

    def __str__(self) -> str:
        beyond = "".join(f" or {value}" for value in self.also)
        return f"{self.least:,} to {self.most:,}{beyond}"


MAX_RANK = 64
"""Dimensions of a tensor, and numbers in a list of them: what torch's kernels and vmap allow."""

_MOST = 2**26
_BOUNDS: Mapping[str, Bounds] = {
    name: bounds
    for names, bounds in {
        "kernel_size stride dilation": Bounds(1, 2**16),
        "padding output_padding pad": Bounds(-(2**16), 2**16),
        "groups group num_groups upscale_factor downscale_factor": Bounds(1, 2**16),
        "chunks divisor_override steps n m row col": Bounds(0, _MOST, is_size=True),
        "split_size split_sizes length N C HxW": Bounds(0, _MOST, is_size=True),
        "size sizes shape output_size normalized_shape repeats padding_idx": Bounds(-1, _MOST, is_size=True),
        "dim dim0 dim1 dim2 axis0 axis1 source destination": Bounds(-MAX_RANK, MAX_RANK - 1),
        "dimension start_dim end_dim": Bounds(-MAX_RANK, MAX_RANK - 1),
        "dims": Bounds(-MAX_RANK, _MOST, is_size=True),  # of `tile`: repetitions
        "index shifts k offset diagonal correction": Bounds(-_MOST, _MOST),
        "start end": Bounds(-_MOST, _MOST, also=(2**63 - 1,), is_size=True),  # an open end
        "step": Bounds(-_MOST, _MOST),
        "scales scales_h scales_w scale_factors": Bounds(2**-12, 2**12),
        "exponent p ord": Bounds(-(2**31), 2**31, also=(math.inf, -math.inf)),
    }.items()
    for name in names.split()
}
"""Bounds of numbers by the name of the argument, which says what they mean."""

_ANY = Bounds(-math.inf, math.inf)
_NUMBERS = re.compile(r"\b(int|float|number)\b")


def check_bounds(op: str, args: Sequence[AtenValue], kwargs: Mapping[str, AtenValue], where: str) -> None:
    """Refuse numbers that are nonsense for what they mean, before any kernel sees them.

    An operator that this torch does not have has no bounds: there is nothing to call.

    Raises:
        ParticipantError: E506 for a size that is too large, E508 for any other number.
    """
    try:
        declared = declared_arguments(op)
    except (AttributeError, ValueError, RuntimeError):
        return
    given = {a.name: value for a, value in zip(declared, args, strict=False)} | dict(kwargs)
    for name in (a.name for a in declared if a.numbers and a.name in given):
        numbers = given[name] if isinstance(given[name], list) else [given[name]]
        bounds = _BOUNDS.get(name, _ANY)
        if len(numbers) > MAX_RANK and name != "split_sizes":
            raise _outside(where, f"at most {MAX_RANK} numbers in `{name}`", f"{len(numbers):,}")
        for number in numbers:
            if type(number) in {int, float} and not bounds.allow(number):
                too_large = bounds.is_size and number > bounds.most
                code = Code.GRAPH_TOO_LARGE if too_large else Code.NUMBER_OUT_OF_BOUNDS
                raise _outside(where, f"`{name}` from {bounds}", str(number), code)


def _outside(where: str, expected: str, got: str, code: Code = Code.NUMBER_OUT_OF_BOUNDS) -> ParticipantError:
    return participant_error(code, where=where, expected=expected, got=got)


def undefined_division(op: str, bound: Mapping[str, AtenValue]) -> str | None:
    """Return why a division of constant integers has no result; None if it has one.

    Args:
        op: the operator.
        bound: its arguments by name, tensors with their values.
    """
    if op not in _DIVISIONS or bound.get("rounding_mode", "") is None:  # None: a true division
        return None
    dividend, divisor = (torch.as_tensor(bound[name]) for name in ("self", "other"))
    dtype = torch.result_type(bound["self"], bound["other"])
    if dtype.is_floating_point or dtype is torch.bool or dtype.is_complex:
        return None
    if (divisor.to(dtype) == 0).any():
        return f"{dtype} divided by zero".removeprefix("torch.")
    least = torch.iinfo(dtype).min
    if least < 0 and (dividend.to(dtype) == least).any() and (divisor.to(dtype) == -1).any():
        return f"{dtype} {least} divided by -1".removeprefix("torch.")
    return None


_DIVISIONS = frozenset(
    f"aten.{name}"
    for name in (
        *("floor_divide.default", "floor_divide.Scalar", "div.Tensor_mode", "div.Scalar_mode"),
        *("remainder.Scalar", "remainder.Tensor", "fmod.Scalar"),
    )
)


class Declared(NamedTuple):
    """One argument as the operator's schema declares it."""

    name: str
    default: AtenValue
    only_by_name: bool
    numbers: bool = False
    """Whether it takes a number or a list of numbers."""
    tensors: bool = False
    """Whether it takes a tensor or a list of tensors."""


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
    return tuple(
        Declared(
            a.name,
            a.default_value,
            a.kwarg_only,
            numbers=bool(_NUMBERS.search(str(a.real_type))),
            tensors="Tensor" in str(a.real_type),
        )
        for a in schema.arguments
    )


def bind(op: str, args: Sequence[AtenValue], kwargs: Mapping[str, AtenValue]) -> dict[str, AtenValue]:
    """Name the arguments of a call by the operator's schema, defaults included."""
    declared = declared_arguments(op)
    given = {a.name: value for a, value in zip(declared, args, strict=False)} | dict(kwargs)
    return {a.name: given.get(a.name, a.default) for a in declared}
