"""Polls that are shared: with many payments in hand, a cluster is asked once for all of them.

A public cluster refuses who asks more than a few times a second, and a transaction takes seconds until it is final.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from solders.account import Account
from solders.pubkey import Pubkey
from solders.signature import Signature

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ledger.rpc import MAX_ACCOUNTS, MAX_STATUSES, Caller, Height, JsonRpc, Statuses, check_count
from cyxwiz.ports.clock import Clock
from cyxwiz.runtime.sharing import Shared

SPACING_SECONDS = 0.4  # a slot of the cluster's: nothing new is known sooner


class SharingRpc(JsonRpc):
    """`JsonRpc` that shares the calls by which accounts are read and it is seen whether transactions landed."""

    def __init__(self, call: Caller, clock: Clock, *, mint: Pubkey, programs: Collection[Pubkey]) -> None:
        super().__init__(call, mint=mint, programs=programs)
        self._statuses = Shared(self._statuses_of, clock, SPACING_SECONDS)
        self._height = Shared(self._height_of, clock, SPACING_SECONDS)
        self._accounts = Shared(self._accounts_of, clock, SPACING_SECONDS)

    async def statuses(self, signatures: Sequence[Signature]) -> Statuses:
        check_count(signatures)  # here, so that it fails nobody else
        return await self._statuses(signatures)

    async def height(self) -> Height:
        return await self._height(None)

    async def account(self, address: Pubkey, *, seen: int = 0) -> Account | None:
        slot, found = await self._accounts(address)
        if slot < seen:
            raise CyxError(Code.UNAVAILABLE, f"the cluster has not seen slot {seen} yet")
        return found

    async def aclose(self) -> None:
        await self._accounts.aclose()
        await self._statuses.aclose()
        await self._height.aclose()

    async def _statuses_of(self, asked: list[Sequence[Signature]]) -> Sequence[Statuses]:
        """As many calls as there are times 256 signatures; what is said holds for the earliest slot among them."""
        wanted = list(dict.fromkeys(signature for each in asked for signature in each))
        parts = [
            await super(SharingRpc, self).statuses(wanted[at : at + MAX_STATUSES])
            for at in range(0, len(wanted), MAX_STATUSES)
        ]
        slot = min(part.slot for part in parts)
        found = dict(zip(wanted, (status for part in parts for status in part.found), strict=True))
        return [Statuses(slot, tuple(found[signature] for signature in each)) for each in asked]

    async def _height_of(self, asked: list[None]) -> Sequence[Height]:
        return [await super().height()] * len(asked)

    async def _accounts_of(self, asked: list[Pubkey]) -> Sequence[tuple[int, Account | None]]:
        wanted = list(dict.fromkeys(asked))
        held: dict[Pubkey, tuple[int, Account | None]] = {}
        for at in range(0, len(wanted), MAX_ACCOUNTS):
            part = wanted[at : at + MAX_ACCOUNTS]
            slot, found = await self.accounts(part)
            held |= {address: (slot, account) for address, account in zip(part, found, strict=True)}
        return [held[each] for each in asked]
