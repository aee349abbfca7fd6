"""Settling through the product's own path beside what LiteSVM executes bare: the same settlements, in one run.

A settlement is one step of one payment. The product: payments in a SQLite store on the disk, driven by the Settler over
`SolanaLedger` on a local chain with its journal: each is locked, has its node assigned and is settled. What comes
together may share a transaction, so settlements are counted, not transactions. Bare: the same settlements, one
transaction each, as the product signs them when payments come one at a time; sent one after the other to a fresh
LiteSVM that verifies signatures, with nothing around it.

Between the two, the chain alone: the same transactions as bare, those of a step at once, to a local chain with its
journal on the disk, without store and Settler.
"""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import uvloop
from solders.account import Account
from solders.litesvm import LiteSVM
from solders.pubkey import Pubkey
from solders.transaction_metadata import TransactionMetadata

from benchmarks.processes import figures, median, pairs
from cyxwiz.bus.local import LocalBus
from cyxwiz.config import Database
from cyxwiz.domain.ids import JobId, NodeId, UserId, new_id
from cyxwiz.domain.job import Job, JobSpec, JobType, Phase
from cyxwiz.domain.node import Hardware, Node
from cyxwiz.domain.states import JobState, NodeState, PaymentState
from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.localnet.chain import Chain, open_chain
from cyxwiz.ledger.localnet.genesis import FAUCET_LAMPORTS
from cyxwiz.ledger.localnet.history import Details
from cyxwiz.ledger.localnet.ledger import local_ledger
from cyxwiz.ledger.programs import local_id
from cyxwiz.ports.store import MovementQuery, PaymentQuery, Store, Tx
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.scheduler.loops.settler import Settler
from cyxwiz.services.payments import Payments, Terms
from cyxwiz.store.engine import open_store

PAYMENTS = 300
KINDS = frozenset({"lock", "assign", "settle"})
SETTLEMENTS = len(KINDS) * PAYMENTS
USERS, NODES = 50, 10
UNITS = 1_000_000  # a payment; the streams' rate is as much a second
STREAM_SECONDS = 2.1  # until the streams' rate allows all of it, by the chain's whole seconds


@dataclass(frozen=True)
class Run:
    """What the product did: seconds in all, and of the processor; the transactions in their order."""

    seconds: float
    processor: float
    transactions: list[Details]
    before: list[Details]


@dataclass(frozen=True)
class Platform:
    store: Store
    bus: LocalBus
    clock: SystemClock
    payments: Payments
    chain: Chain


def main() -> list[dict[str, Any]]:
    ratios: list[float] = []
    ours: list[float] = []
    bare: list[float] = []
    chain: list[float] = []
    spent: list[float] = []
    sent: list[float] = []
    load = os.getloadavg()[0]
    for _ in range(pairs(5)):
        with tempfile.TemporaryDirectory(prefix="cyxwiz-bench-") as directory:
            run, took, processor, journalled = uvloop.run(_pair(Path(directory)))
        ours.append(SETTLEMENTS / run.seconds)
        bare.append(SETTLEMENTS / took)
        ratios.append(ours[-1] / bare[-1])
        chain.append(took / journalled)
        spent.append(processor / run.processor)
        sent.append(len(run.transactions))
    return [
        {
            "bench": "settlement",
            "settlements_per_s": round(median(ours)),
            "litesvm_bare_per_s": round(median(bare)),
            "ratio": figures(ratios),
            "bound_ratio": 0.5,
            # Of the processor's time, which others on the machine disturb less.
            "ratio_of_processor_time": figures(spent),
            "ratio_of_the_chain_alone": figures(chain),
            "payments": PAYMENTS,
            "settlements": SETTLEMENTS,
            "transactions": median(sent),
            "pairs": len(ratios),
            "load_before": round(load, 2),
            "load_after": round(os.getloadavg()[0], 2),
        }
    ]


async def _pair(directory: Path) -> tuple[Run, float, float, float]:
    """What the product did, the seconds and the processor's seconds that the same takes bare, and the seconds that it
    takes a chain with its journal."""
    async with _platform(directory / "together") as made:
        settler = Settler(made.payments, made.bus, poll_seconds=1.0)
        await settler.start()
        try:
            run = await _settle(made, partial(_settled, made.store))
        finally:
            await settler.stop()
    async with _platform(directory / "alone") as made:
        alone = await _settle(made, partial(_drive, made.payments))
        assert len(alone.transactions) == SETTLEMENTS + 1  # one more makes the account that fees go to
        bare = _bare(made.chain, alone)
    return run, *bare, await _journalled(directory / "alone" / "localnet", alone)


@asynccontextmanager
async def _platform(directory: Path) -> AsyncIterator[Platform]:
    clock, bus = SystemClock(), LocalBus()
    directory.mkdir()
    store = await open_store(Database(), directory, clock=clock, bus=bus)
    chain = await open_chain(directory / "localnet", clock)
    ledger = local_ledger(chain, store, clock, custody=b"c" * 32, welcome_units=UNITS * PAYMENTS)
    try:
        yield Platform(store, bus, clock, Payments(store, clock, ledger, Terms(1000, 60, 30)), chain)
    finally:
        await ledger.aclose()
        await store.aclose()


