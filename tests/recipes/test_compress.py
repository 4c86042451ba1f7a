"""Smaller plugins: what a plan does, what is written, and that it loads, counts and trains again."""

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from usual import slow

from starter.contract.errors import Code, ParticipantError, UsageError
from starter.contract.submissions import discover_one
from starter.data.dataset import Dataset
from starter.graph.costs.macs import count_macs
from starter.graph.costs.memory import weight_bytes
from starter.plugin.count import trace_model
from starter.plugin.load import load_plugin_apart
from starter.recipes.compression import rebuild as rebuilding
from starter.recipes.compression.factorization import decompose
from starter.recipes.compression.methods import METHODS, Amount
from starter.recipes.compression.plugin import Compressed, Original, write_plugin
from starter.recipes.compression.quantization import weight_step
from starter.recipes.training.loop import train
from starter.recipes.training.settings import TrainSettings

NETWORK = '''
import torch
from torch import nn
from torchvision.transforms import v2
from starter import Submission, hookimpl

class Branches(nn.Module):
    """RepVGG's block: 3x3, 1x1 and nothing, each with its batch norm, summed."""
    def __init__(self, width):
        super().__init__()
        self.dense = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.point = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width))
        self.skip = nn.BatchNorm2d(width)
    def forward(self, x):
        return torch.relu(self.dense(x) + self.point(x) + self.skip(x))

class Network(nn.Module):
    """A stem, a block of branches, a depthwise and a linear layer."""
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.block = Branches(16)
        self.depthwise = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16))
        self.wide = nn.Conv2d(16, 32, 3, padding=1)
        self.head = nn.Linear(32, 3)
    def forward(self, images):
        x = self.block(self.stem(images))
        x = x + torch.relu(self.depthwise(x))
        return self.head(torch.relu(self.wide(x)).mean((2, 3)))

@hookimpl
def starter_submission(competition):
    return Submission(
        name="Branches",
        model=Network(),
        transforms=[v2.Resize((16, 16)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
    )
'''
WritePlugin = Callable[..., Path]
SMALLER = [method for method in METHODS if method != "quantize"]
"""Methods after which an image costs fewer MACs."""


def compress(original: Original, method: str, *, keep: float | None, macs: int | None) -> Compressed:
    return METHODS[method](original, Amount(keep, macs))


def with_weights(path: Path, dataset: Dataset) -> Path:
    """Write weights that no batch norm has at its start, so that folding must compute something."""
    torch.manual_seed(0)
    plugin = load_plugin_apart(discover_one(path), dataset.competition)
    model = plugin.submission.model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            module.momentum = 0.5
    for _ in range(5):
        model(torch.rand(8, 3, 16, 16))
    save_file(model.state_dict(), plugin.weights_path)
    return path


@pytest.fixture
def original(write_plugin: WritePlugin, easy_dataset: Dataset) -> Original:
    return Original(
        discover_one(with_weights(write_plugin("branches", text=NETWORK), easy_dataset)), easy_dataset
    )


def answers(folder: Path, dataset: Dataset) -> Tensor:
    """Load a written plugin as its own and return what it answers."""
    plugin = load_plugin_apart(discover_one(folder), dataset.competition)
    assert plugin.weights_loaded
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        result: Tensor = plugin.submission.model.eval()(images)
    return result


@pytest.mark.parametrize("method", SMALLER)
def test_a_written_plugin_loads_costs_less_and_trains_on(
    original: Original, easy_dataset: Dataset, tmp_path: Path, method: str
) -> None:
    keep = {"prune": 0.5, "tucker": 0.6}.get(method)
    made = compress(original, method, keep=keep, macs=None)
    folder = write_plugin(original, made, tmp_path / "small", f"starter compress --method {method}")
    again = load_plugin_apart(discover_one(folder), easy_dataset.competition)
    report = train(
        discover_one(folder), easy_dataset, TrainSettings(epochs=1, from_weights=True), log=lambda _: None
    )

    assert made.macs < original.macs
    assert original.count(again.submission.model) == (made.macs, made.bit_operations)
    assert again.submission.name == "Branches"
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == [
        "original", "plan.json", "plugin.py", "rebuild.py", "weights.safetensors",
    ]  # fmt: skip
    assert report.macro_f1 is not None
    text = (folder / "plugin.py").read_text() + (folder / "rebuild.py").read_text()
    assert not [name for name in ("torch_pruning", "tensorly") if name in text]


