"""The life of a job as the scheduler would write it, drawn by chance, and what it demands of the money."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Protocol, TypeVar

from cyxwiz.domain.account import Principal, Role
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import JobId, UserId, new_id
from cyxwiz.domain.job import Intent, Job, JobSpec, JobType, Phase, Resources
from cyxwiz.domain.money import DUST_UNITS
from cyxwiz.domain.node import Node
from cyxwiz.domain.payment import Payment
from cyxwiz.domain.states import JobState, JobTrigger, PaymentState
from cyxwiz.domain.verification import Mode
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.store import Store, Tx
from cyxwiz.services import leases
from cyxwiz.services.payments import Payments, settled

T = TypeVar("T")
POLICY = leases.RetryPolicy(100, 100, timedelta(seconds=1), timedelta(seconds=2))
NONE = JobId("")
INTERVAL = 60  # seconds of a stream's


class Bank(Protocol):
    """What can be seen of the ledger without any fault."""

    def locked(self, payment: Payment) -> bool: ...


@dataclass(frozen=True, slots=True)
class Leg:
    """The job's time on one node, or on a gang's: seconds between two reports, how many, and how it goes on."""

    nodes: tuple[Node, ...]
    beat: float
    beats: int
    end: str  # yield, lost, retry, decline; of the last: complete, fail, cancel


@dataclass(slots=True)
class Story:
    """What was drawn for a job, and what came of it.

    Args:
        units: locked at first. rate: units a second of all members.
        patience: seconds that its owner waits for it to start, before it is cancelled.
        top_up: units that are added each time that its money runs out; 0 cancels, and None waits for the deadline.
        forgets: the job is deleted when it has ended.
    """

    owner: UserId
    balance: int
    units: int
    rate: float
    streams: bool
    legs: list[Leg]
    patience: float
    top_up: int | None
    extra: int
    forgets: bool
    job_id: JobId = NONE
    seconds: float = 0.0  # that it ran
    seen: list[str] = field(default_factory=list)
    # of each payment: (nodes' account, all that was earned when it was that one's turn no longer)
    marks: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    loose: bool = False  # a top-up was on its way when the job was completed: it may count or not
    cost: int | None = None
    shared: dict[str, int] = field(default_factory=dict)  # of a completed job: what each payment owes in all

    @property
    def world(self) -> int:
        return len(self.legs[0].nodes)


class Broken(AssertionError):
    """Something that must hold does not."""


class Player:
    """Plays one story over a store without faults."""

    def __init__(
        self, story: Story, store: Store, clock: Clock, desk: Payments, bank: Bank, note: Callable[[str], None]
    ) -> None:
        self.story = story
        self._store, self._clock, self._desk, self._bank, self._note = store, clock, desk, bank, note

    async def play(self, start: float) -> None:
        story = self.story
        await self._clock.sleep(start)
        await self._submit()
        legs = list(story.legs)
        while legs:
            leg = legs.pop(0)
            if not await self._queued():
                break
            if await self._leg(leg) == "paused":
                if not await self._more():
                    break
                if not legs:
                    legs.append(leg)
        if story.forgets:
            for _ in range(100):
                await self._clock.sleep(5.0)
                if await self._change(self._forget) != "not yet":
                    break

    def _forget(self, tx: Tx, job: Job) -> str:
        """As `services.jobs` deletes a job."""
        if not job.ended or not settled(tx, job.id):
            return "not yet"
        tx.delete_job(job.id)
        self.story.seen.append("forgotten")
        return "gone"

    async def _submit(self) -> None:
        story = self.story
        spec = JobSpec(
            "job",
            JobType.TRAINING,
            "mock://digits",
            "{}",
            resources=Resources(nodes=story.world),
            verify=Mode.NONE if story.streams else Mode.SPOT,
        )
        job = Job(JobId(new_id()), story.owner, spec, self._clock.now())

        def unit(tx: Tx) -> None:
            tx.add_job(self._desk.open(tx, job, story.units, story.rate))

        try:
            await self._store.write(unit)
        except CyxError as error:
            if error.code is not Code.FUNDS:
                raise
            story.legs = story.legs[:1]
            story.seen.append("refused")
            return
        story.job_id = job.id
        self._note(f"{job.id[:4]} is submitted for {story.units}")

    async def _change(self, unit: Callable[[Tx, Job], T]) -> T | None:
        def whole(tx: Tx) -> T | None:
            job = tx.job(self.story.job_id) if self.story.job_id else None
            return None if job is None else unit(tx, job)

        return await self._store.write(whole)

    async def _queued(self) -> bool:
        """Waits until the job may start, as the scheduler does; False when it has ended or its owner gave up."""
        waited = 0.0
        while True:
            job = await self._store.read(lambda tx: tx.job(self.story.job_id) if self.story.job_id else None)
            if job is None or job.ended:
                self.story.seen.append("gone")
                return False
            if job.state is JobState.PENDING and job.phase is not Phase.AWAITING_PAYMENT:
                await self._paid_for()
                return True
            if job.state is JobState.PAUSED and waited:
                await self._short()
            if waited >= self.story.patience:
                self.story.seen.append("impatient")
                await self._change(lambda tx, job: None if job.ended else self._stop(tx, job))
                return False
            await self._clock.sleep(20.0)
            waited += 20.0

    async def _paid_for(self) -> None:
        payments = await self._store.read(lambda tx: tx.payments_of(self.story.job_id))
        if not payments:
            raise Broken(f"job {self.story.job_id} may start and has no payment")
        for each in payments:
            if each.state is PaymentState.PENDING or (each.open and not self._bank.locked(each)):
                raise Broken(f"job {self.story.job_id} may start, and payment {each.id} is not locked")

    async def _short(self) -> None:
        """A job that was topped up is paused only until that money is locked."""
        payments = await self._store.read(lambda tx: tx.payments_of(self.story.job_id))
        if not any(each.state is PaymentState.PENDING for each in payments):
            raise Broken(f"job {self.story.job_id} is paused, and its money is there")

    def _stop(self, tx: Tx, job: Job) -> None:
        self._mark(tx, job, None)
        leases.cancel(tx, job, "its owner", "changed mind")

    async def _leg(self, leg: Leg) -> str:
        story = self.story
        self._note(f"{story.job_id[:4]} goes to {leg.nodes[0].name}: {leg.beats} x {leg.beat:.0f} s, then {leg.end}")
        lease = await self._change(
            lambda tx, job: leases.issue(tx, job, *(node.id for node in leg.nodes)) if not job.ended else None
        )
        if lease is None:
            return "gone"
        await self._clock.sleep(1.0)
        if leg.end == "decline":
            await self._change(lambda tx, job: leases.decline(tx, job, lease, POLICY, "no"))
            return leg.end

        def accept(tx: Tx, job: Job) -> None:
            for each in leases.members(tx, lease):
                job, _ = leases.accept(tx, job, each, "boot")

        await self._change(accept)
        for _ in range(leg.beats):
            await self._clock.sleep(leg.beat)
            if (said := await self._change(lambda tx, job: self._report(tx, job, leg))) is not None:
                return said
        return await self._change(lambda tx, job: self._end(tx, job, leg)) or "gone"

    def _report(self, tx: Tx, job: Job, leg: Leg) -> str | None:
        """Progress, unless the job is wanted back. What came of it, when the leg is over."""
        if job.ended:
            return "gone"
        self.story.seconds += leg.beat
        job = tx.save_job(replace(job, progress=job.progress + (1 - job.progress) * 0.05))
        if job.intent is Intent.RUN:
            return None
        self._mark(tx, job, leg)
        lease = tx.lease(job.id, job.token) if job.token else None
        assert lease is not None
        paused = job.intent is Intent.PAUSE
        leases.yielded(tx, job, lease, POLICY, job.reason)
        self.story.seen.append("paused" if paused else "moved")
        return "paused" if paused else "moved"

    def _mark(self, tx: Tx, job: Job, leg: Leg | None) -> None:
        """Who had the job until now has what was earned until now; nothing is earned while nobody has it."""
        for each in tx.payments_of(job.id):
            marks = self.story.marks.setdefault(each.id, [])
            before = marks[-1][1] if marks else 0
            if each.earned_units < before:
                raise Broken(f"payment {each.id} had earned {before}, and now {each.earned_units}")
            if leg is not None:
                marks.append((self._desk.ledger.node_account(leg.nodes[each.member]), each.earned_units))
            elif each.earned_units != before:
                raise Broken(f"payment {each.id} has earned {each.earned_units - before} while nobody had its job")

    def _end(self, tx: Tx, job: Job, leg: Leg) -> str:
        if job.ended:
            return "gone"
        lease = tx.lease(job.id, job.token) if job.token else None
        assert lease is not None
        self._mark(tx, job, leg)
        self.story.seen.append(leg.end)
        match leg.end:
            case "yield":
                leases.yielded(tx, job, lease, POLICY, "its owner wants the machine")
            case "lost":
                leases.drop(tx, job, lease, POLICY, "silent")
            case "retry":
                leases.retry_or_fail(tx, job, lease, POLICY, "INTERNAL", "broke", True)
            case "fail":
                leases.retry_or_fail(tx, job, lease, POLICY, "INVALID", "a bad model", False)
            case "cancel":
                leases.cancel(tx, job, "its owner", "changed mind")
            case _:
                self._complete(tx, job, leg)
        return leg.end

    def _complete(self, tx: Tx, job: Job, leg: Leg) -> None:
        """As `services.reports` does; and how the cost is shared by what is locked."""
        story = self.story
        lease = tx.lease(job.id, job.token) if job.token else None
        assert lease is not None
        cost = story.cost = round(story.rate * story.seconds)
        leases.end_group(tx, lease, "completed")
        tx.save_job(
            job.move(
                JobTrigger.COMPLETE,
                phase=Phase.NONE,
                intent=Intent.RUN,
                progress=1.0,
                actual_cost_units=cost,
                completed_at=tx.now,
                reason="",
            )
        )
        left = [cost // story.world + (cost % story.world if member == 0 else 0) for member in range(story.world)]
        for each in tx.payments_of(job.id):
            if each.state is PaymentState.PENDING:
                story.loose = True
                continue
            part = min(each.amount_units, left[each.member])
            left[each.member] -= part
            owed = max(each.earned_units, part) if each.open else each.paid_units
            story.shared[each.id] = owed
            story.marks[each.id][-1] = (story.marks[each.id][-1][0], owed)

    async def _more(self) -> bool:
        """Adds to a job whose money has run out; False when that is its end."""
        story = self.story
        if story.top_up is None:
            return False
        actor = Principal(story.owner, "owner", Role.USER)
        while story.top_up and story.extra:
            await self._clock.sleep(20.0)
            try:
                await self._desk.top_up(actor, story.job_id, story.top_up)
            except CyxError as error:
                if error.code is Code.UNAVAILABLE:
                    continue
                if error.code not in (Code.FUNDS, Code.CONFLICT):
                    raise
                break
            story.extra -= 1
            story.seen.append("topped up")
            self._note(f"{story.job_id[:4]} is topped up by {story.top_up}")
            return True
        await self._change(lambda tx, job: None if job.ended else self._stop(tx, job))
        return False


def draw(rng: random.Random, owner: UserId, nodes: list[Node]) -> Story:
    """A job's life by chance."""
    world = 2 if rng.random() < 0.1 else 1
    rate = rng.choice([1e6, 1e6, 333_333.3, 12.7, 0.4, 0.011])
    beat = rng.choice([20.0, 31.0, 31.0, 59.0])
    legs = []
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3])):
        last = rng.choice(["yield", "lost", "retry", "yield", "lost", "decline"])
        at = rng.sample(range(len(nodes)), world) if rng.random() < 0.8 else list(range(world))
        legs.append(Leg(tuple(nodes[each] for each in at), beat, rng.choice([1, 2, 2, 3, 4]), last))
    legs[-1] = replace(legs[-1], end=rng.choice(["complete", "complete", "complete", "fail", "cancel"]))
    seconds = sum(leg.beat * leg.beats for leg in legs)
    enough = rng.choice([0.3, 0.3, 1.0, 1.3, 4.0])
    units = max(world, round(rate * world * seconds * enough))
    top_up = rng.choice([max(DUST_UNITS, units), max(DUST_UNITS, units // 3), 0, None])
    balance = units + rng.choice([0, 1, units, 2 * units, 3 * units])
    if rng.random() < 0.06:
        balance = units - 1
    return Story(
        owner=owner,
        balance=balance,
        units=units,
        rate=rate * world,
        streams=rng.random() < 0.65,
        legs=legs,
        patience=rng.choice([30.0, 600.0, 7200.0, 7200.0, 7200.0]),
        top_up=top_up,
        extra=3,
        forgets=rng.random() < 0.1,
    )
