"""Products that break one promise each. What is here proves that the histories can tell."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cyxwiz.domain.job import Job
from cyxwiz.domain.payment import Done, Payment, Step, fee_of
from cyxwiz.ledger import sender as sending_one
from cyxwiz.ledger.credits import CreditsLedger
from cyxwiz.ledger.escrows import allowance
from cyxwiz.ledger.sender import Action, Broadcast, Sender, SendPolicy, SignAnew, Signed, View, Wait
from cyxwiz.ledger.sending import Send
from cyxwiz.ledger.solana import SolanaLedger
from cyxwiz.ports.store import Tx
from cyxwiz.services import leases
from cyxwiz.services import settlement as money
from cyxwiz.services.payments import Payments
from tests.integration.localnet.faulty import Faults

Mutate = Callable[[pytest.MonkeyPatch], None]


def sent_before_it_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Sender._sign

    async def sign(self: Sender, *given: Any) -> Any:
        new = await original(self, *given)
        if isinstance(new, Signed):
            await self._broadcast(new)
        return new

    monkeypatch.setattr(Sender, "_sign", sign)


def doubts_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent before a crash is not looked up."""

    async def clear(self: Send, record: Any) -> None:
        return None

    monkeypatch.setattr(Send, "clear", clear)


def one_of_those_that_share_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others of a transaction have no record of it."""
    original = Send._record_all

    async def record_all(self: Send, made: Any) -> Any:
        return await original(self, [group[:1] for group in made])

    monkeypatch.setattr(Send, "_record_all", record_all)


def signed_anew_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second signing while the first can still land."""
    original = sending_one.decide

    def decide(signed: Any, view: View, policy: SendPolicy) -> Action:
        action = original(signed, view, policy)
        unseen = view.statuses is not None and not any(view.statuses.found)
        late = view.sent_at is not None and view.now - view.sent_at >= 2
        return SignAnew() if isinstance(action, (Wait, Broadcast)) and unseen and late and len(signed) < 5 else action

    monkeypatch.setattr(sending_one, "decide", decide)


def any_node_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An escrow is read from a node that has not seen what was done to it."""

    async def seen(self: Send, payment_id: str, moves: Any) -> int:
        return 0

    monkeypatch.setattr(Send, "seen", seen)


def what_the_rate_holds_back_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async def attestable(self: SolanaLedger, payment: Payment, held: Any, owed: int) -> tuple[int, bool]:
        return min(owed, held.accrued + allowance(held, await self._chain_time())), True

    monkeypatch.setattr(SolanaLedger, "_attestable", attestable)


def a_step_that_was_cut_off_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row of a payment in hand has no time at which it is looked at again."""
    original = Payments._look_at

    def look(self: Payments, tx: Tx, payment: Payment, **given: Any) -> Any:
        found = original(self, tx, payment, **given)
        return found and replace(found, payment=tx.save_payment(replace(found.payment, due_at=None)))

    monkeypatch.setattr(Payments, "_look_at", look)


def jobs_start_unpaid(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Payments.open

    def opened(self: Payments, tx: Tx, job: Job, units: int, rate: float) -> Job:
        original(self, tx, job, units, rate)
        return job

    monkeypatch.setattr(Payments, "open", opened)


def a_failed_job_pays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is left goes back, whatever was earned."""
    original = SolanaLedger._end

    async def end(self: SolanaLedger, payment: Payment, held: Any, step: Step, record: Any) -> Any:
        return await original(self, payment, held, Step.REFUND if payment.paid_units else step, record)

    monkeypatch.setattr(SolanaLedger, "_end", end)


def the_new_node_has_what_the_old_one_earned(monkeypatch: pytest.MonkeyPatch) -> None:
    original = money.look

    def look(payment: Payment, work: Any, now: Any) -> Any:
        if payment.node and work.node and work.node != payment.node and not work.ended:
            return payment, Step.ASSIGN
        return original(payment, work, now)

    monkeypatch.setattr(money, "look", look)


def a_top_up_wakes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A paused job forgets why it was paused."""
    monkeypatch.setattr(leases, "PAUSING", money.OUT_OF_FUNDS)
    original = leases._paused

    def paused(tx: Tx, job: Job, by: str) -> Job:
        return original(tx, replace(job, reason=leases.PAUSING), by)

    monkeypatch.setattr(leases, "_paused", paused)


def deadlines_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that never changes has its money locked for ever."""
    original = Payments.due

    async def due(self: Payments, limit: int) -> Any:
        found, wait = await original(self, limit)

        def timely(tx: Tx) -> list[str]:
            each = [tx.payment(payment_id) for payment_id in found]
            return [
                payment.id
                for payment in each
                if payment is not None and (payment.due_at is not None or tx.now < payment.deadline - money.CLOSING)
            ]

        return await self._store.read(timely), wait

    monkeypatch.setattr(Payments, "due", due)


def entries_have_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the books a step that is repeated is done again."""
    original = CreditsLedger._perform

    def perform(self: CreditsLedger, tx: Tx, payment: Payment, step: Step) -> Any:
        if step is Step.PAY and payment.earned_units < payment.amount_units:
            more = payment.earned_units - payment.paid_units
            left = tx.account_units(f"escrow:{payment.id}")
            fee = fee_of(payment.earned_units, payment.fee_bps) - fee_of(payment.paid_units, payment.fee_bps)
            if 0 < more <= left:
                lines = {f"escrow:{payment.id}": -more, "platform": fee, payment.node: more - fee}
                tx.post(str(uuid.uuid4()), lines)
            return Done("", paid_units=payment.earned_units)
        return original(self, tx, payment, step)

    monkeypatch.setattr(CreditsLedger, "_perform", perform)


BEHIND = Faults(behind=0.6, longest_lag=400, slow=1.0)
MUTATIONS: list[tuple[str, Mutate, Faults | None]] = [
    ("localnet", sent_before_it_is_recorded, None),
    ("localnet", doubts_are_forgotten, None),
    ("localnet", one_of_those_that_share_is_recorded, None),
    ("localnet", signed_anew_too_early, None),
    ("localnet", any_node_is_believed, BEHIND),
    ("localnet", what_the_rate_holds_back_is_lost, None),
    ("localnet", a_step_that_was_cut_off_is_forgotten, None),
    ("localnet", jobs_start_unpaid, None),
    ("localnet", a_failed_job_pays_nothing, None),
    ("localnet", the_new_node_has_what_the_old_one_earned, None),
    ("credits", a_top_up_wakes_nobody, None),
    ("credits", deadlines_are_missed, None),
    ("credits", entries_have_no_key, None),
]
# From which seed on they are looked for, where the first to tell is far from 0: it saves time.
FIRST = {
    any_node_is_believed: 50,
    the_new_node_has_what_the_old_one_earned: 35,
    deadlines_are_missed: 84,
}
