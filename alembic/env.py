"""Runs the migrations on the connection that `cyxwiz.store.migrate` hands over; there is no ini file."""

from alembic import context
from cyxwiz.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    render_as_batch=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
