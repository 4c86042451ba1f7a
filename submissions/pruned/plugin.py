"""Compression: submissions/separable with fewer channels and without batch norms.

python submissions/pruned/compress.py               cuts the trained network
starter train submissions/pruned --from-weights --lr 0.001 --epochs 120     and trains on
"""

import torch
from network import PrunedNet
from torchvision.transforms import v2

from starter import Competition, Submission, hookimpl


@hookimpl
def starter_submission(competition: Competition) -> Submission:
    """Return the network; the weights are beside this file."""
    return Submission(
        name="Pruned, folded, functional",
        model=PrunedNet(competition.num_classes),
        transforms=[
            v2.Resize((64, 64)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(competition.mean, competition.std),
        ],
    )
