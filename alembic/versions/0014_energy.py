"""The load of each GPU of a node, and the energy of a result."""

import sqlalchemy as sa

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("node_metrics", sa.Column("gpus", sa.JSON(none_as_null=True)))
    op.add_column("job_results", sa.Column("energy_joules", sa.Float()))


def downgrade() -> None:
    op.drop_column("job_results", "energy_joules")
    op.drop_column("node_metrics", "gpus")
