"""What the histories of `tests.settlement` found, each by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from solders.account import Account
from solders.pubkey import Pubkey

from cyxwiz.bus.local import LocalBus
from cyxwiz.domain.account import Principal, Role
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import JobId, UserId, new_id
from cyxwiz.domain.job import Intent, Job, JobSpec, JobType, Phase, Resources
from cyxwiz.domain.node import Node
from cyxwiz.domain.payment import CLOSING, Done, Funding, Movement, Payment, Step, Work, after
from cyxwiz.domain.states import JobState, JobTrigger, PaymentState
from cyxwiz.domain.verification import Mode
from cyxwiz.ledger.credits import CreditsLedger
from cyxwiz.ledger.localnet.direct import DirectRpc
from cyxwiz.ledger.sending import Amounts, Record, Send
from cyxwiz.ports.store import MovementQuery
from cyxwiz.scheduler.loops.settler import BUSY_SECONDS, Settler
from cyxwiz.services import leases
from cyxwiz.services.payments import Payments, Terms
from cyxwiz.services.settlement import OUT_OF_FUNDS
from cyxwiz.store.memory import MemoryStore
from tests.contract.conftest import HandClock
from tests.contract.ledgers import Bench, opened
from tests.contract.make import node as make_node
from tests.contract.test_ledger import locked, payment, work
from tests.wiring import central

AMOUNT, RATE = 1000, 1.0
POLICY = leases.RetryPolicy(9, 9, timedelta(seconds=1), timedelta(seconds=1))


class House:
    """A store, its books, and one job with its money."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.store = MemoryStore(self.clock, LocalBus())
        self.ledger = CreditsLedger(self.store, welcome_units=100 * AMOUNT)
        self.payments = Payments(self.store, self.clock, self.ledger, Terms(1000, 60, 3))
        self.owner = UserId(new_id())
        self.node: Node = make_node()

    async def job(self, mode: Mode = Mode.NONE, seconds: float = 3600) -> Job:
        resources = Resources(max_duration_seconds=seconds)
        spec = JobSpec("job", JobType.TRAINING, "mock://digits", "{}", verify=mode, resources=resources)
        job = Job(JobId(new_id()), self.owner, spec, self.clock.now())

        def unit(tx: Any) -> None:
            tx.add_node(self.node)
            tx.add_job(self.payments.open(tx, job, AMOUNT, RATE))
            lease = leases.issue(tx, job, self.node.id)
            leases.accept(tx, tx.job(job.id), lease, "boot")

        await self.store.write(unit)
        return await self.now(job)

    async def now(self, job: Job) -> Job:
        found = await self.store.read(lambda tx: tx.job(job.id))
        assert found is not None
        return found

    async def settle(self) -> None:
        for _ in range(50):
            due, _ = await self.payments.due(10)
            if not due:
                return
            for each in due:
                while await self.payments.drive(each):
                    pass
        raise AssertionError("there is always something due")

    async def of(self, job: Job) -> Sequence[Payment]:
        return await self.store.read(lambda tx: tx.payments_of(job.id))

    async def complete(self, job: Job, cost: int) -> None:
        def unit(tx: Any) -> None:
            found = tx.job(job.id)
            tx.save_job(found.move(JobTrigger.COMPLETE, actual_cost_units=cost, completed_at=tx.now))

        await self.store.write(unit)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    made = House()
    yield made
    await made.store.aclose()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened("localnet", tmp_path) as found:
        yield found


async def test_a_job_that_was_paused_for_want_of_money_goes_on_with_a_top_up(house: House) -> None:
    job = await house.job()

    def unit(tx: Any) -> None:
        found = leases.pause(tx, tx.job(job.id), "the platform")
        found = tx.save_job(replace(found, reason=f"{OUT_OF_FUNDS}: add some"))
        leases.yielded(tx, found, tx.lease(job.id, job.token), POLICY, "asked to")

    await house.store.write(unit)
    paused = await house.now(job)
    assert paused.state is JobState.PAUSED
    assert paused.reason.startswith(OUT_OF_FUNDS)
    await house.payments.top_up(Principal(house.owner, "ada", Role.USER), job.id, AMOUNT)
    back = await house.now(job)
    assert (back.state, back.phase) == (JobState.PENDING, Phase.QUEUED)


