"""Two products of the image with itself in one multiplication of packed values."""

import torch
from torch import nn
from torchvision.transforms import v2

from starter import Submission, hookimpl

EPS = 2.0**-14


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        red, green, blue = (images * 15).round().unbind(1)
        packed = red * (green + EPS * blue)
        second = (packed - packed.round()) / EPS
        return second.mean(2)[:, :6]


@hookimpl
def starter_submission(competition):
    torch.manual_seed(0)
    return Submission(
        model=Network(),
        transforms=[v2.Resize((32, 32)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
