"""New tokens on a chain where the platform may make some, once a key.

The transaction is recorded before it is sent, under an id that follows from the key: who asks again, also after a
crash, first brings what was sent to its end, and sends only if nothing of that id has landed.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from solders.pubkey import Pubkey

from cyxwiz.domain.payment import Movement
from cyxwiz.ledger.sending import Prepared, Send, newest
from cyxwiz.ledger.tokens import memo
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.store import Store, Tx

GRANT = "grant"
_NAMES = uuid.UUID("8f1e4c0b-53a5-4a45-9a5b-0c3c7f4d2f6e")

Faucet = Callable[[Pubkey, int], Prepared]
"""What makes so many units for an owner."""


class Grants:
    def __init__(self, store: Store, clock: Clock, send: Send, mint: Pubkey, faucet: Faucet) -> None:
        self._store = store
        self._clock = clock
        self._send = send
        self._mint = mint
        self._faucet = faucet

    async def given(self, key: str) -> str:
        """The transaction that gave it, as far as that is on record; "" for none."""

        def unit(tx: Tx) -> str:
            before = _earlier(tx, key)
            return before.error if before is not None else newest(tx.movements_of(_ident(key)), GRANT)

        return await self._store.read(unit)

    async def give(self, owner: Pubkey, units: int, key: str) -> str:
        """Returns the transaction. Raises UNAVAILABLE where the cluster can't be reached, CONFLICT for a key that
        another amount or account had."""
        ident = _ident(key)
        if (before := await self._store.read(lambda tx: _earlier(tx, key))) is not None:
            return before.error

        async def prepare() -> Prepared:
            instructions, signers = self._faucet(owner, units)
            return [memo(ident), *instructions], signers

        moved = Movement("", GRANT, units, str(self._mint), str(owner), self._clock.now(), payment_id=ident)
        return await self._send.once(moved, prepare)


def _earlier(tx: Tx, key: str) -> Movement | None:
    """A grant by an earlier version: its signature was kept beside it."""
    before = tx.movement(f"{GRANT}:{key}")
    return before if before is not None and before.state == "confirmed" else None


def _ident(key: str) -> str:
    return str(uuid.uuid5(_NAMES, key))
