"""The profiler: its figures against arithmetic in view, and what people see of them."""

import io
import re
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn
from tracing import Forward, Function, to_logits, trace_of

from starter.contract.competition import ScoreRules
from starter.contract.costs import LayerProfile, ProfileReport
from starter.contract.errors import Status
from starter.contract.results import EvaluationResult
from starter.graph.costs.macs import count_macs
from starter.graph.costs.memory_access import memory_access
from starter.graph.profiling.profiler import flops, profile
from starter.report import profile as profile_view
from starter.report.html import profile as profile_page


def layers_of(model: nn.Module, shape: tuple[int, int, int] = (3, 8, 8)) -> tuple[LayerProfile, ...]:
    return report_of(model, shape).layers


def report_of(model: nn.Module, shape: tuple[int, int, int] = (3, 8, 8)) -> ProfileReport:
    walk = trace_of(model, shape)
    return profile(walk, count_macs(walk))


def result_of(model: nn.Module, name: str = "mine", **changes: Any) -> EvaluationResult:
    walk = trace_of(model)
    cost = count_macs(walk)
    fields: dict[str, Any] = {
        "path": "/mine",
        "status": Status.OK,
        "official": False,
        "isolation": "lockdown",
        "macs": cost.macs,
        "contraction_macs": cost.contraction,
        "pointwise_macs": cost.pointwise,
        "reduction_macs": cost.reduction,
        "params": walk.graph.num_params,
        "input_shape": (3, 8, 8),
        "profile": profile(walk, cost),
    }
    return EvaluationResult(name=name, **(fields | changes))


NETWORK = nn.Sequential(
    nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(512, 6)
)


def test_a_matrix_of_3_x_3_times_a_vector_is_9_macs_and_15_flops() -> None:
    walk = trace_of(nn.Sequential(nn.Flatten(), nn.Linear(3, 3, bias=False)), (3, 1, 1), num_classes=3)
    cost = count_macs(walk)
    step, node = walk.steps[-1], cost.nodes[-1]
    assert (node.contraction, flops(step, node)) == (9, 15)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        # 6 x 36 products of 27 terms: 26 additions each, one more with a bias
        (lambda m, x: nn.functional.conv2d(x, m.w), 216 * (27 + 26)),
        (lambda m, x: nn.functional.conv2d(x, m.w, m.b), 216 * (27 + 26 + 1)),
        (lambda _, x: x + 1, 3 * 8 * 8),
        # 24 x 24 scores and 24 x 8 sums, both dot products, and the softmax between
        (
            lambda _, x: nn.functional.scaled_dot_product_attention(*[x.reshape(1, 1, 24, 8)] * 3),
            24 * 24 * (8 + 7) + 24 * 8 * (24 + 23) + 3 * 24 * 24,
        ),
    ],
)
def test_flops_are_products_and_additions(function: Function, expected: int) -> None:
    model = Forward(lambda m, x: to_logits(function(m, x)), w=torch.ones(6, 3, 3, 3), b=torch.ones(6))
    walk = trace_of(model)
    cost = count_macs(walk)
    assert sum(flops(s, n) for s, n in zip(walk.steps, cost.nodes, strict=True)) == expected


def test_memory_access_is_inputs_weights_and_outputs() -> None:
    """A 1x1 convolution of 3 to 6 channels on 8 x 8: hw(c1 + c2) + c1 c2, four bytes each."""
    walk = trace_of(Forward(lambda m, x: to_logits(nn.functional.conv2d(x, m.w)), w=torch.ones(6, 3, 1, 1)))
    access = [memory_access(step) for step in walk.steps]

    assert access[0] == (3 * 64, 18, 6 * 64, 4 * (9 * 64 + 18))
    assert access[0].elements == 64 * (3 + 6) + 18
    assert all(a.elements == 0 for a in access[1:])  # a view and a slice


def test_layers_add_up_to_the_network() -> None:
    walk = trace_of(NETWORK)
    cost = count_macs(walk)
    report = profile(walk, cost)

    assert sum(layer.macs for layer in report.layers) == cost.macs
    assert sum(layer.params for layer in report.layers) == walk.graph.num_params
    assert report.access == sum(memory_access(step).elements for step in walk.steps)


@pytest.mark.slow
def test_each_module_is_a_layer_with_its_own_parameters() -> None:
    found = {layer.module: (layer.params, layer.shape) for layer in layers_of(NETWORK)}
    assert found == {
        "0": (8 * 27, (1, 8, 8, 8)),
        "1": (16, (1, 8, 8, 8)),
        "2": (0, (1, 8, 8, 8)),
        "3": (0, (1, 512)),
        "4": (512 * 6 + 6, (1, 6)),
    }


@pytest.mark.slow
def test_parameters_that_are_folded_belong_to_the_layer_that_uses_the_result() -> None:
    class Standardised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 3, 8, 8))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            weight = self.weight - self.weight.mean()
            return nn.functional.conv2d(image, weight).flatten(1)

    assert sum(layer.params for layer in layers_of(Standardised())) == 6 * 3 * 8 * 8


def test_latency_is_measured_at_one_and_thirty_two() -> None:
    report = report_of(NETWORK)

    for timings in (report.latency, *(layer.latency for layer in report.layers)):
        assert list(timings) == [1, 32]
        assert all(0 <= t.low <= t.median <= t.high for t in timings.values())
    for batch, whole in report.latency.items():
        parts = [layer.latency[batch].median for layer in report.layers]
        assert 0 < max(parts) < whole.high
    assert min(report.peak_flops, report.peak_bytes) > 1e8


def text_of(result: EvaluationResult, width: int = 0) -> str:
    console = Console(
        file=io.StringIO(), width=width or 80, force_terminal=width > 0, color_system=None, highlight=False
    )
    profile_view.show_profile(console, result, None, ScoreRules())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [0, 60, 160])
def test_every_layer_is_shown_at_any_width(width: int) -> None:
    text = text_of(result_of(NETWORK), width)
    conv, total = 8 * 64 * 27, 8 * 64 * 27 + 2 * 512 + 512 * 6
    assert f"{conv:,}" in text
    assert f"MACs                   {total:,}" in text
    assert max(map(len, text.splitlines())) <= (width or 200)


@pytest.mark.slow
def test_two_networks_stand_side_by_side() -> None:
    console = Console(file=io.StringIO(), width=100, highlight=False)
    half = nn.Sequential(nn.Flatten(), nn.Linear(192, 6))
    profile_view.show_comparison(console, [result_of(half, "half"), result_of(half, "other")])
    assert isinstance(console.file, io.StringIO)
    assert "1,152" in console.file.getvalue()
    assert "1.000" in console.file.getvalue()


@pytest.mark.slow
def test_a_page_escapes_what_strangers_wrote_and_needs_no_other_file() -> None:
    result = result_of(NETWORK, name="<script>alert(1)</script>$\\frac{")
    assert result.profile is not None
    html = profile_page.page([(result, result.profile)], None, ScoreRules())

    assert html.count("<script") == 1, "the page's own"
    assert "&lt;script&gt;alert(1)" in html
    assert not re.findall(r'src="', html)
    assert html.count("<tr>") >= 5 + len(profile_view.totals(result, None))


@pytest.mark.slow
def test_charts_are_a_png() -> None:
    result = result_of(NETWORK)
    assert result.profile is not None
    assert profile_view.picture([(result, result.profile)]).startswith(b"\x89PNG")
