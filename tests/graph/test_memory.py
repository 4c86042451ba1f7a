"""What a network needs in memory: against torchvision's own counts, and against a run that is watched."""

from typing import Any

import pytest
import torch
import torchvision
from peak_memory import build, held_by_the_runner, traced
from recount import assert_priced_as_run
from torch import nn
from tracing import Forward, to_logits, trace_of
from usual import usually

from starter.graph.costs.macs import count_macs
from starter.graph.costs.memory import peak_memory_bytes, weight_bytes
from starter.graph.costs.summary import depth, graph_costs
from starter.graph.executor import Program
from starter.graph.fusion import IN_PLACE, written_in_place

NAMES = ["mobilenet_v2", "shufflenet_v2_x0_5", "resnet18", "densenet121", "squeezenet1_1", "swin_t"]
PUBLISHED = ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1"]
LAYERS = [("resnet18", 18), ("resnet50", 50), ("vgg16", 16), ("alexnet", 8)]


@pytest.mark.slow
@pytest.mark.parametrize("name", usually("resnet18", "shufflenet_v2_x0_5", of=NAMES))
def test_the_peak_is_what_the_runner_holds_to_the_byte(name: str) -> None:
    walk = traced(build(f"torchvision/{name}"), (3, 64, 64))
    assert peak_memory_bytes(walk) - weight_bytes(walk) == held_by_the_runner(walk)


@pytest.mark.slow
@pytest.mark.parametrize("name", usually("mobilenet_v3_small", of=PUBLISHED))
def test_params_and_bytes_are_those_that_torchvision_publishes(name: str) -> None:
    weights = torchvision.models.get_model_weights(name).DEFAULT
    model = torchvision.models.get_model(name).eval()
    walk = trace_of(model, (3, 64, 64), 1000)
    assert walk.graph.num_params == weights.meta["num_params"]
    statistics = sum(b.numel() for key, b in model.named_buffers() if "num_batches" not in key)
    assert weight_bytes(walk) == 4 * (weights.meta["num_params"] + statistics)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "layers"), usually(("alexnet", 8), of=LAYERS))
def test_the_depth_is_the_number_in_a_networks_name(name: str, layers: int) -> None:
    with torch.device("cpu"):
        model = torchvision.models.get_model(name, num_classes=6).eval()
    assert depth(trace_of(model, (3, 64, 64))) == layers


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.second = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.second.weight = self.first.weight

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return to_logits(self.second(self.first(image)))


def test_a_weight_that_is_used_twice_is_carried_once() -> None:
    walk = trace_of(Tied())
    assert weight_bytes(walk) == 4 * 81 == 4 * walk.graph.num_params


def weighed(function: Any, **tensors: torch.Tensor) -> int:
    return weight_bytes(trace_of(Forward(function, **tensors)))


def test_a_computed_constant_is_carried_in_its_smaller_form() -> None:
    """An outer product of two vectors, or a sum of a large matrix: 2 x 48 numbers, and 1."""
    column, row, large = torch.rand(3, 8, 1), torch.rand(3, 1, 8), torch.rand(64, 64)
    assert weighed(lambda m, x: to_logits(x * (m.a * m.b)), a=column, b=row) == 4 * 48
    assert weighed(lambda m, x: to_logits(x * m.large.mean()), large=large) == 4


def test_what_a_constant_is_read_from_is_paid_once_however_often() -> None:
    """Both halves and the mean of the whole: less than the whole with what tells how to cut it."""

    def forward(module: Any, image: torch.Tensor) -> torch.Tensor:
        first, second = module.w.exp().chunk(2)
        return to_logits(image * first * second * module.w.mean())

    assert weighed(forward, w=torch.rand(6, 8, 8)) == 4 * 6 * 8 * 8 + 4  # the halves and the mean


@pytest.mark.slow
def test_numbers_in_the_text_of_a_constant_are_not_free() -> None:
    """A hundred numbers that are written into the program instead of into a tensor."""
    numbers = [0.5 + i / 64 for i in range(100)]

    def forward(_: Any, image: torch.Tensor) -> torch.Tensor:
        table = torch.stack([torch.ones(()) * number for number in numbers])
        return to_logits(image * table.sum()) + to_logits(image) * table[:6]

    assert weighed(forward) >= 4 * 6


def test_int8_weights_count_a_byte_each() -> None:
    stored = torch.randint(-128, 127, (3, 8, 8), dtype=torch.int8)
    assert weighed(lambda m, x: to_logits(x * m.w.float()), w=stored) == 3 * 8 * 8


def test_views_and_what_is_written_in_place_take_no_memory_of_their_own() -> None:
    conv = nn.Conv2d(3, 4, 1, bias=False)

    def peak(function: Any) -> int:
        walk = trace_of(nn.Sequential(conv, Forward(function)))
        assert peak_memory_bytes(walk) - weight_bytes(walk) == held_by_the_runner(walk)
        return peak_memory_bytes(walk) - weight_bytes(walk)

    image, maps = 4 * 3 * 64, 4 * 4 * 64
    assert peak(lambda _, x: to_logits(x)) == image + maps
    assert peak(lambda _, x: to_logits(x.relu().sigmoid())) == image + maps
    assert peak(lambda _, x: to_logits(x.view(1, 2, 128).relu())) == 2 * maps
    assert peak(lambda _, x: to_logits(x + x.relu())) == 3 * maps


def test_what_is_written_in_place_comes_out_as_before() -> None:
    """An operand that somebody else reads too, or that is a view of the image, stays."""
    torch.manual_seed(0)

    def forward(module: Any, image: torch.Tensor) -> torch.Tensor:
        maps = torch.nn.functional.conv2d(image, module.w)
        kept = maps.sigmoid()
        turned = image.transpose(2, 3).relu() + image.neg()
        return to_logits((maps.relu() + kept).mul(2.0).tanh() - maps + turned)

    model = Forward(forward, w=torch.rand(3, 3, 1, 1))
    images = torch.randn(5, 3, 8, 8)
    program = Program(trace_of(model), rounding=None)
    assert torch.allclose(program(images), model(images), atol=1e-6)


@pytest.mark.parametrize("op", IN_PLACE)
def test_every_operator_that_is_written_in_place_answers_and_costs_as_before(op: str) -> None:
    _, name, overload = op.split(".")
    function = getattr(getattr(torch.ops.aten, name), overload)
    more = {"Tensor": (torch.rand(8),), "Scalar": (2.0,)}.get(overload, ())
    more = (0.6,) if name in {"clamp_min", "clamp_max"} else more
    model = Forward(
        lambda m, x: to_logits(function(torch.nn.functional.conv2d(x, m.w), *more)), w=torch.rand(3, 3, 1, 1)
    )
    walk, images = trace_of(model), torch.rand(4, 3, 8, 8)

    assert written_in_place(walk)
    assert torch.allclose(Program(walk, rounding=None)(images), model(images), atol=1e-6, equal_nan=True)
    assert_priced_as_run(walk, count_macs(walk), images[:1])


def test_every_cost_of_a_small_network_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, bias=False), nn.Flatten(), nn.Linear(36, 6))
    costs = graph_costs(trace_of(model))
    weights = 4 * (4 * 27 + 36 * 6 + 6)
    assert costs.weight_bytes == weights
    assert costs.peak_memory_bytes == weights + 4 * (3 * 64 + 36)
    assert costs.memory_access == (192 + 108 + 36) + (36 + 216 + 6 + 6)
    assert costs.depth == 2
    assert costs.bit_operations == 4 * 9 * 27 + 36 * 6
