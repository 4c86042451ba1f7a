"""The audit trail, what is replaced, disqualifications and names that teams no longer have.

What a store holds already is entered into its trail as found.
"""

import sqlalchemy as sa
from alembic import op

from starter.organizer.audit.trail import enter_existing

revision = "0002"
down_revision = "0001"

_GUARDED = "the audit trail is append-only"


def upgrade() -> None:
    """Make the tables; organizer/store/tables.py says what their columns hold."""
    op.add_column("entries", sa.Column("disqualified", sa.Text, nullable=False, server_default=""))
    op.create_table(
        "renamed",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("team", sa.String(200), nullable=False),
    )
    _make_superseded()
    _make_audit()
    enter_existing(op.get_bind())


def _make_superseded() -> None:
    op.create_table(
        "superseded",
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
    )
    op.create_index("superseded_by_submission", "superseded", ["submission"])


def _make_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("submission", sa.String(80), nullable=False),
        sa.Column("said", sa.Text, nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_index("audit_by_submission", "audit", ["submission"])
    if op.get_bind().dialect.name == "sqlite":
        for action in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_no_{action.lower()} BEFORE {action} ON audit "
                f"BEGIN SELECT RAISE(ABORT, '{_GUARDED}'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION audit_guard() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_GUARDED}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_guard BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_guard()"
    )
