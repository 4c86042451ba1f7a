"""`starter bundle ...`: a competition as a platform takes it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.common import DataOption, RulesOption, can_be_made, err, open_data, out, progress
from starter.cli.organize.phases import PhaseOption
from starter.contract.competition import load_competition
from starter.contract.text import typed
from starter.report.terminal import print_line

if TYPE_CHECKING:
    from starter.contract.competition import CompetitionFile
    from starter.contract.results import Reference
    from starter.data.dataset import Dataset

_DAYS = 30
"""How long the first phase lasts by default; the help of --end says so."""

bundle_app = typer.Typer(
    help="Write a competition as a platform takes it.", no_args_is_help=True, rich_markup_mode=None
)


@bundle_app.callback()
def _group() -> None:
    """Write a competition as a platform takes it."""


def _of_phase(competition: Path | None, phase: str | None) -> "tuple[CompetitionFile, Reference]":
    """Return the rules of one phase, and its baseline's figures."""
    from starter.evaluation.evaluate import read_reference

    rules = load_competition(competition).in_phase(phase)
    return rules, read_reference(rules.path(rules.baseline))


OutOption = Annotated[Path, typer.Option("--out", callback=can_be_made, help="New folder to write.")]


@bundle_app.command()
def kaggle(
    target: OutOption,
    data: DataOption = None,
    competition: RulesOption = None,
    phase: PhaseOption = None,
) -> None:
    """Write the metric, solution and files of a Kaggle competition."""
    from starter.organizer.bundles.kaggle import write

    _write_folder(write, target, data, competition, phase)
    print_line(
        err, "next: docs/kaggle.md says what to set on Kaggle, and why the last word is `starter batch`"
    )


@bundle_app.command()
def codabench(
    target: Annotated[
        Path, typer.Option("--out", callback=can_be_made, dir_okay=False, help="New zip to write.")
    ],
    image: Annotated[str, typer.Option(help="Docker image with the kit, as `docker pull` takes it.")],
    start: Annotated[
        datetime | None,
        typer.Option(help="When the first phase begins, UTC; default: as the calendar says, or today."),
    ] = None,
    end: Annotated[
        datetime | None,
        typer.Option(help="When the final phase begins, UTC; default: calendar.closes, or 30 days later."),
    ] = None,
    data: DataOption = None,
    competition: RulesOption = None,
    phase: PhaseOption = None,
) -> None:
    """Write the bundle of a Codabench competition."""
    from starter.organizer.bundles.codabench import write

    rules, reference = _of_phase(competition, phase)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = start.replace(tzinfo=UTC) if start else rules.calendar.opens or today
    last = end.replace(tzinfo=UTC) if end else rules.calendar.closes or first + timedelta(days=_DAYS)
    if last <= first:
        raise typer.BadParameter("--end must be later than --start")
    with progress("writing"):
        sizes = write(target, rules, open_data(data, rules), reference, image=image, start=first, end=last)
    print_line(out, f"{target}  {target.stat().st_size:,} bytes")
    for name, size in sizes.items():
        print_line(out, f"  {name:26}{size:>14,}")
    print_line(err, "next: upload it on Codabench; docs/codabench.md says how to make the image")


@bundle_app.command()
def github(
    target: OutOption,
    data: DataOption = None,
    competition: RulesOption = None,
    phase: PhaseOption = None,
) -> None:
    """Write a GitHub repository that evaluates pull requests and publishes the board."""
    from starter.organizer.bundles.github import write

    _write_folder(write, target, data, competition, phase)
    print_line(err, f"next: cd {typed(target)} && starter baseline check")
    print_line(err, "then: docs/github.md says how to publish it, and how the Private part is evaluated")


@bundle_app.command()
def space(
    target: OutOption,
    data: DataOption = None,
    competition: RulesOption = None,
    phase: PhaseOption = None,
) -> None:
    """Write a Hugging Face Space that takes zips and shows the board."""
    from starter.organizer.bundles.space import write

    _write_folder(write, target, data, competition, phase)
    print_line(err, f"next: cd {typed(target)} && starter baseline check")
    print_line(err, "then: docs/space.md says how to publish it, and how the Private part is evaluated")


def _write_folder(
    write: "Callable[[Path, CompetitionFile, Dataset, Reference], dict[str, str]]",
    target: Path,
    data: Path | None,
    competition: Path | None,
    phase: str | None,
) -> None:
    """Write a bundle that is a folder, and say what is in it."""
    rules, reference = _of_phase(competition, phase)
    for name, what in write(target, rules, open_data(data, rules), reference).items():
        print_line(out, f"{target / name}  {what}")
