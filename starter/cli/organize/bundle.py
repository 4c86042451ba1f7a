"""`starter bundle ...`: a competition as a platform takes it."""

from pathlib import Path
from typing import Annotated

import typer

from starter.cli.common import DataOption, RulesOption, can_be_made, err, open_data, out
from starter.contract.competition import load_competition
from starter.report.terminal import print_line

bundle_app = typer.Typer(
    help="Write a competition as a platform takes it.", no_args_is_help=True, rich_markup_mode=None
)


@bundle_app.callback()
def _group() -> None:
    """Write a competition as a platform takes it."""


@bundle_app.command()
def kaggle(
    target: Annotated[Path, typer.Option("--out", callback=can_be_made, help="New folder to write.")],
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
