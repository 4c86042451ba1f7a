"""The methods by which `starter compress` makes a trained plugin smaller.

Each returns a plan of steps that rebuild.py applies: structured pruning of channels,
low-rank factorisation of convolutions, quantization, and re-parameterisation, which changes
the cost but not the answers.
"""

from collections.abc import Callable
from dataclasses import dataclass

from starter.recipes.compression.factorization import factorize
from starter.recipes.compression.plugin import Compressed, Original
from starter.recipes.compression.pruning import prune
from starter.recipes.compression.quantization import quantize
from starter.recipes.compression.reparameterization import reparameterize


@dataclass(frozen=True)
class Amount:
    """How far to compress; each method reads the fields that apply to it."""

    keep: float | None = None
    """The share of channels, or of energy, to keep."""
    macs: int | None = None
    """Instead, the most MACs per image."""
    bits: int = 8
    """Bits of quantized weights and values."""
    images: int = 256
    """Number of training images that calibrate a quantization."""


METHODS: dict[str, Callable[[Original, Amount], Compressed]] = {
    "prune": lambda original, by: prune(original, keep=by.keep, macs=by.macs),
    "tucker": lambda original, by: factorize(original, keep=by.keep, macs=by.macs),
    "reparameterize": lambda original, _: reparameterize(original),
    "quantize": lambda original, by: quantize(original, bits=by.bits, images=by.images),
}
"""The methods by name."""
