"""A lock is signed and recorded with its job, and sent by whoever drives the payment first: once, whatever happens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from cyxwiz.bus.local import LocalBus
from cyxwiz.domain.ids import JobId, UserId, new_id
from cyxwiz.domain.job import Job, JobSpec, JobType, Phase
from cyxwiz.domain.payment import Movement
from cyxwiz.domain.states import JobState, PaymentState
from cyxwiz.ledger.localnet.chain import Chain, open_chain
from cyxwiz.ledger.localnet.ledger import local_ledger
from cyxwiz.ports.store import Tx
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.services.payments import Payments, Terms
from cyxwiz.store.memory import MemoryStore

UNITS = 1_000_000


@dataclass
class Bench:
    chain: Chain
    store: MemoryStore
    payments: Payments
    user: UserId

    async def submit(self, *, refuse: bool = False) -> Job:
        spec = JobSpec(name="load", type=JobType.TRAINING, dataset_uri="builtin:iris", model='{"layers": []}')
        job = Job(id=JobId(new_id()), owner_id=self.user, spec=spec, created_at=SystemClock().now())
        await self.payments.check_funds(self.user, UNITS)

        def unit(tx: Tx) -> None:
            tx.add_job(self.payments.open(tx, job, UNITS, 1000.0))
            if refuse:
                raise ValueError("refused for another reason")

        await self.store.write(unit)
        return job

    async def moves(self, job: Job) -> list[Movement]:
        return list(await self.store.read(lambda tx: tx.movements_of(job.id)))

    async def state(self, job: Job) -> PaymentState:
        (payment,) = await self.store.read(lambda tx: tx.payments_of(job.id))
        return payment.state

    async def balance(self) -> int:
        return await self.payments.ledger.balance(self.payments.ledger.client_account(self.user))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    clock = SystemClock()
    store, chain = MemoryStore(clock, LocalBus()), await open_chain(None, clock)
    ledger = local_ledger(chain, store, clock, custody=b"c" * 32, welcome_units=10 * UNITS)
    made = Bench(chain, store, Payments(store, clock, ledger, Terms(1000, 0, 30)), UserId(new_id()))
    first = await made.submit()  # which makes the platform's account as well
    assert await made.payments.drive(first.id)
    yield made
    await ledger.aclose()
    await store.aclose()


async def test_it_is_recorded_with_the_job_and_sent_once(bench: Bench) -> None:
    before, landed = await bench.balance(), len(bench.chain.history)
    job = await bench.submit()
    (move,) = await bench.moves(job)
    assert (move.kind, move.state, len(bench.chain.history)) == ("lock", "pending", landed)
    assert await bench.payments.drive(job.id)
    assert not await bench.payments.drive(job.id)
    assert len(bench.chain.history) == landed + 1
    (move,) = await bench.moves(job)
    assert (move.state, move.raw) == ("confirmed", b"")
    assert await bench.state(job) is PaymentState.LOCKED
    assert await bench.balance() == before - UNITS
    found = await bench.store.read(lambda tx: tx.job(job.id))
    assert found is not None
    assert found.phase is Phase.QUEUED


async def test_what_is_refused_is_neither_recorded_nor_sent(bench: Bench) -> None:
    landed = len(bench.chain.history)
    with pytest.raises(ValueError, match="another reason"):
        await bench.submit(refuse=True)
    job = await bench.submit()
    assert await bench.payments.drive(job.id)
    assert len(bench.chain.history) == landed + 1


async def test_one_that_is_over_is_signed_anew(bench: Bench) -> None:
    before = await bench.balance()
    job = await bench.submit()
    await bench.chain.advance(120)  # as after a stop of that long
    assert await bench.payments.drive(job.id)
    moves = [(move.kind, move.state) for move in await bench.moves(job)]
    assert sorted(moves) == [("lock", "confirmed"), ("lock", "failed")]
    assert await bench.state(job) is PaymentState.LOCKED
    assert await bench.balance() == before - UNITS


async def test_a_job_that_is_cancelled_before_has_its_money_back(bench: Bench) -> None:
    before = await bench.balance()
    job = await bench.submit()

    def cancel(tx: Tx) -> None:
        found = tx.job(job.id)
        assert found is not None
        tx.save_job(replace(found, state=JobState.CANCELLED))

    await bench.store.write(cancel)
    assert await bench.payments.drive(job.id)
    assert await bench.state(job) is PaymentState.REFUNDED
    assert await bench.balance() == before
