"""Programs of torchao's PT2E are counted and run as scale, round, clamp and scale."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from tracing import HERE, Forward, cost_of, graph_of, to_logits, trace_of

from starter.contract.errors import Code, ParticipantError, Problem
from starter.graph.costs.bits import bit_operations
from starter.graph.executor import Program
from starter.graph.formulas import CostClass
from starter.plugin.export import export_model
from starter.plugin.prepare import probe_model

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("torchao", reason="torchao writes the programs that are read here")
    from torch.ao.quantization.fx import _decomposed  # noqa: F401 - defines torch.ops.quantized_decomposed
    from torchao.quantization import (
        Int8DynamicActivationInt8WeightConfig,
        Int8WeightOnlyConfig,
        IntxWeightOnlyConfig,
        quantize_,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e, prepare_qat_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

SHAPE = (3, 8, 8)
qd: Any = torch.ops.quantized_decomposed
pytestmark = pytest.mark.filterwarnings("ignore")
"""torchao and the parts of torch that it calls tell each other's deprecations."""


class Network(nn.Module):
    """A convolution with a batch norm, a depthwise one behind a pool, a residual and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.pool = nn.MaxPool2d(2)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Linear(8, 6)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool(self.stem(images))
        x = x + torch.relu(self.depthwise(x))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


CONTRACTION = 8 * 64 * 27 + 8 * 16 * 9 + 8 * 6


def converted(*, is_trained: bool = False) -> nn.Module:
    """Return what a participant gets of torchao: calibrated on noise, int8 weights, uint8 values."""
    torch.manual_seed(0)
    example = (torch.rand(1, *SHAPE),)
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config(is_qat=is_trained))
    network = Network().train(is_trained)
    traced = torch.export.export(network, example).module()
    model = (prepare_qat_pt2e if is_trained else prepare_pt2e)(traced, quantizer)
    for _ in range(4):
        model(torch.rand(1, *SHAPE))
    result: nn.Module = convert_pt2e(model)
    return result


def answers(model: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([model(image[None]) for image in images])


@pytest.mark.long
@pytest.mark.parametrize("is_trained", [False, True])
def test_a_converted_program_is_counted_with_its_bits_and_answers_as_it_did(is_trained: bool) -> None:
    model, images = converted(is_trained=is_trained), torch.rand(4, *SHAPE)
    wanted = answers(model, images)
    walk = trace_of(model)

    assert not probe_model(model, SHAPE, 6, HERE)
    assert cost_of(model).contraction == CONTRACTION
    assert bit_operations(walk) == CONTRACTION * 8 * 8 // 1024
    torch.testing.assert_close(Program(walk, rounding=None)(images), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(Program(walk)(images), wanted, rtol=0.05, atol=0.05)


@pytest.mark.slow
def test_its_weights_are_stored_as_int8() -> None:
    graph = graph_of(converted())
    stored = [t for t in graph.weights.values() if t.dtype is torch.int8]
    read = {name for node in graph.file.nodes for name in node.refs()}
    floats = [n for n, t in graph.weights.items() if n in read and t.dtype is torch.float32 and t.dim() > 1]

    assert sorted(t.numel() for t in stored) == [8 * 6, 8 * 9, 8 * 27]
    assert not floats


@pytest.mark.slow
def test_a_program_saved_and_loaded_again_is_the_same(tmp_path: Any) -> None:
    """A plugin that has it as a file needs torch alone: `_decomposed` defines the operators."""
    exported = torch.export.export(converted(), (torch.rand(1, *SHAPE),))
    torch.export.save(exported, tmp_path / "model.pt2")
    model = torch.export.load(tmp_path / "model.pt2").module()

    assert bit_operations(trace_of(model)) == CONTRACTION * 8 * 8 // 1024


def test_quantize_and_dequantize_are_pointwise() -> None:
    def forward(_: Any, x: Tensor) -> Tensor:
        levels = qd.quantize_per_tensor(x, 0.1, 3, 0, 15, torch.uint8)
        return to_logits(qd.dequantize_per_tensor(levels, 0.1, 3, 0, 15, torch.uint8))

    cost, images = cost_of(Forward(forward)), torch.randn(2, *SHAPE)
    # scale, round, shift, clamp; shift back, scale back
    assert (cost.macs, cost.pointwise) == (6 * 192, 6 * 192)
    wanted = forward(None, images)
    assert torch.equal(Program(trace_of(Forward(forward)), rounding=None)(images), wanted)


def test_a_scale_for_each_channel_of_a_value_is_no_grid() -> None:
    scales, zeros = torch.rand(3) + 0.01, torch.zeros(3, dtype=torch.int64)

    def forward(m: Any, x: Tensor) -> Tensor:
        levels = qd.quantize_per_channel(x, m.scales, m.zeros, 1, 0, 15, torch.uint8)
        values = qd.dequantize_per_channel(levels, m.scales, m.zeros, 1, 0, 15, torch.uint8)
        return nn.functional.linear(values.flatten(1), m.weight)

    model = Forward(forward, scales=scales, zeros=zeros, weight=torch.ones(6, 192))
    images = torch.rand(2, *SHAPE)
    assert bit_operations(trace_of(model)) == 192 * 6 * 32 // 1024
    torch.testing.assert_close(Program(trace_of(model), rounding=None)(images), model(images))


@pytest.mark.parametrize("config", [Int8WeightOnlyConfig, IntxWeightOnlyConfig])
def test_layers_with_int8_weights_of_torchao_have_eight_bits_by_thirty_two(config: Any) -> None:
    torch.manual_seed(0)
    model, images = nn.Sequential(nn.Flatten(), nn.Linear(192, 6)).eval(), torch.rand(2, *SHAPE)
    quantize_(model, config())
    with torch.no_grad():
        wanted = answers(model, images)
    walk = trace_of(model)

    assert bit_operations(walk) == 192 * 6 * 8 * 32 // 1024
    torch.testing.assert_close(Program(walk, rounding=None)(images), wanted, rtol=1e-3, atol=1e-3)


def refusal(model: nn.Module) -> Problem:
    with pytest.raises(ParticipantError) as error:
        export_model(model, SHAPE, HERE)
    return error.value.problems[0]


def test_scales_that_each_image_chooses_are_refused_with_what_to_do() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 6)).eval()
    quantize_(model, Int8DynamicActivationInt8WeightConfig())
    found = refusal(model)

    assert found.code is Code.QUANTIZED
    assert found.got == "torchao.choose_qparams_affine.default"
    assert "constant scales" in found.hint


def test_observers_are_refused_before_they_are_converted() -> None:
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    traced = torch.export.export(Network().eval(), (torch.rand(1, *SHAPE),)).module()
    found = refusal(prepare_pt2e(traced, quantizer))

    assert found.code is Code.QUANTIZED
    assert "convert_pt2e(model)" in found.hint


def test_arithmetic_on_levels_is_refused_because_it_would_not_wrap() -> None:
    def forward(_: Any, x: Tensor) -> Tensor:
        levels = qd.quantize_per_tensor(x, 0.01, 0, 0, 255, torch.uint8).flatten(1)
        return qd.dequantize_per_tensor(levels + levels, 0.01, 0, 0, 255, torch.uint8)[:, :6]

    found = refusal(Forward(forward))

    assert found.code is Code.QUANTIZED
    assert found.got == "aten.add.Tensor"
    assert "do not wrap" in found.hint


@pytest.mark.slow
def test_no_quantized_operator_has_a_row_of_its_own() -> None:
    """All of them are written out, so that the process that runs graphs meets operators of ATen only."""
    graph = graph_of(converted())
    assert {node.op.partition(".")[0] for node in graph.file.nodes} == {"aten"}
    assert {s.rule.kind for s in trace_of(converted()).steps} >= {CostClass.POINTWISE, CostClass.CONTRACTION}
