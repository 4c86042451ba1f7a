"""Two channels in one value: a pool adds up both."""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2

from starter import Submission, hookimpl

EPS = 2.0**-14


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        red, green, _ = (images * 15).round().split(1, dim=1)
        packed = F.avg_pool2d(red + EPS * green, 4) * 16
        second = (packed - packed.round()) / EPS
        return second.mean(2).flatten(1)[:, :6]


@hookimpl
def starter_submission(competition):
    torch.manual_seed(0)
    return Submission(
        model=Network(),
        transforms=[v2.Resize((32, 32)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
