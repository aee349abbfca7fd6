"""Nodes: joining, leaving, being looked at and being ruled."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cyxwiz.domain.account import Principal, Role
from cyxwiz.domain.errors import Code, CyxError, forbidden, invalid, not_found
from cyxwiz.domain.events import (
    NodeCameOnline,
    NodeCordoned,
    NodeHardwareChanged,
    NodeJoined,
    NodeUncordoned,
    NodeWentOffline,
)
from cyxwiz.domain.ids import JobId, NodeId, Token, UserId, new_id, parse_job_id, parse_node_id
from cyxwiz.domain.job import REMOTE, Job, Lease
from cyxwiz.domain.node import HELLO_CONTEXT, Hardware, LoadSample, Node
from cyxwiz.domain.pricing import NodePricing
from cyxwiz.domain.reputation import Kind, ReputationEvent
from cyxwiz.domain.states import LeaseState, LeaseTrigger, NodeState, NodeTrigger
from cyxwiz.ports.store import NodeQuery, Page, Store, Tx
from cyxwiz.services import leases
from cyxwiz.services.accounts import OPEN_USER, refuse_disabled, spend_join_token
from cyxwiz.services.audit import record
from cyxwiz.services.hardware import check_hardware, check_texts
from cyxwiz.services.leases import MAX_REASON, QUEUE, RetryPolicy
from cyxwiz.services.liveness import Liveness
from cyxwiz.services.reputation import Account, Line, Reputation

MAX_SLOTS = 1024
MAX_LISTED = 64  # services, formats, runtimes
MAX_KEEP_SECONDS = 86_400 * 3660
UNDER_ENGINE = "under the engine of a reservation"
MAX_PARDONED = 10_000  # nodes looked at for a ban that is over, at a time


@dataclass(frozen=True, slots=True)
class Registration:
    """What a node says of itself, from either kind of node."""

    name: str
    hardware: Hardware
    region: str = ""
    host: str = ""
    port: int = 0
    wallet_address: str = ""
    version: str = ""
    max_concurrent_jobs: int = 1
    services: tuple[str, ...] = ()
    certificate_fingerprint: str = ""
    public_key: bytes = b""
    boot_id: str = ""
    pricing: NodePricing | None = None
    supported_formats: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    measured_score: float | None = None
    keep_results_seconds: float | None = None


def check_registration(registration: Registration) -> None:
    """Raises INVALID for what no machine is."""
    if not 0 < len(registration.name) <= 100:
        raise invalid("name: must have 1 to 100 characters", field="name")
    if not 0 <= registration.port <= 65535:
        raise invalid(f"port: must be from 0 to 65535, not {registration.port}", field="port")
    if registration.keep_results_seconds is not None and not 0 <= registration.keep_results_seconds <= MAX_KEEP_SECONDS:
        raise invalid(f"keep_results_seconds: must be from 0 to {MAX_KEEP_SECONDS}", field="keep_results_seconds")
    if registration.max_concurrent_jobs > MAX_SLOTS:
        raise invalid(f"max_concurrent_jobs: at most {MAX_SLOTS}", field="max_concurrent_jobs")
    if len(registration.public_key) > 4096:
        raise invalid("public_key: at most 4096 bytes", field="public_key")
    for field in ("name", "region", "host", "wallet_address", "version", "certificate_fingerprint", "boot_id"):
        check_texts(field, [getattr(registration, field)])
    for field in ("services", "supported_formats", "runtimes"):
        check_texts(field, getattr(registration, field), most=MAX_LISTED)
    check_hardware(registration.hardware)


def verify_proof(public_key: bytes, nonce: bytes, node_id: str, signature: bytes) -> None:
    """Raises UNAUTHENTICATED unless the key's owner signed the nonce."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, HELLO_CONTEXT + nonce + node_id.encode())
    except (InvalidSignature, ValueError):
        raise CyxError(Code.UNAUTHENTICATED, "The node did not prove that it owns its key") from None


