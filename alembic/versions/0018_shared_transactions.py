"""Payments may share a transaction: each has its own movement of it."""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _identify_by("reference", "payment_id")


def downgrade() -> None:
    _identify_by("reference")


def _identify_by(*columns: str) -> None:
    with op.batch_alter_table("ledger_movements") as table:
        table.drop_constraint("pk_ledger_movements", type_="primary")
        table.create_primary_key("pk_ledger_movements", list(columns))
