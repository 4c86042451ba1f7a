"""A small mobile network that `starter search` has found; its size is in config.json.

starter train THIS_FOLDER --epochs 200
"""

import json
from pathlib import Path

import torch
from network import MobileNet
from torchvision.transforms import v2

from starter import Competition, Submission, hookimpl


@hookimpl
def starter_submission(competition: Competition) -> Submission:
    """Return the network; the weights are beside this file."""
    config = json.loads((Path(__file__).parent / "config.json").read_text(encoding="utf-8"))
    side = config["resolution"]
    return Submission(
        name=f"Mobile network, {side} px",
        model=MobileNet(config, competition.num_classes),
        transforms=[
            v2.Resize((side, side)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(competition.mean, competition.std),
        ],
    )
