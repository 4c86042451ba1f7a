"""Weights of other tools: what is wrong with a file is said with the command that corrects it."""

import argparse
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from starter.contract.errors import Code, ParticipantError
from starter.contract.protocol import WorkerReport
from starter.evaluation.runner.claims import read_report
from starter.submission.weights import convert, load_weights_into, without_tools

Weights = dict[str, torch.Tensor]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def under(prefix: str) -> Callable[[Weights], Weights]:
    return lambda weights: {prefix + key: value for key, value in weights.items()}


TOOLS: dict[str, tuple[Callable[[Weights], Weights], str]] = {
    "torch.compile": (under("_orig_mod."), "`_orig_mod.` in 4 keys, which torch.compile adds"),
    "torch.compile of a layer": (
        lambda weights: {key.replace("1.", "1._orig_mod."): value for key, value in weights.items()},
        "`_orig_mod.` in 2 keys, which torch.compile adds",
    ),
    "DataParallel": (under("module."), "`module.` in 4 keys, which DataParallel adds"),
    "both": (
        under("module._orig_mod."),
        "`_orig_mod.` in 4 keys, which torch.compile adds; `module.` in 4 keys, which DataParallel adds",
    ),
    "both, the other way": (
        under("_orig_mod.module."),
        "`_orig_mod.` in 4 keys, which torch.compile adds; `module.` in 4 keys, which DataParallel adds",
    ),
    "thop": (
        lambda weights: {**weights, "total_ops": torch.zeros(1), "0.total_params": torch.zeros(1)},
        "`total_ops` in 1 key, which thop adds; `total_params` in 1 key, which thop adds",
    ),
    "averaged": (
        lambda weights: {**under("module.")(weights), "n_averaged": torch.tensor(3)},
        "`n_averaged` in 1 key, which AveragedModel adds; `module.` in 4 keys, which DataParallel adds",
    ),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_what_a_tool_added_is_named_and_taken_out_by_the_command_that_is_told(
    tool: str, tmp_path: Path
) -> None:
    change, expected = TOOLS[tool]
    path = tmp_path / "net.safetensors"
    save_file(change(network().state_dict()), path)

    (found,) = load_weights_into(network(), path)
    assert (found.code, found.got) == (Code.WEIGHTS_MISFIT, expected)
    assert "starter convert net.safetensors --out net.safetensors" in found.hint
    shown = read_report(WorkerReport(problems=(found,)).model_dump_json().encode()).problems[0]
    assert shown.hint == found.hint  # a hint that is not the kit's own would be dropped

    assert convert(path, path).notes == [f"left out: {note}" for note in expected.split("; ")]
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    assert not load_weights_into(model, path)
    assert torch.equal(model[0].weight, network()[0].weight)


def test_what_does_not_fit_even_without_is_told_as_a_misfit(tmp_path: Path) -> None:
    wrong = {f"module.{key}x": value for key, value in network().state_dict().items()}
    save_file(wrong, tmp_path / "net.safetensors")

    (found,) = load_weights_into(network(), tmp_path / "net.safetensors")
    assert found.got.startswith(
        "4 missing: 0.bias, 0.weight, 1.bias, 1.weight; 4 unexpected: module.0.biasx, module.0"
    )
    assert "starter convert" not in found.hint


def test_a_layer_that_is_called_module_keeps_its_name() -> None:
    keys = ["module.weight", "head.weight", "a_module.weight", "x.module.bias"]

    assert without_tools(keys) == ({key: key for key in keys}, [])


def test_a_prefix_of_all_keys_is_named_with_the_command_that_takes_it_out(tmp_path: Path) -> None:
    """Lightning's `model.`, and DataParallel's around it."""
    for prefix in ("model.", "module.model."):
        path = tmp_path / "net.safetensors"
        save_file(under(prefix)(network().state_dict()), path)

        (found,) = load_weights_into(network(), path)
        assert (found.code, found.got) == (Code.WEIGHTS_MISFIT, "`model.` before all keys")
        assert "starter convert net.safetensors --strip model. --out net.safetensors" in found.hint
        assert "--strip model. removes it" in convert(path, tmp_path / "other.safetensors").notes[-1]
        convert(path, path, strip="model.")
        assert not load_weights_into(network(), path)


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64])
def test_numbers_that_mean_another_thing_are_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    save_file({k: v.to(dtype) for k, v in network().state_dict().items()}, tmp_path / "net.safetensors")

    (found,) = load_weights_into(network(), tmp_path / "net.safetensors")
    assert found.code is Code.WEIGHTS_MISFIT
    name = str(dtype).removeprefix("torch.")
    assert found.got.startswith(f"4 with another dtype: 0.bias is {name} in the file, float32 in the model")


