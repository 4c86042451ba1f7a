"""Two products for each element in a fused multiply and add, by its factor."""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2

from starter import Submission, hookimpl


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(9, 1))

    def forward(self, images):
        padded = F.pad(images, (1, 1, 1, 1))
        features = torch.zeros_like(images)
        for i in range(9):
            window = padded[:, :, i // 3 : i // 3 + 32, i % 3 : i % 3 + 32]
            features = torch.addcmul(features, window, self.weight[i], value=0.5)
        return features.flatten(1)[:, :6]


@hookimpl
def starter_submission(competition):
    return Submission(
        model=Network(),
        transforms=[v2.Resize((32, 32)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
