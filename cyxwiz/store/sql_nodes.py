"""Nodes, their devices and their load as statements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, bindparam, delete, func, insert, or_, select, update

from cyxwiz.domain.errors import stale
from cyxwiz.domain.ids import NodeId, UserId
from cyxwiz.domain.node import LoadSample, Node, NodeStatus
from cyxwiz.domain.pricing import NodePricing
from cyxwiz.domain.states import NodeState
from cyxwiz.ports.store import NodeQuery, Page
from cyxwiz.store import mapping
from cyxwiz.store.sql_jobs import IS_LIVE, leases
from cyxwiz.store.sql_reservations import KEPT, reservations
from cyxwiz.store.sql_unit import Unit, lookup, table
from cyxwiz.store.tables import NodeDeviceRow, NodeMetricRow, NodeRow

nodes, devices, samples = table(NodeRow), table(NodeDeviceRow), table(NodeMetricRow)

_ADD_NODE, _ADD_DEVICES, _ADD_SAMPLE = insert(nodes), insert(devices), insert(samples)
_NODE = lookup(select(nodes).where(nodes.c.id == bindparam("id")), aside=True)
_NODE_BY_IDENTITY = lookup(
    select(nodes).where(
        nodes.c.owner_id == bindparam("owner_id"), nodes.c.identity == bindparam("identity"), nodes.c.identity != ""
    )
)
_SAVE_NODE = update(nodes).where(
    nodes.c.id == bindparam("at_id"), nodes.c.version_number == bindparam("at_version_number")
)
_TOUCH = (
    update(nodes)
    .where(nodes.c.id == bindparam("at_id"))
    .values(last_seen_at=bindparam("now"), online_seconds=nodes.c.online_seconds + bindparam("seconds"))
)
_UNSEEN = (
    select(nodes.c.id)
    .where(nodes.c.state == bindparam("state"), nodes.c.last_seen_at < bindparam("before"))
    .order_by(nodes.c.id)
)
_STATE = select(nodes.c.state).where(nodes.c.id == bindparam("id"))
_KEY = select(nodes.c.public_key).where(nodes.c.id == bindparam("id"))
_PRICING = select(nodes.c.pricing).where(nodes.c.id == bindparam("id"))
_IN_ORDER = (nodes.c.name, nodes.c.id)
_FLEET = select(nodes).order_by(*_IN_ORDER)
_FLEET_DEVICES = select(devices).order_by(devices.c.node_id, devices.c.position)
_DEVICES_OF = select(devices).where(devices.c.node_id == bindparam("node_id")).order_by(devices.c.position)
_DROP_DEVICES = delete(devices).where(devices.c.node_id == bindparam("at_id"))
_LOAD = select(func.count()).select_from(leases).where(IS_LIVE, leases.c.node_id == bindparam("node_id"))
_KEPT_FOR = select(reservations.c.id).where(KEPT, reservations.c.node_id == bindparam("node_id"))
_USE_OF = select(_LOAD.scalar_subquery().label("load"), _KEPT_FOR.scalar_subquery().label("reservation_id"))
_LOADS = select(leases.c.node_id, func.count().label("load")).where(IS_LIVE).group_by(leases.c.node_id)
_KEPT = select(reservations.c.node_id, reservations.c.id).where(KEPT)
_ONLINE = nodes.c.state == NodeState.ONLINE.value
_HERE = (
    select(func.count())
    .select_from(leases)
    .where(IS_LIVE, leases.c.node_id == nodes.c.id)
    .correlate(nodes)
    .scalar_subquery()
)
_RESERVED = select(reservations.c.id).where(KEPT, reservations.c.node_id == nodes.c.id).correlate(nodes).exists()
_TAKEN = or_(nodes.c.max_concurrent_jobs <= _HERE, _RESERVED)
_SHOWN_AS: Mapping[NodeStatus, ColumnElement[bool]] = {  # as `Node.status`
    "offline": nodes.c.state == NodeState.OFFLINE.value,
    "online": and_(_ONLINE, ~nodes.c.cordoned, ~_TAKEN),
    "busy": and_(_ONLINE, ~nodes.c.cordoned, _TAKEN),
    "draining": and_(_ONLINE, nodes.c.cordoned),
    "banned": nodes.c.state == NodeState.BANNED.value,
}
_PRUNE_SAMPLES = delete(samples).where(samples.c.at < bindparam("before"))


class Nodes(Unit):
    def add_node(self, node: Node) -> None:
        self._run(_ADD_NODE, mapping.from_node(node))
        self._add_devices(node)

    def node(self, node_id: NodeId) -> Node | None:
        return self._whole(self._one(_NODE, id=node_id))

    def node_state(self, node_id: NodeId) -> NodeState | None:
        found = self._run(_STATE, {"id": node_id}).scalar_one_or_none()
        return None if found is None else NodeState(found)

    def node_key(self, node_id: NodeId) -> bytes:
        found: bytes | None = self._run(_KEY, {"id": node_id}).scalar_one_or_none()
        return found or b""

    def node_pricing(self, node_id: NodeId) -> NodePricing | None:
        return mapping.to_pricing(self._run(_PRICING, {"id": node_id}).scalar_one_or_none())

    def node_by_identity(self, owner_id: UserId, identity: str) -> Node | None:
        return self._whole(self._one(_NODE_BY_IDENTITY, owner_id=owner_id, identity=identity))

    def save_node(self, node: Node) -> Node:
        columns = mapping.from_node(node)
        del columns["id"]
        columns["version_number"] = node.version_number + 1
        done = self._run(_SAVE_NODE, {**columns, "at_id": node.id, "at_version_number": node.version_number})
        if done.rowcount == 0:
            raise stale(f"Node {node.id} was changed by somebody else: read it again", id=node.id)
        self._run(_DROP_DEVICES, {"at_id": node.id})
        self._add_devices(node)
        return replace(node, version_number=node.version_number + 1)

    def nodes(self, query: NodeQuery) -> Page[Node]:
        matching = select(nodes)
        if query.owner_id is not None:
            matching = matching.where(nodes.c.owner_id == query.owner_id)
        if query.status is not None:
            matching = matching.where(_SHOWN_AS[query.status]).params(now=self.now)
        if query.region_contains:
            matching = matching.where(nodes.c.region.icontains(query.region_contains, autoescape=True))
        total, capped = self._total(matching)
        shown = matching.order_by(*_IN_ORDER).limit(query.limit).offset(query.offset or None)
        rows = self._run(shown).all()
        ids = shown.with_only_columns(nodes.c.id).subquery()
        devices_of_shown = _FLEET_DEVICES.join(ids, ids.c.id == devices.c.node_id)
        return Page(self._wholes(rows, self._run(devices_of_shown)), total, capped)

    def fleet(self) -> Sequence[Node]:
        return self._wholes(self._run(_FLEET).all(), self._run(_FLEET_DEVICES))

    def unseen_nodes(self, before: datetime) -> Sequence[NodeId]:
        rows = self._run(_UNSEEN, {"state": NodeState.ONLINE.value, "before": before})
        return [NodeId(row.id) for row in rows]

    def touch_nodes(self, seen: Mapping[NodeId, float]) -> None:
        # In one order everywhere: two centrals that touch the same nodes must not wait for each other in a ring.
        rows = [{"at_id": node_id, "now": self.now, "seconds": seen[node_id]} for node_id in sorted(seen)]
        if rows:
            self._run(_TOUCH, rows)

    def add_load(self, node_id: NodeId, sample: LoadSample) -> None:
        self._run(_ADD_SAMPLE, mapping.from_sample(node_id, sample))

    def load_samples(
        self, node_id: NodeId, start: datetime | None, end: datetime | None, limit: int
    ) -> Sequence[LoadSample]:
        newest = select(samples).where(samples.c.node_id == node_id)
        if start is not None:
            newest = newest.where(samples.c.at >= start)
        if end is not None:
            newest = newest.where(samples.c.at <= end)
        rows = self._run(newest.order_by(samples.c.at.desc(), samples.c.id.desc()).limit(limit)).all()
        return [mapping.to_sample(row) for row in reversed(rows)]

    def prune_load(self, before: datetime) -> int:
        pruned: int = self._run(_PRUNE_SAMPLES, {"before": before}).rowcount
        return pruned

    def _add_devices(self, node: Node) -> None:
        rows = [mapping.from_device(node.id, index, device) for index, device in enumerate(node.hardware.devices)]
        if rows:
            self._run(_ADD_DEVICES, rows)

    def _wholes(self, rows: Sequence[Row[Any]], owned: Iterable[Row[Any]]) -> list[Node]:
        by_node: defaultdict[str, list[Row[Any]]] = defaultdict(list)
        for device in owned:
            by_node[device.node_id].append(device)
        loads: dict[str, int] = {row.node_id: row.load for row in self._run(_LOADS)}
        kept: dict[str, str] = {row.node_id: row.id for row in self._run(_KEPT, {"now": self.now})}
        return [mapping.to_node(row, by_node[row.id], loads.get(row.id, 0), kept.get(row.id, "")) for row in rows]

    def _whole(self, row: Row[Any] | None) -> Node | None:
        if row is None:
            return None
        owned = self._connection.execute(_DEVICES_OF, {"node_id": row.id}).all()
        use = self._connection.execute(_USE_OF, {"node_id": row.id, "now": self.now}).one()
        return mapping.to_node(row, owned, use.load, use.reservation_id or "")
