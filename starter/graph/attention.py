"""Attention over a mapped batch.

torch.vmap has no rule for the fused attention kernels and would run them image by
image. Folding the mapped axis into attention's own batch axis is the same
arithmetic, without the loop. Used by executor.py.
"""

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from starter.graph.operators import bind

ATTENTION = "aten.scaled_dot_product_attention.default"


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(*operands: Any) -> Any:
        query, key, value, mask, is_causal, scale, enable_gqa = operands
        return scaled_dot_product_attention(
            query, key, value, mask, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: there is no backward."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *operands: Any) -> tuple[Any, int]:
        batch = info.batch_size
        query, key, value = (
            _leading(operand, dim, batch) for operand, dim in zip(operands[:3], in_dims[:3], strict=True)
        )
        mask = _mask(operands[3], in_dims[3], batch, query.dim())
        folded = query.dim() > 3  # (batch, 1, ..., length, head): two axes become one
        if folded:
            query, key, value = (t.flatten(0, 1) for t in (query, key, value))
        output = _Attention.apply(query, key, value, mask, *operands[4:])
        return (output.unflatten(0, (batch, -1)) if folded else output), 0


def attention(*args: Any, **kwargs: Any) -> Any:
    """Compute scaled dot-product attention without dropout, fast under vmap.

    Arguments as torch.nn.functional.scaled_dot_product_attention.
    """
    bound = bind(ATTENTION, args, kwargs)
    return _Attention.apply(
        *(bound[key] for key in ("query", "key", "value", "attn_mask", "is_causal", "scale", "enable_gqa"))
    )


def _leading(tensor: torch.Tensor, dim: int | None, batch: int) -> torch.Tensor:
    """Return the tensor with the mapped axis first; a constant is repeated along it without a copy."""
    return tensor.expand(batch, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _mask(mask: Any, dim: int | None, batch: int, rank: int) -> Any:
    """Return the mask in the shape that broadcasts against folded queries."""
    if mask is None or (dim is None and (mask.dim() < rank - 1 or mask.shape[0] == 1)):
        return mask
    mask = _leading(mask, dim, batch)
    while mask.dim() < rank:
        mask = mask.unsqueeze(1)
    return mask.flatten(0, 1) if rank > 3 else mask
