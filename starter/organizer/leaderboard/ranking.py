"""Who stands where: each team's best entry, of the entries that a board is of."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from starter.contract.competition import CompetitionFile
from starter.evaluation.labelled import Usage
from starter.evaluation.scoring import RankKey
from starter.organizer.admission import of_phase
from starter.organizer.store.model import Entry, RankedEntry, Standing
from starter.organizer.store.store import Store

SomeEntry = TypeVar("SomeEntry", bound=Entry)


class Ranking:
    """The order of the teams under one context.

    Args:
        store: the results.
        context: under what they hold.
        competition: the rules, of one phase if there are phases.
        at: leaves out entries that are later.
    """

    def __init__(
        self, store: Store, context: int, competition: CompetitionFile, at: datetime | None = None
    ) -> None:
        self._store = store
        self._context = context
        self._most = competition.leaderboard.selected
        is_part = competition.phase is not None or at is not None
        self._own = of_phase(store.entries(), competition, at) if is_part else None

    def own(self, entries: Iterable[SomeEntry]) -> list[SomeEntry]:
        """Return those of some entries that the board is of."""
        if self._own is None:
            return list(entries)
        return [
            replace(entry, selected=self._own[entry.key].selected)
            for entry in entries
            if entry.key in self._own
        ]

    def counts(self) -> dict[str, int]:
        """Return how many entries each team has."""
        if self._own is None:
            return self._store.entry_counts()
        return Counter(team for team, _, _ in self._own)

    def ranked(self) -> list[RankedEntry]:
        """Return every entry that takes part in the public ranking, by time."""
        return self.own(self._store.ranked(self._context))

    def public(self, ranked: Sequence[RankedEntry]) -> list[RankedEntry]:
        """Return each team's best entry on the public images, in order."""
        if self._own is None:
            return self._store.best(self._context)
        return _in_order([min(own, key=_public) for own in _by_team(ranked).values()], "Public")

    def final(self, ranked: Sequence[RankedEntry]) -> list[RankedEntry]:
        """Return each team's best entry on the private images, of those that count, in order."""
        best = []
        for own in _by_team(ranked).values():
            chosen = [entry for entry in own if entry.selected] or own
            counted = sorted(chosen, key=_public)[: self._most]
            final = [entry for entry in counted if entry.private is not None and entry.private.ranked]
            if final:
                best.append(min(final, key=lambda entry: entry.rank_key("Private")))
        return _in_order(best, "Private")

    def standing(self, team: str, *, reveal: bool = False) -> Standing | None:
        """Return a team's place on the public board, or on the final one; None where it has none."""
        if self._own is None and not reveal:
            return self._store.standing(self._context, team)
        usage: Usage = "Private" if reveal else "Public"
        ranked = self.ranked()
        best = self.final(ranked) if reveal else self.public(ranked)
        for place, entry in enumerate(best, 1):
            if entry.team == team:
                return Standing(place, len(best), entry.figures(usage).score)
        return None


def _public(entry: RankedEntry) -> RankKey:
    return entry.rank_key("Public")


def _by_team(entries: Iterable[RankedEntry]) -> dict[str, list[RankedEntry]]:
    teams: dict[str, list[RankedEntry]] = {}
    for entry in entries:
        teams.setdefault(entry.team, []).append(entry)
    return teams


def _in_order(entries: Iterable[RankedEntry], usage: Usage) -> list[RankedEntry]:
    return sorted(entries, key=lambda entry: entry.rank_key(usage))
