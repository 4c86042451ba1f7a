"""The operator table: every ATen operator a graph may call, how it is called and what it costs.

An operator without a rule is rejected by name. Nothing is free by omission: a rule that costs
nothing states the reason. The formulas: formulas.py. An organizer's rules: cost_rules.py.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from starter.contract.errors import INSTEAD
from starter.graph.format import GETITEM
from starter.graph.formulas import (
    Cost,
    CostClass,
    Formula,
    adaptive_pool_cost,
    attention_cost,
    batch_norm_cost,
    cast_cost,
    clamp_cost,
    conv_cost,
    conv_transpose_cost,
    convolution_cost,
    einsum_cost,
    instance_norm_cost,
    lerp_cost,
    linear_cost,
    matmul_cost,
    moved_cost,
    no_cost,
    norm_cost,
    pointwise_cost,
    pool_cost,
    power_cost,
    reduction_cost,
    scaled_product_cost,
    smooth_resize_cost,
    vector_norm_cost,
)


@dataclass(frozen=True)
class OperatorRule:
    """What one operator costs, and what the walk through a graph has to know of it."""

    kind: CostClass
    cost: Formula
    rule: str
    """The formula in words, n the output's elements and i the input's; for a free row, why it is free."""
    operands: tuple[str, ...] | None = None
    """Arguments that may depend on the image, because the formula prices them; None: all."""
    indices: tuple[str, ...] = ()
    """Arguments that select elements: these must not depend on the image."""
    ignores_values: bool = False
    """Whether it reads only the shape of its tensors, so that its result is a constant."""
    is_view: bool = False
    """Whether it only gives the same memory another description."""
    is_exact: bool = False
    """Whether its results are values that it was given, or whole numbers: rounding would change nothing."""


OperatorTable = Mapping[str, OperatorRule]
"""Rules by operator, for instance "aten.conv2d.default"."""


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
    "mm bmm mv matmul": (matmul_cost("self"), "n x inner size"),
    "dot": (lambda call: Cost(contraction=call.input_size), "i"),
    "addmm": (
        matmul_cost("mat1", added=True),
        "n x inner size, + n pointwise, + n for each of `alpha` and `beta` that is not 1",
    ),
    "baddbmm": (
        matmul_cost("batch1", added=True),
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
    sin cos tan asin acos atan sinh cosh tanh
    sigmoid erf relu relu6 hardswish hardsigmoid hardtanh silu mish gelu elu selu celu leaky_relu
    softplus log_sigmoid threshold  hardshrink softshrink prelu _prelu_kernel
    clamp clamp_min clamp_min.Tensor clamp_max clamp_max.Tensor minimum maximum
    fmin fmax where.self where.ScalarSelf where.ScalarOther where.Scalar
    eq.Tensor eq.Scalar ne.Tensor ne.Scalar lt.Tensor lt.Scalar le.Tensor le.Scalar
    gt.Tensor gt.Scalar ge.Tensor ge.Scalar logical_and logical_or logical_not logical_xor
    masked_fill.Scalar masked_fill.Tensor
    floor ceil round trunc sign frac isnan isinf nan_to_num""": 1,
    "glu": 2,
    "upsample_linear1d upsample_linear1d.vec": 2,
    "upsample_bilinear2d upsample_bilinear2d.vec": 4,
    "upsample_bicubic2d upsample_bicubic2d.vec": 16,
}

_EXACT = """relu relu6 hardtanh threshold neg abs sign clamp clamp.Tensor clamp_min clamp_min.Tensor clamp_max
    clamp_max.Tensor minimum maximum fmin fmax amax amin max max.dim min min.dim
    where.self where.ScalarSelf where.ScalarOther where.Scalar masked_fill.Scalar masked_fill.Tensor
    floor ceil round trunc nan_to_num max_pool1d max_pool2d max_pool2d_with_indices max_pool3d
    max_pool3d_with_indices adaptive_max_pool2d adaptive_max_pool3d"""
"""Operators with a price whose results are among the values that they are given, or whole numbers."""

_SMOOTHED = "n x taps of both axes: 2 (bilinear) or 4 (bicubic) x input/output, at least 2 or 4"
_POINTWISE_BY_CALL: dict[str, tuple[Formula, str]] = {
    "addcmul addcdiv": (scaled_product_cost, "n, or 2 n with a factor `value`"),
    "_to_copy to.dtype type_as": (cast_cost, "n, if the type changes"),
    "clamp.Tensor": (clamp_cost, "n, or 2 n with two bounds if several operands depend on the image"),
    "lerp.Scalar lerp.Tensor": (lerp_cost, "n, or 2 n if several operands depend on the image"),
    "pow.Tensor_Scalar": (
        power_cost,
        "n x squarings and products of the exponent (of 10: 4), + n below -1; n for a root; else 3 n",
    ),
    "pow.Tensor_Tensor": (power_cost, "6 n"),
    "pow.Scalar": (power_cost, "2 n"),
    "_upsample_bilinear2d_aa _upsample_bilinear2d_aa.vec": (smooth_resize_cost(2), _SMOOTHED),
    "_upsample_bicubic2d_aa _upsample_bicubic2d_aa.vec": (smooth_resize_cost(4), _SMOOTHED),
    "_native_batch_norm_legit_no_training": (
        batch_norm_cost,
        "n, or 3 n + 2 x channels if anything but the input depends on the image",
    ),
}

