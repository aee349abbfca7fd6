"""Payments as the settlement keeps them, movements on a ledger, and the platform's own books."""

import sqlalchemy as sa

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
OPEN = sa.text("state IN ('locked', 'pending', 'streaming')")


def upgrade() -> None:
    op.drop_table("payments")  # nothing ever wrote to it
    op.create_table(
        "payments",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("member", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("funding", sa.String(), nullable=False),
        sa.Column("amount_units", sa.BigInteger(), nullable=False),
        sa.Column("fee_bps", sa.Integer(), nullable=False),
        sa.Column("client", sa.String(), nullable=False),
        sa.Column("node", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=True),
        sa.Column("rate", sa.Float(), nullable=False),
        sa.Column("interval_seconds", sa.Integer(), nullable=False),
        sa.Column("earned_units", sa.BigInteger(), nullable=False),
        sa.Column("paid_units", sa.BigInteger(), nullable=False),
        sa.Column("refunded_units", sa.BigInteger(), nullable=False),
        sa.Column("milestone_at", INSTANT, nullable=True),
        sa.Column("progress", sa.Float(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("deadline", INSTANT, nullable=False),
        sa.Column("locked_at", INSTANT, nullable=True),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.Column("job_version", sa.BigInteger(), nullable=False),
        sa.Column("due_at", INSTANT, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_payments"),
    )
    op.create_index("ix_payments_job_id", "payments", ["job_id"])
    op.create_index("ix_payments_open", "payments", ["due_at", "id"], sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_index("ix_payments_owner_id_created_at", "payments", ["owner_id", "created_at"])
    op.create_table(
        "ledger_movements",
        sa.Column("reference", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.Column("fee_units", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("destination", sa.String(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("payment_id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("confirmed_at", INSTANT, nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("last_height", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("reference", name="pk_ledger_movements"),
    )
    op.create_index("ix_ledger_movements_at", "ledger_movements", ["at"])
    op.create_index("ix_ledger_movements_owner_id_at", "ledger_movements", ["owner_id", "at"])
    op.create_index("ix_ledger_movements_payment_id_at", "ledger_movements", ["payment_id", "at"])
    op.create_table(
        "ledger_accounts",
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", name="pk_ledger_accounts"),
    )
    op.create_table(
        "ledger_postings",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("key", "account", name="pk_ledger_postings"),
    )
    op.create_index("ix_ledger_postings_account_at", "ledger_postings", ["account", "at"])


def downgrade() -> None:
    for name in ("ledger_postings", "ledger_accounts", "ledger_movements", "payments"):
        op.drop_table(name)
    op.create_table(
        "payments",
        *(sa.Column(name, sa.String(), nullable=False) for name in ("id", "job_id")),
        sa.Column("node_id", sa.String(), nullable=True),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("user_wallet", "node_wallet")),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in ("amount_units", "platform_fee_units", "node_reward_units")
        ),
        *(
            sa.Column(name, sa.String(), nullable=False)
            for name in ("state", "escrow_account", "escrow_tx_hash", "completion_tx_hash")
        ),
        sa.Column("created_at", INSTANT, nullable=False),
        *(sa.Column(name, INSTANT, nullable=True) for name in ("locked_at", "completed_at")),
        sa.PrimaryKeyConstraint("id", name="pk_payments"),
    )
    op.create_index("ix_payments_job_id", "payments", ["job_id"])
