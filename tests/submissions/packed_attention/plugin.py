"""Two values in one: attention weighs both with one multiplication."""

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
        rows = (images.mean(1) * 15).round()
        packed = rows + EPS * rows.flip(1)
        sums = F.scaled_dot_product_attention(rows * 0, rows * 0, packed) * 32
        second = (sums - sums.round()) / EPS
        return second[:, 0, :6]


@hookimpl
def starter_submission(competition):
    torch.manual_seed(0)
    return Submission(
        model=Network(),
        transforms=[v2.Resize((32, 32)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
