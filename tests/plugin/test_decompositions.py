"""Recurrent layers and fake quantization are counted as their equations, and run as they are counted."""

import contextlib
from typing import Any

import pytest
import torch
from torch import nn
from tracing import Forward, cost_of, graph_of, trace_of

from starter.graph.executor import Program
from starter.plugin import export

aten = torch.ops.aten

STEPS, INPUTS, UNITS = 8, 24, 6
"""A row of an image of 3 x 8 x 8 is one step."""


class Recurrent(nn.Module):
    """A recurrent layer over the rows of an image."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the last state: (batch, UNITS)."""
        output, _ = self.layer(image.permute(0, 2, 1, 3).flatten(2))
        last: torch.Tensor = output[:, -1, :UNITS]
        return last


class Cell(nn.Module):
    """One step of a cell, on the first row."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the new state: (batch, UNITS)."""
        state = self.cell(image[:, :, 0].flatten(1))
        new: torch.Tensor = state[0] if isinstance(state, tuple) else state
        return new


def products(gates: int, *, steps: int = STEPS, inputs: int = INPUTS) -> int:
    """Multiplications: every gate of every unit reads the inputs and the state, which is 0 at first."""
    return gates * UNITS * (steps * inputs + (steps - 1) * UNITS)


def check(model: nn.Module, contraction: int) -> None:
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    assert cost_of(model).contraction == contraction
    torch.testing.assert_close(Program(trace_of(model), rounding=None)(images), model.eval()(images))


@pytest.mark.slow
def test_a_recurrent_layer_costs_its_equations() -> None:
    check(Recurrent(nn.LSTM(INPUTS, UNITS, batch_first=True)), products(4))
    check(Recurrent(nn.GRU(INPUTS, UNITS, batch_first=True)), products(3))
    check(Recurrent(nn.RNN(INPUTS, UNITS, batch_first=True)), products(1))
    check(Recurrent(nn.RNN(INPUTS, UNITS, nonlinearity="relu", batch_first=True)), products(1))


@pytest.mark.slow
def test_layers_and_directions_add_up() -> None:
    both = nn.LSTM(INPUTS, UNITS, num_layers=2, bidirectional=True, dropout=0.5, batch_first=True)

    check(Recurrent(both), 2 * (products(4) + products(4, inputs=2 * UNITS)))


@pytest.mark.parametrize(("cell", "gates"), [(nn.LSTMCell, 4), (nn.GRUCell, 3), (nn.RNNCell, 1)])
def test_a_cell_costs_one_step(cell: type[nn.Module], gates: int) -> None:
    check(Cell(cell(INPUTS, UNITS)), products(gates, steps=1))


@pytest.mark.parametrize("zero_point", [0, 3])
def test_fake_quantization_of_the_image_is_six_operations_for_each_element(zero_point: int) -> None:
    def function(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        levels = torch.fake_quantize_per_tensor_affine(x, 0.1, zero_point, -4, 5)
        return levels.flatten(1)[:, :6]

    model, images = Forward(function), torch.randn(2, 3, 8, 8)
    assert torch.equal(Program(trace_of(model), rounding=None)(images), model(images))
    # scale, shift, round, clamp, shift back, scale back
    assert cost_of(model).pointwise == 6 * 3 * 8 * 8


@pytest.mark.parametrize("axis", [0, 1])
def test_fake_quantization_of_a_weight_is_free(axis: int) -> None:
    def function(m: Any, x: torch.Tensor) -> torch.Tensor:
        weight = torch.fake_quantize_per_channel_affine(m.weight, m.scale, m.zero, axis, -128, 127)
        return nn.functional.linear(x.flatten(1), weight)

    weight = torch.randn(6, 192)
    side = weight.shape[axis]
    scale, zero = torch.rand(side) / 50 + 0.01, torch.zeros(side, dtype=torch.int32)
    model, images = Forward(function, weight=weight, scale=scale, zero=zero), torch.rand(2, 3, 8, 8)
    assert cost_of(model).macs == 6 * 192
    torch.testing.assert_close(Program(trace_of(model), rounding=None)(images), model(images))


class Composite(nn.Module):
    """A recurrence, attention and an activation in place, each a composite operator."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 8, batch_first=True)
        self.head = nn.Linear(8, 6)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        rows = nn.functional.scaled_dot_product_attention(*[image.mean(1)] * 3)
        return self.head(nn.functional.selu_(self.gru(rows)[0]).mean(1))


def test_looking_up_operators_once_exports_the_same_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[int] = []
    kernels = aten.linear.default.py_kernels.copy()
    monkeypatch.setattr(torch._export.utils, "_materialize_cpp_cia_ops", lambda: looked_up.append(1))
    torch.manual_seed(0)
    model = Composite()

    quick = graph_of(model)
    assert not looked_up
    assert aten.linear.default.py_kernels == kernels
    monkeypatch.setattr(export, "quickly", contextlib.nullcontext)
    assert graph_of(model).file == quick.file
    assert len(looked_up) > 1, "torch no longer repeats itself: remove quickly()"
