"""Which book a database's money is in: there is one, from the first unit that moved on.

Payments, stakes and balances of one ledger mean nothing on another. A central that was started with another one by
mistake would close what is open by what is not there.
"""

from __future__ import annotations

from cyxwiz.domain.errors import CyxError, conflict
from cyxwiz.ports.store import MovementQuery, PaymentQuery, Store, Tx

GENESIS = "ledger genesis"  # the setting of the store that names the book: a chain by the hash of its genesis
CREDITS = "credits"
REFERENCES = "credits:"  # how those of its entries begin


async def book_of(store: Store) -> str | None:
    """`CREDITS`, a chain's genesis hash, or None for a database without money so far."""

    return await store.read(_known)


async def keep_to(store: Store, book: str, what: str) -> None:
    """Writes down whose money the database's is, or sees that it is this book's.

    Args:
        what: the ledger that the settings name, as an error's message begins.

    Raises:
        CyxError: CONFLICT when it is another's.
    """

    def unit(tx: Tx) -> str:
        if (known := _known(tx)) is not None:
            return known
        tx.drop_setting(GENESIS)
        return tx.put_setting(GENESIS, book)

    if await store.read(lambda tx: tx.setting(GENESIS)) == book:
        return
    known = await store.write(unit)
    if known != book:
        raise elsewhere(known, what)


def elsewhere(known: str, what: str) -> CyxError:
    """CONFLICT: the money is in the book `known`, which is not there."""
    there = "in central's own books (credits)" if known == CREDITS else f"on the chain with genesis {known}"
    return conflict(
        f"{what}, and the money of this central's database is {there}: bring that one back (ledger.backend, "
        "blockchain, the folder localnet of a backup), or start with a new database"
    )


def _known(tx: Tx) -> str | None:
    """None for a database that has neither moved nor promised anything. One of before this was written down is known
    to be in credits by its references."""
    latest = tx.movements(MovementQuery(limit=1)).items
    if not latest and not tx.payments(PaymentQuery(limit=1)).items:
        return None
    known = tx.setting(GENESIS)
    return CREDITS if known is None and latest and latest[0].reference.startswith(REFERENCES) else known
