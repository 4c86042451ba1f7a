"""A depthwise convolution as nine shifted products that are added up."""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2

from starter import Submission, hookimpl


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3, 3))

    def forward(self, images):
        padded = F.pad(images, (1, 1, 1, 1))
        features = sum(
            padded[:, :, i : i + 32, j : j + 32] * self.weight[i, j] for i in range(3) for j in range(3)
        )
        return features.flatten(1)[:, :6]


@hookimpl
def starter_submission(competition):
    return Submission(
        model=Network(),
        transforms=[v2.Resize((32, 32)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
