"""`starter batch --watch`: evaluate what arrives, and keep the site up to date, until it is ended."""

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
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
    from starter.evaluation.records import EvaluationRecord
    from starter.organizer.batch import Progress
    from starter.organizer.plan import PlannedEntry
    from starter.organizer.store.store import Store
    from starter.organizer.waiting import Queue

_DURATIONS = 20
"""Of how many evaluations before the watch the durations are known to it."""

_MOST_TROUBLES = 100
"""So many different troubles are told once each; then they may be told again."""


def watch_entries(  # noqa: PLR0913, PLR0917 - what the command was told
    contest: Contest,
    kept: "Store",
    engines: Engines,
    paths: Sequence[Path],
    index: Path | None,
    every: float,
    site: Path | None,
    retry: Callable[[Status], bool],
) -> int:
    """Evaluate what arrives at paths until SIGTERM; return the exit code.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        UsageError: U130, somebody holds the store; a path, the index or the site is wrong.
        HostError: the store, the runner or the sandbox failed; what was finished is stored.
    """
    from starter.organizer.arrivals import Arrivals
    from starter.organizer.batch import Batch
    from starter.organizer.plan import plan
    from starter.organizer.store.holding import held
    from starter.organizer.watch import Watch, last_durations

    ended = _Termination()
    with ended.heard(), held(kept.url, "starter batch --watch") as check:
        number = kept.context_id(contest.holds_under)
        batch = Batch((), kept, (number, contest.holds_under), contest.rules, on_result=_show_result)
        batch.progress.seconds.extend(last_durations(kept, number, _DURATIONS))
        watch = Watch(
            batch,
            Arrivals(paths, index, every=every, zone=contest.rules.calendar.timezone),
            partial(plan, competition=contest.rules, store=kept, context=number, retry=retry),
            _Display(contest, kept, site),
            jobs=engines.jobs or 1,
            check=check,
            is_stopped=lambda: ended.is_asked,
        )
        where = listed([inline(str(path)) for path in paths])
        print_line(err, f"watching {where}{f'; site: {site}' if site else ''}; end it with Ctrl-C or SIGTERM")
        done = watch.run(engines.workers(contest, None))
    left = f"{watch.waiting} without a result; the same command goes on with them"
    print_line(out, f"ended: {done.done} evaluated, {left if watch.waiting else 'none waits'}")
    return EXIT_OK


class _Termination:
    """Whether the command was asked to end by SIGTERM, which systemd and docker send."""

    def __init__(self) -> None:
        self.is_asked = False

    def _ask(self, _: int, __: FrameType | None) -> None:
        self.is_asked = True

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Hear the signal, which then ends nothing by itself."""
        before = signal.signal(signal.SIGTERM, self._ask)
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
