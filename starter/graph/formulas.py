"""What a call costs: the classes of cost and the formula of each operator.

One multiply-accumulate (MAC) is one multiplication with its addition: a dot product of
length n costs n. Formulas take shapes from tensors that our own analysis produced. Which
operator has which formula: operators.py. Adding them up: macs.py.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import torch

from starter.graph.format import AtenValue


class Cost(NamedTuple):
    """MACs of one call for one image, by class."""

    contraction: int = 0
    pointwise: int = 0
    reduction: int = 0

    @property
    def total(self) -> int:
        """All classes: what is scored."""
        return sum(self)

    def __add__(self, other: object) -> "Cost":
        """Add class by class."""
        assert isinstance(other, Cost)
        return Cost(*(a + b for a, b in zip(self, other, strict=True)))


class CostClass(StrEnum):
    """How the cost of an operator is reckoned."""

    CONTRACTION = "contraction"
    POINTWISE = "pointwise"
    REDUCTION = "reduction"
    MOVEMENT = "movement"
    CONSTANT = "constant"


@dataclass(frozen=True)
class Call:
    """One call as the formulas see it: arguments by schema name, tensors without their values."""

    arguments: Mapping[str, AtenValue]
    outputs: tuple[torch.Tensor, ...]
    depends: frozenset[str]
    """Names of the arguments that depend on the image."""

    @property
    def size(self) -> int:
        """Elements of the first output."""
        return self.outputs[0].numel()

    def shape(self, name: str) -> torch.Size:
        """Return the shape of a tensor argument."""
        shape: torch.Size = self.arguments[name].shape
        return shape

    @property
    def input(self) -> torch.Tensor:
        """The first tensor argument."""
        return next(value for value in self.arguments.values() if isinstance(value, torch.Tensor))

    @property
    def input_size(self) -> int:
        """Elements of the first tensor argument."""
        return self.input.numel()


Formula = Callable[[Call], Cost]


def no_cost(_: Call) -> Cost:
    """Nothing: the rule says why."""
    return Cost()


def pointwise_cost(per_element: int) -> Formula:
    """Each output element takes some operations."""
    return lambda call: Cost(pointwise=per_element * call.size)


def reduction_cost(per_element: int) -> Formula:
    """Each input element is read some times."""
    return lambda call: Cost(reduction=per_element * call.input_size)


def _bias(call: Call) -> int:
    return call.size if "bias" in call.depends else 0


def conv_cost(call: Call) -> Cost:
    """Each output element is a dot product over one group's input channels and the kernel."""
    weight = call.shape("weight")
    return Cost(contraction=call.size * math.prod(weight[1:]), pointwise=_bias(call))


def conv_transpose_cost(call: Call) -> Cost:
    """Each input element is multiplied by its channel's whole kernel, for one group's output channels."""
    weight = call.shape("weight")
    return Cost(contraction=call.shape("input").numel() * math.prod(weight[1:]), pointwise=_bias(call))


def convolution_cost(call: Call) -> Cost:
    """Both kinds in one operator; an argument selects one."""
    return (conv_transpose_cost if call.arguments["transposed"] else conv_cost)(call)


def linear_cost(call: Call) -> Cost:
    """Each output element is a dot product of in_features."""
    return Cost(contraction=call.size * call.shape("input")[-1], pointwise=_bias(call))


def matmul_cost(left: str, *, added: bool = False) -> Formula:
    """Each output element is a dot product over the last axis of the left operand."""

    def cost(call: Call) -> Cost:
        factors = sum(call.arguments.get(name, 1) != 1 for name in ("alpha", "beta"))
        contraction = call.size * call.shape(left)[-1]
        return Cost(contraction, pointwise=call.size * (1 + factors) if added else 0)

    return cost


def einsum_cost(call: Call) -> Cost:
    """Two operands: the product of all index sizes. One operand: a reduction of its elements.

    Raises:
        ValueError: no formula: more operands, an ellipsis, a repeated or an implicit index.
    """
    operands: Sequence[torch.Tensor] = call.arguments["tensors"]
    inputs, arrow, output = call.arguments["equation"].replace(" ", "").partition("->")
    terms = inputs.split(",")
    if not arrow or "." in inputs or len(terms) != len(operands) or len(operands) > 2:
        raise ValueError("einsum needs one or two operands and an explicit output, without an ellipsis")
    if any(len(set(term)) != len(term) for term in (*terms, output)):
        raise ValueError("einsum with an index twice in one operand (a diagonal)")
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, operands, strict=True):
        for index, size in zip(term, operand.shape, strict=True):
            sizes[index] = max(size, sizes.get(index, size))  # a size of 1 is spread over the other's
    volume = math.prod(sizes.values())
    return Cost(contraction=volume) if len(operands) == 2 else Cost(reduction=volume)


def attention_cost(call: Call) -> Cost:
    """Scores (queries x keys x head size), softmax over them, then their sum of the values."""
    query, key = call.shape("query"), call.shape("key")
    # The output's batch, not the query's: a query of batch 1 is spread over many keys.
    scores = math.prod(call.outputs[0].shape[:-1]) * key[-2]
    masked = call.arguments.get("attn_mask") is not None or call.arguments.get("is_causal", False)
    return Cost(
        contraction=scores * query[-1] + call.size * key[-2],
        pointwise=scores if masked else 0,
        reduction=3 * scores,
    )


