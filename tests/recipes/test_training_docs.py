"""docs/training.md: every switch of its three commands is in an example, and every example runs."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import GOOD
from safetensors.torch import save_file
from torch import nn

from starter.cli import app as cli
from starter.contract.system import extras
from starter.data.dataset import Dataset

TEXT = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
EXAMPLES = [line for block in BLOCKS for line in block.splitlines()]
COMMANDS = ("train", "compress", "search")

NETWORK = (
    GOOD.replace(
        "self.head = nn.Linear(3, 3)",
        """self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1))
        self.head = nn.Linear(16, 3)""",
    )
    .replace(
        """
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(3))
            self.head.bias.zero_()""",
        "",
    )
    .replace("self.head(images.mean((2, 3)))", "self.head(self.layers(images).mean((2, 3)))")
)
"""A network that every method can make smaller; its convolutions cost 16 x 27 x 4 x 4 + 16 x 144 x 2 x 2."""

STAND_INS = {
    "--epochs": "1", "--batch-size": "8", "--seeds": "2", "--trials": "1", "--patience": "1", "--jobs": "1",
    "--max-macs": "3000000", "--macs": "14000",
}  # fmt: skip
"""What an example's numbers become, so that it takes seconds."""


def options(command: str) -> set[str]:
    found = cli.load(command).params
    return {name for param in found for name in (*param.opts, *param.secondary_opts) if name.startswith("--")}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_switch_is_in_an_example_and_no_other(command: str) -> None:
    lines = [line for line in EXAMPLES if line.startswith(f"starter {command} ")]
    shown = {word for line in lines for word in shlex.split(line) if word.startswith("--")}
    assert shown == options(command)


@pytest.fixture
def folder(tmp_path: Path, easy_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A competition on the easy data, with the plugins that the examples name."""
    rules = f'name = "mine"\ndataset = "{easy_dataset.root}"\n'
    (tmp_path / "competition.toml").write_text(rules, encoding="utf-8")
    for name in ("mine", "big", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "plugin.py").write_text(NETWORK, encoding="utf-8")
        save_file(network().state_dict(), tmp_path / name / "weights.safetensors")
    (tmp_path / "DATA").symlink_to(easy_dataset.root)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def network() -> nn.Module:
    names: dict[str, type[nn.Module]] = {}
    exec(NETWORK.split("@hookimpl")[0], names)  # noqa: S102 - our own text
    torch.manual_seed(0)
    return names["Network"]()


def run(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run an example in this process, which has loaded torch already."""
    words = shlex.split(line)[1:]
    for i in range(1, len(words)):
        words[i] = STAND_INS.get(words[i - 1], words[i])
    more = ["--epochs", "1", "--batch-size", "8"]
    if words[0] == "compress":  # scoring loads torch twice: where it is not asked for, it is left out
        more = ["--isolation", "none", *([] if {"--score", "--json"} & set(words) else ["--no-score"])]
    monkeypatch.setattr("sys.argv", ["starter", words[0], *more, *words[1:]])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0, line


@pytest.mark.parametrize("line", [line for line in EXAMPLES if line.startswith("starter train mine")])
def test_an_example_of_train_runs(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(line, monkeypatch)
    assert (folder / "mine" / "weights.safetensors").is_file()


@pytest.mark.long
def test_the_examples_of_compress_run_in_their_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = TEXT.index("## starter compress")
    (block,) = re.findall(r"```sh\n(.*?)```", TEXT[start : TEXT.index("## starter search")], re.DOTALL)
    for line in block.splitlines():
        run(line, monkeypatch)

    made = re.findall(r"--out (\w+)", block)
    assert len(made) == len(set(made)) == 9
    assert all((folder / name / "plan.json").is_file() for name in made)
    results = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["results"]
    before, after = ({r["name"]: r for r in results}[name] for name in ("mine", "folded3"))
    assert after["macs"] < before["macs"]


@pytest.mark.slow
def test_the_examples_of_search_run_in_their_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in EXAMPLES:
        if line.startswith("starter search"):
            run(line, monkeypatch)
    assert (folder / "found" / "index.html").is_file()
    assert json.loads((folder / "front.json").read_text(encoding="utf-8"))["front"]


@pytest.mark.parametrize(("module", "words"), [
    ("tensorboard", ["train", "mine", "--tensorboard", "logs"]),
    ("torch_pruning", ["compress", "mine", "--method", "prune", "--out", "pruned"]),
    ("tensorly", ["compress", "mine", "--method", "tucker", "--out", "thin"]),
    ("optuna", ["search", "--out", "found"]),
])  # fmt: skip
def test_a_missing_package_is_told_by_the_name_of_its_extra(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    module: str,
    words: list[str],
) -> None:
    import importlib.util

    real: Callable[[str], object] = importlib.util.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == module else real(name))
    monkeypatch.setattr("sys.argv", ["starter", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    extra = {"torch_pruning": "compress", "tensorly": "compress", "optuna": "search"}.get(module, module)

    assert ended.value.code == 2
    assert f"-e '.[{extra}]'" in "".join(capsys.readouterr())
    assert (folder / "mine").is_dir()


@pytest.mark.parametrize(("words", "told"), [
    (["--method", "quantize", "--keep", "0.5"], "--method quantize takes no --keep"),
    (["--method", "quantize", "--bits", "5"], "8 or 4, not 5"),
    (["--method", "prune", "--bits", "4"], "--method prune takes no --bits"),
    (["--method", "prune", "--keep", "0.5", "--macs", "9"], "give --keep or --macs, not both"),
    (["--macs", "9"], "--method reparameterize takes no --macs: it folds all it can"),
])  # fmt: skip
def test_options_of_another_method_are_told(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    told: str,
) -> None:
    monkeypatch.setattr("sys.argv", ["starter", "compress", "mine", "--out", "small", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == 2
    assert told in " ".join("".join(capsys.readouterr()).replace("│", " ").split())
    assert not (folder / "small").exists()
