"""Reservations of nodes, and which one a job belongs to."""

import sqlalchemy as sa

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
LIVE = sa.text("state IN ('active', 'pending')")
OWED = sa.text("settled_at IS NULL")
RESERVED = sa.text("reservation_id <> ''")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("reservation_id", sa.String(), nullable=False, server_default=""))
    op.create_index(
        "ix_jobs_reservation_id_state",
        "jobs",
        ["reservation_id", "state"],
        sqlite_where=RESERVED,
        postgresql_where=RESERVED,
    )
    op.create_table(
        "reservations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("user_wallet", sa.Text(), nullable=False),
        sa.Column("node_wallet", sa.Text(), nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("ends_at", INSTANT, nullable=False),
        sa.Column("minutes", sa.Integer(), nullable=False),
        sa.Column("rate_units_per_hour", sa.BigInteger(), nullable=False),
        sa.Column("fee_percent", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("held", sa.Boolean(), nullable=False),
        sa.Column("escrow_account", sa.String(), nullable=False),
        sa.Column("escrow_tx_hash", sa.String(), nullable=False),
        sa.Column("extensions", sa.Integer(), nullable=False),
        sa.Column("heard_at", INSTANT, nullable=True),
        sa.Column("current_job_id", sa.Text(), nullable=False),
        sa.Column("job_progress", sa.Float(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("reported_jobs", sa.JSON(), nullable=False),
        sa.Column("proven_at", INSTANT, nullable=True),
        sa.Column("engine_ended_at", INSTANT, nullable=True),
        sa.Column("node_ended_at", INSTANT, nullable=True),
        sa.Column("node_lost_at", INSTANT, nullable=True),
        sa.Column("away_seconds", sa.Float(), nullable=False),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=False),
        sa.Column("used_seconds", sa.Float(), nullable=False),
        sa.Column("paid_units", sa.BigInteger(), nullable=False),
        sa.Column("refunded_units", sa.BigInteger(), nullable=False),
        sa.Column("payment_tx_hash", sa.String(), nullable=False),
        sa.Column("refund_tx_hash", sa.String(), nullable=False),
        sa.Column("charged", sa.Boolean(), nullable=False),
        sa.Column("settled_at", INSTANT, nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_reservations"),
    )
    op.create_index(
        "uq_reservations_live_node_id",
        "reservations",
        ["node_id"],
        unique=True,
        sqlite_where=LIVE,
        postgresql_where=LIVE,
    )
    op.create_index("ix_reservations_owed", "reservations", ["ended_at"], sqlite_where=OWED, postgresql_where=OWED)
    op.create_index("ix_reservations_owner_id_started_at_id", "reservations", ["owner_id", "started_at", "id"])
    op.create_index("ix_reservations_started_at_id", "reservations", ["started_at", "id"])


def downgrade() -> None:
    op.drop_table("reservations")
    op.drop_index("ix_jobs_reservation_id_state", "jobs")
    op.drop_column("jobs", "reservation_id")
