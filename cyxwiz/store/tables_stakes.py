"""The tables of stakes: what is to be done with them, and the stakes that are in the platform's own books."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Index, text
from sqlmodel import Field

from cyxwiz.store.tables import FreeText, Instant, Row

PENDING = "state = 'pending'"
_PENDING = text(PENDING)


class StakeStepRow(Row, table=True):
    __tablename__ = "stake_steps"
    __table_args__ = (
        Index("ix_stake_steps_pending", "due_at", "id", sqlite_where=_PENDING, postgresql_where=_PENDING),
        Index("ix_stake_steps_node_id_created_at", "node_id", "created_at"),
    )
    id: str = Field(primary_key=True)
    node_id: str
    owner_id: str
    kind: str
    created_at: datetime = Field(sa_type=Instant)
    due_at: datetime = Field(sa_type=Instant)
    units: int = Field(sa_type=BigInteger)
    evidence: str
    upheld: bool
    by: str
    state: str
    reference: str
    error: str = Field(sa_type=FreeText)
    attempts: int
    version: int = Field(sa_type=BigInteger)


class StakeRow(Row, table=True):
    __tablename__ = "stakes"
    account: str = Field(primary_key=True)
    active_units: int = Field(sa_type=BigInteger)
    cooling_units: int = Field(sa_type=BigInteger)
    cooling_until: datetime | None = Field(sa_type=Instant)
    contest: str
    contested_units: int = Field(sa_type=BigInteger)
    contested_cooling_units: int = Field(sa_type=BigInteger)
    contested_until: datetime | None = Field(sa_type=Instant)
    evidence: str
    slashed_units: int = Field(sa_type=BigInteger)
    rewards_units: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": "0"})
    accrued_at: datetime | None = Field(sa_type=Instant)
