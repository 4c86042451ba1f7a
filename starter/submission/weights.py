"""Weights files: read strictly into a model, and made of what other tools write.

A checkpoint of PyTorch is a pickle, which runs code when it is loaded without care. `convert` loads it
with `weights_only`; evaluation/runner/converter.py calls it in a process that has given up everything else.
"""

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from starter.contract.errors import HINTS, Code, Problem, participant_error, problem
from starter.contract.submissions import PICKLES
from starter.contract.text import listed
from starter.graph.format import STORED_DTYPES

_PICKLED = (b"PK\x03\x04", b"\x80")
"""What torch.save's files begin with: a zip, or a bare pickle."""

_WRAPPERS = {
    "_orig_mod.": ("torch.compile", r"(?:^|(?<=\.))_orig_mod\."),
    "module.": ("DataParallel", r"^module\."),
}
"""What tools put before the names of a network's tensors: at the front, torch.compile before any layer."""
_COUNTERS = {"total_ops": "thop", "total_params": "thop", "n_averaged": "AveragedModel"}
"""Tensors that tools add to a network."""


def load_weights_into(model: torch.nn.Module, path: Path, *, only: str | None = None) -> list[Problem]:
    """Load a safetensors file strictly into the model; return what does not fit.

    Args:
        model: what is to have the weights.
        path: the file.
        only: the one weights file that comes with the plugin; None: any beside it.
    """
    if not path.is_file():
        return [_missing(path, only)]
    try:
        found = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        if _is_pickle(path):
            return [_pickled(path)]
        return [problem(Code.WEIGHTS_UNREADABLE, where=path.name, got=str(error)[:300])]
    if misfit := _misfit(path.name, model.state_dict(), found):
        return [misfit]
    model.load_state_dict(found)
    return []


def _missing(path: Path, only: str | None) -> Problem:
    if path.suffix in PICKLES:
        return _pickled(path)
    got = "no such file beside the plugin"
    if only not in {None, path.name}:
        got = f"a plugin of one file comes with {only} alone"
    return problem(Code.WEIGHTS_MISSING, where=path.name, got=got)


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(9)
    # A safetensors file begins with the length of its JSON, which may look like a pickle.
    return head.startswith(_PICKLED) and not head.endswith(b"{")


def _misfit(
    name: str, wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]
) -> Problem | None:
    """Return what does not fit, and where only what tools have added is in the way, how to take it out."""
    misfits = _misfits(wanted, found)
    if not misfits:
        return None
    names, notes = without_tools(list(found))
    if notes and not _misfits(wanted, {names[key]: found[key] for key in names}):
        hint = HINTS["keys_of_tools"].format(name, name)
        return problem(Code.WEIGHTS_MISFIT, where=name, got="; ".join(notes), hint=hint)
    return problem(Code.WEIGHTS_MISFIT, where=name, got="; ".join(misfits))


def _pickled(path: Path) -> Problem:
    hint = HINTS["pickled_weights"].format(path.name)
    return problem(Code.WEIGHTS_UNREADABLE, where=path.name, got="a pickle of torch.save", hint=hint)


