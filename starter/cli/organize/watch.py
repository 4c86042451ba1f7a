"""`starter batch --watch`: evaluate what arrives, and keep the site up to date, until it is ended."""

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from starter.cli.common import err, out
from starter.cli.exits import EXIT_OK
from starter.cli.organize.batch_output import entry_name, record_line, show_left_out
from starter.cli.organize.workers import Contest, Engines
from starter.contract.errors import Status
from starter.contract.text import inline, listed
from starter.report.terminal import print_line

if TYPE_CHECKING:
    from starter.contract.competition import CompetitionFile
    from starter.evaluation.records import EvaluationRecord
    from starter.organizer.arrivals import Arrivals
    from starter.organizer.batch import Progress
    from starter.organizer.plan import PlannedEntry
    from starter.organizer.store.store import Store
    from starter.organizer.waiting import Queue
    from starter.organizer.watch import Ending, Watch

_DURATIONS = 20
"""Of how many evaluations before the watch the durations are known to it."""

_MOST_TROUBLES = 100
"""So many different troubles are told once each; then they may be told again."""


_GRACE = timedelta(minutes=1)
"""So long after a phase has ended its entries are still looked for: they become whole."""


def watch_entries(  # noqa: PLR0913, PLR0917 - what the command was told
    contest: Contest,
    following: Callable[[], Contest] | None,
    kept: "Store",
    engines: Engines,
    paths: Sequence[Path],
    index: Path | None,
    every: float,
    site: Path | None,
    retry: Callable[[Status], bool],
) -> int:
    """Evaluate what arrives at paths until SIGTERM, phase after phase; return the exit code.

    Args:
        contest: what entries are evaluated by.
        following: makes the contest of the phase that has opened; None: the phase was named, and stays.
        kept: where results go.
        engines: who evaluates.
        paths: where entries arrive.
        index: what is known of them.
        every: seconds between two looks.
        site: the folder of the site; None: there is none.
        retry: whether an entry is evaluated again when its content has a result of this status.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        UsageError: U130, somebody holds the store; a path, the index or the site is wrong.
        HostError: the store, the runner or the sandbox failed; what was finished is stored.
    """
    from starter.organizer.arrivals import Arrivals
    from starter.organizer.store.holding import held

    where = listed([inline(str(path)) for path in paths])
    evaluated = 0
    ended = _Termination()
    with ended.heard(), held(kept.url, "starter batch --watch") as check:
        print_line(err, f"watching {where}{f'; site: {site}' if site else ''}; stop with Ctrl-C or SIGTERM")
        while True:
            arrivals = Arrivals(paths, index, every=every, zone=contest.rules.calendar.timezone)
            ending = partial(_ending, ended, contest.rules, may_change=following is not None)
            watch = _watch(contest, kept, arrivals, site, retry, engines.jobs or 1, check, ending)
            workers = engines.workers(contest, None)
            ended.hear()  # Ray takes the signal for itself
            evaluated += watch.run(workers).done
            if ended.is_asked or following is None:
                break
            contest = following()
            print_line(err, f"{contest.rules.calendar.title} has begun")
    left = f"{watch.waiting} without a result; run the same command to resume"
    print_line(out, f"stopped: {evaluated} evaluated, {left if watch.waiting else 'none waiting'}")
    return EXIT_OK


def _watch(  # noqa: PLR0913, PLR0917 - what `watch_entries` was told
    contest: Contest,
    kept: "Store",
    arrivals: "Arrivals",
    site: Path | None,
    retry: Callable[[Status], bool],
    jobs: int,
    check: Callable[[], None],
    ending: "Callable[[], Ending]",
) -> "Watch":
    """Return the watch of one phase."""
    from starter.organizer.batch import Batch
    from starter.organizer.plan import plan
    from starter.organizer.watch import Watch, last_durations

    number = kept.context_id(contest.holds_under)
    batch = Batch((), kept, (number, contest.holds_under), contest.rules, on_result=_show_result)
    batch.progress.seconds.extend(last_durations(kept, number, _DURATIONS))
    planner = partial(plan, competition=contest.rules, store=kept, context=number, retry=retry)
    display = _Display(contest, kept, site)
    return Watch(batch, arrivals, planner, display, jobs=jobs, check=check, ending=ending)


def _ending(ended: "_Termination", rules: "CompetitionFile", *, may_change: bool) -> "Ending":
    """Say whether a watch by these rules is to end: it was asked to, or their phase is over."""
    from starter.organizer.watch import Ending

    if ended.is_asked:
        return Ending.NOW
    now = datetime.now(UTC)
    is_over = may_change and rules.phase not in (rules.phase_at(now), rules.phase_at(now - _GRACE))
    return Ending.WHEN_DONE if is_over else Ending.NOT_YET


class _Termination:
    """Whether the command was asked to end by SIGTERM, which systemd and docker send."""

    def __init__(self) -> None:
        self.is_asked = False

    def _ask(self, _: int, __: FrameType | None) -> None:
        self.is_asked = True

    def hear(self) -> None:
        """Hear the signal, which then ends nothing by itself."""
        signal.signal(signal.SIGTERM, self._ask)

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Hear the signal for as long as the context lasts."""
        before = signal.getsignal(signal.SIGTERM)
        self.hear()
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


def _show_result(state: "Progress", record: "EvaluationRecord") -> None:
    print_line(err, f"{state.done}/{state.total}  {record_line(record)}")


class _Display:
    """Shows what a watch does: on stderr, and on the site where there is one."""

    def __init__(self, contest: Contest, kept: "Store", site: Path | None) -> None:
        self._contest, self._kept, self._site = contest, kept, site
        self._told: set[str] = set()

    def write_page(self, queue: "Queue") -> None:
        """Write the site."""
        from starter.organizer.leaderboard.standings import Standings
        from starter.report.html.leaderboard import write_board

        if self._site is not None:
            contest = self._contest
            standings = Standings(self._kept, contest.rules, contest.dataset, contest.reference)
            board = standings.board(reveal=contest.rules.calendar.is_revealed(datetime.now(UTC)))
            write_board(board, self._site, standings.details(board), queue)

    def show_planned(self, entries: "Sequence[PlannedEntry]") -> None:
        """Say whose times have no offset, what is left out of zips, and who has no place."""
        from starter.organizer.plan import Action, zone_note

        for note in zone_note(entries, self._contest.rules):
            print_line(err, note)
        show_left_out(entry for entry in entries if entry.action is not Action.DONE)
        for entry in entries:
            if entry.refused:
                verdict = "refused" if entry.action is Action.REFUSED else "not ranked"
                print_line(err, f"{entry_name(entry)}  {verdict}: {inline(entry.refused)}")

    def show_trouble(self, error: Exception) -> None:
        """Say why nothing, or not all, can be taken for now; each reason once."""
        if str(error) in self._told:
            return
        if len(self._told) >= _MOST_TROUBLES:
            self._told.clear()
        self._told.add(str(error))
        print_line(err, f"{inline(str(error))}; still watching")