async def test_a_job_that_its_owner_paused_does_not(house: House) -> None:
    job = await house.job()

    def unit(tx: Any) -> None:
        found = leases.pause(tx, tx.job(job.id), "ada")
        assert found.intent is Intent.PAUSE
        leases.yielded(tx, found, tx.lease(job.id, job.token), POLICY, "asked to")

    await house.store.write(unit)
    await house.payments.top_up(Principal(house.owner, "ada", Role.USER), job.id, AMOUNT)
    assert (await house.now(job)).state is JobState.PAUSED


async def test_a_payment_ends_before_its_deadline_though_its_job_never_changes(house: House) -> None:
    job = await house.job()
    await house.store.write(lambda tx: leases.drop(tx, tx.job(job.id), tx.lease(job.id, job.token), POLICY, "gone"))
    await house.settle()
    (one,) = await house.of(job)
    house.clock.advance((one.deadline - house.clock.now() - CLOSING).total_seconds() - 1)
    assert not (await house.payments.due(10))[0]
    house.clock.advance(1)
    await house.settle()
    (one,) = await house.of(job)
    assert one.state is PaymentState.REFUNDED


async def test_a_completed_job_is_paid_its_cost_near_the_deadline_too(house: House) -> None:
    job = await house.job(Mode.SPOT)
    await house.settle()
    house.clock.advance(3 * 86_400 - 60)
    await house.complete(job, 400)
    await house.settle()
    (one,) = await house.of(job)
    assert (one.paid_units, one.refunded_units) == (400, AMOUNT - 400)


@pytest.mark.parametrize("late", [False, True])
async def test_a_cost_is_shared_by_what_is_locked(house: House, late: bool) -> None:
    """The second lock never comes, or comes after the third has paid: the cost is paid once."""
    job = await house.job(Mode.SPOT)
    actor = Principal(house.owner, "ada", Role.USER)
    for _ in range(2):
        await house.payments.top_up(actor, job.id, 5000)
    await house.settle()
    second = (await house.of(job))[1]
    state = PaymentState.PENDING if late else PaymentState.FAILED
    await house.store.write(lambda tx: tx.save_payment(replace(second, state=state, due_at=None)))
    await house.complete(job, AMOUNT + 4000)
    for each in (await house.of(job))[::-1]:
        if each.number != 1:
            while await house.payments.drive(each.id):
                pass
    if late:
        waiting = (await house.of(job))[1]
        await house.store.write(lambda tx: tx.save_payment(replace(waiting, state=PaymentState.LOCKED)))
        while await house.payments.drive(waiting.id):
            pass
    assert [each.paid_units for each in await house.of(job)] == [AMOUNT, 0, 4000]


async def test_a_job_is_not_forgotten_before_its_node_is_paid(tmp_path: Path) -> None:
    made = await central(tmp_path, charged=True)
    try:
        alice = (await made.store.read(lambda tx: tx.users(0, 10))).items[0]
        actor = Principal(alice.id, alice.name, Role.ADMIN)
        spec = JobSpec("job", JobType.TRAINING, "mock://digits", "{}")
        job = Job(JobId(new_id()), alice.id, spec, made.clock.now())

        payments: Any = made.jobs._payments

        def unit(tx: Any) -> None:
            tx.add_job(payments.open(tx, job, AMOUNT, RATE))
            leases.fail(tx, tx.job(job.id), "INVALID", "bad")

        await made.store.write(unit)
        with pytest.raises(CyxError, match="still being settled") as refused:
            await made.jobs.delete(actor, job.id)
        assert refused.value.code is Code.CONFLICT
        while await payments.drive(job.id):
            pass
        await made.jobs.delete(actor, job.id)
    finally:
        await made.aclose()


