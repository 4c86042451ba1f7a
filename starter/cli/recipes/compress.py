"""`starter compress`: a smaller plugin from a trained one, with the scores before and after."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from starter.cli.common import (
    DataOption,
    JsonOption,
    OwnIsolationOption,
    Requested,
    RulesOption,
    can_be_made,
    err,
    evaluate_all,
    open_data,
    out,
    worst,
    wrote_json,
)
from starter.cli.exits import EXIT_OK
from starter.contract.competition import CompetitionFile, load_competition
from starter.contract.errors import UsageError
from starter.contract.submissions import SubmissionSource, discover_one
from starter.contract.system.processors import available
from starter.contract.text import typed
from starter.report.scores import show_costs, show_scores
from starter.report.terminal import print_line

_METHODS = ("prune", "tucker", "reparameterize")


def _method(name: str) -> str:
    if name not in _METHODS:
        raise typer.BadParameter(f"one of {', '.join(_METHODS)}, not {name!r}")
    return name


def compress(  # noqa: PLR0913, PLR0917 - options of the command line
    path: Annotated[Path, typer.Argument(help="The trained plugin; it stays as it is.")],
    to: Annotated[
        Path, typer.Option("--out", callback=can_be_made, help="Folder of the new plugin; it must not exist.")
    ],
    method: Annotated[
        str, typer.Option(callback=_method, help="prune, tucker or reparameterize.")
    ] = "reparameterize",
    keep: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=1, help="prune: share of the channels; tucker: share of the energy. Default: 0.5."
        ),
    ] = None,
    macs: Annotated[
        int | None, typer.Option(min=1, help="Instead of --keep: the most that an image may cost.")
    ] = None,
    score: Annotated[bool, typer.Option(help="Score it before and after.")] = True,
    data: DataOption = None,
    competition: RulesOption = None,
    isolation: OwnIsolationOption = None,
    json_to: JsonOption = None,
) -> int:
    """Make a trained plugin smaller; this runs its code here, so only your own."""
    import torch

    from starter.recipes.compression.methods import compress as run
    from starter.recipes.compression.plugin import Original, write_plugin

    _refuse_contradictions(method, keep, macs)
    if json_to is not None and not score:
        raise typer.BadParameter("there are no results without a score", param_hint="--json")
    rules = load_competition(competition)
    torch.set_num_threads(available().threads)
    source = discover_one(path)
    original = Original(source, open_data(data, rules))
    made = run(original, method, keep=keep, macs=macs)
    shown = "" if keep is None else f" --keep {keep}"
    shown += "" if macs is None else f" --macs {macs}"
    write_plugin(original, made, to, f"starter compress {source.name} --method {method}{shown}")
    print_line(err, f"{to}: {original.macs:,} MACs before, {made.macs:,} after")
    next_step = "score {}" if method == "reparameterize" else "train {} --from-weights --lr 0.001"
    print_line(err, "next: starter " + next_step.format(typed(to)))
    if not score:
        return EXIT_OK
    return _score_both([source, discover_one(to)], rules, data, isolation=isolation, json_to=json_to)


def _refuse_contradictions(method: str, keep: float | None, macs: int | None) -> None:
    if keep is not None and macs is not None:
        raise typer.BadParameter("give --keep or --macs, not both", param_hint="--macs")
    if method == "reparameterize" and (keep or macs):
        raise typer.BadParameter("re-parameterisation folds all it can: no --keep, no --macs")


def _score_both(
    sources: Sequence[SubmissionSource],
    rules: CompetitionFile,
    data: Path | None,
    *,
    isolation: Requested | None,
    json_to: str | None,
) -> int:
    """Score a plugin before and after; return the exit code."""
    from starter.evaluation.evaluate import FULL, VALIDATE, read_reference

    folder = rules.path(rules.baseline)
    reference = None
    with contextlib.suppress(UsageError):  # without a baseline there are costs and no score
        reference = read_reference(folder)
    results = evaluate_all(
        "compress",
        sources,
        rules,
        data,
        scope=FULL if reference else VALIDATE,
        reference=reference,
        reference_folder=folder,
        isolation=isolation,
    )
    if not wrote_json(json_to, results):
        if reference is None:
            show_costs(out, results, layers=False)
        else:
            show_scores(out, results, reference, rules.score, baseline=str(folder.resolve()))
    return worst(results)
