"""Time a program against the baseline's, alternately on one core; ratios.py judges the times.

A round builds the entry's program, the baseline's, and the baseline's again as the control, and times
short blocks of their calls in a random order and in its reverse (ABBA, with three programs). A network's
speed varies by a few percent with its memory layout. Programs are therefore rebuilt for each round, behind a
gap of random size, so that this variation is part of the spread instead of an error that no interval shows.
The clock is the processor time of this process, which excludes what other programs use of the core;
on a GPU it is CUDA events.
"""

import gc
import math
import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch

from starter.contract.costs import BatchSpeed, SpeedReport, SpeedRound
from starter.contract.protocol import SpeedRequest
from starter.graph.analysis import Trace
from starter.graph.executor import Program, Rounding
from starter.graph.profiling.profiler import BATCHES, device_name
from starter.graph.profiling.ratios import BASELINE, CONTROL, ENTRY, in_all, judged

FEWEST_ROUNDS = 12
"""Fewest rounds, however slow the networks are: an interval of fewer is meaningless."""

_BLOCK_SECONDS = 0.01
_STEADY_CALLS = 5
_IS_FASTER = 0.98
_MOST_GAP = 2**18
"""Largest gap before a program's constants, in float32 elements: 1 MiB."""

_COUNTS_PROCESSOR_TIME = os.name != "nt"  # Windows counts it in ticks of 16 ms
_clock = time.process_time if _COUNTS_PROCESSOR_TIME else time.perf_counter


class Contest:
    """Two traced graphs to time alternately.

    Args:
        entry: the graph to measure.
        baseline: the graph to compare it with.
        seed: the seed of the order of the blocks, the images and the memory layout.
        rounding: as in `Program`.
        device: the device of both.
    """

    def __init__(
        self,
        entry: Trace,
        baseline: Trace,
        *,
        seed: int = 0,
        rounding: Rounding | None,
        device: torch.device | None = None,
    ) -> None:
        self._walks = {ENTRY: entry, BASELINE: baseline, CONTROL: baseline}
        self._random = random.Random(seed)  # noqa: S311 - an order, not a secret
        self._generator = torch.Generator().manual_seed(seed)
        self._rounding = rounding
        self._device = device or torch.device("cpu")

    def fits(self, batch: int) -> bool:
        """Return whether both run at this batch size."""
        programs = (Program(walk, batch_size=batch, rounding=self._rounding) for walk in self._distinct())
        return all(program.batch_size >= batch for program in programs)

    def rounds(self, batch: int, seconds: float, taking: int = 0) -> Iterator[SpeedRound]:
        """Warm up until the times are steady, then time for `seconds`, and at least FEWEST_ROUNDS rounds."""
        shapes = {side: walk.graph.file.input_shape[1:] for side, walk in self._walks.items()}
        images = {
            side: torch.rand(batch, *shape, generator=self._generator).to(self._device)
            for side, shape in shapes.items()
        }
        programs, _ = self._built(batch)
        calls = {
            side: math.ceil(_BLOCK_SECONDS / _steady(program, images[side]))
            for side, program in programs.items()
        }
        started, number = _clock(), 0
        while number < FEWEST_ROUNDS or _clock() - started < seconds:
            yield self._round(batch, images, calls, taking)
            number += 1

    def _round(
        self, batch: int, images: Mapping[str, torch.Tensor], calls: Mapping[str, int], taking: int
    ) -> SpeedRound:
        programs, _gaps = self._built(batch)
        for side, program in programs.items():
            program(images[side])  # the first call prepares what later ones find
        there = self._shuffled()
        order = there + there[::-1]
        times = []
        for side in order:
            programs[side](images[side])  # not counted: the side before has filled the caches
            times.append(_seconds(programs[side], images[side], calls[side]) * 1e6)
        return SpeedRound(taking=taking, order="".join(order), microseconds=tuple(times))

    def _built(self, batch: int) -> tuple[dict[str, Program], list[torch.Tensor]]:
        """Return the three programs and the gaps before them, which must stay alive as long."""
        programs, gaps = {}, []
        for side in self._shuffled():
            gaps.append(torch.empty(self._random.randrange(1, _MOST_GAP), device=self._device))
            program = Program(self._walks[side], batch_size=batch, rounding=self._rounding)
            programs[side] = program.to(self._device)
        return programs, gaps

    def _shuffled(self) -> list[str]:
        return self._random.sample(list(self._walks), len(self._walks))

    def _distinct(self) -> tuple[Trace, Trace]:
        return self._walks[ENTRY], self._walks[BASELINE]


def measure_speed(
    entry: Trace,
    baseline: Trace,
    request: SpeedRequest,
    *,
    rounding: Rounding | None,
    device: torch.device,
) -> SpeedReport:
    """Time an entry against the baseline at batch sizes 1 and 32, with one thread.

    Args:
        entry: the graph to measure.
        baseline: the graph to compare it with.
        request: the number and length of the measurements.
        rounding: as in `Program`.
        device: the device of both.
    """
    contest = Contest(entry, baseline, seed=request.seed, rounding=rounding, device=device)
    found: dict[int, list[SpeedRound]] = {batch: [] for batch in BATCHES if contest.fits(batch)}
    with undisturbed():
        for taking in range(request.takings):
            for batch in found:
                found[batch] += contest.rounds(batch, request.seconds, taking)
    batches: list[BatchSpeed] = [judged(batch, rounds) for batch, rounds in found.items()]
    return SpeedReport(
        ratio=in_all(batches),
        batches=tuple(batches),
        device=device_name(device),
        clock=clock_of(device),
        core=core(device),
        seed=request.seed,
    )


@contextmanager
def undisturbed() -> Iterator[None]:
    """Compute with one thread and without the garbage collector."""
    threads, collects = torch.get_num_threads(), gc.isenabled()
    torch.set_num_threads(1)
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if collects:
            gc.enable()


def clock_of(device: torch.device) -> Literal["processor time", "wall clock", "CUDA events"]:
    """Return the clock that times a device."""
    if device.type == "cuda":
        return "CUDA events"
    return "processor time" if _COUNTS_PROCESSOR_TIME else "wall clock"


def core(device: torch.device) -> int | None:
    """Return the core that this process is pinned to; None: it has several, or runs on a GPU."""
    if device.type == "cuda" or not hasattr(os, "sched_getaffinity"):
        return None
    cores = os.sched_getaffinity(0)
    return cores.pop() if len(cores) == 1 else None


def _steady(program: Program, images: torch.Tensor) -> float:
    """Call a program until it no longer becomes faster; return the seconds of its fastest call."""
    fastest, since = math.inf, 0
    while since < _STEADY_CALLS:
        taken = _seconds(program, images, 1)
        since = 0 if taken < _IS_FASTER * fastest else since + 1
        fastest = min(fastest, taken)
    return fastest


def _seconds(program: Program, images: torch.Tensor, calls: int) -> float:
    """Return the mean time of a call in a block of `calls`."""
    if images.is_cuda:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        for _ in range(calls):
            program(images)
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end)) / 1e3 / calls
    started = _clock()
    for _ in range(calls):
        program(images)
    return (_clock() - started) / calls
