"""Wallets of users as statements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, delete, insert, select

from cyxwiz.domain.account import UserWallet
from cyxwiz.domain.ids import UserId
from cyxwiz.store.sql_unit import Unit, lookup, table
from cyxwiz.store.tables import UserWalletRow

wallets = table(UserWalletRow)
_ADD = insert(wallets)
_BY_ADDRESS = lookup(select(wallets).where(wallets.c.address == bindparam("address")))
_OF_USER = (
    select(wallets).where(wallets.c.user_id == bindparam("user_id")).order_by(wallets.c.linked_at, wallets.c.address)
)
_DROP = delete(wallets).where(wallets.c.address == bindparam("address"))


class Wallets(Unit):
    def add_wallet(self, wallet: UserWallet) -> None:
        columns = {"address": wallet.address, "user_id": wallet.user_id, "linked_at": wallet.linked_at}
        self._run(_ADD, columns)

    def wallet(self, address: str) -> UserWallet | None:
        row = self._one(_BY_ADDRESS, address=address)
        return None if row is None else _to_wallet(row)

    def wallets_of(self, user_id: UserId) -> Sequence[UserWallet]:
        return [_to_wallet(row) for row in self._run(_OF_USER, {"user_id": user_id})]

    def drop_wallet(self, address: str) -> None:
        self._run(_DROP, {"address": address})


def _to_wallet(row: Any) -> UserWallet:
    return UserWallet(row.address, UserId(row.user_id), row.linked_at)
