"""A binary convolution: signs are compared and the agreements counted."""

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
        columns = F.unfold(images, 3, padding=1)
        agree = (columns - 0.5).sign().unsqueeze(1) == (self.weight - 0.5).sign().view(1, 8, 27, 1)
        return agree.float().sum(2).mean(2)[:, :6]


@hookimpl
def starter_submission(competition):
    return Submission(
        model=Network(),
        transforms=[v2.Resize((32, 32)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
