"""A trained plugin to compress, and the smaller plugin that is written from it.

The methods are in pruning.py, factorization.py, quantization.py and reparameterization.py.
"""

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from starter.contract.errors import Code, participant_error, usage_error
from starter.contract.submissions import PLUGIN_FILE, Kind, SubmissionSource
from starter.contract.system.files import atomic_write
from starter.data.dataset import Dataset
from starter.graph.costs.bits import bit_operations
from starter.graph.costs.macs import count_macs
from starter.plugin.count import trace_model
from starter.plugin.load import LoadedPlugin, load_plugin_apart
from starter.recipes.compression import rebuild
from starter.recipes.compression.rebuild import Step
from starter.recipes.training.data import load
from starter.submission import pipeline, transforms

_SEARCH_STEPS = 8


@dataclass(frozen=True)
class Compressed:
    """A smaller network and the steps that lead to it."""

    model: nn.Module
    """The network with its weights."""
    steps: tuple[Step, ...]
    """The steps by which rebuild.py gives the original its shape."""
    macs: int
    """MACs of one image, by the kit's counter."""
    bit_operations: int
    """Bit operations of one image."""


class Original:
    """A trained plugin to compress.

    Raises:
        ParticipantError: it is not valid, or has no weights.
    """

    def __init__(self, source: SubmissionSource, dataset: Dataset) -> None:
        if source.kind is Kind.ENTRY_POINT:
            raise usage_error(Code.NO_SUCH_PATH, where=source.name, got="an installed package")
        self.source = source
        self.plugin: LoadedPlugin = load_plugin_apart(source, dataset.competition)
        if not self.plugin.weights_loaded:
            where = str(self.plugin.weights_path)
            raise participant_error(Code.WEIGHTS_MISSING, where=where, got="nothing to compress")
        self.model: nn.Module = self.plugin.submission.model
        self.model.eval()
        self._dataset = dataset
        self._records = transforms.describe(self.plugin.submission.transforms)
        self.shape = pipeline.input_shape(self._records)
        self.num_classes = len(dataset.info.classes)
        self._counted: dict[str, tuple[int, int]] = {}
        self.as_it_is = self.compressed(self.model, ())
        self.macs = self.as_it_is.macs

    def count(self, model: nn.Module) -> tuple[int, int]:
        """Return the MACs and the bit operations of one image."""
        walk = trace_model(model, self.shape, self.source)
        return count_macs(walk).macs, bit_operations(walk)

    def compressed(self, model: nn.Module, steps: Iterable[Step]) -> Compressed:
        """Return a compressed network with its counts; an equal plan is counted once."""
        plan = tuple(steps)
        key = json.dumps(plan)
        if key not in self._counted:
            self._counted[key] = self.count(model)
        return Compressed(model, plan, *self._counted[key])

    def training_images(self, number: int) -> Tensor:
        """Return training images, the same ones at each call: float16 (images, C, H, W).

        Raises:
            UsageError: U203, image files are broken.
        """
        rows = self._dataset.train()
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:number]
        return load(self._dataset, [rows[i] for i in order.tolist()], self._records).images

    def images(self) -> Tensor:
        """Return two images of noise, the same at each call."""
        return torch.randn(2, *self.shape, generator=torch.Generator().manual_seed(0))


def fitting(
    original: Original, make: Callable[[float], Compressed], keep: float | None, macs: int | None
) -> Compressed:
    """Compress with the given share, or with the largest share that costs at most `macs`."""
    if macs is None:
        made = make(0.5 if keep is None else keep)
        if made.macs >= original.macs:
            got = f"{made.macs:,} MACs, {original.macs:,} before"
            raise usage_error(Code.NOT_SMALLER, where=str(original.source.path), got=got)
        return made
    if macs >= original.macs:
        got = f"{original.macs:,} MACs before"
        expected = f"--macs below {original.macs:,}"
        raise usage_error(Code.NOT_SMALLER, where=str(original.source.path), expected=expected, got=got)
    low, high, best = 0.0, 1.0, None
    cheapest = original.macs
    for _ in range(_SEARCH_STEPS):
        share = (low + high) / 2
        made = make(share)
        cheapest = min(cheapest, made.macs)
        if made.macs <= macs:
            low = share
            best = made if best is None or made.macs > best.macs else best
        else:
            high = share
    if best is None:
        raise usage_error(
            Code.NOT_SMALLER,
            where=str(original.source.path),
            expected=f"at most {macs:,} MACs",
            got=f"at least {cheapest:,} MACs",
        )
    return best


def write_plugin(original: Original, made: Compressed, folder: Path, command: str) -> Path:
    """Write the smaller network as a plugin folder.

    Raises:
        UsageError: U106, the folder exists.
    """
    if folder.exists():
        raise usage_error(Code.TARGET_EXISTS, where=str(folder), got="a file or folder of that name")
    with atomic_write(folder) as partial:
        copy = partial / "original"
        for path in original.source.files():
            if path == original.plugin.weights_path or "__pycache__" in path.parts:
                continue
            single = original.source.kind is Kind.FILE
            target = copy / (PLUGIN_FILE if single else path.relative_to(original.source.path))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        shutil.copyfile(str(rebuild.__file__), partial / "rebuild.py")
        template = files("starter.recipes.compression").joinpath("compressed", PLUGIN_FILE)
        (partial / PLUGIN_FILE).write_text(
            template.read_text(encoding="utf-8"), encoding="utf-8", newline="\n"
        )
        (partial / "plan.json").write_text(_plan(command, made.steps), encoding="utf-8", newline="\n")
        tensors = {k: v.detach().contiguous().clone() for k, v in made.model.state_dict().items()}
        (partial / "weights.safetensors").write_bytes(save(tensors))
    return folder


def _plan(command: str, steps: tuple[Step, ...]) -> str:
    """Return the plan as JSON, one step per line."""
    lines = ",\n".join("    " + json.dumps(step) for step in steps)
    return f'{{\n  "made_by": {json.dumps(command)},\n  "steps": [\n{lines}\n  ]\n}}\n'
