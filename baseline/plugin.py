"""The packaged baseline: torchvision's MobileNetV3-Small at 112 pixels.

16.8 M multiply-accumulates; the original competition's baseline had 13.86 M. It goes
through the same path as any entry.
"""

import torch
from torchvision.models import mobilenet_v3_small
from torchvision.transforms import v2

from starter import Competition, Submission, hookimpl


@hookimpl
def starter_submission(competition: Competition) -> Submission:
    """Return the network, untrained; the weights are beside this file."""
    return Submission(
        name="MobileNetV3-Small, 112 px",
        model=mobilenet_v3_small(num_classes=competition.num_classes),
        transforms=[
            v2.Resize((112, 112)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(competition.mean, competition.std),
        ],
    )
