"""Networks as ONNX and PT2 files: they take any batch, answer as the kit does, or are not there."""

import importlib.util
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from conftest import Command
from torch import nn
from tracing import Forward, trace_of

from starter import __version__
from starter.cli import app as cli
from starter.contract.competition import load_competition
from starter.contract.errors import Code, ParticipantError
from starter.contract.isolation import Isolation, Level
from starter.contract.submissions import discover_one
from starter.contract.system import extras
from starter.data.dataset import open_dataset
from starter.graph.costs.macs import count_macs
from starter.graph.executor import Program
from starter.recipes.export.counted import Counted, count
from starter.recipes.export.export import export, export_any
from starter.recipes.export.formats import Format, opened, read_metadata
from starter.recipes.export.module import BatchError, module_of
from starter.recipes.export.parity import MOST_DIFFERENCE, relative_difference
from starter.submission import transform_records

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "export.md"
EXAMPLES = [
    "baseline",
    *(f"submissions/{name}" for name in ("distilled.py", "pruned", "separable", "shufflenet.py")),
]
CLASSES = ("Glass", 'é "quoted" \N{RIGHT-TO-LEFT OVERRIDE}', "\ud800 a\nline", "<b>", "", "パン")
Function = Callable[[nn.Module, torch.Tensor], torch.Tensor]


def counted_of(model: nn.Module, images: int = 6) -> Counted:
    """Take a module with images of 3 x 8 x 8 and six classes to where `starter export` begins."""
    walk = trace_of(model)
    drawn = torch.randn(images, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return Counted(
        name="drawn",
        classes=CLASSES,
        walk=walk,
        transforms=(),
        macs=count_macs(walk).macs,
        cost_version="2",
        images=drawn,
        official=Program(walk)(drawn).numpy(),
        plain=Program(walk, rounding=None)(drawn).numpy(),
    )


def weights(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)) / shape[-1] ** 0.5


