"""The table of reservations. A node has at most one that is live: the partial index holds to it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Index, text
from sqlmodel import Field

from cyxwiz.domain.states import LIVE_RESERVATION_STATES
from cyxwiz.store.tables import FreeText, Instant, Json, Row

LIVE_RESERVATIONS = f"state IN ({', '.join(repr(str(state)) for state in sorted(LIVE_RESERVATION_STATES))})"
_LIVE = text(LIVE_RESERVATIONS)
_OWED = text("settled_at IS NULL")


class ReservationRow(Row, table=True):
    __tablename__ = "reservations"
    __table_args__ = (
        Index("uq_reservations_live_node_id", "node_id", unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE),
        Index("ix_reservations_owed", "ended_at", sqlite_where=_OWED, postgresql_where=_OWED),
        Index("ix_reservations_owner_id_started_at_id", "owner_id", "started_at", "id"),
        Index("ix_reservations_started_at_id", "started_at", "id"),
    )
    id: str = Field(primary_key=True)
    owner_id: str
    node_id: str
    user_wallet: str = Field(sa_type=FreeText)
    node_wallet: str = Field(sa_type=FreeText)
    started_at: datetime = Field(sa_type=Instant)
    ends_at: datetime = Field(sa_type=Instant)  # follows from the start and the minutes; for statements
    minutes: int
    rate_units_per_hour: int = Field(sa_type=BigInteger)
    fee_percent: int
    state: str
    held: bool
    escrow_account: str
    escrow_tx_hash: str
    extensions: int
    heard_at: datetime | None = Field(sa_type=Instant)
    current_job_id: str = Field(sa_type=FreeText)
    job_progress: float
    metrics: dict[str, float] = Field(sa_type=Json)
    reported_jobs: list[str] = Field(sa_type=Json)
    proven_at: datetime | None = Field(sa_type=Instant)
    engine_ended_at: datetime | None = Field(sa_type=Instant)
    node_ended_at: datetime | None = Field(sa_type=Instant)
    node_lost_at: datetime | None = Field(sa_type=Instant)
    away_seconds: float
    ended_at: datetime | None = Field(sa_type=Instant)
    end_reason: str = Field(sa_type=FreeText)
    used_seconds: float
    paid_units: int = Field(sa_type=BigInteger)
    refunded_units: int = Field(sa_type=BigInteger)
    payment_tx_hash: str
    refund_tx_hash: str
    charged: bool
    settled_at: datetime | None = Field(sa_type=Instant)
    version: int = Field(sa_type=BigInteger)
