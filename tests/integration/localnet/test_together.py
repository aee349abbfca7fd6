"""Payments that share a transaction: several land by one signature, and none is failed or held up by another."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.token import ID as TOKEN_PROGRAM
from solders.transaction import VersionedTransaction

from cyxwiz.bus.local import LocalBus
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import JobId, NodeId, UserId, new_id
from cyxwiz.domain.payment import Done, Movement, Payment, Step, Work, fee_of
from cyxwiz.ledger.instructions import escrow as program
from cyxwiz.ledger.instructions.values import token_account
from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.localnet.chain import Chain, open_chain
from cyxwiz.ledger.localnet.ledger import local_ledger
from cyxwiz.ledger.programs import Program, local_id
from cyxwiz.ledger.sender import MAX_BYTES
from cyxwiz.ledger.solana import SolanaLedger
from cyxwiz.store.memory import MemoryStore
from tests.contract.conftest import HandClock

ESCROW = local_id(Program.ESCROW)
CUSTODY = b"c" * 32
UNITS, COST, FEE = 1_000_000, 400_000, 1000
Ended = Done | BaseException


@dataclass
class Bench:
    clock: HandClock
    store: MemoryStore
    chain: Chain
    ledger: SolanaLedger

    def payment(self, *, interval: int = 0) -> Payment:
        user, now = UserId(new_id()), self.clock.now()
        job = JobId(new_id())
        client = self.ledger.client_account(user)
        end = now + timedelta(days=3)
        return Payment(job, job, user, UNITS, FEE, client, float(UNITS), interval, now, end)

    async def all(self, payments: list[Payment], step: Step, nodes: list[Pubkey]) -> list[Ended]:
        """Has a step of each done at once."""
        asked = zip(payments, nodes, strict=True)
        made = (self.ledger.perform(payment, step, work(node)) for payment, node in asked)
        return list(await asyncio.gather(*made, return_exceptions=True))

    async def all_while(
        self, payments: list[Payment], step: Step, nodes: list[Pubkey], by: Key, instruction: Instruction
    ) -> list[Ended]:
        """As `all`, where a party is faster: once all have looked, before they send."""
        asked = asyncio.ensure_future(self.all(payments, step, nodes))
        for _ in range(2):
            await asyncio.sleep(0)
        await self.send(by, instruction)
        return await asked

    async def locked(self, nodes: list[Pubkey], *, interval: int = 0) -> list[Payment]:
        """Payments with their nodes; half of each is earned."""
        made = [self.payment(interval=interval) for _ in nodes]
        for each in made:
            await self.ledger.balance(each.client)
        for step in (Step.LOCK, Step.ASSIGN):
            assert not [each for each in await self.all(made, step, nodes) if isinstance(each, BaseException)]
        self.clock.advance(100)
        return [
            replace(each, node=str(node), node_id=NodeId("n"), earned_units=COST)
            for each, node in zip(made, nodes, strict=True)
        ]

    async def moves(self, payment: Payment, kind: str) -> list[Movement]:
        found = await self.store.read(lambda tx: tx.movements_of(payment.id))
        return [each for each in found if each.kind == kind]

    def held(self, payment: Payment) -> program.Escrow | None:
        job = JobId(payment.id).replace("-", "")
        address = program.state_address(ESCROW, Pubkey.from_string(payment.client), bytes.fromhex(job))
        account = self.chain.account(address)
        return None if account is None else program.Escrow.decode(address, bytes(account.data))

    async def units(self, node: Pubkey) -> int:
        return await self.ledger.balance(str(node))

    async def send(self, by: Key, instruction: Instruction) -> None:
        """A transaction of a party's own, for which the platform pays."""
        platform = self.chain.genesis.keys.platform
        message = Message.new_with_blockhash([instruction], platform.pubkey, self.chain.latest_blockhash()[0])
        signed = [key.sign(bytes(message)) for key in (platform, by)]
        await self.chain.submit(bytes(VersionedTransaction.populate(message, signed)))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    clock = HandClock()
    store, chain = MemoryStore(clock, LocalBus()), await open_chain(None, clock)
    ledger = local_ledger(chain, store, clock, custody=CUSTODY, welcome_units=10 * UNITS)
    yield Bench(clock, store, chain, ledger)
    await ledger.aclose()
    await store.aclose()


