"""Stakes of nodes: what is to be done with them, and those in the platform's own books."""

import sqlalchemy as sa

from alembic import op
from cyxwiz.store.tables import FreeText, Instant

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "stake_steps",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("due_at", Instant(), nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.Column("upheld", sa.Boolean(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reference", sa.String(), nullable=False),
        sa.Column("error", FreeText(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_stake_steps"),
    )
    op.create_index(
        "ix_stake_steps_pending",
        "stake_steps",
        ["due_at", "id"],
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index("ix_stake_steps_node_id_created_at", "stake_steps", ["node_id", "created_at"])
    op.create_table(
        "stakes",
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("active_units", sa.BigInteger(), nullable=False),
        sa.Column("cooling_units", sa.BigInteger(), nullable=False),
        sa.Column("cooling_until", Instant(), nullable=True),
        sa.Column("contest", sa.String(), nullable=False),
        sa.Column("contested_units", sa.BigInteger(), nullable=False),
        sa.Column("contested_cooling_units", sa.BigInteger(), nullable=False),
        sa.Column("contested_until", Instant(), nullable=True),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.Column("slashed_units", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", name="pk_stakes"),
    )


def downgrade() -> None:
    op.drop_table("stakes")
    op.drop_table("stake_steps")
