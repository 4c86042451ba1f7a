"""Compare an exported file's answers and latency with the kit's."""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from starter.graph.executor import Program
from starter.recipes.export.counted import Counted, Logits
from starter.recipes.export.formats import Run

MOST_DIFFERENCE = 1e-4
"""As a share of the largest logit: float32 sums in another order move an ordinary network by 1 % of this."""
_LEAST_SCALE = 1e-6
"""Smaller logits are compared as if they were this large."""
_SOME = 16
_WARM_UP, _ROUNDS, _SECONDS = 3, 30, 4.0


@dataclass(frozen=True)
class Parity:
    """How close a file's logits are to the kit's."""

    difference: float
    """The largest, as a share of the kit's largest logit; both in float32, with no value rounded."""
    agreeing: int
    """Number of images whose class agrees with the kit's official answer."""
    images: int
    """Number of images compared."""

    @property
    def holds(self) -> bool:
        """Whether it is close enough; NaN never is."""
        return self.difference <= MOST_DIFFERENCE


def compare(counted: Counted, run: Run, batch: int | None) -> Parity:
    """Run a file on the images, in batches of its size or, if it takes any, of several sizes."""
    logits = np.concatenate([run(part)[:kept] for part, kept in _parts(counted.images, batch)])
    return Parity(
        difference=relative_difference(logits, counted.plain),
        agreeing=int((logits.argmax(1) == counted.official.argmax(1)).sum()),
        images=len(logits),
    )


def relative_difference(found: Logits, expected: Logits) -> float:
    """Return the largest difference as a share of the largest expected value; infinite if not finite."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return math.inf
    scale = max(float(np.abs(expected).max()), _LEAST_SCALE)
    return float(np.abs(found - expected).max()) / scale


def latencies_ms(counted: Counted, run: Run, batch: int) -> tuple[float, float]:
    """Return the median latencies of the file and of the kit, each with one thread, measured alternately."""
    program = Program(counted.walk, batch_size=batch, rounding=None)
    images = counted.images[torch.arange(batch) % len(counted.images)].contiguous()
    threads, taken = torch.get_num_threads(), (list[float](), list[float]())

    def kit(some: torch.Tensor) -> Logits:
        return np.concatenate([program(part).numpy() for part in torch.split(some, program.batch_size)])

    torch.set_num_threads(1)
    try:
        until = time.perf_counter() + _SECONDS
        for turn in range(_WARM_UP + _ROUNDS):
            if turn > 2 * _WARM_UP and time.perf_counter() > until:
                break
            for times, function in zip(taken, (run, kit), strict=True):
                times.append(_seconds(function, images))
    finally:
        torch.set_num_threads(threads)
    file_ms, kit_ms = (1000 * statistics.median(times[_WARM_UP:]) for times in taken)
    return file_ms, kit_ms


def _seconds(function: Callable[[torch.Tensor], Logits], images: torch.Tensor) -> float:
    started = time.perf_counter()
    function(images)
    return time.perf_counter() - started


def _parts(images: torch.Tensor, batch: int | None) -> Iterator[tuple[torch.Tensor, int]]:
    """Yield batches of the images, each with the number of its images that are not padding."""
    if batch is None:
        yield images[:1], 1
        yield from ((part, len(part)) for part in torch.split(images[1:], _SOME) if len(part))
        return
    for start in range(0, len(images), batch):
        places = torch.arange(start, start + batch)
        yield images[places % len(images)].contiguous(), min(batch, len(images) - start)
