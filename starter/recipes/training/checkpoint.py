"""The files and the state of a run: checkpoints, weights, TensorBoard files, random generators.

Checkpoints and replaced weights are in .starter/NAME next to the plugin, never among its own
files. A kill at any moment leaves the old file or the new one, and never touches the plugin's
weights, which are replaced once, at the end.
"""

import contextlib
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypedDict, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from starter.contract.errors import Code, usage_error
from starter.contract.submissions import SubmissionSource, discover_one
from starter.contract.system.files import atomic_write
from starter.data.dataset import Dataset
from starter.recipes.training.settings import TrainSettings

_FREE = frozenset({"device", "seeds"})
"""Settings that may change before a killed run is resumed."""


Scalars = Callable[[int, dict[str, float]], None]
"""A function that takes an epoch and its figures."""


@dataclass(frozen=True)
class Best:
    """The best weights of a run so far."""

    epoch: int | None = None
    """The epoch, from 1; 0: none was better than the starting weights; None: there are none yet."""
    f1: float = -1.0
    """Their validation macro F1; -1 without validation images."""
    tensors: dict[str, Tensor] | None = None
    """The weights; None if the starting weights are still the best."""


class Stateful(Protocol):
    """A part of a checkpoint: a model, an optimizer or a schedule."""

    def state_dict(self) -> dict[str, object]:
        """Return the state needed to resume."""

    def load_state_dict(self, state_dict: dict[str, object], /) -> object:
        """Resume from a state."""


class RandomState(TypedDict):
    """The states of the random number generators."""

    python: tuple[object, ...]
    numpy: tuple[str, Tensor, int, int, float]
    torch: Tensor
    cuda: list[Tensor]


def refuse_other_run(where: str, old: Mapping[str, object], new: Mapping[str, object]) -> None:
    """Check that the resumed run started with the same settings.

    Raises:
        UsageError: U502, these differ.
    """
    if changed := [f"{key} {old.get(key)!r}, now {new[key]!r}" for key in new if old.get(key) != new[key]]:
        raise usage_error(Code.OTHER_RUN, where=where, got="; ".join(changed))


class RunFolder:
    """The folder of a plugin's training runs.

    Args:
        source: the plugin.
        weights_path: the plugin's weights file.
        dataset: the data set to train on.
        teachers: the plugins to learn from.
    """

    def __init__(
        self, source: SubmissionSource, weights_path: Path, dataset: Dataset, teachers: Sequence[Path]
    ) -> None:
        self.folder = source.path.absolute().parent / ".starter" / source.name
        self._weights_path = weights_path
        # The fingerprint is of what is evaluated on: not of how images are normalized or marked.
        facts = (dataset.fingerprint(), dataset.info.mean, dataset.info.std, dataset.train())
        digest = hashlib.sha256(repr(facts).encode())
        for plugin in (source, *map(discover_one, teachers)):
            for path in sorted(plugin.files()):
                if path != weights_path and path.suffix != ".pyc":
                    digest.update(path.name.encode() + path.read_bytes())
        self._source = digest.hexdigest()

    def save(self, settings: TrainSettings, state: Mapping[str, object]) -> None:
        """Write the checkpoint of a seed."""
        path = self._checkpoint(settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            torch.save({**state, "run": self._identity(settings)}, partial)

    def load(self, settings: TrainSettings) -> dict[str, object] | None:
        """Return the checkpoint of a seed, or None if there is none.

        Raises:
            UsageError: U502, it belongs to another run.
        """
        path = self._checkpoint(settings)
        if not path.is_file():
            return None
        state: dict[str, object] = torch.load(path, map_location="cpu", weights_only=True)
        refuse_other_run(str(path), json.loads(str(state["run"])), json.loads(self._identity(settings)))
        return state

    def forget(self) -> None:
        """Remove the checkpoints: the runs are over."""
        for path in self.folder.glob("seed-*.pt"):
            path.unlink()

    def install(self, tensors: dict[str, Tensor], made_by: Mapping[str, object]) -> Path | None:
        """Put the weights in place; return the path of the previous ones, if they differ."""
        self._weights_path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self._weights_path) as partial:
            # One entry only: safetensors writes several in an order that differs from run to run.
            # Not save_file: what that writes may be read by its owner alone.
            partial.write_bytes(save(tensors, metadata={"training": json.dumps(made_by)}))
            return self._keep() if self._weights_path.is_file() else None

    def _keep(self) -> Path:
        digest = hashlib.sha256(self._weights_path.read_bytes()).hexdigest()
        path = self.folder / f"replaced-{digest[:12]}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._weights_path, path)
        return path

    def _checkpoint(self, settings: TrainSettings) -> Path:
        return self.folder / f"seed-{settings.seed}.pt"

    def _identity(self, settings: TrainSettings) -> str:
        values = {k: v for k, v in settings.model_dump(mode="json").items() if k not in _FREE}
        return json.dumps(values | {"plugin, teachers and data": self._source})


