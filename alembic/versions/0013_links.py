"""What nodes measured between them."""

import sqlalchemy as sa

from alembic import op
from cyxwiz.store.tables import Instant

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "node_links",
        sa.Column("one", sa.String(), nullable=False),
        sa.Column("other", sa.String(), nullable=False),
        sa.Column("round_trip_seconds", sa.Float(), nullable=False),
        sa.Column("bytes_per_second", sa.Float(), nullable=False),
        sa.Column("measured_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("one", "other", name="pk_node_links"),
    )
    op.create_index("ix_node_links_other", "node_links", ["other"])
    op.create_index("ix_node_links_measured_at", "node_links", ["measured_at"])


def downgrade() -> None:
    op.drop_table("node_links")