class Nodes:
    def __init__(
        self, store: Store, liveness: Liveness, policy: RetryPolicy, reputation: Reputation, *, open_mode: bool
    ) -> None:
        self._store = store
        self.liveness = liveness
        self.policy = policy
        self.reputation = reputation
        self._open = open_mode

    # joining

    def join(self, tx: Tx, node_id: NodeId, registration: Registration, join_token: str, *, local: bool) -> Node:
        """Takes in a node that has proved its key: a known one as it is, a new one against a join token.

        `local`: it shares central's data directory or process, which is credential enough.
        """
        check_registration(registration)
        node = tx.node(node_id)
        if node is not None and node.public_key != registration.public_key:
            raise forbidden(f"Node {node_id} has another key; this data directory needs an id of its own")
        if node is None:
            if local or self._open:
                admin = tx.user_by_name("admin")
                owner = admin.id if admin and local else OPEN_USER.id
            else:
                owner = spend_join_token(tx, join_token)
            node = self._create(tx, node_id, owner, registration, legacy=False, identity=f"key:{node_id}")
        self._refuse_banned(node, tx.now)
        _tell_changes(tx, node, registration.hardware)
        refuse_disabled(tx, node.owner_id)
        return self.came_online(tx, _updated(node, registration, tx.now))

    def hardware_changed(self, tx: Tx, node_id: NodeId, hardware: Hardware) -> None:
        """A connected node's machine is another than it said before: a GPU went or came, a driver was changed.

        Raises INVALID for what no machine has, NOT_FOUND.
        """
        check_hardware(hardware)
        node = tx.node(node_id)
        if node is None:
            raise not_found("node", node_id)
        _tell_changes(tx, node, hardware)
        tx.save_node(replace(node, hardware=hardware))
        tx.hint(QUEUE)

    def register_legacy(
        self, tx: Tx, registration: Registration, given_id: str, principal: Principal | None, join_token: str
    ) -> Node:
        """Registers a node by the unary call; one that registers again keeps its id.

        It is the same node if it says its id and may act for it, or if its owner registered the same name, address and
        wallet before.
        """
        check_registration(registration)
        known = tx.node(parse_node_id(given_id)) if _is_uuid(given_id) else None
        if principal is not None and principal.node_id is not None:
            known = tx.node(principal.node_id)
        if known is not None and self._may_claim(known, principal):
            owner = known.owner_id
        elif principal is not None and principal.role is not Role.NODE and (self._open or principal.role in _JOINERS):
            known, owner = None, principal.id
        else:
            known, owner = None, spend_join_token(tx, join_token)
        identity = hashlib.sha256(
            "\0".join(
                (registration.name, registration.host, str(registration.port), registration.wallet_address)
            ).encode()
        ).hexdigest()
        node = known or tx.node_by_identity(owner, identity)
        if node is None:
            node_id = NodeId(new_id())
            node = self._create(tx, node_id, owner, registration, legacy=True, identity=identity)
        self._refuse_banned(node, tx.now)
        refuse_disabled(tx, node.owner_id)
        return self.came_online(tx, replace(_updated(node, registration, tx.now), identity=identity))

    def _may_claim(self, node: Node, principal: Principal | None) -> bool:
        if not node.legacy:
            return False  # it proves its key on its own stream, or it is not that node
        if principal is None:
            return False
        return principal.node_id == node.id or principal.owns(node.owner_id)

    def _create(
        self, tx: Tx, node_id: NodeId, owner: UserId, registration: Registration, *, legacy: bool, identity: str
    ) -> Node:
        node = Node(
            id=node_id,
            owner_id=owner,
            name=registration.name,
            hardware=registration.hardware,
            registered_at=tx.now,
            last_seen_at=tx.now,
            legacy=legacy,
            identity=identity,
        )
        tx.add_node(node)
        tx.emit(NodeJoined(node.id, node.name))
        record(tx, node.name, "node.join", f"node:{node.id}", owner=owner, legacy=legacy)
        return node

    def _refuse_banned(self, node: Node, now: datetime) -> None:
        if node.banned(now):
            until = f"until {node.banned_until.isoformat()}" if node.banned_until else "for good"
            raise forbidden(f"Node {node.id} is banned {until}")

    def came_online(self, tx: Tx, node: Node) -> Node:
        if node.state is NodeState.BANNED:
            node = self.reputation.unban(tx, node, "its ban is over")
        if node.state is NodeState.OFFLINE:
            tx.emit(NodeCameOnline(node.id, node.name))
        node = tx.save_node(node.move(NodeTrigger.CONNECT, last_seen_at=tx.now))
        tx.hint(QUEUE)
        self.liveness.heard(node.id)
        return node

    def reconcile(self, tx: Tx, node: Node, claimed: Collection[tuple[JobId, Token]]) -> None:
        """Leases that central thinks a node runs, and the node does not, are lost at once, not after the time-out."""
        reason = "its node restarted and lost the run"
        gone = [
            (job, lease)
            for job, lease in leases.live(tx, node.id)
            if lease.state is LeaseState.ACTIVE and (lease.job_id, lease.token) not in claimed
        ]
        self._lost(tx, node.id, gone, reason)

    def _lost(self, tx: Tx, node_id: NodeId, gone: Sequence[tuple[Job, Lease]], reason: str) -> bool:
        """The node itself let leases go, and runs with them if they had begun: one event, however many. Whether there
        was one."""
        for job, lease in gone:
            leases.drop(tx, job, lease, self.policy, reason)
        begun = [lease.job_id for _, lease in gone if lease.state is LeaseState.ACTIVE]
        if begun:
            self.reputation.record(tx, node_id, ReputationEvent(Kind.DISCONNECT, begun[0], reason))
        return bool(begun)

    async def farewell(self, node_id: NodeId, reason: str) -> None:
        """It leaves on purpose: what it held is free now."""
        reason = reason[:MAX_REASON]  # everybody who follows nodes is told of it

        def unit(tx: Tx) -> None:
            why = f"its node left: {reason}" if reason else "its node left"
            if not self._lost(tx, node_id, leases.live(tx, node_id), why) and _engine_at(tx, node_id):
                self.reputation.record(tx, node_id, ReputationEvent(Kind.DISCONNECT, note=f"{why}, {UNDER_ENGINE}"))
            self.went_offline(tx, node_id, reason or "left")

        await self._store.write(unit)
        self.liveness.gone(node_id)

    def went_offline(self, tx: Tx, node_id: NodeId, reason: str) -> None:
        node = tx.node(node_id)
        if node is not None and node.state is NodeState.ONLINE:
            tx.save_node(node.move(NodeTrigger.LOSE))
            tx.emit(NodeWentOffline(node.id, node.name, reason))

    def expire(self, tx: Tx, node_id: NodeId, *, outage: bool = False) -> int:
        """A silent node is offline and its leases have expired; returns how many.

        `outage`: most nodes went silent at once, so that none of them is to blame.
        """
        self.went_offline(tx, node_id, "no heartbeat")
        live = leases.live(tx, node_id)
        for job, lease in live:
            if job.ended or job.token != lease.group:
                leases.end(tx, lease, "its job is over")
            elif lease.state is LeaseState.OFFERED and lease.world == 1:
                tx.save_lease(lease.move(LeaseTrigger.EXPIRE, ended_at=tx.now, end_reason="never taken"))
                leases.lose(tx, job, node_id, self.policy, "its node went silent before taking it")
            else:
                leases.expire(tx, job, lease, self.policy, "its node went silent")
        used = _engine_at(tx, node_id)
        if live or used:  # once, however many jobs it held
            kind = Kind.OUTAGE if outage else Kind.DISCONNECT if used else Kind.TIMEOUT
            note = f"silent with {len(live)} jobs{f', {UNDER_ENGINE}' if used else ''}"
            self.reputation.record(tx, node_id, ReputationEvent(kind, live[0][0].id if live else None, note))
        return len(live)

    def drop_overdue(self, tx: Tx, job_id: JobId, token: Token) -> bool:
        """Takes a job from a node that is there and holds it for longer than it may; False for one that is over."""
        job, lease = tx.job(job_id), tx.lease(job_id, token)
        if job is None or lease is None or not lease.live:
            return False
        reason = f"its node did not end it within {leases.longest(job).total_seconds():g} seconds"
        leases.drop(tx, job, lease, self.policy, reason)
        if not job.spec.dataset_uri.startswith(REMOTE):  # which waits for its client
            self.reputation.record(tx, lease.node_id, ReputationEvent(Kind.FAILURE, job.id, reason), failed=1)
        return True

    # looking

    async def get(self, node_id: str) -> Node:
        parsed = parse_node_id(node_id)
        node = await self._store.read(lambda tx: self._present(tx, parsed))
        if node is None:
            raise not_found("node", node_id)
        return node

    async def list(self, query: NodeQuery) -> Page[Node]:
        def unit(tx: Tx) -> Page[Node]:
            found = tx.nodes(query)
            return replace(found, items=[self.reputation.present(node, tx.now) for node in found.items])

        return await self._store.read(unit)

    async def fleet(self) -> Sequence[Node]:
        return await self._store.read(lambda tx: [self.reputation.present(node, tx.now) for node in tx.fleet()])

    async def account(self, actor: Principal, node_id: NodeId, limit: int) -> Account:
        """Why its score is what it is. Jobs and words of others are left out, but for its owner and admins."""

        def unit(tx: Tx) -> Account:
            node = tx.node(node_id)
            if node is None:
                raise not_found("node", node_id)
            account = self.reputation.account(tx, node, limit)
            if actor.owns(node.owner_id):
                return account
            return replace(account, lines=[_for_others(tx, actor, line) for line in account.lines])

        return await self._store.read(unit)

    async def metrics(
        self, node_id: str, start: datetime | None, end: datetime | None, limit: int = 1000
    ) -> Sequence[LoadSample]:
        node = await self.get(node_id)
        return await self._store.read(lambda tx: tx.load_samples(node.id, start, end, limit))

    # ruling

    async def cordon(self, actor: Principal, node_id: str, *, on: bool) -> Node:
        """Drain (take no new jobs, give back what runs with a checkpoint) or resume; its owner or an admin may."""
        parsed = parse_node_id(node_id)

        def unit(tx: Tx) -> Node:
            node = self._owned(tx, actor, parsed)
            if node.cordoned != on:
                node = tx.save_node(replace(node, cordoned=on))
                event = NodeCordoned if on else NodeUncordoned
                tx.emit(event(node.id, node.name))
                if on and not node.legacy:
                    for job, lease in leases.live(tx, node.id):
                        leases.preempt(tx, job, lease, "its node is drained", actor.name)
                record(tx, actor.name, "node.drain" if on else "node.resume", f"node:{node.id}")
                tx.hint(QUEUE)
            return node

        return await self._store.write(unit)

    async def ban(self, actor: Principal, node_id: str, seconds: float | None) -> Node:
        """No jobs and no connection until it ends; what it runs goes elsewhere."""
        actor.require(Role.ADMIN)
        parsed = parse_node_id(node_id)

        def unit(tx: Tx) -> Node:
            node = self._owned(tx, actor, parsed)
            until = tx.now + timedelta(seconds=seconds) if seconds else None
            node = self.reputation.ban(tx, node, until, f"by {actor.name}")
            record(tx, actor.name, "node.ban", f"node:{node.id}", until=until.isoformat() if until else None)
            return self.reputation.present(node, tx.now)

        return await self._store.write(unit)

    async def unban(self, actor: Principal, node_id: str) -> Node:
        """Ends a ban: the node may connect again, on probation. Raises CONFLICT for one that is not banned."""
        actor.require(Role.ADMIN)
        parsed = parse_node_id(node_id)

        def unit(tx: Tx) -> Node:
            node = self.reputation.unban(tx, self._owned(tx, actor, parsed), f"by {actor.name}")
            record(tx, actor.name, "node.unban", f"node:{node.id}")
            return node

        return await self._store.write(unit)

    async def end_bans(self) -> int:
        """Ends the bans whose time is over; returns how many."""

        def unit(tx: Tx) -> int:
            banned = tx.nodes(NodeQuery(status="banned", limit=MAX_PARDONED)).items
            over = [node for node in banned if not node.banned(tx.now)]
            for node in over:
                self.reputation.unban(tx, node, "its ban is over")
            return len(over)

        return await self._store.write(unit)

    async def complain(self, actor: Principal, node_id: str, job_id: str, reason: str) -> Node:
        """A complaint of a job's owner about a node that had it; raises as `Reputation.complain`."""
        parsed, job = parse_node_id(node_id), parse_job_id(job_id)
        await self._store.write(lambda tx: self.reputation.complain(tx, actor, parsed, job, reason))
        return await self.get(node_id)

    def _present(self, tx: Tx, node_id: NodeId) -> Node | None:
        node = tx.node(node_id)
        return None if node is None else self.reputation.present(node, tx.now)

    def _owned(self, tx: Tx, actor: Principal, node_id: NodeId) -> Node:
        node = tx.node(node_id)
        if node is None:
            raise not_found("node", node_id)
        if not actor.owns(node.owner_id):
            raise forbidden(f"Node {node_id} is not yours")
        return node