class CheckpointSaver:
    """Saves and restores a run of one seed: its parts, epoch, best weights and generators.

    Args:
        folder: the folder of the checkpoint.
        settings: the settings of the run.
        parts: the objects with a state, by their name in the checkpoint.
    """

    def __init__(self, folder: RunFolder, settings: TrainSettings, parts: Mapping[str, Stateful]) -> None:
        self._folder, self._settings, self._parts = folder, settings, parts

    def save(self, epoch: int, best: Best) -> None:
        """Write the checkpoint after an epoch, replacing the previous one."""
        states = {name: part.state_dict() for name, part in self._parts.items()}
        kept = (best.epoch, best.f1, best.tensors)
        self._folder.save(self._settings, states | {"epoch": epoch, "best": kept, "random": random_state()})

    def restore(self) -> tuple[int, Best] | None:
        """Restore the parts and the generators; return the epoch and the best, or None without a checkpoint.

        Raises:
            UsageError: U502, the checkpoint belongs to another run.
        """
        state = self._folder.load(self._settings)
        if state is None:
            return None
        for name, part in self._parts.items():
            part.load_state_dict(cast("dict[str, object]", state[name]))
        set_random_state(cast("RandomState", state["random"]))
        best = cast("tuple[int | None, float, dict[str, Tensor] | None]", state["best"])
        return cast("int", state["epoch"]), Best(*best)


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - for participants' code that uses the global generator
    torch.manual_seed(seed)


def random_state() -> RandomState:
    """Return the states of all generators, in a form that `torch.load` reads without pickle."""
    state = np.random.get_state()  # noqa: NPY002 - as above
    kind, keys, position, has_gauss, gauss = cast("tuple[str, NDArray[np.uint32], int, int, float]", state)
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    numpy = (kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss)
    return RandomState(python=random.getstate(), numpy=numpy, torch=torch.get_rng_state(), cuda=cuda)


def set_random_state(state: RandomState) -> None:
    """Restore all generators."""
    random.setstate(state["python"])
    kind, keys, position, has_gauss, gauss = state["numpy"]
    restored = (kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss)
    np.random.set_state(restored)  # noqa: NPY002 - as above
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


@contextlib.contextmanager
def repeatable(*, enabled: bool) -> Iterator[None]:
    """Reject operators without a deterministic algorithm during a run."""
    before = torch.are_deterministic_algorithms_enabled()
    if enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to repeat itself
        torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextlib.contextmanager
def tensorboard_scalars(folder: Path | None, name: str, settings: TrainSettings) -> Iterator[Scalars]:
    """Yield a function that writes an epoch's figures for TensorBoard, if a folder is given."""
    if folder is None:
        yield lambda *_: None
        return
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - an optional package

    with SummaryWriter(folder / f"{name}-seed{settings.seed}") as writer:

        def write(epoch: int, values: dict[str, float]) -> None:
            for key, value in values.items():
                writer.add_scalar(key, value, epoch)

        yield write