async def _settled(store: Store, jobs: Sequence[Job], steps: int) -> None:
    """Waits until the Settler has done so many steps of each job: each is told by an event, stored with it."""
    while await store.read(lambda tx: tx.last_seq()) < steps * len(jobs):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def _drive(payments: Payments, jobs: Sequence[Job], steps: int) -> None:
    """Does a step of each job, one after the other."""
    for job in jobs:
        assert await payments.drive(job.id), steps


async def _settle(made: Platform, finish: Callable[[Sequence[Job], int], Awaitable[None]]) -> Run:
    store, clock, payments, chain = made.store, made.clock, made.payments, made.chain
    users = [UserId(new_id()) for _ in range(USERS)]
    nodes = [_node(clock.now(), number) for number in range(NODES)]
    for user in users:
        await payments.ledger.balance(payments.ledger.client_account(user))  # what everybody starts with
    await store.write(lambda tx: [tx.add_node(node) for node in nodes])
    before = chain.history.latest()
    seconds = processor = 0.0
    jobs = [_job(clock.now(), users[number % USERS]) for number in range(PAYMENTS)]

    def submit(tx: Tx) -> None:
        for job in jobs:
            tx.add_job(payments.open(tx, job, UNITS, float(UNITS)))

    def run(tx: Tx) -> None:
        for number, job in enumerate(jobs):
            found = tx.job(job.id)
            assert found is not None
            assert found.phase is Phase.QUEUED
            tx.save_job(replace(found, state=JobState.RUNNING, node_id=nodes[number % NODES].id))
        tx.hint("jobs")

    def complete(tx: Tx) -> None:
        for job in jobs:
            found = tx.job(job.id)
            assert found is not None
            tx.save_job(replace(found, state=JobState.COMPLETED, actual_cost_units=UNITS // 2))
        tx.hint("jobs")

    for number, unit in enumerate((submit, run, complete), 1):
        if unit is complete:
            await asyncio.sleep(STREAM_SECONDS)
        gc.collect()
        await store.write(unit)
        began, used = time.perf_counter(), time.process_time()
        await finish(jobs, number)
        seconds += time.perf_counter() - began
        processor += time.process_time() - used
    page = await store.read(lambda tx: tx.payments(PaymentQuery(limit=PAYMENTS)))
    assert all(each.state is PaymentState.COMPLETED and each.node and each.paid_units for each in page.items)
    moves = await store.read(lambda tx: tx.movements(MovementQuery(state="confirmed", kinds=KINDS, limit=1)))
    assert (len(page.items), moves.total) == (PAYMENTS, SETTLEMENTS)
    return Run(seconds, processor, chain.history.latest()[len(before) :], before)


def _bare(chain: Chain, run: Run) -> tuple[float, float]:
    vm = LiteSVM().with_blockhash_check(False)
    genesis = chain.genesis
    vm.set_account(genesis.keys.faucet.pubkey, Account(FAUCET_LAMPORTS, b"", Pubkey.default(), False, 0))
    for program, body in genesis.programs.items():
        vm.add_program(local_id(program), body)
    assert all(_sent(vm, run.before))
    gc.collect()
    began, processor = time.perf_counter(), time.process_time()
    results = _sent(vm, run.transactions)
    took, processor = time.perf_counter() - began, time.process_time() - processor
    assert all(results)
    return took, processor


async def _journalled(directory: Path, run: Run) -> float:
    """The same on a new chain with the old one's genesis, whose blockhashes are the same."""
    (directory / "chain.log").unlink()
    chain = await open_chain(directory, SystemClock())
    try:
        for each in run.before[len(chain.history) :]:
            await chain.submit(bytes(each.transaction))
        raw = [bytes(each.transaction) for each in run.transactions]
        seconds, settles = 0.0, len(raw) - PAYMENTS
        for step in (raw[: settles - PAYMENTS], raw[settles - PAYMENTS : settles], raw[settles:]):
            if step[0] is raw[settles]:
                await asyncio.sleep(STREAM_SECONDS)
            gc.collect()
            began = time.perf_counter()
            await asyncio.gather(*(chain.submit(each) for each in step))
            seconds += time.perf_counter() - began
        return seconds
    finally:
        await chain.aclose()


def _sent(vm: LiteSVM, transactions: list[Details]) -> list[bool]:
    """Whether each succeeded, at the second at which it landed on the chain."""
    results: list[Any] = []
    now = vm.get_clock()
    for each in transactions:
        if each.unix != now.unix_timestamp:
            now.unix_timestamp = each.unix
            vm.set_clock(now)
        results.append(vm.send_transaction(each.transaction))
    return [isinstance(result, TransactionMetadata) for result in results]


def _node(now: datetime, number: int) -> Node:
    hardware = Hardware("Example CPU", 8, 32 << 30, 24 << 30)
    wallet = str(Key.new().pubkey)
    owner = UserId(new_id())
    return Node(
        NodeId(new_id()), owner, f"rig-{number}", hardware, now, now, state=NodeState.ONLINE, wallet_address=wallet
    )


def _job(now: datetime, owner: UserId) -> Job:
    spec = JobSpec(name="bench", type=JobType.TRAINING, dataset_uri="builtin:iris", model='{"layers": []}')
    return Job(id=JobId(new_id()), owner_id=owner, spec=spec, created_at=now)