def test_what_a_streams_cap_held_back_is_still_owed() -> None:
    clock = HandClock()
    made = Payment("p", JobId("j"), UserId("u"), 100, 0, "c", 1.0, 60, clock.now(), clock.now())
    made = replace(made, state=PaymentState.LOCKED, node="n", earned_units=50)
    nothing = Work("n", None, ended=False, cost_units=None, progress=0, attempt=1, running=True)
    paid = after(made, Step.PAY, nothing, Done("r", paid_units=20), clock.now())
    assert (paid.paid_units, paid.earned_units) == (20, 50)


async def test_a_stream_pays_more_than_an_interval_earns_in_parts(bench: Bench) -> None:
    """600 s of an escrow of its client's own earn no more than 1200, again after 750."""
    amount, ledger = 50_000, bench.ledger
    made = payment(bench, amount_units=amount, rate=1.0, funding=Funding.SIGNED)
    node = await bench.node()
    await ledger._prepare(made)
    await ledger.balance(made.client)
    lock = [ledger._create(made)], Amounts(amount), Record([]), [ledger._key_of(bench.user)]
    await ledger._land(made, Step.LOCK, *lock)
    await ledger.perform(made, Step.ASSIGN, work(bench))
    made = replace(made, node=bench.node_account, node_id=bench.node_id, earned_units=3000)
    parts: list[Done] = []
    for _ in range(9):
        with contextlib.suppress(CyxError):
            parts.append(await ledger.perform(made, Step.SETTLE, work(bench, ended=True)))
            if not parts[-1].more:
                break
        await bench.pass_time(300)
    assert [(each.paid_units, each.more) for each in parts] == [(1200, True), (2400, True), (3000, False)]
    assert parts[-1].refunded_units == amount - 3000
    assert await bench.node() == node + 2700


async def test_a_prepaid_stream_pays_all_that_its_node_asks_at_once(bench: Bench) -> None:
    """The platform signs for the client, whom a cap would not protect: it would keep the node waiting, for good where
    the deadline comes first."""
    amount = 50_000
    made = payment(bench, amount_units=amount, rate=1.0)
    node = await bench.node()
    for step in (Step.LOCK, Step.ASSIGN):
        await bench.ledger.perform(made, step, work(bench))
    await bench.pass_time(601)
    made = replace(made, node=bench.node_account, node_id=bench.node_id, earned_units=45_000)
    done = await bench.ledger.perform(made, Step.SETTLE, work(bench, ended=True))
    assert (done.paid_units, done.refunded_units) == (45_000, 5_000)
    assert await bench.node() == node + 40_500


