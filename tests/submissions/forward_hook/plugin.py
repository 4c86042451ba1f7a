"""A forward hook that replaces the output by more work."""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2

from starter import Submission, hookimpl


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(8, 3, 3, 3))
        self.layer = nn.Identity()
        self.layer.register_forward_hook(lambda *call: F.conv2d(call[2], self.weight, padding=1))

    def forward(self, images):
        return self.layer(images).mean((2, 3))[:, :6]


@hookimpl
def starter_submission(competition):
    return Submission(
        model=Network(),
        transforms=[v2.Resize((32, 32)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
