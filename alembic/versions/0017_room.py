"""What each user's blobs take on central's disk."""

import sqlalchemy as sa

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_blob_owners_owner_id_sha256", "blob_owners", ["owner_id", "sha256"])
    op.create_table(
        "blob_room",
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("taken", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", name="pk_blob_room"),
    )
    op.execute(
        "INSERT INTO blob_room (owner_id, taken) "
        "SELECT blob_owners.owner_id, SUM(CASE WHEN blobs.size < 4096 THEN 4096 ELSE blobs.size END) "
        "FROM blob_owners JOIN blobs ON blobs.sha256 = blob_owners.sha256 GROUP BY blob_owners.owner_id"
    )


def downgrade() -> None:
    op.drop_table("blob_room")
    op.drop_index("ix_blob_owners_owner_id_sha256", "blob_owners")
