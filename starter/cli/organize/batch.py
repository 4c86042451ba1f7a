"""The command `starter batch`: evaluate many entries into a store."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from starter.cli.common import (
    DataOption,
    IsolationOption,
    JsonOption,
    RulesOption,
    StoreOption,
    progress,
    store_url,
    write_json,
)
from starter.cli.exits import EXIT_HOST, EXIT_OK
from starter.cli.organize.batch_options import (
    CacheOption,
    ClusterOption,
    CpusOption,
    DryRunOption,
    Engine,
    EngineOption,
    EntryPaths,
    EveryOption,
    GpusOption,
    HtmlOption,
    IndexOption,
    JobsOption,
    LimitOption,
    RetryOption,
    WatchOption,
)
from starter.cli.organize.batch_output import Results, as_json, show_end, show_left_out, show_plan
from starter.cli.organize.env import AnyEnvironmentOption, in_environment
from starter.cli.organize.phases import PhaseOption, planned
from starter.cli.organize.watch import watch_entries
from starter.cli.organize.workers import Contest, Engines
from starter.contract.competition import load_competition
from starter.contract.errors import Status

if TYPE_CHECKING:
    from starter.organizer.plan import PlannedEntry
    from starter.organizer.store.store import Store


def batch(  # noqa: PLR0913, PLR0917 - the command's options, one to one
    paths: EntryPaths,
    store: StoreOption = None,
    jobs: JobsOption = None,
    index: IndexOption = None,
    dry_run: DryRunOption = False,
    retry: RetryOption = None,
    limit: LimitOption = None,
    watch: WatchOption = False,
    html_to: HtmlOption = None,
    every: EveryOption = 2.0,
    cache_mb: CacheOption = 4096,
    engine: EngineOption = Engine.LOCAL,
    cluster: ClusterOption = "auto",
    cpus: CpusOption = 1,
    gpus: GpusOption = 0,
    phase: PhaseOption = None,
    data: DataOption = None,
    competition: RulesOption = None,
    isolation: IsolationOption = None,
    any_environment: AnyEnvironmentOption = False,
    json_to: JsonOption = None,
) -> int:
    """Evaluate many entries, each one once, and keep the results in a store."""
    from starter.organizer.entries import find
    from starter.organizer.store.holding import held
    from starter.organizer.store.store import Store

    _check_together(watch, html_to is not None, dry_run, limit is not None, json_to is not None)
    whole = load_competition(competition)

    def contest_now() -> Contest:
        return Contest.of(in_environment(whole.in_phase(phase), any_environment=any_environment), data)

    contest = contest_now()
    rules = contest.rules
    engines = Engines(engine, jobs, isolation, cache_mb, cluster, cpus, gpus)
    again = retry.takes if retry else lambda _: False
    sources = [] if watch else find(paths, index, rules.calendar.timezone)

    def plan(kept: Store) -> "list[PlannedEntry]":
        return planned(sources, rules, kept, kept.context_id(contest.holds_under), retry=again, limit=limit)

    with Store(store_url(store, rules)) as kept:
        if watch:
            following = None if phase else contest_now
            return watch_entries(contest, following, kept, engines, paths, index, every, html_to, again)
        if dry_run:
            return show_plan(plan(kept), json_to)
        with held(kept.url, "starter batch"):
            return _evaluate(contest, kept, engines, plan(kept), json_to)


def _check_together(watch: bool, html: bool, dry_run: bool, limit: bool, json: bool) -> None:
    if html and not watch:
        raise typer.BadParameter("--html needs --watch; after a batch: starter leaderboard --html FOLDER")
    given = {"--dry-run": dry_run, "--limit": limit, "--json": json}
    if watch and any(given.values()):
        names = ", ".join(name for name, is_given in given.items() if is_given)
        raise typer.BadParameter(f"--watch runs until it is stopped, so it cannot take {names}")


def _evaluate(
    contest: Contest, kept: "Store", engines: Engines, entries: "Sequence[PlannedEntry]", json_to: str | None
) -> int:
    """Work a plan off and show what came out; return the exit code."""
    from starter.organizer.batch import Batch
    from starter.organizer.plan import Action

    show_left_out(entry for entry in entries if entry.action is not Action.DONE)
    workers = engines.workers(contest, sum(entry.action is Action.EVALUATE for entry in entries))
    context = kept.context_id(contest.holds_under), contest.holds_under
    with progress("evaluating", estimate=True) as tick:
        results = Results(tick)
        end = Batch(entries, kept, context, contest.rules, on_result=results.add).run(workers)
    if json_to is not None:
        write_json(json_to, as_json(entries, results.records))
    if json_to != "-":
        show_end(entries, end.statuses)
    return EXIT_HOST if end.statuses[Status.HOST_ERROR] else EXIT_OK