def test_half_precision_and_what_torch_takes_strictly_is_taken(tmp_path: Path) -> None:
    """A batch norm of before has no count of batches; a weight norm of before has other names."""
    model = nn.Sequential(weight_norm(nn.Linear(3, 4)), nn.BatchNorm1d(4))
    weights = {key: value.half() for key, value in model.state_dict().items() if value.dim()}
    weights["0.weight_g"] = weights.pop("0.parametrizations.weight.original0")
    weights["0.weight_v"] = weights.pop("0.parametrizations.weight.original1")
    save_file(weights, tmp_path / "net.safetensors")

    assert not load_weights_into(model, tmp_path / "net.safetensors")


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.bin", "w.ckpt", "w.PT"])
def test_a_checkpoint_is_told_how_it_is_converted(name: str, tmp_path: Path) -> None:
    """A plugin of one file comes without it: there it is known by its name."""
    for only in ("net.safetensors", None):
        if only is None:
            (found,) = load_weights_into(network(), tmp_path / name)
            assert (found.code, found.got) == (Code.WEIGHTS_MISSING, "no such file beside the plugin")
            torch.save(network().state_dict(), tmp_path / name)
        (found,) = load_weights_into(network(), tmp_path / name, only=only)
        assert (found.code, found.got) == (Code.WEIGHTS_UNREADABLE, "a pickle written by torch.save")
        assert f"starter convert {name}" in found.hint


