"""Where money is held and moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cyxwiz.domain.ids import UserId
from cyxwiz.domain.node import Node
from cyxwiz.domain.payment import Done, Movement, Payment, Step, Work
from cyxwiz.ports.stakes import Stakes
from cyxwiz.ports.store import Tx


@dataclass(frozen=True, slots=True)
class Held:
    """What a ledger says about a payment that it holds."""

    amount_units: int
    paid_units: int
    node: str


@dataclass(frozen=True, slots=True)
class LedgerInfo:
    """What people are told about it: names and addresses, nothing secret."""

    backend: str
    network: str = ""
    platform: str = ""
    token_mint: str = ""
    program_id: str = ""
    rpc_endpoint: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a client signs to lock a payment itself.

    Args:
        escrow: where the money will be and on what terms, for people and their tools.
        message: the bytes to sign; the platform's signature is added to the client's.
        last_height: the last block height at which the transaction can land.
    """

    escrow: Mapping[str, str | int]
    message: bytes
    last_height: int


class Ledger(Protocol):
    """A book of accounts that nobody can overdraw, with money set aside for jobs.

    Every step of a payment may be asked again, in any state that a crash can leave: what was done is not done twice,
    and the answer is the same. Units are never made or lost: what was locked is, in the end, paid out or given back.
    Raises, in every method: UNAVAILABLE when the ledger can't be reached (nothing is known then: ask again); FUNDS when
    an account has too little; CONFLICT when what is held is not what was agreed upon.
    """

    @property
    def info(self) -> LedgerInfo: ...

    @property
    def stakes(self) -> Stakes: ...

    def client_account(self, user_id: UserId) -> str:
        """The account out of which the platform pays for a user: the prepaid balance."""
        ...

    def node_account(self, node: Node) -> str:
        """Where a node is paid; "" when it has no account."""
        ...

    async def balance(self, account: str) -> int:
        """Units; 0 for an account that nobody has used."""
        ...

    async def lamports(self, account: str) -> int | None:
        """What is on an account to pay for transactions of a chain; None where the ledger is no chain."""
        ...

    def lock_within(self, tx: Tx, payment: Payment) -> Done | Sequence[Movement]:
        """LOCK inside a unit of the store, by a ledger whose book is that store; by any other, what it has recorded of
        it there, which may be nothing."""
        ...

    def known(self, tx: Tx, payments: Sequence[Payment]) -> Sequence[Sequence[Movement]]:
        """What `perform` goes by of what was recorded of each of some payments, oldest first."""
        ...

    async def perform(self, payment: Payment, step: Step, work: Work, known: Sequence[Movement] | None = None) -> Done:
        """Does one step, once. `work` names the node to assign.

        Args:
            known: as `known` gave it. The caller then stores `Done.ended` together with the step; else that is done
                here.
        """
        ...

    async def offer(self, payment: Payment) -> Offer:
        """What the client of a payment signs to lock it with a key of its own.

        Raises:
            CyxError: UNSUPPORTED where accounts have no keys.
        """
        ...

    async def signed(self, payment: Payment, transaction: bytes, offered: bytes, last_height: int) -> Movement:
        """The movement of an offer that came back signed, to be stored before LOCK is performed, which sends it.
        `offered` and `last_height` are the offer's.

        Raises:
            CyxError: INVALID for anything else than the offer with its client's signature; CONFLICT when it is late.
        """
        ...

    async def check_signed(self, payment: Payment, reference: str) -> None:
        """Raises INVALID unless that transaction has locked the payment, on its terms."""
        ...

    async def held(self, payment: Payment) -> Held | None:
        """What it holds of a payment now; None when nothing (not yet, or not any more)."""
        ...

    async def grant(self, account: str, units: int, key: str) -> str:
        """Gives new money to an account, once a key, where the platform may make some; returns the reference.

        Raises:
            CyxError: UNSUPPORTED where it may not.
        """
        ...

    async def withdraw(self, user_id: UserId, to: str, units: int, key: str) -> str:
        """Sends of a user's balance to an account of its choice, once a key; returns the reference.

        Raises:
            CyxError: UNSUPPORTED where accounts have no addresses outside; FUNDS.
        """
        ...

    async def mend(self) -> None:
        """Sees to the end of what was begun and nobody asks for any more, such as a withdrawal that a crash cut off."""
        ...

    async def aclose(self) -> None: ...
