"""The four guidelines of ShuffleNetV2, each on the smallest network that breaks it or follows it."""

from collections import Counter

import pytest
import torch
import torchvision
from torch import nn
from tracing import Forward, to_logits, trace_of

from starter.contract.costs import Finding
from starter.graph.costs.memory_access import memory_access
from starter.graph.executor import _planned
from starter.graph.fusion import merged_norms
from starter.graph.profiling.guidelines import MOST_FINDINGS, check_guidelines

HW = 8 * 8


class Logits(nn.Module):
    """Six numbers of whatever comes in, for nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return to_logits(x)


class Branches(nn.Module):
    """Several ways from one value, added or put side by side."""

    def __init__(self, join: str, *branches: nn.Module) -> None:
        super().__init__()
        self.join = join
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        results = [branch(x) for branch in self.branches]
        return torch.cat(results, 1) if self.join == "cat" else sum(results[1:], start=results[0])


def conv(channels_in: int, channels_out: int, kernel: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, groups=groups, bias=False)


def findings(guideline: str, *layers: nn.Module, channels: int = 4) -> list[Finding]:
    trace = trace_of(nn.Sequential(*layers, Logits()), (channels, 8, 8))
    return [f for f in check_guidelines(trace) if f.guideline == guideline]


def test_a_1x1_convolution_of_uneven_widths_accesses_more_than_its_bound() -> None:
    """From 4 to 16 channels costs the MACs of 8 to 8."""
    (found,) = findings("G1", conv(4, 16))

    access = HW * (4 + 16) + 4 * 16
    bound = HW * (8 + 8) + 8 * 8
    assert (access, bound) == (1344, 1088)
    assert found.saving == access - bound
    assert found.share == (access - bound) / access
    assert found.module == "0"
    assert found.formula == (
        "hw(c1 + c2) + c1 c2 = 64 x (4 + 16) + 4 x 16 = 1,344; "
        "at least 2 sqrt(hw B) + B/hw = 1,088 with B = 4,096"
    )
    assert "8 channels in and out" in found.advice


def test_a_linear_layer_over_positions_is_a_1x1_convolution() -> None:
    rows = Forward(lambda _, x: x.flatten(2).transpose(1, 2))
    (found,) = findings("G1", rows, nn.Linear(4, 16, bias=False))
    assert found.saving == 1344 - 1088


@pytest.mark.parametrize(
    "layers",
    [
        (conv(4, 4),),
        (conv(4, 5),),  # 640 against 2 x 64 x sqrt(20) + 20 = 592: 8 % over it
        (conv(4, 16, kernel=3),),
        (nn.Conv2d(4, 16, 1, stride=2),),
        (nn.Flatten(), nn.Linear(4 * HW, 6)),
    ],
    ids=["equal", "nearly-equal", "3x3", "stride", "classifier"],
)
def test_equal_widths_and_what_g1_is_not_about_are_no_finding(layers: tuple[nn.Module, ...]) -> None:
    assert not findings("G1", *layers)


@pytest.mark.parametrize(("kernel", "weights"), [(1, 8 * 8 // 4), (3, 8 * 8 * 9 // 4)])
def test_groups_write_more_channels_for_the_same_macs(kernel: int, weights: int) -> None:
    """Four groups from 8 to 8 channels: one group has these MACs with 2 channels out."""
    (found,) = findings("G2", conv(8, 8, kernel, groups=4), channels=8)

    grouped = HW * 8 + HW * 8 + weights
    dense = HW * 8 + HW * 2 + weights
    assert found.saving == grouped - dense == 384
    assert found.share == 384 / grouped
    assert found.formula == (
        f"hw c1 + B g/c1 + B/hw = 512 + 512 + {weights} with g = 4; 512 + 128 + {weights} with g = 1"
    )


@pytest.mark.parametrize("groups", [1, 8], ids=["dense", "depthwise"])
def test_one_group_and_depthwise_are_no_finding(groups: int) -> None:
    assert not findings("G2", conv(8, 8, 3, groups=groups), channels=8)


@pytest.mark.parametrize(("join", "operators"), [("cat", 5), ("add", 6)])
def test_contractions_beyond_the_longest_branch_are_fragments(join: str, operators: int) -> None:
    """Branches of 2, 1 and 1 convolutions; joined by one concatenation or two additions."""
    model = Branches(join, nn.Sequential(conv(4, 4), conv(4, 4, 3)), conv(4, 4), conv(4, 4, 3))
    (found,) = findings("G3", model)

    assert found.saving == (2 + 1 + 1) - 2
    assert found.share == 2 / operators
    assert found.module == "0"
    assert found.formula == "3 fragments with 4 contractions; the longest has 2"


def test_fragments_within_a_branch_are_counted_where_they_are_joined() -> None:
    """Inside two against one; outside those two and a third against one: one too many each time."""
    inner = Branches("cat", conv(4, 2), conv(4, 2, 3))
    outer, inside = findings("G3", Branches("cat", inner, conv(4, 4, 3)))
    assert {(f.module, f.saving) for f in (outer, inside)} == {("0", 1), ("0.branches.0", 1)}


def body(channels: int) -> nn.Module:
    return nn.Sequential(conv(channels, channels, 3), nn.ReLU(), conv(channels, channels, 3))


@pytest.mark.parametrize(
    "layers",
    [
        (body(4), body(4)),
        (Branches("add", nn.Identity(), body(4)), Branches("add", nn.Identity(), body(4))),
        (Branches("add", nn.Sequential(conv(4, 4), nn.BatchNorm2d(4)), body(4)),),
        (Branches("cat", nn.Identity(), body(4)), Branches("cat", nn.Identity(), conv(8, 4, 3))),
    ],
    ids=["plain", "residual", "1x1-shortcut", "dense"],
)
def test_a_single_path_with_shortcuts_is_no_fragmentation(layers: tuple[nn.Module, ...]) -> None:
    assert not findings("G3", *layers)


def test_elementwise_operators_are_counted_with_the_module_that_they_stand_in() -> None:
    """The addition is the outer module's, the activation its own."""
    add, relu = findings("G4", Branches("add", nn.Identity(), conv(4, 4)), nn.ReLU())

    convolution = 4 * HW + 4 * 4 + 4 * HW
    assert (add.module, add.saving) == ("0", 3 * 4 * HW)
    assert (relu.module, relu.saving) == ("1", 2 * 4 * HW)
    assert add.share == 768 / (convolution + 768 + 512)
    assert add.formula == (
        "1 of 2 elementwise operators, 768 of 1,280 elements; "
        f"all of them are {1280 / (convolution + 1280):.1%} of the network's memory access"
    )


