"""The commands `starter new`, `starter init` and `starter explain`."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from starter.cli.common import RulesOption, can_be_made, err, out
from starter.contract.competition import FILE_NAME, load_competition
from starter.contract.errors import CATALOGUE, Code, Language, explanations, usage_error
from starter.contract.names import entry_fault
from starter.contract.text import typed
from starter.report.terminal import print_line

FIRST = Path(__file__).parents[1] / "submission" / "first"
"""A plugin with weights that `starter train` wrote on the packaged data."""

_PACKAGE = Path(__file__).parents[1]

PACKAGED = _PACKAGE / "packaged" if (_PACKAGE / "packaged").is_dir() else _PACKAGE.parent
"""The packaged competition: inside an installed wheel, or the clone itself in an editable install."""


def new(
    folder: Annotated[Path, typer.Argument(callback=can_be_made, help="Folder to create.")],
) -> None:
    """Create a competition folder: rules, packaged data, baseline, examples."""
    if folder.exists():
        raise usage_error(Code.TARGET_EXISTS, where=str(folder), got="a file or folder of that name")
    rules = load_competition(PACKAGED / FILE_NAME)
    for name in (FILE_NAME, rules.dataset, rules.baseline, rules.submissions):
        source, target = PACKAGED / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".starter"))
        else:
            shutil.copyfile(source, target)
    print_line(out, f"{folder}/{FILE_NAME}  the rules")
    print_line(out, f"{folder}/{rules.dataset}  the packaged images")
    print_line(out, f"{folder}/{rules.baseline}  the plugin that scores 1")
    print_line(out, f"{folder}/{rules.submissions}  trained examples")
    print_line(err, f"next: cd {typed(folder)} && starter score")


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
    code: Annotated[str | None, typer.Argument(help="A code such as E501; default: list all codes.")] = None,
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
