"""Central's end of a node's stream: whoever carries the messages hands them to `NodeGateway.serve`.

The rows of leases say what a node should run; the gateway works off the difference to what the node runs. It keeps no
truth of its own: a stream that breaks and comes back goes on from the store and the node's journal.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from cyxwiz.domain.base58 import parse_wallet
from cyxwiz.domain.errors import Code, CyxError, conflict, invalid
from cyxwiz.domain.ids import JobId, NodeId, Token, parse_node_id
from cyxwiz.domain.job import Intent, Job, Lease, Phase
from cyxwiz.domain.node import Node
from cyxwiz.domain.reputation import Kind, ReputationEvent
from cyxwiz.domain.states import HELD_JOB_STATES, JobState, LeaseState, NodeState
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.bus import Bus
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.store import Store, Tx
from cyxwiz.runtime.tasks import spawn
from cyxwiz.services import leases
from cyxwiz.services.accounts import Accounts
from cyxwiz.services.assignment import assignment
from cyxwiz.services.hardware import hardware_of, sample_of
from cyxwiz.services.links import learn
from cyxwiz.services.nodes import Nodes, Registration, verify_proof
from cyxwiz.services.owner_commands import obey
from cyxwiz.services.pricing import pricing_of
from cyxwiz.services.relay import Relay, RelayLink
from cyxwiz.services.rendezvous import Rendezvous
from cyxwiz.services.reports import Reporting, held, instant, token_of, token_to
from cyxwiz.services.reservation_commands import ReservationCommands
from cyxwiz.services.secrets import Secrets

log = logging.getLogger(__name__)

PROTOCOL = 1
HANDSHAKE_SECONDS = 20.0
MAX_CLOSED_REASON = 200  # characters of why a node is closed
MAX_HELD = 5000  # leases of one node
MAX_HELLO = 1 << 20  # bytes of what a stranger says before it proves anything, which is kept meanwhile
_WRONG = (Code.INVALID, Code.CONFLICT)  # no repetition of such a report would be taken
# Streams of one address without a proof yet; one more ends the oldest, so that none locks others out.
MAX_UNPROVED = 500
MAX_QUEUED = 1000  # messages of one node not yet applied; beyond, its stream is not read
Key = tuple[JobId, Token]


class Sender(Protocol):
    def __call__(self, message: pb.CentralMessage) -> Awaitable[None]: ...


@dataclass(slots=True)
class _Session:
    node: Node
    boot_id: str
    send: Sender
    given: set[Key] = field(default_factory=set[Key])  # what the node has, as far as it was told or said itself
    asked: set[Key] = field(default_factory=set[Key])  # told to save and stop
    aside: set[Key] = field(default_factory=set[Key])  # given back, or told to stop; what becomes of their jobs is told
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # reports are taken, or what they changed is settled
    leaving: bool = False  # it has said good-bye
    relay: RelayLink | None = None
    superseded: asyncio.Event = field(default_factory=asyncio.Event)


class NodeGateway:
    def __init__(
        self,
        store: Store,
        bus: Bus,
        clock: Clock,
        nodes: Nodes,
        accounts: Accounts,
        secrets: Secrets,
        reporting: Reporting,
        reserved: ReservationCommands,
        *,
        poll_seconds: float,
        nonce: Callable[[], bytes] = lambda: os.urandom(32),
    ) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._nodes = nodes
        self._accounts = accounts
        self._secrets = secrets
        self._reporting = reporting
        self._reserved = reserved
        self._rendezvous = Rendezvous(store)
        self._poll = poll_seconds
        self._nonce = nonce
        self.relay = Relay(secrets, clock)
        self._sessions: dict[NodeId, _Session] = {}
        self._unproved: dict[str, list[asyncio.Timeout]] = {}

    async def serve(
        self, incoming: AsyncIterator[pb.NodeMessage], send: Sender, *, peer_host: str = "", local: bool = False
    ) -> None:
        """Serves one stream until the node leaves, the stream ends or a newer stream of the same node takes over.

        `local` is true for a node that shares central's process or data directory.

        Raises:
            CyxError: what the stream is to be ended with.
        """
        async with self._handshake(peer_host):
            hello, node_id = await self._prove(incoming, send)
        session = await self._welcome(hello, node_id, send, peer_host, local)
        previous = self._sessions.get(node_id)
        if previous is not None:
            previous.superseded.set()
        self._sessions[node_id] = session
        session.relay = self.relay.attach(node_id, lambda frame: send(pb.CentralMessage(relay=frame)))
        try:
            await self._converse(session, incoming)
        finally:
            self.relay.detach(node_id, session.relay)
            if self._sessions.get(node_id) is session:
                del self._sessions[node_id]
                self._nodes.liveness.cut(node_id)

    # handshake

    @asynccontextmanager
    async def _handshake(self, peer_host: str) -> AsyncGenerator[None]:
        """Counts an unproved stream of that address. Raises TimeoutError when it takes too long or is pushed out."""
        under_way = self._unproved.setdefault(peer_host, [])
        async with asyncio.timeout(HANDSHAKE_SECONDS) as limit:
            under_way.append(limit)
            if len(under_way) > MAX_UNPROVED and not (earlier := under_way[-1 - MAX_UNPROVED]).expired():
                earlier.reschedule(asyncio.get_running_loop().time())
            try:
                yield
            finally:
                under_way.remove(limit)
                if not under_way:
                    del self._unproved[peer_host]

    async def _prove(self, incoming: AsyncIterator[pb.NodeMessage], send: Sender) -> tuple[pb.Hello, NodeId]:
        """What a node that has its key says of itself."""
        hello = (await self._next(incoming, "hello")).hello
        if (size := hello.ByteSize()) > MAX_HELLO:
            raise invalid(f"hello: at most {MAX_HELLO} bytes, not {size}", field="hello")
        if not hello.protocol_min <= PROTOCOL <= hello.protocol_max:
            raise CyxError(
                Code.UNSUPPORTED,
                f"This central speaks protocol {PROTOCOL}, the node {hello.protocol_min} to {hello.protocol_max}",
            )
        node_id = parse_node_id(hello.node_id)
        nonce = self._nonce()
        await send(pb.CentralMessage(challenge=pb.Challenge(nonce=nonce)))
        proof = (await self._next(incoming, "proof")).proof
        verify_proof(hello.public_key, nonce, hello.node_id, proof.signature)
        if len(hello.held) > MAX_HELD:
            raise invalid(f"held: at most {MAX_HELD} leases, not {len(hello.held)}", field="held")
        return hello, node_id

    async def _welcome(self, hello: pb.Hello, node_id: NodeId, send: Sender, peer_host: str, local: bool) -> _Session:
        registration = _registration(hello, peer_host)
        claims = [(JobId(h.job_id), token_of(h.token)) for h in hello.held]

        def unit(tx: Tx) -> tuple[Node, list[pb.Ack], set[Key]]:
            node = self._nodes.join(tx, node_id, registration, hello.join_token, local=local)
            self._nodes.liveness.close(node_id, hello.closed_reason[:MAX_CLOSED_REASON])
            acks, given = self._resume(tx, node, claims)
            self._nodes.reconcile(tx, node, claims)
            return node, acks, given

        node, acks, given = await self._store.write(unit)
        timeout = self._nodes.liveness.timeout_seconds
        await send(
            pb.CentralMessage(
                welcome=pb.Welcome(
                    protocol=PROTOCOL,
                    node_id=node.id,
                    heartbeat_interval_ms=max(50, int(timeout * 1000 / 3)),
                    lease_timeout_ms=int(timeout * 1000),
                    session_token=self._accounts.node_session(node.id),
                    p2p_secret=self._secrets.p2p_for(node.id, legacy=False),
                    acks=acks,
                )
            )
        )
        return _Session(node, hello.boot_id, send, given)

    async def _next(self, incoming: AsyncIterator[pb.NodeMessage], kind: str) -> pb.NodeMessage:
        async for message in incoming:
            if message.WhichOneof("body") != kind:
                raise invalid(f"The stream must go on with {kind}, not {message.WhichOneof('body') or 'nothing'}")
            return message
        raise CyxError(Code.UNAVAILABLE, f"The stream ended before {kind}")

    def _resume(self, tx: Tx, node: Node, claims: list[Key]) -> tuple[list[pb.Ack], set[Key]]:
        """What was committed of each lease that the node says it has; a silent one that still counts revives."""
        acks: list[pb.Ack] = []
        given: set[Key] = set()
        for job_id, token in claims:
            given.add((job_id, token))
            lease = tx.lease(job_id, token)
            if lease is None or lease.node_id != node.id:
                continue
            acks.append(pb.Ack(job_id=job_id, token=token_to(token), seq=lease.last_seq))
            if lease.state is LeaseState.EXPIRED:
                try:
                    job, lease = held(tx, node.id, job_id, token)
                except CyxError as error:
                    log.info("lease %s of job %s stays expired: %s", token, job_id, error.message)
                else:
                    leases.revive(tx, job, lease)
        return acks, given

    # conversation

    async def _converse(self, session: _Session, incoming: AsyncIterator[pb.NodeMessage]) -> None:
        queue: asyncio.Queue[pb.NodeMessage | None] = asyncio.Queue(MAX_QUEUED)
        try:
            async with asyncio.TaskGroup() as group:
                name = session.node.name
                directing = spawn(self._direct(session), name=f"gateway direct {name}", group=group)
                reading = spawn(self._read(session, incoming, queue), name=f"gateway read {name}", group=group)
                displaced = spawn(session.superseded.wait(), name=f"gateway displaced {name}", group=group)
                applying = spawn(self._apply_all(session, queue), name=f"gateway apply {name}", group=group)
                await asyncio.wait({applying, displaced}, return_when=asyncio.FIRST_COMPLETED)
                for task in (directing, reading, displaced, applying):
                    task.cancel()
        except BaseExceptionGroup as many:
            raise many.exceptions[0] from None
        if session.superseded.is_set():
            raise conflict(
                "This node has connected anew: if it did not, another one runs on a copy of its data directory"
            )

    async def _read(
        self, session: _Session, incoming: AsyncIterator[pb.NodeMessage], queue: asyncio.Queue[pb.NodeMessage | None]
    ) -> None:
        # No finally: a reader that is cancelled must not wait for room in a queue that nobody empties any more.
        async for message in incoming:
            if session.relay is not None and message.HasField("relay"):
                session.relay.receive(message.relay)  # bounded by its own grants, and never waits for the store
            else:
                await queue.put(message)
        await queue.put(None)

    async def _direct(self, session: _Session) -> None:
        """Tells the node what to run and what to stop, whenever its leases change."""
        with_hints = self._bus.subscribe(leases.lease_topic(session.node.id))
        try:
            while True:
                async with session.turn:
                    messages = await self._settle(session)
                for message in messages:  # not in its turn: who waits for the node must not keep its reports waiting
                    await session.send(message)
                await with_hints.changed(self._poll)
        finally:
            with_hints.close()

    async def _settle(self, session: _Session) -> list[pb.CentralMessage]:
        """What the node is to be told, which the session knows from here on as told."""
        node_id = session.node.id

        def unit(tx: Tx) -> tuple[NodeState | None, dict[Key, tuple[Lease, Job, pb.Assign | None]], set[Key]]:
            live: dict[Key, tuple[Lease, Job, pb.Assign | None]] = {}
            for lease in tx.live_leases(node_id):
                key, job = (lease.job_id, lease.token), tx.job(lease.job_id)
                if job is not None:
                    live[key] = (lease, job, None if key in session.given else assignment(tx, job, lease))
            gone = session.given - live.keys()
            return tx.node_state(node_id), live, {key for key in session.aside | gone if _over(tx.job(key[0]), key)}

        state, live, over = await self._store.read(unit)
        if session.leaving:
            return []
        if state in (None, NodeState.OFFLINE):
            # Its leases have expired, and may revive: only a new Hello says what it holds.
            raise CyxError(Code.UNAVAILABLE, "This node was silent for too long: dial again")
        gone = session.given - live.keys()
        session.given -= gone
        told = session.aside & over  # not of a job that begins here again: its new lease is told first
        session.aside = (session.aside | gone) - over
        messages = [await self._why_stop(node_id, key) for key in sorted(gone)]  # what ends makes room for what begins
        for key, (lease, job, assign) in live.items():
            if assign is not None:
                session.given.add(key)
                messages.append(pb.CentralMessage(assign=assign))
            elif job.intent is not Intent.RUN and key not in session.asked:
                session.asked.add(key)
                preempt = pb.Preempt(job_id=job.id, token=token_to(lease.token), message=job.reason)
                messages.append(pb.CentralMessage(preempt=preempt))
        session.asked &= live.keys()
        return messages + [await self._why_stop(node_id, key) for key in sorted(told - gone)]

    async def _why_stop(self, node_id: NodeId, key: Key) -> pb.CentralMessage:
        """A Cancel; or, for the lease whose result was taken, its Ack: the node keeps the files of a result. Of a lease
        that it only says that it has, a node is told nothing."""
        token = token_to(key[1])

        def unit(tx: Tx) -> pb.CentralMessage:
            job, lease = tx.job(key[0]), tx.lease(*key)
            if job is None or lease is None or lease.node_id != node_id or job.token != lease.group:
                reason, message = pb.Cancel.STALE, "another node has this job now"
            elif (job.state is JobState.COMPLETED or job.phase is Phase.VERIFYING) and not lease.rank:
                return pb.CentralMessage(ack=pb.Ack(job_id=key[0], token=token, seq=lease.last_seq))
            else:
                # CANCELLED is what clients are told as the end of the job, so it is said of nothing else.
                cancelled = job.state is JobState.CANCELLED or lease.rank
                reason = pb.Cancel.CANCELLED if cancelled else pb.Cancel.STALE
                message = lease.end_reason
            return pb.CentralMessage(cancel=pb.Cancel(job_id=key[0], token=token, reason=reason, message=message))

        return await self._store.read(unit)

    async def _apply_all(self, session: _Session, queue: asyncio.Queue[pb.NodeMessage | None]) -> None:
        """Applies messages in order, all that wait in one unit."""
        while True:
            batch = [await queue.get()]
            while not queue.empty():
                batch.append(queue.get_nowait())
            self._nodes.liveness.heard(session.node.id)
            over = None in batch
            messages = [message for message in batch if message is not None]
            reports: dict[Key, list[pb.Report]] = {}
            for message in messages:
                kind = message.WhichOneof("body")
                if kind == "report":
                    key = (JobId(message.report.job_id), token_of(message.report.token))
                    reports.setdefault(key, []).append(message.report)
                elif kind == "beat":
                    await self._beat(session, message.beat)
                elif kind == "hardware":
                    await self._changed(session, message.hardware)
                elif kind == "refusal":
                    await self._refused(session, message.refusal)
                elif kind == "rendezvous":
                    await self._rendezvous.ask(session.node.id, message.rendezvous, session.send)
                elif kind == "links":
                    await learn(self._store, session.node.id, message.links)
                elif kind == "command":
                    await self._apply(session, reports)  # what was said before counts before
                    reports = {}
                    await self._command(session, message.command)
                elif kind == "farewell":
                    await self._apply(session, reports)
                    session.leaving = True
                    await self._nodes.farewell(session.node.id, message.farewell.message)
                    return
                else:
                    raise invalid(f"Unexpected message {kind or 'without a body'}: this central doesn't know it")
            await self._apply(session, reports)
            if over:
                return

    async def _apply(self, session: _Session, reports: dict[Key, list[pb.Report]]) -> None:
        """Every lease's reports in a unit of its own: one that is stale or wrong takes nothing of the others along."""
        async with session.turn:
            results = await asyncio.gather(
                *(self._apply_one(session, key, batch) for key, batch in reports.items()), return_exceptions=True
            )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _apply_one(self, session: _Session, key: Key, batch: list[pb.Report]) -> None:
        def unit(tx: Tx) -> Lease:
            return self._reporting.apply(tx, session.node.id, session.boot_id, batch)

        try:
            lease = await self._store.write(unit)
        except CyxError as error:
            if error.code in _WRONG:
                # The same report would come again for ever: its lease ends, the stream and its other leases go on.
                log.warning("node %s reports what can't be of job %s: %s", session.node.name, key[0], error.message)
                refused = error
                await self._store.write(lambda tx: self._end_wrong(tx, session.node.id, key, refused))
            elif error.code is not Code.STALE:
                raise
            elif key in session.aside:
                return  # it was told to stop before it could read this; another time means that the job went elsewhere
            told = await self._why_stop(session.node.id, key)
            cancelled = told.HasField("cancel") and told.cancel.reason == pb.Cancel.CANCELLED
            reason = pb.Cancel.CANCELLED if cancelled else pb.Cancel.STALE
            session.given.discard(key)
            session.aside.add(key)
            cancel = pb.Cancel(job_id=key[0], token=token_to(key[1]), reason=reason, message=error.message)
            await session.send(pb.CentralMessage(cancel=cancel))
            return
        if lease.state is LeaseState.ENDED:
            session.given.discard(key)
            if batch[-1].HasField("preempted"):
                session.aside.add(key)
        await session.send(pb.CentralMessage(ack=pb.Ack(job_id=key[0], token=token_to(key[1]), seq=lease.last_seq)))

    def _end_wrong(self, tx: Tx, node_id: NodeId, key: Key, error: CyxError) -> None:
        try:
            job, lease = held(tx, node_id, *key)
        except CyxError as stale:
            log.info("a wrong report of a lease that no longer counts: %s", stale.message)
            return
        if lease.live and job.state in HELD_JOB_STATES:
            message = f"Its node's report was refused: {error.message}"
            leases.retry_or_fail(tx, job, lease, self._nodes.policy, str(error.code), message[:2000], True)
            event = ReputationEvent(Kind.REFUSED, job.id, error.message)
            self._reporting.reputation.record(tx, node_id, event, failed=1)
        elif lease.state is not LeaseState.ENDED:
            leases.end(tx, lease, "its report was refused")

    async def _beat(self, session: _Session, beat: pb.Beat) -> None:
        await session.send(pb.CentralMessage(pulse=pb.Pulse(at_ms=int(self._clock.now().timestamp() * 1000))))
        self._nodes.liveness.keeps(session.node.id, beat.data_keys)
        self._nodes.liveness.measured(session.node.id, beat.round_trip_seconds, beat.network_bytes_per_second)
        sample = sample_of(beat, instant(beat.at_ms, self._clock.now()))
        news = self._nodes.liveness.close(session.node.id, beat.closed_reason[:MAX_CLOSED_REASON])

        def unit(tx: Tx) -> None:
            self._expect_online(tx, session)
            tx.add_load(session.node.id, sample)
            if news:
                tx.hint(leases.QUEUE, f"node:{session.node.id}")

        await self._store.write(unit)

    async def _changed(self, session: _Session, report: pb.Hardware) -> None:
        hardware = hardware_of(report)

        def unit(tx: Tx) -> None:
            self._expect_online(tx, session)
            self._nodes.hardware_changed(tx, session.node.id, hardware)

        await self._store.write(unit)

    async def _command(self, session: _Session, command: pb.OwnerCommand) -> None:
        answer = pb.OwnerAnswer(number=command.number)
        try:
            if command.reservation_id:
                answer.job_id = await self._reserved.obey(session.node, command)
            else:
                await self._store.write(lambda tx: obey(tx, session.node, command))
        except CyxError as error:
            answer.code, answer.message = str(error.code), error.message
        await session.send(pb.CentralMessage(answer=answer))

    def _expect_online(self, tx: Tx, session: _Session) -> None:
        state = tx.node_state(session.node.id)
        if state is not NodeState.ONLINE:
            # It was silent for too long, or is banned: only a new Hello puts that right, and says what it holds.
            raise CyxError(Code.UNAVAILABLE, f"This node is {state or 'unknown'} for central: dial again")

    async def _refused(self, session: _Session, refusal: pb.Refusal) -> None:
        key = (JobId(refusal.job_id), token_of(refusal.token))

        def unit(tx: Tx) -> None:
            try:
                job, lease = held(tx, session.node.id, *key)
            except CyxError as error:
                log.info("refusal of a lease that no longer counts: %s", error.message)
                return
            if lease.state is LeaseState.OFFERED:
                leases.decline(tx, job, lease, self._nodes.policy, refusal.message or "no reason given")

        await self._store.write(unit)
        session.given.discard(key)  # not before: an offer that stands would be sent again


def _registration(hello: pb.Hello, peer_host: str) -> Registration:
    if hello.wallet_address:
        parse_wallet(hello.wallet_address)
    return Registration(
        name=hello.name,
        hardware=hardware_of(hello.hardware),
        region=hello.region,
        host=hello.advertise_host or peer_host,
        port=hello.advertise_port,
        wallet_address=hello.wallet_address,
        version=hello.version,
        max_concurrent_jobs=hello.max_concurrent_jobs,
        services=tuple(hello.services),
        features=tuple(hello.features),
        measured_score=hello.bench_score if 0 < hello.bench_score < math.inf else None,
        keep_results_seconds=hello.keep_results_seconds if hello.HasField("keep_results_seconds") else None,
        certificate_fingerprint=hello.certificate_fingerprint,
        public_key=hello.public_key,
        boot_id=hello.boot_id,
        pricing=pricing_of(hello.pricing) if hello.HasField("pricing") else None,
    )


def _over(job: Job | None, key: Key) -> bool:
    """Whether a job that a node gave back has ended, or went on with another lease."""
    return job is None or job.ended or job.token != key[1]
