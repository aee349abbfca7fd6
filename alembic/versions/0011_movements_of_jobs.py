"""What moved for a job, or for a reservation, is found by its id."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_ledger_movements_job_id", "ledger_movements", ["job_id"])


def downgrade() -> None:
    op.drop_index("ix_ledger_movements_job_id", "ledger_movements")
