"""What a node is paid has bounds that do not depend on its word, and what a job cost says what was paid."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cyxwiz.domain.account import Principal, Role
from cyxwiz.domain.errors import CyxError
from cyxwiz.domain.ids import JobId, new_id
from cyxwiz.domain.job import Intent, Job, JobSpec, JobType, Resources
from cyxwiz.domain.node import Node
from cyxwiz.domain.pricing import NodePricing
from cyxwiz.domain.states import JobState, PaymentState
from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.localnet.chain import open_chain
from cyxwiz.ledger.localnet.ledger import local_ledger
from cyxwiz.services import leases
from cyxwiz.services.payments import Payments, Terms
from cyxwiz.services.settlement import OUT_OF_FUNDS
from tests.contract.make import node as make_node
from tests.integration.test_payment_deadline import near, progress
from tests.integration.test_settlement_repairs import AMOUNT, POLICY, RATE, House

HALF = NodePricing(1800, minimum_charge_units=0, minimum_minutes=0)  # half a unit a second


@pytest.fixture
async def house() -> AsyncIterator[House]:
    made = House()
    yield made
    await made.payments.ledger.aclose()
    await made.store.aclose()


async def cancelled(house: House, job: Job) -> Job:
    def unit(tx: Any) -> None:
        leases.cancel(tx, tx.job(job.id), "ada", "enough")

    await house.store.write(unit)
    await house.settle()
    return await house.now(job)


async def test_a_stream_pays_a_node_no_more_than_its_own_prices(house: House) -> None:
    house.node = replace(house.node, pricing=HALF)
    job = await house.job()
    await house.settle()
    for seconds, earned in ((60, 30), (120, 90)):
        await progress(house, job, seconds)
        (one,) = await house.of(job)
        assert (one.earned_units, one.paid_units) == (earned, earned)


async def test_a_free_minute_earns_nothing_on_the_way(house: House) -> None:
    house.node = replace(house.node, pricing=replace(HALF, free_tier=True, free_tier_minutes=1))
    job = await house.job()
    await house.settle()
    await progress(house, job, 60)
    assert [each.earned_units for each in await house.of(job)] == [0]
    await progress(house, job, 60)
    assert [each.earned_units for each in await house.of(job)] == [30]


async def test_a_cancelled_job_has_cost_what_was_paid_of_it(house: House) -> None:
    job = await house.job()
    await house.settle()
    await progress(house, job, 60)
    done = await cancelled(house, job)
    (one,) = await house.of(job)
    assert (one.state, one.paid_units, one.refunded_units) == (PaymentState.COMPLETED, 60, AMOUNT - 60)
    assert (done.state, done.actual_cost_units) == (JobState.CANCELLED, 60)


async def test_a_completed_job_has_cost_what_was_paid_of_it(house: House) -> None:
    """A first node was paid for progress and lost: the cost of the run that ended it says less."""
    job = await house.job()
    await house.settle()
    await progress(house, job, 60)
    await house.complete(job, 20)
    assert (await house.now(job)).actual_cost_units == 20
    await house.settle()
    (one,) = await house.of(job)
    assert (one.state, one.paid_units, one.refunded_units) == (PaymentState.COMPLETED, 60, AMOUNT - 60)
    assert (await house.now(job)).actual_cost_units == 60


@pytest.mark.parametrize("streamed", [0, 1])
async def test_a_member_that_is_done_without_is_paid_for_its_time_alone(house: House, streamed: int) -> None:
    """The gang goes on with fewer: nothing is earned for who left, nor kept where nobody was to be paid yet."""
    spec = JobSpec("gang", JobType.TRAINING, "mock://digits", "{}", resources=Resources(nodes=2))
    job = Job(JobId(new_id()), house.owner, spec, house.clock.now())
    nodes = [make_node(), make_node()]

    def begin(tx: Any) -> None:
        for node in nodes:
            tx.add_node(node)
        tx.add_job(house.payments.open(tx, job, 2 * AMOUNT, 2 * RATE))

    def run(tx: Any, *given: Node) -> None:
        lead = leases.issue(tx, tx.job(job.id), *(node.id for node in given))
        leases.accept(tx, tx.job(job.id), lead, "boot")

    def lose(tx: Any) -> None:
        found = tx.job(job.id)
        leases.drop(tx, found, tx.lease(job.id, found.token), POLICY, "a member is gone")

    await house.store.write(begin)
    if streamed:
        await house.store.write(lambda tx: run(tx, *nodes))
        await house.settle()
        await progress(house, job, 60)
        await house.store.write(lose)
    await house.store.write(lambda tx: run(tx, nodes[0]))
    await house.settle()
    for _ in range(2):
        await progress(house, job, 60)
    await house.complete(job, 200)
    await house.settle()
    payments = await house.of(job)
    assert [each.paid_units for each in payments] == [200, 60 * streamed]
    assert [each.state is PaymentState.REFUNDED for each in payments] == [False, not streamed]
    assert not any(each.open for each in payments)


async def test_what_is_locked_for_all_of_a_jobs_time_is_enough_to_its_end(house: House) -> None:
    """It was set aside for want of funds in the last interval of its time, and left to pay more for it."""
    job = await house.job(seconds=AMOUNT / RATE)
    await house.settle()
    for _ in range(AMOUNT // 60):
        await progress(house, job, 60)
        assert (await house.now(job)).intent is Intent.RUN
    assert [each.earned_units for each in await house.of(job)] == [AMOUNT // 60 * 60]


async def test_a_top_up_that_is_not_locked_pays_for_nothing(house: House) -> None:
    """Money that was promised went elsewhere: the job that does not get it is set aside, not run on unpaid."""
    chain = await open_chain(None, house.clock)
    ledger = local_ledger(chain, house.store, house.clock, custody=b"c" * 32, welcome_units=100 * AMOUNT)
    house.payments = Payments(house.store, house.clock, ledger, Terms(1000, 60, 3))
    await house.payments.check_funds(house.owner, AMOUNT)
    jobs = []
    for _ in range(2):
        house.node = make_node()
        jobs.append(await house.job())
        await house.settle()
    rest = await ledger.balance(ledger.client_account(house.owner))
    owner = Principal(house.owner, "ada", Role.USER)
    for job in jobs:
        await house.payments.top_up(owner, job.id, rest // 2)
    await ledger.withdraw(house.owner, str(Key.new().pubkey), rest // 2, "elsewhere")
    with pytest.raises(CyxError, match="too low"):
        await house.settle()
    await house.settle()
    states = [[each.state for each in await house.of(job)][1] for job in jobs]
    assert sorted(states) == [PaymentState.LOCKED, PaymentState.PENDING]
    unpaid = jobs[states.index(PaymentState.PENDING)]
    for _ in range(AMOUNT // 60):
        with contextlib.suppress(CyxError):  # the top-up is tried again and again, and holds up no other payment
            await progress(house, unpaid, 60)
        with contextlib.suppress(CyxError):
            await house.settle()
    told = await house.now(unpaid)
    assert told.intent is Intent.PAUSE
    assert told.reason.startswith(OUT_OF_FUNDS)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_job_that_ends_after_its_payment_has_cost_what_was_paid(house: House, fails: bool) -> None:
    job = await house.job()
    await house.settle()
    await progress(house, job, 60)
    await near(house, job, timedelta(0))
    await house.settle()
    (one,) = await house.of(job)
    assert (one.open, one.paid_units) == (False, 60)

    def unit(tx: Any) -> None:
        if fails:
            leases.fail(tx, tx.job(job.id), "INTERNAL", "broken")
        else:
            leases.cancel(tx, tx.job(job.id), "ada", "enough")

    await house.store.write(unit)
    assert (await house.now(job)).actual_cost_units == 60