def test_a_batch_norm_counts_only_where_it_is_not_merged() -> None:
    assert not findings("G4", conv(4, 4), nn.BatchNorm2d(4))

    (found,) = findings("G4", conv(4, 4), nn.MaxPool2d(1), nn.BatchNorm2d(4))
    assert found.saving == 2 * 4 * HW + 4 * 4  # four vectors of four: mean, variance, scale, shift


def test_a_module_of_little_memory_access_is_left_out() -> None:
    """A gate on four numbers: 8 of 528 + 260 + 8 elements are 1 %."""
    assert not findings(
        "G4", conv(4, 4), nn.AdaptiveAvgPool2d(1), nn.Sigmoid(), nn.Flatten(), nn.Linear(4, 6)
    )


@pytest.mark.long
def test_merged_batch_norms_are_those_that_the_program_merges() -> None:
    trace = trace_of(torchvision.models.densenet121(), (3, 64, 64), 1000)
    program = {
        node.name for node in _planned(trace, dict(trace.constants)) if node.op == "aten.alias.default"
    }
    norms = {step.node.name for step in trace.steps if "batch_norm" in step.node.op}
    merged = merged_norms(trace).keys() & norms
    assert merged == program & norms
    assert 0 < len(merged) < len(norms)


EXPECTED = {
    "resnet18": {"G4"},
    "mobilenet_v2": {"G1", "G4"},
    "shufflenet_v2_x0_5": {"G3", "G4"},
    "resnext50_32x4d": {"G1", "G2", "G4"},
    "squeezenet1_1": {"G1", "G3", "G4"},
    "vit_b_16": {"G4"},
}


@pytest.mark.long
@pytest.mark.parametrize("name", EXPECTED)
def test_well_known_networks_break_the_guidelines_that_the_paper_says(name: str) -> None:
    trace = trace_of(torchvision.models.get_model(name), (3, 224, 224), 1000)
    found = check_guidelines(trace)
    access = sum(memory_access(step).elements for step in trace.steps)

    assert {f.guideline for f in found} == EXPECTED[name]
    assert max(Counter(f.guideline for f in found).values(), default=0) <= MOST_FINDINGS
    assert list(found) == sorted(found, key=lambda f: (f.guideline, -f.saving))
    assert all(0 < f.share < 1 and f.saving > 0 and f.formula and f.advice for f in found)
    assert all(f.share == f.saving / access for f in found if f.guideline != "G3")
