"""Mixtures of the images of a batch."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Mix(NamedTuple):
    """How the images of a batch are mixed with others of it."""

    partner: Tensor
    """int (batch,): with which."""
    share: float
    """How much of an image is its own."""
    box: tuple[int, int, int, int] | None
    """Top, left, bottom, right of what is pasted from the partner; None: all is blended."""

    def images(self, images: Tensor) -> Tensor:
        """Mix float (batch, C, H, W)."""
        others = images[self.partner.to(images.device)]
        if self.box is None:
            return self.targets(images)
        top, left, bottom, right = self.box
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
        return mixed

    def targets(self, targets: Tensor) -> Tensor:
        """Blend float (batch, ...), for instance probabilities."""
        return self.share * targets + (1 - self.share) * targets[self.partner.to(targets.device)]


def draw_mix(shape: Sequence[int], mixup: float, cutmix: float) -> Mix:
    """Draw a mixture: mixup (arXiv:1710.09412) or CutMix (arXiv:1905.04899), either where both are on."""
    batch, _, height, width = shape
    cuts = cutmix > 0 and (mixup == 0 or bool(torch.rand(()) < 0.5))
    alpha = torch.tensor(float(cutmix if cuts else mixup))
    share = float(torch.distributions.Beta(alpha, alpha, validate_args=False).sample())
    partner = torch.randperm(batch)
    if not cuts:
        return Mix(partner, share, None)
    side = math.sqrt(1 - share) / 2
    y, x = torch.rand(2).tolist()
    top, bottom = (round(min(max(y + d, 0), 1) * height) for d in (-side, side))
    left, right = (round(min(max(x + d, 0), 1) * width) for d in (-side, side))
    return Mix(partner, 1 - (bottom - top) * (right - left) / (height * width), (top, left, bottom, right))
