"""A cluster that loses, delays, doubles and reorders, is down, and has nodes that are behind: all from one seed.

Accounts too are read from nodes that are behind, with what they held then.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from solders.account import Account
from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ledger.localnet.chain import Chain
from cyxwiz.ledger.localnet.history import Details
from cyxwiz.ledger.localnet.timeline import SLOT_MS, VALID_SLOTS
from cyxwiz.ledger.rpc import Height, JsonRpc, Status, Statuses
from cyxwiz.ports.clock import Clock
from cyxwiz.runtime.tasks import Tasks, spawn

CLOCK = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")


@dataclass(frozen=True, slots=True)
class Faults:
    """Chances from 0 to 1 of each fault of a call, and how long things take, in seconds."""

    lost: float = 0.0
    unanswered: float = 0.0  # it was done, and nobody was told
    delayed: float = 0.0
    doubled: float = 0.0
    behind: float = 0.0
    longest_delay: float = 90.0
    longest_lag: int = 60  # slots
    brink: float = 0.0  # share of signings that arrive in their last slots; with it, the others never do
    slow: float = 0.2  # seconds that a call takes at most
    down: float = 0.0  # share of the time
    spell: float = 40.0  # seconds of being down or up


class FaultyRpc:
    """`Rpc` over a good one. What is delayed or doubled arrives later, also after its sender was told otherwise."""

    def __init__(self, good: JsonRpc, chain: Chain, clock: Clock, seed: int, faults: Faults) -> None:
        self._good = good
        self._chain = chain
        self._clock = clock
        self._chance = random.Random(seed)
        self._faults = faults
        self._tasks = Tasks()
        self._spell = self._chance.random() * faults.spell
        self._brinks: set[Signature] = set()
        self._versions: dict[Pubkey, list[tuple[int, Account | None]]] = {}
        self._forget = chain.watch(self._landed)
        self.sent = 0
        self.wrong = 0

    def heal(self) -> None:
        self._faults = Faults()

    async def aclose(self) -> None:
        self._forget()
        await self._tasks.aclose()

    def _landed(self, _: Signature, details: Details) -> None:
        for address in details.outcome.keys.writable_addresses():
            self._versions.setdefault(address, [(0, None)]).append((details.slot, self._chain.account(address)))

    def _happens(self, share: float) -> bool:
        happened = self._chance.random() < share
        self.wrong += happened
        return happened

    def _down(self) -> bool:
        spell = int((self._clock.monotonic() + self._spell) / self._faults.spell)
        return random.Random(spell * 7919 + int(self._spell)).random() < self._faults.down

    async def _reach(self) -> None:
        await self._clock.sleep(self._chance.random() * self._faults.slow)
        if self._down() or self._happens(self._faults.lost):
            raise CyxError(Code.UNAVAILABLE, "lost on the way")

    async def _answer(self) -> None:
        if self._happens(self._faults.unanswered):
            await self._clock.sleep(self._chance.random() * 30)
            raise CyxError(Code.UNAVAILABLE, "the answer was lost")

    def _lag(self) -> int:
        return self._chance.randrange(self._faults.longest_lag) if self._happens(self._faults.behind) else 0

    async def send(self, raw: bytes, *, preflight: bool = False) -> Signature:
        self.sent += 1
        await self._reach()
        if self._faults.brink:
            return self._at_the_brink(raw)
        if self._happens(self._faults.doubled):
            self._later(raw)
        if self._happens(self._faults.delayed):
            self._later(raw)
            return VersionedTransaction.from_bytes(raw).signatures[0]
        signature = await self._good.send(raw, preflight=preflight)
        await self._answer()
        return signature

    def _at_the_brink(self, raw: bytes) -> Signature:
        transaction = VersionedTransaction.from_bytes(raw)
        signature = transaction.signatures[0]
        slot = self._chain.timeline.slot_of(transaction.message.recent_blockhash)
        if signature not in self._brinks and slot is not None:
            self._brinks.add(signature)
            if self._happens(self._faults.brink):
                left = (slot + VALID_SLOTS) * SLOT_MS - self._chain.timeline.now_ms()
                self._later(raw, left / 1000 + self._chance.uniform(-4 * SLOT_MS, 0.9 * SLOT_MS) / 1000)
        return signature

    def _later(self, raw: bytes, seconds: float | None = None) -> None:
        async def arrive() -> None:
            delay = self._chance.random() * self._faults.longest_delay if seconds is None else seconds
            await self._clock.sleep(delay)
            try:
                await self._good.send(raw)
            except CyxError as error:
                if error.code not in (Code.STALE, Code.FUNDS):  # too late, or refused: as if it never came
                    raise

        spawn(arrive(), name="late transaction", group=self._tasks)

    async def height(self) -> Height:
        await self._reach()
        lag = self._lag()
        found = await self._good.height()
        await self._answer()
        return Height(found.block_height - lag, found.slot - lag)

    async def statuses(self, signatures: Sequence[Signature]) -> Statuses:
        await self._reach()
        lag = self._lag()
        answer = await self._good.statuses(signatures)
        await self._answer()
        seen = answer.slot - lag
        found: list[Status | None] = [each if each and each.slot <= seen else None for each in answer.found]
        return Statuses(seen, tuple(found)) if lag else answer

    async def latest_blockhash(self) -> tuple[Hash, int]:
        await self._reach()
        slot = max(0, self._chain.slot() - self._lag())
        await self._answer()
        return self._chain.timeline.blockhash(slot), slot + VALID_SLOTS

    async def simulate(self, transaction: VersionedTransaction) -> CyxError | None:
        await self._reach()
        return await self._good.simulate(transaction)

    async def account(self, address: Pubkey, *, seen: int = 0) -> Account | None:
        await self._reach()
        lag = self._lag()
        if seen > self._chain.slot() - lag:
            raise CyxError(Code.UNAVAILABLE, "this node has not seen that slot")
        found = await self._good.account(address)
        await self._answer()
        return found if not lag else self._earlier(address, found, self._chain.slot() - lag)

    def _earlier(self, address: Pubkey, now: Account | None, slot: int) -> Account | None:
        """An account as it was after a slot."""
        if address == CLOCK and now is not None:
            data = bytearray(now.data)
            data[32:40] = self._chain.timeline.unix_of_slot(slot).to_bytes(8, "little")
            return Account(now.lamports, bytes(data), now.owner, now.executable, now.rent_epoch)
        versions = self._versions.get(address)
        if versions is None:
            return now
        return next((account for at, account in reversed(versions) if at <= slot), None)

    async def token_balance(self, owner: Pubkey) -> int:
        await self._reach()
        found = await self._good.token_balance(owner)
        await self._answer()
        return found

    async def transaction(self, signature: Signature) -> dict[str, Any] | None:
        await self._reach()
        return await self._good.transaction(signature)

    async def naming(self, address: Pubkey) -> Sequence[Signature]:
        await self._reach()
        return await self._good.naming(address)

    async def failure(self, signature: Signature) -> CyxError | None:
        await self._reach()
        return await self._good.failure(signature)

    async def recent_priority_fee(self, accounts: Sequence[Pubkey]) -> int:
        await self._reach()
        return await self._good.recent_priority_fee(accounts)
