"""Grants on a chain: exactly once, also when central dies at any of its calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from cyxwiz.bus.local import LocalBus
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import UserId, new_id
from cyxwiz.domain.payment import Movement
from cyxwiz.ledger import solana
from cyxwiz.ledger.localnet.chain import Chain, open_chain
from cyxwiz.ledger.localnet.direct import direct_rpc
from cyxwiz.ledger.localnet.ledger import POLICY, local_ledger
from cyxwiz.ledger.sending import Send
from cyxwiz.ledger.solana import SolanaLedger
from cyxwiz.ports.store import MovementQuery, Store
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.store.memory import MemoryStore
from tests.settlement.central import Life, MortalRpc, MortalStore

WELCOME, UNITS = 7_000_000, 5_000


class Bank:
    """A chain and a store that outlive each central over them."""

    def __init__(self, chain: Chain, store: MemoryStore, clock: SystemClock) -> None:
        self.chain, self.store, self.clock = chain, store, clock
        self.notes: list[str] = []

    def ledger(self, life: Life | None = None) -> SolanaLedger:
        store: Any = self.store if life is None else MortalStore(self.store, life)
        made = local_ledger(self.chain, store, self.clock, custody=b"c" * 32, welcome_units=WELCOME)
        if life is None:
            return made
        rpc: Any = MortalRpc(direct_rpc(self.chain), life)
        return SolanaLedger(store, self.clock, rpc, Send(store, self.clock, rpc, POLICY), made._at, _nothing)

    def life(self, ends_at: int) -> Life:
        return Life(ends_at, self.notes.append)

    async def units(self, account: str) -> int:
        plain: Store = self.store
        reader = local_ledger(self.chain, plain, self.clock, custody=b"c" * 32, welcome_units=0)
        return await reader.balance(account)


@pytest.fixture
async def bank() -> AsyncIterator[Bank]:
    clock = SystemClock()
    chain = await open_chain(None, clock)
    store = MemoryStore(clock, LocalBus())
    yield Bank(chain, store, clock)
    await chain.aclose()
    await store.aclose()


async def _nothing() -> None:
    return None


def stranger() -> UserId:
    return UserId(new_id())


@pytest.mark.parametrize("what", ["grant", "welcome"])
async def test_a_grant_that_was_cut_off_anywhere_is_given_once(
    bank: Bank, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Central is killed at each of its calls in turn, then asked again by a new one."""
    place, killed = 0, True
    while killed:
        place += 1
        life = bank.life(place)
        ledger, user = bank.ledger(life), stranger()
        account = ledger.client_account(user)
        try:
            await (ledger.grant(account, UNITS, f"key {user}") if what == "grant" else ledger.balance(account))
            killed = False
        except asyncio.CancelledError:  # `Killed`, or its part of a call that several share
            pass
        again = bank.ledger()
        assert again.client_account(user) == account
        if what == "grant":
            first = await again.grant(account, UNITS, f"key {user}")
            assert await again.grant(account, UNITS, f"key {user}") == first
            expected = UNITS
        else:
            assert await again.balance(account) == WELCOME
            expected = WELCOME
        assert await bank.units(account) == expected, f"killed at {place}: {bank.notes[-1:]}"
    assert place > 8, "nothing was killed on the way"
    assert any("after send" in each for each in bank.notes)
    monkeypatch.setattr(solana, "STRAY", timedelta(0))
    await bank.ledger().mend()  # a balance that is there asks for no welcome: what is in doubt is left to this
    assert not (await bank.store.read(lambda tx: tx.movements(MovementQuery(state="pending")))).items


async def test_one_key_asked_for_at_once_is_given_once(bank: Bank) -> None:
    ledger = bank.ledger()
    account = ledger.client_account(stranger())
    signatures = await asyncio.gather(*(ledger.grant(account, UNITS, "one") for _ in range(5)))
    assert len(set(signatures)) == 1
    assert await bank.units(account) == UNITS


async def test_a_grant_by_an_earlier_version_is_known(bank: Bank) -> None:
    ledger = bank.ledger()
    account = ledger.client_account(stranger())
    old = Movement(
        "grant:old", "grant", UNITS, "mint", account, bank.clock.now(), state="confirmed", error="its-signature"
    )
    await bank.store.write(lambda tx: tx.add_movement(old))
    assert await ledger.grant(account, UNITS, "old") == "its-signature"
    assert await bank.units(account) == 0


async def test_a_welcome_that_failed_is_given_later(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = bank.ledger()
    account = ledger.client_account(stranger())
    with monkeypatch.context() as patch:

        async def away(*_: object, **__: object) -> str:
            raise CyxError(Code.UNAVAILABLE, "away")

        patch.setattr(Send, "land", away)
        with pytest.raises(CyxError, match="away"):
            await ledger.balance(account)
    assert await ledger.balance(account) == WELCOME
