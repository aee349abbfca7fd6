"""Wallets of users, and what moved: the same on every store."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cyxwiz.domain.account import UserWallet
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import UserId
from cyxwiz.domain.payment import Movement
from cyxwiz.ports.store import MovementQuery, Store, Tx
from tests.contract.make import OWNER, START

OTHER = UserId("22222222-2222-4222-8222-222222222222")


async def test_a_wallet_is_one_users_until_it_is_dropped(store: Store) -> None:
    for at, address in enumerate(("b", "a")):
        wallet = UserWallet(address, OWNER, START + timedelta(seconds=at))
        await store.write(lambda tx, wallet=wallet: tx.add_wallet(wallet))
    assert await store.read(lambda tx: tx.wallet("b")) == UserWallet("b", OWNER, START)
    assert [each.address for each in await store.read(lambda tx: tx.wallets_of(OWNER))] == ["b", "a"]
    assert await store.read(lambda tx: tx.wallets_of(OTHER)) == []
    with pytest.raises(CyxError) as taken:
        await store.write(lambda tx: tx.add_wallet(UserWallet("a", OTHER, START)))
    assert taken.value.code is Code.EXISTS
    await store.write(lambda tx: tx.drop_wallet("a"))
    assert await store.read(lambda tx: tx.wallet("a")) is None


def _movement(reference: str, kind: str, units: int, hour: int, **more: str) -> Movement:
    ends = {"source": "x", "destination": "y", **more}
    return Movement(reference, kind, units, at=START + timedelta(hours=hour), **ends)  # type: ignore[arg-type]


async def test_what_moved_is_summed_and_found_by_owner_or_account(store: Store) -> None:
    def unit(tx: Tx) -> None:
        tx.add_movement(_movement("1", "lock", 100, 0, source="me", owner_id=OWNER))
        tx.add_movement(_movement("2", "pay", 30, 1, owner_id=OWNER))
        tx.add_movement(_movement("3", "settle", 7, 2, destination="me", owner_id=OTHER))
        tx.add_movement(_movement("4", "settle", 1000, 3, state="failed"))

    await store.write(unit)
    assert await store.read(lambda tx: tx.moved()) == (3, 37)
    assert await store.read(lambda tx: tx.moved(START + timedelta(hours=1))) == (2, 37)
    assert await store.read(lambda tx: tx.moved(START + timedelta(hours=9))) == (0, 0)
    for query, found in (
        (MovementQuery(owner_id=OWNER), ["2", "1"]),
        (MovementQuery(account="me"), ["3", "1"]),
        (MovementQuery(owner_id=OWNER, account="me"), ["3", "2", "1"]),
        (MovementQuery(), ["4", "3", "2", "1"]),
    ):
        page = await store.read(lambda tx, query=query: tx.movements(query))
        assert [each.reference for each in page.items] == found