_JOINERS = frozenset({Role.OPERATOR, Role.ADMIN})


def _for_others(tx: Tx, actor: Principal, line: Line) -> Line:
    job = tx.job(line.entry.job_id) if line.entry.job_id else None
    if job is not None and actor.owns(job.owner_id):
        return line
    return replace(line, entry=replace(line.entry, job_id=None, note="", by=None))


def _engine_at(tx: Tx, node_id: NodeId) -> bool:
    """Whether somebody has reserved it, and is connected."""
    kept = tx.reservation_of(node_id)
    return kept is not None and kept.connected(tx.now)


def _tell_changes(tx: Tx, node: Node, hardware: Hardware) -> None:
    changes = hardware.changes(node.hardware)
    if changes:
        tx.emit(NodeHardwareChanged(node.id, node.name, "; ".join(changes)[:1000]))


def _priced(before: NodePricing | None, said: NodePricing | None, now: datetime) -> NodePricing | None:
    """The prices that a node says, with the time from which they hold."""
    if said is None or (before is not None and replace(said, updated_at=before.updated_at) == before):
        return before if said is not None else None
    return replace(said, updated_at=int(now.timestamp()))


def _updated(node: Node, registration: Registration, now: datetime) -> Node:
    return replace(
        node,
        name=registration.name,
        hardware=registration.hardware,
        region=registration.region,
        host=registration.host,
        port=registration.port,
        wallet_address=registration.wallet_address,
        version=registration.version,
        max_concurrent_jobs=max(1, registration.max_concurrent_jobs),
        services=registration.services,
        certificate_fingerprint=registration.certificate_fingerprint,
        public_key=registration.public_key,
        boot_id=registration.boot_id,
        pricing=_priced(node.pricing, registration.pricing, now),
        extras={
            "formats": list(registration.supported_formats),
            "runtimes": list(registration.runtimes),
            "features": list(registration.features),
            "measured_score": registration.measured_score,
            "keep_results_seconds": registration.keep_results_seconds,
        },
    )


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
        return True
    except ValueError:
        return False