def work(node: Pubkey) -> Work:
    return Work(str(node), NodeId("n"), ended=False, cost_units=None, progress=0.5, attempt=1, running=True)


def client_of(payment: Payment) -> Key:
    seed = hmac.digest(CUSTODY, b"cyxwiz custody " + payment.owner_id.encode(), "sha256")
    return Key(Keypair.from_seed(seed))


def closing(owner: Pubkey, mint: Pubkey) -> Instruction:
    """SPL Token's CloseAccount."""
    metas = [(token_account(owner, mint), False, True), (owner, False, True), (owner, True, False)]
    return Instruction(TOKEN_PROGRAM, b"\x09", [AccountMeta(*each) for each in metas])


def fails(ended: Ended, code: Code, said: str) -> None:
    assert isinstance(ended, CyxError), ended
    assert ended.code is code
    assert said in ended.message


async def all_settled(bench: Bench, payments: list[Payment], ended: list[Ended], nodes: list[Pubkey]) -> None:
    """Each by a transaction of its own, as the one that they shared had failed."""
    for payment, done, node in zip(payments, ended, nodes, strict=True):
        assert isinstance(done, Done), done
        assert (done.paid_units, done.refunded_units) == (COST, UNITS - COST)
        assert bench.held(payment) is None
        assert await bench.units(node) == COST - fee_of(COST, FEE)
        shared, alone = await bench.moves(payment, "settle")
        if shared.state == "confirmed":
            shared, alone = alone, shared
        assert (shared.state, alone.state, alone.reference) == ("failed", "confirmed", done.reference)
        assert shared.error.startswith("shared with other payments: ")
    assert len({done.reference for done in ended if isinstance(done, Done)}) == len(ended)


async def test_several_share_a_transaction_and_each_has_its_own_movement_of_it(bench: Bench) -> None:
    nodes = [Key.new().pubkey for _ in range(10)]
    payments = await bench.locked(nodes)
    before = len(bench.chain.history)
    ended = await bench.all(payments, Step.SETTLE, nodes)
    assert len(bench.chain.history) - before <= 5
    references = set[str]()
    for payment, done, node in zip(payments, ended, nodes, strict=True):
        assert isinstance(done, Done), done
        assert (done.paid_units, done.refunded_units) == (COST, UNITS - COST)
        assert await bench.units(node) == COST - fee_of(COST, FEE)
        (moved,) = await bench.moves(payment, "settle")
        assert (moved.state, moved.reference, moved.units, moved.raw) == ("confirmed", done.reference, COST, b"")
        assert await bench.ledger.perform(payment, Step.SETTLE, work(node)) == done, "what was done is not done twice"
        references.add(done.reference)
    assert len(references) == len(bench.chain.history) - before
    longest = max(len(bytes(each.transaction)) for each in bench.chain.history.latest())
    assert longest <= MAX_BYTES


async def test_one_in_dispute_among_good_ones(bench: Bench) -> None:
    keys = [Key.new() for _ in range(3)]
    nodes = [each.pubkey for each in keys]
    payments = await bench.locked(nodes)
    held = bench.held(payments[1])
    assert held is not None
    await bench.send(keys[1], program.dispute(ESCROW, held, nodes[1]))
    first, frozen, last = await bench.all(payments, Step.SETTLE, nodes)
    fails(frozen, Code.UNAVAILABLE, "A dispute is open until")
    await all_settled(bench, [payments[0], payments[2]], [first, last], [nodes[0], nodes[2]])
    left = bench.held(payments[1])
    assert left is not None
    assert (left.released, left.amount) == (0, UNITS)


async def test_a_token_account_that_is_closed_among_good_ones(bench: Bench) -> None:
    keys = [Key.new() for _ in range(3)]
    nodes = [each.pubkey for each in keys]
    payments = await bench.locked(nodes)
    await bench.send(keys[0], closing(nodes[0], bench.chain.genesis.mint))
    ended = await bench.all(payments, Step.SETTLE, nodes)
    for payment, done, node in zip(payments, ended, nodes, strict=True):
        assert isinstance(done, Done), done
        assert bench.held(payment) is None
        assert await bench.units(node) == COST - fee_of(COST, FEE)


