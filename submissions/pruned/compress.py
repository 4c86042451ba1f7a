"""Cut submissions/separable down to the widths in network.py; print what is left.

Structured pruning by magnitude (Li et al. 2017, arXiv:1608.08710): of every stage the
output channels with the largest L1 norm are kept, the same ones in all blocks of the
stage, because a residual connection adds them up.
"""

from itertools import groupby
from pathlib import Path

import torch
from network import BLOCKS, STEM
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
SOURCE = HERE.parent / "separable" / "weights.safetensors"
EPS = 1e-5

Tensors = dict[str, torch.Tensor]


def folded(source: Tensors, convolution: str, norm: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight and bias of a convolution with its batch norm folded in."""
    scale = source[f"{norm}.weight"] / (source[f"{norm}.running_var"] + EPS).sqrt()
    bias = source[f"{norm}.bias"] - source[f"{norm}.running_mean"] * scale
    return source[f"{convolution}.weight"] * scale[:, None, None, None], bias


def largest(importance: torch.Tensor, count: int) -> torch.Tensor:
    """Return the places of the `count` largest values, in their old order."""
    return importance.topk(count).indices.sort().values


def compress(source: Tensors) -> Tensors:
    """Return the pruned network's tensors."""
    weight, bias = folded(source, "features.0", "features.1")
    kept = largest(weight.abs().sum((1, 2, 3)), STEM)
    result = {"weight.stem": weight[kept], "bias.stem": bias[kept]}
    first = 3  # features 0 to 2 are the stem
    for _, stage in groupby(enumerate(BLOCKS), key=lambda block: block[1][1]):
        blocks = [(i, f"features.{first + i}.layers", width) for i, (_, width, _) in stage]
        pointwise = {i: folded(source, f"{name}.2", f"{name}.3") for i, name, _ in blocks}
        importance = torch.stack([w.abs().sum((1, 2, 3)) for w, _ in pointwise.values()]).sum(0)
        kept_out = largest(importance, blocks[0][2])
        for i, name, _ in blocks:
            weight, bias = folded(source, f"{name}.0", f"{name}.1")
            result |= {f"weight.depthwise{i}": weight[kept], f"bias.depthwise{i}": bias[kept]}
            weight, bias = pointwise[i]
            result |= {
                f"weight.pointwise{i}": weight[kept_out][:, kept],
                f"bias.pointwise{i}": bias[kept_out],
            }
            kept = kept_out
    result |= {"weight.head": source["head.weight"][:, kept], "bias.head": source["head.bias"]}
    return {key: tensor.contiguous() for key, tensor in result.items()}


def main() -> None:
    """Read the trained network, write the pruned one beside this file."""
    source = load_file(SOURCE)
    result = compress(source)
    save_file(result, HERE / "weights.safetensors")
    before, after = (sum(t.numel() for t in tensors.values()) for tensors in (source, result))
    print(f"{before:,} values before, {after:,} after; next: starter train {HERE} --from-weights --lr 0.001")


if __name__ == "__main__":
    main()
