"""A branch chosen by the pixels, in torch.cond."""

import torch
from torch import nn
from torchvision.transforms import v2

from starter import Submission, hookimpl


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(1))

    def forward(self, images):
        is_light = images.mean() > 0.5
        features = torch.cond(is_light, lambda x: x.mean((2, 3)), lambda x: x.amax((2, 3)), (images,))
        return features.repeat(1, 2)


@hookimpl
def starter_submission(competition):
    return Submission(
        model=Network(),
        transforms=[v2.Resize((32, 32)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