async def test_an_escrow_that_goes_meanwhile_among_good_ones(bench: Bench) -> None:
    nodes = [Key.new().pubkey for _ in range(3)]
    payments = await bench.locked(nodes, interval=60)
    held = bench.held(payments[2])
    assert held is not None
    client = client_of(payments[2])
    close = program.Payout(ESCROW, held, client.pubkey).close()
    first, second, gone = await bench.all_while(payments, Step.SETTLE, nodes, client, close)
    assert isinstance(gone, CyxError), gone
    await all_settled(bench, payments[:2], [first, second], nodes[:2])
    found = await bench.ledger.perform(payments[2], Step.SETTLE, work(nodes[2]))
    assert (found.paid_units, found.refunded_units) == (0, UNITS)


async def test_a_stream_that_is_stopped_meanwhile_among_good_ones(bench: Bench) -> None:
    nodes = [Key.new().pubkey for _ in range(3)]
    payments = await bench.locked(nodes, interval=60)
    held = bench.held(payments[0])
    assert held is not None
    stop = program.stop(ESCROW, held)
    stopped, *others = await bench.all_while(payments, Step.PAY, nodes, client_of(payments[0]), stop)
    assert isinstance(stopped, CyxError), stopped
    for done, node in zip(others, nodes[1:], strict=True):
        assert isinstance(done, Done), done
        assert done.paid_units == COST
        assert await bench.units(node) == COST - fee_of(COST, FEE)
    over = await bench.ledger.perform(payments[0], Step.PAY, work(nodes[0]))
    assert (over.over, over.stopped, over.paid_units, over.refunded_units) == (True, True, 0, UNITS)


async def test_two_centrals_settle_the_same_ones_once(bench: Bench) -> None:
    nodes = [Key.new().pubkey for _ in range(6)]
    payments = await bench.locked(nodes)
    other = local_ledger(bench.chain, bench.store, bench.clock, custody=CUSTODY, welcome_units=10 * UNITS)
    second = Bench(bench.clock, bench.store, bench.chain, other)
    one, two = await asyncio.gather(
        bench.all(payments, Step.SETTLE, nodes), second.all(payments[::-1], Step.SETTLE, nodes[::-1])
    )
    for payment, mine, its, node in zip(payments, one, two[::-1], nodes, strict=True):
        landed = [each for each in await bench.moves(payment, "settle") if each.state == "confirmed"]
        done = [each for each in (mine, its) if isinstance(each, Done)]
        assert len(landed) == len(done) == 1
        assert await bench.units(node) == COST - fee_of(COST, FEE)
        assert await other.perform(payment, Step.SETTLE, work(node)) == done[0]


async def test_a_crash_after_it_was_sent_leaves_each_to_find_what_landed(bench: Bench) -> None:
    """What was recorded is all that the next one has: the same bytes for each, which land once."""
    nodes = [Key.new().pubkey for _ in range(3)]
    payments = await bench.locked(nodes)
    before = len(bench.chain.history)
    cut = [
        asyncio.ensure_future(bench.all([payment], Step.SETTLE, [node]))
        for payment, node in zip(payments, nodes, strict=True)
    ]
    while not await bench.moves(payments[0], "settle"):
        await asyncio.sleep(0)
    for each in cut:
        each.cancel()
    await bench.ledger._send.aclose()
    pending = [(await bench.moves(payment, "settle"))[0] for payment in payments]
    assert {each.state for each in pending} == {"pending"}
    assert len({each.reference for each in pending}) == 1
    again = local_ledger(bench.chain, bench.store, bench.clock, custody=CUSTODY, welcome_units=10 * UNITS)
    for payment, node, was in zip(payments, nodes, pending, strict=True):
        done = await again.perform(payment, Step.SETTLE, work(node))
        assert (done.reference, done.paid_units) == (was.reference, COST)
        assert await bench.units(node) == COST - fee_of(COST, FEE)
    assert len(bench.chain.history) - before == 1
