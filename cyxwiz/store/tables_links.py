"""What nodes measured between them."""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Field

from cyxwiz.store.tables import Instant, Row


class NodeLinkRow(Row, table=True):
    __tablename__ = "node_links"
    one: str = Field(primary_key=True)  # the lower id of the two
    other: str = Field(primary_key=True, index=True)
    round_trip_seconds: float
    bytes_per_second: float
    measured_at: datetime = Field(sa_type=Instant, index=True)
