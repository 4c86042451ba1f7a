"""The ways in which `starter compress` makes a trained plugin smaller.

Each gives a plan of steps that rebuild.py applies: structured pruning of channels,
low-rank factorisation of convolutions, and re-parameterisation, which changes the cost
and not the answers.
"""

from collections.abc import Callable

from starter.recipes.compression.factorization import factorize
from starter.recipes.compression.plugin import Compressed, Original
from starter.recipes.compression.pruning import prune
from starter.recipes.compression.reparameterization import reparameterize

METHODS: dict[str, Callable[[Original, float | None, int | None], Compressed]] = {
    "prune": lambda original, keep, macs: prune(original, keep=keep, macs=macs),
    "tucker": lambda original, keep, macs: factorize(original, keep=keep, macs=macs),
    "reparameterize": lambda original, *_: reparameterize(original),
}


def compress(original: Original, method: str, *, keep: float | None, macs: int | None) -> Compressed:
    """Make a plugin smaller by one of METHODS.

    `keep` and `macs` say how much smaller; re-parameterisation takes neither.
    """
    return METHODS[method](original, keep, macs)