@pytest.mark.slow
def test_folding_keeps_the_answers_and_leaves_one_convolution_of_three_branches(
    original: Original, easy_dataset: Dataset, tmp_path: Path
) -> None:
    """Of five batch norms and six convolutions none and four are left: stem, block, depthwise, wide."""
    made = compress(original, "reparameterize", keep=None, macs=None)
    folder = write_plugin(original, made, tmp_path / "small", "command")
    left = [type(module).__name__ for module in made.model.modules()]
    before = answers(original.source.path, easy_dataset)

    torch.testing.assert_close(answers(folder, easy_dataset), before, rtol=1e-3, atol=1e-4)
    assert left.count("Conv2d") == 4
    assert "BatchNorm2d" not in left
    assert [step["kind"] for step in made.steps] == ["merge", "fold", "fold"]


@pytest.mark.slow
def test_a_compressed_plugin_can_be_compressed_again(
    original: Original, easy_dataset: Dataset, tmp_path: Path
) -> None:
    made = compress(original, "prune", keep=0.75, macs=None)
    first = write_plugin(original, made, tmp_path / "first", "command")
    pruned = Original(discover_one(first), easy_dataset)
    folded = compress(pruned, "reparameterize", keep=None, macs=None)
    second = write_plugin(pruned, folded, tmp_path / "second", "command")
    shutil.rmtree(first)

    assert folded.macs < made.macs < original.macs
    assert answers(second, easy_dataset).shape == (4, 3)


@pytest.mark.long
@pytest.mark.parametrize("method", ["prune", "tucker"])
def test_a_budget_is_kept_and_nearly_used(original: Original, method: str) -> None:
    budget = round(0.6 * original.macs)
    made = compress(original, method, keep=None, macs=budget)
    assert 0.75 * budget < made.macs <= budget


@pytest.mark.slow
def test_pruning_takes_channels_that_belong_together_and_leaves_the_classes(original: Original) -> None:
    made = compress(original, "prune", keep=0.5, macs=None)
    model = made.model

    assert model.get_submodule("stem.0").out_channels == 8
    assert model.get_submodule("block.dense.0").weight.shape == (8, 8, 3, 3)
    assert model.get_submodule("depthwise.0").groups == 8
    assert model.get_submodule("head").weight.shape == (3, 16)


def test_all_ranks_together_are_the_convolution_itself() -> None:
    """Tucker-2 without truncation is exact; ranks 8 and 12 of a 3x3 convolution from 8 to 12 channels."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 12, 3, stride=2, padding=1))
    images = torch.rand(2, 8, 9, 9)
    step = {"kind": "factorize", "module": "0", "rank_in": 8, "rank_out": 12}
    changed = decompose(deepcopy(model), step)

    torch.testing.assert_close(changed(images), model(images), rtol=1e-4, atol=1e-5)
    assert [tuple(p.shape) for p in changed.parameters()] == [
        (8, 8, 1, 1), (12, 8, 3, 3), (12, 12, 1, 1), (12,),
    ]  # fmt: skip


@pytest.mark.slow
def test_a_kernel_of_low_rank_is_found_to_be_one(original: Original) -> None:
    """A kernel made of two input directions needs no more than two channels there."""
    wide = original.model.get_submodule("wide")
    with torch.no_grad():
        wide.weight.copy_(torch.einsum("orkl,ri->oikl", torch.randn(32, 2, 3, 3), torch.randn(2, 16)))
    made = compress(original, "tucker", keep=0.9999, macs=None)
    (step,) = [step for step in made.steps if step["module"] == "wide"]

    assert step["rank_in"] == 2
    with torch.no_grad():
        wanted = original.model(original.images())
        torch.testing.assert_close(made.model(original.images()), wanted, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(("rank_in", "rank_out"), [(3, None), (None, 5), (3, 5)])
def test_the_factors_lose_no_more_than_the_energy_that_their_ranks_leave_out(
    rank_in: int | None, rank_out: int | None
) -> None:
    """The error is at most the sum of what each unfolding loses (De Lathauwer et al. 2000)."""
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 12, 3, padding=1, bias=False)
    step = {"kind": "factorize", "module": "0", "rank_in": rank_in, "rank_out": rank_out}
    changed = decompose(nn.Sequential(deepcopy(layer)), step)
    impulses = torch.zeros(8, 8, 3, 3)
    impulses[range(8), range(8), 1, 1] = 1  # one pixel of one channel: the answer is the kernel
    lost = sum(
        float((torch.linalg.svdvals(layer.weight.detach().movedim(dim, 0).flatten(1))[rank:] ** 2).sum())
        for dim, rank in ((1, rank_in), (0, rank_out))
        if rank is not None
    )

    with torch.no_grad():
        error = float(((changed(impulses) - layer(impulses)) ** 2).sum())
    assert 0 < error <= lost * 1.0001


class Foldable(nn.Module):
    """A block with timm's method."""

    def __init__(self) -> None:
        super().__init__()
        self.branch, self.folded = nn.Conv2d(4, 4, 1), False

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = images + (0 if self.folded else self.branch(images))
        return result

    def reparameterize(self) -> None:
        del self.branch
        self.folded = True


