"""The operator table: every ATen operator a graph may call, and what it costs.

One multiply-accumulate (MAC) is one multiplication with its addition: a dot
product of length n costs n. What has no row is refused by name; nothing is ever
free by omission, so a row that costs nothing carries the reason. Formulas take
shapes from tensors that our own interpreter produced. Adding them up: macs.py.
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import torch

from starter.graph.format import GETITEM

COST_VERSION = 1
"""Raised when a change of this table moves any score."""


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


class Class(StrEnum):
    """How the cost of an operator is reckoned."""

    CONTRACTION = "contraction"
    POINTWISE = "pointwise"
    REDUCTION = "reduction"
    MOVEMENT = "movement"
    CONSTANT = "constant"


@dataclass(frozen=True)
class Call:
    """One call as the formulas see it: arguments by schema name, tensors without their values."""

    arguments: dict[str, Any]
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
    def input_size(self) -> int:
        """Elements of the first tensor argument."""
        return int(next(v for v in self.arguments.values() if isinstance(v, torch.Tensor)).numel())


Formula = Callable[[Call], Cost]


@dataclass(frozen=True)
class Row:
    """One operator."""

    kind: Class
    cost: Formula
    rule: str
    """The formula in words, n the output's elements and i the input's; for a free row, why it is free."""
    indices: tuple[str, ...] = ()
    """Arguments that select elements: these must not depend on the image."""
    ignores_values: bool = False
    """Whether it reads only the shape of its tensors, so that its result is a constant."""
    is_view: bool = False
    """Whether it only describes the same memory anew."""


def _free(_: Call) -> Cost:
    return Cost()


def _pointwise(per_element: int = 1) -> Formula:
    return lambda call: Cost(pointwise=per_element * call.size)


def _reduction(per_element: int = 1) -> Formula:
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
    """Both kinds in one operator; which one is said by an argument."""
    return (conv_transpose_cost if call.arguments["transposed"] else conv_cost)(call)


def linear_cost(call: Call) -> Cost:
    """Each output element is a dot product of in_features."""
    return Cost(contraction=call.size * call.shape("input")[-1], pointwise=_bias(call))


def _matmul(left: str, *, added: bool = False) -> Formula:
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


def _spatial(value: int | Sequence[int], rank: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * rank if len(values) == 1 else values


def _pool(rank: int) -> Formula:
    """Each output element reads one window."""
    return lambda call: Cost(reduction=call.size * math.prod(_spatial(call.arguments["kernel_size"], rank)))


def _adaptive_pool(rank: int) -> Formula:
    """The sum of the window sizes; output i of n over a side s reads floor(i s/n) to ceil((i+1) s/n)."""

    def cost(call: Call) -> Cost:
        sides = call.outputs[0].shape[-rank:]
        inputs = next(v for v in call.arguments.values() if isinstance(v, torch.Tensor)).shape
        # Neighbouring windows share an element, except where an edge of both falls between two.
        windows = math.prod(
            side + n - math.gcd(side, n) for n, side in zip(sides, inputs[-rank:], strict=True)
        )
        return Cost(reduction=windows * math.prod(inputs[:-rank]))

    return cost


def cast_cost(call: Call) -> Cost:
    """A change of type touches every element; the same type costs nothing."""
    source = next(v for v in call.arguments.values() if isinstance(v, torch.Tensor))
    return Cost(pointwise=call.size) if source.dtype != call.outputs[0].dtype else Cost()


def moved_cost(call: Call) -> Cost:
    """Moving is free; where values of several types meet, every element is touched."""
    moved = (t for value in call.arguments.values() for t in _listed(value))
    changed = any(t.dtype != call.outputs[0].dtype for t in moved)
    return Cost(pointwise=call.size) if changed else Cost()


def _listed(value: Any) -> Sequence[torch.Tensor]:
    items = value if isinstance(value, list | tuple) else [value]
    return [item for item in items if isinstance(item, torch.Tensor)]


def _rows(names: str, row: Row) -> Iterable[tuple[str, Row]]:
    return ((f"aten.{name}" if "." in name else f"aten.{name}.default", row) for name in names.split())


_CONTRACTIONS: dict[str, tuple[Formula, str]] = {
    "conv1d conv2d conv3d conv1d.padding conv2d.padding conv3d.padding": (
        conv_cost,
        "n x kernel elements x input channels of a group",
    ),
    "convolution": (convolution_cost, "as conv2d, or as conv_transpose2d if `transposed`"),
    "conv_transpose1d conv_transpose2d.input conv_transpose3d.input": (
        conv_transpose_cost,
        "i x kernel elements x output channels of a group",
    ),
    "linear": (linear_cost, "n x in_features"),
    "mm bmm mv matmul": (_matmul("self"), "n x inner size"),
    "dot": (lambda call: Cost(contraction=call.input_size), "i"),
    "addmm": (
        _matmul("mat1", added=True),
        "n x inner size, + n pointwise, + n for each of `alpha` and `beta` that is not 1",
    ),
    "baddbmm": (
        _matmul("batch1", added=True),
        "n x inner size, + n pointwise, + n for each of `alpha` and `beta` that is not 1",
    ),
    "einsum": (einsum_cost, "the product of all index sizes; with one operand a reduction of i"),
    "scaled_dot_product_attention": (
        attention_cost,
        "scores x head size + n x keys, + 3 x scores reduction, + scores pointwise if masked",
    ),
}

_POINTWISE: dict[str, int] = {
    """add.Tensor add.Scalar sub.Tensor sub.Scalar rsub.Tensor rsub.Scalar mul.Tensor mul.Scalar
    div.Tensor div.Scalar neg abs reciprocal exp exp2 expm1 log log1p log2 sqrt rsqrt square
    pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar sin cos tan asin acos atan sinh cosh tanh
    sigmoid erf relu relu6 hardswish hardsigmoid hardtanh silu mish gelu elu selu celu leaky_relu
    softplus log_sigmoid threshold  hardshrink softshrink prelu _prelu_kernel
    clamp clamp.Tensor clamp_min clamp_min.Tensor clamp_max clamp_max.Tensor minimum maximum
    fmin fmax where.self where.ScalarSelf where.ScalarOther where.Scalar
    eq.Tensor eq.Scalar ne.Tensor ne.Scalar lt.Tensor lt.Scalar le.Tensor le.Scalar
    gt.Tensor gt.Scalar ge.Tensor ge.Scalar logical_and logical_or logical_not logical_xor
    masked_fill.Scalar masked_fill.Tensor lerp.Scalar lerp.Tensor
    floor ceil round trunc sign frac isnan isinf nan_to_num
    _native_batch_norm_legit_no_training""": 1,
    "glu": 2,
    "upsample_linear1d upsample_linear1d.vec": 2,
    "upsample_bilinear2d upsample_bilinear2d.vec": 4,
    "upsample_bicubic2d upsample_bicubic2d.vec": 16,
}

_REDUCTIONS: dict[str, int] = {
    """sum sum.dim_IntList mean mean.dim amax amin max max.dim min min.dim prod prod.dim_int
    any any.dim any.dims all all.dim all.dims col2im cumsum""": 1,
    """var.correction var.dim var std.correction std.dim std var_mean.correction std_mean.correction
    linalg_vector_norm norm.Scalar norm.ScalarOpt_dim""": 2,
    """softmax.int _softmax log_softmax.int _log_softmax logsumexp layer_norm native_layer_norm
    group_norm native_group_norm instance_norm rms_norm""": 3,
}

_POOLS: dict[str, Formula] = {
    "max_pool1d avg_pool1d": _pool(1),
    "max_pool2d max_pool2d_with_indices avg_pool2d": _pool(2),
    "max_pool3d max_pool3d_with_indices avg_pool3d": _pool(3),
    "adaptive_avg_pool1d": _adaptive_pool(1),
    "adaptive_avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d": _adaptive_pool(2),
    "adaptive_avg_pool3d _adaptive_avg_pool3d adaptive_max_pool3d": _adaptive_pool(3),
}

_VIEWS: dict[str, str] = {
    """view _unsafe_view reshape flatten.using_ints unflatten.int permute transpose.int t
    numpy_T mT squeeze squeeze.dim squeeze.dims unsqueeze movedim.int movedim.intlist swapaxes
    expand expand_as view_as detach alias lift_fresh_copy""": "the same elements seen in another shape",
    """split.Tensor split_with_sizes chunk unbind.int select.int slice.Tensor narrow
    diagonal""": "selects elements at fixed places",
    "dropout": "does nothing in inference; refused in training",
}

_MOVEMENT: dict[str, str] = {
    "clone contiguous": "copies elements",
    "repeat tile repeat_interleave.self_int flip roll rot90": "places elements again, at fixed places",
    """constant_pad_nd pad reflection_pad1d reflection_pad2d replication_pad1d
    replication_pad2d""": "adds a border",
    "pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle": "a fixed permutation",
    "unfold im2col": "copies windows; whatever is done with them is counted",
    """upsample_nearest1d upsample_nearest1d.vec upsample_nearest2d upsample_nearest2d.vec
    _upsample_nearest_exact2d _upsample_nearest_exact2d.vec""": "repeats elements",
}

_JOINS = "copy cat concat stack hstack vstack select_scatter slice_scatter"

_INDEXING: dict[str, tuple[str, ...]] = {
    "index.Tensor": ("indices",),
    "index_select": ("index",),
    "gather": ("index",),
    "embedding": ("indices",),
}

# No `empty`: memory that nobody has written differs from run to run.
_SHAPE_ONLY = """zeros_like ones_like full_like new_zeros new_ones new_full zero fill.Scalar"""

_CONSTANTS = """arange arange.start arange.start_step zeros ones full linspace eye eye.m
    scalar_tensor tril triu tril_indices triu_indices meshgrid meshgrid.indexing floor_divide
    floor_divide.Scalar div.Tensor_mode div.Scalar_mode remainder.Scalar remainder.Tensor fmod.Scalar
    bitwise_and.Tensor bitwise_and.Scalar bitwise_or.Tensor bitwise_xor.Tensor bitwise_not log10 atan2
    argsort sort _upsample_bilinear2d_aa.vec _upsample_bicubic2d_aa.vec
    batch_norm _native_batch_norm_legit.no_stats _native_batch_norm_legit_functional
    native_batch_norm linalg_inv outer hypot"""


def _scaled(count: int, letter: str) -> str:
    return letter if count == 1 else f"{count} {letter}"


def _table() -> dict[str, Row]:
    table: dict[str, Row] = {}
    for names, (formula, rule) in _CONTRACTIONS.items():
        table |= _rows(names, Row(Class.CONTRACTION, formula, rule))
    for names, count in _POINTWISE.items():
        table |= _rows(names, Row(Class.POINTWISE, _pointwise(count), _scaled(count, "n")))
    table |= _rows(
        "addcmul addcdiv", Row(Class.POINTWISE, scaled_product_cost, "n, or 2 n with a factor `value`")
    )
    table |= _rows("_to_copy to.dtype type_as", Row(Class.POINTWISE, cast_cost, "n, if the type changes"))
    for names, count in _REDUCTIONS.items():
        table |= _rows(names, Row(Class.REDUCTION, _reduction(count), _scaled(count, "i")))
    for names, formula in _POOLS.items():
        rule = "the sum of the window sizes" if "adaptive" in names else "n x window"
        table |= _rows(names, Row(Class.REDUCTION, formula, rule))
    for names, rule in _VIEWS.items():
        table |= _rows(names, Row(Class.MOVEMENT, _free, rule, is_view=True))
    for names, rule in _MOVEMENT.items():
        table |= _rows(names, Row(Class.MOVEMENT, _free, rule))
    table |= _rows(_JOINS, Row(Class.MOVEMENT, moved_cost, "free; n, if types are mixed"))
    for names, arguments in _INDEXING.items():
        table |= _rows(names, Row(Class.MOVEMENT, _free, "reads elements at constant places", arguments))
    table |= _rows(_SHAPE_ONLY, Row(Class.CONSTANT, _free, "reads only a shape", ignores_values=True))
    table |= _rows(_CONSTANTS, Row(Class.CONSTANT, _free, "only where it does not depend on the image"))
    table[GETITEM] = Row(Class.MOVEMENT, _free, "names one of several results", is_view=True)
    return table


OPERATORS: dict[str, Row] = _table()

BATCH_STATISTICS = frozenset(
    f"aten.{name}"
    for name in (
        "batch_norm.default",
        "native_batch_norm.default",
        "_native_batch_norm_legit.no_stats",
        "_native_batch_norm_legit_functional.default",
    )
)
"""Rows that are refused on the image because they mix a batch, with a message of their own."""


# A view asks for a memory layout; the layout is ours to choose, the values are the same.
_RUN_AS = {
    "aten.view.default": "aten.reshape.default",
    "aten._unsafe_view.default": "aten.reshape.default",
}


def kernel(op: str) -> Callable[..., Any]:
    """Return the callable of a row of the table.

    Raises:
        AttributeError: this version of torch does not have it.
    """
    if op == GETITEM:
        return _getitem
    _, name, overload = _RUN_AS.get(op, op).split(".")
    found: Callable[..., Any] = getattr(getattr(torch.ops.aten, name), overload)
    return found


def _getitem(values: Sequence[Any], index: int) -> Any:
    if isinstance(values, torch.Tensor):
        raise TypeError("getitem reads one of several results, not a tensor")
    return values[index]


class Declared(NamedTuple):
    """One argument as the operator's schema declares it."""

    name: str
    default: Any
    only_by_name: bool


@functools.cache
def declared_arguments(op: str) -> tuple[Declared, ...]:
    """Return the arguments of an operator of the table, in order."""
    if op == GETITEM:
        return (Declared("values", None, only_by_name=False), Declared("index", None, only_by_name=False))
    schema = kernel(op)._schema  # type: ignore[attr-defined]  # noqa: SLF001 - torch's only way to ask
    return tuple(Declared(a.name, a.default_value, a.kwarg_only) for a in schema.arguments)


def bind(op: str, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Name the arguments of a call by the operator's schema, defaults included."""
    declared = declared_arguments(op)
    given = {a.name: value for a, value in zip(declared, args, strict=False)} | kwargs
    return {a.name: given.get(a.name, a.default) for a in declared}
