"""Leases of gangs: each member's rank, the size of its group, and the first member's token."""

import sqlalchemy as sa

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The defaults are for the rows that are there; the program always states the values. They stay, as 0002's does.
    op.add_column("leases", sa.Column("rank", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("leases", sa.Column("world", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("leases", sa.Column("lead", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    for name in ("lead", "world", "rank"):
        op.drop_column("leases", name)
