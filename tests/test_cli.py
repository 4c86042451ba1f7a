"""The command line as people use it: real processes, real plugins, real exit codes."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import GOOD

from starter.dataset import Dataset
from starter.errors import CATALOGUE
from starter.training import TrainSettings

COMPETITION = """
name = "test"
dataset = "data"
baseline = "baseline"
submissions = "submissions"

[limits]
wall_seconds = 30
memory_mb = 2500
"""


@dataclass
class Run:
    """What a command printed and how it ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        return {r["name"]: r for r in json.loads(self.stdout)["results"]}


def starter(*arguments: str | Path, cwd: Path) -> Run:
    command = [sys.executable, "-m", "starter", *map(str, arguments)]
    run = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    return Run(run.returncode, run.stdout, run.stderr)


BAD = {
    "no_hook": ("E101", "invalid", GOOD.replace("@hookimpl", "")),
    "raises": ("E401", "invalid", GOOD.replace("return self.head(", "return self.haed(")),
    "not_a_number": ("E601", "invalid", GOOD.replace("images.mean((2, 3)))", "images.mean((2, 3))) / 0 * 0")),
    "wrong_shape": (
        "E402",
        "invalid",
        GOOD.replace("nn.Linear(3, 3)", "nn.Linear(3, 4)").replace("torch.eye(3)", "0"),
    ),
    "random_crop": ("E302", "invalid", GOOD.replace("v2.Resize(", "v2.RandomCrop(")),
    "sorts": (
        "E501",
        "unsupported",
        GOOD.replace("images.mean((2, 3))", "images.mean((2, 3)).sort(1).values"),
    ),
    "exits": ("E706", "crash", GOOD.replace("import torch\n", "import os, torch\nos._exit(0)\n", 1)),
    "eats": ("E702", "memory", GOOD + "\nheap = [b'x' * 2**26 + bytes([i % 256]) for i in range(1000)]\n"),
    "loops": ("E701", "timeout", GOOD + "\nwhile True: pass\n"),
}


@pytest.fixture(scope="module")
def competition(tmp_path_factory: pytest.TempPathFactory, easy_dataset: Dataset) -> Path:
    """A competition folder whose baseline is a good plugin, measured by the command itself."""
    root = tmp_path_factory.mktemp("competition")
    (root / "competition.toml").write_text(COMPETITION, encoding="utf-8")
    shutil.copytree(easy_dataset.root, root / "data")
    (root / "submissions").mkdir()
    (root / "baseline").mkdir()
    (root / "baseline" / "plugin.py").write_text(GOOD, encoding="utf-8")
    measured = starter("baseline", "measure", cwd=root)
    assert measured.code == 0, measured.stderr
    return root


@pytest.fixture(scope="module")
def board(competition: Path) -> Run:
    """One run over a good plugin and every kind of bad one."""
    for name, (_, _, text) in BAD.items():
        (competition / "submissions" / f"{name}.py").write_text(text, encoding="utf-8")
    (competition / "submissions" / "good.py").write_text(GOOD, encoding="utf-8")
    (competition / "submissions" / "not a name!.py").write_text(GOOD, encoding="utf-8")
    return starter("score", "--json", "-", cwd=competition)


@pytest.mark.parametrize("name", BAD)
def test_each_bad_plugin_gets_its_own_verdict(board: Run, name: str) -> None:
    code, status, _ = BAD[name]
    result = board.results[name]
    assert (result["error"]["code"], result["status"]) == (code, status)
    assert result["score"] is None
    assert not result["ranked"]


def test_the_others_are_still_scored(board: Run) -> None:
    good, baseline = board.results["good"], board.results["baseline"]
    assert good["status"] == "ok"
    assert good["macs"] == 3 * 8 * 8 + 3 * 3
    assert good["macro_f1"] == 1.0
    assert good["score"] == baseline["score"] == 1.0
    assert board.results["not a name!"]["error"]["code"] == "E108"
    assert board.code == 1


def test_a_result_has_the_promised_fields(board: Run) -> None:
    promised = (
        "name status macs contraction_macs thop_macs params macro_f1 macs_ratio f1_term branch score "
        "ranked error"
    )
    assert set(promised.split()) <= set(board.results["good"])
    assert set(board.results["loops"]["error"]) == {"code", "stage", "where", "expected", "got", "hint"}


def test_a_limit_that_strikes_is_told_with_the_measured_value(board: Run) -> None:
    error = board.results["loops"]["error"]
    assert error["expected"] == "at most 30 s"
    assert float(error["got"].split()[0]) >= 30


def test_validate_reports_all_problems_of_a_plugin_at_once(competition: Path) -> None:
    text = GOOD.replace("v2.Resize((8, 8))", "v2.RandomCrop(8), v2.ColorJitter()").replace(
        "model=Network()", "model=Network(), weights='missing.safetensors'"
    )
    plugin = competition / "many.py"
    plugin.write_text(text, encoding="utf-8")

    run = starter("validate", plugin, cwd=competition)

    assert run.code == 1
    assert [run.stdout.count(f"explain {code}") for code in ("E201", "E302")] == [1, 2]


def test_a_plain_run_prints_every_term_of_the_score(competition: Path) -> None:
    plugin = competition / "plain.py"
    plugin.write_text(GOOD, encoding="utf-8")

    run = starter("score", plugin, cwd=competition)

    assert run.code == 0, run.stderr
    assert "plain  ok  macro-F1 1.0000  MACs 201  score 1.0000" in run.stdout
    assert "201 / 201 MACs + 0.5 x (1 - 1.0000/1.0000) = 1.0000 + 0.0000 = 1.0000" in run.stdout
    assert "1 submission, 1 ok" in run.stdout
    assert "\x1b" not in run.stdout


