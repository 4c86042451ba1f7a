"""Which entries are taken: what the calendar and a team's limits say of each, and which a phase has.

Everything goes by the time of an entry, which is the one that the store first kept of it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from starter.contract.competition import CompetitionFile
from starter.contract.errors import Code
from starter.organizer.store.model import Entry

Key = tuple[str, str, str]
"""Team, name and content of an entry."""


class Ruling(NamedTuple):
    """What the rules say of an entry that they give no place."""

    reason: str
    """Why it has none."""
    is_evaluated: bool
    """Whether it is evaluated all the same."""


def rulings(new: Iterable[Entry], known: Iterable[Entry], competition: CompetitionFile) -> dict[Key, Ruling]:
    """Return the entries that are early, late or too many for their team, of any phase.

    Args:
        new: the entries to rule on.
        known: those that count towards their teams' limits already.
        competition: the calendar, the phases and the limits.
    """
    counts: Counter[tuple[object, ...]] = Counter()
    for entry in known:
        counts.update(_counted_as(entry, competition))
    found = {}
    for entry in sorted(new, key=lambda entry: (entry.submitted_at, entry.team, entry.name)):
        rules = competition.in_phase(at=entry.submitted_at)
        if fault := rules.calendar.fault(entry.submitted_at):
            is_evaluated = rules.calendar.outside == "evaluate"
            found[entry.key] = Ruling(f"{Code.OUTSIDE_CALENDAR} {fault}", is_evaluated)
        elif surplus := _surplus(entry, counts, rules):
            is_evaluated = rules.leaderboard.surplus == "evaluate"
            found[entry.key] = Ruling(f"{Code.TOO_MANY_ENTRIES} {surplus}", is_evaluated)
        else:
            counts.update(_counted_as(entry, competition))
    return found


def _counted_as(entry: Entry, competition: CompetitionFile) -> tuple[tuple[object, ...], ...]:
    """Return what an entry counts towards: its team's day, and its team's total, both of its phase."""
    rules = competition.in_phase(at=entry.submitted_at)
    total = entry.team, rules.calendar.title
    return (*total, rules.calendar.day(entry.submitted_at)), total


def _surplus(entry: Entry, counts: Counter[tuple[object, ...]], rules: CompetitionFile) -> str:
    """Say which limit an entry is beyond; nothing where it is within all of them."""
    day, total = _counted_as(entry, rules)
    most = rules.leaderboard
    if most.max_per_day and counts[day] >= most.max_per_day:
        zone = rules.calendar.timezone.key
        return f"more than {most.max_per_day} entries on {rules.calendar.day(entry.submitted_at)} ({zone})"
    if most.max_total and counts[total] >= most.max_total:
        return f"more than {most.max_total} entries in {rules.calendar.title}"
    return ""


def of_phase(
    entries: Sequence[Entry], competition: CompetitionFile, at: datetime | None = None
) -> dict[Key, Entry]:
    """Return the entries of the phase that the rules are of: its own, and those carried over to it.

    Carried over from the phase before are the entries that their team selected, of too many the latest. Here
    they are entries like any other, no longer selected.

    Args:
        entries: all entries.
        competition: the rules of one phase, or of a competition without phases, whose entries are all.
        at: leaves out entries that are later.
    """
    entries = [entry for entry in entries if at is None or entry.submitted_at <= at]
    phase = competition.phase
    if phase is None:
        return {entry.key: entry for entry in entries}
    at_home: dict[str, list[Entry]] = {known.name: [] for known in competition.phases}
    for entry in entries:
        home = competition.phase_at(entry.submitted_at)
        assert home is not None  # there are phases
        at_home[home.name].append(entry)
    names = list(at_home)
    number = names.index(phase.name)
    before = at_home[names[number - 1]] if number else []
    carried = _carried_over(before, competition.leaderboard.selected)
    return {entry.key: entry for entry in (*carried, *at_home[phase.name])}


def _carried_over(entries: Iterable[Entry], most: int) -> list[Entry]:
    """Return the entries of one phase that the next one has as well."""
    counts: Counter[str] = Counter()
    found = []
    for entry in sorted(entries, key=lambda entry: entry.submitted_at, reverse=True):
        has_place = not (entry.refused or entry.disqualified)
        if entry.selected and has_place and counts[entry.team] < most:
            counts[entry.team] += 1
            found.append(replace(entry, selected=False))
    return found
