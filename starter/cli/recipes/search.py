"""`starter search`: small mobile networks for a range of MACs, found by Optuna."""

from pathlib import Path
from typing import Annotated

import typer

from starter.cli.common import (
    DataOption,
    JsonOption,
    RulesOption,
    can_be_made,
    err,
    open_data,
    out,
    progress,
    write_json,
)
from starter.contract.competition import load_competition
from starter.contract.text import typed
from starter.report.terminal import print_line


def search(  # noqa: PLR0913, PLR0917 - options of the command line
    to: Annotated[
        Path, typer.Option("--out", callback=can_be_made, help="Folder for the plugins and the HTML page.")
    ],
    study: Annotated[
        Path | None,
        typer.Option(
            callback=can_be_made,
            dir_okay=False,
            help="SQLite file of the study; resumed if it exists. Default: study.sqlite in --out.",
        ),
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, help="Total number of networks to train, earlier runs included.")
    ] = 40,
    min_macs: Annotated[int, typer.Option(min=1, help="Fewest MACs per image.")] = 500_000,
    max_macs: Annotated[int, typer.Option(min=1, help="Most MACs per image.")] = 20_000_000,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images per network.")] = 20,
    batch_size: Annotated[int, typer.Option(min=2, help="Images per step.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the proposals and of the training runs.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Networks to train in parallel.")] = 1,
    data: DataOption = None,
    competition: RulesOption = None,
    json_to: JsonOption = None,
) -> None:
    """Search for small mobile networks with few MACs and a high macro F1."""
    from starter.recipes.search.search import Search, SearchSettings, write_front
    from starter.recipes.training.settings import TrainSettings
    from starter.report.html.search import write_page

    if min_macs > max_macs:
        raise typer.BadParameter(
            f"{min_macs:,} is more than --max-macs {max_macs:,}", param_hint="--min-macs"
        )
    rules = load_competition(competition)
    settings = SearchSettings(
        trials=trials,
        min_macs=min_macs,
        max_macs=max_macs,
        jobs=jobs,
        train=TrainSettings(epochs=epochs, batch_size=batch_size, seed=seed),
    )
    running = Search(open_data(data, rules), settings, study or to / "study.sqlite", to)
    with progress("searching", estimate=True) as tick:
        running.run(lambda line: print_line(err, line), tick)
    found = running.found()
    best = write_front(to, found)
    page = write_page(found, best, to, rules.name)
    if json_to is not None:
        write_json(json_to, {"front": [item.model_dump(mode="json") for item in best]})
    if json_to != "-":
        for item in best:
            print_line(
                out, f"{to / item.folder}  MACs {item.macs:,}  validation macro F1 {item.macro_f1:.4f}"
            )
    print_line(err, f"page: {page}")
    print_line(err, f"next: starter score {typed(to / 'front')}")
