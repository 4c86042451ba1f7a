"""A small residual network of depthwise-separable convolutions.

A dense 3x3 convolution from c to c channels costs 9 c^2 MACs a pixel; a depthwise
3x3 followed by a 1x1 costs 9 c + c^2 (Howard et al. 2017, arXiv:1704.04861).
"""

import torch
from torch import nn

WIDTHS = (24, 48, 96, 160)
DEPTHS = (2, 3, 3)


def convolution(
    channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Return a convolution and its batch norm."""
    return [
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out),
    ]


class Block(nn.Module):
    """Depthwise 3x3, then 1x1; added to its input where the shapes agree."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.is_residual = stride == 1 and channels_in == channels_out
        self.layers = nn.Sequential(
            *convolution(channels_in, channels_in, 3, stride, groups=channels_in),
            *convolution(channels_in, channels_out, 1),
            nn.ReLU(),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Float (batch, channels_in, H, W) to (batch, channels_out, H / stride, W / stride)."""
        result: torch.Tensor = self.layers(features)
        return features + result if self.is_residual else result


class SeparableNet(nn.Module):
    """Stem, three stages that each halve the resolution, mean, linear layer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for channels_in, channels_out, depth in zip(WIDTHS, WIDTHS[1:], DEPTHS, strict=False):
            blocks.append(Block(channels_in, channels_out, stride=2))
            blocks += [Block(channels_out, channels_out, stride=1) for _ in range(depth - 1)]
        self.features = nn.Sequential(*convolution(3, WIDTHS[0], 3, stride=2), nn.ReLU(), *blocks)
        self.head = nn.Linear(WIDTHS[-1], num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Float (batch, 3, 64, 64) to logits (batch, num_classes)."""
        logits: torch.Tensor = self.head(self.features(images).mean((2, 3)))
        return logits
