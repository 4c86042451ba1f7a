"""The ways in which `starter compress` makes a trained plugin smaller.

Each gives a plan of steps that rebuild.py applies: structured pruning of channels,
low-rank factorisation of convolutions, quantization, and re-parameterisation, which changes
the cost and not the answers.
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
    """How much smaller; each method reads what concerns it."""

    keep: float | None = None
    """The share that stays, of channels or of energy."""
    macs: int | None = None
    """Instead, the most that an image may cost."""
    bits: int = 8
    """Of quantized weights and values."""
    images: int = 256
    """Training images that a quantization is calibrated on."""


METHODS: dict[str, Callable[[Original, Amount], Compressed]] = {
    "prune": lambda original, by: prune(original, keep=by.keep, macs=by.macs),
    "tucker": lambda original, by: factorize(original, keep=by.keep, macs=by.macs),
    "reparameterize": lambda original, _: reparameterize(original),
    "quantize": lambda original, by: quantize(original, bits=by.bits, images=by.images),
}
"""By name."""