_REDUCTIONS: dict[str, int] = {
    """sum sum.dim_IntList mean mean.dim amax amin max max.dim min min.dim prod prod.dim_int
    any any.dim any.dims all all.dim all.dims col2im cumsum""": 1,
    """var.correction var.dim var std.correction std.dim std var_mean.correction
    std_mean.correction""": 2,
    "softmax.int _softmax log_softmax.int _log_softmax logsumexp": 3,
}

_VECTOR_NORM = "2 i, or (2 + cost of pow) i + 3 n if p is not 0, 1, 2 or infinity"
_REDUCTIONS_BY_CALL: dict[str, tuple[Formula, str]] = {
    "linalg_vector_norm": (vector_norm_cost("ord"), _VECTOR_NORM),
    "norm.Scalar norm.ScalarOpt_dim": (vector_norm_cost("p"), _VECTOR_NORM),
    "instance_norm": (instance_norm_cost, "as layer_norm, or as batch_norm with running statistics"),
    "layer_norm native_layer_norm group_norm native_group_norm rms_norm": (
        norm_cost,
        "3 i, + n pointwise for each of weight and bias if one depends on the image",
    ),
}

_POOLS: dict[str, Formula] = {
    "max_pool1d avg_pool1d": pool_cost(1),
    "max_pool2d max_pool2d_with_indices avg_pool2d": pool_cost(2),
    "max_pool3d max_pool3d_with_indices avg_pool3d": pool_cost(3),
    "adaptive_avg_pool1d": adaptive_pool_cost(1),
    "adaptive_avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d": adaptive_pool_cost(2),
    "adaptive_avg_pool3d _adaptive_avg_pool3d adaptive_max_pool3d": adaptive_pool_cost(3),
}

