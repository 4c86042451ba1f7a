"""Quantization: put the input and the weights of each convolution and linear layer on grids of 2^bits levels.

Weights have a step for each output channel and are symmetric around 0; inputs have one step and one zero
point per tensor. A search chooses both to minimize the squared error of rounding and clamping (as in
Banner et al. 2019, arXiv:1810.05723).
"""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from starter.contract.errors import Code, usage_error
from starter.recipes.compression.plugin import Compressed, Original
from starter.recipes.compression.rebuild import QUANTIZED, Quantized, Step, rebuild

_SAMPLE = 2**14
"""Sampled values of a layer's input per batch."""
_BATCH = 64
_SHARES = torch.linspace(1.0, 0.2, 41)
"""Shares of the full range to try; values beyond are clamped."""
_FIRST_AND_LAST_BITS = 8
"""Fewest bits of the first and the last layer: they have few values, and every answer passes through them."""


def quantize(original: Original, *, bits: int, images: int) -> Compressed:
    """Quantize every convolution and linear layer, calibrated on training images.

    Args:
        original: the trained plugin.
        bits: the bits of weights and inputs; the first and the last layer keep 8.
        images: the number of training images to calibrate on.

    Raises:
        UsageError: U503, the network has no such layer; U203, image files are broken.
    """
    inputs = _inputs(original.model, original.training_images(images))
    if not inputs:
        got = "no convolution or linear layer left to quantize"
        raise usage_error(Code.NOT_SMALLER, where=str(original.source.path), got=got)
    names = list(inputs)
    ends = {names[0], names[-1]}
    steps = tuple(
        _step(name, values, max(bits, _FIRST_AND_LAST_BITS) if name in ends else bits)
        for name, values in inputs.items()
    )
    model = rebuild(deepcopy(original.model), steps)
    for layer in model.modules():
        if isinstance(layer, Quantized):
            layer.weight_step.copy_(weight_step(layer.weight.detach(), layer.bits))
    return original.compressed(model, steps)


def weight_step(weight: Tensor, bits: int) -> Tensor:
    """Return the best step for each output channel: float32 (channels, 1, ...)."""
    most = 2 ** (bits - 1) - 1
    flat = weight.flatten(1)
    largest = flat.abs().amax(1, keepdim=True).clamp(min=1e-8)
    tried = [share * largest / most for share in _SHARES]
    lost = torch.stack(
        [((flat / t).round().clamp(-most, most) * t - flat).square().sum(1, keepdim=True) for t in tried]
    )
    best = torch.stack(tried).gather(0, lost.argmin(0, keepdim=True))[0]
    return best.reshape(-1, *[1] * (weight.dim() - 1))


def _step(name: str, values: Tensor, bits: int) -> Step:
    """Return the plan's step that quantizes a layer, with the best grid for its inputs."""
    levels = 2**bits - 1
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()), 1e-8)
    best: tuple[float, float, int] | None = None
    for share in _SHARES.tolist():
        step = share * (high - low) / levels
        zero_point = round(-share * low / step)
        grid = ((values / step).round() + zero_point).clamp(0, levels) - zero_point
        lost = float((grid * step - values).square().mean())
        if best is None or lost < best[0]:
            best = lost, step, zero_point
    assert best is not None
    return {"kind": "quantize", "module": name, "bits": bits, "step": best[1], "zero_point": best[2]}


def _inputs(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return a sample of each layer's input, in the order in which they run: float32 (values,)."""
    found: dict[str, list[Tensor]] = {}
    random = torch.Generator().manual_seed(0)

    def note(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values = inputs[0].detach().flatten()
            some = torch.randint(len(values), (min(_SAMPLE, len(values)),), generator=random)
            ends = torch.stack([values.min(), values.max()])
            found.setdefault(name, []).append(torch.cat([values[some], ends]))

        return hook

    hooks = [
        module.register_forward_pre_hook(note(name))
        for name, module in model.named_modules()
        if type(module) in QUANTIZED
    ]
    with torch.no_grad():
        for batch in torch.split(images, _BATCH):
            model(batch.float())
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(parts) for name, parts in found.items()}
