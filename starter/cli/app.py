"""The command line: `starter ...`. Results on stdout, progress and errors on stderr.

Exit codes: 0 success, 1 a participant's fault, 2 usage, 3 the kit's or the machine's fault. A command's
module is imported only when the command runs, so `starter --help` is quick; it shows COMMANDS.
"""

import errno
import importlib
import io
import os
import shutil
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Annotated, Any, cast

import typer
import typer.core
import typer.main

from starter import __version__
from starter.cli.exits import EXIT_HOST, EXIT_INTERRUPTED, EXIT_OK, EXIT_PARTICIPANT, EXIT_USAGE
from starter.contract.system.processors import waiting

COMMANDS = {
    "score": ("score", "Score plugins against the baseline (default: the baseline and submissions/)."),
    "validate": ("score", "Check plugins without scoring them, and report all problems at once."),
    "profile": ("profile", "Show what each layer costs: MACs, memory access, latency."),
    "speed": ("speed", "Measure how much faster than the baseline plugins run."),
    "doctor": ("doctor", "Show what this machine has, what it lacks and how to get it."),
    "convert": ("convert", "Convert the weights of a checkpoint to a safetensors file."),
    "pack": ("pack", "Pack a submission into a zip and show what it contains."),
    "batch": ("organize.batch", "Evaluate many entries, each one once, and keep the results in a store."),
    "env": ("organize.env", "Show what a plugin may import, or lock the versions that are installed."),
    "leaderboard": (
        "organize.leaderboard",
        "Show the leaderboard of the entries that `starter batch` evaluated.",
    ),
    "verify": ("appeals.verify", "Check reports by recomputing them, and a store by its audit trail."),
    "rejudge": (
        "appeals.judge",
        "Evaluate chosen entries again, with a reason; the old results are kept.",
    ),
    "diff": (
        "appeals.judge",
        "Show what differs between two results: data, rules, code, machine, figures.",
    ),
    "entry": ("appeals.decisions", "Disqualify and reinstate entries, and show what became of one."),
    "team": ("appeals.decisions", "Rename and merge teams."),
    "bundle": ("organize.bundle", "Write a competition as a platform takes it."),
    "train": ("recipes.train", "Train your plugin's model. Its code runs here, without a sandbox."),
    "compress": (
        "recipes.compress",
        "Make your trained plugin smaller. Its code runs here, without a sandbox.",
    ),
    "export": ("recipes.export", "Write the counted network as an ONNX or PT2 file."),
    "predict": ("recipes.predict", "Answer images that have no labels, and write submission.csv."),
    "search": ("recipes.search", "Search for small mobile networks with few MACs and a high macro F1."),
    "new": ("start", "Create a competition folder: rules, packaged data, baseline, examples."),
    "init": ("start", "Create a submission that can be scored right away."),
    "explain": ("start", "Explain what an error code means and how to fix the problem."),
    "data": ("data.data", "Make and check data sets."),
    "baseline": ("organize.baseline", "Measure the baseline that all scores are relative to."),
}
"""Name: its module in this package, and the first line of its help."""

TEMPORARY = {
    "score",
    "validate",
    "profile",
    "speed",
    "convert",
    "pack",
    "batch",
    "verify",
    "rejudge",
    "compress",
    "export",
    "search",
    "baseline",
    "bundle",
    "predict",
}
"""Commands with files that may be large, in the system's temporary folder."""

PARTS = {"data": ("data.taco", "data.show")}
"""Modules that add commands to a group when they are imported."""

# Typer's own class for a wrong command line; which module it lives in has changed between versions.
USAGE_ERROR = cast(
    "type[typer.BadParameter]",
    next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"),
)


def load(name: str) -> Any:
    """Import a command of COMMANDS and return it as Typer runs it."""
    module = importlib.import_module(f"starter.cli.{COMMANDS[name][0]}")
    for part in PARTS.get(name, ()):
        importlib.import_module(f"starter.cli.{part}")
    found = getattr(module, f"{name}_app", None)
    if found is None:
        found = typer.Typer(add_completion=False, rich_markup_mode=None)
        found.command(name)(getattr(module, name))
    return typer.main.get_command(found)


class LazyGroup(typer.core.TyperGroup):
    """A group that imports a command's module when the command is asked for."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        names: dict[str, Any] = dict.fromkeys(COMMANDS)  # what a wrong word is compared with
        self.commands = names

    def get_command(self, _: Any, cmd_name: str) -> Any:
        """Return a command, or None if there is none of that name."""
        return load(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, _: Any, formatter: Any) -> None:
        """Write the list of commands without importing any."""
        width = formatter.width - 6 - max(map(len, COMMANDS))
        rows = [(name, _shortened(text, width)) for name, (_, text) in COMMANDS.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


app = typer.Typer(
    name="starter",
    cls=LazyGroup,
    help="Score image classifiers by macro F1 and multiply-accumulates (MACs).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        sys.stdout.write(f"{__version__}\n")
        raise typer.Exit
    if context.invoked_subcommand in TEMPORARY:
        from starter.contract.system.files import own_temporary_folder

        context.with_resource(own_temporary_folder())


def _shortened(text: str, width: int) -> str:
    """Return as many words as fit."""
    if len(text) <= width:
        return text
    return text[: width - 2].rpartition(" ")[0] + "..."


def main() -> None:
    """Run the command line; the one place that prints errors and chooses the exit code."""
    os.environ.update(waiting(os.environ))  # before any command loads torch, and with it OpenMP
    _print_any_text()
    try:
        code = app(standalone_mode=False)
        if code == EXIT_INTERRUPTED:  # Typer has seen the Ctrl-C and says nothing
            _interrupted()
    except typer.Abort:
        code = _interrupted()
    except USAGE_ERROR as error:
        error.show()
        code = EXIT_USAGE
    except KeyboardInterrupt:
        code = _interrupted()
    except Exception as error:  # noqa: BLE001 - separates the kit's bugs from the participant's errors
        code = _failed(error)
    sys.exit(code or EXIT_OK)


def _print_any_text() -> None:
    """Have the consoles write what their code page has no characters for as escapes, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _interrupted() -> int:
    sys.stderr.write("stopped\n")
    return EXIT_INTERRUPTED


def _failed(error: Exception) -> int:
    """Print an error of the participant's, of the caller's or of ours; return the exit code."""
    from starter.cli.common import err
    from starter.contract.errors import Code, DataError, HostError, ParticipantError, StarterError, host_error
    from starter.report.problems import show_error
    from starter.report.terminal import print_line

    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        error = host_error(Code.NO_SPACE, where=_full_folder(error), got=str(error))
    if not isinstance(error, StarterError):
        if os.environ.get("STARTER_DEBUG"):
            traceback.print_exc()
        print_line(err, f"{type(error).__name__}: {error}")
        print_line(err, "This is a bug in the kit; rerun with STARTER_DEBUG=1 for the traceback.")
        return EXIT_HOST
    show_error(err, error)
    if isinstance(error, ParticipantError | DataError):
        return EXIT_PARTICIPANT
    return EXIT_HOST if isinstance(error, HostError) else EXIT_USAGE


def _full_folder(error: OSError) -> str:
    """Return the folder whose disk is full: the file's own, or else the one of ours with the least space."""
    if isinstance(error.filename, str):
        return str(Path(error.filename).parent)
    return min({tempfile.gettempdir(), str(Path.cwd())}, key=lambda folder: shutil.disk_usage(folder).free)