def test_a_block_that_folds_itself_is_asked_to() -> None:
    model = nn.Sequential(nn.Sequential(Foldable()))
    rebuilding.rebuild(model, [{"kind": "reparameterize"}])
    assert not list(model.parameters())


def quantized(original: Original, bits: int) -> Compressed:
    return METHODS["quantize"](original, Amount(bits=bits, images=8))


@pytest.mark.slow
@pytest.mark.parametrize("bits", [slow(8), 4])
def test_a_quantized_plugin_has_its_bits_loads_and_trains_on(
    original: Original, easy_dataset: Dataset, tmp_path: Path, bits: int
) -> None:
    """The stem and the head keep 8 bits; a value is an int8 for each weight that the graph stores."""
    made = quantized(original, bits)
    folder = write_plugin(original, made, tmp_path / "small", "starter compress --method quantize")
    walk = trace_model(made.model, original.shape, original.source)
    contraction = {n.module: n.contraction for n in count_macs(walk).nodes if n.contraction}
    ends = contraction["stem.0"] + contraction["head"]
    wanted = ends * 8 * 8 + (sum(contraction.values()) - ends) * bits * bits
    report = train(
        discover_one(folder), easy_dataset, TrainSettings(epochs=1, from_weights=True), log=lambda _: None
    )
    again = load_plugin_apart(discover_one(folder), easy_dataset.competition)

    assert len(made.steps) == len(contraction) == 6
    assert made.bit_operations == -(-wanted // 1024)
    assert report.macro_f1 is not None
    assert original.count(again.submission.model) == (made.macs, made.bit_operations)


@pytest.mark.slow
def test_the_weights_of_a_quantized_plugin_are_levels_and_a_step_for_each_channel(original: Original) -> None:
    walk = trace_model(quantized(original, 4).model, original.shape, original.source)
    levels = [t for t in walk.constants.values() if isinstance(t, Tensor) and t.dtype is torch.int8]

    assert len(levels) == 6
    assert sorted(int(t.abs().max()) for t in levels)[:4] == [7, 7, 7, 7]
    carried = {n: t for n, t in original.model.state_dict().items() if t.is_floating_point()}
    weights = {name: t for name, t in carried.items() if t.dim() > 1}
    steps = sum(len(t) for t in weights.values())
    floats = sum(t.numel() for t in carried.values()) - sum(t.numel() for t in weights.values()) + steps
    assert weight_bytes(walk) == sum(t.numel() for t in weights.values()) + 4 * floats


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "error"), [(8, 0.03), (4, 0.5)])
def test_quantizing_changes_the_answers_a_little(original: Original, bits: int, error: float) -> None:
    images = original.training_images(16).float()
    with torch.no_grad():
        wanted, found = original.model(images), quantized(original, bits).model(images)

    assert 0 < (found - wanted).norm() / wanted.norm() < error