def test_the_baseline_measures_again_as_it_did(competition: Path) -> None:
    assert starter("baseline", "check", cwd=competition).code == 0

    reference = competition / "baseline" / "reference.json"
    kept = reference.read_text(encoding="utf-8")
    reference.write_text(kept.replace('"macs": 201', '"macs": 200'), encoding="utf-8")
    differs = starter("baseline", "check", cwd=competition)
    reference.write_text(kept, encoding="utf-8")

    assert differs.code == 2
    assert "U305" in differs.stderr
    assert "reference.json: macs" in differs.stderr


def test_a_stale_baseline_is_refused_with_the_command_that_mends_it(
    competition: Path, tmp_path: Path
) -> None:
    root = tmp_path / "stale"
    shutil.copytree(competition, root, ignore=shutil.ignore_patterns("submissions"))
    (root / "submissions").mkdir()
    shutil.copy(competition / "baseline" / "plugin.py", root / "submissions" / "mine.py")
    test_csv, solution = root / "data" / "test.csv", root / "data" / "solution.csv"
    for path in (test_csv, solution):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(lines[:-1]), encoding="utf-8")

    run = starter("score", cwd=root)

    assert run.code == 2
    assert "U302" in run.stderr
    assert "starter baseline measure" in run.stderr


def test_a_broken_image_is_named_and_nothing_is_scored(competition: Path, tmp_path: Path) -> None:
    root = tmp_path / "broken"
    shutil.copytree(competition, root, ignore=shutil.ignore_patterns("submissions"))
    broken = next(iter((root / "data" / "test.csv").read_text(encoding="utf-8").split()[1:]))
    (root / "data" / "images" / broken).write_bytes(b"not an image")

    run = starter("validate", root / "baseline", cwd=root)

    assert run.code == 2
    assert "U203" in run.stderr
    assert broken in run.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("score", "nowhere.py"), "U101"),
        (("score", "--data", "nowhere"), "U201"),
        (("score", "--baseline", "submissions"), "U301"),
        (("score", "--competition", "nowhere.toml"), "U103"),
        (("explain", "E999"), "U105"),
        (("data", "check", "nowhere"), "U201"),
    ],
)
def test_wrong_usage_is_exit_2_with_its_code(
    competition: Path, arguments: tuple[str, ...], code: str
) -> None:
    run = starter(*arguments, cwd=competition)
    assert run.code == 2
    assert code in run.stderr
    assert run.stdout == ""


def test_an_empty_submissions_folder_says_how_to_begin(competition: Path, tmp_path: Path) -> None:
    shutil.copy(competition / "competition.toml", tmp_path)
    (tmp_path / "submissions").mkdir()
    run = starter("score", cwd=tmp_path)
    assert run.code == 2
    assert "starter init my_first_model" in run.stderr


def test_an_unknown_option_is_usage(tmp_path: Path) -> None:
    assert starter("score", "--fast", cwd=tmp_path).code == 2
    assert starter("train", "x.py", "--epochs", "many", cwd=tmp_path).code == 2


def test_a_setting_out_of_range_names_its_option(competition: Path) -> None:
    run = starter("train", "baseline", "--lr", "-1", cwd=competition)
    assert run.code == 2
    assert "--lr" in run.stderr


@pytest.mark.parametrize("code", list(CATALOGUE))
def test_every_code_can_be_explained(code: str) -> None:
    entry = CATALOGUE[code]
    assert all((entry.title, entry.why, entry.fix, entry.stage))


def test_explain_prints_the_entry(tmp_path: Path) -> None:
    run = starter("explain", "e501", cwd=tmp_path)
    assert run.code == 0
    assert CATALOGUE["E501"].why in run.stdout
    assert len(starter("explain", cwd=tmp_path).stdout.splitlines()) == len(CATALOGUE)


def test_help_loads_no_torch(tmp_path: Path) -> None:
    code = "import sys; sys.argv[1:] = ['--help']; from starter.cli import app; app(standalone_mode=False)"
    code += "; sys.exit('torch' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0
    for command in ("score", "validate", "init", "train", "explain", "data", "baseline"):
        assert command in run.stdout


def test_the_options_of_train_have_the_recipes_defaults() -> None:
    import inspect

    from starter.cli import train

    options = inspect.signature(train).parameters
    for name, field in TrainSettings.model_fields.items():
        assert options[name].default == field.default, name


def test_init_writes_a_submission_and_overwrites_nothing(competition: Path, tmp_path: Path) -> None:
    made = starter("init", "mine", "--dir", tmp_path, cwd=competition)
    again = starter("init", "mine", "--dir", tmp_path, cwd=competition)
    misnamed = starter("init", "../mine", "--dir", tmp_path, cwd=competition)

    assert made.code == 0
    assert (tmp_path / "mine" / "plugin.py").is_file()
    assert again.code == 2
    assert "U106" in again.stderr
    assert misnamed.code == 2


def test_names_cannot_write_to_the_terminal() -> None:
    from starter.scoreboard import clean

    assert "\x1b" not in clean("\x1b[2Jwiped")
    assert clean("two\nlines") == "two\nlines"
