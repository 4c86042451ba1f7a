"""Bits are those that values really have: what operators force, what numbers a constant holds."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tracing import Forward, cost_of, trace_of

from starter.graph.costs.bits import bit_operations
from starter.graph.costs.grids import grids_of, levels_of_constant
from starter.graph.executor import Program

MACS = 192 * 6
"""Of a linear layer from an image of 3 x 8 x 8 to six logits."""
Function = Callable[[Any, Tensor], Tensor]


def on_grid(x: Tensor, levels: int = 16, scale: float = 0.1) -> Tensor:
    """Put values on a grid of so many levels, from 0."""
    return torch.clamp(torch.round(x * (1 / scale)), 0, levels - 1) * scale


def integers(*shape: int, bits: int = 4, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(-(2 ** (bits - 1)), 2 ** (bits - 1), shape, generator=random).float()


def after(function: Function, weight: Tensor | None = None, **tensors: Tensor) -> int:
    """Return the bit operations of a linear layer on what a function makes of the image."""
    weight = torch.randn(6, 192) if weight is None else weight

    def forward(m: Any, x: Tensor) -> Tensor:
        return F.linear(function(m, x).flatten(1), m.weight)

    return bit_operations(trace_of(Forward(forward, weight=weight, **tensors)))


def bits_of(function: Function, **tensors: Tensor) -> int:
    """Return the bits of what a function makes of the image: its product is with a float32 weight."""
    bits = after(function, **tensors) * 1024 / (MACS * 32)
    assert bits == int(bits)
    return int(bits)


def test_float32_counts_its_multiply_accumulates() -> None:
    assert after(lambda _, x: x) == MACS
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 6))
    assert bit_operations(trace_of(network)) == cost_of(network).contraction


def test_eight_by_eight_bits_are_a_sixteenth_and_four_by_four_a_sixty_fourth() -> None:
    for bits in (8, 4):
        weight = integers(6, 192, bits=bits) * (torch.rand(6, 1) + 0.1)
        found = after(lambda _, x, n=2**bits: on_grid(x, n), weight)  # type: ignore[misc]
        assert found == MACS * bits * bits // 1024


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_has_sixteen_bits(dtype: torch.dtype) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return F.linear(x.flatten(1).to(dtype), m.weight).float()

    model = Forward(forward, weight=torch.randn(6, 192).to(dtype))
    assert bit_operations(trace_of(model)) == MACS * 16 * 16 // 1024


FOUR_BITS: dict[str, Function] = {
    "clamped after it is rounded": lambda _, x: on_grid(x),
    "clamped before it is rounded": lambda _, x: torch.round((x * 10).clamp(0, 15)) / 10,
    "around a zero point": lambda _, x: (torch.clamp(torch.round(x * 9) + 3, 0, 15) - 3) * 0.2,
    "fake quantized": lambda _, x: torch.fake_quantize_per_tensor_affine(x, 0.1, 3, 0, 15),
    "moved": lambda _, x: F.pad(on_grid(x).permute(0, 1, 3, 2).flip(2), (1, 1, 1, 1))[..., 1:-1, 1:-1],
    "activated": lambda _, x: F.relu(torch.clamp(torch.round(x * 9), -15, 15) * 0.3),
    "pooled by maxima": lambda _, x: F.max_pool2d(on_grid(x), 3, 1, 1),
    "taken apart and joined": lambda _, x: torch.cat(on_grid(x).chunk(3, 1), 1),
    "negated": lambda _, x: 0.5 * -on_grid(x),
    "floored": lambda _, x: torch.floor(x * 9).clamp_min(0).clamp_max(15),
    "in half precision and back": lambda _, x: on_grid(x).half().float(),
}


@pytest.mark.parametrize("function", FOUR_BITS.values(), ids=FOUR_BITS)
def test_a_value_keeps_its_bits_while_it_stays_on_its_grid(function: Function) -> None:
    assert bits_of(function) == 4
    model, images = Forward(function), 3 * torch.randn(2, 3, 8, 8)
    values = Program(trace_of(Forward(lambda m, x: function(m, x).flatten(1)[:, :6])))(images)
    for found in (values, model(images)):
        assert len(set(found.flatten().tolist())) <= 16


def test_a_comparison_has_one_bit_and_a_sign_two() -> None:
    assert bits_of(lambda _, x: (x > 0.5).float()) == 1
    assert bits_of(lambda _, x: torch.sign(x - 0.5)) == 2


NO_GRID: dict[str, Function] = {
    "no clamp": lambda _, x: torch.round(x * 10) / 10,
    "a clamp with a huge range": lambda _, x: torch.round(x * 1e6).clamp(-1e9, 1e9) / 1e6,
    "a grid finer than claimed": lambda _, x: torch.clamp(torch.round(x * 1000), 0, 15_000) / 1000,
    "half a clamp": lambda _, x: torch.relu(torch.round(x * 10)),
    "a scale for each channel": lambda m, x: on_grid(x) * m.scales,
    "a scale for each pixel": lambda m, x: on_grid(x) * m.pixels,
    "a zero point for each channel": lambda m, x: on_grid(x) + m.scales,
    "a zero point between levels": lambda _, x: on_grid(x) + 0.033,
    "a zero point far away": lambda _, x: torch.clamp(torch.round(x * 9), 0, 15) + 1000,
    "two grids added": lambda _, x: on_grid(x) + 16 * on_grid(1 - x),
    "two grids of one scale added": lambda _, x: on_grid(x) + on_grid(1 - x),
    "two grids multiplied": lambda _, x: on_grid(x) * on_grid(1 - x),
    "two grids joined": lambda _, x: torch.cat([on_grid(x[:, :1]), on_grid(x[:, 1:], scale=0.123)], 1),
    "a grid joined with none": lambda _, x: torch.cat([on_grid(x[:, :1]), x[:, 1:]], 1),
    "a grid joined with a constant": lambda m, x: torch.cat([on_grid(x[:, :1]), m.rest], 1),
    "a border off the grid": lambda _, x: F.pad(on_grid(x), (1, 1), value=0.033)[..., :-2],
    "a clamp between levels": lambda _, x: torch.clamp(on_grid(x), 0.033, 1.51),
    "a choice between a grid and the image": lambda _, x: torch.where(x > 0.5, on_grid(x), x),
    "the larger of a grid and the image": lambda _, x: torch.maximum(on_grid(x), x),
    "a mean": lambda _, x: F.avg_pool2d(on_grid(x), 3, 1, 1),
    "a mean on a grid upscaled": lambda _, x: F.interpolate(on_grid(x), (8, 8), mode="bilinear"),
    "a curve": lambda _, x: torch.sigmoid(on_grid(x)),
    "a scale that the image chooses": lambda _, x: on_grid(x) * x.amax(),
    "a step that the image chooses": lambda _, x: torch.round(x / x.amax() * 15) * x.amax() / 15,
    "a bound that the image chooses": lambda _, x: torch.minimum(torch.round(x * 10), x.amax()),
    "a product with nothing": lambda _, x: x * 0 + x,
    "the image": lambda _, x: x,
}


@pytest.mark.parametrize("function", NO_GRID.values(), ids=NO_GRID)
def test_what_leaves_its_grid_has_all_bits(function: Function) -> None:
    tensors = {"scales": torch.rand(3, 1, 1), "pixels": torch.rand(8, 8), "rest": torch.rand(1, 2, 8, 8)}
    assert bits_of(function, **tensors) == 32


def test_two_small_numbers_in_one_have_the_bits_of_both() -> None:
    """Two values of 3 bits, packed by hand onto one grid, have 6: as many as the two apart."""

    def packed(_: nn.Module, x: Tensor) -> Tensor:
        both = torch.round(7 * x[:, :1].clamp(0, 1)) + 8 * torch.round(7 * x[:, 1:2].clamp(0, 1))
        return torch.round(both.clamp(0, 63)).expand(1, 3, 8, 8)

    assert bits_of(packed) == 6
    apart, together = torch.arange(-4.0, 4), torch.arange(-36.0, 28)
    assert levels_of_constant(apart, None) == 8
    assert levels_of_constant(together, None) == 8 * 8


def weight_bits(weight: Tensor) -> float:
    return after(lambda _, x: x, weight) * 1024 / (MACS * 32)


def test_a_weight_has_the_bits_of_its_own_numbers() -> None:
    scales = torch.rand(6, 1) + 0.1
    assert weight_bits(integers(6, 192, bits=8) * scales) == 8
    assert weight_bits(integers(6, 192, bits=4) * scales) == 4
    assert weight_bits((integers(6, 192, bits=8) + 128) * scales) == 8
    assert weight_bits(integers(6, 192, bits=4).sign() * scales) == 2
    assert weight_bits(torch.zeros(6, 192)) == 1


WEIGHTS = {
    "random": torch.randn(6, 192),
    "a scale for each input": integers(6, 192) * (torch.rand(192) + 0.1),
    "a scale for each element": integers(6, 192) * (torch.rand(6, 192) + 0.1),
    "a zero point for each channel": integers(6, 192) * 0.1 + torch.rand(6, 1),
    "a zero point far away": integers(6, 192) + 1000,
    "more levels than 256": integers(6, 192, bits=8) + torch.tensor([300.0] + [0] * 191),
    "two grids added": integers(6, 192) * 0.1 + integers(6, 192, seed=1) * 0.00123,
    "digits below the last": integers(6, 192, bits=8) * (1 + 1e-5 * integers(6, 192, seed=1)),
    "one channel of six": torch.cat([integers(5, 192), torch.randn(1, 192)]),
}


@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS)
def test_a_weight_that_is_on_no_grid_has_all_bits(weight: Tensor) -> None:
    assert weight_bits(weight) == 32


def test_a_scale_belongs_to_an_output_and_never_to_an_input() -> None:
    """A matrix of one column has one output: a scale for each of its rows would be one for each weight."""
    random = torch.randn(192)

    def product(m: Any, x: Tensor) -> Tensor:
        one = torch.matmul(x.flatten(1), m.weight)
        return one.reshape(1, 1).expand(1, 6)

    for weight in (random, random[:, None]):
        assert bit_operations(trace_of(Forward(product, weight=weight))) == 192

    def mixed(m: Any, x: Tensor) -> Tensor:
        return torch.matmul(m.weight, x.flatten(1).T).T

    on_rows = integers(6, 192) * (torch.rand(6, 1) + 0.1)
    assert bit_operations(trace_of(Forward(mixed, weight=on_rows))) == MACS * 4 * 32 // 1024
    assert (
        bit_operations(trace_of(Forward(lambda m, x: x.flatten(1) @ m.weight, weight=on_rows.T))) == MACS // 8
    )


@pytest.mark.parametrize("groups", [1, 3])
def test_a_convolution_and_its_transpose_scale_by_their_own_outputs(groups: int) -> None:
    to = 6 // groups if groups > 1 else 6
    for call, shape in (
        (F.conv2d, (6, 3 // groups, 8, 8)),
        (F.conv_transpose2d, (3, to, 1, 1)),
    ):
        axis = 0 if call is F.conv2d else 1
        ones = [1] * 4
        ones[axis] = -1
        weight = integers(*shape) * (torch.rand(shape[axis]) + 0.1).reshape(ones)

        def forward(m: Any, x: Tensor, call: Any = call) -> Tensor:
            return call(x, m.weight, groups=groups).flatten(1)[:, :6]

        model = Forward(forward, weight=weight)
        macs = cost_of(model).contraction
        assert bit_operations(trace_of(model)) == math.ceil(macs * 4 * 32 / 1024)
        wrong = Forward(forward, weight=weight * (torch.rand(1, 1, *shape[2:]) + 0.1) * torch.rand(shape))
        assert bit_operations(trace_of(wrong)) == macs


def test_attention_has_the_bits_of_its_dtype() -> None:
    """Its second product is with what a softmax gives, which is on no grid."""

    def forward(_: nn.Module, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(on_grid(x), on_grid(x), on_grid(x)).flatten(1)[:, :6]

    model = Forward(forward)
    assert bit_operations(trace_of(model)) == cost_of(model).contraction


def test_both_operands_of_an_einsum_have_their_bits() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return torch.einsum("bi,oi->bo", on_grid(x).flatten(1), m.weight)

    assert bit_operations(trace_of(Forward(forward, weight=integers(6, 192)))) == MACS * 16 // 1024
    per_row = integers(6, 192) * (torch.rand(6, 1) + 0.1)  # which index is an output's is not looked up
    assert bit_operations(trace_of(Forward(forward, weight=per_row))) == MACS * 4 * 32 // 1024


@pytest.mark.slow
def test_endless_scaling_ends_the_grid() -> None:
    """A fraction that grows with every product would take longer and longer."""

    def forward(_: nn.Module, x: Tensor) -> Tensor:
        x = on_grid(x)
        for _i in range(300):
            x = x * 1.1 / 1.3
        return x.flatten(1)[:, :6]

    walk = trace_of(Forward(forward))
    sizes = [g.scale.denominator.bit_length() for g in grids_of(walk).values()]
    assert max(sizes) <= 4096
    assert walk.graph.file.output not in grids_of(walk)


@pytest.mark.parametrize("scale", [1.0, 0.1, 3e-5, 7e4])
def test_every_grid_of_whole_numbers_is_found(scale: float) -> None:
    for levels in (2, 3, 16, 100, 255, 256):
        values = torch.arange(levels) * torch.tensor(scale)
        assert levels_of_constant(values, None) == levels
        assert levels_of_constant(values.flip(0) * -1, None) == levels
    assert levels_of_constant(torch.arange(257) * torch.tensor(scale), None) is None
    # 3, 6 and 9 steps are 1, 2 and 3 of a coarser grid
    assert levels_of_constant(torch.tensor([3.0, 6, 9]) * scale, None) == 4
    assert Fraction(scale) > 0
