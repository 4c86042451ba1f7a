"""A student of a larger network: fewer channels than submissions/separable, and a better F1.

A teacher (Hinton et al. 2015, arXiv:1503.02531) is asked about 24 views of each image; the
student learns from its answers for 700 epochs. The teacher is submissions/separable with
more channels at 96 pixels (17.3 M MACs). This trains both, in about an hour, and
docs/training.md shows what the rest of that family reaches:

    python benchmarks/front.py front --only taught64
"""

from collections import OrderedDict

import torch
from torch import nn
from torchvision.transforms import v2

from starter import Competition, Submission, hookimpl

STEM = 12
STAGES = ((24, 2), (56, 3), (112, 3))
"""Channels and number of blocks; each stage halves the resolution."""


def normalized(
    channels_in: int, channels_out: int, kernel: int, stride: int, groups: int = 1
) -> tuple[nn.Module, nn.Module]:
    """Return a convolution and its batch norm."""
    padding = kernel // 2
    convolution = nn.Conv2d(channels_in, channels_out, kernel, stride, padding, groups=groups, bias=False)
    return convolution, nn.BatchNorm2d(channels_out)


class Residual(nn.Sequential):
    """Layers whose result is added to their input."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Float (batch, channels, H, W) to the same shape."""
        result = features
        for layer in self:
            result = layer(result)
        return features + result


def student(num_classes: int) -> nn.Sequential:
    """Return the network: float (batch, 3, 64, 64) to logits (batch, num_classes)."""
    blocks: list[nn.Module] = []
    channels = STEM
    for width, depth in STAGES:
        for place in range(depth):
            depthwise = normalized(channels, channels, 3, 1 if place else 2, groups=channels)
            pointwise = normalized(channels, width, 1, 1)
            kind = Residual if place else nn.Sequential
            blocks.append(kind(*depthwise, *pointwise, nn.ReLU()))
            channels = width
    parts = OrderedDict[str, nn.Module](
        stem=nn.Sequential(*normalized(3, STEM, 3, 2), nn.ReLU()),
        blocks=nn.Sequential(*blocks),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        head=nn.Linear(channels, num_classes),
    )
    return nn.Sequential(parts)


@hookimpl
def starter_submission(competition: Competition) -> Submission:
    """Return the student; its weights are beside this file."""
    return Submission(
        name="Distilled, 64 px",
        model=student(competition.num_classes),
        transforms=[
            v2.Resize((64, 64)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(competition.mean, competition.std),
        ],
    )
