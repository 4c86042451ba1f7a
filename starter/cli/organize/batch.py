"""The command `starter batch`: evaluate many entries into a store."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.common import (
    DataOption,
    IsolationOption,
    JsonOption,
    RulesOption,
    StoreOption,
    err,
    in_force,
    isolation_for,
    open_data,
    out,
    progress,
    store_url,
    write_json,
)
from starter.cli.exits import EXIT_HOST, EXIT_OK, EXIT_PARTICIPANT
from starter.cli.organize.env import AnyEnvironmentOption, in_environment
from starter.contract.competition import load_competition
from starter.contract.errors import Problem, Status
from starter.contract.system.processors import available
from starter.contract.text import inline, listed
from starter.report.problems import MOST_TOLD, print_found
from starter.report.terminal import print_line

if TYPE_CHECKING:
    from starter.contract.competition import CompetitionFile
    from starter.contract.protocol import KeptImages
    from starter.data.dataset import Dataset
    from starter.evaluation.evaluate import Evaluator
    from starter.evaluation.records import EvaluationRecord
    from starter.organizer.batch import Progress, Workers
    from starter.organizer.cluster.node import Work
    from starter.organizer.plan import PlannedEntry


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


def batch(  # noqa: PLR0913, PLR0917 - the command's options, one to one
    paths: EntryPaths,
    store: StoreOption = None,
    jobs: JobsOption = None,
    index: IndexOption = None,
    dry_run: DryRunOption = False,
    retry: RetryOption = None,
    limit: LimitOption = None,
    cache_mb: CacheOption = 4096,
    engine: EngineOption = Engine.LOCAL,
    cluster: ClusterOption = "auto",
    cpus: CpusOption = 1,
    gpus: GpusOption = 0,
    data: DataOption = None,
    competition: RulesOption = None,
    isolation: IsolationOption = None,
    any_environment: AnyEnvironmentOption = False,
    json_to: JsonOption = None,
) -> int:
    """Evaluate many entries, each one once, and keep the results in a store."""
    from starter.evaluation.evaluate import Evaluator, read_reference
    from starter.evaluation.records import Context
    from starter.organizer.batch import Batch
    from starter.organizer.entries import find
    from starter.organizer.plan import Action, plan
    from starter.organizer.store.store import Store

    rules = in_environment(load_competition(competition), any_environment=any_environment)
    baseline = rules.path(rules.baseline)
    reference = read_reference(baseline)
    rules = in_force(rules, reference)
    dataset = open_data(data, rules)
    sources = find(paths, index)
    holds_under = Context.of(rules, dataset.fingerprint(), reference)
    with Store(store_url(store, rules)) as kept:
        context = kept.context_id(holds_under)
        again = retry.takes if retry else lambda _: False
        with progress("reading") as tick:
            entries = plan(sources, rules, kept, context, retry=again, limit=limit, on_progress=tick)
        if dry_run:
            return _show_plan(entries, json_to)
        _show_left_out(entry for entry in entries if entry.action is not Action.DONE)
        evaluator = partial(
            Evaluator, rules, dataset, reference=reference, reference_path=baseline / "reference.json"
        )
        if engine is Engine.RAY:
            work = _work(rules, dataset, isolation, cache_mb, device="cuda" if gpus else "cpu")
            workers = _on_cluster(work, evaluator, cluster, {"CPU": cpus, "GPU": gpus}, jobs)
        else:
            todo = sum(entry.action is Action.EVALUATE for entry in entries)
            images = _kept_images(rules, cache_mb, holds_under.data)
            workers = _in_this_machine(rules, evaluator, min(jobs or 1, todo), isolation, images)
        with progress("evaluating", estimate=True) as tick:
            results = _Results(tick)
            end = Batch(entries, kept, (context, holds_under), rules, on_result=results.add).run(workers)
    if json_to is not None:
        write_json(json_to, _json(entries, results.records))
    if json_to != "-":
        _show_end(entries, end.statuses)
    return EXIT_HOST if end.statuses[Status.HOST_ERROR] else EXIT_OK


class _Results:
    """Collects records, and shows each as it comes.

    Args:
        tick: moves the bar.
    """

    def __init__(self, tick: Callable[[int, int, str], None]) -> None:
        self._tick = tick
        self.records: list[EvaluationRecord] = []

    def add(self, state: "Progress", record: "EvaluationRecord") -> None:
        """Take one result."""
        self._tick(state.done, state.total, record.result.name)
        if not err.is_terminal:
            print_line(err, f"{state.done}/{state.total}  {_line(record)}")
        self.records.append(record)


def _kept_images(rules: "CompetitionFile", cache_mb: int, fingerprint: str) -> "KeptImages":
    from starter.contract.protocol import KeptImages

    return KeptImages(folder=rules.path(".starter") / "images", limit_mb=cache_mb, fingerprint=fingerprint)


def _in_this_machine(
    rules: "CompetitionFile",
    evaluator: "Callable[..., Evaluator]",
    jobs: int,
    isolation: str | None,
    kept: "KeptImages",
) -> "Workers":
    """Return jobs that share the cores and the kept images."""
    from starter.evaluation.measure import Images, LocalMeasurer
    from starter.evaluation.runner.speed import SpeedPlan
    from starter.organizer.batch import LocalJobs

    chosen = isolation_for("batch", rules, isolation)
    threads = max(1, available().threads // max(1, jobs))
    speed = SpeedPlan.of(rules)

    def measurer(given: Images) -> LocalMeasurer:
        return LocalMeasurer(rules, replace(given, kept=kept), isolation=chosen, threads=threads, speed=speed)

    return LocalJobs(partial(evaluator, measurer=measurer), jobs)


def _work(
    rules: "CompetitionFile", dataset: "Dataset", isolation: str | None, cache_mb: int, *, device: str
) -> "Work":
    """Return what the workers of a Ray cluster are sent."""
    from starter.contract.system.extras import require_extra

    require_extra("ray", "--engine ray")
    from starter.organizer.cluster.node import work_of

    return work_of(rules, dataset, isolation=isolation, cache_mb=cache_mb, device=device)


def _on_cluster(
    work: "Work",
    evaluator: "Callable[..., Evaluator]",
    address: str,
    resources: dict[str, float],
    jobs: int | None,
) -> "Workers":
    """Return the workers of a Ray cluster."""
    from starter.organizer.cluster.driver import Cluster

    return Cluster(
        work,
        address,
        resources,
        jobs=jobs,
        evaluator=lambda measurer: evaluator(measurer=measurer),
        on_node_event=lambda text: print_line(err, inline(text)),
    )


def _line(record: "EvaluationRecord") -> str:
    result = record.result
    if result.score is not None:
        return f"{inline(result.name)}  ok  score {result.score:.4f}"
    return f"{inline(result.name)}  {result.status}  {result.error.code if result.error else ''}".rstrip()


def _name(entry: "PlannedEntry") -> str:
    return f"{inline(entry.source.team)}/{inline(entry.source.name)}"


def _left_out(entry: "PlannedEntry") -> str:
    return f"  ignored: {listed([*map(inline, entry.left_out)])}" if entry.left_out else ""


def _short(problem: Problem) -> str:
    """Return a problem of an entry's files on one line; of a zip with the member."""
    _, _, member = problem.where.partition(".zip: ")
    return inline(f"{problem.code} {member}{': ' if member else ''}{problem.got}")


