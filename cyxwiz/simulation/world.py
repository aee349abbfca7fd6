"""The world of one history: central, nodes, links and users, all in one event loop on virtual time.

A crash cancels every task of a process and kills its handles; a restart builds it anew over what its disk keeps.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import random
import re
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cyxwiz import config
from cyxwiz.app.core import Core, build_core
from cyxwiz.compute.agent import Agent
from cyxwiz.compute.agent_settings import AgentSettings
from cyxwiz.compute.identity import Identity
from cyxwiz.compute.journal import SqliteJournal
from cyxwiz.domain.account import Principal, Role
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import NodeId, UserId, new_id
from cyxwiz.domain.job import Device, JobSpec, JobType, Priority
from cyxwiz.domain.node import DeviceInfo, Hardware, LoadSample
from cyxwiz.ports.executor import Work
from cyxwiz.runtime.clock import VirtualClock
from cyxwiz.runtime.lifecycle import Service
from cyxwiz.runtime.tasks import Tasks, spawn
from cyxwiz.services.accounts import OPEN_USER
from cyxwiz.services.gateway import NodeGateway
from cyxwiz.services.jobs import Jobs
from cyxwiz.simulation.disk import JournalHandle, LossyBus, SimStore, StoreHandle
from cyxwiz.simulation.executor import Draw, Ending, SimExecutor, weights_path
from cyxwiz.simulation.faults import TIMEOUT_SECONDS
from cyxwiz.simulation.invariants import Books, Expected, NodeSeen, Violation, check_ends, unsettled
from cyxwiz.simulation.link import SimLink, Way

T = TypeVar("T")

GIB = 1 << 30
ADMIN = Principal(UserId("00000000-0000-4000-8000-00000000000a"), "admin", Role.ADMIN)
MODEL = '{"layers": [{"type": "Dense", "units": 10}]}'
ASK_AGAIN_SECONDS = 1.0
TRACE_KEPT = 400
_RESULTS = "SELECT job_id, node_id, token_epoch, token_counter, weights_hash FROM job_results"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@functools.cache
def settings() -> config.Config:
    flags = {
        "auth.mode": "open",
        "auth.jwt_secret": "simulated, and long enough for HS256",
        "auth.p2p_secret": "simulated, and long enough for HS256",
        "auth.admin_secret": "simulated, and long enough for HS256",
        "scheduler.node_heartbeat_timeout_ms": int(TIMEOUT_SECONDS * 1000),
        "scheduler.job_poll_interval_ms": 5000,
        "scheduler.retry_backoff_ms": 300,
        "scheduler.retry_backoff_max_ms": 2000,
        "scheduler.preempt_after_seconds": 2,
        "scheduler.preempt_least_seconds": 1,
        "reputation.half_life_hours": 0.001,  # faults are many, and no node is to be left without jobs for them
        "reputation.strikes": 0,
    }
    return config.load(file=None, environ={}, overrides=flags).config


class Trace:
    """What happened, a line each; ids are shortened to names, and all lines go into one digest."""

    def __init__(self, clock: VirtualClock) -> None:
        self.names: dict[str, str] = {OPEN_USER.id: "user", ADMIN.id: "admin"}
        self.lines: deque[str] = deque(maxlen=TRACE_KEPT)
        self.frozen = False
        self._clock = clock
        self._hash = hashlib.blake2b(digest_size=16)

    def note(self, text: str) -> None:
        if self.frozen:
            return
        line = f"{self._clock.monotonic():10.4f}  {_UUID.sub(self._name, text)}"
        self.lines.append(line)
        self._hash.update(line.encode())

    def _name(self, found: re.Match[str]) -> str:
        return self.names.get(found[0], found[0][:8])

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


@dataclass(slots=True)
class Plan:
    """What was drawn for one job, and what was done to it."""

    number: int
    spec: JobSpec
    breaks_left: int  # runs of it that fail and may be tried again: no more than are allowed
    fails_share: float  # how likely a run of it is to fail for good
    job_id: str = ""
    cancelled: bool = False
    may_fail: bool = False


class Central:
    """One life of central. `link.Door`."""

    def __init__(self, world: World, number: int) -> None:
        self.name = f"c{number}"
        self._world = world
        self._tasks = Tasks()
        self.disk = StoreHandle(world.store, world.clock, world.rng, world.committed)
        self.disk.trouble = world.store_trouble
        self._core: Core | None = None

    @property
    def core(self) -> Core:
        assert self._core is not None, "central is not started"
        return self._core

    @property
    def gateway(self) -> NodeGateway:
        return self.core.gateway

    @property
    def jobs(self) -> Jobs:
        return self.core.jobs

    async def start(self) -> None:
        """Raises CyxError when its store does not let it."""
        world = self._world
        self._core = await build_core(
            settings(), self.disk, world.bus, world.clock, nonce=lambda: world.rng.randbytes(32)
        )
        for service in self._core.loops():
            self.spawn(self._loop(service), service.name)

    async def _loop(self, service: Service) -> None:
        try:
            await service.run()
        except CyxError as error:
            self._world.fail(f"central's {service.name} died of {error!r}")

    def spawn(self, coro: Coroutine[Any, Any, None], name: str) -> asyncio.Task[Any]:
        return spawn(coro, name=f"{self.name} {name}", group=self._tasks)

    async def ask(self, asked: Coroutine[Any, Any, T]) -> T:
        answers: list[T] = []
        errors: list[CyxError] = []

        async def answer() -> None:
            try:
                answers.append(await asked)
            except CyxError as error:
                errors.append(error)

        task = self.spawn(answer(), "ask")
        await asyncio.wait({task})
        if errors:
            raise errors[0]
        if not answers:
            raise CyxError(Code.UNAVAILABLE, "Central died before it answered")
        return answers[0]

    async def kill(self) -> None:
        self.disk.kill()
        await self._tasks.aclose()


class SimNode:
    """A node: its disk and its way to central stay, its lives come and go."""

    def __init__(self, world: World, number: int, directory: Path, slots: int) -> None:
        self.name = f"n{number}"
        self.way = Way(world.rng, world.clock, world.trace.note)
        self.journal = SqliteJournal(None)
        self.disk_trouble: Code | None = None
        self.gone = False
        self.banned_until = 0.0
        self.agent: Agent | None = None
        self.executor: SimExecutor | None = None
        self.disk: JournalHandle | None = None
        self._world = world
        self._lives = 0
        self._watch: asyncio.Task[Any] | None = None
        key = Ed25519PrivateKey.from_private_bytes(world.rng.randbytes(32))
        self.identity = Identity(NodeId(new_id()), key)
        world.trace.names[self.identity.node_id] = self.name
        self.directory = directory / self.name
        self._settings = AgentSettings(self.name, "", slots, "", None, self.directory, 3600.0)

    def trouble_disk(self, trouble: Code | None) -> None:
        self.disk_trouble = trouble
        if self.disk is not None:
            self.disk.trouble = trouble

    async def boot(self) -> None:
        """Raises CyxError when its disk does not let it."""
        world = self._world
        self._lives += 1
        self.disk = JournalHandle(self.journal, world.clock, world.rng)
        self.disk.trouble = self.disk_trouble
        self.executor = SimExecutor(world.clock, world.draw_run)
        link = SimLink(
            self.way, lambda: world.central, world.blobs, f"{self.name}.{self._lives}", self.identity.node_id
        )
        agent = self.agent = Agent(
            link,
            self.executor,
            self.disk,
            world.clock,
            self.identity,
            self._settings,
            Hardware("Simulated CPU", 8, 64 * GIB, 64 * GIB, (DeviceInfo(Device.CPU, "Simulated CPU"),)),
            lambda active: LoadSample(world.clock.now(), active_jobs=active),
            boot_id=new_id(),
            jitter=world.rng.random,
        )
        try:
            await agent.start()
        except CyxError:
            self.agent = None
            raise
        if self.agent is agent:  # else it crashed while it started
            self._watch = spawn(self._die(agent), name=f"{self.name} watch", group=world.watches)

    async def _die(self, agent: Agent) -> None:
        error = await agent.died()
        world = self._world
        banned = isinstance(error, CyxError) and error.code is Code.FORBIDDEN
        if not banned or world.clock.monotonic() > self.banned_until:
            world.fail(f"{self.name} died of {error!r}")
            return
        world.trace.note(f"{self.name} is banned, and its process has ended")
        spawn(self._come_back(), name=f"{self.name} comes back", group=world.actions)

    async def _come_back(self) -> None:
        await self.crash(0.0)
        await self._world.clock.sleep(ASK_AGAIN_SECONDS)
        if self.agent is None and not self.gone:
            await self._world.boot(self)

    async def crash(self, central_learns: float) -> None:
        """The machine is gone between two instructions: nothing is written, sent or said any more."""
        agent, self.agent = self.agent, None
        if agent is None or self.disk is None or self.executor is None:
            return
        if self._watch is not None:
            self._watch.cancel()
        self.disk.kill()
        self.executor.kill()
        for session in list(self.way.sessions):
            session.node_died(central_learns)
        task = agent._task  # a crash asks nobody, so it has no method
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def leave(self) -> None:
        agent = self.agent
        if agent is not None:
            await agent.stop(2.0)
            await self.crash(0.0)

    async def seen(self) -> NodeSeen:
        alive = len(self.executor.alive) if self.executor else 0
        return NodeSeen(self.identity.node_id, self.gone, alive, len(await self.journal.leases()))


class World:
    """Everything that exists, and what is known of it."""

    def __init__(
        self, seed: int, store: SimStore, directory: Path, *, jobs: int, nodes: int, lost_hints: float = 0.0
    ) -> None:
        self.clock = VirtualClock()
        self.rng = random.Random(f"world {seed}")  # noqa: S311  it must be repeatable
        self.bus = LossyBus(self.rng, lost_hints)
        self.store = store
        store.begin(self.clock, self.bus)
        self.trace = Trace(self.clock)
        self.blobs: dict[str, bytes] = {}
        self.store_trouble: Code | None = None
        self.violation: str | None = None
        self.broken = asyncio.Event()
        self.watches, self.actions = Tasks(), Tasks()
        scheduler = settings().scheduler
        self.books = Books(
            store.rows,
            scheduler.max_retries,
            scheduler.max_node_losses,
            self.trace.note,
            self.trace.names,
            scheduler.preempt_most,
        )
        self.plans = [self._plan(number) for number in range(1, jobs + 1)]
        self.central: Central | None = None
        self._lives = 0
        self.nodes = [SimNode(self, number, directory, self.rng.randint(1, 2)) for number in range(1, nodes + 1)]

    def _plan(self, number: int) -> Plan:
        rng = self.rng
        spec = JobSpec(
            name=f"j{number}",
            type=JobType.TRAINING,
            dataset_uri="builtin:digits",
            model=MODEL,
            epochs=rng.randint(1, 6),
            seed=number,
            priority=rng.choice(list(Priority)),
        )
        most = settings().scheduler.max_retries
        breaks = rng.choice([0, 0, 0, 1, rng.randint(0, most)])
        return Plan(number, spec, breaks, rng.choice([0.0, 0.0, 0.0, 0.0, 0.0, 0.3]))

    # what central and the nodes tell it

    def committed(self) -> None:
        """Called after each commit, before anybody else learns of it."""
        if self.violation is None:
            try:
                self.books.check()
            except Violation as violation:
                self.fail(str(violation))

    def fail(self, what: str) -> None:
        """The first thing that went wrong ends the history."""
        if self.violation is None:
            self.violation = _UUID.sub(lambda found: self.trace.names.get(found[0], found[0]), what)
            self.trace.note(f"VIOLATION {what}")
            self.trace.frozen = True
            self.broken.set()

    def draw_run(self, work: Work) -> Draw:
        plan, rng = self.plans[work.seed - 1], self.rng
        ending = Ending.FINISHES
        if rng.random() < plan.fails_share:
            ending, plan.may_fail = Ending.FAILS, True
        elif plan.breaks_left and rng.random() < 0.6:
            ending = rng.choice([Ending.BREAKS, Ending.WONT_START])
            plan.breaks_left -= 1
        epoch_seconds = rng.choice([0.05, 1.0, 4.0]) * rng.uniform(0.5, 1.5)
        self.trace.note(f"run of {work.job_id} {work.work_dir.name} {ending}, {epoch_seconds:.2f} s an epoch")
        return Draw(ending, epoch_seconds, rng.randint(1, work.epochs), rng.random() * 0.5, rng.random() * 2.0)

    def trouble_store(self, trouble: Code | None) -> None:
        self.store_trouble = trouble
        if self.central is not None:
            self.central.disk.trouble = trouble

    # lives

    async def start_central(self) -> None:
        """Starts it until it stays up, as whatever supervises it would."""
        while True:
            self._lives += 1
            central = Central(self, self._lives)
            try:
                await central.start()
            except CyxError as error:
                self.trace.note(f"{central.name} does not start: {error.message}")
                await central.kill()
                await self.clock.sleep(ASK_AGAIN_SECONDS)
                continue
            self.trace.note(f"{central.name} is up")
            self.central = central
            return

    async def boot(self, node: SimNode) -> None:
        while not node.gone:
            try:
                await node.boot()
            except CyxError as error:
                self.trace.note(f"{node.name} does not start: {error.message}")
                await self.clock.sleep(ASK_AGAIN_SECONDS)
                continue
            self.trace.note(f"{node.name} is up")
            return

    # users

    async def submit(self, plan: Plan, lost_answers: float) -> None:
        """A client that asks until it has an answer, with one idempotency key; answers may be lost."""
        while True:
            job, _ = await self._insist(lambda core: core.jobs.submit(OPEN_USER, plan.spec, f"key {plan.number}"))
            if plan.job_id not in ("", job.id):
                self.fail(f"one key made two jobs: {plan.job_id} and {job.id}")
            plan.job_id = job.id
            if self.rng.random() >= lost_answers:
                return
            self.trace.note(f"the answer to the submit of j{plan.number} is lost")

    async def cancel(self, plan: Plan) -> None:
        if not plan.job_id:
            self.trace.note(f"j{plan.number} can't be cancelled: nobody knows its id yet")
            return
        plan.cancelled = True
        try:
            await self._insist(lambda core: core.jobs.cancel(OPEN_USER, plan.job_id))
        except CyxError as error:
            self.trace.note(f"j{plan.number} was not cancelled: {error.message}")

    async def cordon(self, node: SimNode, *, on: bool) -> None:
        await self._rule(node, lambda core: core.nodes.cordon(ADMIN, node.identity.node_id, on=on))

    async def ban(self, node: SimNode, seconds: float) -> None:
        """A banned node that restarts may not come back before its time, and its process ends at once."""
        node.banned_until = self.clock.monotonic() + seconds + 3 * TIMEOUT_SECONDS  # asking may take its time
        await self._rule(node, lambda core: core.nodes.ban(ADMIN, node.identity.node_id, seconds))
        node.banned_until = self.clock.monotonic() + seconds + ASK_AGAIN_SECONDS

    async def _rule(self, node: SimNode, command: Callable[[Core], Coroutine[Any, Any, Any]]) -> None:
        try:
            await self._insist(command)
        except CyxError as error:
            self.trace.note(f"{node.name} is not ruled: {error.message}")  # it has not joined yet

    async def _insist(self, question: Callable[[Core], Coroutine[Any, Any, T]]) -> T:
        """Asks central until it answers with something else than 'not now'."""
        while True:
            central = self.central
            try:
                if central is not None:
                    return await central.ask(question(central.core))
            except CyxError as error:
                if error.code in (Code.CONFLICT, Code.NOT_FOUND):
                    raise
                if error.code not in (Code.UNAVAILABLE, Code.EXHAUSTED):
                    self.fail(f"a user got {error!r}")
                    raise
            await self.clock.sleep(ASK_AGAIN_SECONDS)

    # the end

    async def unsettled(self) -> str | None:
        """Why it is not quiet yet."""
        if len(self.actions):
            return "a step is still under way"
        return unsettled(self.books, [await node.seen() for node in self.nodes], len(self.plans))

    def judge(self, *, gentle: bool) -> None:
        expected = {plan.job_id: Expected(plan.cancelled, plan.may_fail) for plan in self.plans}
        nodes = {node.identity.node_id: node for node in self.nodes}
        for job_id, node_id, epoch, counter, hashed in self.store.rows(_RESULTS):
            weights = self.blobs[hashed.removeprefix("sha256:")].decode()
            node = nodes[node_id]
            kept = node.gone or weights_path(node.directory / "jobs" / job_id / f"{epoch}-{counter}").exists()
            if job_id in expected:
                expected[job_id] = replace(expected[job_id], weights=weights, kept=kept)
        try:
            check_ends(self.books, expected, gentle=gentle)
        except Violation as violation:
            self.fail(str(violation))

    async def aclose(self) -> None:
        self.trace.frozen = True
        await self.actions.aclose()
        for node in self.nodes:
            await node.crash(0.0)
        if self.central is not None:
            await self.central.kill()
        await self.watches.aclose()
        for node in self.nodes:
            await node.journal.aclose()


class Ear(logging.Handler):
    """An error that the platform logs ends the history; a warning is a line of its trace."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.WARNING)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.name.removeprefix('cyxwiz.')}: {record.getMessage()}"
        if record.levelno >= logging.ERROR:
            self._world.fail(f"logged by {text}: {record.exc_info[1]!r}" if record.exc_info else f"logged by {text}")
        else:
            self._world.trace.note(f"warned by {text}")
