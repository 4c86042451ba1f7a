"""Augmentation of batches of tensors in memory.

A view is drawn first and then applied, so that a teacher at another resolution sees the
same view of an image (Beyer et al. 2022, arXiv:2106.05237: a teacher helps most if it
sees what the student sees).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

from starter.submission.transform_records import Normalize, TransformRecord


class View(NamedTuple):
    """The augmentation of each image of a batch; all tensors have one row per image."""

    mirror: Tensor
    """float (batch,): -1 if mirrored left to right, else 1."""
    matrix: Tensor | None
    """float (batch, 2, 3): the source position of each pixel, in -1..1; None at strength 0."""
    gain: Tensor
    """float (batch, 1, 1, 1): contrast."""
    offset: Tensor
    """float (batch, 1, 1, 1): brightness."""
    boxes: Tensor
    """float (batch, 4): top, left, bottom, right of the erased box, in 0..1; 0 if nothing is erased."""
    policy_seeds: Tensor
    """int (batch,), or (0,) without a policy."""

    def rows(self, chosen: Tensor) -> "View":
        """Return the view of some of the images."""
        parts = (part if part is None or not len(part) else part[chosen] for part in self)
        return View(*parts)  # type: ignore[arg-type]


def draw_view(shape: Sequence[int], strength: float, *, flip: bool, policy: str = "none") -> View:
    """Draw the augmentation of a batch of a shape (batch, C, H, W).

    At strength 1: shift 10 %, scale 0.75 to 1.2, rotation 12 degrees, contrast and
    brightness 25 % of a standard deviation, one erased box of up to a quarter of each
    side in a quarter of the images.
    """
    batch, _, height, width = shape
    mirror = torch.where(torch.rand(batch) < 0.5, -1.0, 1.0) if flip else torch.ones(batch)
    matrix, gain, offset = None, torch.ones(batch, 1, 1, 1), torch.zeros(batch, 1, 1, 1)
    boxes = torch.zeros(0, 4)
    if strength:
        angle = math.radians(12) * strength * (2 * torch.rand(batch) - 1)
        zoom = torch.exp(strength * (0.5 * torch.rand(batch) - 0.2))
        shift = 0.2 * strength * (2 * torch.rand(batch, 2) - 1)
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        rows = (
            torch.stack([cos * mirror, -sin, shift[:, 0]], 1),
            torch.stack([sin * mirror, cos, shift[:, 1]], 1),
        )
        matrix = torch.stack(rows, 1)
        gain = 1 + 0.25 * strength * (2 * torch.rand(batch, 1, 1, 1) - 1)
        offset = 0.25 * strength * (2 * torch.rand(batch, 1, 1, 1) - 1)
        boxes = _draw_boxes(batch, height, width, 0.25 * strength)
    seeds = torch.zeros(0, dtype=torch.long) if policy == "none" else torch.randint(2**31, (batch,))
    return View(mirror, matrix, gain, offset, boxes, seeds)


def _draw_boxes(batch: int, height: int, width: int, share: float) -> Tensor:
    """Draw one box of up to a quarter of each side for a share of the images."""
    boxes = torch.zeros(batch, 4)
    for i in (torch.rand(batch) < share).nonzero().flatten().tolist():
        h, w = (1 + int(torch.randint(max(1, side // 4), (1,))) for side in (height, width))
        y, x = int(torch.randint(height - h + 1, (1,))), int(torch.randint(width - w + 1, (1,)))
        boxes[i] = torch.tensor([y / height, x / width, (y + h) / height, (x + w) / width])
    return boxes


def apply_view(images: Tensor, view: View) -> Tensor:
    """Augment a batch on its device: float (batch, C, H, W) in, the same out."""
    device = images.device
    if view.matrix is None:
        return torch.where(view.mirror.to(device)[:, None, None, None] < 0, images.flip(3), images)
    grid = F.affine_grid(view.matrix.to(device), list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    images = images * view.gain.to(device) + view.offset.to(device)
    height, width = images.shape[2:]
    scale = torch.tensor([height, width, height, width])
    for i in (view.boxes[:, 2] > 0).nonzero().flatten().tolist():
        top, left, bottom, right = (view.boxes[i] * scale).round().int().tolist()
        images[i, :, top:bottom, left:right] = 0
    return images


class _TrivialAugment(v2.TrivialAugmentWide):  # type: ignore[misc]  # torchvision has no types
    """torchvision's policy with proportional shifts: its 32 pixels are meant for ImageNet's 224."""

    _AUGMENTATION_SPACE = v2.TrivialAugmentWide._AUGMENTATION_SPACE | {  # noqa: SLF001 - its only name
        "TranslateX": (lambda bins, _, width: torch.linspace(0.0, width / 7, bins), True),
        "TranslateY": (lambda bins, height, _: torch.linspace(0.0, height / 7, bins), True),
    }


_POLICIES = {"randaugment": v2.RandAugment, "trivialaugment": _TrivialAugment}


class Policy:
    """RandAugment (arXiv:1909.13719) or TrivialAugment (arXiv:2103.10158) on the network's input.

    The policies expect pixels of 0 to 255, so the plugin's Normalize is undone before the
    policy and applied again after it.
    """

    def __init__(self, name: str, records: Sequence[TransformRecord]) -> None:
        normalize = next((r for r in reversed(records) if isinstance(r, Normalize)), None)
        self._mean = torch.tensor(normalize.mean if normalize else [0.0])[:, None, None]
        self._std = torch.tensor(normalize.std if normalize else [1.0])[:, None, None]
        self._policy = _POLICIES[name]()

    def __call__(self, images: Tensor, seeds: Tensor) -> Tensor:
        """Augment float (batch, C, H, W) on the CPU; a seed draws the same at any resolution."""
        pixels = ((images * self._std + self._mean) * 255).round().clamp(0, 255).to(torch.uint8)
        with torch.random.fork_rng(devices=[]):
            varied = [self._vary(image, seed) for image, seed in zip(pixels, seeds.tolist(), strict=True)]
        return (torch.stack(varied).float() / 255 - self._mean) / self._std

    def _vary(self, image: Tensor, seed: int) -> Tensor:
        torch.manual_seed(seed)
        varied: Tensor = self._policy(image)
        return varied
