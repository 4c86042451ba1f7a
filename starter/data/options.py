"""How a data set is made: records of choices and their defaults. What follows: writer.py, coco/crops.py."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self


@dataclass(frozen=True)
class Shares:
    """How images are shared out, and what the draw depends on."""

    test: float = 0.3
    """Share of all images that is evaluated on."""
    public: float = 0.5
    """Share of those that is Public; the rest is Private."""
    validation: float = 0.0
    """Share of the others that is marked as validation images in train.csv; 0: no marks."""
    seed: int = 0
    """The same seed draws the same split."""


class Orientation(StrEnum):
    """Which way up a picture is whose EXIF orientation its annotated shape does not decide."""

    EXIF = "exif"
    """Turned upright, as viewers show it."""
    STORED = "stored"
    """As its pixels are stored."""


@dataclass(frozen=True)
class CropOptions:
    """How boxes are cut."""

    min_size: int = 24
    """Boxes with a side below this, after clipping and in the picture as it is, are skipped; pixels."""
    margin: float = 0.0
    """Added on every side, as a share of the box's longer side."""
    max_side: int | None = None
    """Crops are scaled down to this; pixels."""
    quality: int = 90
    """JPEG quality, 1-95."""
    orientation: Orientation = Orientation.EXIF
    """For pictures whose shape does not decide it."""
    strict: bool = False
    """Refuse the file if any annotation in it cannot be used."""


@dataclass(frozen=True)
class Description:
    """What dataset.toml says, but for the mean and deviation, which are computed."""

    name: str = ""
    """Empty: that of what it is made of."""
    classes: tuple[str, ...] = ()
    """Empty: those of what it is made of."""
    version: str = "1"
    licence: str = "not stated"
    source: str = "not stated"
    """Empty: the name of what it is made of."""
    made_by: tuple[str, ...] = ()

    def completed(self, *, name: str, source: str, classes: tuple[str, ...]) -> Self:
        """Return it with the name and source, where they are empty, and the classes of what it is made of."""
        return replace(self, name=self.name or name, source=self.source or source, classes=classes)
