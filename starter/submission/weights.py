"""Weights files: read strictly into a model, and made of what other tools write.

A checkpoint of PyTorch is a pickle, which runs code when it is loaded without care. `convert` loads it
with `weights_only`; evaluation/runner/converter.py calls it in a process that has given up everything else.
"""

import argparse
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from starter.contract.errors import HINTS, Code, Problem, participant_error, problem
from starter.contract.submissions import PICKLES
from starter.contract.text import listed

_PICKLED = (b"PK\x03\x04", b"\x80")
"""What torch.save's files begin with: a zip, or a bare pickle."""

_WRAPPERS = {
    "_orig_mod.": ("torch.compile", r"(?:^|(?<=\.))_orig_mod\."),
    "module.": ("DataParallel", r"^module\."),
}
"""What tools put before the names of a network's tensors: at the front, torch.compile before any layer."""
_COUNTERS = {"total_ops": "thop", "total_params": "thop", "n_averaged": "AveragedModel"}
"""Tensors that tools add to a network."""


def load_weights_into(
    model: torch.nn.Module, path: Path, name: str | None = None, *, only: str | None = None
) -> list[Problem]:
    """Load a safetensors file strictly into the model; return what does not fit.

    Args:
        model: what is to have the weights.
        path: the file.
        name: what it is called in messages.
        only: the one weights file that comes with the plugin; None: any beside it.
    """
    name = name or path.name
    if not path.is_file():
        return [_missing(path, name, only)]
    try:
        found = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        if _is_pickle(path):
            return [_pickled(name)]
        return [problem(Code.WEIGHTS_UNREADABLE, where=name, got=str(error)[:300])]
    wanted = model.state_dict()
    if mistyped := _mistyped(wanted, found):
        return [problem(Code.WEIGHTS_MISFIT, where=name, got=mistyped)]
    try:
        model.load_state_dict(found)  # strictly; torch takes names of before as well
    except RuntimeError as error:
        return [_misfit(name, wanted, found, str(error))]
    return []


def _missing(path: Path, name: str, only: str | None) -> Problem:
    if only in {None, path.name}:
        return problem(Code.WEIGHTS_MISSING, where=name, got="no such file beside the plugin")
    if path.suffix.lower() in PICKLES:
        return _pickled(name)
    got, hint = f"a single-file plugin takes its weights only from {only}", HINTS["only_weights"].format(only)
    return problem(Code.WEIGHTS_MISSING, where=name, got=got, hint=hint)


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(9)
    # A safetensors file begins with the length of its JSON, which may look like a pickle.
    return head.startswith(_PICKLED) and not head.endswith(b"{")


def _pickled(name: str) -> Problem:
    is_misnamed = name.endswith(".safetensors")
    hint = (
        HINTS["convert_in_place"].format(name, name) if is_misnamed else HINTS["pickled_weights"].format(name)
    )
    return problem(Code.WEIGHTS_UNREADABLE, where=name, got="a pickle written by torch.save", hint=hint)


def _mistyped(wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> str:
    """Name the tensors whose numbers mean another thing: levels of a quantization, or complex ones."""
    wrong = [
        f"{key} is {found[key].dtype} in the file, {wanted[key].dtype} in the model".replace("torch.", "")
        for key in sorted(wanted.keys() & found.keys())
        if _kind(found[key].dtype) != _kind(wanted[key].dtype)
    ]
    return f"{len(wrong)} with another dtype: {listed(wrong)}" if wrong else ""


def _kind(dtype: torch.dtype) -> str:
    if dtype.is_floating_point or dtype.is_complex:
        return "complex" if dtype.is_complex else "real"
    return "integer"


def _misfit(
    name: str, wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], told: str
) -> Problem:
    """Return what does not fit, and where only what tools have added is in the way, how to take it out."""

    def fits(names: Mapping[str, str]) -> bool:
        return not _misfits(wanted, {names[key]: found[key] for key in names})

    names, notes = without_tools(list(found))
    if notes and fits(names):
        hint = HINTS["convert_in_place"].format(name, name)
        return problem(Code.WEIGHTS_MISFIT, where=name, got="; ".join(notes), hint=hint)
    if (prefix := common_prefix(names.values())) and fits(
        {key: own.removeprefix(prefix) for key, own in names.items()}
    ):
        hint = HINTS["convert_stripped"].format(name, prefix, name)
        return problem(Code.WEIGHTS_MISFIT, where=name, got=f"`{prefix}` before all keys", hint=hint)
    misfits = _misfits(wanted, found) or [" ".join(told.split())[:300]]
    return problem(Code.WEIGHTS_MISFIT, where=name, got="; ".join(misfits))


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


