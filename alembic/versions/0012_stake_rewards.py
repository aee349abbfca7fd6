"""What stakes in the platform's own books have earned."""

import sqlalchemy as sa

from alembic import op
from cyxwiz.store.tables import Instant

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("stakes", sa.Column("rewards_units", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("stakes", sa.Column("accrued_at", Instant(), nullable=True))


def downgrade() -> None:
    op.drop_column("stakes", "accrued_at")
    op.drop_column("stakes", "rewards_units")
