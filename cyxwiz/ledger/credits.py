"""The platform's own books: double entry in the store, for operators who want no chain.

Accounts: `user:<id>` (a user's balance, also what its nodes earned), `escrow:<payment>` (locked for a job), `platform`
(fees), those of `credit_stakes`, `grants` (what was given out: it is the one that may be below 0). All of them add up
to 0 at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from cyxwiz.domain.errors import Code, CyxError, conflict
from cyxwiz.domain.ids import UserId
from cyxwiz.domain.money import MAX_UNITS, check_amount
from cyxwiz.domain.node import Node
from cyxwiz.domain.payment import Done, Movement, Payment, Step, Work, fee_of
from cyxwiz.domain.stake import StakeRules
from cyxwiz.ledger.credit_stakes import CreditStakes, enter_once
from cyxwiz.ports.ledger import Held, LedgerInfo, Offer
from cyxwiz.ports.store import MovementQuery, Store, Tx

log = logging.getLogger(__name__)
PLATFORM = "platform"
GRANTS = "grants"
STAKE_RULES = StakeRules()
_MAY_OVERDRAW = frozenset({GRANTS})


class CreditsLedger:
    """See `ports.ledger.Ledger`. A step and its record are one unit of the store.

    Args:
        welcome_units: what each user's account starts with; given when it is first used.
        stakes: the rules of stakes.
    """

    def __init__(self, store: Store, *, welcome_units: int, stakes: StakeRules = STAKE_RULES) -> None:
        self._store = store
        self._welcome = welcome_units
        self.stakes = CreditStakes(store, stakes, self._greet)

    @property
    def info(self) -> LedgerInfo:
        return LedgerInfo("credits", platform=PLATFORM)

    def client_account(self, user_id: UserId) -> str:
        return f"user:{user_id}"

    def node_account(self, node: Node) -> str:
        return f"user:{node.owner_id}"

    async def balance(self, account: str) -> int:
        def unit(tx: Tx) -> int:
            self._greet(tx, account)
            return tx.account_units(account)

        return await self._store.write(unit)

    async def lamports(self, account: str) -> int | None:
        return None

    def lock_within(self, tx: Tx, payment: Payment) -> Done:
        self._greet(tx, payment.client)
        reference = _lock_of(payment)
        lines = {payment.client: -payment.amount_units, _escrow(payment): payment.amount_units}
        self._move(tx, reference, payment, Step.LOCK, lines, payment.amount_units, _escrow(payment))
        return Done(reference)

    def known(self, tx: Tx, payments: Sequence[Payment]) -> Sequence[Sequence[Movement]]:
        return [()] * len(payments)

    async def perform(self, payment: Payment, step: Step, work: Work, known: Sequence[Movement] | None = None) -> Done:
        return await self._store.write(lambda tx: self._perform(tx, payment, step))

    def _perform(self, tx: Tx, payment: Payment, step: Step) -> Done:
        if step is Step.LOCK:
            return self.lock_within(tx, payment)
        held = _escrow(payment)
        if step is Step.ASSIGN:
            return Done("")
        # First of all, as that locks it: whoever was faster has ended it or has not, once this is known.
        paid = payment.amount_units - tx.account_units(held)
        ended = _ending(tx, payment)
        if ended is not None:
            return ended
        if paid == payment.amount_units and not _locked(tx, payment):
            return Done("", locked=False)
        total = payment.earned_units if step is Step.SETTLE or step is Step.PAY else paid
        total = max(paid, min(total, payment.amount_units))
        fee = fee_of(total, payment.fee_bps) - fee_of(paid, payment.fee_bps)
        lines = {held: paid - total, PLATFORM: fee}
        if total > paid and not payment.node:
            raise conflict(f"Payment {payment.id} has no node that could be paid")
        if payment.node:
            _add(lines, payment.node, total - paid - fee)
        back = payment.amount_units - total if step is not Step.PAY else 0
        if back:
            _add(lines, held, -back)
            _add(lines, payment.client, back)
        reference = f"credits:{payment.id}:{step}:{total}"
        if total > paid or back:
            self._move(tx, reference, payment, step, lines, total - paid, payment.node or payment.client, fee, back)
        return Done(reference, paid_units=total, refunded_units=back)

    async def offer(self, payment: Payment) -> Offer:
        raise _no_keys()

    async def signed(self, payment: Payment, transaction: bytes, offered: bytes, last_height: int) -> Movement:
        raise _no_keys()

    async def check_signed(self, payment: Payment, reference: str) -> None:
        raise _no_keys()

    async def withdraw(self, user_id: UserId, to: str, units: int, key: str) -> str:
        raise CyxError(Code.UNSUPPORTED, "These are central's own books: nothing leaves them for a wallet")

    async def mend(self) -> None:
        """Nothing is ever begun: a step and its record are one unit."""

    async def held(self, payment: Payment) -> Held | None:
        def unit(tx: Tx) -> Held | None:
            if not _locked(tx, payment) or _ending(tx, payment) is not None:
                return None
            left = tx.account_units(_escrow(payment))
            return Held(payment.amount_units, payment.amount_units - left, payment.node)

        return await self._store.read(unit)

    async def grant(self, account: str, units: int, key: str) -> str:
        check_amount(units)
        await self._store.write(lambda tx: _give(tx, account, units, f"credits:grant:{key}"))
        return f"credits:grant:{key}"

    async def aclose(self) -> None:
        return None

    def _greet(self, tx: Tx, account: str) -> None:
        reference = f"credits:welcome:{account}"
        if not self._welcome or not account.startswith("user:") or tx.movement(reference) is not None:
            return
        if tx.account_units(GRANTS) < self._welcome - MAX_UNITS:  # who goes without must not fail for it
            log.warning("account %s does not get its welcome: all that there can be was given out", account)
        else:
            _give(tx, account, self._welcome, reference)

    def _move(
        self,
        tx: Tx,
        reference: str,
        payment: Payment,
        step: Step,
        lines: Mapping[str, int],
        units: int,
        destination: str,
        fee: int = 0,
        back: int = 0,
    ) -> None:
        if not tx.post(reference, {account: delta for account, delta in lines.items() if delta}, _MAY_OVERDRAW):
            return
        tx.add_movement(
            Movement(
                reference,
                step.value,
                units,
                payment.client if step is Step.LOCK else _escrow(payment),
                destination if units else payment.client,
                tx.now,
                payment_id=payment.id,
                job_id=payment.job_id,
                owner_id=payment.owner_id,
                node_id=payment.node_id or "",
                fee_units=fee,
                back_units=back,
                confirmed_at=tx.now,
            )
        )


def _escrow(payment: Payment) -> str:
    return f"escrow:{payment.id}"


def _give(tx: Tx, account: str, units: int, reference: str) -> None:
    enter_once(tx, Movement(reference, "grant", units, GRANTS, account, tx.now, confirmed_at=tx.now), _MAY_OVERDRAW)


def _no_keys() -> CyxError:
    return CyxError(
        Code.UNSUPPORTED, "Accounts here have no keys, so nobody signs: submit it without a wallet, your balance pays"
    )


def _add(lines: dict[str, int], account: str, units: int) -> None:
    lines[account] = lines.get(account, 0) + units


def _locked(tx: Tx, payment: Payment) -> bool:
    return tx.movement(_lock_of(payment)) is not None


def _lock_of(payment: Payment) -> str:
    return f"credits:{payment.id}:lock"


def _ending(tx: Tx, payment: Payment) -> Done | None:
    """How it ended, if it has."""
    kinds = frozenset({"settle", "refund"})
    found = tx.movements(MovementQuery(payment_id=payment.id, kinds=kinds, limit=1)).items
    if not found:
        return None
    total = int(found[0].reference.rpartition(":")[2])
    return Done(found[0].reference, paid_units=total, refunded_units=payment.amount_units - total)
