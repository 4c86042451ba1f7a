"""Dropout that is on in evaluation."""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2

from starter import Submission, hookimpl


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(1))

    def forward(self, images):
        features = F.dropout(images, 0.5, training=True)
        return features.mean((2, 3)).repeat(1, 2)


@hookimpl
def starter_submission(competition):
    return Submission(
        model=Network(),
        transforms=[v2.Resize((32, 32)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
