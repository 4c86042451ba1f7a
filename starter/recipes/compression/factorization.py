"""Low-rank factorisation: the ranks of a convolution's Tucker-2 decomposition, by energy or by cost."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from starter.recipes.compression.plugin import Compressed, Original, fitting
from starter.recipes.compression.rebuild import Step, rebuild


def factorize(original: Original, *, keep: float | None, macs: int | None) -> Compressed:
    """Replace convolutions by thinner ones in a row (Tucker-2; two factors for a 1x1 kernel).

    Args:
        original: the trained plugin.
        keep: the share of the energy (squared singular values) that each rank must hold.
        macs: instead, the most that an image may cost; the largest share that fits is taken.

    Raises:
        UsageError: U503, no share of the energy is as cheap.
    """
    sizes = _sizes(original.model, original.images())
    return fitting(original, lambda share: _factorize(original, sizes, share), keep, macs)


def _factorize(original: Original, sizes: dict[str, tuple[int, int]], energy: float) -> Compressed:
    steps = tuple(
        step
        for name, (pixels_in, pixels_out) in sizes.items()
        if (step := _ranks(original.model, name, pixels_in, pixels_out, energy)) is not None
    )
    model = rebuild(deepcopy(original.model), steps)
    return original.compressed(model, steps)


def _ranks(model: nn.Module, name: str, pixels_in: int, pixels_out: int, energy: float) -> Step | None:
    """Choose the cheapest factors that hold the energy; None where the convolution itself is cheaper."""
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Conv2d)
    out, into, height, width = layer.weight.shape
    kernel = height * width
    rank_out = _rank(layer.weight.detach(), 0, energy)
    rank_in = _rank(layer.weight.detach(), 1, energy)

    def cost(r_in: int | None, r_out: int | None) -> int:
        middle_in, middle_out = r_in or into, r_out or out
        first = into * middle_in * pixels_in if r_in else 0
        last = middle_out * out * pixels_out if r_out else 0
        return first + middle_in * middle_out * kernel * pixels_out + last

    choices: list[tuple[int | None, int | None]] = [(None, None), (None, rank_out)]
    if kernel > 1:
        choices += [(rank_in, None), (rank_in, rank_out)]
    best = min(choices, key=lambda choice: cost(*choice))
    if best == (None, None):
        return None
    return {"kind": "factorize", "module": name, "rank_in": best[0], "rank_out": best[1]}


def _rank(weight: Tensor, dim: int, energy: float) -> int:
    values = torch.linalg.svdvals(weight.movedim(dim, 0).flatten(1)).double() ** 2
    held = values.cumsum(0) / values.sum()
    return int((held < energy).sum().clamp(max=len(values) - 1)) + 1


def _sizes(model: nn.Module, images: Tensor) -> dict[str, tuple[int, int]]:
    """Return the pixels that go into and come out of every dense convolution."""
    found: dict[str, tuple[int, int]] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda _, inputs, output: found.update(
            {name: (inputs[0].shape[2:].numel(), output.shape[2:].numel())}
        )

    hooks = [
        module.register_forward_hook(note(name))
        for name, module in model.named_modules()
        if type(module) is nn.Conv2d and module.groups == 1
    ]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return found
