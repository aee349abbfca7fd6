"""Wallets that users have linked."""

import sqlalchemy as sa

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "user_wallets",
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("linked_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("address", name="pk_user_wallets"),
    )
    op.create_index("ix_user_wallets_user_id", "user_wallets", ["user_id"])


def downgrade() -> None:
    op.drop_table("user_wallets")
