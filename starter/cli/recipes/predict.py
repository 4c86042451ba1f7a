"""`starter predict`: answers for images without labels, as a platform takes them."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from starter.cli.common import (
    OwnIsolationOption,
    RulesOption,
    can_be_made,
    err,
    in_force,
    isolation_for,
    out,
    progress,
)
from starter.contract.competition import load_competition
from starter.contract.errors import UsageError
from starter.contract.submissions import discover_one
from starter.contract.text import typed
from starter.report.terminal import print_line


def predict(
    path: Annotated[Path, typer.Argument(help="The submission: NAME.py or its folder.")],
    data: Annotated[
        Path, typer.Option(file_okay=False, help="Folder with dataset.toml, test.csv and the images.")
    ],
    target: Annotated[
        Path, typer.Option("--out", callback=can_be_made, dir_okay=False, help="CSV file to write.")
    ] = Path("submission.csv"),
    competition: RulesOption = None,
    isolation: OwnIsolationOption = None,
) -> None:
    """Answer images that have no labels, and write submission.csv."""
    from starter.evaluation.evaluate import read_reference
    from starter.organizer.bundles.predictions import answer, write_submission

    rules, reference = load_competition(competition), None
    with contextlib.suppress(UsageError):  # only for its cost version
        reference = read_reference(rules.path(rules.baseline))
    rules = in_force(rules, reference)
    source = discover_one(path)
    chosen = isolation_for("predict", rules, isolation)
    with progress("answering"):
        answered = answer(source, rules, data, chosen)
    write_submission(target, answered, rules)
    print_line(out, f"{target}  {len(answered.labels):,} answers, {answered.counts.macs:,} MACs each")
    print_line(out, f"  {answered.submission}")
    print_line(err, f"next: keep the zip of this hash: {typed('starter', 'pack', path)}")
