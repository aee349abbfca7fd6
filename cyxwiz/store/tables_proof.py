"""The tables of proofs: chains of links, what nodes signed, verifications, and the record of each node."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Float, ForeignKey, LargeBinary
from sqlmodel import Field

from cyxwiz.store.tables import FreeText, Instant, Json, Row, _job, _partial  # pyright: ignore[reportPrivateUsage]

OPEN = "outcome = ''"


class JobLinkRow(Row, table=True):
    __tablename__ = "job_links"
    job_id: str = _job(primary_key=True)
    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    token_epoch: int = Field(sa_type=BigInteger)
    token_counter: int = Field(sa_type=BigInteger)
    node_id: str
    at: datetime = Field(sa_type=Instant)
    kind: int
    step: int = Field(sa_type=BigInteger)
    loss: float = Field(sa_type=Float)
    weights: str
    link: str
    data: str
    environment: str = Field(sa_type=FreeText)
    signature: bytes = Field(sa_type=LargeBinary)


class JobProofRow(Row, table=True):
    __tablename__ = "job_proofs"
    job_id: str = _job(primary_key=True)
    node_id: str
    head: str
    statement: bytes = Field(sa_type=LargeBinary)
    signature: bytes = Field(sa_type=LargeBinary)
    public_key: bytes = Field(sa_type=LargeBinary)
    environment: str = Field(sa_type=FreeText)
    at: datetime = Field(sa_type=Instant)


class VerificationRow(Row, table=True):
    __tablename__ = "verifications"
    __table_args__ = (_partial("ix_verifications_open", "since", where=OPEN),)
    job_id: str = _job(primary_key=True)
    since: datetime = Field(sa_type=Instant)
    outcome: str
    data: dict[str, Any] = Field(sa_type=Json)


class NodeValidityRow(Row, table=True):
    __tablename__ = "node_validity"
    node_id: str = Field(primary_key=True, sa_column_args=[ForeignKey("nodes.id", ondelete="CASCADE")])
    streak: int = Field(sa_type=BigInteger)
    valid: int = Field(sa_type=BigInteger)
    invalid: int = Field(sa_type=BigInteger)
