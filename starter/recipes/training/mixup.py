"""Mixtures of the images of a batch, by torchvision: mixup (arXiv:1710.09412), CutMix (arXiv:1905.04899)."""

import torch
from torch import Tensor
from torchvision.transforms import v2


class Mixing:
    """Mixes each image with its neighbour in the batch, which is random because an epoch's order is.

    Args:
        mixup: the beta distribution's parameter for blending; 0 switches it off.
        cutmix: the same for pasting a box; if both are on, each gets half of the batches.
    """

    def __init__(self, mixup: float, cutmix: float) -> None:
        kinds = ((v2.MixUp, mixup), (v2.CutMix, cutmix))
        self._mix = v2.RandomChoice([kind(alpha=float(alpha)) for kind, alpha in kinds if alpha])

    def __call__(self, images: Tensor, *probabilities: Tensor) -> tuple[Tensor, ...]:
        """Mix a batch and its probabilities.

        Args:
            images: float (batch, C, H, W).
            probabilities: float (batch, classes) each, mixed in the same proportions as the images.

        Returns:
            The mixed images, and the mixed probabilities in their order.
        """
        mixed, said = self._mix(images, torch.cat(probabilities, 1))
        return (mixed, *torch.split(said, [part.shape[1] for part in probabilities], 1))
