"""Products hidden in pairwise distances."""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2

from starter import Submission, hookimpl


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(6, 27))

    def forward(self, images):
        columns = F.unfold(images, 3, padding=1)
        return torch.cdist(columns.transpose(1, 2), self.weight).mean(1)


@hookimpl
def starter_submission(competition):
    return Submission(
        model=Network(),
        transforms=[v2.Resize((32, 32)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
