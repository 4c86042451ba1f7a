"""Two filters in one set of weights: a multiplication gives a product to each."""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2

from starter import Submission, hookimpl

EPS = 2.0**-14


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.randint(-3, 4, (6, 3, 1, 1)).float())
        self.second = nn.Parameter(torch.randint(-3, 4, (6, 3, 1, 1)).float())

    def forward(self, images):
        whole = (images * 15).round()
        packed = F.conv2d(whole, self.first + EPS * self.second)
        second = (packed - packed.round()) / EPS
        return second.mean((2, 3))


@hookimpl
def starter_submission(competition):
    torch.manual_seed(0)
    return Submission(
        model=Network(),
        transforms=[v2.Resize((32, 32)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
