"""The moves of money that reservations need, for a ledger to make.

Every move has an idempotency key: made again with the same key it answers as before and moves nothing. What a move
answers is what happened on the ledger: an account or a transaction that does not exist is named by nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cyxwiz.domain.reservation import Reservation


@dataclass(frozen=True, slots=True)
class Hold:
    """Where an amount is locked, and by which transaction; empty where no ledger locks anything."""

    account: str = ""
    tx_hash: str = ""


@dataclass(frozen=True, slots=True)
class Moved:
    """The transactions that paid the node and gave the rest back; empty for what moved nothing."""

    payment_tx_hash: str = ""
    refund_tx_hash: str = ""


class ReservationFunds(Protocol):
    """What a ledger does for reservations. Refusals are CyxError: FUNDS where the owner lacks the amount."""

    @property
    def charges(self) -> bool:
        """Whether money moves at all."""
        ...

    async def reserve(self, reservation: Reservation, key: str) -> Hold:
        """Locks `reservation.escrow_units` of the owner's."""
        ...

    async def extend(self, reservation: Reservation, units: int, key: str) -> Hold:
        """Locks so many units more."""
        ...

    async def settle(self, reservation: Reservation, key: str) -> Moved:
        """Pays out `reservation.settlement` (the node's share, the fee) and gives back all else that is locked for the
        reservation, whatever that is: nothing at all is locked where `reserve` came to nothing."""
        ...


class NoFunds:
    """`ReservationFunds` without a ledger: prices are shown, nothing is charged."""

    charges = False

    async def reserve(self, reservation: Reservation, key: str) -> Hold:
        return Hold()

    async def extend(self, reservation: Reservation, units: int, key: str) -> Hold:
        return Hold()

    async def settle(self, reservation: Reservation, key: str) -> Moved:
        return Moved()
