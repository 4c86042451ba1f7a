"""Timing two graphs in turns: what is recorded, and what is left as it was."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from tracing import trace_of

from starter.contract.costs import SpeedReport
from starter.contract.protocol import SpeedRequest
from starter.contract.system.processors import on_one_processor
from starter.graph.executor import to_bfloat16
from starter.graph.profiling.speed import FEWEST_ROUNDS, measure_speed


def network(layers: int) -> nn.Module:
    convolutions = [nn.Conv2d(8, 8, 3, padding=1) for _ in range(layers)]
    return nn.Sequential(nn.Conv2d(3, 8, 1), *convolutions, nn.Flatten(), nn.Linear(512, 6))


def measured(entry: nn.Module, baseline: nn.Module, *, takings: int = 1, seed: int = 0) -> SpeedReport:
    nowhere = Path("nowhere")
    request = SpeedRequest(graph=nowhere, weights=nowhere, seconds=0.1, takings=takings, seed=seed)
    return measure_speed(
        trace_of(entry), trace_of(baseline), request, rounding=to_bfloat16, device=torch.device("cpu")
    )


@pytest.mark.slow
def test_every_block_is_recorded_there_and_back_in_an_order_that_changes() -> None:
    report = measured(network(1), network(1), takings=2)
    assert [found.batch for found in report.batches] == [1, 32]
    for found in report.batches:
        orders = [r.order for r in found.rounds]
        assert all(order == order[::-1] and set(order) == set("ebc") for order in orders)
        assert len(set(orders)) > 1
        assert all(time > 0 for r in found.rounds for time in r.microseconds)
        assert sum(r.taking == 0 for r in found.rounds) >= FEWEST_ROUNDS
        assert sum(r.taking == 1 for r in found.rounds) >= FEWEST_ROUNDS


@pytest.mark.long
def test_a_seed_decides_the_order() -> None:
    def orders(seed: int) -> list[str]:
        found = measured(network(1), network(1), seed=seed).batches[0]
        return [r.order for r in found.rounds][:FEWEST_ROUNDS]

    assert orders(1) == orders(1) != orders(2)


@pytest.mark.slow
def test_a_network_with_ten_times_the_layers_takes_longer_on_any_machine() -> None:
    report = measured(network(20), network(2))
    assert all(found.interval[0] > 1.5 for found in report.batches)


@pytest.mark.slow
def test_threads_and_the_collector_are_as_before() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        measured(network(1), network(1))
        assert torch.get_num_threads() == threads + 1
        assert gc.isenabled()
    finally:
        torch.set_num_threads(threads)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux alone keeps a process on one core")
def test_a_process_is_kept_on_one_core_and_may_then_run_on_all_again() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        before = os.sched_getaffinity(child.pid)
        with on_one_processor(child.pid):
            assert os.sched_getaffinity(child.pid) == {max(before)}
        assert os.sched_getaffinity(child.pid) == before
        child.communicate(b"\n")
    with on_one_processor(child.pid):  # one that has ended is no error
        pass
