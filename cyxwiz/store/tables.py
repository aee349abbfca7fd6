"""The tables. Row classes describe them and are the target of migrations; statements are written against `__table__`.

Instants are aware UTC: `timestamptz` on PostgreSQL, integer microseconds since 1970 on SQLite, where only a number
sorts and compares right. Money is integer units. Nothing here is read or written except through `store.sql`.
Long, as it is a list: what jobs, nodes and accounts need together; what stands alone has a file beside it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    TIMESTAMP,
    BigInteger,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    String,
    Text,
    text,
)
from sqlalchemy.types import TypeDecorator, TypeEngine
from sqlmodel import Field, SQLModel

from cyxwiz.domain.states import LIVE_LEASE_STATES, OPEN_PAYMENT_STATES

# A partial index serves only statements that repeat its condition as it stands.
LIVE_LEASES = f"state IN ({', '.join(repr(str(state)) for state in sorted(LIVE_LEASE_STATES))})"
OPEN_PAYMENTS = f"state IN ({', '.join(repr(str(state)) for state in sorted(OPEN_PAYMENT_STATES))})"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """An aware instant; a naive one is a mistake of the caller and raises."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(TIMESTAMP(timezone=True))
        return dialect.type_descriptor(BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value if dialect.name == "postgresql" else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if dialect.name == "postgresql" else _EPOCH + timedelta(microseconds=value)


class FreeText(TypeDecorator[str]):
    """Text that a job or a node made up: what no database stores (NUL, lone surrogates) becomes a replacement mark.

    Refusing it would hold up every report behind it for ever.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if not value:
            return value
        if "\0" in value:
            value = value.replace("\0", "\N{REPLACEMENT CHARACTER}")
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


class FreeWord(FreeText):
    """The same in a column of short strings."""

    impl = String


Number = BigInteger().with_variant(Integer(), "sqlite")  # only INTEGER counts by itself on SQLite
Json = JSON(none_as_null=True)
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
# Tokens order the leases of one job. A counter row would make all placements queue up; SQLite, which has one writer
# anyway, has one instead.
lease_counter = Sequence("lease_counter", metadata=metadata)


class Row(SQLModel):
    metadata = metadata
    __tablename__: ClassVar[Any]  # SQLModel types it as what it is only where it is left out


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    return Index(name, *columns, unique=unique, sqlite_where=text(where), postgresql_where=text(where))


def _job(**kwargs: Any) -> Any:
    return Field(sa_column_args=[ForeignKey("jobs.id", ondelete="CASCADE")], **kwargs)


class NodeRow(Row, table=True):
    __tablename__ = "nodes"
    __table_args__ = (
        Index("ix_nodes_name_id", "name", "id"),
        Index("ix_nodes_owner_id_name", "owner_id", "name"),
        _partial("uq_nodes_owner_id_identity", "owner_id", "identity", where="identity <> ''", unique=True),
    )
    id: str = Field(primary_key=True)
    owner_id: str
    name: str
    state: str
    cpu_model: str
    cpu_cores: int
    ram_total_bytes: int = Field(sa_type=BigInteger)
    ram_available_bytes: int = Field(sa_type=BigInteger)
    unknown_hardware: list[str] = Field(sa_type=Json)
    registered_at: datetime = Field(sa_type=Instant)
    last_seen_at: datetime = Field(sa_type=Instant)
    public_key: bytes = Field(sa_type=LargeBinary)
    legacy: bool
    identity: str
    region: str
    host: str
    port: int
    wallet_address: str
    version: str
    boot_id: str
    max_concurrent_jobs: int
    services: list[str] = Field(sa_type=Json)
    certificate_fingerprint: str
    cordoned: bool
    banned_until: datetime | None = Field(sa_type=Instant)
    reputation: float
    reputation_at: datetime | None = Field(sa_type=Instant)
    strikes: int = Field(sa_column_kwargs={"server_default": "0"})
    bans: int = Field(sa_column_kwargs={"server_default": "0"})
    stake_units: int = Field(sa_type=BigInteger)
    jobs_completed: int = Field(sa_type=BigInteger)
    jobs_failed: int = Field(sa_type=BigInteger)
    compute_seconds: float
    online_seconds: float
    pricing: dict[str, Any] | None = Field(sa_type=Json)
    extras: dict[str, Any] = Field(sa_type=Json)
    version_number: int = Field(sa_type=BigInteger)


class NodeDeviceRow(Row, table=True):
    __tablename__ = "node_devices"
    node_id: str = Field(primary_key=True, sa_column_args=[ForeignKey("nodes.id", ondelete="CASCADE")])
    position: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    kind: str
    name: str = Field(sa_type=FreeText)
    memory_total_bytes: int | None = Field(sa_type=BigInteger)
    memory_available_bytes: int | None = Field(sa_type=BigInteger)
    compute_units: int | None = Field(sa_type=BigInteger)
    supports_fp64: bool
    supports_fp16: bool
    driver_version: str
    cuda_version: str
    pcie_generation: int | None
    pcie_lanes: int | None
    compute_capability: float | None


class NodeMetricRow(Row, table=True):
    __tablename__ = "node_metrics"
    __table_args__ = (Index("ix_node_metrics_node_id_at", "node_id", "at"), Index("ix_node_metrics_at", "at"))
    id: int = Field(primary_key=True, sa_type=Number)
    node_id: str = Field(sa_column_args=[ForeignKey("nodes.id", ondelete="CASCADE")])
    at: datetime = Field(sa_type=Instant)
    cpu_usage: float | None
    memory_usage: float | None
    gpu_usage: float | None
    gpu_memory_usage: float | None
    network_rx_bytes_per_second: float | None
    network_tx_bytes_per_second: float | None
    power_watts: float | None
    active_jobs: int
    gpus: list[dict[str, Any]] | None = Field(sa_type=Json)


class JobRow(Row, table=True):
    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_state_urgency_created_at_id", "state", "urgency", "created_at", "id"),
        Index("ix_jobs_owner_id_created_at_id", "owner_id", "created_at", "id"),
        Index("ix_jobs_owner_id_completed_at", "owner_id", "completed_at"),
        Index("ix_jobs_created_at_id", "created_at", "id"),
        _partial("ix_jobs_node_id_created_at", "node_id", "created_at", where="node_id IS NOT NULL"),
        _partial("ix_jobs_state_not_before", "state", "not_before", where="not_before IS NOT NULL"),
        _partial("ix_jobs_reservation_id_state", "reservation_id", "state", where="reservation_id <> ''"),
    )
    id: str = Field(primary_key=True)
    owner_id: str
    name: str
    type: str
    urgency: int  # 0 is the most urgent, so that one ascending index serves the queue
    reservation_id: str = Field(sa_column_kwargs={"server_default": ""})
    spec: dict[str, Any] = Field(sa_type=Json)
    created_at: datetime = Field(sa_type=Instant)
    state: str
    phase: str
    progress: float
    epoch: int
    metrics: dict[str, float] = Field(sa_type=Json)
    node_id: str | None
    token_epoch: int | None = Field(sa_type=BigInteger)
    token_counter: int | None = Field(sa_type=BigInteger)
    attempts: int
    retry_count: int
    node_losses: int
    not_before: datetime | None = Field(sa_type=Instant)
    intent: str = Field(sa_column_kwargs={"server_default": "run"})
    reason: str = Field(sa_type=FreeText)
    error: str = Field(sa_type=FreeText)
    error_code: str = Field(sa_type=FreeText)
    estimated_cost_units: int = Field(sa_type=BigInteger)
    actual_cost_units: int = Field(sa_type=BigInteger)
    compute_seconds: float
    started_at: datetime | None = Field(sa_type=Instant)
    first_step_at: datetime | None = Field(sa_type=Instant)
    completed_at: datetime | None = Field(sa_type=Instant)
    version: int = Field(sa_type=BigInteger)


class JobModelRow(Row, table=True):
    """A job's model definition, which may be megabytes: apart, so that reading or saving a job does not carry it."""

    __tablename__ = "job_models"
    job_id: str = _job(primary_key=True)
    definition: str = Field(sa_type=FreeText)


class LeaseRow(Row, table=True):
    __tablename__ = "leases"
    __table_args__ = (_partial("ix_leases_live", "node_id", "token_epoch", "token_counter", where=LIVE_LEASES),)
    job_id: str = _job(primary_key=True)
    token_epoch: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    token_counter: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    node_id: str
    issued_at: datetime = Field(sa_type=Instant)
    boot_id: str
    state: str
    last_seq: int = Field(sa_type=BigInteger)
    ended_at: datetime | None = Field(sa_type=Instant)
    end_reason: str = Field(sa_type=FreeText)
    rank: int = Field(sa_column_kwargs={"server_default": "0"})
    world: int = Field(sa_column_kwargs={"server_default": "1"})
    lead: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": "0"})
    pricing: dict[str, Any] | None = Field(sa_type=Json)


class JobMetricRow(Row, table=True):
    __tablename__ = "job_metrics"
    job_id: str = _job(primary_key=True)
    offset: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    at: datetime = Field(sa_type=Instant)
    attempt: int
    epoch: int
    progress: float
    epoch_ended: bool
    metrics: dict[str, float] = Field(sa_type=Json)


class JobLogRow(Row, table=True):
    __tablename__ = "job_logs"
    job_id: str = _job(primary_key=True)
    offset: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    at: datetime = Field(sa_type=Instant)
    level: str = Field(sa_type=FreeWord)
    source: str = Field(sa_type=FreeWord)
    message: str = Field(sa_type=FreeText)


class JobCheckpointRow(Row, table=True):
    __tablename__ = "job_checkpoints"
    __table_args__ = (Index("ix_job_checkpoints_sha256", "sha256"),)
    job_id: str = _job(primary_key=True)
    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    at: datetime = Field(sa_type=Instant)
    node_id: str
    token_epoch: int = Field(sa_type=BigInteger)
    token_counter: int = Field(sa_type=BigInteger)
    epoch: int
    batch: int
    step: int = Field(sa_type=BigInteger)
    progress: float
    threads: int
    sha256: str
    size: int = Field(sa_type=BigInteger)
    kept: bool
    link: str = Field(sa_column_kwargs={"server_default": ""})


class JobResultRow(Row, table=True):
    __tablename__ = "job_results"
    job_id: str = _job(primary_key=True)
    node_id: str
    token_epoch: int = Field(sa_type=BigInteger)
    token_counter: int = Field(sa_type=BigInteger)
    files: list[dict[str, Any]] = Field(sa_type=Json)
    weights_uri: str
    weights_hash: str
    weights_size: int = Field(sa_type=BigInteger)
    final_metrics: dict[str, float] = Field(sa_type=Json)
    compute_seconds: float
    accepted_at: datetime = Field(sa_type=Instant)
    energy_joules: float | None


class PaymentRow(Row, table=True):
    """A payment outlives its job."""

    __tablename__ = "payments"
    __table_args__ = (
        Index("ix_payments_job_id", "job_id"),
        Index("ix_payments_owner_id_created_at", "owner_id", "created_at"),
        _partial("ix_payments_open", "due_at", "id", where=OPEN_PAYMENTS),
    )
    id: str = Field(primary_key=True)
    job_id: str
    owner_id: str
    member: int
    number: int
    state: str
    funding: str
    amount_units: int = Field(sa_type=BigInteger)
    fee_bps: int
    client: str
    node: str
    node_id: str | None
    rate: float
    most_rate: float = Field(sa_column_kwargs={"server_default": "0"})
    interval_seconds: int
    earned_units: int = Field(sa_type=BigInteger)
    paid_units: int = Field(sa_type=BigInteger)
    refunded_units: int = Field(sa_type=BigInteger)
    milestone_at: datetime | None = Field(sa_type=Instant)
    progress: float
    attempt: int
    created_at: datetime = Field(sa_type=Instant)
    deadline: datetime = Field(sa_type=Instant)
    locked_at: datetime | None = Field(sa_type=Instant)
    ended_at: datetime | None = Field(sa_type=Instant)
    job_version: int = Field(sa_type=BigInteger)
    due_at: datetime | None = Field(sa_type=Instant)
    attempts: int
    error: str = Field(sa_type=FreeText)
    version: int = Field(sa_type=BigInteger)


class MovementRow(Row, table=True):
    """What was, or is to be, done on a ledger: history for people, and what a crash must not make happen twice."""

    __tablename__ = "ledger_movements"
    __table_args__ = (
        Index("ix_ledger_movements_payment_id_at", "payment_id", "at"),
        Index("ix_ledger_movements_owner_id_at", "owner_id", "at"),
        Index("ix_ledger_movements_at", "at"),
        Index("ix_ledger_movements_job_id", "job_id"),
    )
    reference: str = Field(primary_key=True)
    payment_id: str = Field(primary_key=True)
    kind: str
    units: int = Field(sa_type=BigInteger)
    fee_units: int = Field(sa_type=BigInteger)
    back_units: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": "0"})
    source: str
    destination: str
    at: datetime = Field(sa_type=Instant)
    job_id: str
    owner_id: str
    node_id: str
    state: str
    confirmed_at: datetime | None = Field(sa_type=Instant)
    error: str = Field(sa_type=FreeText)
    raw: bytes = Field(sa_type=LargeBinary)
    last_height: int = Field(sa_type=BigInteger)


class AccountRow(Row, table=True):
    """A balance in the platform's own books. The sum of all is 0: what is given out stands against `grants`."""

    __tablename__ = "ledger_accounts"
    account: str = Field(primary_key=True)
    units: int = Field(sa_type=BigInteger)


class PostingRow(Row, table=True):
    """One line of an entry; the lines of an entry add up to 0."""

    __tablename__ = "ledger_postings"
    __table_args__ = (Index("ix_ledger_postings_account_at", "account", "at"),)
    key: str = Field(primary_key=True)
    account: str = Field(primary_key=True)
    units: int = Field(sa_type=BigInteger)
    at: datetime = Field(sa_type=Instant)


class UserRow(Row, table=True):
    __tablename__ = "users"
    __table_args__ = (Index("uq_users_name", "name", unique=True),)
    id: str = Field(primary_key=True)
    name: str
    role: str
    created_at: datetime = Field(sa_type=Instant)
    password_hash: str
    disabled: bool


class UserWalletRow(Row, table=True):
    """A wallet is one user's; a user may have several."""

    __tablename__ = "user_wallets"
    __table_args__ = (Index("ix_user_wallets_user_id", "user_id"),)
    address: str = Field(primary_key=True)
    user_id: str
    linked_at: datetime = Field(sa_type=Instant)


class ApiKeyRow(Row, table=True):
    __tablename__ = "api_keys"
    __table_args__ = (
        Index("uq_api_keys_digest", "digest", unique=True),
        Index("ix_api_keys_user_id_created_at", "user_id", "created_at"),
    )
    id: str = Field(primary_key=True)
    user_id: str
    name: str
    digest: str
    prefix: str
    created_at: datetime = Field(sa_type=Instant)
    revoked_at: datetime | None = Field(sa_type=Instant)
    last_used_at: datetime | None = Field(sa_type=Instant)


class JoinTokenRow(Row, table=True):
    __tablename__ = "join_tokens"
    __table_args__ = (
        Index("uq_join_tokens_digest", "digest", unique=True),
        Index("ix_join_tokens_owner_id_created_at", "owner_id", "created_at"),
    )
    id: str = Field(primary_key=True)
    owner_id: str
    digest: str
    created_at: datetime = Field(sa_type=Instant)
    expires_at: datetime | None = Field(sa_type=Instant)
    uses_left: int | None
    revoked_at: datetime | None = Field(sa_type=Instant)


class RevokedTokenRow(Row, table=True):
    __tablename__ = "revoked_tokens"
    id: str = Field(primary_key=True)
    expires_at: datetime = Field(sa_type=Instant, index=True)


class BlobRow(Row, table=True):
    __tablename__ = "blobs"
    sha256: str = Field(primary_key=True)
    size: int = Field(sa_type=BigInteger)
    created_at: datetime = Field(sa_type=Instant)


class BlobOwnerRow(Row, table=True):
    __tablename__ = "blob_owners"
    __table_args__ = (Index("ix_blob_owners_owner_id_sha256", "owner_id", "sha256"),)
    sha256: str = Field(primary_key=True, sa_column_args=[ForeignKey("blobs.sha256", ondelete="CASCADE")])
    owner_id: str = Field(primary_key=True)


class BlobRoomRow(Row, table=True):
    """What a user's blobs take in all."""

    __tablename__ = "blob_room"
    owner_id: str = Field(primary_key=True)
    taken: int = Field(sa_type=BigInteger)


class BlobSenderRow(Row, table=True):
    """Which nodes have sent a blob whole: only those may name it in a report."""

    __tablename__ = "blob_senders"
    sha256: str = Field(primary_key=True, sa_column_args=[ForeignKey("blobs.sha256", ondelete="CASCADE")])
    node_id: str = Field(primary_key=True, sa_column_args=[ForeignKey("nodes.id", ondelete="CASCADE")])


class EventRow(Row, table=True):
    """`category` is the broad topic ("jobs"), `subject` the narrow one ("job:<id>"): one index serves each."""

    __tablename__ = "events"
    __table_args__ = (
        Index("ix_events_category_seq", "category", "seq"),
        Index("ix_events_subject_seq", "subject", "seq"),
        {"sqlite_autoincrement": True},  # a seq is never given twice, also after pruning
    )
    seq: int = Field(primary_key=True, sa_type=Number)
    kind: str
    at: datetime = Field(sa_type=Instant)
    category: str
    subject: str
    owner_id: str
    data: dict[str, Any] = Field(sa_type=Json)


class OutboxRow(Row, table=True):
    __tablename__ = "outbox"
    __table_args__ = (
        Index("uq_outbox_kind_key", "kind", "key", unique=True),
        Index("ix_outbox_kind_due_at_id", "kind", "due_at", "id"),
        {"sqlite_autoincrement": True},
    )
    id: int = Field(primary_key=True, sa_type=Number)
    kind: str
    key: str
    payload: dict[str, Any] = Field(sa_type=Json)
    due_at: datetime = Field(sa_type=Instant)
    attempts: int


class AuditRow(Row, table=True):
    __tablename__ = "audit_logs"
    id: int = Field(primary_key=True, sa_type=Number)
    at: datetime = Field(sa_type=Instant)
    actor: str
    action: str
    target: str
    details: dict[str, Any] = Field(sa_type=Json)


class IdempotencyRow(Row, table=True):
    __tablename__ = "idempotency"
    scope: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    digest: str
    answer: str
    created_at: datetime = Field(sa_type=Instant, index=True)


class SettingRow(Row, table=True):
    __tablename__ = "settings"
    name: str = Field(primary_key=True)
    value: str


import cyxwiz.store.tables_links  # noqa: E402  # pyright: ignore[reportUnusedImport]
import cyxwiz.store.tables_proof  # noqa: E402  # pyright: ignore[reportUnusedImport]  they stand on Row
import cyxwiz.store.tables_stakes  # noqa: E402, F401  # pyright: ignore[reportUnusedImport]
