"""The first tables.

Written out rather than taken from `cyxwiz.store.tables`, which will have moved on when this runs.
A column reads name:type, with a question mark where it may be null.
"""

from typing import NamedTuple

import sqlalchemy as sa

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


class Table(NamedTuple):
    name: str
    key: str
    columns: str
    owner: str = ""  # column -> table.column; its rows go with their owner
    never_reused: bool = False  # numbers, also those of rows that are gone


class Index(NamedTuple):
    name: str
    table: str
    columns: str
    unique: bool = False
    where: str = ""


TYPES = {
    "bigint": sa.BigInteger(),
    "bool": sa.Boolean(),
    "bytes": sa.LargeBinary(),
    "float": sa.Float(),
    "instant": sa.BigInteger().with_variant(sa.TIMESTAMP(timezone=True), "postgresql"),
    "int": sa.Integer(),
    "json": sa.JSON(),
    "serial": sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
    "string": sa.String(),
    "text": sa.Text(),
}

TABLES = (
    Table(
        "api_keys",
        "id",
        "id:string user_id:string name:string digest:string prefix:string created_at:instant revoked_at:instant? "
        "last_used_at:instant?",
    ),
    Table(
        "audit_logs",
        "id",
        "id:serial at:instant actor:string action:string target:string details:json",
    ),
    Table(
        "blobs",
        "sha256",
        "sha256:string size:bigint created_at:instant",
    ),
    Table(
        "events",
        "seq",
        "seq:serial kind:string at:instant category:string subject:string owner_id:string data:json",
        never_reused=True,
    ),
    Table(
        "idempotency",
        "scope key",
        "scope:string key:string digest:string answer:string created_at:instant",
    ),
    Table(
        "jobs",
        "id",
        "id:string owner_id:string name:string type:string urgency:int spec:json created_at:instant state:string "
        "phase:string progress:float epoch:int metrics:json node_id:string? token_epoch:bigint? "
        "token_counter:bigint? attempts:int retry_count:int node_losses:int not_before:instant? reason:text "
        "error:text error_code:text estimated_cost_units:bigint actual_cost_units:bigint compute_seconds:float "
        "started_at:instant? first_step_at:instant? completed_at:instant? version:bigint",
    ),
    Table(
        "join_tokens",
        "id",
        "id:string owner_id:string digest:string created_at:instant expires_at:instant? uses_left:int? "
        "revoked_at:instant?",
    ),
    Table(
        "nodes",
        "id",
        "id:string owner_id:string name:string state:string cpu_model:string cpu_cores:int ram_total_bytes:bigint "
        "ram_available_bytes:bigint unknown_hardware:json registered_at:instant last_seen_at:instant "
        "public_key:bytes legacy:bool identity:string region:string host:string port:int wallet_address:string "
        "version:string boot_id:string max_concurrent_jobs:int services:json certificate_fingerprint:string "
        "cordoned:bool banned_until:instant? reputation:float stake_units:bigint jobs_completed:bigint "
        "jobs_failed:bigint compute_seconds:float online_seconds:float pricing:json? extras:json "
        "version_number:bigint",
    ),
    Table(
        "outbox",
        "id",
        "id:serial kind:string key:string payload:json due_at:instant attempts:int",
        never_reused=True,
    ),
    Table(
        "payments",
        "id",
        "id:string job_id:string node_id:string? user_wallet:string node_wallet:string amount_units:bigint "
        "platform_fee_units:bigint node_reward_units:bigint state:string escrow_account:string "
        "escrow_tx_hash:string completion_tx_hash:string created_at:instant locked_at:instant? "
        "completed_at:instant?",
    ),
    Table(
        "revoked_tokens",
        "id",
        "id:string expires_at:instant",
    ),
    Table(
        "settings",
        "name",
        "name:string value:string",
    ),
    Table(
        "users",
        "id",
        "id:string name:string role:string created_at:instant password_hash:string disabled:bool",
    ),
    Table(
        "blob_owners",
        "sha256 owner_id",
        "sha256:string owner_id:string",
        owner="sha256 -> blobs.sha256",
    ),
    Table(
        "job_logs",
        "job_id offset",
        "job_id:string offset:bigint at:instant level:string source:string message:text",
        owner="job_id -> jobs.id",
    ),
    Table(
        "job_metrics",
        "job_id offset",
        "job_id:string offset:bigint at:instant attempt:int epoch:int progress:float epoch_ended:bool metrics:json",
        owner="job_id -> jobs.id",
    ),
    Table(
        "job_results",
        "job_id",
        "job_id:string node_id:string token_epoch:bigint token_counter:bigint files:json weights_uri:string "
        "weights_hash:string weights_size:bigint final_metrics:json compute_seconds:float accepted_at:instant",
        owner="job_id -> jobs.id",
    ),
    Table(
        "leases",
        "job_id token_epoch token_counter",
        "job_id:string token_epoch:bigint token_counter:bigint node_id:string issued_at:instant boot_id:string "
        "state:string last_seq:bigint ended_at:instant? end_reason:text",
        owner="job_id -> jobs.id",
    ),
    Table(
        "node_devices",
        "node_id position",
        "node_id:string position:int kind:string name:text memory_total_bytes:bigint? "
        "memory_available_bytes:bigint? compute_units:bigint? supports_fp64:bool supports_fp16:bool "
        "driver_version:string cuda_version:string pcie_generation:int? pcie_lanes:int? compute_capability:float?",
        owner="node_id -> nodes.id",
    ),
    Table(
        "node_metrics",
        "id",
        "id:serial node_id:string at:instant cpu_usage:float? memory_usage:float? gpu_usage:float? "
        "gpu_memory_usage:float? network_rx_bytes_per_second:float? network_tx_bytes_per_second:float? "
        "power_watts:float? active_jobs:int",
        owner="node_id -> nodes.id",
    ),
)