def test_what_is_trained_on_a_grid_learns_through_it() -> None:
    """Rounding lets gradients through; a value beyond the last level is clamped and gives none."""
    model = nn.Sequential(nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.3, 0.6]]))
    step: rebuilding.Step = {"kind": "quantize", "module": "0", "bits": 4, "step": 0.1, "zero_point": 0}
    layer = rebuilding.rebuild(model, [step]).get_submodule("0")
    layer.weight_step.fill_(0.1)
    values = torch.tensor([[0.52, 9.0]], requires_grad=True)
    result = layer.train()(values)
    result.backward()

    assert result.item() == pytest.approx(0.5 * 0.3 + 1.5 * 0.6)
    torch.testing.assert_close(values.grad, torch.tensor([[0.3, 0.0]]))
    torch.testing.assert_close(layer.weight.grad, torch.tensor([[0.5, 1.5]]))
    assert layer.eval()(values).item() == pytest.approx(result.item())


def test_a_step_is_the_best_of_those_that_clamp_more_or_less() -> None:
    """One far weight of a thousand: with 4 bits it is worth clamping, with 8 it is not."""
    weight = torch.cat([torch.linspace(-1, 1, 1000), torch.tensor([3.0])])[None]

    assert weight_step(weight, 4).item() < 0.7 * 3 / 7
    assert weight_step(weight, 8).item() == pytest.approx(3 / 127)


@pytest.mark.slow
def test_a_network_without_a_layer_to_quantize_is_told_so(original: Original) -> None:
    original.model = quantized(original, 8).model
    with pytest.raises(UsageError, match=r"U503 .*no convolution or linear layer"):
        quantized(original, 8)


def test_branches_of_different_inputs_are_not_merged() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

        def forward(self, images: Tensor) -> Tensor:
            result: Tensor = self.one(images) + self.two(images.relu())
            return result

    torch.manual_seed(0)
    model, images = Residual(), torch.randn(2, 4, 6, 6)
    changed = rebuilding.rebuild(deepcopy(model), [{"kind": "merge"}])

    torch.testing.assert_close(changed(images), model(images))
    assert len([m for m in changed.modules() if isinstance(m, nn.Conv2d)]) == 2


@pytest.mark.slow
def test_a_plan_is_one_step_a_line(original: Original, tmp_path: Path) -> None:
    made = compress(original, "prune", keep=0.5, macs=None)
    folder = write_plugin(original, made, tmp_path / "small", "starter compress mine --keep 0.5")
    text = (folder / "plan.json").read_text()

    assert json.loads(text)["made_by"] == "starter compress mine --keep 0.5"
    assert len(text.splitlines()) == len(made.steps) + 5


@pytest.mark.slow
def test_nothing_is_overwritten(original: Original, tmp_path: Path) -> None:
    made = compress(original, "prune", keep=0.5, macs=None)
    with pytest.raises(UsageError, match="U106"):
        write_plugin(original, made, tmp_path, "command")


@pytest.mark.slow
def test_what_cannot_be_made_smaller_is_told_so(original: Original) -> None:
    with pytest.raises(UsageError, match=r"U503 .* at least [\d,]+ MACs"):
        compress(original, "tucker", keep=None, macs=10)
    with pytest.raises(UsageError, match="U503"):
        compress(original, "tucker", keep=1.0, macs=None)
    with pytest.raises(UsageError, match=f"U503 .* {original.macs:,} MACs before"):
        compress(original, "prune", keep=None, macs=original.macs)


@pytest.mark.slow
def test_a_network_that_pruning_cannot_follow_is_told_so(
    write_plugin: WritePlugin, easy_dataset: Dataset
) -> None:
    """A number of channels written into forward no longer fits afterwards."""
    fixed = ("x = x + torch.relu", "x = x.reshape(-1, 16, 8, 8) + torch.relu")
    path = with_weights(write_plugin("fixed", fixed, text=NETWORK), easy_dataset)
    with pytest.raises(ParticipantError) as refused:
        compress(Original(discover_one(path), easy_dataset), "prune", keep=0.5, macs=None)
    assert refused.value.problems[0].code is Code.NOT_COMPRESSED


def test_there_must_be_weights_to_compress(write_plugin: WritePlugin, easy_dataset: Dataset) -> None:
    with pytest.raises(ParticipantError, match="E201"):
        Original(discover_one(write_plugin("untrained", text=NETWORK)), easy_dataset)
