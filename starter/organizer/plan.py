"""The plan of a batch: what to do with each entry, decided before anything is evaluated."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from starter.contract.competition import CompetitionFile
from starter.contract.errors import CATALOGUE, Code, Problem, Status
from starter.contract.names import skeleton, team_fault
from starter.contract.text import inline
from starter.organizer.admission import Key, Ruling, of_phase, rulings
from starter.organizer.entries import EntrySource, StagedEntry, staged
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
    """It is early, late or surplus, or its name or its team's passes for another's."""
    ELSEWHERE = "elsewhere"
    """It is of another phase."""
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
    """Why it has no place; it may be evaluated all the same."""
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
        return replace(_entry(self.source, self.submission), refused=self.refused)


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
    given = [source.team for source in sources]
    sources = [replace(source, team=today.get(source.team, source.team)) for source in sources]
    found: list[StagedEntry] = []
    for source in sources:
        with staged(source, competition.limits) as copy:
            found.append(copy)
        on_progress(len(found), len(sources))
    known = {entry.key: entry for entry in store.entries()}
    handed_in = [_entry(*pair) for pair in zip(sources, (copy.submission for copy in found), strict=True)]
    new = {entry.key: _at_first(entry, known) for entry in handed_in}
    teams = {entry.key: team for entry, team in zip(handed_in, given, strict=True)}
    ruled = _ruled(new, known, competition, teams)
    refused = {key: replace(new[key], refused=ruling.reason) for key, ruling in ruled.items()}
    here = of_phase([*(known | new | refused).values()], competition)

    done = store.statuses(context)
    entries: list[PlannedEntry] = []
    seen: set[str] = set()
    for source, entry, copy in zip(sources, handed_in, found, strict=True):
        ruling = ruled.get(entry.key, Ruling("", is_evaluated=True))
        if entry.key not in here:
            action = Action.ELSEWHERE
        elif not ruling.is_evaluated:
            action = Action.REFUSED
        elif entry.submission in done and not retry(done[entry.submission]):
            action = Action.DONE
        elif entry.submission in seen:
            action = Action.DUPLICATE
        elif limit is not None and len(seen) >= limit:
            action = Action.LATER
        else:
            action = Action.EVALUATE
            seen.add(entry.submission)
        entries.append(
            PlannedEntry(source, entry.submission, action, ruling.reason, copy.problems, copy.left_out)
        )
    return entries


def _entry(source: EntrySource, submission: str) -> Entry:
    """Return what the store keeps of an entry."""
    return Entry(
        team=source.team,
        name=source.name,
        submission=submission,
        submitted_at=source.submitted_at,
        source=str(source.path),
        selected=source.selected,
    )


def _at_first(entry: Entry, known: Mapping[Key, Entry]) -> Entry:
    """Return an entry with the time that the store keeps of it: the first."""
    return replace(entry, submitted_at=known.get(entry.key, entry).submitted_at)


def _ruled(
    new: Mapping[Key, Entry],
    known: Mapping[Key, Entry],
    competition: CompetitionFile,
    teams: Mapping[Key, str],
) -> dict[Key, Ruling]:
    """Return the entries that have no place by their names, the calendar or their teams' limits.

    An entry counts for the team that handed it in (`teams`): merged teams keep what each was allowed.
    """
    taken = [entry for entry in known.values() if not entry.refused]
    by_name = _badly_named(new.values(), taken)
    rest = [entry for entry in new.values() if entry.key not in by_name]
    counted = [entry for entry in taken if entry.key not in new]
    as_given = {replace(entry, team=teams[entry.key]).key: entry for entry in rest}
    ruled = rulings([replace(e, team=key[0]) for key, e in as_given.items()], counted, competition)
    return by_name | {as_given[key].key: ruling for key, ruling in ruled.items()}


def _badly_named(new: Iterable[Entry], known: Sequence[Entry]) -> dict[Key, Ruling]:
    """Return entries whose team's name is none, or whose own or team's name looks like another."""
    teams, names = _Looks(entry.team for entry in known), _Looks(entry.name for entry in known)
    found = {}
    for entry in new:
        if fault := team_fault(entry.team):
            found[entry.key] = Ruling(f"{Code.BAD_NAME} team {entry.team!r}: {fault}", is_evaluated=False)
        elif other := teams.taken(entry.team) or names.taken(entry.name):
            found[entry.key] = Ruling(f"{Code.NAME_LOOKS_ALIKE} {other}", is_evaluated=False)
    return found


class _Looks:
    """Names by what they look like; who came first has the looks."""

    def __init__(self, names: Iterable[str]) -> None:
        self._owners = {skeleton(name): name for name in names}

    def taken(self, name: str) -> str:
        """Say whose looks a name has; nothing where they are its own."""
        owner = self._owners.setdefault(skeleton(name), name)
        return "" if owner == name else f"{name!r} looks like {owner!r}"


def zone_note(entries: Iterable[PlannedEntry], competition: CompetitionFile) -> Iterator[str]:
    """Yield how many times an index gives without an offset, if any, and which zone they are of."""
    if count := sum(entry.source.is_zone_assumed for entry in entries):
        yield (
            f"{count} times in the index have no offset: taken in {competition.calendar.timezone.key}, the "
            "zone of competition.toml; for another write the offset, as in 2026-03-31T23:59:00+09:00"
        )


def notes(
    entries: Sequence[PlannedEntry], competition: CompetitionFile, store: Store, context: int
) -> Iterator[str]:
    """Yield what an organizer should know of a plan: times without a zone, and entries of other phases."""
    yield from zone_note(entries, competition)
    if competition.phase is None:
        return
    calendar = competition.calendar
    yield f"{calendar.title}: data set {competition.dataset}, baseline {competition.baseline}"
    others = [entry for entry in entries if entry.action is Action.ELSEWHERE]
    if others:
        names = ", ".join(phase.name for phase in competition.phases if phase != competition.phase)
        yield f"{len(others)} entries are of another phase: repeat with --phase, one of {names}"
    here = of_phase(store.entries(), competition)
    planned = {entry.entry.key for entry in entries}
    done = store.statuses(context)
    for key in sorted(here.keys() - planned):
        if key[2] not in done and not here[key].refused:
            name = f"{inline(here[key].team)}/{inline(here[key].name)}"
            yield f"{name} counts in {calendar.title} and has no result in it: name its path as well"
