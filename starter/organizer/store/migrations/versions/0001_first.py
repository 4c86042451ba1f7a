"""The first version of the store."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables; organizer/store/tables.py says what their columns hold."""
    _make_contexts()
    _make_entries()
    _make_results()
    _make_standings()


def _make_contexts() -> None:
    op.create_table(
        "contexts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("data", sa.String(80), nullable=False),
        sa.Column("baseline", sa.String(80), nullable=False),
        sa.Column("rules", sa.String(80), nullable=False),
        sa.Column("cost_version", sa.String(80), nullable=False),
        sa.UniqueConstraint("data", "baseline", "rules", "cost_version"),
    )


def _make_entries() -> None:
    op.create_table(
        "entries",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("team", sa.String(200), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("submission", sa.String(80), nullable=False),
        sa.Column("submitted_at", sa.Double, nullable=False),
        sa.Column("selected", sa.Boolean, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("refused", sa.Text, nullable=False),
        sa.UniqueConstraint("team", "name", "submission"),
    )
    op.create_index("entries_by_submission", "entries", ["submission"])


def _make_results() -> None:
    op.create_table(
        "results",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("context", sa.Integer, sa.ForeignKey("contexts.id"), nullable=False),
        sa.Column("submission", sa.String(80), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("evaluated_at", sa.Double, nullable=False),
        sa.Column("macs", sa.BigInteger),
        sa.Column("params", sa.BigInteger),
        *(
            sa.Column(f"{usage}_{name}", kind)
            for usage in ("public", "private")
            for name, kind in (
                ("score", sa.Double),
                ("macs_ratio", sa.Double),
                ("f1_term", sa.Double),
                ("branch", sa.String(20)),
                ("macro_f1", sa.Double),
                ("ranked", sa.Boolean),
            )
        ),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("predictions", sa.LargeBinary),
        sa.Column("graph", sa.LargeBinary),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("context", "submission"),
    )


def _make_standings() -> None:
    op.create_table(
        "standings",
        sa.Column("context", sa.Integer, sa.ForeignKey("contexts.id"), primary_key=True),
        sa.Column("team", sa.String(200), primary_key=True),
        sa.Column("score", sa.Double, nullable=False),
        sa.Column("macs", sa.BigInteger, nullable=False),
        sa.Column("minus_f1", sa.Double, nullable=False),
        sa.Column("submitted_at", sa.Double, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("entry", sa.Integer, sa.ForeignKey("entries.id"), nullable=False),
    )
