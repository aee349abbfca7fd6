"""Proofs: chains of links, signed results, verifications, and the record of each node."""

import sqlalchemy as sa

from alembic import op
from cyxwiz.store.tables import FreeText, Instant, Json

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job_checkpoints", sa.Column("link", sa.String(), nullable=False, server_default=""))
    op.create_table(
        "job_links",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("token_epoch", sa.BigInteger(), nullable=False),
        sa.Column("token_counter", sa.BigInteger(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("loss", sa.Float(), nullable=False),
        sa.Column("weights", sa.String(), nullable=False),
        sa.Column("link", sa.String(), nullable=False),
        sa.Column("data", sa.String(), nullable=False),
        sa.Column("environment", FreeText(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_job_links"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_links_job_id_jobs", ondelete="CASCADE"),
    )
    op.create_table(
        "job_proofs",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("head", sa.String(), nullable=False),
        sa.Column("statement", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("environment", FreeText(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_job_proofs"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_proofs_job_id_jobs", ondelete="CASCADE"),
    )
    op.create_table(
        "verifications",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("since", Instant(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("data", Json, nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_verifications"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_verifications_job_id_jobs", ondelete="CASCADE"),
    )
    still_open = sa.text("outcome = ''")
    op.create_index(
        "ix_verifications_open", "verifications", ["since"], sqlite_where=still_open, postgresql_where=still_open
    )
    op.create_table(
        "node_validity",
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("streak", sa.BigInteger(), nullable=False),
        sa.Column("valid", sa.BigInteger(), nullable=False),
        sa.Column("invalid", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("node_id", name="pk_node_validity"),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_node_validity_node_id_nodes", ondelete="CASCADE"),
    )


def downgrade() -> None:
    for name in ("node_validity", "verifications", "job_proofs", "job_links"):
        op.drop_table(name)
    op.drop_column("job_checkpoints", "link")