def _misfits(wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> list[str]:
    missing = sorted(wanted.keys() - found.keys())
    surplus = sorted(found.keys() - wanted.keys())
    misshapen = [
        f"{key} is {tuple(found[key].shape)} in the file, {tuple(wanted[key].shape)} in the model"
        for key in sorted(wanted.keys() & found.keys())
        if wanted[key].shape != found[key].shape
    ]
    kinds = (("missing", missing), ("unexpected", surplus), ("misshapen", misshapen))
    return [f"{len(keys)} {kind}: {listed(keys)}" for kind, keys in kinds if keys]


def without_tools(keys: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return keys by their names as the network has them, and what tools have added to them.

    >>> without_tools(["module.fc.weight", "module.fc.total_ops"])[0]
    {'module.fc.weight': 'fc.weight'}
    """
    counters = [key for key in keys if key.rpartition(".")[2] in _COUNTERS]
    names = {key: key for key in keys if key not in counters}
    notes = [
        f"`{name}` in {_keys(count)}, which {tool} adds"
        for name, tool in _COUNTERS.items()
        if (count := sum(key.rpartition(".")[2] == name for key in counters))
    ]
    for wrapper, (tool, pattern) in _WRAPPERS.items():
        shorter = {key: re.sub(pattern, "", name) for key, name in names.items()}
        wrapped = sum(shorter[key] != name for key, name in names.items())
        # DataParallel wraps a whole network; "module" may also be what the network calls a layer.
        if wrapped and (wrapper == "_orig_mod." or wrapped == len(names)):
            notes.append(f"`{wrapper}` in {_keys(wrapped)}, which {tool} adds")
            names = shorter
    return names, notes


def _keys(count: int) -> str:
    return "1 key" if count == 1 else f"{count} keys"


def weights_header(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return what a safetensors file begins with, as the format's specification says.

    Raises:
        ParticipantError: E502; a type of tensor has no place in it.
    """
    header, end = {}, 0
    for key, tensor in tensors.items():
        if tensor.dtype not in STORED_DTYPES:
            raise participant_error(Code.DTYPE_REFUSED, where=f"weights {key!r}", got=str(tensor.dtype))
        start, end = end, end + tensor.nbytes
        dtype = STORED_DTYPES[tensor.dtype]
        header[key] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def memory_of(tensor: torch.Tensor) -> NDArray[np.uint8]:
    """Return the bytes of a contiguous tensor, uint8 (bytes of the tensor,), without a copy."""
    # Of a single element the stride says nothing, but a view as bytes asks for 1.
    flat = tensor.reshape(-1).as_strided((tensor.numel(),), (1,))
    array: NDArray[np.uint8] = flat.view(torch.uint8).numpy()
    return array


@dataclass(frozen=True)
class Converted:
    """What became of a checkpoint."""

    entry: str
    """Where the state dict was in it, "model" for instance; empty: it was the state dict."""
    tensors: list[tuple[str, list[int], str]]
    """Name, shape and dtype of each tensor that was written."""
    notes: list[str]
    """What was changed: names, and what was left out."""


def convert(source: Path, target: Path, *, entry: str | None = None, strip: str = "") -> Converted:
    """Write the state dict of a checkpoint as a safetensors file, with the names as the network has them.

    Args:
        source: what torch.save or safetensors has written.
        target: the new file.
        entry: which one of several state dicts; None: the only one.
        strip: what else all names begin with, and is left out.

    Raises:
        ParticipantError: E202; it holds no tensors, or more than tensors.
        LookupError: it holds no state dict `entry`, or several; the text names them.
    """
    found = _state_dicts(_loaded(source))
    if not found:
        raise _unreadable(source, "no state dict: no dictionary from names to tensors")
    if entry is None and len(found) > 1:
        raise LookupError(f"it holds {len(found)} state dicts: {', '.join(found)}")
    if entry is not None and entry not in found:
        raise LookupError(f"it holds no {entry!r}, but {', '.join(map(repr, found))}")
    entry = next(iter(found)) if entry is None else entry
    tensors = {key: value for key, value in found[entry].items() if isinstance(value, torch.Tensor)}
    others = [key for key in found[entry] if key not in tensors]
    names, notes = without_tools(list(tensors))
    if strip:
        cut = {key: name.removeprefix(strip) for key, name in names.items()}
        stripped = sum(cut[key] != names[key] for key in names)
        notes.append(f"`{strip}` in {_keys(stripped)}, as you asked")
        names = cut
    if others:
        notes.append(f"{len(others)} that are no tensors: {listed(others)}")
    if len(set(names.values())) < len(names):
        raise _unreadable(source, "two tensors of one name, once what tools add is left out")
    # Cloned: tensors that share memory, as tied weights do, are written as one each.
    written = {name: tensors[key].detach().contiguous().clone() for key, name in names.items()}
    try:
        save_file(written, target)
    except (SafetensorError, ValueError, RuntimeError, KeyError) as error:
        raise _unreadable(source, f"a tensor that safetensors has no form for: {error}"[:300]) from error
    shown = [
        (name, list(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in written.items()
    ]
    return Converted(entry, shown, notes)


def _loaded(source: Path) -> object:
    is_pickle = _is_pickle(source)
    try:
        if not is_pickle:
            return load_file(source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a protocol that it may not know: then it raises
            return torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file does to a reader is anything
        if unsafe := _classes(source) if is_pickle else []:
            got, hint = f"more than tensors: {listed(unsafe)}", HINTS["pickled_module"]
            raise participant_error(Code.WEIGHTS_UNREADABLE, where=source.name, got=got, hint=hint) from error
        kind = "" if is_pickle else "neither torch.save's nor a safetensors file: "
        raise _unreadable(source, f"{kind}{error}".split("\n")[0][:300]) from error


def _classes(source: Path) -> list[str]:
    """Return what a pickle asks for beside tensors; nothing where it is no zip of torch.save."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(source))
    except Exception:  # noqa: BLE001 - as above
        return []


def _unreadable(source: Path, got: str) -> Exception:
    return participant_error(Code.WEIGHTS_UNREADABLE, where=source.name, got=got)


def _state_dicts(value: object, name: str = "", depth: int = 3) -> dict[str, Mapping[str, object]]:
    """Return the dictionaries from names to tensors in a checkpoint, by where they are."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return {}
    below = dict(_below(value, name, depth)) if depth else {}
    if not below and any(isinstance(item, torch.Tensor) for item in value.values()):
        return {name: value}
    return below


def _below(value: Mapping[str, object], name: str, depth: int) -> Iterator[tuple[str, Mapping[str, object]]]:
    for key, item in value.items():
        yield from _state_dicts(item, f"{name}.{key}".lstrip("."), depth - 1).items()
