"""A batch norm of single pixels whose statistics and weights are the image."""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2

from starter import Submission, hookimpl


class Network(nn.Module):
    def forward(self, images):
        return torch.cat([self.normalized(pixels) for pixels in images.flatten(1)])

    def normalized(self, pixels):
        return F.batch_norm(pixels[None], pixels, pixels, pixels, pixels)[:, :6]


@hookimpl
def starter_submission(competition):
    return Submission(
        model=Network(),
        transforms=[v2.Resize((32, 32)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
