"""Results that are kept in a buffer from one image to the next."""

import torch
from torch import nn
from torchvision.transforms import v2

from starter import Submission, hookimpl


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(1))
        self.register_buffer("memory", torch.zeros(3))

    def forward(self, images):
        self.memory.add_(images.mean((0, 2, 3)))
        return self.memory.repeat(images.shape[0], 2)


@hookimpl
def starter_submission(competition):
    return Submission(
        model=Network(),
        transforms=[v2.Resize((32, 32)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
