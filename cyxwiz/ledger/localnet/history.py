"""What landed: the status of every transaction, and the details of the latest ones."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from cyxwiz.ledger.localnet.timeline import VALID_SLOTS
from cyxwiz.ledger.localnet.transactions import price_of, signature_of
from cyxwiz.ledger.localnet.vm import Outcome

MAX_PRICE = 2**64 - 1
KEPT_DETAILS = 20_000  # about 100 MB


@dataclass(frozen=True, slots=True)
class Status:
    """Where a transaction landed, and its error if it failed there."""

    slot: int
    error: Any


@dataclass(frozen=True, slots=True)
class Details:
    """A transaction that landed, with all that is known of it."""

    transaction: VersionedTransaction
    slot: int
    unix: int
    outcome: Outcome


class _Prices:
    """The least that was offered in a slot, by anybody and for each account that was written."""

    __slots__ = ("by_address", "least")

    def __init__(self) -> None:
        self.least = MAX_PRICE
        self.by_address: dict[Pubkey, int] = {}

    def add(self, price: int, written: Iterable[Pubkey]) -> None:
        self.least = min(self.least, price)
        for address in written:
            self.by_address[address] = min(price, self.by_address.get(address, price))


class History:
    """Statuses are kept for ever (a few hundred bytes each); details, and what is found by address, of the latest
    `kept` transactions.
    """

    def __init__(self, kept: int = KEPT_DETAILS) -> None:
        self._kept = kept
        self._statuses: dict[Signature, Status] = {}
        self._details: OrderedDict[Signature, Details] = OrderedDict()
        self._by_address: dict[Pubkey, deque[Signature]] = {}
        self._prices: OrderedDict[int, _Prices] = OrderedDict()  # by slot

    def __len__(self) -> int:
        return len(self._statuses)

    def add(self, transaction: VersionedTransaction, slot: int, unix: int, outcome: Outcome) -> None:
        signature = signature_of(transaction)
        self._statuses[signature] = Status(slot, outcome.error)
        self._details[signature] = Details(transaction, slot, unix, outcome)
        for address in set(outcome.keys.addresses):
            self._by_address.setdefault(address, deque()).append(signature)
        self._prices.setdefault(slot, _Prices()).add(price_of(transaction), outcome.keys.writable_addresses())
        while next(iter(self._prices)) + VALID_SLOTS < slot:
            self._prices.popitem(last=False)
        if len(self._details) > self._kept:
            self._forget()

    def _forget(self) -> None:
        signature, oldest = self._details.popitem(last=False)
        for address in set(oldest.outcome.keys.addresses):
            found = self._by_address[address]
            assert found[0] == signature, "signatures of an address are in the order in which they landed"
            found.popleft()
            if not found:
                del self._by_address[address]

    @property
    def first_slot(self) -> int:
        """From which on the details of all transactions are kept."""
        return next(iter(self._details.values())).slot + 1 if len(self._details) < len(self._statuses) else 0

    def status(self, signature: Signature) -> Status | None:
        return self._statuses.get(signature)

    def details(self, signature: Signature) -> Details | None:
        return self._details.get(signature)

    def latest(self) -> list[Details]:
        """Those that are kept, the oldest first."""
        return list(self._details.values())

    def of_address(
        self, address: Pubkey, limit: int, before: Signature | None, until: Signature | None
    ) -> list[tuple[Signature, Details]]:
        """Newest first: those before `before` and after `until`, at most `limit`."""
        found: list[tuple[Signature, Details]] = []
        started = before is None
        for signature in reversed(self._by_address.get(address, ())):
            if signature == until or len(found) == limit:
                break
            if started:
                found.append((signature, self._details[signature]))
            started = started or signature == before
        return found

    def lowest_prices(self, addresses: Iterable[Pubkey], slot: int) -> list[tuple[int, int]]:
        """(slot, price) of the last slots with transactions: what was enough there to write all of `addresses`, which
        is the most of the least that each of them took, and at least the least of the slot.
        """
        wanted = list(addresses)
        return [
            (at, max([prices.least, *(prices.by_address.get(each, 0) for each in wanted)]))
            for at, prices in self._prices.items()
            if slot - VALID_SLOTS < at <= slot
        ]