INDEXES = (
    Index("ix_api_keys_user_id_created_at", "api_keys", "user_id created_at"),
    Index("uq_api_keys_digest", "api_keys", "digest", unique=True),
    Index("ix_events_category_seq", "events", "category seq"),
    Index("ix_events_subject_seq", "events", "subject seq"),
    Index("ix_idempotency_created_at", "idempotency", "created_at"),
    Index("ix_jobs_created_at_id", "jobs", "created_at id"),
    Index("ix_jobs_node_id_created_at", "jobs", "node_id created_at", where="node_id IS NOT NULL"),
    Index("ix_jobs_owner_id_created_at_id", "jobs", "owner_id created_at id"),
    Index("ix_jobs_state_not_before", "jobs", "state not_before", where="not_before IS NOT NULL"),
    Index("ix_jobs_state_urgency_created_at_id", "jobs", "state urgency created_at id"),
    Index("ix_join_tokens_owner_id_created_at", "join_tokens", "owner_id created_at"),
    Index("uq_join_tokens_digest", "join_tokens", "digest", unique=True),
    Index("ix_nodes_name_id", "nodes", "name id"),
    Index("ix_nodes_owner_id_name", "nodes", "owner_id name"),
    Index("uq_nodes_owner_id_identity", "nodes", "owner_id identity", unique=True, where="identity <> ''"),
    Index("ix_outbox_kind_due_at_id", "outbox", "kind due_at id"),
    Index("uq_outbox_kind_key", "outbox", "kind key", unique=True),
    Index("ix_payments_job_id", "payments", "job_id"),
    Index("ix_revoked_tokens_expires_at", "revoked_tokens", "expires_at"),
    Index("uq_users_name", "users", "name", unique=True),
    Index("ix_leases_live", "leases", "node_id token_epoch token_counter", where="state IN ('active', 'offered')"),
    Index("ix_node_metrics_at", "node_metrics", "at"),
    Index("ix_node_metrics_node_id_at", "node_metrics", "node_id at"),
)


def _create(table: Table) -> None:
    parts: list[sa.schema.SchemaItem] = []
    for word in table.columns.split():
        name, _, kind = word.partition(":")
        plain = kind.rstrip("?")
        parts.append(sa.Column(name, TYPES[plain], nullable=plain != kind))
    parts.append(sa.PrimaryKeyConstraint(*table.key.split(), name=f"pk_{table.name}"))
    if table.owner:
        column, target = table.owner.split(" -> ")
        name = f"fk_{table.name}_{column}_{target.partition('.')[0]}"
        parts.append(sa.ForeignKeyConstraint([column], [target], name=name, ondelete="CASCADE"))
    op.create_table(table.name, *parts, sqlite_autoincrement=table.never_reused)


def upgrade() -> None:
    for table in TABLES:
        _create(table)
    for index in INDEXES:
        where = sa.text(index.where) if index.where else None
        op.create_index(
            index.name,
            index.table,
            index.columns.split(),
            unique=index.unique,
            sqlite_where=where,
            postgresql_where=where,
        )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(sa.schema.CreateSequence(sa.Sequence("lease_counter")))


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table.name)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(sa.schema.DropSequence(sa.Sequence("lease_counter")))
