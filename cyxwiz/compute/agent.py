"""The node's loop: dial central, prove who it is, run what it is given, report, and keep going when central is away.

Promises: a run goes on while there is no connection, and what it reports is in the journal before it is sent; a result
is uploaded before it is reported; whatever central does not want any more is ended. A run of an earlier life of the
node that had not ended is lost and not claimed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from pathlib import Path

from cyxwiz import __version__
from cyxwiz.compute.agent_settings import AgentSettings
from cyxwiz.compute.data.fetch import DataCache
from cyxwiz.compute.identity import Identity
from cyxwiz.compute.leftovers import Leftovers
from cyxwiz.compute.outbox import Outbox
from cyxwiz.compute.p2p.hub import FINISHED, Hub
from cyxwiz.compute.packages import Packages
from cyxwiz.compute.runs import FULL_DISK_WAIT_SECONDS, Limits, Record, Runner, token_of
from cyxwiz.compute.uploads import Files
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import Token, new_id
from cyxwiz.domain.node import Hardware, LoadSample
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.central_link import CentralLink, LinkSession
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.executor import Executor
from cyxwiz.ports.node_journal import NodeJournal
from cyxwiz.runtime.lifecycle import Service
from cyxwiz.runtime.tasks import Tasks, spawn
from cyxwiz.services.hardware import hardware_to, sample_to

log = logging.getLogger(__name__)

PROTOCOL = 1
RECONNECT_SECONDS = (0.2, 5.0)  # first wait, and the longest; jittered
FLUSH_SECONDS = 3.0  # how long a stop waits for the last acknowledgements
ENDING_SECONDS = 5.0  # a run that was cancelled ends within two
REFUSED = frozenset({Code.UNAUTHENTICATED, Code.FORBIDDEN, Code.UNSUPPORTED, Code.INVALID})
Key = tuple[str, Token]


class Agent(Service):
    def __init__(
        self,
        link: CentralLink,
        executor: Executor,
        journal: NodeJournal,
        clock: Clock,
        identity: Identity,
        settings: AgentSettings,
        hardware: Hardware,
        sample: Callable[[int], LoadSample],
        *,
        detect: Callable[[], Hardware] | None = None,
        closed: Callable[[], str] | None = None,
        p2p: Hub | None = None,
        boot_id: str = "",
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`detect` looks at the hardware again; `closed` says why the owner's limits let the node not work now, or
        nothing. Both may block: they are called in a thread."""
        super().__init__()
        self._detect = detect
        self._look = closed
        self.closed_reason = ""
        self.network_rate = 0.0  # bytes a second to central, once measured
        self._link = link
        self._executor = executor
        self._journal = journal
        self._clock = clock
        self._identity = identity
        self._settings = settings
        self._hardware = hardware
        self._sample = sample
        self._boot_id = boot_id or new_id()
        self._jitter = jitter
        self._records: dict[Key, Record] = {}
        self._tasks = Tasks()
        self._session: LinkSession | None = None
        sizes = _sizes(hardware)
        threads = max(1, hardware.cpu_cores // settings.max_concurrent_jobs)
        self._files = Files(link, clock, self._renew)
        self._data = DataCache(settings.directory / "cache", settings.fetch, clock, link.fetch_blob)
        self._p2p = p2p or Hub(identity.node_id, clock, max_data_bytes=settings.fetch.max_dataset_bytes)
        self._p2p.hardware = hardware
        folder, packages = settings.directory / "packages", settings.packages
        self._packages = None if packages is None else Packages(folder, packages, executor, clock)
        limits = Limits(threads, settings.data_roots, sizes, settings.gang_address)
        self._runner = Runner(
            executor, journal, self._files, self._data, clock, limits, identity, self._p2p, self._tell, self._packages
        )
        self._beat_at = self._round_trip = self._heard_at = 0.0
        self._draining = False
        self._welcomed = False  # on the present stream, or the last one
        self._timeout = 30.0
        self._outbox = Outbox(journal, self._files, clock)
        self._leftovers = Leftovers(self.jobs_directory, settings.keep_results_seconds, clock, self._p2p.swept)
        self._done: deque[Key] = deque(maxlen=1000)  # an Assign that comes twice is not run twice
        self.connected = asyncio.Event()  # welcomed at least once
        self.dialled = asyncio.Event()  # a dial came to its end, welcomed or not

    @property
    def jobs_directory(self) -> Path:
        return self._settings.directory / "jobs"

    @property
    def active(self) -> int:
        return sum(not record.ended for record in self._records.values())

    # life

    async def run(self) -> None:
        await self._recall()
        self._executor.warm()
        if self._look is not None:
            await self._mind(self._look)
            spawn(self._keep_minding(self._look), name="owner's limits", group=self._tasks)
        if self._detect is not None:
            spawn(self._keep_detecting(self._detect), name="hardware", group=self._tasks)
        self.ready()
        wait, longest = RECONNECT_SECONDS
        try:
            while not self.stopping.is_set():
                welcomed = await self._connect_once()
                self.dialled.set()
                wait = RECONNECT_SECONDS[0] if welcomed else min(longest, wait * 2)
                await self.idle(wait * (0.5 + self._jitter()))
        finally:
            await self._p2p.aclose()
            await self._tasks.aclose()
            await self._data.aclose()
            self._leftovers.close()
            if self._packages is not None:
                await self._packages.aclose()

    async def _recall(self) -> None:
        """What an earlier life left: results not yet acknowledged are sent, runs that died with it are forgotten."""
        for lease in await self._journal.leases():
            directory = self._directory(lease.assign)
            record = Record(lease.assign, directory, lease.last_seq, lease.acked_seq, ended=True)
            if not lease.ended:
                await self._journal.forget(*record.key)
                self._leftovers.remove(directory)
                continue
            self._records[record.key] = record
        owed = {record.directory for record in self._records.values()}
        found = [each for each in self._leftovers.found() if each not in owed]
        for each in found:
            self._leftovers.keep(each, stale=not (each / FINISHED).exists())
        self._p2p.recall([*found, *owed])
        for record in self._records.values():
            self._p2p.owes(record, await self._journal.unacknowledged(*record.key, record.last_seq - 1))

    async def stop(self, grace: float = 5.0) -> None:
        """Takes nothing new, lets runs save themselves and results go out within `grace`, ends the rest; says good-bye.

        While a result is still owed it leaves without a word: a good-bye would end the lease. It is sent at the next
        start.
        """
        if self._task is None or self.stopping.is_set():
            await super().stop(grace)
            return
        self._draining = True
        deadline = self._clock.monotonic() + grace
        self.yield_runs("its node was stopped")
        await self._until(lambda: self.active == 0, grace)
        for record in list(self._records.values()):
            if not record.ended:
                record.dropped = True
                record.moved.set()
                if record.run is not None:
                    await record.run.cancel()
        if self._session is not None:
            await self._until(lambda: not self._owed, max(FLUSH_SECONDS, deadline - self._clock.monotonic()))
            if self._owed:
                log.warning("%d results are not sent yet: they are at the next start", len(self._owed))
            elif (session := self._session) is not None and self._welcomed:  # it may be gone after the wait
                await self._say_farewell(session)
        self.stopping.set()
        if self._session is not None:
            await self._session.aclose()
        await super().stop(1.0)

    @property
    def _owed(self) -> list[Record]:
        """What central does not know yet."""
        return [record for record in self._records.values() if not record.settled]

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = self._clock.monotonic() + seconds
        while not condition() and self._clock.monotonic() < deadline:
            await self._clock.sleep(0.02)

    async def _say_farewell(self, session: LinkSession) -> None:
        try:
            await session.send(pb.NodeMessage(farewell=pb.Farewell(message="the node was stopped")))
            await self._clock.sleep(0.1)  # lets the stream carry it before it is closed
        except CyxError as error:
            log.info("central was not told good-bye: %s", error.message)

    # the owner's limits and the hardware

    async def _keep_minding(self, look: Callable[[], str]) -> None:
        while True:
            await self._clock.sleep(self._settings.look_seconds)
            await self._mind(look)

    async def _mind(self, look: Callable[[], str]) -> None:
        """Opens or closes the node, and tells central at once."""
        reason = await asyncio.to_thread(look)
        before, self.closed_reason = self.closed_reason, reason
        if reason == before:
            return
        log.info("the node takes no jobs: %s", reason) if reason else log.info("the node takes jobs again")
        await self._tell(pb.NodeMessage(beat=self._sampled()))
        if reason and not before:
            self.yield_runs(reason)

    async def _keep_detecting(self, detect: Callable[[], Hardware]) -> None:
        while True:
            await self._clock.sleep(self._settings.detect_seconds)
            found = await asyncio.to_thread(detect)
            changes = found.changes(self._hardware)
            self._hardware = found
            if changes:
                log.warning("the hardware changed: %s", "; ".join(changes))
                self._runner.resize(_sizes(found))
                self._p2p.hardware = found
                await self._tell(pb.NodeMessage(hardware=hardware_to(found)))

    async def _tell(self, message: pb.NodeMessage) -> None:
        """Sends it if there is a connection; a Hello or a heartbeat says the same later."""
        session = self._session
        if session is None or not self._welcomed:
            return
        try:
            await session.send(message)
        except CyxError as error:
            log.info("central was not told: %s", error.message)

    def _sampled(self) -> pb.Beat:
        beat = sample_to(self._measured())
        beat.closed_reason, beat.network_bytes_per_second = self.closed_reason, self.network_rate
        beat.data_keys.extend(self._data.inventory())
        return beat

    # one connection

    async def _connect_once(self) -> bool:
        """One stream, from dialling to its end; whether central welcomed the node."""
        self._welcomed = False
        try:
            self._session = session = await self._link.open()
            self._heard_at = self._clock.monotonic()
            try:
                await session.send(pb.NodeMessage(hello=self._hello()))
                await self._listen(session)
            finally:
                self._session = None
                self._p2p.cut()
                await session.aclose()
        except CyxError as error:
            if error.code in REFUSED and not self.connected.is_set():
                raise
            log.warning("no connection to central: %s", error.message)
        return self._welcomed

    def _hello(self) -> pb.Hello:
        hello = self._settings.hello()
        hello.MergeFrom(
            pb.Hello(
                protocol_min=PROTOCOL,
                protocol_max=PROTOCOL,
                node_id=self._identity.node_id,
                public_key=self._identity.public_key,
                boot_id=self._boot_id,
                version=__version__,
                hardware=hardware_to(self._hardware),
                closed_reason=self.closed_reason,
                held=[
                    pb.Held(job_id=r.assign.job_id, token=r.assign.token, last_seq=r.last_seq, ended=r.ended)
                    for r in self._records.values()
                    if not r.dropped
                ],
            )
        )
        return hello

    async def _listen(self, session: LinkSession) -> None:
        duties = Tasks()
        try:
            async for message in session.receive():
                self._heard_at = self._clock.monotonic()
                kind = message.WhichOneof("body")
                if kind == "challenge":
                    signature = self._identity.sign_hello(message.challenge.nonce)
                    await session.send(pb.NodeMessage(proof=pb.Proof(signature=signature)))
                elif kind == "welcome":
                    await self._welcome(session, message.welcome, duties)
                elif kind == "assign":
                    await self._take(session, message.assign, duties)
                elif kind == "cancel":
                    self._cancel(message.cancel)
                elif kind == "preempt":
                    self._preempt(message.preempt)
                elif kind == "ack":
                    await self._acked(message.ack)
                elif kind == "rendezvous":
                    self._answered(message.rendezvous)
                elif kind == "pulse" and self._beat_at:
                    self._round_trip, self._beat_at = self._heard_at - self._beat_at, 0.0
                elif kind == "relay":
                    self._p2p.relayed.receive(session, message.relay)
                elif kind == "answer":
                    self._p2p.answered(message.answer)
        finally:
            await duties.aclose()

    async def _welcome(self, session: LinkSession, welcome: pb.Welcome, duties: Tasks) -> None:
        log.info("connected to central as node %s", welcome.node_id)
        self._link.session_token = welcome.session_token
        self._p2p.welcomed(session, welcome.p2p_secret)
        self._timeout = welcome.lease_timeout_ms / 1000
        interval = welcome.heartbeat_interval_ms / 1000
        if self._settings.heartbeat_seconds is not None:
            interval = min(interval, self._settings.heartbeat_seconds)
        for ack in welcome.acks:
            await self._acked(ack)
        self._welcomed = True
        self.connected.set()
        spawn(self._beat(session, interval), name="heartbeat", group=duties)
        for record in list(self._records.values()):
            spawn(self._outbox.send(session, record), name=f"send {record.assign.job_id}", group=duties)
            for question in list(record.asked.values()):
                await session.send(question)

    def _answered(self, answer: pb.RendezvousAnswer) -> None:
        record = self._records.get((answer.job_id, token_of(answer)))
        if record is not None and record.asked.pop(answer.id, None) is not None and record.run is not None:
            record.run.answer(answer.id, answer.value)

    async def _beat(self, session: LinkSession, interval: float) -> None:
        """Tells central that the node lives. The stream does not outlive it: whatever ends it, the node dials again."""
        try:
            while self._clock.monotonic() - self._heard_at <= self._timeout:
                beat = self._sampled()
                beat.round_trip_seconds = self._round_trip
                self._beat_at = self._clock.monotonic()
                await session.send(pb.NodeMessage(beat=beat))
                for record in self._records.values():
                    record.send_again_if_stalled()
                self._leftovers.sweep()
                await self._clock.sleep(interval)
            log.warning("central has been silent for %.0f s: dialling again", self._timeout)
        except CyxError:
            return  # the stream is gone: who reads it learns why, and dials again
        except Exception:
            log.exception("the heartbeat failed: dialling again")
        await session.aclose()

    def _measured(self) -> LoadSample:
        try:
            self._p2p.sample = self._sample(self.active)
            return self._p2p.sample
        except Exception:
            log.exception("the load of this machine can't be read")
            return LoadSample(self._clock.now(), active_jobs=self.active)

    async def _renew(self) -> None:
        """Dials again for a new session token: Welcome brings it."""
        if self._session is not None and self._welcomed:
            log.info("central does not take this node's session token any more: dialling again")
            await self._session.aclose()

    # leases

    def _directory(self, assign: pb.Assign) -> Path:
        return self.jobs_directory / assign.job_id / str(token_of(assign))

    async def _take(self, session: LinkSession, assign: pb.Assign, duties: Tasks) -> None:
        record = Record(assign, self._directory(assign))
        if record.key in self._records or record.key in self._done:
            return
        if reason := self._why_full():
            refusal = pb.Refusal(job_id=assign.job_id, token=assign.token, message=reason)
            await session.send(pb.NodeMessage(refusal=refusal))
            return
        self._records[record.key] = record
        try:
            await self._journal.take(assign, self._boot_id)
        except CyxError as error:
            del self._records[record.key]
            refusal = pb.Refusal(job_id=assign.job_id, token=assign.token, message=error.message)
            await session.send(pb.NodeMessage(refusal=refusal))
            return
        self._p2p.taken(record)
        spawn(self._run_record(record), name=f"run {assign.job_id}", group=self._tasks)
        spawn(self._outbox.send(session, record), name=f"send {assign.job_id}", group=duties)

    def _why_full(self) -> str:
        if self._draining or self.stopping.is_set():
            return "the node is stopping"
        if self.closed_reason:
            return f"the node is closed: {self.closed_reason}"
        taken = sum(not record.ended and not record.dropped for record in self._records.values())
        return "all slots of the node are busy" if taken >= self._settings.max_concurrent_jobs else ""

    async def _run_record(self, record: Record) -> None:
        try:
            # What central wants no more has a moment to end: the slot and the GPU are given on already.
            dropped = [each for each in self._records.values() if each.dropped and each is not record]
            await self._until(lambda: all(each.ended for each in dropped), ENDING_SECONDS)
            await self._runner.run(record)
        finally:
            record.ended = True
            record.moved.set()
            self._p2p.lost(record)
            if record.dropped:
                await self._forget(record)
            self._executor.warm()

    def _cancel(self, cancel: pb.Cancel) -> None:
        """Central does not want this lease any more: ends the run, or forgets what was left to say of it."""
        record = self._records.get((cancel.job_id, token_of(cancel)))
        self._p2p.dropped(cancel)
        if record is None or record.dropped:
            return
        log.info("job %s is to stop here: %s", cancel.job_id, cancel.message)
        record.dropped = True
        record.moved.set()
        if cancel.reason == pb.Cancel.STALE:
            self._leftovers.keep(record.directory, stale=True)
        spawn(self._end(record), name=f"end {cancel.job_id}", group=self._tasks)

    def _preempt(self, preempt: pb.Preempt) -> None:
        record = self._records.get((preempt.job_id, token_of(preempt)))
        if record is not None:
            self._yield(record, preempt.message or "central wants it elsewhere")

    def _yield(self, record: Record, reason: str) -> None:
        """The run saves itself and stops; a run that is only starting does so at once."""
        if record.ended or record.dropped or record.preempted:
            return
        log.info("job %s is to save itself and stop here: %s", record.assign.job_id, reason)
        record.preempted = reason
        if record.run is not None:
            record.run.preempt()

    def yield_runs(self, reason: str) -> None:
        """Every run saves itself and stops: its job goes on elsewhere."""
        for record in self._records.values():
            self._yield(record, reason)

    async def _end(self, record: Record) -> None:
        if record.ended:
            await self._forget(record)
        elif record.run is not None:
            await record.run.cancel()

    async def _acked(self, ack: pb.Ack) -> None:
        record = self._records.get((ack.job_id, token_of(ack)))
        if record is None:
            return
        try:
            await self._journal.acknowledge(ack.job_id, token_of(ack), ack.seq)
        except CyxError as error:  # what stays in the journal is sent once more after a restart, and passed over
            log.warning("an acknowledgement for job %s is not journalled: %s", ack.job_id, error.message)
        record.acknowledged(ack.seq)
        self._p2p.confirmed(record)
        if record.settled and record.ended:
            spawn(self._forget(record), name=f"forget {ack.job_id}", group=self._tasks)

    async def _forget(self, record: Record) -> None:
        """Nothing is owed for this lease. A result's files stay for a while; what was cancelled goes at once."""
        if self._records.pop(record.key, None) is None:
            return  # somebody else is at it
        self._done.append(record.key)
        while True:
            try:
                await self._journal.forget(*record.key)
                break
            except CyxError as error:
                log.warning("job %s stays in the journal for now: %s", record.assign.job_id, error.message)
                await self._clock.sleep(FULL_DISK_WAIT_SECONDS)
        if record.dropped and record.directory not in self._leftovers:
            self._leftovers.remove(record.directory)
        else:
            self._leftovers.keep(record.directory, stale=False)


def _sizes(hardware: Hardware) -> tuple[int, ...]:
    """The memory of each GPU, 0 where it is unknown: then it fits only a job that asks for none."""
    return tuple(gpu.memory_total_bytes or 0 for gpu in hardware.gpus)
