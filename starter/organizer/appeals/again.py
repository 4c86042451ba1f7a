"""Judge chosen entries again: the same files, today's data, rules and kit; the old results are kept."""

from collections.abc import Iterable
from pathlib import Path

from starter.contract.competition import CompetitionFile
from starter.contract.errors import Code, usage_error
from starter.contract.names import normalized
from starter.organizer.appeals.differences import Judged
from starter.organizer.entries import EntrySource, staged
from starter.organizer.plan import Action, PlannedEntry
from starter.organizer.store.model import Entry
from starter.organizer.store.store import Store


def chosen(store: Store, name: str) -> list[Entry]:
    """Return the entries that TEAM/NAME stands for, the latest content first; TEAM alone is all of them.

    A team's former name is as good as today's.

    Raises:
        UsageError: U470, there is none.
    """
    name = normalized(name)
    team, slash, own = name.rpartition("/")
    team, own = (store.team(team), own) if slash else (store.team(name), "")
    found = [e for e in store.entries() if e.team == team and own in {"", e.name}]
    if not found:
        raise usage_error(Code.NO_ENTRY, where=name, got="none in this store")
    return found[::-1]


def planned_again(store: Store, names: Iterable[str], competition: CompetitionFile) -> list[PlannedEntry]:
    """Return the plan to judge entries again; an earlier content that has been replaced is not judged.

    Raises:
        UsageError: U470, one is not there; U471, its files are not what was evaluated.
    """
    latest: dict[tuple[str, str], Entry] = {}
    for name in names:
        for entry in chosen(store, name):
            latest.setdefault((entry.team, entry.name), entry)
    plans: dict[str, PlannedEntry] = {}
    for entry in latest.values():
        again = _again(entry, competition)
        if again.submission in plans:  # one evaluation serves both
            continue
        plans[again.submission] = again
    return list(plans.values())


def _again(entry: Entry, competition: CompetitionFile) -> PlannedEntry:
    path = Path(entry.source)
    where = f"{entry.team}/{entry.name}: {path}"
    if not entry.source or not path.exists():
        raise usage_error(Code.ENTRY_CHANGED, where=where, expected=entry.submission, got="nothing there")
    source = EntrySource(
        entry.team, path, submitted_at=entry.submitted_at, selected=entry.selected, below=path
    )
    with staged(source, competition.limits) as found:
        if found.submission != entry.submission:
            raise usage_error(
                Code.ENTRY_CHANGED, where=where, expected=entry.submission, got=found.submission
            )
        return PlannedEntry(
            source, found.submission, Action.EVALUATE, entry.refused, found.problems, found.left_out
        )


def judged(store: Store, name: str) -> Judged:
    """Return a result of an entry: TEAM/NAME is its latest one, TEAM/NAME~1 the one before.

    Raises:
        UsageError: U470, there is no such entry; U474, it has no such result.
    """
    of, _, back = name.rpartition("~") if "~" in name else (name, "", "")
    entries = chosen(store, of) if "/" in of else []
    history = [kept for entry in entries for kept in store.history(entry.submission)]
    history.sort(key=lambda kept: kept[0].evaluated_at, reverse=True)
    if not entries or not (back or "0").isdecimal() or int(back or 0) >= len(history):
        raise usage_error(Code.NO_SUCH_RESULT, where=name, got=f"{len(history)} results")
    record, evidence = history[int(back or 0)]
    return Judged(record, None if evidence is None else evidence.labels.tolist())
