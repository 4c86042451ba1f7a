"""`starter bundle ...`: a competition as a platform takes it."""

from pathlib import Path
from typing import Annotated

import typer

from starter.cli.common import DataOption, RulesOption, can_be_made, err, open_data, out
from starter.contract.competition import load_competition
from starter.contract.text import typed
from starter.report.terminal import print_line

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
