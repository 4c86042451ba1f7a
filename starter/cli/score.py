"""The commands `starter score` and `starter validate`."""

from pathlib import Path
from typing import Annotated

import typer

from starter.cli.common import (
    DataOption,
    JsonOption,
    OwnIsolationOption,
    RulesOption,
    evaluate_all,
    out,
    worst,
    wrote_json,
)
from starter.contract.competition import CompetitionFile, load_competition
from starter.contract.submissions import SubmissionSource, discover, discover_installed
from starter.report.scores import show_costs, show_scores

Paths = Annotated[
    list[Path] | None, typer.Argument(help="NAME.py, a folder with plugin.py, or a folder of such plugins.")
]
BaselineOption = Annotated[Path | None, typer.Option("--baseline", help="Use the baseline in this folder.")]


def score(
    paths: Paths = None,
    data: DataOption = None,
    baseline: BaselineOption = None,
    competition: RulesOption = None,
    isolation: OwnIsolationOption = None,
    json_to: JsonOption = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Use only a few images, to see that it works.")
    ] = False,
) -> int:
    """Score plugins against the baseline (default: the baseline and submissions/)."""
    from starter.evaluation.evaluate import FULL, SMOKE, read_reference

    rules = load_competition(competition)
    folder = baseline or rules.path(rules.baseline)
    sources = _sources(paths, rules, folder)
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


def validate(
    paths: Annotated[
        list[Path], typer.Argument(help="NAME.py, a folder with plugin.py, or a folder of such plugins.")
    ],
    data: DataOption = None,
    competition: RulesOption = None,
    isolation: OwnIsolationOption = None,
    json_to: JsonOption = None,
    layers: Annotated[bool, typer.Option("--layers", help="Also show what each operator costs.")] = False,
) -> int:
    """Check plugins without scoring them, and report all problems at once."""
    from starter.evaluation.evaluate import VALIDATE

    rules = load_competition(competition)
    results = evaluate_all("validate", discover(paths), rules, data, scope=VALIDATE, isolation=isolation)
    if not wrote_json(json_to, results):
        show_costs(out, results, layers=layers)
    return worst(results)


def _sources(paths: list[Path] | None, rules: CompetitionFile, baseline: Path) -> list[SubmissionSource]:
    if paths:
        return discover(paths)
    own = discover([rules.path(rules.submissions)])
    return [*discover([baseline]), *own, *discover_installed()]
