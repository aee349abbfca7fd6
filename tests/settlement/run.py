"""One history from a seed: jobs, their money, and a ledger and a central that fail."""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from solders.keypair import Keypair
from solders.pubkey import Pubkey

from cyxwiz.bus.local import LocalBus
from cyxwiz.domain.events import JobPayment
from cyxwiz.domain.ids import NodeId, UserId, ids_from, new_id
from cyxwiz.domain.node import Node
from cyxwiz.domain.payment import Payment, fee_of
from cyxwiz.domain.states import OPEN_PAYMENT_STATES
from cyxwiz.ledger.credits import PLATFORM, CreditsLedger
from cyxwiz.ledger.deployment import Deployment
from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.localnet.chain import Chain
from cyxwiz.ledger.localnet.direct import direct_rpc
from cyxwiz.ledger.localnet.genesis import Genesis, Keys
from cyxwiz.ledger.localnet.journal import NoJournal
from cyxwiz.ledger.programs import Program, binary, local_id
from cyxwiz.ledger.sender import SendPolicy
from cyxwiz.ledger.sending import Send
from cyxwiz.ledger.solana import SolanaLedger
from cyxwiz.ports.ledger import Ledger
from cyxwiz.ports.store import MovementQuery, PaymentQuery
from cyxwiz.runtime.clock import VirtualClock, VirtualLoop
from cyxwiz.services.payments import Payments, Terms
from cyxwiz.store.memory import MemoryStore
from tests.fakes import hardware
from tests.integration.localnet.faulty import Faults, FaultyRpc
from tests.settlement.audit import BookTruth, ChainTruth, check_payment, owed
from tests.settlement.central import Central, Life, MortalRpc
from tests.settlement.story import INTERVAL, Broken, Player, Story, draw

START = datetime(2030, 1, 1, tzinfo=UTC)
TERMS = Terms(fee_bps=1000, interval_seconds=INTERVAL, open_days=1)
NODES = 4
CROWD = 6  # jobs
SOON = timedelta(hours=3)  # after the last fault, in which what is earned is paid; a stream's rate holds some back
LONGEST = timedelta(days=3)  # in which all has to have ended


class _Store(MemoryStore):
    """One that can be emptied: making the tables takes longer than a history."""

    def __init__(self) -> None:
        super().__init__(VirtualClock(START), LocalBus())
        self._empty = self._raw.serialize()

    def empty(self, bus: LocalBus) -> None:
        self._raw.deserialize(self._empty)
        self._bus = bus


@lru_cache(1)
def _store() -> _Store:
    return _Store()


@lru_cache(1)
def _genesis() -> Genesis:
    """The same in every process, so that a seed has one history."""
    keys = Keys(*(Key(Keypair.from_seed(bytes([number]) * 32)) for number in range(1, 6)))
    return Genesis(round(START.timestamp() * 1000), keys, {program: binary(program) for program in Program})


@dataclass
class Outcome:
    seed: int
    ledger: str
    violation: str = ""
    trace: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    places: int = 0

    def __str__(self) -> str:
        told = "\n".join(self.trace[-80:])
        return (
            f"{told}\nsettlement, seed {self.seed} on {self.ledger}: {self.violation}\n"
            f"again: python -m tests.settlement {self.ledger} {self.seed}"
        )


def simulate(
    seed: int, ledger: str = "localnet", *, deaths: list[int] | None = None, faults: Faults | None = None
) -> Outcome:
    """The history of a seed.

    Args:
        ledger: localnet or credits.
        deaths: the places at which central's lives end; None draws them.
        faults: of the cluster; None draws them.
    """
    outcome = Outcome(seed, ledger)
    rng = random.Random(f"settlement {seed}")
    level = logging.getLogger("cyxwiz").level
    logging.getLogger("cyxwiz").setLevel(logging.CRITICAL)
    try:
        with (
            ids_from(lambda: uuid.UUID(int=rng.getrandbits(128), version=4)),
            asyncio.Runner(loop_factory=VirtualLoop) as runner,
        ):
            runner.run(_World(outcome, rng, deaths, faults).run())
    except Exception as error:
        outcome.violation = f"{type(error).__name__}: {error}"
        if not isinstance(error, Broken):
            import traceback

            outcome.violation += "\n" + traceback.format_exc()
    finally:
        logging.getLogger("cyxwiz").setLevel(level)
    return outcome


