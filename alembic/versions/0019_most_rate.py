"""What progress may earn a second at a node that has set prices."""

import sqlalchemy as sa

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("payments", sa.Column("most_rate", sa.Float(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("payments", "most_rate")
