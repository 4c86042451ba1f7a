"""What moves the weights: optimizer, learning rate, the average, and how fast norms follow."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from starter.recipes.training.settings import TrainSettings


def make_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Return AdamW or SGD; norms and biases do not decay."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=settings.lr)


def make_schedule(
    optimizer: torch.optim.Optimizer, steps: int, warmup: float
) -> torch.optim.lr_scheduler.LambdaLR:
    """Let the rate rise linearly in the share `warmup` of all steps, then fall to 0 as a cosine."""
    warm = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def make_average(model: nn.Module, steps: int, decay: float) -> AveragedModel:
    """Return the moving average of the weights; the model's own batch norms are made to follow as well."""
    forget = 10 / steps
    _quicken_norms(model, forget)
    ema = _warm_ema(min(decay, 1 - min(1.0, forget)))
    return AveragedModel(model, multi_avg_fn=ema, use_buffers=True)


def _warm_ema(decay: float) -> Callable[..., None]:
    """Average fast at first: with a fixed decay the random first weights would stay in for long."""

    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        now = min(decay, (1 + int(count)) / (10 + int(count)))
        get_ema_multi_avg_fn(now)(averaged, current, count)  # type: ignore[no-untyped-call]

    return update


def _quicken_norms(model: nn.Module, share: float) -> None:
    """Let batch norms follow fast enough for a short run: torchvision's MobileNetV3 takes 1 % of a step."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is not None:  # noqa: SLF001 - the only name for all of them
            module.momentum = min(1.0, max(module.momentum, share))


def amp_type(amp: str, device: torch.device) -> torch.dtype | None:
    """Return the lower precision to compute in, or None for float32."""
    if amp == "auto":
        return torch.bfloat16 if device.type == "cuda" else None
    return {"off": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[amp]
