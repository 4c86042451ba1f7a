"""The graph that is counted gives the participant's own logits."""

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from tracing import Forward, to_logits, trace_of
from usual import usually

from starter.graph.executor import Program
from starter.graph.formulas import CostClass
from starter.graph.kernels import kernel
from starter.graph.operators import OPERATORS

TORCHVISION = [
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "googlenet",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "resnet18",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "swin_t",
    "swin_v2_t",
    "vgg11_bn",
]

TIMM = [
    "convnextv2_atto",
    "cspresnet50",
    "edgenext_xx_small",
    "efficientformer_l1",
    "efficientvit_b0",
    "fastvit_t8",
    "ghostnet_050",
    "hardcorenas_a",
    "lcnet_050",
    "levit_128s",
    "mixer_s32_224",
    "mobilenetv4_conv_small",
    "mobileone_s0",
    "mobilevit_xxs",
    "nf_resnet26",
    "pit_ti_224",
    "poolformer_s12",
    "repvgg_a0",
    "resnetv2_18",
    "rexnet_100",
    "skresnet18",
    "tinynet_e",
    "vit_tiny_patch16_224",
    "xcit_nano_12_p16_224",
]


def randomised(model: nn.Module) -> nn.Module:
    """Fill what fresh models leave at 0 or 1, so that a difference cannot hide."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.min() == parameter.max():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
    return model.eval()


def relative_difference(model: nn.Module, images: torch.Tensor, num_classes: int) -> float:
    walk = trace_of(model, tuple(images.shape[1:]), num_classes)
    program = Program(walk, batch_size=len(images), rounding=None)
    with torch.no_grad():
        expected = model(images)
    return ((program(images) - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("name", usually("shufflenet_v2_x0_5", of=TORCHVISION))
def test_a_torchvision_model_gives_its_own_logits(name: str) -> None:
    torch.manual_seed(0)
    options = {"init_weights": False} if name == "googlenet" else {}
    model = randomised(torchvision.models.get_model(name, num_classes=10, **options))
    assert relative_difference(model, torch.randn(2, 3, 96, 96), 10) < 1e-4


@pytest.mark.long
@pytest.mark.parametrize("name", TIMM)
def test_a_timm_model_gives_its_own_logits(name: str) -> None:
    torch.manual_seed(0)
    model = randomised(timm.create_model(name, num_classes=10))
    size = model.default_cfg["input_size"][-1] if model.default_cfg.get("fixed_input_size") else 96
    assert relative_difference(model, torch.randn(2, 3, size, size), 10) < 1e-4


class Mixed(nn.Module):
    """Convolutions with batch norms in every position, and attention with a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.fused = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8))
        self.alone = nn.BatchNorm2d(8)
        self.shared = nn.Conv2d(8, 8, 1)
        self.after = nn.BatchNorm2d(8, affine=False)
        self.head = nn.Linear(8, 6)
        self.register_buffer("mask", torch.full((36, 36), float("-inf")).triu(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.alone(F.relu(self.fused(image)))
        y = self.shared(x)
        x = self.after(y) + y
        rows = x.flatten(2).transpose(1, 2).unsqueeze(1)
        x = F.scaled_dot_product_attention(rows, rows, rows, attn_mask=self.mask)
        logits: torch.Tensor = self.head(x.mean((1, 2)))
        return logits


def test_norms_and_masks_in_every_position_give_the_same_logits() -> None:
    torch.manual_seed(0)
    assert relative_difference(randomised(Mixed()), torch.randn(5, 3, 8, 8), 6) < 1e-4


def test_an_image_that_is_not_a_number_leaves_its_neighbours_bit_identical() -> None:
    torch.manual_seed(0)
    program = Program(trace_of(randomised(Mixed())), batch_size=4)
    images = torch.randn(4, 3, 8, 8)
    poisoned = images.clone()
    poisoned[2] = float("nan")

    clean, beside = program(images), program(poisoned)

    assert beside[2].isnan().all()
    assert torch.equal(clean[[0, 1, 3]], beside[[0, 1, 3]])


def test_the_same_images_give_the_same_bits_again() -> None:
    torch.manual_seed(0)
    program = Program(trace_of(randomised(Mixed())))
    images = torch.randn(7, 3, 8, 8)
    assert torch.equal(program(images), program(images))


def test_a_model_that_peeks_at_its_batch_sees_only_one_image() -> None:
    """In eager mode this forward subtracts the batch's mean; here each image is its own batch."""
    model = Forward(lambda _, x: to_logits(x - x.mean(0, keepdim=True)))
    program = Program(trace_of(model), rounding=None)
    assert torch.equal(program(torch.randn(3, 3, 8, 8)), torch.zeros(3, 6))


def test_large_values_make_the_batch_smaller() -> None:
    small = Program(trace_of(Forward(lambda _, x: to_logits(x))))
    large = Program(trace_of(Forward(lambda _, x: to_logits(x.repeat(1, 1, 512, 512)))))
    assert small.batch_size == 128
    assert large.batch_size == 2


def test_an_open_ended_replacement_of_a_slice_runs_over_a_batch() -> None:
    def shifted(_: nn.Module, images: torch.Tensor) -> torch.Tensor:
        replaced = torch.slice_scatter(images, images[..., 1:] * 2, dim=3, start=1)
        return to_logits(replaced)

    network = Forward(shifted)
    images = torch.rand(3, 3, 8, 8)

    assert torch.equal(Program(trace_of(network), rounding=None)(images), network(images))


def rounded(values: torch.Tensor) -> torch.Tensor:
    return values.to(torch.bfloat16).float()


class Residual(nn.Module):
    """A block as networks have it: what is computed between two roundings is exact."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.norm(self.conv(images)).relu()
        hidden = hidden * hidden.sigmoid()
        return self.head(hidden.mean((2, 3)))

    def by_hand(self, images: torch.Tensor) -> torch.Tensor:
        hidden = rounded(self.norm(self.conv(images))).relu()
        hidden = rounded(hidden * rounded(hidden.sigmoid()))
        return self.head(rounded(hidden.mean((2, 3))))


def test_every_computed_value_is_rounded_before_another_operator_reads_it() -> None:
    torch.manual_seed(0)
    model = randomised(Residual())
    images = torch.randn(50, 3, 8, 8)
    with torch.no_grad():
        expected, exact = model.by_hand(images), model(images)
    found = Program(trace_of(model))(images)

    assert (found - expected).abs().max() < 0.1 * (exact - expected).abs().max()
    assert torch.allclose(Program(trace_of(model), rounding=None)(images), exact, atol=1e-5)


def test_rounding_leaves_the_image_and_shared_memory_alone() -> None:
    """Einsum of one operand returns the operand's own memory, and the image is read again after it."""

    def twice(_: nn.Module, images: torch.Tensor) -> torch.Tensor:
        turned = torch.einsum("bchw->bcwh", images)
        return to_logits(torch.cat([images, turned], dim=1))

    images = torch.rand(3, 3, 8, 8)
    given = images.clone()
    assert torch.equal(Program(trace_of(Forward(twice)))(images), to_logits(given))
    assert torch.equal(images, given)


EXACT_CALLS = {
    "clamp": (-0.5, 0.5), "clamp_min": (-0.5,), "clamp_max": (0.5,), "hardtanh": (-0.5, 0.5),
    "threshold": (0.5, 0.25), "nan_to_num": (0.25,), "masked_fill.Scalar": (torch.tensor(True), 0.25),
    "masked_fill.Tensor": (torch.tensor(True), torch.tensor(0.25)), "max.dim": (0,), "min.dim": (0,),
    "clamp.Tensor": (torch.tensor(-0.5), torch.tensor(0.5)), "clamp_min.Tensor": (torch.tensor(0.5),),
    "clamp_max.Tensor": (torch.tensor(0.5),), "max_pool1d": (2,), "max_pool2d": ([2, 2],),
    "max_pool2d_with_indices": ([2, 2],), "max_pool3d": ([2, 2, 2],), "max_pool3d_with_indices": ([2, 2, 2],),
    "adaptive_max_pool2d": ([3, 3],), "adaptive_max_pool3d": ([1, 3, 3],),
}  # fmt: skip
"""Arguments after the first, of operators that are said to be exact."""


@pytest.mark.parametrize(
    "op",
    [
        op
        for op, r in OPERATORS.items()
        if r.is_exact and r.kind not in {CostClass.MOVEMENT, CostClass.CONSTANT}
    ],
)
def test_an_operator_that_is_not_rounded_computes_no_new_bits(op: str) -> None:
    values = rounded(torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(0)) * 9)
    name = op.removeprefix("aten.").removesuffix(".default")
    if name.startswith("where"):
        first: tuple[object, ...] = (values > 0, *([values, 0.5] if "Other" in name else [0.5, values]))
        first = (values > 0, values, values * 2) if name == "where.self" else first
        first = (values > 0, 0.25, 0.5) if name == "where.Scalar" else first
    elif name in {"minimum", "maximum", "fmin", "fmax"}:
        first = (values, values.flip(0))
    else:
        first = (values[None] if "3d" in name else values, *EXACT_CALLS.get(name, ()))
    found = kernel(op)(*first)
    result = found if isinstance(found, torch.Tensor) else found[0]
    assert torch.equal(result.float(), rounded(result.float()))
