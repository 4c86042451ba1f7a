"""What a training run keeps on the disk: a checkpoint for each seed, and the weights that were replaced.

They lie in .starter/NAME beside the plugin, never among its own files. A kill at any
moment leaves the old file or the new one, and never touches the plugin's weights: those
are put in place once, at the end.
"""

import hashlib
import json
import random
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from starter.contract.errors import Code, usage_error
from starter.contract.submissions import SubmissionSource, discover_one
from starter.contract.system.files import atomic_write
from starter.data.dataset import Dataset
from starter.recipes.training.settings import TrainSettings

State = dict[str, Any]
_FREE = frozenset({"device", "seeds"})
"""Settings that may change between a kill and its resumption."""


def refuse_other_run(where: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """See that what goes on was begun with the same settings.

    Raises:
        UsageError: U502, these differ.
    """
    if changed := [f"{key} {old.get(key)!r}, now {new[key]!r}" for key in new if old.get(key) != new[key]]:
        raise usage_error(Code.OTHER_RUN, where=where, got="; ".join(changed))


class RunFolder:
    """The folder of a plugin's training runs.

    Args:
        source: the plugin.
        weights_path: where its weights are.
        dataset: what it is trained on.
        teachers: the plugins that it learns from.
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

    def save(self, settings: TrainSettings, state: State) -> None:
        """Write the checkpoint of a seed."""
        path = self._checkpoint(settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            torch.save(state | {"run": self._identity(settings)}, partial)

    def load(self, settings: TrainSettings) -> State | None:
        """Return the checkpoint of a seed, or None if there is none.

        Raises:
            UsageError: U502, it is of another run.
        """
        path = self._checkpoint(settings)
        if not path.is_file():
            return None
        state: State = torch.load(path, map_location="cpu", weights_only=True)
        refuse_other_run(str(path), json.loads(state["run"]), json.loads(self._identity(settings)))
        return state

    def forget(self) -> None:
        """Remove the checkpoints: the runs are over."""
        for path in self.folder.glob("seed-*.pt"):
            path.unlink()

    def install(self, tensors: dict[str, Tensor], made_by: dict[str, Any]) -> Path | None:
        """Put weights in their place; return where the ones before are kept, if there were others."""
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


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - for participants' code that uses the global generator
    torch.manual_seed(seed)


def random_state() -> State:
    """Return where all generators stand, as what `torch.load` reads without pickle."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - as above
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    numpy = (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest)
    return {"python": random.getstate(), "numpy": numpy, "torch": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: State) -> None:
    """Put all generators back."""
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002 - as above
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
