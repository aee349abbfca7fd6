"""The money of a job, purely: what it costs, how it is shared, and what has to happen next on a ledger.

A payment is a promise of its job's owner, locked on a ledger in full before the job may start. What a ledger has done
(`paid_units`, `node`) follows what the job calls for (`earned_units`, the node that has it, whether it ended):
`look` names the one step between them. Nothing else decides about money, so a crash at any point is mended by
looking again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from cyxwiz.domain.errors import conflict
from cyxwiz.domain.ids import JobId, NodeId, UserId
from cyxwiz.domain.money import MAX_UNITS, format_cyxwiz
from cyxwiz.domain.states import OPEN_PAYMENT_STATES, PAYMENT, PaymentState, PaymentTrigger, advance

BASIS_POINTS = 10_000
RATE_INTERVALS = 10  # a silence of so many intervals is still made up for: epochs may be long
CLOSING = timedelta(hours=1)  # before its deadline a payment is ended, as its client could take it back after that
CAP_MARGIN = 2  # a stream may earn so many times its rate: chain clocks count whole seconds, and machines stall


@dataclass(frozen=True, slots=True)
class Tariff:
    """base_rate is in units a second."""

    base_rate: int
    gpu_multiplier: float
    ram_factor_per_gb: float

    def units_per_second(self, *, gpu: bool, ram_bytes: int) -> float:
        """base_rate · gpu_multiplier · (1 + ram_gb · ram_factor); the multiplier counts only with a GPU."""
        ram_gb = ram_bytes / 2**30
        return self.base_rate * (self.gpu_multiplier if gpu else 1.0) * (1 + ram_gb * self.ram_factor_per_gb)

    def cost_units(self, seconds: float, *, gpu: bool, ram_bytes: int) -> int:
        """At most `MAX_UNITS`, which is what an amount can hold."""
        cost = self.units_per_second(gpu=gpu, ram_bytes=ram_bytes) * seconds
        return round(cost) if cost < MAX_UNITS else MAX_UNITS


def fee_of(total_units: int, fee_bps: int) -> int:
    """The platform's part of what was paid out in all: floor(total · bps / 10000), as the escrow program has it. 999 at
    10 % is 99, and 900 for the node. Computed on totals, so that the way a payout is cut changes nothing."""
    return total_units * fee_bps // BASIS_POINTS


class Funding(StrEnum):
    """Who locks the money."""

    PREPAID = "prepaid"  # the platform, out of the balance that it keeps for the owner
    SIGNED = "signed"  # the owner, by a transaction signed with a key of its own


@dataclass(frozen=True, slots=True)
class Funds:
    """How a job's client locks its money itself: by one of two.

    Args:
        quote: a quote's id.
        transaction: what the quote offers, signed, in base64.
        reference: of the transaction that the client sent itself.
    """

    quote: str
    transaction: str = ""
    reference: str = ""


class Step(StrEnum):
    """What a ledger is asked to do with one payment. Each can be asked again without harm."""

    LOCK = "lock"
    ASSIGN = "assign"  # the node that will be paid
    PAY = "pay"  # what was earned so far
    SETTLE = "settle"  # what was earned, and the rest back: the end
    REFUND = "refund"  # all of it back: the end


@dataclass(frozen=True, slots=True)
class Payment:
    """One lock of money for one job; a gang has one for each member, a top-up is one more.

    Args:
        id: a UUID's text; the first one has its job's. On a chain its 16 bytes name the escrow.
        member: rank in the gang whose node it pays.
        number: 0, or counted up by top-ups.
        client, node: accounts on the ledger; no node yet is "".
        rate: units a second while the job makes progress.
        most_rate: the same at a node that has set prices, where it is more: what is locked by the time that it is for.
        interval_seconds: a stream pays out at most so often; 0 pays only at the end.
        milestone_at: until when progress is paid for.
        progress: the job's, at that time; counted with `attempt`, as a job that moved may start lower.
        job_version: of the job, when it was last looked at.
        due_at: when it is looked at next, whatever the job does; None: when the job changes.
    """

    id: str
    job_id: JobId
    owner_id: UserId
    amount_units: int
    fee_bps: int
    client: str
    rate: float
    interval_seconds: int
    created_at: datetime
    deadline: datetime
    funding: Funding = Funding.PREPAID
    member: int = 0
    number: int = 0
    most_rate: float = 0.0
    state: PaymentState = PaymentState.PENDING
    node: str = ""
    node_id: NodeId | None = None
    earned_units: int = 0
    paid_units: int = 0  # fees included
    refunded_units: int = 0
    milestone_at: datetime | None = None
    progress: float = 0.0
    attempt: int = 0
    locked_at: datetime | None = None
    ended_at: datetime | None = None
    job_version: int = -1
    due_at: datetime | None = None
    attempts: int = 0  # of the step that is due, so far in vain
    error: str = ""
    version: int = 0

    @property
    def open(self) -> bool:
        return self.state in OPEN_PAYMENT_STATES

    def rate_at(self, *, priced: bool) -> float:
        """Units a second that progress may earn, by whether the node has set prices."""
        return max(self.rate, self.most_rate) if priced else self.rate

    @property
    def streams(self) -> bool:
        return self.interval_seconds > 0

    @property
    def cap_units(self) -> int:
        """The most that a stream may earn in `cap_seconds`. Out of a prepaid balance that is all of it: the platform
        signs for that one's client too, so that a cap would bind nobody, and only keep a node waiting."""
        if self.funding is Funding.PREPAID:
            return self.amount_units
        return max(1, min(self.amount_units, round(self.rate_at(priced=True) * self.rate_seconds * CAP_MARGIN)))

    @property
    def cap_seconds(self) -> int:
        """In which a stream may earn the cap. Out of a prepaid balance that is no time, for the cap's own reason."""
        return 1 if self.funding is Funding.PREPAID else self.rate_seconds

    @property
    def rate_seconds(self) -> int:
        """Seconds that one milestone may be paid for: at most a day, and no more than would earn all of it."""
        enough = math.ceil(min(86_400, self.amount_units / max(self.rate_at(priced=True) * CAP_MARGIN, 1e-9)))
        return max(1, min(enough, self.interval_seconds * RATE_INTERVALS))

    @property
    def fee_units(self) -> int:
        return fee_of(self.paid_units, self.fee_bps)

    @property
    def done(self) -> tuple[object, ...]:
        """What the ledger has done of it, as far as that is known here."""
        return self.state, self.node, self.node_id, self.paid_units, self.refunded_units

    @property
    def reward_units(self) -> int:
        """What the node has of it."""
        return self.paid_units - self.fee_units

    def move(self, trigger: PaymentTrigger, **changes: object) -> Payment:
        state = advance(PAYMENT, self.state, trigger, subject=f"Payment {self.id}")
        return replace(self, state=state, **changes)  # type: ignore[arg-type]


