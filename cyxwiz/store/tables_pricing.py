"""Budgets of users, and what their deleted jobs had cost, so that a deletion gives no money back."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger
from sqlmodel import Field

from cyxwiz.store.tables import Instant, Row


class BudgetRow(Row, table=True):
    __tablename__ = "budgets"
    user_id: str = Field(primary_key=True)
    amount_units: int = Field(sa_type=BigInteger)
    set_at: datetime = Field(sa_type=Instant)


class DeletedCostRow(Row, table=True):
    __tablename__ = "deleted_costs"
    user_id: str = Field(primary_key=True)
    month: datetime = Field(primary_key=True, sa_type=Instant)
    units: int = Field(sa_type=BigInteger)
