"""The command line: `starter ...`. Results on stdout, progress and errors on stderr.

Exit codes: 0 all is well, 1 a participant's fault, 2 usage, 3 ours. Nothing that
`starter --help` needs imports torch; each command imports what it needs.
"""

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, cast

import typer

from starter import __version__
from starter.cli.common import (
    EXIT_HOST,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_PARTICIPANT,
    EXIT_USAGE,
    DataOption,
    JsonOption,
    OwnIsolationOption,
    RulesOption,
    can_be_made,
    err,
    evaluate_all,
    out,
    print_any_text,
    typed,
    worst,
    wrote_json,
)
from starter.cli.data.data import data_app
from starter.cli.data.show import show
from starter.cli.data.taco import taco
from starter.cli.doctor import doctor
from starter.cli.organize.baseline import baseline_app
from starter.cli.organize.batch import batch
from starter.cli.organize.leaderboard import leaderboard, verify
from starter.cli.pack import pack
from starter.cli.profile import profile
from starter.cli.recipes.compress import compress
from starter.cli.recipes.search import search
from starter.cli.recipes.train import train
from starter.contract.competition import CompetitionFile, load_competition
from starter.contract.errors import CATALOGUE, Code, HostError, ParticipantError, StarterError, usage_error
from starter.contract.submissions import SubmissionSource, discover, discover_installed
from starter.contract.system.processors import waiting
from starter.report.scores import show_costs, show_scores
from starter.report.terminal import print_line, show_error

# Typer's own class for a wrong command line; which module it lives in has changed between versions.
USAGE_ERROR = cast(
    "type[typer.BadParameter]",
    next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"),
)


app = typer.Typer(
    name="starter",
    help="Score image classifiers by macro F1 and multiply-accumulates (MACs).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app.command()(taco)
data_app.command()(show)
app.add_typer(data_app, name="data")
app.add_typer(baseline_app, name="baseline")

Paths = Annotated[
    list[Path] | None, typer.Argument(help="NAME.py, a folder with plugin.py, or a folder of those.")
]
BaselineOption = Annotated[Path | None, typer.Option("--baseline", help="Another baseline's folder.")]


def main() -> None:
    """Run the command line; the one place that prints errors and chooses the exit code."""
    os.environ.update(waiting(os.environ))  # before any command loads torch, and with it OpenMP
    print_any_text()
    try:
        code = app(standalone_mode=False)
        if code == EXIT_INTERRUPTED:  # Typer has seen the Ctrl-C and says nothing
            _interrupted()
    except typer.Abort:
        code = _interrupted()
    except USAGE_ERROR as error:
        error.show()
        code = EXIT_USAGE
    except StarterError as error:
        show_error(err, error)
        code = _exit_code(error)
    except KeyboardInterrupt:
        code = _interrupted()
    except Exception as error:  # noqa: BLE001 - a bug of ours is told apart from the participant's fault
        if os.environ.get("STARTER_DEBUG"):
            traceback.print_exc()
        print_line(err, f"{type(error).__name__}: {error}")
        print_line(err, "This is a bug in the kit; STARTER_DEBUG=1 shows where.")
        code = EXIT_HOST
    sys.exit(code or EXIT_OK)


def _interrupted() -> int:
    print_line(err, "stopped")
    return EXIT_INTERRUPTED


def _exit_code(error: StarterError) -> int:
    if isinstance(error, ParticipantError):
        return EXIT_PARTICIPANT
    return EXIT_HOST if isinstance(error, HostError) else EXIT_USAGE


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print_line(out, __version__)
        raise typer.Exit


@app.command()
def score(
    paths: Paths = None,
    data: DataOption = None,
    baseline: BaselineOption = None,
    competition: RulesOption = None,
    isolation: OwnIsolationOption = None,
    json_to: JsonOption = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="A few images only, to see that it works.")] = False,
) -> int:
    """Score plugins against the baseline (default: the baseline and all of submissions/)."""
    from starter.evaluation.evaluate import FULL, SMOKE, read_reference

    rules = load_competition(competition)
    folder = baseline or rules.path(rules.baseline)
    sources = _candidates(paths, rules, folder)
    reference = read_reference(folder)
    results = evaluate_all(
        "score",
        sources,
        rules,
        data,
        scope=SMOKE if smoke else FULL,
        reference=reference,
        reference_folder=folder,
        isolation=isolation,
    )
    if not wrote_json(json_to, results):
        show_scores(out, results, reference, rules.score, baseline=str(folder.resolve()))
    return worst(results)


@app.command()
def validate(
    paths: Annotated[
        list[Path], typer.Argument(help="NAME.py, a folder with plugin.py, or a folder of those.")
    ],
    data: DataOption = None,
    competition: RulesOption = None,
    isolation: OwnIsolationOption = None,
    json_to: JsonOption = None,
    layers: Annotated[bool, typer.Option("--layers", help="Also show what each operator costs.")] = False,
) -> int:
    """Check plugins: everything but F1 and score; all problems at once."""
    from starter.evaluation.evaluate import VALIDATE

    rules = load_competition(competition)
    results = evaluate_all("validate", discover(paths), rules, data, scope=VALIDATE, isolation=isolation)
    if not wrote_json(json_to, results):
        show_costs(out, results, layers=layers)
    return worst(results)


app.command()(profile)
app.command()(doctor)
app.command()(pack)
app.command()(batch)
app.command()(leaderboard)
app.command()(verify)
app.command()(train)
app.command()(compress)
app.command()(search)


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="The submission's name: its row on the scoreboard.")],
    folder: Annotated[
        Path | None,
        typer.Option("--dir", callback=can_be_made, help="Where; default: the submissions folder."),
    ] = None,
    competition: RulesOption = None,
) -> None:
    """Write a submission that scores as it is."""
    from starter.submission.template import write_template

    target = write_template(name, folder or _submissions_folder(competition))
    print_line(out, f"{target}/plugin.py  the network and its transforms")
    print_line(out, f"{target}/weights.safetensors  trained on the packaged data")
    shown = typed(target)
    print_line(err, f"next: starter score {shown}")
    print_line(err, f"then: change plugin.py, starter train {shown}, and score it again")


def _submissions_folder(competition: Path | None) -> Path:
    rules = load_competition(competition)
    return rules.path(rules.submissions)


@app.command()
def explain(
    code: Annotated[
        str | None, typer.Argument(help="For instance E501; left out, all codes are listed.")
    ] = None,
) -> None:
    """Say what an error code means and how to mend it."""
    if code is None:
        for known, entry in CATALOGUE.items():
            print_line(out, f"{known}  {entry.title}")
        return
    if code.upper() not in CATALOGUE:
        raise usage_error(Code.UNKNOWN_CODE, where="starter explain", got=code)
    entry = CATALOGUE[Code(code.upper())]
    print_line(out, f"{code.upper()}  {entry.title}\n")
    print_line(out, f"status {entry.status}\nstage  {entry.stage}\nwhy    {entry.why}\nfix    {entry.fix}")


def _candidates(paths: list[Path] | None, rules: CompetitionFile, baseline: Path) -> list[SubmissionSource]:
    if paths:
        return discover(paths)
    own = discover([rules.path(rules.submissions)])
    return [*discover([baseline]), *own, *discover_installed()]
