"""The command `starter batch`: evaluate many entries into a store. Joined to the command line by cli.py."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starter.cli_shared import (
    EXIT_HOST,
    EXIT_OK,
    DataOption,
    IsolationOption,
    JsonOption,
    RulesOption,
    StoreOption,
    err,
    open_data,
    out,
    progress,
    store_url,
    write_json,
)
from starter.competition import load_competition
from starter.errors import Status
from starter.scoreboard import inline, say

if TYPE_CHECKING:
    from starter.batch import Planned
    from starter.records import EvaluationRecord


class Retry(StrEnum):
    """Which results `--retry` evaluates again."""

    FAILED = "failed"
    HOST = "host"

    def takes(self, status: Status) -> bool:
        """Say whether a result is evaluated again."""
        return status is Status.HOST_ERROR or (self is Retry.FAILED and status is not Status.OK)


def batch(  # noqa: PLR0913, PLR0917 - the command's options, one to one
    paths: Annotated[
        list[Path],
        typer.Argument(help="Zips, plugins, folders of them, or folders of teams' folders of them."),
    ],
    store: StoreOption = None,
    jobs: Annotated[int, typer.Option(min=1, help="How many submissions are evaluated at once.")] = 1,
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
    data: DataOption = None,
    competition: RulesOption = None,
    isolation: IsolationOption = None,
    json_to: JsonOption = None,
) -> int:
    """Evaluate many entries into a store; what is done already is not done again."""
    from dataclasses import replace

    from starter.batch import Batch, LocalJobs, own_temporary_folder, plan
    from starter.entries import find
    from starter.evaluate import Evaluator, read_reference
    from starter.measure import Images, Measurer
    from starter.records import Context
    from starter.room import choose
    from starter.schema import KeptImages
    from starter.store import Store

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

        level = choose(rules, isolation)
        images = KeptImages(
            folder=rules.path(".starter") / "images", limit_mb=cache_mb, fingerprint=holds_under.data
        )

        def measurer(source: Images) -> Measurer:
            threads = max(1, (os.cpu_count() or 1) // jobs)
            return Measurer(rules, replace(source, kept=images), isolation=level, threads=threads)

        def evaluator() -> Evaluator:
            path = baseline / "reference.json"
            return Evaluator(rules, dataset, reference=reference, reference_path=path, measurer=measurer)

        with progress("evaluating", estimate=True) as tick:

            def told(state: Any, record: "EvaluationRecord") -> None:
                tick(state.done, state.total, record.result.name)
                if not err.is_terminal:
                    say(err, f"{state.done}/{state.total}  {_line(record)}")
                records.append(record)

            work = Batch(planned, kept, (context, holds_under), rules, tell=told)
            state = work.run(LocalJobs(evaluator, min(jobs, work.progress.total)))
    if json_to is not None:
        write_json(json_to, _json(planned, records))
    if json_to != "-":
        _show_end(planned, state.statuses)
    return EXIT_HOST if state.statuses[Status.HOST_ERROR] else EXIT_OK


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
        say(out, f"{item.action:9}  {inline(item.found.team)}/{inline(item.found.name)}{reason}")
    say(out)
    counts = Counter(item.action.value for item in planned)
    say(out, f"{len(planned)} entries: {_counts(counts, counts)}")
    say(err, "nothing was evaluated: --dry-run")


def _show_end(planned: "Sequence[Planned]", statuses: "Counter[Status]") -> None:
    counts = Counter(item.action.value for item in planned)
    now = counts.pop("evaluate", 0)
    parts = ([f"{now} evaluated now"] if now else []) + [f"{n} {name}" for name, n in counts.items()]
    say(out, f"{len(planned)} entries: {', '.join(parts)}")
    if statuses:
        results = Counter({status.value: n for status, n in statuses.items()})
        say(out, f"{statuses.total()} results: {_counts(results, Status)}")
    if statuses[Status.HOST_ERROR]:
        say(err, "some failed by this machine's fault; again with: --retry host")
    say(err, "next: starter leaderboard")


def _counts(counts: "Counter[str]", order: Iterable[str]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in order if counts[name])
