"""The plan of a batch: what will be done with each entry, before anything is evaluated."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from starter.contract.competition import CompetitionFile
from starter.contract.errors import Status
from starter.organizer.entries import EntrySource, staged
from starter.organizer.store.model import Entry
from starter.organizer.store.store import Store


class Action(StrEnum):
    """What is done with an entry."""

    EVALUATE = "evaluate"
    DONE = "done"
    """It has a result that holds."""
    DUPLICATE = "duplicate"
    """Another entry of this batch has the same content: one evaluation serves both."""
    REFUSED = "refused"
    """Its team has handed in more than it may."""
    LATER = "later"
    """Beyond --limit."""


@dataclass(frozen=True)
class PlannedEntry:
    """An entry, and what will be done with it."""

    source: EntrySource
    submission: str
    """The hash of its content."""
    action: Action
    refused: str = ""
    """Why it is refused."""

    @property
    def entry(self) -> Entry:
        """What the store keeps of it."""
        return Entry(
            team=self.source.team,
            name=self.source.name,
            submission=self.submission,
            submitted_at=self.source.submitted_at,
            source=str(self.source.path),
            selected=self.source.selected,
            refused=self.refused,
        )


def plan(
    sources: Sequence[EntrySource],
    competition: CompetitionFile,
    store: Store,
    context: int,
    *,
    retry: Callable[[Status], bool] = lambda _: False,
    limit: int | None = None,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> list[PlannedEntry]:
    """Hash every entry and say what will be done with it.

    Args:
        sources: the entries, by time.
        competition: the limits.
        store: what is done already.
        context: under what.
        retry: whether a result with this status is evaluated again.
        limit: how many are evaluated at most.
        on_progress: called with how many are planned, and how many there are.
    """
    done = store.statuses(context)
    entries: list[PlannedEntry] = []
    seen: set[str] = set()
    over = _over_the_limit(sources, store, competition)
    for source in sources:
        with staged(source, competition.limits) as (submission, _, _):
            pass
        if source in over:
            action = Action.REFUSED
        elif submission in done and not retry(done[submission]):
            action = Action.DONE
        elif submission in seen:
            action = Action.DUPLICATE
        elif limit is not None and len(seen) >= limit:
            action = Action.LATER
        else:
            action = Action.EVALUATE
            seen.add(submission)
        entries.append(PlannedEntry(source, submission, action, over.get(source, "")))
        on_progress(len(entries), len(sources))
    return entries


def _over_the_limit(
    sources: Sequence[EntrySource], store: Store, competition: CompetitionFile
) -> dict[EntrySource, str]:
    """Return the entries that are too many for their team's day, with the reason."""
    most = competition.leaderboard.max_per_day
    if not most:
        return {}
    known = {(e.team, e.name): e for e in store.entries() if not e.refused}
    new = {(s.team, s.name) for s in sources}
    counts = Counter((e.team, e.submitted_at.date()) for key, e in known.items() if key not in new)
    over = {}
    for source in sources:
        day = (source.team, source.submitted_at.date())
        counts[day] += 1
        if counts[day] > most:
            over[source] = f"more than {most} on {day[1]}"
    return over