def _draw_faults(rng: random.Random) -> Faults:
    def some(most: float) -> float:
        return rng.choice([0.0, 0.0, most / 4, most])

    return Faults(
        lost=some(0.3),
        unanswered=some(0.3),
        delayed=some(0.7),
        doubled=some(0.5),
        behind=rng.choice([0.0, 0.2, 0.6]),
        longest_delay=rng.choice([3.0, 40.0, 120.0]),
        longest_lag=rng.choice([30, 140, 400]),
        down=some(0.6),
        spell=rng.choice([20.0, 120.0, 1200.0]),
    )


class _World:
    def __init__(self, outcome: Outcome, rng: random.Random, deaths: list[int] | None, faults: Faults | None) -> None:
        self.outcome, self.rng = outcome, rng
        self.clock = VirtualClock(START)
        self.bus = LocalBus()
        self.store = _store()
        self.store.empty(self.bus)
        self.faults = faults or _draw_faults(rng)
        # Jobs that begin together, on a cluster that answers at once: their payments share transactions.
        self.crowd = outcome.ledger == "localnet" and outcome.seed % 5 == 4
        if self.crowd:
            self.faults = replace(self.faults, slow=0.0)
        lives = rng.choice([0, 1, 2, 4, 6])
        self.deaths = [rng.choice([rng.randrange(1, 30), rng.randrange(1, 150)]) for _ in range(lives)]
        if deaths is not None:
            self.deaths = deaths
        simulate, finalized = rng.random() < 0.5, rng.random() < 0.5
        # Without fees to outbid a lock may be signed within the unit of its job.
        fees = {"floor": 0, "cap": 0} if not simulate and outcome.seed % 3 else {}
        self.policy = SendPolicy(
            rebroadcast_seconds=4.0, poll_seconds=2.0, simulate=simulate, finalized=finalized, **fees
        )
        self.chain: Chain | None = None
        self.rpc: FaultyRpc | None = None
        self.truth: ChainTruth | BookTruth = BookTruth(self.store)
        self.granted = 0

    def note(self, text: str) -> None:
        self.outcome.trace.append(f"{self.clock.monotonic():10.2f}  {text}")

    async def run(self) -> None:
        if self.outcome.ledger == "localnet":
            self.chain = Chain(_genesis(), NoJournal(), self.clock)
            await self.chain.begin([])
            self.truth = ChainTruth(self.chain)
            seed = self.rng.getrandbits(64)
            self.rpc = FaultyRpc(direct_rpc(self.chain), self.chain, self.clock, seed, self.faults)
        nodes = await self._nodes()
        few = self.rng.choice([1, 1, 1, 1, 1, 2])
        stories = [draw(self.rng, UserId(new_id()), nodes) for _ in range(CROWD if self.crowd else few)]
        desk = Payments(self.store, self.clock, self._ledger(self.store, None), TERMS)
        for story in stories:
            await self._fund(desk.ledger, story)
        central = Central(
            self.store,
            self.bus,
            self.clock,
            TERMS,
            self._ledger,
            self.deaths,
            lambda: self.rng.choice([0.0, 5.0, 100.0]),
            self.note,
        )
        running = asyncio.create_task(central.run())
        try:
            players = [Player(story, self.store, self.clock, desk, self.truth, self.note) for story in stories]
            async with asyncio.TaskGroup() as group:
                for player in players:
                    group.create_task(player.play(self.rng.random() * (0 if self.crowd else 30)))
            central.spare()
            if self.rpc is not None:
                self.rpc.heal()
            await self._quiet(running)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            await central.stop()
            await asyncio.gather(running, return_exceptions=True)
            if self.rpc is not None:
                await self.rpc.aclose()
            if self.chain is not None:
                await self.chain.aclose()
        if not running.cancelled() and (error := running.exception()) is not None:
            raise error
        self.outcome.places = central.places
        self.outcome.seen["killed"] += central.died
        self.outcome.seen["faults"] += self.rpc.wrong if self.rpc else 0
        await self._audit(desk, stories)

    async def _nodes(self) -> list[Node]:
        found: list[Node] = []
        for number in range(NODES):
            wallet = str(Keypair.from_seed(self.rng.randbytes(32)).pubkey()) if number else ""
            node = Node(
                NodeId(new_id()),
                UserId(new_id()),
                f"n{number}",
                hardware(),
                START,
                START,
                wallet_address=wallet,
                public_key=self.rng.randbytes(32),
            )
            found.append(node)
        await self.store.write(lambda tx: [tx.add_node(node) for node in found])
        return found

    def _ledger(self, store: Any, life: Life | None) -> Ledger:
        if self.chain is None or self.rpc is None:
            return CreditsLedger(store, welcome_units=0)
        keys = self.chain.genesis.keys
        deployment = Deployment(
            network="localnet",
            endpoint="in process",
            program=local_id(Program.ESCROW),
            mint=self.chain.genesis.mint,
            platform=keys.platform,
            arbiter=keys.judge.pubkey,
            custody=b"c" * 32,
            staking=local_id(Program.STAKING),
        )
        rpc: Any = self.rpc if life is None else MortalRpc(self.rpc, life)
        return SolanaLedger(store, self.clock, rpc, Send(store, self.clock, rpc, self.policy), deployment, _nothing)

    async def _fund(self, ledger: Ledger, story: Story) -> None:
        account = ledger.client_account(story.owner)
        if story.balance <= 0:
            return
        self.granted += story.balance
        if self.chain is not None:
            await self.chain.token_airdrop(Pubkey.from_string(account), story.balance)
        else:
            await ledger.grant(account, story.balance, story.owner)

    async def _quiet(self, running: asyncio.Task[None]) -> None:
        """Waits until no payment is open and nothing that was sent is still on its way."""
        query = PaymentQuery(states=OPEN_PAYMENT_STATES, limit=10)
        soon, until = self.clock.now() + SOON, self.clock.now() + LONGEST
        await self.clock.sleep(150)
        while found := (await self.store.read(lambda tx: tx.payments(query))).items:
            if running.done():
                return
            if self.clock.now() > soon:
                await self._check_waiting(found)
            if self.clock.now() > until:
                raise Broken("; ".join(f"payment {each.id} never ended ({each.state}): {each.error}" for each in found))
            await self.clock.sleep(400)

    async def _check_waiting(self, found: Sequence[Payment]) -> None:
        """A deadline is waited for only where a job has not ended."""
        for each in found:
            job = await self.store.read(lambda tx, each=each: tx.job(each.job_id))
            if job is None or job.ended:
                raise Broken(f"payment {each.id} is not settled ({each.state}), and its job is over: {each.error}")

    async def _audit(self, desk: Payments, stories: list[Story]) -> None:
        seen, truth = self.outcome.seen, self.truth
        expected: Counter[str] = Counter()
        fees = 0
        for story in stories:
            seen.update(story.seen)
            payments = await self.store.read(lambda tx, story=story: tx.payments_of(story.job_id))
            for payment in payments:
                seen[f"{payment.state}"] += 1
                query = MovementQuery(payment_id=payment.id, limit=10_000)
                moves = (await self.store.read(lambda tx, query=query: tx.movements(query))).items
                seen["pay"] += any(each.kind == "pay" and each.state == "confirmed" for each in moves)
                seen["signed anew"] += any(each.state == "failed" for each in moves)
                check_payment(payment, moves, truth)
            earned = owed(story, payments)
            for account, units in earned.items():
                expected[account] += units
            paid = sum(payment.paid_units for payment in payments)
            expected[desk.ledger.client_account(story.owner)] += story.balance - paid
            fees += sum(fee_of(payment.paid_units, payment.fee_bps) for payment in payments)
            await self._check_events(story)
        platform = PLATFORM if self.chain is None else str(self.chain.genesis.keys.platform.pubkey)
        expected[platform] += fees
        for account, units in expected.items():
            if (have := await truth.units(account)) != units:
                raise Broken(f"account {account[:8]} has {have} where it must have {units}")
        if sum(expected.values()) != self.granted:
            raise Broken(f"{self.granted} were given out, and {sum(expected.values())} are there")
        if self.chain is not None and self.chain.owned_by(local_id(Program.ESCROW)):
            raise Broken("an escrow is left open")
        await self._check_movements()

    async def _check_events(self, story: Story) -> None:
        """Whoever is told of a transaction finds it."""
        if self.chain is None or not isinstance(self.truth, ChainTruth):
            return
        events = await self.store.read(lambda tx: tx.events(0, frozenset({f"job:{story.job_id}"}), 10_000))
        for stored in events:
            said = stored.data
            if (
                stored.kind == JobPayment.kind
                and said["reference"]
                and self.truth.status(said["reference"]) != "landed"
            ):
                raise Broken(f"payment {said['payment_id']}: its {said['step']} is told as {said['reference']}")

    async def _check_movements(self) -> None:
        """Also of what belongs to no payment."""
        found = (await self.store.read(lambda tx: tx.movements(MovementQuery(state="pending", limit=10)))).items
        if found:
            raise Broken(f"in doubt for ever: {[(each.kind, each.reference) for each in found]}")


async def _nothing() -> None:
    return None
