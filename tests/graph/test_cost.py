"""What each class of operators costs, with the arithmetic in view."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from tracing import Forward, Function, cost_of, to_logits
from usual import usually

from starter.graph.formulas import CostClass
from starter.graph.kernels import kernel
from starter.graph.operators import OPERATORS

PIXELS = 3 * 8 * 8


def contraction(function: Function, **tensors: torch.Tensor) -> int:
    return cost_of(Forward(function, **tensors)).contraction


def test_a_convolution_costs_kernel_times_input_channels_for_each_output() -> None:
    macs = contraction(lambda m, x: to_logits(F.conv2d(x, m.w, padding=1)), w=torch.ones(5, 3, 3, 3))
    assert macs == (5 * 8 * 8) * (3 * 3 * 3)


def test_stride_and_dilation_change_only_the_number_of_outputs() -> None:
    macs = contraction(
        lambda m, x: to_logits(F.conv2d(x, m.w, stride=2, dilation=2)), w=torch.ones(5, 3, 3, 3)
    )
    assert macs == (5 * 2 * 2) * (3 * 3 * 3)


def test_a_grouped_convolution_reads_one_group_of_channels() -> None:
    macs = contraction(lambda m, x: to_logits(F.conv2d(x, m.w, groups=3)), w=torch.ones(6, 1, 3, 3))
    assert macs == (6 * 6 * 6) * (1 * 3 * 3)


def test_a_transposed_convolution_spreads_each_input_over_the_kernel() -> None:
    macs = contraction(lambda m, x: to_logits(F.conv_transpose2d(x, m.w, stride=2)), w=torch.ones(3, 4, 2, 2))
    assert macs == PIXELS * (4 * 2 * 2)


def test_a_constant_bias_is_free_and_a_computed_one_is_not() -> None:
    with_bias = Forward(
        lambda m, x: to_logits(F.conv2d(x, m.w, m.b)), w=torch.ones(4, 3, 1, 1), b=torch.ones(4)
    )
    computed = Forward(lambda m, x: to_logits(F.conv2d(x, m.w, x[0, 0, 0, :4])), w=torch.ones(4, 3, 1, 1))

    assert cost_of(with_bias).pointwise == 0
    assert cost_of(computed).pointwise == 4 * 8 * 8


def test_a_linear_layer_costs_inputs_times_outputs() -> None:
    assert cost_of(nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 6))).macs == PIXELS * 6


@pytest.mark.parametrize(
    "product",
    [
        lambda m, x: x.flatten(1) @ m.w,
        lambda m, x: torch.mm(x.flatten(1), m.w),
        lambda m, x: torch.einsum("bi,io->bo", x.flatten(1), m.w),
        lambda m, x: torch.bmm(x.flatten(1).unsqueeze(0), m.w.unsqueeze(0)).squeeze(0),
        lambda m, x: F.linear(x.flatten(1), m.w.t()),
    ],
)
def test_a_matrix_product_costs_the_same_however_it_is_written(product: Function) -> None:
    assert contraction(product, w=torch.ones(PIXELS, 6)) == PIXELS * 6


def test_attention_is_scores_and_sums_with_a_softmax_between() -> None:
    def attend(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(1, 1, 24, 8)
        return to_logits(F.scaled_dot_product_attention(rows, rows, rows))

    report = cost_of(Forward(attend))

    assert report.contraction == 24 * 24 * 8 + 24 * 24 * 8
    assert report.reduction == 3 * 24 * 24


@pytest.mark.parametrize(
    "function",
    [torch.relu, torch.sigmoid, F.gelu, F.silu, torch.exp, lambda x: x + 1, lambda x: x * x, torch.abs],
)
def test_an_elementwise_operator_costs_one_for_each_element(function: Function) -> None:
    report = cost_of(Forward(lambda _, x: to_logits(function(x))))
    assert (report.pointwise, report.contraction, report.reduction) == (PIXELS, 0, 0)


@pytest.mark.parametrize(("value", "per_element"), [(1, 1), (0.5, 2)])
def test_a_factor_in_a_fused_product_is_a_product_of_its_own(value: float, per_element: int) -> None:
    report = cost_of(Forward(lambda _, x: to_logits(torch.addcmul(x, x, x, value=value))))
    assert report.macs == report.pointwise == per_element * PIXELS


@pytest.mark.parametrize(
    ("factors", "per_element"), [({}, 1), ({"alpha": 2}, 2), ({"alpha": 2, "beta": 3}, 3)]
)
def test_factors_of_a_matrix_product_are_products_of_their_own(
    factors: dict[str, Any], per_element: int
) -> None:
    model = Forward(
        lambda m, x: torch.addmm(x.flatten(1)[:, :6], x.flatten(1), m.w, **factors), w=torch.ones(PIXELS, 6)
    )
    report = cost_of(model)
    assert (report.contraction, report.pointwise) == (PIXELS * 6, 6 * per_element)


BATCH_NORM = torch.ops.aten._native_batch_norm_legit_no_training.default


def normalized(source: Function) -> int:
    """Price a batch norm of 48 channels of one pixel; `source` gives the other operands."""

    def forward(model: nn.Module, image: torch.Tensor) -> torch.Tensor:
        others = [source(model, image)] * 4
        return BATCH_NORM(image.reshape(1, PIXELS)[:, :48], *others, 0.1, 1e-5)[0][:, :6]

    return cost_of(Forward(forward, constant=torch.ones(48))).pointwise


def test_a_batch_norm_whose_statistics_come_from_the_image_is_written_out() -> None:
    """A subtraction, epsilon, a root, a product, and a product with a sum, for each of 48 pixels."""
    assert normalized(lambda _, image: image.reshape(PIXELS)[:48]) == 5 * 48 == 240
    assert normalized(lambda model, _: model.constant) == 48


@pytest.mark.parametrize(
    ("function", "per_element"),
    [
        (lambda x: x.pow(1), 1),
        (lambda x: x.pow(2), 1),
        (lambda x: x.pow(3), 2),
        (lambda x: x.pow(64), 6),
        (lambda x: x.pow(1000), 14),  # 9 squarings, 5 products
        (lambda x: x.pow(-2), 2),
        (lambda x: x.pow(0.5), 1),
        (lambda x: x.pow(-0.5), 1),
        (lambda x: x.pow(2.5), 3),
        (lambda x: x.pow(x), 6),
        (lambda x: torch.pow(2.0, x), 2),
    ],
)
def test_a_power_costs_what_is_multiplied(function: Function, per_element: int) -> None:
    report = cost_of(Forward(lambda _, x: to_logits(function(x))))
    assert report.macs == report.pointwise == per_element * PIXELS


@pytest.mark.parametrize(
    ("p", "per_input", "per_output"),
    [(1, 2, 0), (2, 2, 0), (float("inf"), 2, 0), (0, 2, 0), (3, 4, 3), (10, 6, 3), (2.5, 5, 3)],
)
def test_a_norm_costs_its_powers_and_roots(p: float, per_input: int, per_output: int) -> None:
    """Absolute value and sum for each of 3 inputs, with the power between; a root for each output."""
    report = cost_of(Forward(lambda _, x: to_logits(torch.linalg.vector_norm(x, p, dim=1))))
    assert (report.reduction, report.pointwise) == (per_input * PIXELS, per_output * PIXELS // 3)


def test_multiply_then_sum_is_no_cheaper_than_the_product_that_it_replaces() -> None:
    def shifted_sum(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return (x.flatten(1).unsqueeze(2) * m.w).sum(1)

    assert cost_of(Forward(shifted_sum, w=torch.ones(PIXELS, 6))).macs == 2 * PIXELS * 6


@pytest.mark.parametrize(
    ("function", "per_element"),
    [
        (lambda x: x.sum(1), 1),
        (lambda x: x.mean((2, 3)), 1),
        (lambda x: x.amax(1), 1),
        (lambda x: F.softmax(x, 1), 3),
        (lambda x: F.layer_norm(x, (8, 8)), 3),
        (lambda x: x.var(1), 2),
        (lambda x: F.group_norm(x, 3, torch.ones(3), torch.ones(3)), 3),
    ],
)
def test_a_reduction_costs_its_inputs(function: Function, per_element: int) -> None:
    report = cost_of(Forward(lambda _, x: to_logits(torch.cat([function(x).flatten(1)] * 2, 1))))
    assert report.macs == report.reduction == per_element * PIXELS


def test_norm_weights_do_not_change_what_a_norm_reads() -> None:
    with_weights = nn.Sequential(nn.LayerNorm((3, 8, 8)), nn.Flatten(), nn.Linear(PIXELS, 6))
    assert cost_of(with_weights).reduction == 3 * PIXELS


def test_a_pool_costs_window_times_outputs() -> None:
    assert cost_of(Forward(lambda _, x: to_logits(F.max_pool2d(x, 3, 2)))).reduction == (3 * 3 * 3) * 9


def test_an_adaptive_pool_reads_overlapping_windows_twice() -> None:
    """8 rows onto 3: rows 0-2, 2-5 and 5-7, that is 3 + 4 + 3 = 10 reads along each side."""
    assert cost_of(Forward(lambda _, x: to_logits(F.adaptive_avg_pool2d(x, 3)))).reduction == 3 * 10 * 10


def test_moving_data_is_free() -> None:
    def move(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        x = F.pixel_unshuffle(F.pad(x, (1, 1, 1, 1)), 2).permute(0, 2, 3, 1).flip(1).roll(1, 2)
        return to_logits(torch.cat([x, x], 1).contiguous())

    assert cost_of(Forward(move)).macs == 0


def test_work_that_does_not_depend_on_the_image_is_done_once_and_free() -> None:
    class Standardised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 3, 8, 8))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            return F.conv2d(image, weight / weight.std((1, 2, 3), keepdim=True)).flatten(1)

    assert cost_of(Standardised()).macs == 6 * PIXELS


def test_a_cast_is_free_only_when_it_changes_nothing() -> None:
    assert cost_of(Forward(lambda _, x: to_logits(x.to(torch.float32)))).macs == 0
    half = cost_of(Forward(lambda _, x: to_logits(x.to(torch.bfloat16)).float()))
    assert half.pointwise == PIXELS + 6


MEASURED = {
    "resnet18": (1_814_073_344, 5_544_448, 1_831_424, 1_821_449_216),
    "mobilenet_v2": (300_774_272, 13_000_288, 62_720, 313_837_280),
    "mobilenet_v3_small": (56_510_400, 3_023_880, 313_600, 59_847_880),
    "shufflenet_v2_x0_5": (40_476_448, 1_845_536, 727_552, 43_049_536),
    "efficientnet_b0": (385_814_752, 15_421_212, 2_369_248, 403_605_212),
    "vit_b_16": (17_563_828_224, 11_044_608, 28_112_688, 17_602_985_520),
}


@pytest.mark.long
@pytest.mark.parametrize("name", MEASURED)
def test_the_totals_of_well_known_models_to_the_digit(name: str) -> None:
    report = cost_of(torchvision.models.get_model(name), (3, 224, 224), 1000)
    assert (report.contraction, report.pointwise, report.reduction, report.macs) == MEASURED[name]


def test_every_row_of_the_table_names_an_operator_of_this_torch() -> None:
    for op in OPERATORS:
        assert callable(kernel(op)), op


def test_every_row_says_how_it_is_priced() -> None:
    assert all(row.rule for row in OPERATORS.values())
    assert sum(row.kind in (CostClass.MOVEMENT, CostClass.CONSTANT) for row in OPERATORS.values()) > 50


PUBLISHED = {54: 3_041_057, 58: 3_270_473, 60: 3_312_953, 36: 2_100_689, 42: 2_305_721, 38: 2_139_185}
"""MACs of shufflenet_v2_x0_5 with nine classes by its resolution, as the original competition counted."""


@pytest.mark.parametrize("side", usually(54, of=PUBLISHED))
def test_ptflops_counts_what_the_original_competition_published(side: int) -> None:
    model = torchvision.models.shufflenet_v2_x0_5(num_classes=9)
    assert cost_of(model, (3, side, side), num_classes=9).ptflops_macs == PUBLISHED[side]


BY_PTFLOPS = ("shufflenet_v2_x0_5", "resnet18", "vgg11", "squeezenet1_1", "mnasnet0_5")


@pytest.mark.parametrize("name", usually("resnet18", "squeezenet1_1", of=BY_PTFLOPS))
def test_ptflops_counts_as_the_package_does(name: str) -> None:
    """Without its count of activations, which the original did not have."""
    package = pytest.importorskip("ptflops", reason="ptflops is not installed")
    model = torchvision.models.get_model(name, num_classes=9).eval()
    for module in [*model.modules()]:
        for child, layer in module.named_children():
            if isinstance(layer, nn.ReLU):
                setattr(module, child, nn.Identity())
    macs, _ = package.get_model_complexity_info(
        model,
        (3, 64, 64),
        as_strings=False,
        print_per_layer_stat=False,
        backend="pytorch",
        backend_specific_config={"count_functional": False},
    )
    assert cost_of(model, (3, 64, 64), num_classes=9).ptflops_macs == macs


def test_ptflops_is_dodged_by_sums_of_products_that_are_written_out() -> None:
    def function(module: Any, image: torch.Tensor) -> torch.Tensor:
        return (image.flatten(1)[:, None] * module.weight).sum(2)

    report = cost_of(Forward(function, weight=torch.rand(6, 192)))
    assert (report.ptflops_macs, report.macs) == (0, 2 * 6 * 192)
