"""A job that comes to its payment's deadline is set aside, on both kinds of books, and goes on with a new payment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cyxwiz.domain.account import Principal, Role
from cyxwiz.domain.job import Intent, Job, Phase
from cyxwiz.domain.payment import CLOSING
from cyxwiz.domain.states import JobState, PaymentState
from cyxwiz.ledger.localnet.chain import open_chain
from cyxwiz.ledger.localnet.ledger import local_ledger
from cyxwiz.services import leases
from cyxwiz.services.payment_deadline import TIME_OVER, TO_SAVE
from cyxwiz.services.payments import Payments, Terms
from tests.integration.test_settlement_repairs import AMOUNT, POLICY, House


@pytest.fixture(params=["credits", "localnet"])
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    made = House()
    if request.param == "localnet":
        chain = await open_chain(None, made.clock)
        ledger = local_ledger(chain, made.store, made.clock, custody=b"c" * 32, welcome_units=100 * AMOUNT)
        made.payments = Payments(made.store, made.clock, ledger, Terms(1000, 60, 3))
        await made.payments.check_funds(made.owner, AMOUNT)
    yield made
    await made.payments.ledger.aclose()
    await made.store.aclose()


async def progress(house: House, job: Job, seconds: float) -> None:
    house.clock.advance(seconds)

    def unit(tx: Any) -> None:
        found = tx.job(job.id)
        tx.save_job(replace(found, progress=found.progress + (1 - found.progress) / 10))

    await house.store.write(unit)
    await house.settle()


async def near(house: House, job: Job, before_end: timedelta) -> None:
    """To so much time before its first payment is ended."""
    (one, *_) = await house.of(job)
    house.clock.advance((one.deadline - CLOSING - before_end - house.clock.now()).total_seconds())


async def top_up(house: House, job: Job) -> None:
    await house.payments.top_up(Principal(house.owner, "ada", Role.USER), job.id, AMOUNT)
    await house.settle()


async def test_a_run_saves_itself_before_its_payment_ends_and_goes_on_with_a_new_one(house: House) -> None:
    job = await house.job()
    await house.settle()
    await progress(house, job, 60)
    await near(house, job, TO_SAVE + timedelta(seconds=1))
    await house.settle()
    assert (await house.now(job)).intent is Intent.RUN
    await progress(house, job, 61)
    asked = await house.now(job)
    assert (asked.state, asked.intent) == (JobState.RUNNING, Intent.PAUSE)
    assert asked.reason.startswith(TIME_OVER)
    (before,) = await house.of(job)
    await progress(house, job, 60)  # what it computes until it has saved is paid
    (one,) = await house.of(job)
    assert one.earned_units == one.paid_units == before.earned_units + 60

    def save(tx: Any) -> None:
        found = tx.job(job.id)
        leases.yielded(tx, found, tx.lease(job.id, job.token), POLICY, "asked to")

    await house.store.write(save)
    await near(house, job, timedelta(0))
    await house.settle()
    aside = await house.now(job)
    assert (aside.state, aside.reason.partition(":")[0]) == (JobState.PAUSED, TIME_OVER)
    (one,) = await house.of(job)
    assert (one.state, one.paid_units) == (PaymentState.COMPLETED, before.earned_units + 60)
    await top_up(house, job)
    back = await house.now(job)
    assert (back.state, back.phase) == (JobState.PENDING, Phase.QUEUED)
    _, second = await house.of(job)
    assert (second.state, second.amount_units) == (PaymentState.LOCKED, AMOUNT)
    assert second.deadline > house.clock.now() + timedelta(days=2)


async def test_who_adds_money_in_time_is_not_set_aside(house: House) -> None:
    job = await house.job()
    await house.settle()
    await progress(house, job, 60)
    await near(house, job, timedelta(hours=2))
    await top_up(house, job)
    await near(house, job, timedelta(0))
    await progress(house, job, 1)
    await progress(house, job, 120)
    still = await house.now(job)
    assert (still.state, still.intent) == (JobState.RUNNING, Intent.RUN)
    first, second = await house.of(job)
    assert (first.open, second.open) == (False, True)
    await progress(house, job, 60)
    assert (await house.of(job))[1].earned_units > 0, "the second pays for what follows"


@pytest.mark.parametrize("paused", [False, True])
async def test_a_job_that_waits_does_not_start_unpaid(house: House, paused: bool) -> None:
    """It waits in the queue, or its owner paused it: once its payment has ended only more money lets it start."""
    job = await house.job()
    await house.settle()

    def back(tx: Any) -> None:
        leases.drop(tx, tx.job(job.id), tx.lease(job.id, job.token), POLICY, "gone")
        if paused:
            leases.pause(tx, tx.job(job.id), "ada")

    await house.store.write(back)
    await near(house, job, timedelta(0))
    await house.settle()
    (one,) = await house.of(job)
    assert one.state is PaymentState.REFUNDED
    assert (await house.now(job)).state is JobState.PAUSED
    await house.store.write(lambda tx: leases.resume(tx, tx.job(job.id), "ada"))
    waits = await house.now(job)
    assert (waits.state, waits.phase) == (JobState.PENDING, Phase.AWAITING_PAYMENT)
    assert "jobs topup" in waits.reason
    await top_up(house, job)
    assert (await house.now(job)).phase is Phase.QUEUED


async def test_a_node_that_saves_nothing_is_stopped_when_the_payment_ends(house: House) -> None:
    house.node = replace(house.node, legacy=True)
    job = await house.job()
    await house.settle()
    await progress(house, job, 60)
    await near(house, job, timedelta(minutes=1))
    await progress(house, job, 0)
    assert (await house.now(job)).state is JobState.RUNNING
    await near(house, job, timedelta(0))
    await progress(house, job, 1)
    ended = await house.now(job)
    assert ended.state is JobState.CANCELLED
    assert TIME_OVER in (ended.error or "")
    await house.settle()
    (one,) = await house.of(job)
    assert not one.open
    assert one.paid_units > 0