def paid_of(payments: Sequence[Payment]) -> int | None:
    """Units that a job's payments have paid in all, fees included, once all of them have ended; None before, and
    without any."""
    if not payments or any(each.open for each in payments):
        return None
    return sum(each.paid_units for each in payments)


@dataclass(frozen=True, slots=True)
class Work:
    """What the job says about its money.

    Args:
        node, node_id: who has it now, or brought it to its end; "" and None for nobody.
        cost_units: the whole cost, of this payment's member, once it is completed; None before and otherwise.
        progress, attempt: how far it is, and by which lease.
        most_units: what the work so far costs at the prices of a node that has set some; None of any other.
    """

    node: str
    node_id: NodeId | None
    ended: bool
    cost_units: int | None
    progress: float
    attempt: int
    running: bool
    most_units: int | None = None

    @property
    def priced(self) -> bool:
        return self.most_units is not None


def earn(payment: Payment, work: Work, now: datetime) -> Payment:
    """The payment with what the job's accepted progress has earned: `rate_at` for each second since the last milestone,
    no more than `rate_seconds`, if there was progress since, and no more than its node asks. A completed job has earned
    its cost."""
    if work.cost_units is not None:
        total = max(payment.earned_units, min(work.cost_units, payment.amount_units))
        return replace(payment, earned_units=total, progress=work.progress)
    if not payment.streams or not work.running:
        return payment
    if work.attempt != payment.attempt or payment.milestone_at is None:
        return replace(payment, attempt=work.attempt, progress=work.progress, milestone_at=now)
    seconds = (now - payment.milestone_at).total_seconds()
    if seconds < payment.interval_seconds or work.progress <= payment.progress:
        return payment
    units = round(payment.rate_at(priced=work.priced) * min(seconds, payment.rate_seconds))
    total = min(payment.earned_units + units, payment.amount_units)
    if work.most_units is not None:
        total = max(payment.earned_units, min(total, work.most_units))
    return replace(payment, earned_units=total, progress=work.progress, milestone_at=now)