_VIEWS: dict[str, str] = {
    """view _unsafe_view reshape flatten.using_ints unflatten.int permute transpose.int t
    numpy_T mT squeeze squeeze.dim squeeze.dims unsqueeze movedim.int movedim.intlist swapaxes
    expand expand_as view_as detach alias lift_fresh_copy""": "the same elements seen in another shape",
    """split.Tensor unsafe_split.Tensor split_with_sizes chunk unbind.int select.int slice.Tensor narrow
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

_ONE_OPERAND = ("self", "input", "tensors", "values")
"""What may depend on the image where `_OPERANDS` does not say more."""

_OPERANDS: dict[str, str] = {
    """conv1d conv2d conv3d conv1d.padding conv2d.padding conv3d.padding convolution conv_transpose1d
    conv_transpose2d.input conv_transpose3d.input linear layer_norm native_layer_norm group_norm
    native_group_norm instance_norm rms_norm""": "input weight bias",
    "_native_batch_norm_legit_no_training": "input weight bias running_mean running_var",
    "mm bmm": "self mat2",
    "mv": "self vec",
    "dot": "self tensor",
    "addmm": "self mat1 mat2",
    "baddbmm": "self batch1 batch2",
    "scaled_dot_product_attention": "query key value attn_mask",
    """matmul add.Tensor sub.Tensor rsub.Tensor mul.Tensor div.Tensor minimum maximum fmin fmax eq.Tensor
    ne.Tensor lt.Tensor le.Tensor gt.Tensor ge.Tensor logical_and logical_or logical_xor type_as
    expand_as view_as""": "self other",
    "pow.Tensor_Tensor pow.Scalar": "self exponent",
    "prelu _prelu_kernel": "self weight",
    "clamp.Tensor clamp_min.Tensor clamp_max.Tensor": "self min max",
    "where.self where.ScalarSelf where.ScalarOther where.Scalar": "condition self other",
    "masked_fill.Scalar masked_fill.Tensor": "self mask value",
    "lerp.Scalar lerp.Tensor": "self end weight",
    "addcmul addcdiv": "self tensor1 tensor2",
    "copy select_scatter slice_scatter": "self src",
    "embedding": "weight",
}
_OPERANDS_OF = {name: tuple(of.split()) for names, of in _OPERANDS.items() for name in names.split()}

# No `empty`: memory that nobody has written differs from run to run.
_SHAPE_ONLY = """zeros_like ones_like full_like new_zeros new_ones new_full zero fill.Scalar"""

_CONSTANTS = """arange arange.start arange.start_step zeros ones full linspace eye eye.m
    scalar_tensor tril triu tril_indices triu_indices meshgrid meshgrid.indexing floor_divide
    floor_divide.Scalar div.Tensor_mode div.Scalar_mode remainder.Scalar remainder.Tensor fmod.Scalar
    bitwise_and.Tensor bitwise_and.Scalar bitwise_or.Tensor bitwise_xor.Tensor bitwise_not log10 atan2
    argsort sort
    batch_norm _native_batch_norm_legit.no_stats _native_batch_norm_legit_functional
    native_batch_norm linalg_inv outer hypot"""


def _scaled(count: int, letter: str) -> str:
    return letter if count == 1 else f"{count} {letter}"


def operator_table(rules: Iterable[tuple[str, OperatorRule]]) -> OperatorTable:
    """Return a table that nobody can change.

    Raises:
        ValueError: an operator has two rules.
    """
    table: dict[str, OperatorRule] = {}
    for op, rule in rules:
        if op in table:
            raise ValueError(f"{op} has two rules: {table[op].rule!r} and {rule.rule!r}")
        table[op] = rule
    return MappingProxyType(table)


def _each(names: str, rule: OperatorRule) -> Iterator[tuple[str, OperatorRule]]:
    free = rule.kind in {CostClass.MOVEMENT, CostClass.CONSTANT}
    for name in names.split():
        op = f"aten.{name}" if "." in name else f"aten.{name}.default"
        operands = _OPERANDS_OF.get(name, _ONE_OPERAND)
        yield op, replace(rule, operands=operands, is_exact=free or name in _EXACT.split())


def _rules() -> Iterator[tuple[str, OperatorRule]]:
    for names, (formula, rule) in _CONTRACTIONS.items():
        yield from _each(names, OperatorRule(CostClass.CONTRACTION, formula, rule))
    for names, count in _POINTWISE.items():
        yield from _each(names, OperatorRule(CostClass.POINTWISE, pointwise_cost(count), _scaled(count, "n")))
    for names, (formula, rule) in _POINTWISE_BY_CALL.items():
        yield from _each(names, OperatorRule(CostClass.POINTWISE, formula, rule))
    for names, count in _REDUCTIONS.items():
        yield from _each(names, OperatorRule(CostClass.REDUCTION, reduction_cost(count), _scaled(count, "i")))
    for names, (formula, rule) in _REDUCTIONS_BY_CALL.items():
        yield from _each(names, OperatorRule(CostClass.REDUCTION, formula, rule))
    for names, formula in _POOLS.items():
        rule = "the sum of the window sizes" if "adaptive" in names else "n x window"
        yield from _each(names, OperatorRule(CostClass.REDUCTION, formula, rule))
    yield from _free_rules()


def _free_rules() -> Iterator[tuple[str, OperatorRule]]:
    for names, rule in _VIEWS.items():
        yield from _each(names, OperatorRule(CostClass.MOVEMENT, no_cost, rule, is_view=True))
    for names, rule in _MOVEMENT.items():
        yield from _each(names, OperatorRule(CostClass.MOVEMENT, no_cost, rule))
    yield from _each(_JOINS, OperatorRule(CostClass.MOVEMENT, moved_cost, "free; n, if types are mixed"))
    at_places = "reads elements at constant places"
    for names, indices in _INDEXING.items():
        yield from _each(names, OperatorRule(CostClass.MOVEMENT, no_cost, at_places, indices=indices))
    yield from _each(
        _SHAPE_ONLY, OperatorRule(CostClass.CONSTANT, no_cost, "reads only a shape", ignores_values=True)
    )
    only_constant = "only where it does not depend on the image"
    yield from _each(_CONSTANTS, OperatorRule(CostClass.CONSTANT, no_cost, only_constant))
    yield (
        GETITEM,
        OperatorRule(
            CostClass.MOVEMENT, no_cost, "names one of several results", is_view=True, is_exact=True
        ),
    )


OPERATORS = operator_table(_rules())
"""The kit's own table, the same in every process."""

BATCH_STATISTICS = frozenset(
    f"aten.{name}"
    for name in (
        "batch_norm.default",
        "native_batch_norm.default",
        "_native_batch_norm_legit.no_stats",
        "_native_batch_norm_legit_functional.default",
    )
)
"""Operators that are refused on the image because they mix a batch, with a message of their own."""


def hint(op: str) -> str:
    """Return the next step for the author of a refused operator; empty if there is no special one."""
    name = op.removeprefix("aten.").removesuffix(".default")
    for pattern, instead in INSTEAD.items():
        if re.search(rf"(?<![a-zA-Z])(?:{pattern})(?![a-zA-Z])", name):
            return instead
    return ""
