"""Two real numbers in one complex number."""

import torch
from torch import nn
from torchvision.transforms import v2

from starter import Submission, hookimpl


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(32, 32))

    def forward(self, images):
        packed = torch.complex(images[:, 0], images[:, 1]) * torch.complex(self.weight, self.weight)
        return packed.real.flatten(1)[:, :6]


@hookimpl
def starter_submission(competition):
    return Submission(
        model=Network(),
        transforms=[v2.Resize((32, 32)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
