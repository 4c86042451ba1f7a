"""The command `starter batch`: evaluate many entries into a store."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starter.cli.common import (
    DataOption,
    IsolationOption,
    JsonOption,
    RulesOption,
    StoreOption,
    err,
    isolation_for,
    open_data,
    out,
    progress,
    store_url,
    write_json,
)
from starter.cli.exits import EXIT_HOST, EXIT_OK
from starter.contract.competition import load_competition
from starter.contract.errors import Status
from starter.contract.system.processors import available
from starter.contract.text import inline
from starter.report.terminal import print_line

if TYPE_CHECKING:
    from starter.contract.competition import CompetitionFile
    from starter.contract.protocol import KeptImages
    from starter.evaluation.evaluate import Evaluator
    from starter.evaluation.records import EvaluationRecord
    from starter.organizer.batch import Planned, Workers
    from starter.organizer.cluster.node import Work


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


def batch(  # noqa: PLR0913, PLR0917 - the command's options, one to one
    paths: Annotated[
        list[Path],
        typer.Argument(help="Zips, plugins, folders of them, or folders of teams' folders of them."),
    ],
    store: StoreOption = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="How many submissions are evaluated at once; 1, or all that a cluster can."),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="CSV: path, and any of team, submitted and selected."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    retry: Annotated[
        Retry | None, typer.Option(help="Evaluate again what failed, or only what failed by our fault.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="How many are evaluated at most.")] = None,
    cache_mb: Annotated[
        int, typer.Option("--cache-mb", min=0, help="Decoded images that are kept for the next, MiB.")
    ] = 4096,
    engine: Annotated[
        Engine, typer.Option(help="This machine, or a Ray cluster: starter[ray].")
    ] = Engine.LOCAL,
    cluster: Annotated[
        str, typer.Option(help="The cluster's HOST:PORT; auto: the one of this machine.")
    ] = "auto",
    cpus: Annotated[
        float, typer.Option("--cpus-per-worker", min=0.01, help="That a worker asks a node for.")
    ] = 1,
    gpus: Annotated[
        float, typer.Option("--gpus-per-worker", min=0, help="The same; with one, graphs are run on it.")
    ] = 0,
    data: DataOption = None,
    competition: RulesOption = None,
    isolation: IsolationOption = None,
    json_to: JsonOption = None,
) -> int:
    """Evaluate many entries into a store, each one once."""
    from starter.contract.protocol import KeptImages
    from starter.contract.system.extras import require_extra
    from starter.evaluation.evaluate import Evaluator, read_reference
    from starter.evaluation.records import Context
    from starter.organizer.batch import Action, Batch, own_temporary_folder, plan
    from starter.organizer.entries import find
    from starter.organizer.store.store import Store

    rules = load_competition(competition)
    baseline = rules.path(rules.baseline)
    reference = read_reference(baseline)
    dataset = open_data(data, rules)
    found = find(paths, index)
    holds_under = Context.of(rules, dataset.fingerprint(), reference)
    records: list[EvaluationRecord] = []
    with own_temporary_folder(), Store(store_url(store, rules)) as kept:
        context = kept.context_id(holds_under)
        with progress("reading") as tick:
            planned = plan(
                found,
                rules,
                kept,
                context,
                retry=retry.takes if retry else lambda _: False,
                limit=limit,
                tell=tick,
            )
        if dry_run:
            _show_plan(planned)
            return EXIT_OK

        evaluator = partial(
            Evaluator, rules, dataset, reference=reference, reference_path=baseline / "reference.json"
        )
        todo = sum(item.action is Action.EVALUATE for item in planned)
        if engine is Engine.RAY:
            resources = {"CPU": cpus, "GPU": gpus}
            require_extra("ray", "--engine ray")
            from starter.organizer.cluster.node import work_of

            work = partial(work_of, rules, dataset, isolation=isolation, cache_mb=cache_mb)
            workers = _on_cluster(work, evaluator, cluster, resources, jobs)
        else:
            folder = rules.path(".starter") / "images"
            kept_images = KeptImages(folder=folder, limit_mb=cache_mb, fingerprint=holds_under.data)
            workers = _in_this_machine(rules, evaluator, min(jobs or 1, todo), isolation, kept_images)
        with progress("evaluating", estimate=True) as tick:

            def told(state: Any, record: "EvaluationRecord") -> None:
                tick(state.done, state.total, record.result.name)
                if not err.is_terminal:
                    print_line(err, f"{state.done}/{state.total}  {_line(record)}")
                records.append(record)

            state = Batch(planned, kept, (context, holds_under), rules, tell=told).run(workers)
    if json_to is not None:
        write_json(json_to, _json(planned, records))
    if json_to != "-":
        _show_end(planned, state.statuses)
    return EXIT_HOST if state.statuses[Status.HOST_ERROR] else EXIT_OK


def _in_this_machine(
    rules: "CompetitionFile",
    evaluator: "Callable[..., Evaluator]",
    jobs: int,
    isolation: str | None,
    kept: "KeptImages",
) -> "Workers":
    """Return jobs that share the cores and the kept images."""
    from starter.evaluation.measure import Images, LocalMeasurer
    from starter.organizer.batch import LocalJobs

    chosen = isolation_for("batch", rules, isolation)
    threads = max(1, available().threads // max(1, jobs))

    def measurer(images: Images) -> LocalMeasurer:
        return LocalMeasurer(rules, replace(images, kept=kept), isolation=chosen, threads=threads)

    return LocalJobs(partial(evaluator, measurer=measurer), jobs)


def _on_cluster(
    work: "Callable[..., Work]",
    evaluator: "Callable[..., Evaluator]",
    address: str,
    resources: dict[str, float],
    jobs: int | None,
) -> "Workers":
    """Return the workers of a Ray cluster."""
    from starter.organizer.cluster.driver import Cluster

    return Cluster(
        work(device="cuda" if resources["GPU"] else "cpu"),
        address,
        resources,
        jobs=jobs,
        evaluator=lambda measurer: evaluator(measurer=measurer),
        tell=lambda text: print_line(err, inline(text)),
    )


def _line(record: "EvaluationRecord") -> str:
    result = record.result
    if result.score is not None:
        return f"{inline(result.name)}  ok  score {result.score:.4f}"
    return f"{inline(result.name)}  {result.status}  {result.error.code if result.error else ''}".rstrip()


def _json(planned: "Sequence[Planned]", records: "Sequence[EvaluationRecord]") -> dict[str, Any]:
    return {
        "entries": [
            {
                "team": item.found.team,
                "name": item.found.name,
                "submission": item.submission,
                "action": item.action.value,
                "refused": item.refused,
            }
            for item in planned
        ],
        "results": [record.for_participant().model_dump(mode="json") for record in records],
    }


def _show_plan(planned: "Sequence[Planned]") -> None:
    for item in planned:
        reason = f"  {item.refused}" if item.refused else ""
        print_line(out, f"{item.action:9}  {inline(item.found.team)}/{inline(item.found.name)}{reason}")
    print_line(out)
    counts = Counter(item.action.value for item in planned)
    print_line(out, f"{len(planned)} entries: {_counts(counts, counts)}")
    print_line(err, "nothing was evaluated: --dry-run")


def _show_end(planned: "Sequence[Planned]", statuses: "Counter[Status]") -> None:
    counts = Counter(item.action.value for item in planned)
    now = counts.pop("evaluate", 0)
    parts = ([f"{now} evaluated now"] if now else []) + [f"{n} {name}" for name, n in counts.items()]
    print_line(out, f"{len(planned)} entries: {', '.join(parts)}")
    if statuses:
        results = Counter({status.value: n for status, n in statuses.items()})
        print_line(out, f"{statuses.total()} results: {_counts(results, Status)}")
    if statuses[Status.HOST_ERROR]:
        print_line(err, "some failed by this machine's fault; again with: --retry host")
    print_line(err, "next: starter leaderboard")


def _counts(counts: "Counter[str]", order: Iterable[str]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in order if counts[name])