def _show_left_out(entries: "Iterable[PlannedEntry]") -> None:
    partial = [entry for entry in entries if entry.left_out]
    for entry in partial[:MOST_TOLD]:
        print_line(err, f"{_name(entry)}{_left_out(entry)}")
    if partial[MOST_TOLD:]:
        print_line(
            err, f"... and {len(partial) - MOST_TOLD:,} more entries leave files out: --json names all"
        )


def _json(entries: "Sequence[PlannedEntry]", records: "Sequence[EvaluationRecord]") -> dict[str, object]:
    return {
        "entries": [
            {
                "team": entry.source.team,
                "name": entry.source.name,
                "submission": entry.submission,
                "action": entry.action.value,
                "refused": entry.refused,
            }
            | ({"problems": [p.model_dump(mode="json") for p in entry.problems]} if entry.problems else {})
            | ({"left_out": list(entry.left_out)} if entry.left_out else {})
            for entry in entries
        ],
        "results": [record.for_participant().model_dump(mode="json") for record in records],
    }


def _show_plan(entries: "Sequence[PlannedEntry]", json_to: str | None) -> int:
    """Show what would become of each entry, and what is wrong with its files; return the exit code."""
    from starter.organizer.plan import Action

    if json_to is not None:
        write_json(json_to, _json(entries, []))
    for entry in entries if json_to != "-" else ():
        reason = "".join(f"  {text}" for text in (entry.refused, *map(_short, entry.problems[:1])) if text)
        print_line(out, f"{entry.outcome:9}  {_name(entry)}{reason}{_left_out(entry)}")
    counts = Counter(entry.outcome for entry in entries)
    if json_to != "-":
        print_line(out)
        print_line(out, f"{len(entries)} entries: {_counts(counts, counts)}")
    print_found(err, [(str(entry.source.path), problem) for entry in entries for problem in entry.problems])
    print_line(err, "nothing was evaluated: --dry-run")
    fails = any(entry.problems or entry.action is Action.REFUSED for entry in entries)
    return EXIT_PARTICIPANT if fails else EXIT_OK


def _show_end(entries: "Sequence[PlannedEntry]", statuses: "Counter[Status]") -> None:
    counts = Counter(entry.action.value for entry in entries)
    now = counts.pop("evaluate", 0)
    parts = ([f"{now} evaluated now"] if now else []) + [f"{n} {name}" for name, n in counts.items()]
    print_line(out, f"{len(entries)} entries: {', '.join(parts)}")
    if statuses:
        results = Counter({status.value: n for status, n in statuses.items()})
        print_line(out, f"{statuses.total()} results: {_counts(results, Status)}")
    if statuses[Status.HOST_ERROR]:
        print_line(err, "Some entries failed because of this machine; rerun with `--retry host`.")
    print_line(err, "next: starter leaderboard")


def _counts(counts: "Counter[str]", order: Iterable[str]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in order if counts[name])
