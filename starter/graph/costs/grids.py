"""Find the values of a graph that lie on a grid: `scale * q` with integers q between two bounds.

Only the operators decide this. A value that depends on the image is on a grid if it was rounded and only
clamps, exact movement and arithmetic with one constant number followed. A constant is on a grid if its own
numbers are. A value that this module cannot analyse is on none.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import torch

from starter.graph.analysis import Step, Trace
from starter.graph.format import AtenValue, Ref
from starter.graph.formulas import CostClass
from starter.graph.kernels import bind

MAX_LEVELS = 256
"""Levels of the finest grid that is searched for in a constant."""

_PRECISION = 2.0**-22
"""Largest relative error of a float32 product: the rounding of the product and of a scale."""

_TRIED = 16
"""Numbers of a channel to check before all of them."""
_CHUNK = 2**22
"""Numbers to check at once."""
_MAX_CHANNELS = 2**16
_MAX_SCALE_BITS = 4096
_MAX_STEPS = 2**31


@dataclass(frozen=True)
class Grid:
    """The possible values of a tensor: `scale * q` for the integers q from `least` to `most`."""

    scale: Fraction
    """The distance between two neighbours, more than 0."""
    least: float
    """An integer, or minus infinity."""
    most: float
    """An integer, or infinity."""

    @property
    def levels(self) -> float:
        """The number of integers from `least` to `most` and 0: products have no other zero point."""
        return max(self.most, 0) - min(self.least, 0) + 1

    def moved(self, offset: Fraction) -> "Grid | None":
        """Add a number; None if it is not a multiple of the step."""
        steps = self._steps(offset)
        return None if steps is None else replace(self, least=self.least + steps, most=self.most + steps)

    def scaled(self, factor: Fraction) -> "Grid | None":
        """Multiply by a number; None if it is 0, or after too many products."""
        scale = self.scale * abs(factor)
        if not factor or scale.numerator.bit_length() + scale.denominator.bit_length() > _MAX_SCALE_BITS:
            return None
        ends = (self.least, self.most) if factor > 0 else (-self.most, -self.least)
        return Grid(scale, *ends)

    def clamped(self, least: Fraction | None, most: Fraction | None) -> "Grid | None":
        """Clamp it; None if a bound is between two levels."""
        low, high = (None if bound is None else self._steps(bound) for bound in (least, most))
        if (low is None) != (least is None) or (high is None) != (most is None):
            return None
        ends = [self.least, self.most]
        ends = ends if low is None else [max(end, low) for end in ends]
        ends = ends if high is None else [min(end, high) for end in ends]
        return Grid(self.scale, *ends)

    def _steps(self, distance: Fraction) -> int | None:
        steps = distance / self.scale
        return int(steps) if steps.denominator == 1 and abs(steps) <= _MAX_STEPS else None


Grids = dict[str, Grid]
"""Grids of image-dependent values by name; a value that is missing here is on none."""


def grids_of(walk: Trace) -> Grids:
    """Return the grid of each image-dependent value that lies on one; several results share one grid."""
    seen = _Seen(walk.constants)
    for step in walk.steps:
        arguments = bind(step.node.op, step.node.args, step.node.kwargs)
        seen.steps[step.node.name] = step
        found = _grid_of(step, arguments, seen)
        if found is not None:
            seen.grids[step.node.name] = found
    return seen.grids


def levels_of_constant(values: torch.Tensor, axis: int | None) -> int | None:
    """Return the number of levels of the grid of a constant's own numbers; None: no grid, or too fine.

    With too many channels, no grid is searched for.

    Args:
        values: the constant.
        axis: the axis of the output channels, each of which may have its own scale; None: one scale.
    """
    channels = values.reshape(1, -1) if axis is None else values.movedim(axis, 0).flatten(1)
    side = channels.shape[1]
    if len(channels) > _MAX_CHANNELS:
        return None
    if not side:
        return 1
    most = 1
    for part in torch.split(channels, max(1, _CHUNK // max(side, MAX_LEVELS * min(side, _TRIED)))):
        levels = _levels(part.double())
        if levels is None:
            return None
        most = max(most, levels)
    return most


def _levels(channels: torch.Tensor) -> int | None:
    """Return the numbers of levels of the coarsest grids through 0 that contain each channel's numbers.

    Args:
        channels: float64 (channels, numbers).
    """
    if not channels.isfinite().all():
        return None
    sizes = channels.abs()
    largest = sizes.amax(1, keepdim=True)
    largest[largest == 0] = 1
    sizes /= largest
    # The largest number is 1 to 255 steps from 0: all of these are tried, first with a few numbers.
    steps = torch.arange(1, MAX_LEVELS, dtype=torch.double)
    left = _is_near(sizes.topk(min(len(sizes[0]), _TRIED), 1).values[..., None] * steps).all(1)
    found = torch.zeros(len(sizes), 1, dtype=torch.double)
    pending = torch.arange(len(sizes))
    while len(pending):
        if not left[pending].any(1).all():
            return None
        first = left[pending].int().argmax(1)
        fits = _is_near(sizes[pending] * steps[first, None]).all(1)
        found[pending] = steps[first, None]
        left[pending, first] = False
        pending = pending[~fits]
    places = (channels / largest * found).round()
    levels = int((places.amax(1).clamp(min=0) - places.amin(1).clamp(max=0)).max()) + 1
    return levels if levels <= MAX_LEVELS else None


def _is_near(places: torch.Tensor) -> torch.Tensor:
    """Return for each number whether it is an integer within the precision of float32."""
    return (places - places.round()).abs() <= _PRECISION * places


@dataclass
class _Seen:
    """The state of the search."""

    constants: Mapping[str, AtenValue]

    def __post_init__(self) -> None:
        self.grids: Grids = {}
        self.steps: dict[str, Step] = {}

    def grid(self, value: AtenValue) -> Grid | None:
        """Return the grid of an argument; None for a constant too."""
        return self.grids.get(value.name) if isinstance(value, Ref) else None

    def number(self, value: AtenValue) -> Fraction | None:
        """Return an argument that is one constant number."""
        if isinstance(value, Ref):
            tensor = self.constants.get(value.name)
            value = tensor.item() if isinstance(tensor, torch.Tensor) and tensor.numel() == 1 else None
        is_number = isinstance(value, int | float) and math.isfinite(value)
        return Fraction(value) if is_number else None


Arguments = Mapping[str, AtenValue]
_Rule = Callable[[Arguments, _Seen], Grid | None]

_JOINS = frozenset(f"aten.{name}.default" for name in ("cat", "concat", "stack", "hstack", "vstack"))
_NOT_MOVED = frozenset(f"aten.{name}.default" for name in ("copy", "select_scatter", "slice_scatter"))
_CLAMPS: Mapping[str, tuple[AtenValue, AtenValue]] = {
    "aten.relu.default": (0, None),
    "aten.relu6.default": (0, 6),
    "aten.hardtanh.default": ("min_val", "max_val"),
    "aten.clamp.default": ("min", "max"),
    "aten.clamp_min.default": ("min", None),
    "aten.clamp_max.default": (None, "max"),
}
"""The bounds of a clamping operator: numbers, or the names of its arguments."""


def _grid_of(step: Step, arguments: Arguments, seen: _Seen) -> Grid | None:
    op = step.node.op
    if step.call.outputs[0].dtype is torch.bool:
        return Grid(Fraction(1), 0, 1)
    if op in _CLAMPS:
        grid, bounds = seen.grid(arguments["self"]), _bounds(op, arguments, seen)
        return None if grid is None or bounds is None else grid.clamped(*bounds)
    if op in _JOINS:
        return _joined(arguments, seen)
    if op in _RULES:
        return _RULES[op](arguments, seen)
    if (
        step.rule.kind is not CostClass.MOVEMENT
        or op in _NOT_MOVED
        or arguments.get("value") not in {None, 0}
    ):
        return None  # `value` is what a border is filled with
    return _first(arguments, seen)


def _first(arguments: Arguments, seen: _Seen) -> Grid | None:
    """Return the grid of the first argument, whose elements move or are selected."""
    return seen.grid(next(iter(arguments.values())))


def _joined(arguments: Arguments, seen: _Seen) -> Grid | None:
    grids = [seen.grid(part) for part in arguments["tensors"]]
    found = [grid for grid in grids if grid is not None]
    if len(found) < len(grids) or len({grid.scale for grid in found}) != 1:
        return None
    return Grid(found[0].scale, min(grid.least for grid in found), max(grid.most for grid in found))


def _bounds(op: str, arguments: Arguments, seen: _Seen) -> tuple[Fraction | None, Fraction | None] | None:
    """Return the bounds of a clamp; None if one of them is not a constant number."""
    found: list[Fraction | None] = []
    for bound in _CLAMPS[op]:
        given = arguments[bound] if isinstance(bound, str) else bound
        number = seen.number(given)
        if given is not None and number is None:
            return None
        found.append(number)
    return found[0], found[1]


def _rounded(arguments: Arguments, seen: _Seen) -> Grid | None:
    """Return the grid of integers; within two bounds, if a clamp comes directly before."""
    ends = [-math.inf, math.inf]
    made_by = seen.steps.get(arguments["self"].name)
    if made_by is not None and made_by.node.op in _CLAMPS:
        clamp = bind(made_by.node.op, made_by.node.args, made_by.node.kwargs)
        low, high = _bounds(made_by.node.op, clamp, seen) or (None, None)
        ends = [-math.inf if low is None else math.floor(low), math.inf if high is None else math.ceil(high)]
    return Grid(Fraction(1), *ends)


def _magnitude(arguments: Arguments, seen: _Seen) -> Grid | None:
    grid = _first(arguments, seen)
    return grid and replace(grid, least=0, most=max(abs(grid.least), abs(grid.most)))


def _negated(arguments: Arguments, seen: _Seen) -> Grid | None:
    grid = _first(arguments, seen)
    return grid and grid.scaled(Fraction(-1))


def _moved(sign: int, *, reverse: bool = False) -> _Rule:
    """Add or subtract one constant number, or with `reverse` subtract from it."""

    def rule(arguments: Arguments, seen: _Seen) -> Grid | None:
        operands = [arguments["self"], arguments["other"]]
        if seen.grid(operands[0]) is None and sign > 0:
            operands.reverse()
        grid, number = seen.grid(operands[0]), seen.number(operands[1])
        if grid is None or number is None or arguments.get("alpha", 1) != 1:
            return None
        grid = grid.scaled(Fraction(-1)) if reverse else grid
        return grid and grid.moved(number * (1 if reverse else sign))

    return rule


def _product(arguments: Arguments, seen: _Seen) -> Grid | None:
    operands = [arguments["self"], arguments["other"]]
    if seen.grid(operands[0]) is None:
        operands.reverse()
    grid, number = seen.grid(operands[0]), seen.number(operands[1])
    return None if grid is None or number is None else grid.scaled(number)


def _quotient(arguments: Arguments, seen: _Seen) -> Grid | None:
    grid, number = seen.grid(arguments["self"]), seen.number(arguments["other"])
    return grid.scaled(1 / number) if grid is not None and number else None


def _sign(_: Arguments, __: _Seen) -> Grid:
    return Grid(Fraction(1), -1, 1)


_BY_NAME: Mapping[str, _Rule] = {
    "round.default floor.default ceil.default trunc.default": _rounded,
    "sign.default": _sign,
    "neg.default": _negated,
    "abs.default": _magnitude,
    "add.Tensor add.Scalar": _moved(1),
    "sub.Tensor sub.Scalar": _moved(-1),
    "rsub.Tensor rsub.Scalar": _moved(-1, reverse=True),
    "mul.Tensor mul.Scalar": _product,
    "div.Tensor div.Scalar": _quotient,
    """_to_copy.default to.dtype type_as.default amax.default amin.default max.default max.dim min.default
    min.dim max_pool1d.default max_pool2d.default max_pool2d_with_indices.default max_pool3d.default
    max_pool3d_with_indices.default adaptive_max_pool2d.default adaptive_max_pool3d.default""": _first,
}
_RULES = {f"aten.{name}": rule for names, rule in _BY_NAME.items() for name in names.split()}
