"""Model definitions in a table of their own; which nodes have sent a blob."""

import sqlalchemy as sa

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BATCH = 50  # jobs at a time: each definition may be megabytes

JOBS = sa.table("jobs", sa.column("id", sa.String()), sa.column("spec", sa.JSON()))
MODELS = sa.table("job_models", sa.column("job_id", sa.String()), sa.column("definition", sa.Text()))


def upgrade() -> None:
    op.create_table(
        "job_models",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_job_models"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_models_job_id_jobs", ondelete="CASCADE"),
    )
    op.create_table(
        "blob_senders",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", "node_id", name="pk_blob_senders"),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name="fk_blob_senders_sha256_blobs", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_blob_senders_node_id_nodes", ondelete="CASCADE"),
    )
    connection = op.get_bind()
    last = ""
    while rows := connection.execute(_specs(last)).all():
        for job_id, spec in rows:
            definition = spec.pop("model").replace("\0", "\N{REPLACEMENT CHARACTER}")
            stored = definition.encode("utf-8", "replace").decode("utf-8")
            connection.execute(sa.insert(MODELS), {"job_id": job_id, "definition": stored})
            connection.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(spec=spec))
            last = job_id


def downgrade() -> None:
    connection = op.get_bind()
    last = ""
    while rows := connection.execute(_specs(last)).all():
        for job_id, spec in rows:
            found = connection.execute(sa.select(MODELS.c.definition).where(MODELS.c.job_id == job_id)).scalar_one()
            connection.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(spec={**spec, "model": found}))
            last = job_id
    op.drop_table("blob_senders")
    op.drop_table("job_models")


def _specs(after: str) -> sa.Select:
    return sa.select(JOBS.c.id, JOBS.c.spec).where(JOBS.c.id > after).order_by(JOBS.c.id).limit(BATCH)
