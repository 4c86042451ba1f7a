"""Fit a whole image into a fixed size: what detectors call a letterbox, and others SquarePad."""

import math
from collections.abc import Sequence
from typing import Literal, TypeVar

import torch
from PIL import Image
from torch import nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

Picture = TypeVar("Picture", Image.Image, torch.Tensor)
Order = Literal["longer", "pad first"]


class Letterbox(nn.Module):
    """Fit the whole image into a fixed size, keep its aspect ratio, and fill the rest evenly on both sides.

    Args:
        size: height and width of the result in pixels, or the side of a square.
        fill: the value of the border: one, or one for each channel.
        resize: "longer" scales the image until it fits, then pads it. "pad first" pads it to the aspect ratio
            of `size`, then scales it: the border's edge is smoothed too, as in SquarePad followed by Resize.
        interpolation: how values between pixels are made.

    Raises:
        ValueError: `size` or `resize` is none of these.

    >>> Letterbox(4)(Image.new("L", (100, 50), 255)).getcolors()
    [(8, 0), (8, 255)]
    """

    def __init__(
        self,
        size: int | Sequence[int],
        fill: float | Sequence[float] = 0,
        resize: Order = "longer",
        interpolation: InterpolationMode = InterpolationMode.BILINEAR,
    ) -> None:
        super().__init__()
        given = list(size) if isinstance(size, Sequence) else [size]
        sides = [int(side) for side in (given * 2 if len(given) == 1 else given)]
        if len(sides) != 2 or min(sides) < 1 or sides[: len(given)] != given:
            raise ValueError(f"size {size!r} is neither (height, width) nor the side of a square")
        if resize not in {"longer", "pad first"}:
            raise ValueError(f"resize {resize!r}: 'longer' or 'pad first'")
        self.size = sides
        self.fill = fill
        self.resize = resize
        self.interpolation = interpolation

    def forward(self, image: Picture) -> Picture:
        """Return the letterboxed image, of the type of `image`: PIL, or a tensor (..., H, W)."""
        height, width = F.get_size(image)
        if self.resize == "longer":
            scale = min(self.size[0] / height, self.size[1] / width)
            inner = [max(1, round(height * scale)), max(1, round(width * scale))]
            return self._padded(self._scaled(image, inner), self.size)
        return self._scaled(self._padded(image, self.padded_size(height, width)), self.size)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"size={self.size}, fill={self.fill}, resize={self.resize!r}, {self.interpolation.value}"

    def padded_size(self, height: int, width: int) -> list[int]:
        """Return height and width of the smallest canvas with the aspect ratio of `size` for an image."""
        target_height, target_width = self.size
        return [
            max(height, math.ceil(width * target_height / target_width)),
            max(width, math.ceil(height * target_width / target_height)),
        ]

    def _scaled(self, image: Picture, size: Sequence[int]) -> Picture:
        scaled: Picture = F.resize(image, list(size), interpolation=self.interpolation, antialias=True)
        return scaled

    def _padded(self, image: Picture, size: Sequence[int]) -> Picture:
        height, width = F.get_size(image)
        above, left = (size[0] - height) // 2, (size[1] - width) // 2
        around = [left, above, size[1] - width - left, size[0] - height - above]
        fill = list(self.fill) if isinstance(self.fill, Sequence) else self.fill
        padded: Picture = F.pad(image, around, fill=fill)
        return padded
