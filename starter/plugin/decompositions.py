"""Operators that are decomposed before a graph is counted, so that each of their steps has a cost.

What a call of one of them computes is unchanged. The graph holds, and the runner executes, the operators
that it is written as: a recurrence step by step, a fake quantization as scale, round, clamp and scale.
Quantize and dequantize are the two halves of that. The levels between them stay whole numbers in float32:
a value that depends on the image has no integer type.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any
from unittest.mock import patch

import torch
import torch._export.utils
from torch._decomp import decomposition_table

aten = torch.ops.aten

Decomposition = Callable[..., object]
Parameter = float | torch.Tensor
"""A scale or a zero point."""

_RECURRENT = (
    *(aten.lstm.input, aten.gru.input, aten.rnn_tanh.input, aten.rnn_relu.input),
    *(aten.lstm_cell.default, aten.gru_cell.default),
    *(aten.rnn_tanh_cell.default, aten.rnn_relu_cell.default),
)


def _fake_quantize(
    values: torch.Tensor,
    scale: float | torch.Tensor,
    zero_point: float | torch.Tensor,
    least: int,
    most: int,
) -> torch.Tensor:
    levels = torch.round(values * (1 / scale) + zero_point)
    return (torch.clamp(levels, least, most) - zero_point) * scale


def _fake_quantize_by_tensor(
    values: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor,
    *levels: int,
) -> torch.Tensor:
    return _fake_quantize(values, scale, zero_point.to(values.dtype), *levels)


def _fake_quantize_per_channel(
    values: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor,
    axis: int,
    *levels: int,
) -> torch.Tensor:
    shape = [1] * values.dim()
    shape[axis] = -1
    return _fake_quantize(values, scale.view(shape), zero_point.to(values.dtype).view(shape), *levels)


def _quantize(
    values: torch.Tensor,
    scale: Parameter,
    zero_point: Parameter,
    least: Any,
    most: Any,
    _: torch.dtype,
) -> torch.Tensor:
    levels = torch.round(values.to(torch.float32) * (1 / scale))
    levels = levels + zero_point if _is_shift(zero_point) else levels
    return torch.clamp(levels, least, most)


def _dequantize(
    levels: torch.Tensor,
    scale: Parameter,
    zero_point: Parameter,
    *_: object,
    out_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    levels = levels.to(torch.float32)
    levels = levels - zero_point if _is_shift(zero_point) else levels
    return (levels * scale).to(out_dtype or torch.float32)


def _is_shift(zero_point: Parameter) -> bool:
    return isinstance(zero_point, torch.Tensor) or zero_point != 0


def _by_channel(half: Callable[..., torch.Tensor]) -> Decomposition:
    """Return a half of a quantization with a scale for each place along an axis."""

    def written_out(
        values: torch.Tensor,
        scales: torch.Tensor,
        zero_points: torch.Tensor | None,
        axis: int,
        *rest: object,
        **kwargs: object,
    ) -> torch.Tensor:
        shape = [1] * values.dim()
        shape[axis] = -1
        shift = 0 if zero_points is None else zero_points.view(shape)
        return half(values, scales.view(shape), shift, *rest, **kwargs)

    return written_out


def _by_block(half: Callable[..., torch.Tensor]) -> Decomposition:
    """Return a half of a quantization with a scale for each block of a tensor: torchao's affine operators."""

    def written_out(
        values: torch.Tensor,
        block_size: Sequence[int],
        scale: torch.Tensor,
        zero_point: torch.Tensor | None,
        dtype: torch.dtype,
        *rest: Any,
    ) -> torch.Tensor:
        blocks = [n // block for n, block in zip(values.shape, block_size, strict=True)]
        parted = [side for pair in zip(blocks, block_size, strict=True) for side in pair]
        one_each = [side for block in blocks for side in (block, 1)]
        shift = 0 if zero_point is None else zero_point.reshape(one_each)
        least, most, *out_dtype = (*rest, None, None)[: max(2, len(rest))]
        least = torch.iinfo(dtype).min if least is None else least
        most = torch.iinfo(dtype).max if most is None else most
        kwargs = {"out_dtype": out_dtype[0]} if out_dtype else {}
        result = half(values.reshape(parted), scale.reshape(one_each), shift, least, most, dtype, **kwargs)
        return result.reshape(values.shape)

    return written_out


def _composite(op: torch._ops.OpOverload, *args: object) -> object:
    # Not op.decompose: while a graph is written out, that is this function.
    return op._op_dk(torch._C.DispatchKey.CompositeImplicitAutograd, *args)  # noqa: SLF001 - no other way


_ALWAYS: Mapping[torch._ops.OpOverload, Decomposition] = {
    **{op: decomposition_table.get(op) or partial(_composite, op) for op in _RECURRENT},
    aten.fake_quantize_per_tensor_affine.default: _fake_quantize,
    aten.fake_quantize_per_tensor_affine.tensor_qparams: _fake_quantize_by_tensor,
    aten.fake_quantize_per_channel_affine.default: _fake_quantize_per_channel,
    # Levels have another type than it says; the export's assertions are no part of a graph.
    aten._assert_tensor_metadata.default: lambda *_, **__: None,  # noqa: SLF001 - its name
}
_OF_LIBRARIES: Mapping[str, Mapping[str, Decomposition]] = {
    "quantized_decomposed": {
        "quantize_per_tensor": _quantize,
        "dequantize_per_tensor": _dequantize,
        "quantize_per_channel": _by_channel(_quantize),
        "dequantize_per_channel": _by_channel(_dequantize),
    },
    "torchao": {"quantize_affine": _by_block(_quantize), "dequantize_affine": _by_block(_dequantize)},
}
"""By namespace and name: operators that exist once the library that defines them is imported."""

QUANTIZES = re.compile(r"(quantized_decomposed\.quantize_per_(tensor|channel)|torchao\.quantize_affine)\.")
"""Names of the operators whose results are levels."""


def decompositions() -> dict[torch._ops.OpOverload, Decomposition]:
    """Return how each operator is written out that exists in this process."""
    found = dict(_ALWAYS)
    for namespace, functions in _OF_LIBRARIES.items():
        for name, function in functions.items():
            packet = getattr(getattr(torch.ops, namespace), name, None)
            overloads = [] if packet is None else packet.overloads()
            found |= {getattr(packet, overload): function for overload in overloads}
    return found


@contextlib.contextmanager
def quickly() -> Iterator[None]:
    """Have torch look up and replace its composite operators without repetition: half a small export.

    `run_decompositions` asks for every composite operator once for each library (30 times), and twice
    gives each of 500 operators a kernel for each of 17 devices, evaluating type annotations at every one.
    """
    utils, operators = torch._export.utils, torch._ops.OperatorBase  # noqa: SLF001 - no other way
    once = patch.object(utils, "_materialize_cpp_cia_ops", _materialized, create=True)
    with once, patch.object(operators, "py_impl", _kernel):
        yield


_materialized = cache(getattr(torch._export.utils, "_materialize_cpp_cia_ops", lambda: None))  # noqa: SLF001
_py_impl = torch._ops.OperatorBase.py_impl  # noqa: SLF001


def _kernel(op: Any, key: Any) -> Any:
    """Return a decorator that makes a function an operator's kernel for a key, as torch's does."""
    if not isinstance(key, torch._C.DispatchKey) or key in op.py_kernels:  # noqa: SLF001
        return _py_impl(op, key)

    def add(function: Any) -> Any:
        op.py_kernels[key] = function
        op._dispatch_cache.clear()  # noqa: SLF001
        return function

    return add
