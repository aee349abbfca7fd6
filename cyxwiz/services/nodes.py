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
    NodeBanned,
    NodeCameOnline,
    NodeCordoned,
    NodeHardwareChanged,
    NodeJoined,
    NodeUncordoned,
    NodeWentOffline,
)
from cyxwiz.domain.ids import JobId, NodeId, Token, UserId, new_id, parse_node_id
from cyxwiz.domain.job import Job, Lease
from cyxwiz.domain.node import HELLO_CONTEXT, Hardware, LoadSample, Node, Pricing
from cyxwiz.domain.states import LeaseState, LeaseTrigger, NodeState, NodeTrigger
from cyxwiz.ports.store import NodeQuery, Page, Store, Tx
from cyxwiz.services import leases
from cyxwiz.services.accounts import OPEN_USER, refuse_disabled, spend_join_token
from cyxwiz.services.audit import record
from cyxwiz.services.hardware import check_hardware, check_texts
from cyxwiz.services.leases import QUEUE, RetryPolicy
from cyxwiz.services.liveness import Liveness

MAX_SLOTS = 1024
MAX_LISTED = 64  # services, formats, runtimes


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
    pricing: Pricing | None = None
    supported_formats: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()


def check_registration(registration: Registration) -> None:
    """Raises INVALID for what no machine is."""
    if not 0 < len(registration.name) <= 100:
        raise invalid("name: must have 1 to 100 characters", field="name")
    if not 0 <= registration.port <= 65535:
        raise invalid(f"port: must be from 0 to 65535, not {registration.port}", field="port")
    if registration.max_concurrent_jobs > MAX_SLOTS:
        raise invalid(f"max_concurrent_jobs: at most {MAX_SLOTS}", field="max_concurrent_jobs")
    if len(registration.public_key) > 4096:
        raise invalid("public_key: at most 4096 bytes", field="public_key")
    for field in ("region", "host", "wallet_address", "version", "certificate_fingerprint", "boot_id"):
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
    def __init__(self, store: Store, liveness: Liveness, policy: RetryPolicy, *, open_mode: bool) -> None:
        self._store = store
        self.liveness = liveness
        self.policy = policy
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
        return self.came_online(tx, _updated(node, registration))

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
        return self.came_online(tx, replace(_updated(node, registration), identity=identity))

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
            node = node.move(NodeTrigger.UNBAN, banned_until=None)
        if node.state is NodeState.OFFLINE:
            tx.emit(NodeCameOnline(node.id, node.name))
        node = tx.save_node(node.move(NodeTrigger.CONNECT, last_seen_at=tx.now))
        tx.hint(QUEUE)
        self.liveness.heard(node.id)
        return node

    def reconcile(self, tx: Tx, node: Node, claimed: Collection[tuple[JobId, Token]]) -> None:
        """Leases that central thinks a node runs, and the node does not, are lost at once, not after the time-out."""
        for job, lease in leases.live(tx, node.id):
            if lease.state is LeaseState.ACTIVE and (lease.job_id, lease.token) not in claimed:
                self._lost(tx, job, lease, "its node restarted and lost the run")

    def _lost(self, tx: Tx, job: Job, lease: Lease, reason: str) -> None:
        leases.end_group(tx, lease, reason)
        if job.token == lease.group and not job.ended:
            leases.lose(tx, job, lease.node_id, self.policy, reason)

    async def farewell(self, node_id: NodeId, reason: str) -> None:
        """It leaves on purpose: what it held is free now."""

        def unit(tx: Tx) -> None:
            for job, lease in leases.live(tx, node_id):
                self._lost(tx, job, lease, f"its node left: {reason}" if reason else "its node left")
            self.went_offline(tx, node_id, reason or "left")

        await self._store.write(unit)
        self.liveness.gone(node_id)

    def went_offline(self, tx: Tx, node_id: NodeId, reason: str) -> None:
        node = tx.node(node_id)
        if node is not None and node.state is NodeState.ONLINE:
            tx.save_node(node.move(NodeTrigger.LOSE))
            tx.emit(NodeWentOffline(node.id, node.name, reason))

    def expire(self, tx: Tx, node_id: NodeId) -> int:
        """A silent node is offline and its leases have expired; returns how many."""
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
        return len(live)

    # looking

    async def get(self, node_id: str) -> Node:
        parsed = parse_node_id(node_id)
        node = await self._store.read(lambda tx: tx.node(parsed))
        if node is None:
            raise not_found("node", node_id)
        return node

    async def list(self, query: NodeQuery) -> Page[Node]:
        return await self._store.read(lambda tx: tx.nodes(query))

    async def fleet(self) -> Sequence[Node]:
        return await self._store.read(lambda tx: tx.fleet())

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
                        leases.preempt(tx, job, lease, "its node is drained")
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
            for job, lease in leases.live(tx, node.id):
                self._lost(tx, job, lease, "its node was banned")
            if node.state is not NodeState.BANNED:
                node = node.move(NodeTrigger.BAN)
            node = tx.save_node(replace(node, banned_until=until))
            tx.emit(NodeBanned(node.id, node.name, until.isoformat() if until else ""))
            record(tx, actor.name, "node.ban", f"node:{node.id}", until=until.isoformat() if until else None)
            tx.hint(leases.lease_topic(node.id))
            return node

        return await self._store.write(unit)

    def _owned(self, tx: Tx, actor: Principal, node_id: NodeId) -> Node:
        node = tx.node(node_id)
        if node is None:
            raise not_found("node", node_id)
        if not actor.owns(node.owner_id):
            raise forbidden(f"Node {node_id} is not yours")
        return node


_JOINERS = frozenset({Role.OPERATOR, Role.ADMIN})


def _tell_changes(tx: Tx, node: Node, hardware: Hardware) -> None:
    changes = hardware.changes(node.hardware)
    if changes:
        tx.emit(NodeHardwareChanged(node.id, node.name, "; ".join(changes)[:1000]))


def _updated(node: Node, registration: Registration) -> Node:
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
        pricing=registration.pricing,
        extras={
            "formats": list(registration.supported_formats),
            "runtimes": list(registration.runtimes),
            "features": list(registration.features),
        },
    )


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
        return True
    except ValueError:
        return False
