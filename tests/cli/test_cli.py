"""The command line as people use it: real processes, real plugins, real exit codes."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import GOOD, drawn_image
from PIL import Image
from safetensors.torch import save_file
from usual import usually

from starter.cli.app import COMMANDS, load
from starter.contract.errors import CATALOGUE
from starter.data.dataset import Dataset
from starter.data.writer import Description, Item, Split, write_dataset
from starter.recipes.training.settings import TrainSettings

COMPETITION = """
name = "test"
dataset = "data"
baseline = "baseline"
submissions = "submissions"

[limits]
wall_seconds = 60
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


def python(*arguments: str, cwd: Path, **environment: str) -> Run:
    command = [sys.executable, *arguments]
    run = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env=os.environ | environment
    )
    return Run(run.returncode, run.stdout, run.stderr)


def starter(*arguments: str | Path, cwd: Path) -> Run:
    return python("-m", "starter", *map(str, arguments), cwd=cwd)


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
    assert set(board.results["raises"]["error"]) == {"code", "stage", "where", "expected", "got", "hint"}


@pytest.mark.long
def test_a_limit_that_is_exceeded_is_told_with_the_measured_value(competition: Path) -> None:
    """In a run of its own: honest plugins would exceed so short a limit on a busy machine."""
    (competition / "loops.py").write_text(GOOD + "\nwhile True: pass\n", encoding="utf-8")
    rules = competition / "short.toml"
    rules.write_text(COMPETITION.replace("wall_seconds = 60", "wall_seconds = 6"), encoding="utf-8")

    run = starter("score", "loops.py", "--competition", rules, "--json", "-", cwd=competition)

    result = run.results["loops"]
    assert (run.code, result["status"], result["error"]["code"]) == (1, "timeout", "E701")
    assert result["error"]["expected"] == "at most 6 s"
    assert float(result["error"]["got"].split()[0]) >= 6


