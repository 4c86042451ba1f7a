"""Operators that are written out before a graph is counted, so that each of their steps has its price.

What a call of one of them computes is unchanged. The graph holds, and the runner executes, the operators
that it is written as: a recurrence step by step, a fake quantization as scale, round, clamp and scale.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch._decomp import decomposition_table

aten = torch.ops.aten

Decomposition = Callable[..., object]

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


def _composite(op: torch._ops.OpOverload, *args: object) -> object:
    # Not op.decompose: while a graph is written out, that is this function.
    return op._op_dk(torch._C.DispatchKey.CompositeImplicitAutograd, *args)  # noqa: SLF001 - no other way


DECOMPOSITIONS: Mapping[torch._ops.OpOverload, Decomposition] = {
    **{op: decomposition_table.get(op) or partial(_composite, op) for op in _RECURRENT},
    aten.fake_quantize_per_tensor_affine.default: _fake_quantize,
    aten.fake_quantize_per_tensor_affine.tensor_qparams: _fake_quantize_by_tensor,
    aten.fake_quantize_per_channel_affine.default: _fake_quantize_per_channel,
}
"""How each operator is written out."""
