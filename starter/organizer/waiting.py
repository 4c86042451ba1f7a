"""Who waits for an evaluation, in which place, and until when: what a public page may show of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from starter.organizer.plan import PlannedEntry


@dataclass(frozen=True)
class WaitingEntry:
    """An entry without a result."""

    team: str
    """Whose."""
    name: str
    """The entry's name."""
    position: int
    """Its place in the queue, from 1; 0: it is being evaluated."""
    expected_at: datetime | None
    """When its result is expected, UTC, a full minute; None where nothing has been measured yet."""


@dataclass(frozen=True)
class Queue:
    """The entries without a result, in order."""

    entries: tuple[WaitingEntry, ...]
    """Those that are being evaluated, then those that wait."""
    evaluated: int
    """How many have been evaluated since the watch began."""
    is_running: bool = True
    """Whether the watch goes on."""

    @classmethod
    def of(
        cls,
        unfinished: tuple[Sequence[PlannedEntry], Sequence[PlannedEntry]],
        *,
        durations: Sequence[float],
        jobs: int,
        evaluated: int,
        now: datetime,
        is_running: bool = True,
    ) -> "Queue":
        """Return the queue of a batch.

        Args:
            unfinished: what is being evaluated, and what waits.
            durations: how long the last evaluations took, seconds; the next are expected to take their mean.
            jobs: how many are evaluated in parallel.
            evaluated: how many have been.
            now: the time.
            is_running: whether the watch goes on; else nothing is expected.
        """
        running, waiting = unfinished
        mean = sum(durations) / len(durations) if durations and is_running else None
        entries = tuple(
            WaitingEntry(
                item.source.team,
                item.source.name,
                max(0, turn - len(running)),
                _next_minute(now, mean * math.ceil(turn / jobs)) if mean is not None else None,
            )
            for turn, item in enumerate((*running, *waiting), 1)
        )
        return cls(entries, evaluated, is_running)


def _next_minute(now: datetime, seconds: float) -> datetime:
    """Return the end of the minute that so many seconds lead to: a page says no more of how long one took."""
    then = now + timedelta(seconds=seconds)
    return then.replace(second=0, microsecond=0) + timedelta(minutes=1)
