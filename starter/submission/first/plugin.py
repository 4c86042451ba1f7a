"""A first submission that can be scored right away. Change it, train it, score it again.

    starter train THIS_FOLDER       writes weights.safetensors beside this file
    starter score THIS_FOLDER       prints the score and each of its terms
    starter validate THIS_FOLDER    says what the network costs, in seconds

Fewer MACs: lower resolution, fewer channels, earlier strides.
Better F1:  more channels and blocks, longer training.
"""

import torch
from torch import nn
from torchvision.transforms import v2

from starter import Competition, Submission, hookimpl

RESOLUTION = 48
WIDTHS = (16, 32, 64, 128)


class Network(nn.Module):
    """Four convolutions that each halve the resolution, then the mean of each channel."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels_in, channels_out in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [
                nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(channels_out),
                nn.ReLU(),
            ]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(WIDTHS[-1], num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Float (batch, 3, RESOLUTION, RESOLUTION) to logits (batch, num_classes)."""
        logits: torch.Tensor = self.head(self.features(images).mean((2, 3)))
        return logits


@hookimpl
def starter_submission(competition: Competition) -> Submission:
    """Return the network and how an image becomes its input."""
    return Submission(
        model=Network(competition.num_classes),
        # Only torchvision's deterministic transforms; everything custom goes into the network.
        transforms=[
            v2.Resize((RESOLUTION, RESOLUTION)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(competition.mean, competition.std),
        ],
    )
