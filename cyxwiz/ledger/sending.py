"""Transactions of payments: recorded before they are sent, and never left in doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from solders.instruction import Instruction
from solders.signature import Signature

from cyxwiz.domain.payment import Movement
from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.rpc import Rpc
from cyxwiz.ledger.sender import Intent, Landed, Sender, SendPolicy, Signed
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.store import Store

PENDING, CONFIRMED, FAILED = "pending", "confirmed", "failed"


class Send:
    """Gets the transactions of payments onto the chain and keeps their record."""

    def __init__(self, store: Store, clock: Clock, rpc: Rpc, policy: SendPolicy) -> None:
        self._store = store
        self._clock = clock
        self._sender = Sender(rpc, clock, policy)
        # Sees to the end of what was signed, without signing anything new.
        self._finisher = Sender(rpc, clock, replace(policy, max_signings=1))

    async def resolve(self, payment_id: str) -> Sequence[Movement]:
        """Waits until nothing of a payment is in doubt: what was sent before a crash has landed or never will.

        Returns:
            Its movements, oldest first, none of them pending.

        Raises:
            CyxError: UNAVAILABLE when the cluster can't say.
        """
        known = await self._store.read(lambda tx: tx.movements_of(payment_id))
        pending = [movement for movement in known if movement.state == PENDING]
        for movement in pending:
            signed = Signed(Signature.from_string(movement.reference), movement.raw, movement.last_height)
            ended = await self._finisher.send(Intent((), ()), record=_never, signed=[signed])
            await self._close(movement, ended.error.message if not isinstance(ended, Landed) else None)
        return await self._store.read(lambda tx: tx.movements_of(payment_id)) if pending else known

    async def land(self, movement: Movement, instructions: Sequence[Instruction], signers: Sequence[Key]) -> str:
        """Sends one transaction until it is final; returns its signature. The first signer pays.

        Raises:
            CyxError: what it was refused with; UNAVAILABLE or TIMEOUT when it never landed.
        """
        tried: list[Movement] = []

        async def record(signature: Signature, raw: bytes, last_height: int) -> None:
            made = replace(movement, reference=str(signature), state=PENDING, raw=raw, last_height=last_height)
            await self._store.write(lambda tx: tx.add_movement(made))
            tried.append(made)

        ended = await self._sender.send(Intent(tuple(instructions), tuple(signers)), record=record)
        landed = str(ended.signature) if isinstance(ended, Landed) else ""
        for made in tried:
            why = "" if isinstance(ended, Landed) else ended.error.message
            await self._close(made, None if made.reference == landed else why or "another signing landed")
        if not isinstance(ended, Landed):
            raise ended.error
        return landed

    async def _close(self, movement: Movement, error: str | None) -> None:
        done = replace(
            movement,
            state=CONFIRMED if error is None else FAILED,
            error=(error or "")[:500],
            confirmed_at=self._clock.now() if error is None else None,
            raw=b"",
        )
        await self._store.write(lambda tx: tx.save_movement(done))


async def _never(signature: Signature, raw: bytes, last_height: int) -> None:
    raise AssertionError("what is only finished is not signed anew")
