"""Transforms that torchvision lacks, for plugins: `from starter.transforms import Letterbox`."""

from starter.submission.letterbox import Letterbox

__all__ = ["Letterbox"]
