"""What an escrow and its recorded transactions say, purely."""

from __future__ import annotations

from collections.abc import Sequence

from cyxwiz.domain.payment import Done, Movement, Payment
from cyxwiz.ledger.instructions.escrow import Escrow, Flag
from cyxwiz.ledger.sending import CONFIRMED, newest


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