def windows(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Four windows of 4 x 4, each with a mask of its own, and back again: what Swin does."""
    parts = x.view(1, 3, 2, 4, 2, 4).permute(0, 2, 4, 3, 5, 1).reshape(4, 16, 3)
    parts = parts + self.mask
    whole = parts.view(1, 2, 2, 4, 4, 3).permute(0, 5, 1, 3, 2, 4).reshape(1, 3, 8, 8)
    return whole.flatten(1) @ self.head


def sequence_first(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Tokens before the batch, and both in one axis: what nn.MultiheadAttention does."""
    tokens = x.flatten(2).permute(2, 0, 1)
    both = tokens.reshape(64, 3) @ self.mix
    return both.reshape(64, 1, 3).transpose(0, 1).flatten(1) @ self.head


def class_token(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
    tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
    return (tokens @ self.mix).flatten(1)[:, :192] @ self.head


def heads_joined_with_the_batch(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
    queries = x.flatten(2).view(1, 3, 4, 16).permute(0, 2, 1, 3).reshape(4, 3, 16)
    scores = torch.bmm(queries, queries.transpose(1, 2)).softmax(-1)
    return torch.bmm(scores, queries).view(1, 4, 3, 16).flatten(1) @ self.head


def squeezed_and_expanded(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
    means = x.mean((2, 3), keepdim=True).squeeze().unsqueeze(0) if x.shape[0] == 1 else x.mean((2, 3))
    return (x.flatten(1) @ self.head) + means.view(1, 3, 1).expand(1, 3, 2).reshape(1, 6)


def attention_in_windows(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Five axes, with a mask for each window, and then three: what Twins does, and a plain head."""
    tokens = x.reshape(1, 3, 4, 16).permute(0, 2, 3, 1)[:, :, None]  # image, window, head, token, width
    mask = self.mask.mean(-1).view(4, 1, 1, 1).expand(4, 1, 16, 16)  # of four axes: for every image
    seen = F.scaled_dot_product_attention(tokens, tokens @ self.mix, tokens, mask)
    rows = seen.reshape(1, 64, 3)
    return F.scaled_dot_product_attention(rows, rows @ self.mix, rows).flatten(1) @ self.head


def per_image_kernels(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """One kernel for each image by groups, one group for each image: what CondConv does."""
    kernel = (x.mean((2, 3)) @ self.mix).view(1 * 3, 1, 1, 1)
    return F.conv2d(x.reshape(1, 3, 8, 8), kernel, groups=3).flatten(1) @ self.head


def softmax_over_all(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A softmax over the flattened image: over all images of a batch, once the batch is longer."""
    return x.flatten().softmax(0).view(1, 192) @ self.head


def chaos(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The logistic map, two hundred times: each doubles the last bit that a sum has left."""
    values = torch.sigmoid(x.flatten(1) @ self.head)
    for _ in range(200):
        values = 3.99 * values * (1 - values)
    return values


def network(function: Function) -> nn.Module:
    tensors = {
        "head": weights(192, 6),
        "mix": weights(3, 3),
        "mask": weights(4, 1, 3),
        "token": weights(1, 1, 3),
    }
    return Forward(function, **tensors)


@pytest.mark.parametrize(
    "function",
    [
        windows,
        sequence_first,
        class_token,
        heads_joined_with_the_batch,
        squeezed_and_expanded,
        attention_in_windows,
    ],
)
def test_a_graph_counted_for_one_image_takes_several(function: Function) -> None:
    counted = counted_of(network(function))
    module = module_of(counted.walk, batched=True)
    for some in (1, 2, 5):
        found = module(counted.images[:some]).detach().numpy()
        assert relative_difference(found, counted.plain[:some]) < 1e-5


def test_a_graph_that_cannot_take_several_names_the_operator() -> None:
    walk = counted_of(network(per_image_kernels)).walk
    with pytest.raises(BatchError, match=r"aten.conv2d.default at node 'conv2d'"):
        module_of(walk, batched=True)


@pytest.mark.long
@pytest.mark.parametrize("path", EXAMPLES)
def test_every_packaged_example_answers_the_same_in_onnxruntime_for_any_batch(
    path: str, tmp_path: Path
) -> None:
    rules = load_competition(ROOT / "competition.toml")
    dataset = open_dataset(rules.path(rules.dataset))
    counted = count(discover_one(ROOT / path), rules, dataset, Isolation(Level.NONE))
    found = export(counted, Format.ONNX, tmp_path / "x.onnx", None, timed=False)

    assert found.parity.difference < MOST_DIFFERENCE / 10
    assert found.parity.images == 64
    assert found.parity.agreeing >= 58  # the others are near a border, where the rounding decides
    said = read_metadata(found.path, Format.ONNX)
    assert tuple(transform_records.load(said["starter.transforms"])) == counted.transforms
    assert json.loads(said["starter.input_shape"]) == list(counted.images.shape[1:])
    assert json.loads(said["starter.macs"]) == counted.macs
    session = onnxruntime.InferenceSession(found.path, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", *counted.images.shape[1:]]


@pytest.mark.long
def test_the_documents_program_classifies_a_photograph_with_the_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = load_competition(ROOT / "competition.toml")
    dataset = open_dataset(rules.path(rules.dataset))
    counted = count(discover_one(ROOT / "submissions" / "separable"), rules, dataset, Isolation(Level.NONE))
    export(counted, Format.ONNX, tmp_path / "separable.onnx", None, timed=False)
    dataset.images.open(dataset.test_ids()[0]).save(tmp_path / "photo.jpg", quality=100)
    (block,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(block, names)  # noqa: S102 - the document's own program

    assert names["name"] == counted.classes[counted.plain[0].argmax()]
    assert relative_difference(names["logits"], counted.plain[:1]) < 0.05  # the JPEG is not the original


@pytest.mark.slow
@pytest.mark.parametrize("kind", Format)
def test_names_of_any_characters_come_back_as_they_were(kind: Format, tmp_path: Path) -> None:
    counted = replace(counted_of(network(windows)), name='a "b" <c>\n\N{RIGHT-TO-LEFT OVERRIDE}é')
    found = export(counted, kind, tmp_path / "a file", None, timed=False)
    said = read_metadata(found.path, kind)

    assert tuple(json.loads(said["starter.classes"])) == CLASSES
    assert json.loads(said["starter.submission"]) == counted.name
    assert said["starter.version"] == __version__
    assert all(text.isascii() for text in said.values())


@pytest.mark.parametrize("kind", Format)
def test_a_fixed_batch_takes_that_many_images_and_no_others(kind: Format, tmp_path: Path) -> None:
    counted = counted_of(network(class_token))
    found = export(counted, kind, tmp_path / "x", 4)
    run = opened(found.path, kind)

    assert relative_difference(run(counted.images[:4]), counted.plain[:4]) < 1e-5
    assert found.parity.images == 6  # two batches: the last is filled up with images from the beginning
    assert min(found.file_ms, found.kit_ms) > 0
    with pytest.raises(Exception, match=r"dimension|Guard failed: image.size"):
        run(counted.images[:3])


@pytest.mark.slow
def test_attention_on_any_number_of_axes_is_written(tmp_path: Path) -> None:
    found = export(
        counted_of(network(attention_in_windows)), Format.ONNX, tmp_path / "x.onnx", None, timed=False
    )
    assert found.parity.difference < 1e-5


@pytest.mark.slow
def test_a_network_for_one_image_at_a_time_is_written_so_and_says_why(tmp_path: Path) -> None:
    counted, told = counted_of(network(per_image_kernels)), list[str]()
    found = export_any(counted, Format.ONNX, tmp_path / "x.onnx", told.append, timed=False)

    assert found.batch == 1
    assert "a size in the graph is fixed for one image: aten.conv2d.default at node 'conv2d'" in told[0]
    with pytest.raises(ParticipantError) as caught:
        export(counted, Format.ONNX, tmp_path / "y.onnx", None)
    assert caught.value.problems[0].code is Code.NOT_EXPORTED
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]


def test_a_batch_that_would_mix_its_images_is_noticed_by_the_logits(tmp_path: Path) -> None:
    counted, told = counted_of(network(softmax_over_all)), list[str]()
    with pytest.raises(ParticipantError) as caught:
        export(counted, Format.PT2, tmp_path / "x.pt2", None)
    assert caught.value.problems[0].code is Code.EXPORT_DIFFERS
    found = export_any(counted, Format.PT2, tmp_path / "x.pt2", told.append, timed=False)
    assert found.batch == 1
    assert "logits differ by" in told[0]


@pytest.mark.long
def test_a_file_that_answers_something_else_is_not_kept(tmp_path: Path) -> None:
    target = tmp_path / "x.onnx"
    target.write_text("what was there before", encoding="utf-8")
    with pytest.raises(ParticipantError) as caught:
        export(counted_of(network(chaos)), Format.ONNX, target, 1)
    found = caught.value.problems[0]

    assert found.code is Code.EXPORT_DIFFERS
    assert "of the largest, on 6 images" in found.got
    assert target.read_text(encoding="utf-8") == "what was there before"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.slow
def test_what_onnxruntime_has_no_kernel_for_is_refused_and_torch_takes_it(tmp_path: Path) -> None:
    def half(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x.to(torch.bfloat16), self.kernel).mean((2, 3)).to(torch.float32)

    counted = counted_of(Forward(half, kernel=weights(6, 3, 3, 3).bfloat16()))
    with pytest.raises(ParticipantError) as caught:
        export(counted, Format.ONNX, tmp_path / "x.onnx", 1)
    assert caught.value.problems[0].code is Code.NOT_EXPORTED
    assert "Conv" in caught.value.problems[0].got
    assert export(counted, Format.PT2, tmp_path / "x.pt2", 1, timed=False).parity.holds


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_never_agrees(value: float) -> None:
    expected = np.ones((2, 3), dtype=np.float32)
    found = np.where(np.eye(2, 3) > 0, np.float32(value), expected)
    assert relative_difference(found, expected) == np.inf


@pytest.mark.long
def test_the_command_writes_both_files_and_replaces_them_only_by_force(
    starter: Command, write_plugin: Callable[..., Path], tmp_path: Path
) -> None:
    plugin, one, other = write_plugin("mine"), tmp_path / "new" / "a b.onnx", tmp_path / "mine.pt2"
    words = ("export", plugin, "--onnx", one, "--pt2", other)
    printed = starter(*words)
    assert [model.producer_name for model in [onnx.load(one)]] == ["starter"]
    before = one.read_bytes()

    assert "any number of images, 201 MACs each" in printed.stdout
    assert "logits on 30 evaluation images within" in printed.stdout
    assert "onnxruntime" in printed.stdout
    assert not printed.stderr.replace("isolation none", "").strip().startswith("W")
    refused = starter(*words, expected=2)
    assert "U106" in refused.stderr
    assert "--force" in refused.stderr
    assert one.read_bytes() == before
    assert "1 at a time" in starter(*words, "--batch", "1", "--force").stdout
    assert sorted(path.name for path in one.parent.iterdir()) == ["a b.onnx"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "--onnx FILE"),
        (["--onnx", "x", "--pt2", "x"], "the same file"),
        (["--onnx", "x", "--batch", "0"], "a number from 1"),
        (["--onnx", "x", "--batch", "many"], "dynamic or a number"),
    ],
)
def test_a_contradiction_is_refused_before_anything_runs(
    words: list[str], complaint: str, starter: Command, write_plugin: Callable[..., Path]
) -> None:
    refused = starter("export", write_plugin("mine"), *words, expected=2)
    assert complaint in " ".join(refused.stderr.replace("│", " ").split())


@pytest.mark.parametrize("module", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_told_by_the_name_of_its_extra(
    module: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    write_plugin: Callable[..., Path],
    tmp_path: Path,
) -> None:
    real: Callable[[str], object] = importlib.util.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == module else real(name))
    target = tmp_path / "x.onnx"
    monkeypatch.setattr("sys.argv", ["starter", "export", str(write_plugin("mine")), "--onnx", str(target)])
    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == 2
    assert "-e '.[onnx]'" in "".join(capsys.readouterr())
    assert not target.exists()
