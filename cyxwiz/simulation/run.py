"""Plays one history: builds the world, takes the steps, waits until all is quiet, and says what was found."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cyxwiz.bus.local import LocalBus
from cyxwiz.domain.errors import Code
from cyxwiz.domain.ids import ids_from
from cyxwiz.runtime.clock import VirtualClock, VirtualLoop
from cyxwiz.runtime.tasks import spawn
from cyxwiz.simulation.disk import SimStore
from cyxwiz.simulation.faults import TIMEOUT_SECONDS, Kind, Schedule, Step, draw
from cyxwiz.simulation.world import Ear, SimNode, World

QUIET_SECONDS = 1200.0  # after the last step, until everything must have ended
SHOWN_LINES = 50
_spare: list[SimStore] = []


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one history came to. `violation` is None when every promise held; `digest` is of the whole trace."""

    seed: int
    jobs: int
    nodes: int
    steps: int
    violation: str | None
    last_step: str
    virtual_seconds: float
    commits: int
    digest: str
    trace: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return self.violation is None

    def __str__(self) -> str:
        if self.ok:
            return f"seed {self.seed}: held, {self.commits} commits in {self.virtual_seconds:.0f} s, {self.digest}"
        again = f"cyxwiz simulate --seed {self.seed} --jobs {self.jobs} --nodes {self.nodes} --steps {self.steps}"
        lines = "\n".join(self.trace[-SHOWN_LINES:])
        return (
            f"{lines}\nseed {self.seed}: BROKEN at {self.virtual_seconds:.4f} s, after {self.last_step}\n"
            f"{self.violation}\nreplay: {again}"
        )


def simulate(seed: int, *, jobs: int = 6, nodes: int = 3, steps: int = 24) -> Outcome:
    """Plays the history of `seed`. The same arguments give the same outcome, to the last line of the trace."""
    with (
        tempfile.TemporaryDirectory(prefix="cyxwiz-simulation-") as directory,
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
    ):
        return runner.run(_play(seed, Path(directory), jobs, nodes, steps))


async def _play(seed: int, directory: Path, jobs: int, nodes: int, steps: int) -> Outcome:
    schedule = draw(random.Random(f"faults {seed}"), jobs=jobs, nodes=nodes, steps=steps)  # noqa: S311
    ids = random.Random(f"ids {seed}")  # noqa: S311
    store = _spare.pop() if _spare else SimStore(VirtualClock(), LocalBus())
    with ids_from(lambda: uuid.UUID(int=ids.getrandbits(128), version=4)):
        world = World(seed, store, directory, jobs=jobs, nodes=nodes, lost_hints=schedule.lost_hints)
        with _listening(world):
            history = History(world, schedule)
            try:
                await history.play()
            finally:
                ended_at = world.clock.monotonic()
                await world.aclose()
    _spare.append(store)
    return Outcome(
        seed,
        jobs,
        nodes,
        steps,
        world.violation,
        history.last_step,
        ended_at,
        world.books.commits,
        world.trace.digest,
        tuple(world.trace.lines),
    )


@contextlib.contextmanager
def _listening(world: World) -> Iterator[None]:
    """What the platform logs, and what asyncio complains of, goes to the world."""
    log = logging.getLogger("cyxwiz")
    before = (log.handlers[:], log.level, log.propagate)
    log.handlers[:], log.propagate = [Ear(world)], False
    log.setLevel(logging.WARNING)
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: world.fail(f"{context['message']}: {context.get('exception')!r}")
    )
    try:
        yield
    finally:
        log.handlers[:], log.propagate = before[0], before[2]
        log.setLevel(before[1])


