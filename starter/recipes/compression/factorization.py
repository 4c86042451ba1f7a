"""Low-rank factorisation: Tucker-2 decompositions of convolutions, with ranks by energy or by cost."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from starter.contract.system.extras import require_extra
from starter.recipes.compression.plugin import Compressed, Original, fitting
from starter.recipes.compression.rebuild import Step, rebuild

_ITERATIONS = 5
"""More iterations hardly improve the factors."""


def factorize(original: Original, *, keep: float | None, macs: int | None) -> Compressed:
    """Replace each convolution by a sequence of thinner ones (Tucker-2; two factors for a 1x1 kernel).

    Args:
        original: the trained plugin.
        keep: the share of the energy (squared singular values) that each rank must hold.
        macs: instead, the most MACs per image; the largest share that fits is used.

    Raises:
        UsageError: U501, TensorLy is missing; U503, no share of the energy is cheap enough.
    """
    require_extra("tensorly", "starter compress --method tucker")
    sizes = _sizes(original.model, original.images())
    return fitting(original, lambda share: _factorize(original, sizes, share), keep, macs)


def _factorize(original: Original, sizes: dict[str, tuple[int, int]], energy: float) -> Compressed:
    steps = tuple(
        step
        for name, (pixels_in, pixels_out) in sizes.items()
        if (step := _ranks(original.model, name, pixels_in, pixels_out, energy)) is not None
    )
    model = deepcopy(original.model)
    for step in steps:
        model = decompose(model, step)
    return original.compressed(model, steps)


def decompose(model: nn.Module, step: Step) -> nn.Module:
    """Replace a convolution by its Tucker-2 factors, found by higher-order orthogonal iteration."""
    import tensorly as tl  # noqa: PLC0415 - an optional package
    from tensorly.decomposition import partial_tucker  # noqa: PLC0415

    old = model.get_submodule(step["module"])
    assert isinstance(old, nn.Conv2d)
    ranks = {0: step["rank_out"], 1: step["rank_in"]}
    modes = [mode for mode, rank in ranks.items() if rank is not None]
    with tl.backend_context("pytorch"):
        (core, factors), _ = partial_tucker(
            old.weight.detach(), [ranks[mode] for mode in modes], modes, n_iter_max=_ITERATIONS
        )
    values: list[Tensor] = [core]
    for mode, factor in zip(modes, factors, strict=True):
        last = mode == 0
        values.insert(len(values) if last else 0, (factor if last else factor.T)[:, :, None, None])
    model = rebuild(model, [step])
    layers = [m for m in model.get_submodule(step["module"]).children() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        for layer, value in zip(layers, values, strict=True):
            layer.weight.copy_(value)
        if old.bias is not None:
            layers[-1].bias = old.bias
    return model


def _ranks(model: nn.Module, name: str, pixels_in: int, pixels_out: int, energy: float) -> Step | None:
    """Choose the cheapest factors that hold the energy; None if the convolution itself is cheaper."""
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Conv2d)
    out, into, height, width = layer.weight.shape
    kernel = height * width
    rank_out = _rank(layer.weight.detach(), 0, energy)
    rank_in = _rank(layer.weight.detach(), 1, energy)
    rank_in, rank_out = min(rank_in, rank_out * kernel), min(rank_out, rank_in * kernel)

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
    """Return the numbers of input and output pixels of every dense convolution."""
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
