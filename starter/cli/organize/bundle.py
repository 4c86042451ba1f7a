"""`starter bundle ...`: a competition as a platform takes it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from starter.cli.common import DataOption, RulesOption, can_be_made, err, open_data, out, progress
from starter.contract.competition import load_competition
from starter.contract.text import typed
from starter.report.terminal import print_line

_DAYS = 30
"""How long the first phase lasts by default; the help of --end says so."""

bundle_app = typer.Typer(
    help="Write a competition as a platform takes it.", no_args_is_help=True, rich_markup_mode=None
)


@bundle_app.callback()
def _group() -> None:
    """Write a competition as a platform takes it."""


OutOption = Annotated[Path, typer.Option("--out", callback=can_be_made, help="New folder to write.")]


@bundle_app.command()
def kaggle(
    target: OutOption,
    data: DataOption = None,
    competition: RulesOption = None,
) -> None:
    """Write the metric, solution and files of a Kaggle competition."""
    from starter.evaluation.evaluate import read_reference
    from starter.organizer.bundles.kaggle import write

    rules = load_competition(competition)
    reference = read_reference(rules.path(rules.baseline))
    written = write(target, rules, open_data(data, rules), reference)
    for name, what in written.items():
        print_line(out, f"{target / name}  {what}")
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
        datetime | None, typer.Option(help="When the first phase begins, UTC; default: today.")
    ] = None,
    end: Annotated[
        datetime | None,
        typer.Option(help="When it ends and the final phase begins, UTC; default: 30 days later."),
    ] = None,
    data: DataOption = None,
    competition: RulesOption = None,
) -> None:
    """Write the bundle of a Codabench competition."""
    from starter.evaluation.evaluate import read_reference
    from starter.organizer.bundles.codabench import write

    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = start.replace(tzinfo=UTC) if start else today
    last = end.replace(tzinfo=UTC) if end else first + timedelta(days=_DAYS)
    if last <= first:
        raise typer.BadParameter("--end must be later than --start")
    rules = load_competition(competition)
    reference = read_reference(rules.path(rules.baseline))
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
) -> None:
    """Write a GitHub repository that evaluates pull requests and publishes the board."""
    from starter.evaluation.evaluate import read_reference
    from starter.organizer.bundles.github import write

    rules = load_competition(competition)
    reference = read_reference(rules.path(rules.baseline))
    for name, what in write(target, rules, open_data(data, rules), reference).items():
        print_line(out, f"{target / name}  {what}")
    print_line(err, f"next: cd {typed(target)} && starter baseline check")
    print_line(err, "then: docs/github.md says how to publish it, and how the Private part is evaluated")


@bundle_app.command()
def space(
    target: OutOption,
    data: DataOption = None,
    competition: RulesOption = None,
) -> None:
    """Write a Hugging Face Space that takes zips and shows the board."""
    from starter.evaluation.evaluate import read_reference
    from starter.organizer.bundles.space import write

    rules = load_competition(competition)
    reference = read_reference(rules.path(rules.baseline))
    for name, what in write(target, rules, open_data(data, rules), reference).items():
        print_line(out, f"{target / name}  {what}")
    print_line(err, f"next: cd {typed(target)} && starter baseline check")
    print_line(err, "then: docs/space.md says how to publish it, and how the Private part is evaluated")
