"""Pictures as RGB of 8 bits; those of more bits are scaled by one rule, and refused where it would lose them.

| pixels | rule |
|---|---|
| 16 bits, 0 to 65535 | value x 255 / 65535, rounded |
| floats, 0 to 1 | value x 255, rounded |
| all others of one channel | refused: what is white is not known |

The rule knows no picture's own range, so that two pictures stay comparable. Of colours of 16 bits a
channel Pillow keeps the upper 8.
"""

from PIL import Image

_MOST = 65535
_LEAST_BRIGHTEST = 4096
"""A 16-bit picture without such a value most likely holds 12 bits: 16 levels of them would be left."""


class DepthError(ValueError):
    """A picture's values fit no rule; the message says which, and what to do."""


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a picture as RGB of 8 bits.

    Raises:
        DepthError: its values fit no rule of this module.
    """
    if image.mode == "F":
        return _scaled(image, 1.0)
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _scaled(image, float(_MOST))
    return image.convert("RGB")


def _scaled(image: Image.Image, white: float) -> Image.Image:
    import numpy as np  # noqa: PLC0415 - the command line starts without it

    values = np.asarray(image, np.float64)
    least, most = float(values.min()), float(values.max())
    # "not": NaN is in no range
    if not 0 <= least <= most <= white:
        raise DepthError(
            f"values from {least:g} to {most:g}: of a picture of mode {image.mode} only 0 to {white:g} can be"
            " scaled to 8 bits; save it with 8 bits, e.g. magick FILE -auto-level -depth 8 NEW.png"
        )
    if white == _MOST and 0 < most < _LEAST_BRIGHTEST:
        raise DepthError(
            f"no value above {most:g} in a picture of 16 bits: it is nearly black, or holds 12 bits; scale"
            " it to 16, e.g. magick FILE -evaluate multiply 16 NEW.png"
        )
    return Image.fromarray((values * (255 / white)).round().astype(np.uint8)).convert("RGB")
