"""For tests: count the MACs of a Program while it runs, from what torch really dispatches.

Independent of graph/formulas.py: sizes are those of the tensors that exist, whether an
operator is elementwise is torch's own tag, and what is neither priced nor named as
moving data is an error.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from starter.contract.costs import CostReport
from starter.graph.analysis import Trace
from starter.graph.executor import Program

PER_OUTPUT = {
    "rsub": 1, "hardswish": 1, "_prelu_kernel": 1, "masked_fill": 1, "glu": 2, "log_sigmoid_forward": 1,
    "native_batch_norm": 1, "_native_batch_norm_legit_no_training": 1, "logical_or": 1, "square": 1,
    "upsample_linear1d": 2, "upsample_bilinear2d": 4, "upsample_bicubic2d": 16, "mish": 1, "abs": 1,
}  # fmt: skip
PER_INPUT = {
    "sum": 1, "mean": 1, "amax": 1, "amin": 1, "max": 1, "min": 1, "prod": 1, "any": 1, "all": 1, "col2im": 1,
    "cumsum": 1, "var": 2, "std": 2, "var_mean": 2, "std_mean": 2, "linalg_vector_norm": 2, "norm": 2,
    "_softmax": 3, "_log_softmax": 3, "logsumexp": 3, "native_layer_norm": 3, "native_group_norm": 3,
    "_fused_rms_norm": 3,
}  # fmt: skip
_MOVES = """
    view _unsafe_view reshape flatten unflatten permute transpose t numpy_T mT squeeze unsqueeze movedim
    unsafe_split swapaxes expand expand_as view_as detach alias lift_fresh_copy split split_with_sizes chunk
    unbind select slice narrow diagonal clone contiguous copy copy_ _to_copy to type_as cat concat stack
    hstack vstack select_scatter slice_scatter repeat tile repeat_interleave flip roll rot90 pad
    constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d pixel_shuffle
    pixel_unshuffle channel_shuffle native_channel_shuffle unfold im2col upsample_nearest1d upsample_nearest2d
    _upsample_nearest_exact2d index index_select gather embedding as_strided _reshape_alias select_copy
    empty empty_like new_empty zeros zeros_like new_zeros ones full arange scalar_tensor scatter
"""
MOVES = frozenset(_MOVES.split())
PRODUCTS = frozenset({"mm", "bmm", "mv", "matmul", "dot"})
ATTENTION = "scaled_dot_product_attention"
POOLS = frozenset({"avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d"})
SMOOTH_RESIZES = {"_upsample_bilinear2d_aa": 1, "_upsample_bicubic2d_aa": 2}
"""Antialiased resizes: how far their filter reaches to either side."""
EASY_NORMS = frozenset({None, 0, 1, 2, math.inf, -math.inf})
AT_MOST = frozenset(
    f"aten.{name}"
    for name in (
        *("_native_batch_norm_legit_no_training.default", "einsum.default"),
        *("clamp.Tensor", "lerp.Scalar", "lerp.Tensor"),
        *("_upsample_bilinear2d_aa.default", "_upsample_bilinear2d_aa.vec"),
        *("_upsample_bicubic2d_aa.default", "_upsample_bicubic2d_aa.vec"),
    )
)
"""May do less than is counted: a norm is merged into its convolution, an einsum sums what it can first; a
kernel that does several operations for each element is one call; at an edge a filter reads fewer."""
BY_CONVENTION = frozenset(
    f"aten.{name}.default" for name in ("linear", "addmm", "baddbmm", "rms_norm", "instance_norm")
)
"""Counted by a rule in words (a constant bias is free), not by the steps that torch takes."""

APART = {
    f"aten.{name}": steps
    for names, steps in {
        """conv1d.default conv2d.default conv3d.default conv1d.padding conv2d.padding conv3d.padding
        convolution.default conv_transpose1d.default conv_transpose2d.input conv_transpose3d.input
        select_scatter.default""": 1,
        "group_norm.default native_group_norm.default": 2,
    }.items()
    for name in names.split()
}
"""Steps for each output that vmap may take apart: a constant weight or bias, a choice of places."""


class Recount(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own is not annotated
    """Tallies products of convolutions and matrices, and all other arithmetic."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.products = self.rest = self.casts = 0
        self.unknown: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        name = name if name in MOVES else name.removesuffix("_")  # written in place
        if not _has_price(func, name):
            if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
                with self:
                    return func.decompose(*args, **kwargs)
            self.unknown.add(str(func))
        result = func(*args, **kwargs)
        output = next(_tensors(result))
        inputs = list(_tensors(args))
        self.products += _products(name, args, output)
        if name not in MOVES:
            self.rest += _rest(name, func, args, output)
        elif any(t.dtype != output.dtype for t in _data(name, inputs)):
            self.casts += output.numel()
        return result


