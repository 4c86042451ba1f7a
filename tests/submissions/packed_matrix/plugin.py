"""Two matrices in one, in a linear layer."""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2

from starter import Submission, hookimpl

EPS = 2.0**-14


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.randint(-1, 2, (6, 96)).float())
        self.second = nn.Parameter(torch.randint(-1, 2, (6, 96)).float())

    def forward(self, images):
        whole = (images.mean(2).flatten(1) * 15).round()
        packed = F.linear(whole, self.first + EPS * self.second)
        return (packed - packed.round()) / EPS


@hookimpl
def starter_submission(competition):
    torch.manual_seed(0)
    return Submission(
        model=Network(),
        transforms=[v2.Resize((32, 32)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
