"""Products as the exponential of a sum of logarithms."""

import torch
from torch import nn
from torchvision.transforms import v2

from starter import Submission, hookimpl


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(9))

    def forward(self, images):
        logs = torch.log(images + 0.01).unsqueeze(1)
        products = torch.exp(logs + torch.log(self.weight + 0.01).view(1, 9, 1, 1, 1))
        return products.sum(1).flatten(1)[:, :6]


@hookimpl
def starter_submission(competition):
    return Submission(
        model=Network(),
        transforms=[v2.Resize((32, 32)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
