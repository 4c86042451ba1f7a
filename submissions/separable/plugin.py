"""A network of one's own: depthwise-separable blocks at 64 pixels.

The network is in network.py, beside this file, and so are its weights.

    starter train submissions/separable --epochs 240
"""

import torch
from network import SeparableNet
from torchvision.transforms import v2

from starter import Competition, Submission, hookimpl


@hookimpl
def starter_submission(competition: Competition) -> Submission:
    """Return the network; the weights are beside this file."""
    return Submission(
        name="Depthwise-separable, 64 px",
        model=SeparableNet(competition.num_classes),
        transforms=[
            v2.Resize((64, 64)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(competition.mean, competition.std),
        ],
    )