@pytest.mark.long
def test_a_checkpoint_that_nobody_reads_is_a_warning_on_the_row(competition: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(GOOD, encoding="utf-8")
    (tmp_path / "x.pt").write_bytes(b"PK\x03\x04")

    run = starter("score", "net.py", "--competition", competition / "competition.toml", cwd=tmp_path)
    assert run.code == 0, run.stderr
    row, *lines = run.stdout.splitlines()
    assert row.startswith("net (!)  ok  macro-F1 1.0000")
    assert row.endswith("  with a warning")
    command = "starter convert x.pt --out net.safetensors"
    told = f"  warning: random weights: x.pt is not read. Convert it, in the plugin's folder: {command}"
    assert told in lines
    assert str(tmp_path) not in told


WEIGHTS = {"head.weight": torch.eye(3), "head.bias": torch.zeros(3)}

UNREAD = {
    "best/BEST.PT": "Convert it, in the plugin's folder: starter convert BEST.PT --out weights.safetensors",
    "model/model.safetensors": 'Name it: Submission(..., weights="model.safetensors")',
    "onnx/net.onnx": "Weights are safetensors files",
    "single/best.safetensors": "Rename it: single.safetensors",
}
"""Weights that nothing reads, and what to do. A plugin is single.py in its folder, or the whole folder."""

READ = {
    "opened": GOOD + "\ntorch.load(__file__.replace('plugin.py', 'x.pt'))\n",
    "with_weights": GOOD,
    "beside_another": GOOD,
}
"""Plugins with a checkpoint beside them, which read it, have other weights, or do not own it."""

COMPILED = GOOD.replace("    def forward(", "    @torch.compile(fullgraph=True)\n    def forward(").replace(
    "model=Network()", "model=torch.compile(Network(), mode='max-autotune')"
)

OWN_METHODS = {
    # A lazy layer has no weights to be set before its first call.
    "lazy": GOOD.replace("nn.Linear(3, 3)", "nn.LazyLinear(3)")
    .replace("            self.head.weight.copy_(torch.eye(3))\n", "            pass\n")
    .replace("            self.head.bias.zero_()\n", ""),
    "loads": GOOD.replace(
        "def forward(", "def load_state_dict(self, path):\n        1 / 0\n    def forward("
    ),
    "lists": GOOD.replace("def forward(", "def modules(self):\n        return 1 / 0\n    def forward("),
}


@pytest.fixture(scope="module")
def validated(competition: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run over plugins that are valid, or nearly, each in a way of its own."""
    place = tmp_path_factory.mktemp("validated")
    sources: list[Path] = []

    def write(path: str, text: str) -> Path:
        plugin = place / path
        plugin.parent.mkdir(exist_ok=True)
        plugin.write_text(text, encoding="utf-8")
        sources.append(plugin.parent if plugin.name == "plugin.py" else plugin)
        return plugin.parent

    for name in UNREAD:
        entry = name.split("/")[0]
        write(f"{entry}/single.py" if entry == "single" else f"{entry}/plugin.py", GOOD)
        save_file(WEIGHTS, place / name)
    for name, text in READ.items():
        file = "beside_another.py" if name == "beside_another" else "plugin.py"
        folder = write(f"{name}/{file}", text)
        torch.save(torch.nn.Linear(3, 3).state_dict(), folder / "x.pt")
    save_file(WEIGHTS, place / "with_weights" / "weights.safetensors")
    (place / "beside_another" / "b.py").write_text(GOOD, encoding="utf-8")
    write("compiled/compiled.py", COMPILED)
    for name, text in OWN_METHODS.items():
        save_file(WEIGHTS, write(f"{name}/{name}.py", text) / f"{name}.safetensors")
    rules = competition / "competition.toml"
    return starter("validate", *sources, "--json", "-", "--competition", rules, cwd=place)


@pytest.mark.long
@pytest.mark.parametrize("name", READ)
def test_a_checkpoint_is_no_warning_where_it_is_read_or_another_ones(validated: Run, name: str) -> None:
    result = validated.results[name]
    assert (result["status"], "warnings" in result) == ("ok", False)


@pytest.mark.slow
@pytest.mark.parametrize("name", UNREAD)
def test_weights_by_any_name_that_nobody_reads_are_a_warning(validated: Run, name: str) -> None:
    folder, weights = name.split("/")
    (warning,) = validated.results[folder]["warnings"]
    assert warning.startswith(f"random weights: {weights} is not read. {UNREAD[name]}")


@pytest.mark.slow
def test_what_is_compiled_in_a_plugin_is_run_as_it_is_written(validated: Run) -> None:
    assert validated.results["compiled"]["macs"] == 3 * 8 * 8 + 3 * 3


@pytest.mark.slow
def test_a_layer_that_is_lazy_until_it_is_called_is_valid(validated: Run) -> None:
    assert validated.results["lazy"]["status"] == "ok", validated.results["lazy"]["error"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["loads", "lists"])
def test_a_method_of_a_models_own_that_raises_is_named_by_its_line(validated: Run, name: str) -> None:
    error = validated.results[name]["error"]
    assert error["code"] == "E401"
    number = int(re.search(rf"{name}\.py:(\d+)", error["where"])[1])
    assert "1 / 0" in OWN_METHODS[name].splitlines()[number - 1]


@pytest.mark.long
def test_validate_tries_the_longest_picture_of_the_data_set(competition: Path, tmp_path: Path) -> None:
    """It is none of those that `validate` answers first: `score` would find it alone."""
    picture = io.BytesIO()
    Image.new("RGB", (1200, 16)).save(picture, "PNG")
    splits: tuple[Split, ...] = ("train", "Public", "Public")
    items = [Item(f"{i:03d}.jpg", drawn_image(i % 3, i), i % 3, splits[i % 3]) for i in range(60)]
    items.append(Item("long.png", picture.getvalue(), 0, "Public"))
    write_dataset(tmp_path / "data", items, Description(name="long", classes=("Metal", "Paper", "Plastic")))
    text = GOOD.replace("v2.Resize((8, 8))", "v2.Resize(900), v2.CenterCrop(8)")
    (tmp_path / "net.py").write_text(text, encoding="utf-8")
    rules = competition / "competition.toml"

    run = starter("validate", "net.py", "--data", "data", "--competition", rules, cwd=tmp_path)
    assert run.code == 1
    assert "E305" in run.stdout
    assert "transforms[0]: Resize, on an image of 1200x16 pixels" in run.stdout


def test_validate_reports_all_problems_of_a_plugin_at_once(competition: Path) -> None:
    text = GOOD.replace("v2.Resize((8, 8))", "v2.RandomCrop(8), v2.ColorJitter()").replace(
        "model=Network()", "model=Network(), weights='missing.safetensors'"
    )
    plugin = competition / "many.py"
    plugin.write_text(text, encoding="utf-8")

    run = starter("validate", plugin, cwd=competition)

    assert run.code == 1
    assert [run.stdout.count(f"explain {code}") for code in ("E201", "E302")] == [1, 2]


def test_a_plain_run_prints_every_term_of_the_score_and_writes_the_same_as_json(competition: Path) -> None:
    plugin = competition / "plain.py"
    plugin.write_text(GOOD, encoding="utf-8")

    run = starter("score", plugin, "--smoke", "--json", "plain.json", cwd=competition)

    assert run.code == 0, run.stderr
    assert "plain  ok  macro-F1 1.0000  MACs 201  score 1.0000" in run.stdout
    assert "201 / 201 MACs + 0.5 x (1 - 1.0000/1.0000) = 1.0000 + 0.0000 = 1.0000" in run.stdout
    assert "relative to baseline: macro-F1 1.0000  MACs 201" in run.stdout
    assert "Not official" in run.stdout
    assert run.stdout.endswith("\n1 submission: 1 ranked\n")
    assert "\x1b" not in run.stdout + run.stderr
    (written,) = json.loads((competition / "plain.json").read_text(encoding="utf-8"))["results"]
    assert (written["name"], written["macs"], written["official"]) == ("plain", 201, False)


@pytest.mark.long
def test_an_entry_over_the_budget_is_told_by_how_much_and_costs_are_weighed(competition: Path) -> None:
    plugin = competition / "dear.py"
    plugin.write_text(GOOD, encoding="utf-8")
    rules = competition / "costs.toml"
    costs = "[score]\ncost = {macs = 0.5, weight_bytes = 0.25, peak_memory_bytes = 0.25}\n"
    rules.write_text(f"{COMPETITION}\n{costs}", encoding="utf-8")
    run = starter("score", plugin, "--competition", rules, "--json", "-", cwd=competition)

    found = run.results["dear"]
    assert (run.code, found["score"], found["macs_ratio"]) == (0, 1.0, 1.0), run.stderr
    held = found["costs"]
    assert held["weight_bytes"] == 4 * (9 + 3)
    assert held["peak_memory_bytes"] == held["weight_bytes"] + 4 * (3 * 8 * 8 + 3)
    assert held["depth"] == 1
    assert held["bit_operations"] == 1  # 9 products with zeros and ones, 1 bit by 32

    rules.write_text(f"{COMPETITION}\n[budget]\nweight_bytes = 40\nmacs = 201\n", encoding="utf-8")
    run = starter("score", plugin, "--competition", rules, "--json", "-", cwd=competition)
    found = run.results["dear"]
    assert (run.code, found["status"], found["score"]) == (1, "invalid", None)
    (problem,) = found["problems"]
    assert (problem["code"], problem["where"]) == ("E509", "weight_bytes")
    assert (problem["expected"], problem["got"]) == ("at most 40", "48 (8 over)")


@pytest.mark.long
def test_the_baseline_measures_again_as_it_did(competition: Path) -> None:
    run = starter("baseline", "check", cwd=competition)
    assert run.code == 0, run.stderr
    assert "ok  macs  201\n" in run.stdout
    assert "ok  macro_f1  1.0000, reference 1.0000 +- 0.005" in run.stdout


@pytest.mark.long
def test_measuring_anew_says_what_changed(competition: Path, tmp_path: Path) -> None:
    shutil.copytree(competition, tmp_path / "own", ignore=shutil.ignore_patterns("submissions"))
    baseline = tmp_path / "own" / "baseline"
    # Twice the pixels on each side: 4 x 3 x 8 x 8 in the mean.
    (baseline / "plugin.py").write_text(GOOD.replace("(8, 8)", "(16, 16)"), encoding="utf-8")
    changed = starter("baseline", "measure", cwd=tmp_path / "own")

    assert changed.code == 0, changed.stderr
    assert "macs: 201 -> 777\n" in changed.stdout


@pytest.mark.long
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


@pytest.mark.long
def test_a_broken_image_is_named_and_nothing_is_scored(competition: Path, tmp_path: Path) -> None:
    root = tmp_path / "broken"
    shutil.copytree(competition, root, ignore=shutil.ignore_patterns("submissions"))
    broken = next(iter((root / "data" / "test.csv").read_text(encoding="utf-8").split()[1:]))
    (root / "data" / "images" / broken).write_bytes(b"not an image")

    run = starter("validate", root / "baseline", cwd=root)

    assert run.code == 2
    assert "U203" in run.stderr
    assert f"data set data: {broken}: image files are missing or cannot be decoded" in run.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", usually("score", of=("score", "train")))
def test_missing_images_are_summed_up_with_the_command_that_lists_them(
    competition: Path, tmp_path: Path, command: str
) -> None:
    root = tmp_path / "incomplete"
    shutil.copytree(competition, root, ignore=shutil.ignore_patterns("submissions"))
    missing = (root / "data" / "test.csv").read_text(encoding="utf-8").split()[1:8]
    for image_id in missing:
        (root / "data" / "images" / image_id).unlink()

    run = starter(command, "baseline", cwd=root)

    assert run.code == 2
    assert f"data set data: {missing[0]}: image files are missing or cannot be decoded" in run.stderr
    assert f"fix    starter data check {root / 'data'} lists all of them" in run.stderr
    assert run.stderr.count("code   U203") == 5
    assert run.stderr.endswith("... and 2 more of this kind; all are in starter-problems.csv\n")
    assert len((root / "starter-problems.csv").read_text(encoding="utf-8").splitlines()) == 1 + 7


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("score", "nowhere.py"), "U101"),
        (("score", "--data", "nowhere"), "U201"),
        (("score", "--baseline", "submissions"), "U301"),
        (("score", "--competition", "nowhere.toml"), "U103"),
        (("explain", "E999"), "U105"),
        (("data", "check", "nowhere"), "U201"),
        (("baseline", "check", "submissions"), "U301"),
        (("init", "mine", "--competition", "nowhere.toml"), "U103"),
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


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("score --fast", "--fast"),
        ("train x.py --epochs many", "--epochs"),
        ("score --json nowhere/results.json", "--json"),
        ("score --json submissions", "--json"),
        ("score --competition submissions", "--competition"),
        ("init mine --dir competition.toml/below", "--dir"),
        ("data folder data --out competition.toml/below", "--out"),
        ("data folder data --out new --test-share 2", "--test-share"),
        ("data crops x.json --images data --out new --quality 500", "--quality"),
        ("data synth --out new --seed -1", "--seed"),
    ],
)
def test_a_wrong_command_line_names_the_option_before_any_work_is_done(
    competition: Path, command: str, named: str
) -> None:
    run = starter(*command.split(), cwd=competition)
    assert run.code == 2
    assert named in run.stderr
    assert "starter" in run.stderr
    assert run.stdout == ""
    assert not (competition / "new").exists()


@pytest.mark.slow
def test_a_setting_out_of_range_names_its_option(competition: Path) -> None:
    run = starter("train", "baseline", "--lr", "-1", cwd=competition)
    assert run.code == 2
    assert "--lr" in run.stderr


@pytest.mark.parametrize("code", list(CATALOGUE))
def test_every_code_can_be_explained(code: str) -> None:
    entry = CATALOGUE[code]
    assert all((entry.title, entry.why, entry.fix, entry.stage))


@pytest.mark.slow
def test_explain_prints_the_entry(tmp_path: Path) -> None:
    run = starter("explain", "e501", cwd=tmp_path)
    assert run.code == 0
    assert CATALOGUE["E501"].why in run.stdout
    assert len(starter("explain", cwd=tmp_path).stdout.splitlines()) == len(CATALOGUE)


@pytest.mark.parametrize("command", ["--help", "score --help", "train --help", "explain E501", "explain"])
def test_what_only_prints_loads_no_torch(tmp_path: Path, command: str) -> None:
    code = "import sys; from starter.cli.app import app; app(sys.argv[1:], standalone_mode=False)"
    run = python("-c", f"{code}; sys.exit('torch' in sys.modules)", *command.split(), cwd=tmp_path)
    assert run.code == 0
    if command == "--help":
        for name in ("score", "validate", "init", "train", "explain", "data", "baseline"):
            assert name in run.stdout


def test_the_help_loads_nothing_but_typer_and_is_what_the_commands_say(tmp_path: Path) -> None:
    code = "import sys; from starter.cli.app import app; app(['--help'], standalone_mode=False)"
    run = python("-c", f"{code}; sys.stderr.write(' '.join(sys.modules))", cwd=tmp_path)
    heavy = {"numpy", "pydantic", "pluggy", "PIL", "sklearn", "sqlalchemy", "jinja2", "torch"}
    assert not heavy.intersection(run.stderr.split())
    for name, (_, text) in COMMANDS.items():
        assert load(name).help.splitlines()[0] == text
        assert text[:40] in run.stdout


def test_a_failure_of_ours_is_exit_3_and_no_fault_of_the_participants(
    competition: Path, tmp_path: Path
) -> None:
    """The runner cannot even load torch in 2 x 20 MiB."""
    rules = (competition / "competition.toml").read_text(encoding="utf-8")
    for name in ("data", "baseline"):
        rules = rules.replace(f'"{name}"', f'"{competition / name}"')
    own = tmp_path / "small.toml"
    own.write_text(rules.replace("memory_mb = 2500", "memory_mb = 20"), encoding="utf-8")
    run = starter("score", competition / "baseline", "--competition", own, cwd=tmp_path)
    assert run.code == 3
    assert "H101" in run.stderr
    assert run.stdout == ""


@pytest.mark.slow
def test_a_bug_of_ours_is_one_line_and_a_traceback_on_request(tmp_path: Path) -> None:
    code = """
import sys
import types
from starter.cli.app import COMMANDS, main
def explode():
    raise RuntimeError("a [bug]")
sys.modules["starter.cli.explode"] = types.SimpleNamespace(explode=explode)
COMMANDS["explode"] = "explode", ""
sys.argv[1:] = ["explode"]
main()
"""
    short = python("-c", code, cwd=tmp_path)
    long = python("-c", code, cwd=tmp_path, STARTER_DEBUG="1")

    assert (short.code, long.code) == (3, 3)
    assert "RuntimeError: a [bug]\nThis is a bug in the kit" in short.stderr
    assert "Traceback" not in short.stderr
    assert "Traceback" in long.stderr


def children(pid: int) -> set[int]:
    """Return the processes that a process has started, and theirs."""
    found = set()
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in listing.read_text(encoding="ascii").split():
            found |= {int(child)} | children(int(child))
    return found


def test_ctrl_c_ends_everything_with_one_line(competition: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "waits.py"
    plugin.write_text(GOOD + "\nwhile True: pass\n", encoding="utf-8")
    command = [sys.executable, "-m", "starter", "score", str(plugin)]
    with subprocess.Popen(command, cwd=competition, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 20
        while len(started := children(process.pid)) < 2 and time.monotonic() < deadline:  # worker, runner
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)

    assert len(started) >= 2
    assert process.returncode == 130
    assert stderr == "stopped\n"
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def test_the_options_of_train_have_the_recipes_defaults() -> None:
    import inspect

    from starter.cli.recipes.train import train

    options = inspect.signature(train).parameters
    assert options["teacher"].default is None
    for name in TrainSettings.model_fields.keys() - {"teachers"}:
        assert options[name].default == TrainSettings.model_fields[name].default, name


def test_init_writes_a_submission_and_overwrites_nothing(competition: Path, tmp_path: Path) -> None:
    made = starter("init", "mine", "--dir", tmp_path, cwd=competition)
    again = starter("init", "mine", "--dir", tmp_path, cwd=competition)
    misnamed = starter("init", "../mine", "--dir", tmp_path, cwd=competition)

    assert made.code == 0
    assert (tmp_path / "mine" / "plugin.py").is_file()
    assert again.code == 2
    assert "U106" in again.stderr
    assert misnamed.code == 2


@pytest.mark.long
def test_a_profile_is_written_where_it_is_asked_for(competition: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "new" / "profile.html", tmp_path / "other" / "profile.png"
    found = starter(
        "profile", "baseline", "--compare", "baseline", "--html", page, "--png", picture, cwd=competition
    )

    assert found.code == 0, found.stderr
    assert "memory access cost" in found.stdout
    assert re.search(r"score: .* = \d\.\d{4}\n", found.stdout)
    assert found.stdout.count("+0.01 F1 is worth") == 1
    assert "+0.01 F1 is worth" in page.read_text(encoding="utf-8")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert picture.read_bytes().startswith(b"\x89PNG")
