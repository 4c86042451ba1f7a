"""`starter convert`, as it is typed: a checkpoint becomes a weights file, or a message says what to do."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn


def starter(*arguments: str, cwd: Path) -> tuple[int, str, str]:
    """Return the exit code, what is printed, and what is told."""
    command = [sys.executable, "-m", "starter", *arguments]
    run = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    return run.returncode, run.stdout, " ".join(run.stderr.split())


class Payload:
    """What writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return (open, (str(self.path), "w"))


@pytest.mark.slow
def test_a_checkpoint_is_converted_and_its_keys_are_shown(tmp_path: Path) -> None:
    weights = {f"module.{key}": value for key, value in nn.Linear(3, 2).state_dict().items()}
    torch.save({"model": weights, "epoch": 3}, tmp_path / "x.pt")

    code, shown, told = starter("convert", "x.pt", cwd=tmp_path)
    assert (code, shown.splitlines()) == (
        0,
        [
            "weight  2 x 3  float32",
            "bias        2  float32",
            "left out: `module.` in 2 keys, which DataParallel adds",
            f"x.safetensors  {(tmp_path / 'x.safetensors').stat().st_size:,} bytes, 2 tensors",
        ],
    )
    assert 'weights="x.safetensors"' in told
    assert torch.equal(load_file(tmp_path / "x.safetensors")["weight"], weights["module.weight"])

    code, _, told = starter("convert", "x.pt", cwd=tmp_path)
    assert (code, "starter convert x.pt --out x.safetensors" in told) == (2, True)
    assert starter("convert", "x.pt", "--out", "x.safetensors", cwd=tmp_path)[0] == 0


@pytest.mark.slow
def test_what_cannot_be_converted_is_whose_fault_it_is(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(pickle.dumps({"w": Payload(tmp_path / "written")}))
    code, _, told = starter("convert", "x.pt", cwd=tmp_path)
    assert (code, "E202" in told) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]

    assert starter("convert", "y.pt", cwd=tmp_path)[0] == 2
    for target in (".", "no/such/place.safetensors"):
        assert starter("convert", "x.pt", "--out", target, cwd=tmp_path)[0] == 2
    torch.save({"a": {"w": torch.ones(1)}, "b": {"w": torch.ones(1)}}, tmp_path / "x.pt")
    code, _, told = starter("convert", "x.pt", cwd=tmp_path)
    assert code == 2
    assert "2 state dicts: a, b; choose one: starter convert x.pt --entry NAME" in told
