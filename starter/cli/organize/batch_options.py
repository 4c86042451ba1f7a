"""The options of `starter batch`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from starter.cli.common import can_be_made
from starter.contract.errors import Status


class Retry(StrEnum):
    """Which results `--retry` evaluates again."""

    FAILED = "failed"
    HOST = "host"

    def takes(self, status: Status) -> bool:
        """Say whether a result is evaluated again."""
        return status is Status.HOST_ERROR or (self is Retry.FAILED and status is not Status.OK)


class Engine(StrEnum):
    """Where entries are evaluated."""

    LOCAL = "local"
    RAY = "ray"


EntryPaths = Annotated[
    list[Path],
    typer.Argument(help="Zips and plugins, folders of them, or a folder with one such folder per team."),
]
JobsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Submissions to evaluate in parallel; default: 1, or as many as a cluster can."),
]
IndexOption = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="CSV file with the column path and any of team, submitted and selected.",
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Open the zips and show the plan, but evaluate nothing.")
]
RetryOption = Annotated[
    Retry | None,
    typer.Option(help="Evaluate again all failed entries, or only those that failed because of us."),
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Evaluate at most this many.")]
CacheOption = Annotated[
    int,
    typer.Option("--cache-mb", min=0, help="Keep at most this many MiB of decoded images for later entries."),
]
EngineOption = Annotated[
    Engine, typer.Option(help="Evaluate on this machine, or on a Ray cluster (needs the extra ray).")
]
ClusterOption = Annotated[str, typer.Option(help="HOST:PORT of the cluster; auto: the one on this machine.")]
CpusOption = Annotated[
    float, typer.Option("--cpus-per-worker", min=0.01, help="CPUs that a worker reserves on its node.")
]
GpusOption = Annotated[
    float,
    typer.Option("--gpus-per-worker", min=0, help="GPUs that a worker reserves; with one, graphs run on it."),
]
WatchOption = Annotated[
    bool, typer.Option("--watch", help="Go on: evaluate what arrives, until Ctrl-C or SIGTERM.")
]
HtmlOption = Annotated[
    Path | None,
    typer.Option(
        "--html", callback=can_be_made, help="With --watch: keep the site up to date in this folder."
    ),
]
EveryOption = Annotated[
    float, typer.Option(min=0.1, help="With --watch: seconds between two looks for entries.")
]
