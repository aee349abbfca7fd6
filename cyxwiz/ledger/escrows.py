"""What an escrow and its recorded transactions say, and when it is."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence

from solders.pubkey import Pubkey

from cyxwiz.domain.payment import Done, Movement, Payment
from cyxwiz.ledger.instructions.escrow import Escrow, Flag
from cyxwiz.ledger.rpc import Rpc
from cyxwiz.ledger.sending import CONFIRMED, newest
from cyxwiz.ports.clock import Clock

CLOCK = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")


async def chain_time(rpc: Rpc, clock: Clock) -> int:
    """Unix seconds of the cluster's clock; the program reads the same. This machine's where there is none."""
    account = await rpc.account(CLOCK)
    if account is None:
        return int(clock.now().timestamp())
    return int.from_bytes(bytes(account.data)[32:40], "little", signed=True)


def job_bytes(payment: Payment) -> bytes:
    """The 16 bytes that name the escrow beside its client."""
    return uuid.UUID(payment.id).bytes


def evidence(payment: Payment) -> bytes:
    """What the platform attests by: a digest of the job, the lease's number and how far it was."""
    return hashlib.sha256(f"{payment.job_id}:{payment.attempt}:{payment.progress!r}".encode()).digest()


def allowance(held: Escrow, now: int) -> int:
    """What a stream may earn at once at a Unix second: as the program computes it."""
    if Flag.STOPPED in held.flags:
        return 0
    span = min(max(0, min(now, held.deadline) - held.accrued_at), held.interval)
    return min(held.cap * span // held.interval, held.amount - held.accrued)


def how_it_ended(payment: Payment, moves: Sequence[Movement]) -> Done | None:
    """How an escrow ended that is gone, by what was recorded before it was sent; None if it never was there."""
    if not newest(moves, "lock"):
        return None
    landed = [move for move in moves if move.state == CONFIRMED]
    total = sum(move.units for move in landed if move.kind in ("pay", "settle", "refund"))
    last = next((move.reference for move in reversed(landed) if move.kind in ("settle", "refund")), "")
    return Done(last, paid_units=total, refunded_units=payment.amount_units - total)
