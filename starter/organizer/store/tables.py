"""The tables of the store, as of this kit's version; migrations/ makes them from any older one."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

Row = Mapping[str, Any] | sa.RowMapping
"""A row of a table by its columns: one that is to be written, or one that was read."""

USAGES = ("public", "private")
FIGURES: dict[str, type[sa.Double[float]] | type[sa.Boolean] | sa.String] = {
    "score": sa.Double,
    "macs_ratio": sa.Double,
    "f1_term": sa.Double,
    "branch": sa.String(20),
    "macro_f1": sa.Double,
    "ranked": sa.Boolean,
}
"""What is kept in columns for each usage: fields of results.UsageScore."""


def _result_columns() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("context", sa.Integer, sa.ForeignKey("contexts.id"), nullable=False),
        sa.Column("submission", sa.String(80), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("evaluated_at", sa.Double, nullable=False),
        sa.Column("macs", sa.BigInteger),
        sa.Column("params", sa.BigInteger),
        *(sa.Column(f"{usage}_{name}", kind) for usage in USAGES for name, kind in FIGURES.items()),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("predictions", sa.LargeBinary),
        sa.Column("graph", sa.LargeBinary),
        sa.Column("record", sa.LargeBinary, nullable=False),
    )


metadata = sa.MetaData()
contexts = sa.Table(
    "contexts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("data", sa.String(80), nullable=False),
    sa.Column("baseline", sa.String(80), nullable=False),
    sa.Column("rules", sa.String(80), nullable=False),
    sa.Column("cost_version", sa.String(80), nullable=False),
    sa.UniqueConstraint("data", "baseline", "rules", "cost_version"),
)
entries = sa.Table(
    "entries",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("team", sa.String(200), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("submission", sa.String(80), nullable=False),
    sa.Column("submitted_at", sa.Double, nullable=False),
    sa.Column("selected", sa.Boolean, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("refused", sa.Text, nullable=False),
    sa.Column("disqualified", sa.Text, nullable=False, server_default=""),
    sa.UniqueConstraint("team", "name", "submission"),
)
sa.Index("entries_by_submission", entries.c.submission)
results = sa.Table(
    "results",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    *_result_columns(),
    sa.UniqueConstraint("context", "submission"),
)
superseded = sa.Table(
    "superseded", metadata, sa.Column("id", sa.Integer, primary_key=True), *_result_columns()
)
"""Results in whose place another one was put; they stay as they were."""
sa.Index("superseded_by_submission", superseded.c.submission)
standings = sa.Table(
    "standings",
    metadata,
    sa.Column("context", sa.Integer, sa.ForeignKey("contexts.id"), primary_key=True),
    sa.Column("team", sa.String(200), primary_key=True),
    sa.Column("score", sa.Double, nullable=False),
    sa.Column("macs", sa.BigInteger, nullable=False),
    sa.Column("minus_f1", sa.Double, nullable=False),
    sa.Column("submitted_at", sa.Double, nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("entry", sa.Integer, sa.ForeignKey("entries.id"), nullable=False),
)
renamed = sa.Table(
    "renamed",
    metadata,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("team", sa.String(200), nullable=False),
)
"""Names that teams no longer have, and whose entries they are today."""
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("submission", sa.String(80), nullable=False),
    sa.Column("said", sa.Text, nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)
"""The audit trail (audit.py); triggers refuse to change or delete its rows."""
sa.Index("audit_by_submission", audit.c.submission)
