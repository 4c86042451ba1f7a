"""Watch a competition: entries that arrive are evaluated, and the page is written after each result.

The command's thread looks for entries (arrivals.py), plans them (plan.py) and writes the page; a batch's jobs
(batch.py) evaluate meanwhile, and their workers stay between entries.
"""

import errno
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Protocol

from starter.contract.errors import UsageError
from starter.evaluation.runner.speed import SpeedMeasurer
from starter.organizer.arrivals import Arrivals
from starter.organizer.batch import Batch, Progress, Workers
from starter.organizer.entries import EntrySource
from starter.organizer.plan import Action, PlannedEntry
from starter.organizer.store.store import Store
from starter.organizer.waiting import Queue

_MOST_AT_ONCE = 100
"""How many entries are planned before jobs begin with them, and a page shows them."""

_LONGEST_PAGE = 600.0
"""A page is written again after so many seconds: the calendar moves it too, and it says when it was made."""

_LEAST_PAUSE = 10
"""A look is followed by a pause of at least so many times what it took."""


class Ending(Enum):
    """Whether a watch is to end."""

    NOT_YET = auto()
    WHEN_DONE = auto()
    """What waits is evaluated; what arrives is not taken."""
    NOW = auto()
    """What is being evaluated may be finished within 20 s, or it has no result."""


class Planner(Protocol):
    """What says what will be done with entries: plan.py, with all but these arguments given."""

    def __call__(
        self, sources: Sequence[EntrySource], *, on_progress: Callable[[int, int], None]
    ) -> list[PlannedEntry]:
        """Return a plan."""


class Display(Protocol):
    """Whoever shows what a watch does."""

    def write_page(self, queue: Queue) -> None:
        """Write the page."""

    def show_planned(self, entries: Sequence[PlannedEntry]) -> None:
        """Say what is done with entries that have arrived."""

    def show_trouble(self, error: Exception) -> None:
        """Say why nothing, or not all, can be taken for now."""


class _StoppedError(Exception):
    """The watch is to end while entries are planned."""


class Watch:
    """Evaluates what arrives, until it is stopped.

    Args:
        batch: what evaluates it; it has no entry yet.
        arrivals: what arrives.
        planner: decides about it.
        display: shows it.
        jobs: how many entries are evaluated in parallel.
        check: called at each look; it raises where the watch must not go on.
        ending: whether the watch is to end.
    """

    def __init__(
        self,
        batch: Batch,
        arrivals: Arrivals,
        planner: Planner,
        display: Display,
        *,
        jobs: int,
        check: Callable[[], None],
        ending: Callable[[], Ending],
    ) -> None:
        self._batch, self._arrivals, self._planner, self._display = batch, arrivals, planner, display
        self._jobs, self._check, self._ending = jobs, check, ending
        self._arrived: list[EntrySource] = []
        self._has_looked = False
        self._next_look = self._next_page = self._oldest_page = 0.0
        self._is_stale = True
        self._shown: tuple[int, list[PlannedEntry]] = 0, []

    def run(self, workers: Workers) -> Progress:
        """Evaluate what arrives until the watch is stopped; return how it went.

        Raises:
            HostError: as `Batch.run`, or the watch must not go on.
            UsageError: as `Batch.run`; or a path or the index is wrong at the first look.
        """
        self._batch.run(workers, more=self._more)
        self._write_page()
        return self._batch.progress

    @property
    def waiting(self) -> int:
        """How many entries have no result yet."""
        return sum(map(len, self._batch.unfinished()))

    def _more(self) -> bool:
        ending = self._ending()
        if ending is not Ending.NOW and SpeedMeasurer.quiet.acquire(blocking=False):  # none is being timed
            try:
                if ending is Ending.NOT_YET:
                    self._look()
                self._plan_some()
                self._write_page_if_stale()
            except _StoppedError:
                pass
            finally:
                SpeedMeasurer.quiet.release()
        if self._ending() is Ending.NOW:
            self._batch.stop()
        return ending is Ending.NOT_YET or bool(self._arrived)

    def _look(self) -> None:
        """Look for entries, where it is time and all are planned that have arrived before."""
        began = time.monotonic()
        if self._arrived or began < self._next_look:
            return
        self._check()
        try:
            self._arrived = self._arrivals.look(time.time())
        except (UsageError, FileNotFoundError, PermissionError) as error:
            if not self._has_looked:
                raise
            self._display.show_trouble(error)
        self._has_looked = True
        for name in self._arrivals.unreadable:
            self._display.show_trouble(PermissionError(errno.EACCES, "cannot be read", name))
        now = time.monotonic()
        self._next_look = now + max(self._arrivals.every, _LEAST_PAUSE * (now - began))

    def _plan_some(self) -> None:
        """Plan what has arrived, so many at once that jobs can begin with them."""
        some, self._arrived = self._arrived[:_MOST_AT_ONCE], self._arrived[_MOST_AT_ONCE:]
        if not some:
            return
        try:
            planned = self._planned(some)
        except (FileNotFoundError, PermissionError) as error:  # the next look finds those that are left
            self._display.show_trouble(error)
            return
        if planned:
            self._batch.add(planned)
            self._arrivals.taken(some)
            self._is_stale = True
            self._display.show_planned(planned)

    def _planned(self, sources: Sequence[EntrySource]) -> list[PlannedEntry]:
        """Plan entries; none of them where somebody is at one."""
        busy = {item.submission for part in self._batch.unfinished() for item in part}
        entries = self._planner(sources, on_progress=self._end_if_stopped)
        if not all(self._arrivals.is_as_seen(source) for source in sources):
            return []
        return [
            replace(entry, action=Action.DUPLICATE)
            if entry.action is Action.EVALUATE and entry.submission in busy
            else entry
            for entry in entries
        ]

    def _end_if_stopped(self, *_: int) -> None:
        if self._ending() is Ending.NOW:
            raise _StoppedError

    def _write_page_if_stale(self) -> None:
        began = time.monotonic()
        is_stale = self._is_stale or self._shown != self._state() or began >= self._oldest_page
        if is_stale and began >= self._next_page:
            self._write_page()
            now = time.monotonic()
            self._next_page = now + (now - began)  # where results come faster, one page shows several
            self._oldest_page = now + _LONGEST_PAGE

    def _state(self) -> tuple[int, list[PlannedEntry]]:
        """Return how many results there are, and what is being evaluated: a page shows both."""
        return self._batch.progress.done, self._batch.unfinished()[0]

    def _write_page(self) -> None:
        self._is_stale, self._shown = False, self._state()
        queue = Queue.of(
            self._batch.unfinished(),
            durations=list(self._batch.progress.seconds),
            jobs=self._jobs,
            evaluated=self._shown[0],
            now=datetime.now(UTC),
            is_running=self._ending() is Ending.NOT_YET,
        )
        self._display.write_page(queue)


def last_durations(store: Store, context: int, most: int) -> list[float]:
    """Return how long the evaluations of the latest entries in a store took, in seconds."""
    latest = [entry.submission for entry in store.entries() if not entry.refused][-most:]
    kept = [store.record(context, submission) for submission in latest]
    return [found[0].result.seconds for found in kept if found]