def common_prefix(names: Iterable[str]) -> str:
    """Return what all names begin with, up to a point: nothing where that differs.

    >>> common_prefix(["model.a.weight", "model.b.weight"]), common_prefix(["a.weight", "b.weight"])
    ('model.', '')
    """
    first = {".".join(name.split(".")[:1] * ("." in name)) for name in names}
    return f"{first.pop()}." if len(first) == 1 and "" not in first else ""


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
        raise _unreadable(source, "not a state dict: no dictionary of names and tensors")
    outer = [
        name
        for name in found
        if not any(name != o and f"{name}.".startswith(f"{o}.".lstrip(".")) for o in found)
    ]
    if entry is None and len(outer) > 1:
        raise LookupError(f"it holds {len(outer)} state dicts: {', '.join(outer)}")
    if entry is not None and entry not in found:
        raise LookupError(f"it holds no {entry!r}, but {', '.join(map(repr, found))}")
    entry = outer[0] if entry is None else entry
    tensors = {key: value for key, value in found[entry].items() if isinstance(value, torch.Tensor)}
    others = [key for key in found[entry] if key not in tensors]
    names, notes = without_tools(list(tensors))
    if strip:
        cut = {key: name.removeprefix(strip) for key, name in names.items()}
        stripped = sum(cut[key] != names[key] for key in names)
        if not stripped:
            raise LookupError(f"no key starts with {strip!r}: {listed(list(names.values()))}")
        notes.append(f"`{strip}` in {_keys(stripped)}, as you asked")
        names = cut
    if others:
        notes.append(f"{len(others)} that are not tensors: {listed(others)}")
    notes = [f"left out: {note}" for note in notes]
    if prefix := common_prefix(names.values()):
        notes.append(f"all keys start with `{prefix}`: --strip {prefix} removes it")
    if len(set(names.values())) < len(names):
        raise _unreadable(
            source, "two tensors have the same name once the prefixes that tools add are removed"
        )
    try:
        # Cloned: tensors that share memory, as tied weights do, are written as one each.
        written = {name: tensors[key].detach().contiguous().clone() for key, name in names.items()}
        save_file(written, target)
    except (SafetensorError, ValueError, RuntimeError, KeyError) as error:
        got = f"a tensor that safetensors cannot store: {' '.join(str(error).split())}"
        raise _unreadable(source, got[:300]) from error
    shown = [
        (name, list(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in written.items()
    ]
    return Converted(entry, shown, notes)


_SCALARS = (np.float64(0), np.float32(0), np.int64(0))
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    np.ndarray,
    *(type(scalar.dtype) for scalar in _SCALARS),
    np.float64(0).__reduce__()[0],
]
"""What training scripts keep beside the weights: their arguments, and scores as NumPy has them."""


def _loaded(source: Path) -> object:
    is_pickle = _is_pickle(source)
    try:
        if not is_pickle:
            return load_file(source)
        with warnings.catch_warnings(), torch.serialization.safe_globals(_HARMLESS):
            warnings.simplefilter("ignore")  # of a protocol that it may not know: then it raises
            return torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file does to a reader is anything
        if unsafe := _classes(source) if is_pickle else []:
            got, hint = f"more than tensors: {listed(unsafe)}", HINTS["pickled_module"]
            raise participant_error(Code.WEIGHTS_UNREADABLE, where=source.name, got=got, hint=hint) from error
        raise _unreadable(source, _described(source, error)) from error


_KINDS = {
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself: git lfs pull",
    b"<": "a web page; download the file again",
}
"""What else a file of that name may be, by its first bytes."""
_ZIPPED = {
    "constants.pkl": "a TorchScript file",
    ".npy": "NumPy arrays",
    "archive_format": "a program exported by torch.export",
}
"""What a zip that is no checkpoint may be, by the end of a name in it."""


def _described(source: Path, error: Exception) -> str:
    """Say what a file is that is no checkpoint; never what torch advises: to load it unsafely."""
    with source.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"PK"):
        try:
            with zipfile.ZipFile(source) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile:
            names = []
        kinds = (kind for end, kind in _ZIPPED.items() if any(name.endswith(end) for name in names))
        return next(kinds, "a damaged checkpoint, or another kind of zip")
    found = next((kind for start, kind in _KINDS.items() if head.startswith(start)), "")
    if head.startswith(b"\x80"):
        found = "a pickle that holds more than tensors"
    return found or f"neither a torch.save nor a safetensors file: {error}".split("\n")[0][:300]


def _classes(source: Path) -> list[str]:
    """Return what a pickle asks for beside tensors; nothing where it is no zip of torch.save."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(source))
    except Exception:  # noqa: BLE001 - as above
        return []


def _unreadable(source: Path, got: str) -> Exception:
    return participant_error(Code.WEIGHTS_UNREADABLE, where=source.name, got=got)


def _state_dicts(value: object, name: str = "", depth: int = 3) -> dict[str, Mapping[str, object]]:
    """Return the dictionaries from names to tensors in a checkpoint by their places, outer ones first."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return {}
    is_one = any(isinstance(item, torch.Tensor) and item.dim() for item in value.values())
    return ({name: value} if is_one else {}) | (dict(_below(value, name, depth)) if depth else {})


def _below(value: Mapping[str, object], name: str, depth: int) -> Iterator[tuple[str, Mapping[str, object]]]:
    for key, item in value.items():
        yield from _state_dicts(item, f"{name}.{key}".lstrip("."), depth - 1).items()
