"""docs/organizers.md shows every option of an organizer's commands, and its examples run in order."""

import re
import shlex
import shutil
from pathlib import Path

import crowd
import pytest
from conftest import Command
from crowd import GOOD

from starter.cli.app import load
from starter.data.dataset import Dataset

DOCUMENT = (Path(__file__).parents[2] / "docs" / "organizers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines()]
SHOWN = re.findall(r"^(?:\$ )?starter (\w+) (.*)$", DOCUMENT, re.MULTILINE)
COMMANDS = {name: load(name) for name in ("batch", "leaderboard")}
EVERYWHERE = {"--help", "--data", "--competition"}


@pytest.mark.parametrize("name", ["batch", "leaderboard"])
def test_every_option_is_in_an_example(name: str) -> None:
    shown = {word for command, rest in SHOWN if command == name for word in shlex.split(rest)}
    options = {o for option in COMMANDS[name].params for o in option.opts if o.startswith("--")}
    assert options - EVERYWHERE <= shown
    assert {word for word in shown if word.startswith("--")} <= options


@pytest.mark.long
def test_every_example_runs(starter: Command, place: Path, easy_dataset: Dataset) -> None:
    """Stand-ins: a network of three colours as the baseline, and three entries of two teams."""
    rules = place / "competition.toml"
    rules.write_text(rules.read_text(encoding="utf-8").replace(crowd.LIMITS, ""), encoding="utf-8")
    shutil.rmtree(place / "baseline")
    (place / "baseline").mkdir()
    (place / "baseline" / "plugin.py").write_text(GOOD, encoding="utf-8")
    for number, name in enumerate(("red/first", "red/second", "blue/net")):
        path = place / "entries" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(crowd.honest(number), encoding="utf-8")
    (place / "entries" / "index.csv").write_text("path,selected\nred/second.py,yes\n", encoding="utf-8")

    for line in LINES:
        words = [str(easy_dataset.root) if w == "DATA" else w for w in shlex.split(line)]
        starter(*words[1:])

    assert (place / "site" / "index.html").is_file()
    assert (place / "final" / "index.html").is_file()
    assert (place / "reports" / "red" / "second" / "predictions.csv").is_file()
    assert "Final order" in (place / "final" / "index.html").read_text(encoding="utf-8")