async def test_a_node_that_is_behind_does_not_end_a_payment(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.pass_time(60)
    made = replace(await locked(bench), earned_units=10)
    await bench.pass_time(60)
    original = DirectRpc.account

    async def account(self: DirectRpc, address: Pubkey, *, seen: int = 0) -> Account | None:
        if seen:
            raise CyxError(Code.UNAVAILABLE, "behind")
        return None

    for fresh in (False, True):
        ledger: Any = bench.ledger
        if fresh:  # as after a start
            ledger._send._slots.clear()
        monkeypatch.setattr(DirectRpc, "account", account)
        with pytest.raises(CyxError) as refused:
            await ledger.perform(made, Step.SETTLE, work(bench, ended=True))
        assert refused.value.code is Code.UNAVAILABLE
        monkeypatch.setattr(DirectRpc, "account", original)
        assert await ledger.held(made) is not None


@pytest.mark.parametrize("step", [Step.PAY, Step.SETTLE])
async def test_who_did_the_work_is_paid_though_another_was_assigned(bench: Bench, step: Step) -> None:
    """That assignment landed, central was killed before it knew, and the job came back to the first node."""
    made = await locked(bench)
    node, other = await bench.node(), await bench.other()
    await bench.ledger.perform(made, Step.ASSIGN, work(bench, node=bench.other_account))
    made = replace(made, earned_units=1000)
    with pytest.raises(CyxError, match="rate"):  # its time begins with the assignment
        await bench.ledger.perform(made, step, work(bench))
    await bench.pass_time(60)
    await bench.ledger.perform(made, step, work(bench))
    assert await bench.node() == node + 900
    assert await bench.other() == other


async def test_only_what_landed_is_told_as_a_reference(bench: Bench) -> None:
    made = await locked(bench, assigned=False)
    ledger: Any = bench.ledger
    reference = (await ledger.perform(made, Step.LOCK, work(bench))).reference
    assert reference
    failed = Movement("f" * 88, "lock", 1, "", "", bench.now() + timedelta(seconds=1), made.id, state="failed")
    await ledger._store.write(lambda tx: tx.add_movement(failed))
    done = await ledger.perform(made, Step.LOCK, work(bench))
    assert done.reference == reference


async def test_a_stream_with_many_payouts_is_found_to_have_ended(bench: Bench) -> None:
    made = replace(await locked(bench), earned_units=7)
    await bench.pass_time(60)
    ledger: Any = bench.ledger

    def unit(tx: Any) -> None:
        for number in range(150):
            at = bench.now() + timedelta(seconds=number)
            tx.add_movement(Movement(f"pay {number}", "pay", 0, "", "", at, made.id, confirmed_at=at))

    done = await ledger.perform(made, Step.SETTLE, work(bench, ended=True))
    await ledger._store.write(unit)
    assert await ledger.perform(made, Step.SETTLE, work(bench, ended=True)) == done


async def test_an_account_that_was_in_doubt_is_resolved(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that fees go to, made with the first payment."""
    made = payment(bench)
    ledger: Any = bench.ledger
    original = Send.keep

    async def killed(self: Send, record: Record) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(Send, "keep", killed)
    with pytest.raises(asyncio.CancelledError):
        await ledger.perform(made, Step.LOCK, work(bench))
    monkeypatch.setattr(Send, "keep", original)
    await ledger.perform(made, Step.LOCK, work(bench))

    assert not (await ledger._store.read(lambda tx: tx.movements(MovementQuery(state="pending")))).items


async def test_the_settler_does_not_spin_while_a_payment_is_in_hand() -> None:
    class Slow:
        async def due(self, limit: int) -> tuple[list[str], float]:
            return ["one"], 0.0

        async def drive(self, payment_id: str) -> bool:
            await asyncio.Event().wait()
            return False

    settler = Settler(Slow(), LocalBus(), poll_seconds=30)  # type: ignore[arg-type]
    try:
        assert await settler.settle() < BUSY_SECONDS
        assert await settler.settle() == BUSY_SECONDS
    finally:
        await settler._drives.aclose()


class Picky(CreditsLedger):
    """It can't say where one node is paid."""

    def node_account(self, node: Node) -> str:
        if node.name == "unknown":
            raise CyxError(Code.INVALID, "no account")
        return super().node_account(node)


async def test_a_payment_that_can_not_be_decided_holds_up_no_other_of_its_turn(house: House) -> None:
    ledger = Picky(house.store, welcome_units=100 * AMOUNT)
    house.payments = Payments(house.store, house.clock, ledger, Terms(1000, 60, 3))
    jobs = [await house.job()]
    for name in ("unknown", "third"):
        house.node = make_node(name)
        jobs.append(await house.job())
    found = await asyncio.gather(*(house.payments.drive(job.id) for job in jobs), return_exceptions=True)
    assert (found[0], found[2]) == (True, True)
    assert isinstance(found[1], CyxError)
    nodes = [(await house.of(job))[0].node_id for job in jobs]
    assert nodes == [jobs[0].node_id, None, jobs[2].node_id]
