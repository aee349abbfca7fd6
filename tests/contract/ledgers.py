"""The ledgers that the contract is tested on, with an account for a client, two nodes and the platform."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cyxwiz.bus.local import LocalBus
from cyxwiz.domain.ids import NodeId, UserId, new_id
from cyxwiz.domain.stake import StakeRules
from cyxwiz.ledger.credits import PLATFORM, CreditsLedger
from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.localnet.chain import open_chain
from cyxwiz.ledger.localnet.ledger import local_ledger
from cyxwiz.ports.ledger import Ledger
from cyxwiz.store.memory import MemoryStore
from tests.contract.conftest import HandClock

KINDS = ["credits", "localnet"]
WELCOME = 5_000_000_000


@dataclass
class Bench:
    ledger: Ledger
    now: Callable[[], datetime]
    node_account: str
    other_account: str
    platform_account: str
    pass_time: Callable[[float], Awaitable[None]]
    balance: Callable[[str], Awaitable[int]]
    welcome: int
    user: UserId
    node_id: NodeId = field(default_factory=lambda: NodeId(new_id()))
    other_id: NodeId = field(default_factory=lambda: NodeId(new_id()))

    async def client(self) -> int:
        return await self.balance(self.ledger.client_account(self.user))

    async def node(self) -> int:
        return await self.balance(self.node_account)

    async def other(self) -> int:
        return await self.balance(self.other_account)

    async def platform(self) -> int:
        return await self.balance(self.platform_account)


@asynccontextmanager
async def opened(kind: str, folder: Path) -> AsyncIterator[Bench]:
    clock = HandClock()
    store = MemoryStore(clock, LocalBus())
    if kind == "localnet":
        async with _localnet(clock, store) as bench:
            yield bench
        return
    ledger = CreditsLedger(store, welcome_units=WELCOME, stakes=StakeRules(minimum_units=1_000_000, rate_bps=500))

    async def pass_time(seconds: float) -> None:
        clock.advance(seconds)

    accounts = [f"user:{new_id()}" for _ in range(2)]
    bench = Bench(
        ledger, clock.now, accounts[0], accounts[1], PLATFORM, pass_time, ledger.balance, WELCOME, UserId(new_id())
    )
    try:
        yield bench
        assert await store.read(lambda tx: tx.accounts_total()) == 0
    finally:
        await ledger.aclose()
        await store.aclose()


@asynccontextmanager
async def _localnet(clock: HandClock, store: MemoryStore) -> AsyncIterator[Bench]:
    chain = await open_chain(None, clock)
    ledger = local_ledger(chain, store, clock, custody=b"c" * 32, welcome_units=WELCOME)

    async def pass_time(seconds: float) -> None:
        clock.advance(seconds)

    accounts = [str(Key.new().pubkey) for _ in range(2)]
    platform = str(chain.genesis.keys.platform.pubkey)
    bench = Bench(
        ledger, clock.now, accounts[0], accounts[1], platform, pass_time, ledger.balance, WELCOME, UserId(new_id())
    )
    try:
        yield bench
    finally:
        await ledger.aclose()
        await store.aclose()
