"""The prices of a node by which a lease was issued."""

import sqlalchemy as sa

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("leases", sa.Column("pricing", sa.JSON(none_as_null=True)))


def downgrade() -> None:
    op.drop_column("leases", "pricing")
