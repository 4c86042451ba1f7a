"""The plan of a batch: what to do with each entry, decided before anything is evaluated."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from starter.contract.competition import CompetitionFile
from starter.contract.errors import CATALOGUE, Code, Problem, Status
from starter.contract.names import skeleton, team_fault
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
    """Its team has handed in more than it may, or its name or its team's passes for another's."""
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
    problems: tuple[Problem, ...] = ()
    """What is wrong with its files: it is not run, and that is its result."""
    left_out: tuple[str, ...] = ()
    """What its zip holds besides the submission, for people."""

    @property
    def outcome(self) -> str:
        """What will become of it, in a word: the action, or the status that its evaluation can only have."""
        if self.problems and self.action is Action.EVALUATE:
            return CATALOGUE[self.problems[0].code].status.value
        return self.action.value

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
    today = store.former_names()
    sources = [replace(source, team=today.get(source.team, source.team)) for source in sources]
    done = store.statuses(context)
    entries: list[PlannedEntry] = []
    seen: set[str] = set()
    refused = _over_the_limit(sources, store, competition) | _badly_named(sources, store)
    for source in sources:
        with staged(source, competition.limits) as found:
            submission = found.submission
        if source in refused:
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
        why = refused.get(source, "")
        entries.append(PlannedEntry(source, submission, action, why, found.problems, found.left_out))
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
            over[source] = f"more than {most} entries on {day[1]}"
    return over


def _badly_named(sources: Sequence[EntrySource], store: Store) -> dict[EntrySource, str]:
    """Return entries whose team's name is none, or whose own or team's name looks like another."""
    known = [entry for entry in store.entries() if not entry.refused]
    teams, names = _Looks(entry.team for entry in known), _Looks(entry.name for entry in known)
    found = {}
    for source in sources:
        if fault := team_fault(source.team):
            found[source] = f"{Code.BAD_NAME} team {source.team!r}: {fault}"
        elif other := teams.taken(source.team) or names.taken(source.name):
            found[source] = f"{Code.NAME_LOOKS_ALIKE} {other}"
    return found


class _Looks:
    """Names by what they look like; who came first has the looks."""

    def __init__(self, names: Iterable[str]) -> None:
        self._owners = {skeleton(name): name for name in names}

    def taken(self, name: str) -> str:
        """Say whose looks a name has; nothing where they are its own."""
        owner = self._owners.setdefault(skeleton(name), name)
        return "" if owner == name else f"{name!r} looks like {owner!r}"
