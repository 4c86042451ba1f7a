"""A small mobile network whose size is a file: config.json.

Inverted residuals (Sandler et al. 2018, arXiv:1801.04381): a 1x1 convolution widens, a
depthwise one looks around, a 1x1 one narrows. With an expansion of 1 the first is left
out, and the block is a depthwise-separable convolution with its activation at the end.
"""

from typing import Any

import torch
from torch import nn


def convolution(
    channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Return a convolution and its batch norm."""
    return [
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out),
    ]


class Block(nn.Module):
    """An inverted residual; added to its input where the shapes agree."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, expansion: int, stride: int) -> None:
        super().__init__()
        self.is_residual = stride == 1 and channels_in == channels_out
        wide = channels_in * expansion
        depthwise = convolution(wide, wide, kernel, stride, groups=wide)
        narrow = convolution(wide, channels_out)
        if expansion == 1:
            layers = [*depthwise, *narrow, nn.ReLU()]
        else:
            layers = [*convolution(channels_in, wide), nn.ReLU(), *depthwise, nn.ReLU(), *narrow]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Float (batch, channels_in, H, W) to (batch, channels_out, H / stride, W / stride)."""
        result: torch.Tensor = self.layers(features)
        return features + result if self.is_residual else result


class MobileNet(nn.Module):
    """A stem, stages that each halve the resolution, mean, linear layer.

    Args:
        config: `stem` (channels) and `stages`, each with `channels`, `depth`, `kernel`, `expansion`.
        num_classes: logits.
    """

    def __init__(self, config: dict[str, Any], num_classes: int) -> None:
        super().__init__()
        channels = config["stem"]
        blocks: list[nn.Module] = [*convolution(3, channels, 3, stride=2), nn.ReLU()]
        for stage in config["stages"]:
            for i in range(stage["depth"]):
                stride = 2 if i == 0 else 1
                blocks.append(Block(channels, stage["channels"], stage["kernel"], stage["expansion"], stride))
                channels = stage["channels"]
        self.features = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Float (batch, 3, H, W) to logits (batch, num_classes)."""
        logits: torch.Tensor = self.head(self.features(images).mean((2, 3)))
        return logits
