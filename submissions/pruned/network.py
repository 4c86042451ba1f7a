"""The separable network after pruning, written with functional calls on parameters.

The batch norms are folded into the convolutions, which saves their cost, and a part
of the channels is gone. There is no module to hook: thop sees nothing of it; here it
is counted like any other network.
"""

import torch
import torch.nn.functional as F
from torch import nn

STEM = 18
BLOCKS = (  # channels in, channels out, stride
    (18, 36, 2),
    (36, 36, 1),
    (36, 72, 2),
    (72, 72, 1),
    (72, 72, 1),
    (72, 112, 2),
    (112, 112, 1),
    (112, 112, 1),
)


class PrunedNet(nn.Module):
    """Stem, blocks of a depthwise and a 1x1 convolution, mean, linear layer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        shapes: dict[str, tuple[int, ...]] = {"stem": (STEM, 3, 3, 3)}
        for i, (channels_in, channels_out, _) in enumerate(BLOCKS):
            shapes[f"depthwise{i}"] = (channels_in, 1, 3, 3)
            shapes[f"pointwise{i}"] = (channels_out, channels_in, 1, 1)
        shapes["head"] = (num_classes, BLOCKS[-1][1])
        self.weight = nn.ParameterDict(
            {k: nn.init.kaiming_normal_(torch.empty(s)) for k, s in shapes.items()}
        )
        self.bias = nn.ParameterDict({k: torch.zeros(s[0]) for k, s in shapes.items()})

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Float (batch, 3, 64, 64) to logits (batch, num_classes)."""
        weight, bias = self.weight, self.bias
        x = F.relu(F.conv2d(images, weight["stem"], bias["stem"], stride=2, padding=1))
        for i, (channels_in, channels_out, stride) in enumerate(BLOCKS):
            y = F.conv2d(
                x,
                weight[f"depthwise{i}"],
                bias[f"depthwise{i}"],
                stride=stride,
                padding=1,
                groups=channels_in,
            )
            y = F.relu(F.conv2d(y, weight[f"pointwise{i}"], bias[f"pointwise{i}"]))
            x = x + y if stride == 1 and channels_in == channels_out else y
        return F.linear(x.mean((2, 3)), weight["head"], bias["head"])