def look(payment: Payment, work: Work, now: datetime) -> tuple[Payment, Step | None]:
    """The payment with what was earned by now, and the one thing that a ledger has to do next, if any.

    A node is assigned before anything is earned for it, and what another one earned before is paid to that one first.
    """
    if not payment.open:
        return payment, None
    if payment.state is PaymentState.PENDING:
        return payment, Step.REFUND if work.ended else Step.LOCK
    if work.node and work.node != payment.node and (work.cost_units or not work.ended):
        owed = payment.node and payment.earned_units > payment.paid_units
        return payment, Step.PAY if owed else Step.ASSIGN
    payment = earn(payment, work, now)
    if work.ended:
        return payment, Step.SETTLE if payment.earned_units and payment.node else Step.REFUND
    return payment, Step.PAY if payment.earned_units > payment.paid_units and payment.node else None


@dataclass(frozen=True, slots=True)
class Movement:
    """A transaction on a ledger: written before it is sent, confirmed or failed afterwards.

    Args:
        reference: a chain's signature, or the key of the entry in the platform's own books; unique within a payment, as
            several may share a transaction.
        kind: a `Step` or a `StakeKind`, or account, grant, withdraw, fund.
        units, back_units: that went to the destination, fees included; that a payment's end gave back to its client.
        raw, last_height: of a chain's transaction, to send it again; until which block height it may land.
    """

    reference: str
    kind: str
    units: int
    source: str
    destination: str
    at: datetime
    payment_id: str = ""
    job_id: str = ""
    owner_id: str = ""
    node_id: str = ""
    fee_units: int = 0
    back_units: int = 0
    state: str = "confirmed"  # pending, confirmed, failed
    confirmed_at: datetime | None = None
    error: str = ""
    raw: bytes = b""
    last_height: int = 0


def once_only(done: Movement, asked: Movement) -> str:
    """The reference of what was done under a key before. Raises CONFLICT when something else is asked for by it."""
    if (done.kind, done.units, done.destination) != (asked.kind, asked.units, asked.destination):
        said = f"{format_cyxwiz(done.units)} CYXWIZ to {done.destination}"
        raise conflict(f"This idempotency key was used for something else ({said}); take a new one")
    return done.reference


@dataclass(frozen=True, slots=True)
class Done:
    """What a ledger did.

    Args:
        reference: the transaction, as people can look it up; "" when there was nothing to do.
        paid_units: paid out in all, fees included; it may be less than what was earned, never more.
        more: a part of a settlement: the rest comes as the stream's rate allows it.
        over: it was ended on the ledger, which holds nothing of it any more; `stopped`: because its client wanted that.
        ended: movements as they are now, to be stored with the step.
    """

    reference: str
    paid_units: int = 0
    refunded_units: int = 0
    locked: bool = True
    more: bool = False
    stopped: bool = False
    over: bool = False
    ended: tuple[Movement, ...] = ()


def after(payment: Payment, step: Step, work: Work, done: Done, now: datetime) -> Payment:
    """The payment once a ledger has done a step of it."""
    changes: dict[str, Any] = {"attempts": 0, "error": "", "due_at": None}
    if done.over:
        step, changes["earned_units"] = Step.SETTLE, done.paid_units
    match step:
        case Step.LOCK:
            return payment.move(PaymentTrigger.LOCK, locked_at=now, **changes)
        case Step.ASSIGN:
            return replace(payment, node=work.node, node_id=work.node_id, **changes)
        case Step.PAY:
            earned = max(payment.earned_units, done.paid_units)  # what a stream's cap held back is still owed
            return payment.move(PaymentTrigger.PAY, paid_units=done.paid_units, earned_units=earned, **changes)
        case Step.SETTLE | Step.REFUND:
            changes["ended_at"] = now
            if not done.locked:
                return payment.move(PaymentTrigger.FAIL, **changes)
            trigger = PaymentTrigger.SETTLE if done.paid_units else PaymentTrigger.REFUND
            if payment.state is PaymentState.PENDING:
                payment = payment.move(PaymentTrigger.LOCK, locked_at=now)
            changes |= {"paid_units": done.paid_units, "refunded_units": done.refunded_units}
            return payment.move(trigger, **changes)
