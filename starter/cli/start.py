"""The commands `starter init` and `starter explain`."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from starter.cli.common import RulesOption, can_be_made, err, out
from starter.contract.competition import load_competition
from starter.contract.errors import CATALOGUE, Code, Language, explanations, usage_error
from starter.contract.names import entry_fault
from starter.contract.text import typed
from starter.report.terminal import print_line

FIRST = Path(__file__).parents[1] / "submission" / "first"
"""A plugin, and weights that `starter train` made for it on the packaged data."""


def init(
    name: Annotated[str, typer.Argument(help="Name of the submission, its row on the scoreboard.")],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir", callback=can_be_made, help="Folder to create it in; default: the submissions folder."
        ),
    ] = None,
    competition: RulesOption = None,
) -> None:
    """Create a submission that can be scored right away."""
    if found := entry_fault(name):
        raise usage_error(Code.BAD_NAME, where="starter init", got=f"{name!r}: {found}")
    target = (folder or _submissions_folder(competition)) / name
    if target.exists():
        raise usage_error(Code.TARGET_EXISTS, where=str(target), got="a file or folder of that name")
    target.mkdir(parents=True)
    for file in ("plugin.py", "weights.safetensors"):
        shutil.copyfile(FIRST / file, target / file)
    print_line(out, f"{target}/plugin.py  the network and its transforms")
    print_line(out, f"{target}/weights.safetensors  trained on the packaged data")
    shown = typed(target)
    print_line(err, f"next: starter score {shown}")
    print_line(err, f"then: edit plugin.py, run starter train {shown}, and score it again")


def _submissions_folder(competition: Path | None) -> Path:
    rules = load_competition(competition)
    return rules.path(rules.submissions)


def explain(
    code: Annotated[
        str | None, typer.Argument(help="A code such as E501; without one, all codes are listed.")
    ] = None,
    lang: Annotated[Language, typer.Option("--lang", help="Language of the explanation.")] = Language.ENGLISH,
) -> None:
    """Explain what an error code means and how to fix the problem."""
    if code is None:
        for known, entry in explanations(lang).items():
            print_line(out, f"{known}  {entry.title}")
        return
    if code.upper() not in CATALOGUE:
        raise usage_error(Code.UNKNOWN_CODE, where="starter explain", got=code)
    entry = explanations(lang)[Code(code.upper())]
    print_line(out, f"{code.upper()}  {entry.title}\n")
    print_line(out, f"status {entry.status}\nstage  {entry.stage}\nwhy    {entry.why}\nfix    {entry.fix}")