def _products(name: str, args: tuple[Any, ...], output: torch.Tensor) -> int:
    """Products of a convolution, a matrix product or attention."""
    if name == "convolution":
        image, weight, transposed = args[0], args[1], args[6]
        return (image if transposed else output).numel() * math.prod(weight.shape[1:])
    if name in PRODUCTS:
        return output.numel() * args[0].shape[-1]
    if name == ATTENTION:
        return _scores(args, output) * (args[0].shape[-1] + output.shape[-1])
    return 0


def _scores(args: tuple[Any, ...], output: torch.Tensor) -> int:
    return math.prod(output.shape[:-1]) * args[1].shape[-2]


def _rest(name: str, func: Any, args: tuple[Any, ...], output: torch.Tensor) -> int:
    """All other arithmetic."""
    image, size = next(_tensors(args)), output.numel()
    if name == ATTENTION:
        is_masked = any(value is not None and value is not False for value in (*args[3:4], *args[5:6]))
        return _scores(args, output) * (4 if is_masked else 3)
    if name.removesuffix("_with_indices") in POOLS:
        rank = int(name[8])
        return size * math.prod(args[1] if len(args[1]) == rank else args[1] * rank)
    if name in SMOOTH_RESIZES or "adaptive" in name:
        reach = SMOOTH_RESIZES.get(name)
        rank = int(name[-2]) if reach is None else 2
        sides = zip(image.shape[-rank:], output.shape[-rank:], strict=True)
        windows = (_reads(*side) if reach is None else _filtered(reach, *side) for side in sides)
        return math.prod(image.shape[:-rank]) * math.prod(windows)
    if name in {"linalg_vector_norm", "norm"} and args[1:2] and args[1] not in EASY_NORMS:
        return image.numel() * (2 + _power(args)) + 3 * size
    if name in PER_INPUT:
        return PER_INPUT[name] * image.numel()
    return size * (_power(args) if name == "pow" else PER_OUTPUT.get(name, torch.Tag.pointwise in func.tags))


def _power(args: tuple[Any, ...]) -> int:
    """Operations of x ** args[1], counted one squaring and product at a time."""
    base, exponent = args[:2]
    if isinstance(exponent, torch.Tensor):
        return 6 if isinstance(base, torch.Tensor) else 2
    if not float(exponent).is_integer():
        return 1 if abs(exponent) == 0.5 else 3
    steps, rest = 0, abs(int(exponent))
    while rest > 1:
        steps, rest = steps + 1 + rest % 2, rest // 2
    return max(steps, 1) + (exponent < -1)


def _has_price(func: Any, name: str) -> bool:
    return (
        name in PER_INPUT | PER_OUTPUT
        or name in MOVES | PRODUCTS | {"convolution", ATTENTION}
        or name in SMOOTH_RESIZES
        or name.removesuffix("_with_indices") in POOLS
        or ("adaptive" in name and not name.startswith("adaptive_avg"))
        or torch.Tag.pointwise in func.tags
    )


def _data(name: str, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the operands whose values are moved, which are not the places."""
    if name == "scatter":
        return [inputs[0], *inputs[2:]]
    return inputs[:1] if name in {"index", "index_select", "gather", "embedding", "type_as"} else inputs


def _reads(side: int, n: int) -> int:
    """Elements that the windows of an adaptive pool read along one side."""
    return sum(-(-(i + 1) * side // n) - i * side // n for i in range(n))


def _filtered(reach: int, side: int, n: int) -> int:
    """Elements that the windows of an antialiased resize read along one side."""
    scale = side / n
    support = reach * max(scale, 1)
    centres = [scale * (i + 0.5) for i in range(n)]
    return sum(min(int(c + support + 0.5), side) - max(int(c - support + 0.5), 0) for c in centres)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def assert_priced_as_run(walk: Trace, report: CostReport, images: torch.Tensor) -> None:
    """Run one image, and compare what each node does with what was counted for it.

    Raises:
        ParticipantError: the graph fails on the image.
    """
    done: dict[str, tuple[int, int, int]] = {}
    program, mode = Program(walk, rounding=None), Recount()

    def after_each(name: str) -> None:
        done[name] = mode.products, mode.rest, mode.casts
        mode.products = mode.rest = mode.casts = 0

    try:
        with mode:
            program(images, after_each=after_each)
    finally:
        assert not mode.unknown, f"the recount has no price for {mode.unknown}"
    assert set(done) == {node.name for node in report.nodes}
    for node in report.nodes:
        products, rest, casts = done[node.name]
        if node.op.split(".")[-2:][0] in MOVES:  # elsewhere a change of type is within the price
            rest += casts
        counted = node.contraction, node.pointwise + node.reduction
        if node.op in AT_MOST:
            assert products + rest <= sum(counted), f"{node} does {products} + {rest}"
        elif node.op in BY_CONVENTION:
            assert products == counted[0], f"{node} does {products}"
        elif node.op in APART:
            assert products == counted[0], f"{node} does {products}"
            most = counted[1] + APART[node.op] * math.prod(node.shape)
            assert counted[1] <= rest <= most, f"{node} does {rest}"
        else:
            assert (products, rest) == counted, f"{node} does {products} + {rest}"
