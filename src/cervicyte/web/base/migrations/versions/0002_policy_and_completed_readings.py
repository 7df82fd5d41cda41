"""The retention policy, and which blinded readings were complete: tables of their own, filled from the audit log.

The first version knew both from the audit log alone, which stays as it is.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_AUDIT = sa.table(
    "audit", sa.column("id", NUMBER), sa.column("action"), sa.column("subject"), sa.column("detail", sa.JSON())
)
_CASES = sa.table("cases", sa.column("id"), sa.column("number"))


def upgrade() -> None:
    """Make both tables and fill them."""
    policy = op.create_table(
        "retention_policy",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("days", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retention_policy")),
    )
    completed = op.create_table(
        "completed_readings",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("case_id", sa.String(length=32), nullable=False),
        sa.Column("last_verdict_id", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(
            ["case_id"], ["cases.id"], name=op.f("fk_completed_readings_case_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_completed_readings")),
    )
    op.create_index(op.f("ix_completed_readings_case_id"), "completed_readings", ["case_id"], unique=False)
    connection = op.get_bind()
    newest = sa.select(_AUDIT.c.detail).where(_AUDIT.c.action == "retention.set").order_by(_AUDIT.c.id.desc()).limit(1)
    detail = connection.scalar(newest)
    op.bulk_insert(policy, [{"id": 1, "days": int(detail["days"]) if detail else None}])
    # A case that was deleted since has no row any more; its entries in the audit log stay.
    entries = sa.select(_CASES.c.id, _AUDIT.c.detail).join(_CASES, _CASES.c.number == _AUDIT.c.subject)
    entries = entries.where(_AUDIT.c.action == "review.completed").order_by(_AUDIT.c.id)
    rows = connection.execute(entries).all()
    op.bulk_insert(completed, [{"case_id": case_id, "last_verdict_id": d["review"]} for case_id, d in rows])


def downgrade() -> None:
    """Remove both tables: the audit log says the same."""
    op.drop_table("completed_readings")
    op.drop_table("retention_policy")