def scaled_product_cost(call: Call) -> Cost:
    """A product and a sum for each output element; a factor other than 1 is one more product."""
    return Cost(pointwise=call.size * (1 if call.arguments["value"] == 1 else 2))


def batch_norm_cost(call: Call) -> Cost:
    """One product and sum for each element while all but the input is constant.

    Otherwise what is written out: subtract the mean, multiply by the root, then by the weight
    with the bias added; and the root of the variance and epsilon once for each channel.
    """
    if call.depends <= {"input"}:
        return Cost(pointwise=call.size)
    return Cost(pointwise=3 * call.size + 2 * call.shape("running_var").numel())


def norm_cost(call: Call) -> Cost:
    """Three reads of the input; a weight or bias from the image is one more product or sum each."""
    affine = [name for name in ("weight", "bias") if call.arguments.get(name) is not None]
    scaled = len(affine) if call.depends.intersection(affine) else 0
    return Cost(pointwise=scaled * call.size, reduction=3 * call.input_size)


def instance_norm_cost(call: Call) -> Cost:
    """With running statistics it is a batch norm in eval mode; else the norm of each channel."""
    return norm_cost(call) if call.arguments["use_input_stats"] else batch_norm_cost(call)


def clamp_cost(call: Call) -> Cost:
    """One operation for each element; two with two bounds that are not both constant."""
    bounds = sum(call.arguments[name] is not None for name in ("min", "max"))
    return Cost(pointwise=call.size * (1 if len(call.depends) == 1 else max(bounds, 1)))


def lerp_cost(call: Call) -> Cost:
    """One product and sum while two of three operands are constant; otherwise a subtraction before it."""
    return Cost(pointwise=call.size * (1 if len(call.depends) == 1 else 2))


def power_operations(exponent: float) -> int:
    """Operations for one x ** exponent.

    An integer takes its squarings and products, and a reciprocal where it is negative; a half takes a
    root; anything else log, product and exp.

    >>> [power_operations(exponent) for exponent in (1, 2, 3, 10, 1000, -2, 0.5, 2.5)]
    [1, 1, 2, 4, 14, 2, 1, 3]
    """
    if abs(exponent) == 0.5:
        return 1
    if not float(exponent).is_integer():
        return 3
    whole = abs(int(exponent))
    return max(1, whole.bit_length() + whole.bit_count() - 2) + (exponent < -1)


def power_cost(call: Call) -> Cost:
    """Each output element takes the operations of its exponent.

    A tensor of exponents takes the absolute value, log, product, exp, sign and one more product:
    its values are not looked at. A constant base takes a product and exp.
    """
    if not isinstance(call.arguments["self"], torch.Tensor):
        return Cost(pointwise=2 * call.size)
    exponent = call.arguments["exponent"]
    operations = 6 if isinstance(exponent, torch.Tensor) else power_operations(exponent)
    return Cost(pointwise=operations * call.size)


def vector_norm_cost(order: str) -> Formula:
    """Two reads of the input for p = 0, 1, 2 or infinity; otherwise the powers and roots as well."""

    def cost(call: Call) -> Cost:
        p = call.arguments[order]
        if p is None or p in {0, 1, 2, math.inf, -math.inf}:
            return Cost(reduction=2 * call.input_size)
        return Cost(pointwise=3 * call.size, reduction=(2 + power_operations(p)) * call.input_size)

    return cost


def _spatial(value: int | Sequence[int], rank: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * rank if len(values) == 1 else values


def pool_cost(rank: int) -> Formula:
    """Each output element reads one window."""
    return lambda call: Cost(reduction=call.size * math.prod(_spatial(call.arguments["kernel_size"], rank)))


def adaptive_pool_cost(rank: int) -> Formula:
    """The sum of the window sizes; output i of n over a side s reads floor(i s/n) to ceil((i+1) s/n)."""

    def cost(call: Call) -> Cost:
        sides = call.outputs[0].shape[-rank:]
        inputs = call.input.shape
        # Neighbouring windows share an element, except where an edge of both falls between two.
        windows = math.prod(
            side + n - math.gcd(side, n) for n, side in zip(sides, inputs[-rank:], strict=True)
        )
        return Cost(reduction=windows * math.prod(inputs[:-rank]))

    return cost


def smooth_resize_cost(taps: int) -> Formula:
    """Each output element reads `taps` elements along an axis, as many times more as the axis shrinks."""

    def cost(call: Call) -> Cost:
        sides = zip(call.input.shape[-2:], call.outputs[0].shape[-2:], strict=True)
        windows = (min(before, math.ceil(taps * max(before / after, 1))) for before, after in sides)
        return Cost(pointwise=call.size * math.prod(windows))

    return cost


def cast_cost(call: Call) -> Cost:
    """A change of type touches every element; the same type costs nothing."""
    return Cost(pointwise=call.size) if call.input.dtype != call.outputs[0].dtype else Cost()


def moved_cost(call: Call) -> Cost:
    """Moving is free; where values of several types meet, every element is touched."""
    moved = (t for value in call.arguments.values() for t in tensors_of(value))
    changed = any(t.dtype != call.outputs[0].dtype for t in moved)
    return Cost(pointwise=call.size) if changed else Cost()


def tensors_of(value: AtenValue) -> tuple[torch.Tensor, ...]:
    """Return the tensors of an argument or a result: itself, or those in its list."""
    items = value if isinstance(value, list | tuple) else (value,)
    return tuple(item for item in items if isinstance(item, torch.Tensor))
