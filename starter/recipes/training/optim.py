"""Optimizer and learning rate, and the device, memory format and precision of the computation."""

import math

import torch
from torch import nn

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
    """Raise the rate linearly over the share `warmup` of all steps, then lower it to 0 along a cosine."""
    warm = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def amp_type(amp: str, device: torch.device) -> torch.dtype | None:
    """Return the lower precision to compute in, or None for float32."""
    if amp == "auto":
        return torch.bfloat16 if device.type == "cuda" else None
    return {"off": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[amp]


def place_model(model: nn.Module, device: torch.device, *, channels_last: bool) -> nn.Module:
    """Move a model to the device, in the memory format that is fast for convolutions."""
    has_5d = any(tensor.dim() == 5 for tensor in model.state_dict().values())  # channels-last is for 4-d
    if has_5d or not channels_last:
        return model.to(device)
    return model.to(device).to(memory_format=torch.channels_last)