def test_a_checkpoint_by_another_name_is_told_too(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    for is_zip in (True, False):
        torch.save(network().state_dict(), path, _use_new_zipfile_serialization=is_zip)
        (found,) = load_weights_into(network(), path)
        assert (found.code, found.got) == (Code.WEIGHTS_UNREADABLE, "a pickle written by torch.save")


@pytest.mark.parametrize("length", [128, 640, 896, 1152])
def test_a_weights_file_that_begins_like_a_pickle_is_none(length: int, tmp_path: Path) -> None:
    """Its first bytes are the length of what follows: 128, or 128 and the number of a pickle's protocol."""
    path, note = tmp_path / "net.safetensors", ""
    while int.from_bytes(path.read_bytes()[:8] if path.exists() else b"", "little") != length:
        save_file({"w": torch.ones(1)}, path, metadata={"note": note})
        note += "n"

    (found,) = load_weights_into(network(), path)
    assert found.code is Code.WEIGHTS_MISFIT
    assert convert(path, tmp_path / "out.safetensors").tensors == [("w", [1], "float32")]


def checkpoint(path: Path, **entries: Any) -> Path:
    torch.save(entries, path)
    return path


def test_the_state_dict_of_a_checkpoint_is_found(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.zeros(1, 3)).sum().backward()
    optimizer.step()
    path = checkpoint(
        tmp_path / "last.ckpt",
        epoch=3,
        state_dict=under("net.")(model.state_dict()),
        optimizer_states=[optimizer.state_dict()],
        optimizer=optimizer.state_dict(),
        best=np.float64(0.7),
        args=argparse.Namespace(lr=0.1, layers=[1, 2]),
    )

    found = convert(path, tmp_path / "net.safetensors", strip="net.")
    assert found.entry == "state_dict"
    assert found.tensors[:2] == [("0.weight", [4, 3], "float32"), ("0.bias", [4], "float32")]
    assert found.notes == ["left out: `net.` in 4 keys, as you asked"]
    assert not load_weights_into(network(), tmp_path / "net.safetensors")


def test_of_several_state_dicts_one_is_chosen(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "x.pt", model=network().state_dict(), ema={"module": network().state_dict()})

    for entry, text in ((None, "2 state dicts: model, ema.module"), ("emma", "no 'emma', but 'model'")):
        with pytest.raises(LookupError, match=text):
            convert(path, tmp_path / "net.safetensors", entry=entry)
        assert not (tmp_path / "net.safetensors").exists()
    assert convert(path, tmp_path / "net.safetensors", entry="ema.module").entry == "ema.module"


def test_what_is_nested_in_a_state_dict_never_takes_its_place(tmp_path: Path) -> None:
    nested = {"amax": torch.ones(2)}
    path = checkpoint(tmp_path / "x.pt", **network().state_dict(), **{"0._extra_state": nested})

    found = convert(path, tmp_path / "net.safetensors")
    assert (len(found.tensors), found.notes) == (4, ["left out: 1 that are not tensors: 0._extra_state"])
    assert len(convert(path, tmp_path / "net.safetensors", entry="0._extra_state").tensors) == 1


def test_a_prefix_that_no_key_has_is_a_mistake(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "x.pt", **network().state_dict())

    with pytest.raises(LookupError, match=r"no key starts with 'net\.': 0\.weight"):
        convert(path, tmp_path / "net.safetensors", strip="net.")
    assert not (tmp_path / "net.safetensors").exists()


def test_tied_and_transposed_weights_become_tensors_of_their_own(tmp_path: Path) -> None:
    shared = torch.rand(4, 3)
    path = checkpoint(tmp_path / "x.pt", a=shared, b=shared, c=shared.t(), d=shared[1:], step=7)

    found = convert(path, tmp_path / "net.safetensors")
    written = load_file(tmp_path / "net.safetensors")
    assert found.notes == ["left out: 1 that are not tensors: step"]
    assert torch.equal(written["a"], written["b"])
    assert torch.equal(written["c"], shared.t())


class Payload:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (print, ("unpickled",))


def bare_pickle(value: object) -> bytes:
    buffer = io.BytesIO()
    pickle.dump(value, buffer)
    return buffer.getvalue()


def arrays() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        pytest.param(
            lambda path: torch.save(network(), path), "torch.nn.modules.linear.Linear", id="a module"
        ),
        pytest.param(lambda path: torch.save({"w": Payload()}, path), "print", id="code"),
        pytest.param(lambda path: path.write_bytes(bare_pickle(Payload())), "", id="a bare pickle of code"),
        pytest.param(lambda path: path.write_bytes(b"PK\x03\x04"), "", id="cut off"),
        pytest.param(lambda path: path.write_bytes(b""), "neither", id="empty"),
        pytest.param(lambda path: path.write_bytes(arrays()[:200]), "damaged", id="a zip cut off"),
        pytest.param(lambda path: path.write_bytes(arrays()[9:]), "neither", id="a zip without its head"),
        pytest.param(lambda path: path.write_bytes(b"<html>Sign in</html>"), "a web page", id="a web page"),
        pytest.param(lambda path: path.write_bytes(b"version https://git-lfs.gi"), "git lfs pull", id="LFS"),
        pytest.param(lambda path: path.write_bytes(arrays()), "NumPy arrays", id="NumPy"),
        pytest.param(
            lambda path: torch.save({"w": torch.eye(3).to_sparse()}, path), "cannot store", id="sparse"
        ),
        pytest.param(lambda path: torch.save([torch.ones(1)], path), "not a state dict", id="a list"),
        pytest.param(lambda path: torch.save({}, path), "not a state dict", id="nothing"),
        pytest.param(
            lambda path: torch.save({"module.a": torch.ones(1), "module._orig_mod.a": torch.ones(1)}, path),
            "two tensors have the same name",
            id="two of one name",
        ),
        pytest.param(
            lambda path: torch.save({"a": torch.ones(2, dtype=torch.complex128)}, path), "", id="complex"
        ),
    ],
)
def test_what_is_no_state_dict_is_refused_and_nothing_of_it_runs(
    content: Callable[[Path], object], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.pt"
    content(path)
    with pytest.raises(ParticipantError) as refused:
        convert(path, tmp_path / "net.safetensors")

    (found,) = refused.value.problems
    assert (found.code, found.where) == (Code.WEIGHTS_UNREADABLE, "x.pt")
    assert word in found.got
    assert "unpickled" not in capsys.readouterr().out
    assert not (tmp_path / "net.safetensors").exists()
