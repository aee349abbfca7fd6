"""What must hold once nothing is due any more. The chain is asked, or the books; the rows have to agree with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from solders.pubkey import Pubkey
from solders.signature import Signature

from cyxwiz.domain.payment import Movement, Payment, fee_of
from cyxwiz.domain.states import PaymentState
from cyxwiz.ledger.instructions.escrow import state_address, vault_address
from cyxwiz.ledger.instructions.values import token_account
from cyxwiz.ledger.localnet.chain import Chain
from cyxwiz.ledger.localnet.vm import Tokens
from cyxwiz.ledger.programs import Program, local_id
from cyxwiz.store.memory import MemoryStore
from tests.settlement.story import Broken, Story

ESCROW = local_id(Program.ESCROW)
ENDS = ("settle", "refund")


class Truth(Protocol):
    """A ledger without any fault between."""

    async def units(self, account: str) -> int: ...

    def locked(self, payment: Payment) -> bool:
        """Whether it holds it."""
        ...

    def left(self, payment: Payment) -> int:
        """Units that it still holds of it."""
        ...

    def landed(self, payment: Payment) -> set[str] | None:
        """References of all that has happened to it; None where rows are all there is."""
        ...


class ChainTruth:
    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    async def units(self, account: str) -> int:
        return self._tokens(token_account(Pubkey.from_string(account), self._chain.genesis.mint))

    def _tokens(self, address: Pubkey) -> int:
        found = Tokens.of(self._chain.account(address))
        return found.amount if found else 0

    def _state(self, payment: Payment) -> Pubkey:
        import uuid

        return state_address(ESCROW, Pubkey.from_string(payment.client), uuid.UUID(payment.id).bytes)

    def locked(self, payment: Payment) -> bool:
        return self._chain.account(self._state(payment)) is not None

    def left(self, payment: Payment) -> int:
        state = self._state(payment)
        if self._chain.account(state) is not None:
            return max(1, self._tokens(vault_address(ESCROW, state)))
        return self._tokens(vault_address(ESCROW, state))

    def landed(self, payment: Payment) -> set[str] | None:
        found = self._chain.history.of_address(self._state(payment), 10_000, None, None)
        return {str(signature) for signature, details in found if details.outcome.error is None}

    def status(self, reference: str) -> str:
        """ "landed", "failed" there, or "unknown"."""
        found = self._chain.history.status(Signature.from_string(reference))
        if found is None:
            return "unknown"
        return "landed" if found.error is None else "failed"


class BookTruth:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def units(self, account: str) -> int:
        return await self._store.read(lambda tx: tx.account_units(account))

    def _units(self, account: str) -> int:
        return self._store._run(lambda tx: tx.account_units(account), writing=False)[0]

    def locked(self, payment: Payment) -> bool:
        """Whether it was: all of it may be paid out already, before the row says so."""
        moves = self._store._run(lambda tx: tx.movements_of(payment.id), writing=False)[0]
        return any(each.kind == "lock" for each in moves)

    def left(self, payment: Payment) -> int:
        return self._units(f"escrow:{payment.id}")

    def landed(self, payment: Payment) -> set[str] | None:
        return None


def check_payment(payment: Payment, moves: Sequence[Movement], truth: ChainTruth | BookTruth) -> None:
    """Its row, its movements and the ledger say the same."""
    name = f"payment {payment.id} ({payment.state}, number {payment.number} of {payment.amount_units})"
    paid, back = payment.paid_units, payment.refunded_units
    match payment.state:
        case PaymentState.COMPLETED:
            fine = paid > 0 and paid + back == payment.amount_units
        case PaymentState.REFUNDED:
            fine = paid == 0 and back == payment.amount_units
        case PaymentState.FAILED:
            fine = paid == 0 and back == 0
        case _:
            raise Broken(f"{name} never ended: {payment.error}")
    if not fine:
        raise Broken(f"{name}: {paid} paid and {back} given back")
    if left := truth.left(payment):
        raise Broken(f"{name}: the ledger still holds {left} of it")
    confirmed = [each for each in moves if each.state == "confirmed"]
    if pending := [each.reference for each in moves if each.state == "pending"]:
        raise Broken(f"{name}: {pending} are in doubt for ever")
    kinds = Counter(each.kind for each in confirmed)
    never = payment.state is PaymentState.FAILED
    ends = sum(kinds[each] for each in ENDS)
    # In the books nothing is left to be moved at the end of what was paid out whole.
    silent = isinstance(truth, BookTruth) and paid == payment.amount_units and not ends
    if kinds["lock"] != (not never) or (ends != (not never) and not silent):
        raise Broken(f"{name}: movements {dict(kinds)}")
    units = sum(each.units for each in confirmed if each.kind in ("pay", "settle"))
    fees = sum(each.fee_units for each in confirmed)
    if (isinstance(truth, ChainTruth) and units != paid) or fees != fee_of(paid, payment.fee_bps):
        raise Broken(f"{name}: {paid} paid, and by its movements {units} with {fees} of fees")
    if isinstance(truth, ChainTruth):
        _check_references(name, moves, payment, truth)


def _check_references(name: str, moves: Sequence[Movement], payment: Payment, truth: ChainTruth) -> None:
    for each in moves:
        status = truth.status(each.reference)
        if (status == "landed") != (each.state == "confirmed"):
            raise Broken(f"{name}: the row of its {each.kind} says {each.state}, the chain {status}")
    landed = truth.landed(payment)
    known = {each.reference for each in moves if each.state == "confirmed" and each.kind in STEPS}
    if landed != known:
        raise Broken(f"{name}: on the chain {landed}, in the rows {known}")


STEPS = ("lock", "assign", "pay", "settle", "refund")


def owed(story: Story, payments: Sequence[Payment]) -> Counter[str]:
    """What each node's account has to have in the end, by the story alone; `Broken` where the totals differ."""
    found: Counter[str] = Counter()
    if story.loose:
        _check_loosely(story, payments)
    for payment in payments:
        marks = list(story.marks.get(payment.id, ()))
        total = marks[-1][1] if marks else 0
        if story.loose:
            if not payment.paid_units:
                continue
            marks = [*marks, (payment.node, payment.paid_units)]
        elif payment.paid_units != total:
            raise Broken(f"payment {payment.id} has paid {payment.paid_units} where its job earned {total}")
        before = 0
        for account, earned in marks:
            share = earned - fee_of(earned, payment.fee_bps) - (before - fee_of(before, payment.fee_bps))
            found[account] += share
            before = earned
    return found


def _check_loosely(story: Story, payments: Sequence[Payment]) -> None:
    """A top-up that was on its way when the job was completed may have come in time, or not."""
    assert story.cost is not None
    sure = sum(story.shared.values())
    paid = sum(each.paid_units for each in payments)
    late = sum(each.amount_units for each in payments if each.id not in story.shared)
    if not sure <= paid <= max(sure, min(story.cost, sure + late)):
        raise Broken(f"{paid} paid for a cost of {story.cost}, of which {sure} were locked in time")
