"""What an organizer decides about entries and teams: each decision with its reason in the trail."""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from starter.contract.errors import Code, usage_error
from starter.contract.names import skeleton, team_fault
from starter.organizer.audit.trail import Kind, Trail, entry_state, operator
from starter.organizer.store.database import Database
from starter.organizer.store.places import Places
from starter.organizer.store.tables import entries, renamed

_KEY = ("team", "name", "submission")


class Acts:
    """Decides, in a store.

    Args:
        database: the store's.
        places: its teams' places.
    """

    def __init__(self, database: Database, places: Places) -> None:
        self._database = database
        self._places = places

    def disqualify(self, team: str, name: str, reason: str) -> int:
        """Take an entry's place away, whatever it scored; return how many contents it was submitted with.

        Raises:
            UsageError: U470, there is no such entry.
        """
        return self._decide(Kind.DISQUALIFY, team, name, reason, disqualified=reason)

    def reinstate(self, team: str, name: str, reason: str) -> int:
        """Take a disqualification back.

        Raises:
            UsageError: U470, there is no such entry, or it is not disqualified.
        """
        return self._decide(Kind.REINSTATE, team, name, reason, disqualified="")

    def rename(self, old: str, new: str, reason: str) -> int:
        """Give a team another name; its later entries may come under either. Return how many entries it has.

        Raises:
            UsageError: U470, there is no such team; U473, the name is none, or another team's.
        """
        with self._database.writing() as connection:
            trail = Trail(connection)
            own = _found(connection, team=old)
            looks = {skeleton(team): team for team in _teams(connection) if team != old}
            if fault := team_fault(new):
                raise usage_error(Code.TEAM_TAKEN, where=f"team {old}", got=f"{new!r}: {fault}")
            if other := looks.get(skeleton(new)):
                raise usage_error(
                    Code.TEAM_TAKEN, where=f"team {old}", got=f"{new!r}: team {other!r} is there"
                )
            self._move(connection, trail, Kind.RENAME, own, new, reason)
        return len(own)

    def merge(self, team: str, into: str, reason: str) -> int:
        """Make a team's entries another team's; return how many.

        Of two entries with one name and content, the one that was submitted first stays.

        Raises:
            UsageError: U470, one of the teams is not there; U473, both are the same.
        """
        with self._database.writing() as connection:
            trail = Trail(connection)
            own = _found(connection, team=team)
            theirs = {(row["name"], row["submission"]): row for row in _found(connection, team=into)}
            if team == into:
                raise usage_error(Code.TEAM_TAKEN, where=f"team {team}", got="the same team twice")
            self._places.leave(connection, {team, into})
            moved = []
            for row in own:
                twin = theirs.get((row["name"], row["submission"]))
                if twin is None:
                    moved.append(row)
                    continue
                earlier = row["submitted_at"] < twin["submitted_at"]
                later = twin if earlier else row
                connection.execute(sa.delete(entries).where(entries.c.id == later["id"]))
                said = {"was": [later[part] for part in _KEY], "entry": None, "reason": reason}
                trail.append(Kind.MERGE, row["submission"], said | {"by": operator()})
                moved += [row] if earlier else []
            self._move(connection, trail, Kind.MERGE, moved, into, reason, old=team)
        return len(own)

    def _decide(self, kind: Kind, team: str, name: str, reason: str, *, disqualified: str) -> int:
        with self._database.writing() as connection:
            trail = Trail(connection)
            rows = _found(connection, team=team, name=name)
            if not disqualified and not any(row["disqualified"] for row in rows):
                raise usage_error(
                    Code.NO_ENTRY, where=f"{team}/{name}", got="an entry that is not disqualified"
                )
            chosen = entries.c.team == team, entries.c.name == name
            self._places.leave(connection, {team})
            connection.execute(sa.update(entries).where(*chosen).values(disqualified=disqualified))
            for row in rows:
                state = entry_state({**row, "disqualified": disqualified})
                trail.append(kind, row["submission"], {"entry": state, "reason": reason, "by": operator()})
            trail.write()
            self._places.find(connection, {team})
        return len(rows)

    def _move(
        self,
        connection: sa.Connection,
        trail: Trail,
        kind: Kind,
        rows: Iterable[Mapping[str, Any]],
        new: str,
        reason: str,
        *,
        old: str = "",
    ) -> None:
        """Make entries of one team another's, and remember what the one was called."""
        for row in rows:
            old = row["team"]
            connection.execute(sa.update(entries).where(entries.c.id == row["id"]).values(team=new))
            said = {"was": [row[part] for part in _KEY], "entry": entry_state({**row, "team": new})}
            trail.append(kind, row["submission"], said | {"reason": reason, "by": operator()})
        trail.append(kind, "", {"team": [old, new], "reason": reason, "by": operator()})
        trail.write()
        remember_name(connection, self._database, old, new)
        self._places.leave(connection, {old, new})
        self._places.find(connection, {old, new})


def remember_name(connection: sa.Connection, database: Database, old: str, new: str) -> None:
    """Keep that entries of a name are another team's from now on."""
    connection.execute(sa.update(renamed).where(renamed.c.team == old).values(team=new))
    statement = database.insert(renamed).values(name=old, team=new)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["name"], set_={"team": statement.excluded.team})
    )
    connection.execute(sa.delete(renamed).where(renamed.c.name == new))


def _found(connection: sa.Connection, **which: str) -> list[dict[str, Any]]:
    """Return the entries of a team, or one of them with all its contents.

    Raises:
        UsageError: U470, there is none.
    """
    query = sa.select(entries).filter_by(**which).order_by(entries.c.id)
    rows = [dict(row) for row in connection.execute(query).mappings()]
    if not rows:
        raise usage_error(Code.NO_ENTRY, where="/".join(which.values()), got="none in this store")
    return rows


def _teams(connection: sa.Connection) -> list[str]:
    return list(connection.execute(sa.select(entries.c.team).distinct()).scalars())
