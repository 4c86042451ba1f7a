"""A box filter of 9 x 9 by cumulative sums along both sides."""

import torch
from torch import nn
from torchvision.transforms import v2

from starter import Submission, hookimpl


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(1))

    def forward(self, images):
        sums = images.cumsum(2).cumsum(3)
        boxes = sums[:, :, 9:, 9:] - sums[:, :, :-9, 9:] - sums[:, :, 9:, :-9] + sums[:, :, :-9, :-9]
        return boxes.flatten(1)[:, :6]


@hookimpl
def starter_submission(competition):
    return Submission(
        model=Network(),
        transforms=[v2.Resize((32, 32)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
