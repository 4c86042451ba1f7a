"""A convolution in bfloat16: fewer bits, the same number of products."""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2

from starter import Submission, hookimpl


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(8, 3, 3, 3))

    def forward(self, images):
        features = F.conv2d(images.bfloat16(), self.weight.bfloat16(), padding=1).float()
        return features.mean((2, 3))[:, :6]


@hookimpl
def starter_submission(competition):
    return Submission(
        model=Network(),
        transforms=[v2.Resize((32, 32)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
