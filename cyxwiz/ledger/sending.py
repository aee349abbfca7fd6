"""Transactions of payments: recorded before they are sent, and never left in doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from solders.instruction import Instruction
from solders.signature import Signature

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.payment import Movement
from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.rpc import Rpc
from cyxwiz.ledger.sender import Failed, Intent, Landed, Sender, SendPolicy, Signed
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.store import MovementQuery, Store

PENDING, CONFIRMED, FAILED = "pending", "confirmed", "failed"
FARTHEST_BEHIND = timedelta(hours=1)  # that a node of the cluster is; it may have forgotten what landed before
KEPT_SLOTS = 10_000


class Send:
    """Gets the transactions of payments onto the chain and keeps their record."""

    def __init__(self, store: Store, clock: Clock, rpc: Rpc, policy: SendPolicy) -> None:
        self._store = store
        self._clock = clock
        self._sender = Sender(rpc, clock, policy)
        # Sees to the end of what was signed, without signing anything new.
        self._finisher = Sender(rpc, clock, replace(policy, max_signings=1))
        self._rpc = rpc
        self._slots: dict[str, int] = {}  # by payment: in which its latest transaction landed

    async def resolve(self, payment_id: str) -> None:
        """Waits until nothing of a payment is in doubt: what was sent before a crash has landed or never will.

        Raises:
            CyxError: UNAVAILABLE when the cluster can't say.
        """
        query = MovementQuery(payment_id=payment_id, state=PENDING)
        page = await self._store.read(lambda tx: tx.movements(query))
        for movement in reversed(page.items):
            signed = Signed(Signature.from_string(movement.reference), movement.raw, movement.last_height)
            ended = await self._finisher.send(Intent((), ()), record=_never, signed=[signed])
            self._saw(movement, ended)
            await self._close(movement, ended.error.message if not isinstance(ended, Landed) else None)

    async def seen(self, payment_id: str) -> int:
        """The slot of a payment's latest transaction: who has not seen it says nothing about the payment. 0: any will.

        Raises:
            CyxError: UNAVAILABLE when the cluster does not know a transaction that has landed lately.
        """
        if (known := self._slots.get(payment_id)) is not None:
            return known
        query = MovementQuery(payment_id=payment_id, state=CONFIRMED, limit=1)
        found = (await self._store.read(lambda tx: tx.movements(query))).items
        if not found or self._clock.now() - (found[0].confirmed_at or found[0].at) > FARTHEST_BEHIND:
            return 0
        status = (await self._rpc.statuses([Signature.from_string(found[0].reference)])).found[0]
        if status is None:
            raise CyxError(Code.UNAVAILABLE, f"the cluster does not show transaction {found[0].reference} yet")
        return self._slots.setdefault(payment_id, status.slot)

    def _saw(self, movement: Movement, ended: Landed | Failed) -> None:
        if len(self._slots) > KEPT_SLOTS:
            self._slots.clear()
        if isinstance(ended, Landed):
            self._slots[movement.payment_id] = ended.slot

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
        self._saw(movement, ended)
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
