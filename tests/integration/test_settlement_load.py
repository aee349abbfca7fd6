"""A thousand escrows open at once on the local chain, all settled by the Settler: nothing is lost. A hundred by two
Settlers at once, as of two centrals, neither of which leaves to the other what is the other's: nothing is double."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from cyxwiz.bus.local import LocalBus
from cyxwiz.config import Database
from cyxwiz.domain.ids import JobId, NodeId, UserId, new_id
from cyxwiz.domain.job import Job, JobSpec, JobType, Phase
from cyxwiz.domain.node import Hardware, Node
from cyxwiz.domain.payment import Payment, fee_of
from cyxwiz.domain.states import JobState, NodeState, PaymentState
from cyxwiz.ledger.instructions.escrow import STATE_SIZE
from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.localnet.chain import Chain, open_chain
from cyxwiz.ledger.localnet.ledger import local_ledger
from cyxwiz.ledger.programs import Program, local_id
from cyxwiz.ports.store import MovementQuery, PaymentQuery, Store, Tx
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.scheduler.loops.settler import Settler
from cyxwiz.services.payments import TOPIC, Payments, Terms
from cyxwiz.store.engine import open_store

USERS, NODES = 50, 20
UNITS, WELCOME = 1_000_007, 30_000_000
FEE_BPS = 1000
CPU_SECONDS = 25.0


def escrows(chain: Chain) -> int:
    found = chain.owned_by(local_id(Program.ESCROW))
    return sum(len(account.data) == STATE_SIZE for _, account in found)


async def payments_of(store: Store) -> list[Payment]:
    page = await store.read(lambda tx: tx.payments(PaymentQuery(limit=1000)))
    return list(page.items)


async def moved(store: Store, kind: str, count: int) -> None:
    query = MovementQuery(kinds=frozenset({kind}), state="confirmed", limit=1)
    async with asyncio.timeout(60):
        while (await store.read(lambda tx: tx.movements(query))).total < count:
            await asyncio.sleep(0.05)


async def all_in(store: Store, count: int, *states: PaymentState) -> None:
    async with asyncio.timeout(60):
        while True:
            found = (await store.read(lambda tx: tx.money())).payments_by_state
            if sum(found[str(state)] for state in states) == count:
                return
            await asyncio.sleep(0.05)


def cost(number: int, count: int) -> int:
    """What the job of that number came to: from nothing to all of it."""
    return (number * UNITS) // (count - 1)


async def grab(centrals: Sequence[Payments], bus: LocalBus) -> None:
    """Each central takes up all open payments, again and again, whoever has them in hand."""
    while True:
        for payments in centrals:
            await payments.take_up()
        bus.publish([TOPIC])
        await asyncio.sleep(0.5)


@pytest.mark.timeout(180)
async def test_a_thousand_escrows_are_open_at_once_and_all_settle(tmp_path: Path) -> None:
    began = time.process_time()
    async with AsyncExitStack() as stack:
        found = await settled(tmp_path, stack, jobs=1000, centrals=1)
    assert {state for _, state in found} == {"confirmed"}
    assert time.process_time() - began < CPU_SECONDS


@pytest.mark.timeout(180)
async def test_two_centrals_settle_the_same_payments_once(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        await settled(tmp_path, stack, jobs=100, centrals=2)


async def settled(folder: Path, stack: AsyncExitStack, *, jobs: int, centrals: int) -> Counter[tuple[str, str]]:
    """Settles that many jobs and looks whether all adds up; the movements by kind and state."""
    clock, bus = SystemClock(), LocalBus()
    store = await open_store(Database(), folder, clock=clock, bus=bus)
    stack.push_async_callback(store.aclose)
    chain = await open_chain(folder / "localnet", clock)
    of_all: list[Payments] = []
    for _ in range(centrals):
        ledger = local_ledger(chain, store, clock, custody=b"c" * 32, welcome_units=WELCOME)
        stack.push_async_callback(ledger.aclose)
        of_all.append(Payments(store, clock, ledger, Terms(FEE_BPS, 0, 30)))
        settler = Settler(of_all[-1], bus, poll_seconds=1.0)
        await settler.start()
        stack.push_async_callback(settler.stop)
    payments, ledger = of_all[0], of_all[0].ledger
    if centrals > 1:
        grabbing = asyncio.ensure_future(grab(of_all, bus))
        stack.callback(grabbing.cancel)
    users = [UserId(new_id()) for _ in range(USERS)]
    nodes = [_node(number) for number in range(NODES)]
    made = [_job(users[number % USERS]) for number in range(jobs)]

    def submit(tx: Tx) -> None:
        for node in nodes:
            tx.add_node(node)
        for job in made:
            tx.add_job(payments.open(tx, job, UNITS, 1000.0))

    def run(tx: Tx) -> None:
        for number, job in enumerate(made):
            found = tx.job(job.id)
            assert found is not None
            assert found.phase is Phase.QUEUED, "the Settler has let it go on"
            tx.save_job(replace(found, state=JobState.RUNNING, node_id=nodes[number % NODES].id))
        tx.hint("jobs")

    def end(tx: Tx) -> None:
        for number, job in enumerate(made):
            found = tx.job(job.id)
            assert found is not None
            tx.save_job(replace(found, state=JobState.COMPLETED, actual_cost_units=cost(number, jobs)))
        tx.hint("jobs")

    async def balance(account: str) -> int:
        return await ledger.balance(account)

    for user in users:
        assert await balance(ledger.client_account(user)) == WELCOME
    await store.write(submit)
    await all_in(store, jobs, PaymentState.LOCKED)
    assert escrows(chain) == jobs
    for number, user in enumerate(users):
        assert await balance(ledger.client_account(user)) == WELCOME - UNITS * len(range(number, jobs, USERS))
    await store.write(run)
    await moved(store, "assign", jobs)
    await store.write(end)
    await all_in(store, jobs, PaymentState.COMPLETED, PaymentState.REFUNDED)

    assert escrows(chain) == 0
    rows = {payment.id: payment for payment in await payments_of(store)}
    client, node, fees = Counter[str](), Counter[str](), 0
    for number, job in enumerate(made):
        paid, row = cost(number, jobs), rows[job.id]
        assert (row.paid_units, row.refunded_units) == (paid, UNITS - paid)
        client[ledger.client_account(job.owner_id)] += paid
        node[nodes[number % NODES].wallet_address] += paid - fee_of(paid, FEE_BPS)
        fees += fee_of(paid, FEE_BPS)
    for user in users:
        account = ledger.client_account(user)
        assert await balance(account) == WELCOME - client[account]
    for account, units in node.items():
        assert await balance(account) == units
    assert await balance(ledger.info.platform) == fees
    found = await store.read(_kinds)
    confirmed = {kind: count for (kind, state), count in found.items() if state == "confirmed"}
    assert confirmed == {"lock": jobs, "assign": jobs, "settle": jobs - 1, "refund": 1}  # the first job cost nothing
    return found


def _kinds(tx: Tx) -> Counter[tuple[str, str]]:
    page = tx.movements(MovementQuery(kinds=frozenset({"lock", "assign", "pay", "settle", "refund"}), limit=10_000))
    return Counter((each.kind, each.state) for each in page.items)


def _node(number: int) -> Node:
    now, wallet = SystemClock().now(), str(Key.new().pubkey)
    hardware = Hardware("Example CPU", 8, 32 << 30, 24 << 30)
    return Node(
        NodeId(new_id()),
        UserId(new_id()),
        f"rig-{number}",
        hardware,
        now,
        now,
        state=NodeState.ONLINE,
        wallet_address=wallet,
    )


def _job(owner: UserId) -> Job:
    spec = JobSpec(name="load", type=JobType.TRAINING, dataset_uri="builtin:iris", model='{"layers": []}')
    return Job(id=JobId(new_id()), owner_id=owner, spec=spec, created_at=SystemClock().now())
