"""A matrix product as an outer product over views that cost nothing, and a sum."""

import torch
from torch import nn
from torchvision.transforms import v2

from starter import Submission, hookimpl


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3072, 6))

    def forward(self, images):
        rows = images.flatten(1).unsqueeze(2).expand(-1, -1, 6)
        return (rows * self.weight).sum(1)


@hookimpl
def starter_submission(competition):
    return Submission(
        model=Network(),
        transforms=[v2.Resize((32, 32)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
