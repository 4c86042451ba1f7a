"""`starter compress`: a smaller plugin from a trained one, with the scores before and after."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    progress,
    worst,
    wrote_json,
)
from starter.cli.exits import EXIT_OK
from starter.contract.competition import CompetitionFile, load_competition
from starter.contract.errors import UsageError
from starter.contract.submissions import SubmissionSource, discover_one
from starter.contract.system.processors import available
from starter.contract.text import typed
from starter.data.dataset import Dataset
from starter.report.scores import show_costs, show_scores
from starter.report.terminal import print_line

if TYPE_CHECKING:
    from starter.recipes.compression.plugin import Compressed

_METHODS = ("prune", "tucker", "quantize", "reparameterize")
_BITS = (8, 4)


def _method(name: str) -> str:
    if name not in _METHODS:
        raise typer.BadParameter(f"must be one of {', '.join(_METHODS)}, not {name!r}")
    return name


def _bits(bits: int | None) -> int | None:
    if bits not in {None, *_BITS}:
        raise typer.BadParameter(f"must be {' or '.join(map(str, _BITS))}, not {bits}")
    return bits


def compress(  # noqa: PLR0913, PLR0917 - options of the command line
    path: Annotated[Path, typer.Argument(help="The trained plugin; it does not change.")],
    to: Annotated[
        Path, typer.Option("--out", callback=can_be_made, help="Folder of the new plugin; it must not exist.")
    ],
    method: Annotated[
        str, typer.Option(callback=_method, help="prune, tucker, quantize or reparameterize.")
    ] = "reparameterize",
    keep: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=1, help="prune: share of the channels; tucker: share of the energy. Default: 0.5."
        ),
    ] = None,
    macs: Annotated[int | None, typer.Option(min=1, help="Instead of --keep: most MACs per image.")] = None,
    bits: Annotated[
        int | None,
        typer.Option(callback=_bits, help="quantize: bits of weights and values, 8 or 4. Default: 8."),
    ] = None,
    calibrate: Annotated[
        int | None,
        typer.Option(min=1, help="quantize: training images to calibrate on. Default: 256."),
    ] = None,
    train: Annotated[
        bool, typer.Option("--train", help="Train it further, as `starter train --from-weights --lr 0.001`.")
    ] = False,
    score: Annotated[bool, typer.Option(help="Score it before and after.")] = True,
    data: DataOption = None,
    competition: RulesOption = None,
    isolation: OwnIsolationOption = None,
    json_to: JsonOption = None,
) -> int:
    """Make your trained plugin smaller. Its code runs here, without a sandbox."""
    import torch

    from starter.recipes.compression.methods import METHODS, Amount
    from starter.recipes.compression.plugin import Original, write_plugin

    switches = {"keep": keep, "macs": macs, "bits": bits, "calibrate": calibrate}
    given = {name: value for name, value in switches.items() if value is not None}
    _refuse_contradictions(method, given)
    if json_to is not None and not score:
        raise typer.BadParameter("needs a score: remove --no-score", param_hint="--json")
    rules = load_competition(competition)
    torch.set_num_threads(available().threads)
    source = discover_one(path)
    dataset = open_data(data, rules)
    original = Original(source, dataset)
    made = METHODS[method](original, Amount(keep, macs, bits or 8, calibrate or 256))
    shown = "".join(f" --{name} {value}" for name, value in given.items())
    write_plugin(original, made, to, f"starter compress {source.name} --method {method}{shown}")
    _show_costs(to, original.as_it_is, made)
    if train:
        _train(discover_one(to), dataset)
    next_step = "score {}" if train or method == "reparameterize" else "train {} --from-weights --lr 0.001"
    print_line(err, "next: starter " + next_step.format(typed(to)))
    if not score:
        return EXIT_OK
    return _score_both([source, discover_one(to)], rules, data, isolation=isolation, json_to=json_to)


def _refuse_contradictions(method: str, given: Mapping[str, object]) -> None:
    if {"keep", "macs"} <= given.keys():
        raise typer.BadParameter("give --keep or --macs, not both", param_hint="--macs")
    allowed = {"prune": {"keep", "macs"}, "tucker": {"keep", "macs"}, "quantize": {"bits", "calibrate"}}
    wrong = sorted(given.keys() - allowed.get(method, set()))
    if wrong and method == "reparameterize":
        raise typer.BadParameter(f"--method reparameterize takes no --{wrong[0]}: it folds all it can")
    if wrong:
        raise typer.BadParameter(f"--method {method} takes no --{wrong[0]}", param_hint=f"--{wrong[0]}")


def _show_costs(to: Path, before: "Compressed", after: "Compressed") -> None:
    print_line(err, f"{to}: {before.macs:,} MACs before, {after.macs:,} after")
    if any(step["kind"] == "quantize" for step in after.steps):
        print_line(
            err, f"{to}: {before.bit_operations:,} bit operations before, {after.bit_operations:,} after"
        )


def _train(source: SubmissionSource, dataset: Dataset) -> None:
    """Train a compressed plugin further and replace its weights."""
    from starter.recipes.training.loop import train
    from starter.recipes.training.settings import TrainSettings

    with progress("training") as tick:
        train(
            source,
            dataset,
            TrainSettings(from_weights=True, lr=0.001),
            log=lambda line: print_line(err, line),
            on_progress=tick,
        )


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
    with contextlib.suppress(UsageError):  # without a baseline, show costs but no score
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
