"""Reputation: what moved it, strikes and bans; budgets; prices in units, which nodes say again as they connect."""

import sqlalchemy as sa

from alembic import op
from cyxwiz.store.tables import FreeText, Instant

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


NODES = sa.table("nodes", sa.column("pricing", sa.JSON(none_as_null=True)))


def upgrade() -> None:
    op.execute(sa.update(NODES).values(pricing=None))
    op.add_column("nodes", sa.Column("reputation_at", Instant(), nullable=True))
    # The defaults are for the rows that are there; the program always states the values.
    op.add_column("nodes", sa.Column("strikes", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("nodes", sa.Column("bans", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "reputation_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("delta", sa.Float(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=True),
        sa.Column("note", FreeText(), nullable=False),
        sa.Column("by", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_reputation_events"),
        sa.ForeignKeyConstraint(
            ["node_id"], ["nodes.id"], name="fk_reputation_events_node_id_nodes", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_reputation_events_node_id_id", "reputation_events", ["node_id", "id"])
    op.create_index("ix_reputation_events_at", "reputation_events", ["at"])
    op.create_index(
        "uq_reputation_events_complaint",
        "reputation_events",
        ["node_id", "job_id"],
        unique=True,
        sqlite_where=sa.text("kind = 'complaint'"),
        postgresql_where=sa.text("kind = 'complaint'"),
    )

    op.create_table(
        "budgets",
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("amount_units", sa.BigInteger(), nullable=False),
        sa.Column("set_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_budgets"),
    )
    op.create_table(
        "deleted_costs",
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("month", Instant(), nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "month", name="pk_deleted_costs"),
    )
    op.create_index("ix_jobs_owner_id_completed_at", "jobs", ["owner_id", "completed_at"])


def downgrade() -> None:
    op.drop_index("ix_jobs_owner_id_completed_at", "jobs")
    op.drop_table("deleted_costs")
    op.drop_table("budgets")
    op.execute(sa.update(NODES).values(pricing=None))
    op.drop_table("reputation_events")
    for name in ("bans", "strikes", "reputation_at"):
        op.drop_column("nodes", name)
