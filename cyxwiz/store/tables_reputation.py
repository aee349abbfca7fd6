"""The table of what moved the reputation of nodes: rows are added and, once old, pruned; none is changed."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, text
from sqlmodel import Field

from cyxwiz.store.tables import FreeText, Instant, Number, Row

_IS_COMPLAINT = text("kind = 'complaint'")


class ReputationEventRow(Row, table=True):
    __tablename__ = "reputation_events"
    __table_args__ = (
        Index("ix_reputation_events_node_id_id", "node_id", "id"),
        Index("ix_reputation_events_at", "at"),
        Index(  # one complaint a job and node
            "uq_reputation_events_complaint",
            "node_id",
            "job_id",
            unique=True,
            sqlite_where=_IS_COMPLAINT,
            postgresql_where=_IS_COMPLAINT,
        ),
    )
    id: int = Field(primary_key=True, sa_type=Number)
    node_id: str = Field(sa_column_args=[ForeignKey("nodes.id", ondelete="CASCADE")])
    at: datetime = Field(sa_type=Instant)
    kind: str
    cause: str
    delta: float
    job_id: str | None
    note: str = Field(sa_type=FreeText)
    by: str | None
