"""Keeps `standings`, each team's best ranked entry, in the transaction of whatever changes it."""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.elements import KeyedColumnElement

from starter.evaluation.scoring import RankKey
from starter.organizer.store.database import Database
from starter.organizer.store.rows import chunks
from starter.organizer.store.tables import Row, entries, results, standings

COUNTS = sa.and_(entries.c.refused == "", entries.c.disqualified == "")
"""Whether an entry may have a place."""

_NEEDED = ("context", "submission", "public_ranked", "public_score", "macs", "public_macro_f1")
"""Columns of a result that decide about a place."""


class Places:
    """The teams' places.

    Args:
        database: where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        statement = database.insert(standings)
        new = statement.excluded
        self._take = statement.on_conflict_do_update(
            index_elements=["context", "team"],
            set_={name: new[name] for name in (*RankKey._fields, "entry")},
            where=sa.tuple_(*self.order(new)) < sa.tuple_(*self.order(standings.c)),
        )

    def order(
        self, columns: ReadOnlyColumnCollection[str, KeyedColumnElement[Any]]
    ) -> list[sa.ColumnElement[Any]]:
        """Return the columns of `scoring.RankKey`."""
        chosen = [columns[name] for name in RankKey._fields]
        return [self._database.by_code_point(c) if isinstance(c.type, sa.String) else c for c in chosen]

    def improve(self, connection: sa.Connection, rows: Sequence[Row]) -> None:
        """Let the entries of results of one context take their teams' places where they are better."""
        ranked = {row["submission"]: row for row in rows if row["public_ranked"]}
        columns = entries.c.submission, entries.c.team, entries.c.submitted_at, entries.c.name, entries.c.id
        places = []
        for part in chunks(sorted(ranked)):
            query = sa.select(*columns).where(entries.c.submission.in_(part), COUNTS)
            for submission, team, submitted_at, name, number in connection.execute(query):
                result = ranked[submission]
                places.append(
                    {
                        "context": result["context"],
                        "team": team,
                        "score": result["public_score"],
                        "macs": result["macs"],
                        "minus_f1": -result["public_macro_f1"],
                        "submitted_at": submitted_at,
                        "name": name,
                        "entry": number,
                    }
                )
        if places:
            connection.execute(self._take, places)

    def improve_by(self, connection: sa.Connection, context: int, submissions: Sequence[str]) -> None:
        """Do so with the results that these submissions have."""
        columns = [results.c[name] for name in _NEEDED]
        for part in chunks(submissions):
            query = sa.select(*columns).where(results.c.context == context, results.c.submission.in_(part))
            self.improve(connection, connection.execute(query).mappings().all())

    def leave(self, connection: sa.Connection, teams: Collection[str]) -> None:
        """Take teams' places away, until `find`."""
        for part in chunks(sorted(teams)):
            connection.execute(sa.delete(standings).where(standings.c.team.in_(part)))

    def find(self, connection: sa.Connection, teams: Collection[str]) -> None:
        """Find teams' places anew, after `leave`."""
        for part in chunks(sorted(teams)):
            query = contenders().where(entries.c.team.in_(part))
            if places := [dict(row) for row in connection.execute(query).mappings()]:
                connection.execute(self._take, places)


def contenders() -> sa.Select[Any]:
    """Return the query for whatever may stand in `standings`, in its columns."""
    return (
        sa.select(
            results.c.context,
            entries.c.team,
            results.c.public_score.label("score"),
            results.c.macs,
            (-results.c.public_macro_f1).label("minus_f1"),
            entries.c.submitted_at,
            entries.c.name,
            entries.c.id.label("entry"),
        )
        .join_from(entries, results, entries.c.submission == results.c.submission)
        .where(results.c.public_ranked, COUNTS)
    )
