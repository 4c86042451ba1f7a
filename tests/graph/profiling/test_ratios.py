"""What block times say, on made-up machines: steady, drifting, noisy, and one that favours a place."""

import random
from collections.abc import Callable

import pytest

from starter.contract.costs import BatchSpeed, SpeedRound, SpeedVerdict
from starter.graph.profiling.ratios import in_all, judged, median_interval

ENTRY_US, BASELINE_US = 950.0, 1000.0
"""5 % apart."""

Machine = Callable[[str, float], float]
"""Gives a side and how many blocks have run, and returns what it multiplies the true time by."""


def rounds_on(machine: Machine, count: int = 40, seed: int = 0) -> list[SpeedRound]:
    """Let a made-up machine run blocks there and back."""
    generator = random.Random(seed)
    true = {"e": ENTRY_US, "b": BASELINE_US, "c": BASELINE_US}
    found, blocks = [], 0
    for _ in range(count):
        there = generator.sample("ebc", 3)
        order = there + there[::-1]
        times = tuple(true[side] * machine(side, blocks + i) for i, side in enumerate(order))
        found.append(SpeedRound(taking=0, order="".join(order), microseconds=times))
        blocks += len(order)
    return found


def noise(spread: float, seed: int = 0) -> Machine:
    generator = random.Random(seed)
    return lambda _side, _blocks: 1 + generator.gauss(0, spread)


def test_a_steady_machine_tells_two_networks_apart_that_differ_by_5_percent() -> None:
    found = judged(1, rounds_on(noise(0.01)))
    assert found.verdict is SpeedVerdict.OK
    assert found.interval[0] <= found.ratio <= found.interval[1] < 1
    assert found.ratio == pytest.approx(0.95, abs=0.005)
    assert found.control_interval[0] <= 1 <= found.control_interval[1]


def test_a_machine_that_slows_down_evenly_gives_the_same_ratio() -> None:
    """From the first block to the last it becomes 2.4 times slower: 1 + 240 blocks x 0.6 %."""
    found = judged(1, rounds_on(lambda _side, blocks: 1 + 0.006 * blocks))
    assert found.verdict is SpeedVerdict.OK
    assert found.ratio == pytest.approx(0.95, abs=1e-9)


def test_a_machine_whose_speed_leaps_now_and_then_gives_the_same_ratio() -> None:
    """Five rounds in forty are cut by something else: the median does not follow them."""
    found = judged(1, rounds_on(lambda _side, blocks: 3.0 if blocks % 48 == 0 else 1.0))
    assert found.verdict is SpeedVerdict.OK
    assert found.ratio == pytest.approx(0.95, abs=1e-9)


def test_a_noisy_machine_cannot_tell() -> None:
    found = judged(1, rounds_on(noise(0.15)))
    assert found.verdict is SpeedVerdict.WIDE
    assert found.interval[1] - found.interval[0] > 0.03 * found.ratio


def test_a_machine_on_which_the_baseline_differs_from_itself_cannot_tell() -> None:
    found = judged(1, rounds_on(lambda side, _blocks: 1.01 if side == "c" else 1.0))
    assert found.verdict is SpeedVerdict.CONTROL
    assert found.control_interval[0] == pytest.approx(1.01)


def test_what_one_batch_size_cannot_tell_leaves_no_ratio_in_all() -> None:
    sure, unsure = judged(1, rounds_on(noise(0.01))), judged(32, rounds_on(noise(0.15)))
    assert in_all([sure, unsure]) is None


def test_the_ratio_in_all_is_the_geometric_mean() -> None:
    """A quarter of the time and the whole of it: half."""

    def sure(batch: int, ratio: float) -> BatchSpeed:
        return judged(batch, rounds_on(lambda side, _: ratio / 0.95 if side == "e" else 1.0))

    assert in_all([sure(1, 0.25), sure(32, 1.0)]) == pytest.approx(0.5)


def test_the_interval_holds_the_true_median_nearly_always() -> None:
    """Of 200 samples of 30, at least 95 %: what is stated is 99 %."""
    generator = random.Random(1)
    intervals = (median_interval([generator.gauss(1, 0.05) for _ in range(30)]) for _ in range(200))
    assert sum(low <= 1 <= high for low, high in intervals) >= 190