class History:
    """The steps of one schedule, taken in one world."""

    def __init__(self, world: World, schedule: Schedule) -> None:
        self.world = world
        self.schedule = schedule
        self.last_step = "nothing"

    async def play(self) -> None:
        """Returns when all is quiet, or at the first broken promise."""
        world = self.world
        world.trace.note("a gentle history" if self.schedule.gentle else "a rough history")
        spawn(world.start_central(), name="central starts", group=world.actions)
        for node in world.nodes:
            spawn(world.boot(node), name=f"{node.name} starts", group=world.actions)
        for step in self.schedule.steps:
            if await self._broken_within(step.at - world.clock.monotonic()):
                return
            self.last_step = str(step)
            world.trace.note(f"--- {step}")
            spawn(self._take(step), name=str(step), group=world.actions)
        deadline = world.clock.monotonic() + QUIET_SECONDS
        while (reason := await world.unsettled()) is not None:
            if world.clock.monotonic() > deadline:
                world.fail(f"not quiet {QUIET_SECONDS:.0f} s after the last step: {reason}")
            if await self._broken_within(1.0):
                return
        world.judge(gentle=self.schedule.gentle)

    async def _broken_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self.world.broken.wait()
        except TimeoutError:
            return False
        return True

    async def _take(self, step: Step) -> None:
        world = self.world
        if step.kind is Kind.SUBMIT:
            await world.submit(world.plans[step.target - 1], step.share)
        elif step.kind is Kind.CANCEL:
            await world.cancel(world.plans[step.target - 1])
        elif step.kind is Kind.CENTRAL_CRASH:
            await self._central_crash(step)
        elif step.kind in (Kind.CENTRAL_DISK, Kind.STORE_AWAY):
            await self._store_trouble(step)
        else:
            await self._at_node(step, world.nodes[step.target - 1])

    async def _central_crash(self, step: Step) -> None:
        world = self.world
        central, world.central = world.central, None
        if central is None:
            return  # it is down already, and whoever took it down starts it
        for node in world.nodes:
            node.way.cut(up=True, down=True, node_learns=step.node_learns, central_learns=0.0)
        await central.kill()
        await world.clock.sleep(step.seconds)
        await world.start_central()

    async def _store_trouble(self, step: Step) -> None:
        world = self.world
        trouble = Code.EXHAUSTED if step.kind is Kind.CENTRAL_DISK else Code.UNAVAILABLE
        world.trouble_store(trouble)
        await world.clock.sleep(step.seconds)
        world.trouble_store(None)

    async def _at_node(self, step: Step, node: SimNode) -> None:
        if node.gone:
            return
        world, way = self.world, node.way
        if step.kind is Kind.CORDON:
            await world.cordon(node, on=True)
            await world.clock.sleep(step.seconds)
            await world.cordon(node, on=False)
        elif step.kind is Kind.BAN:
            await world.ban(node, step.seconds)
        elif step.kind is Kind.NODE_CRASH:
            await self._node_crash(step, node)
        elif step.kind is Kind.NODE_VANISHES:
            node.gone = True
            await node.crash(step.central_learns)
        elif step.kind is Kind.NODE_LEAVES:
            node.gone = True
            await node.leave()
        elif step.kind is Kind.CUT:
            way.blocked += 1
            way.cut(up=step.up, down=step.down, node_learns=step.node_learns, central_learns=step.central_learns)
            await world.clock.sleep(step.seconds)
            way.blocked -= 1
        elif step.kind is Kind.NODE_DISK:
            node.trouble_disk(Code.EXHAUSTED)
            await world.clock.sleep(step.seconds)
            node.trouble_disk(None)
        else:
            await self._on_the_way(step, node)

    async def _node_crash(self, step: Step, node: SimNode) -> None:
        if node.agent is None:
            return
        await node.crash(step.central_learns)
        await self.world.clock.sleep(step.seconds)
        if not node.gone:
            await self.world.boot(node)

    async def _on_the_way(self, step: Step, node: SimNode) -> None:
        """Faults of the way that end with their time, and leave it as it was."""
        way, now = node.way, self.world.clock.monotonic()
        before: dict[str, float] = {}
        if step.kind is Kind.STALL:
            way.stalled_until = max(way.stalled_until, now + step.seconds)
        elif step.kind is Kind.SLOW:
            before = way.change(slowest_seconds=step.share * TIMEOUT_SECONDS / 4)
        elif step.kind is Kind.NOISE:
            before = way.change(duplicates=step.share, swaps=step.share)
        elif step.kind is Kind.UPLOADS:
            before = way.change(lost_uploads=step.share)
        await self.world.clock.sleep(step.seconds)
        way.change(**before)
