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
from cyxwiz.ports.store import Store, Tx

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

    async def resolve(self, payment_id: str) -> Sequence[Movement]:
        """Waits until nothing of a payment is in doubt: what was sent before a crash has landed or never will.

        Returns:
            Its movements, oldest first, none of them pending.

        Raises:
            CyxError: UNAVAILABLE when the cluster can't say.
        """
        known = list(await self._store.read(lambda tx: tx.movements_of(payment_id)))
        for at, movement in enumerate(known):
            if movement.state != PENDING:
                continue
            signed = Signed(Signature.from_string(movement.reference), movement.raw, movement.last_height)
            ended = await self._finisher.send(Intent((), ()), record=_never, signed=[signed])
            self._saw(movement, ended)
            known[at] = await self._close(movement, None if isinstance(ended, Landed) else ended.error.message)
        return known

    async def prefetch(self) -> None:
        """Has at hand what `record` signs by."""
        if self._sender.signs_now:
            await self._sender.blockhash()

    def record(self, tx: Tx, movement: Movement, instructions: Sequence[Instruction], signers: Sequence[Key]) -> None:
        """Signs a transaction and records it within a unit, where that needs nothing to be asked; else does nothing.
        The next `resolve` of its payment sends it, as after a crash between the two."""
        signed = self._sender.sign_now(Intent(tuple(instructions), tuple(signers)))
        if signed is not None:
            tx.add_movement(_pending(movement, signed.signature, signed.raw, signed.last_valid_block_height))

    async def seen(self, payment_id: str, moves: Sequence[Movement]) -> int:
        """The slot of a payment's latest transaction: who has not seen it says nothing about the payment. 0: any will.

        Args:
            moves: its movements, oldest first.

        Raises:
            CyxError: UNAVAILABLE when the cluster does not know a transaction that has landed lately.
        """
        if (known := self._slots.get(payment_id)) is not None:
            return known
        last = next((each for each in reversed(moves) if each.state == CONFIRMED), None)
        if last is None or self._clock.now() - (last.confirmed_at or last.at) > FARTHEST_BEHIND:
            return 0
        status = (await self._rpc.statuses([Signature.from_string(last.reference)])).found[0]
        if status is None:
            raise CyxError(Code.UNAVAILABLE, f"the cluster does not show transaction {last.reference} yet")
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
            made = _pending(movement, signature, raw, last_height)
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

    async def _close(self, movement: Movement, error: str | None) -> Movement:
        done = replace(
            movement,
            state=CONFIRMED if error is None else FAILED,
            error=(error or "")[:500],
            confirmed_at=self._clock.now() if error is None else None,
            raw=b"",
        )
        await self._store.write(lambda tx: tx.save_movement(done))
        return done


def _pending(movement: Movement, signature: Signature, raw: bytes, last_height: int) -> Movement:
    return replace(movement, reference=str(signature), state=PENDING, raw=raw, last_height=last_height)


async def _never(signature: Signature, raw: bytes, last_height: int) -> None:
    raise AssertionError("what is only finished is not signed anew")
