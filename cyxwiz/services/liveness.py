"""Which nodes are alive, by central's monotonic clock: a lease lasts as long as its node is heard."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

from cyxwiz.domain.ids import NodeId
from cyxwiz.domain.link import is_rate
from cyxwiz.domain.node import Node
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.store import Store

MAX_DATA_KEYS = 256
_KEY = re.compile("[0-9a-f]{16}")


class Liveness:
    """When each node was last heard by this process, which are connected right now and what data they hold."""

    def __init__(self, clock: Clock, timeout_seconds: float) -> None:
        self._clock = clock
        self.timeout_seconds = timeout_seconds
        self._heard: dict[NodeId, float] = {}
        self._flushed: dict[NodeId, float] = {}
        self._cut: set[NodeId] = set()
        self._closed: dict[NodeId, str] = {}
        self._data: dict[NodeId, frozenset[str]] = {}
        self._trips: dict[NodeId, float] = {}
        self._rates: dict[NodeId, float] = {}

    def heard(self, node_id: NodeId) -> None:
        self._heard[node_id] = self._clock.monotonic()
        self._cut.discard(node_id)

    def cut(self, node_id: NodeId) -> None:
        """Its stream broke: nothing new is given to it, but its leases last until the time-out."""
        self._cut.add(node_id)

    def gone(self, node_id: NodeId) -> None:
        self._heard.pop(node_id, None)
        self._flushed.pop(node_id, None)
        self._cut.discard(node_id)
        self._closed.pop(node_id, None)
        self._data.pop(node_id, None)
        self._trips.pop(node_id, None)
        self._rates.pop(node_id, None)

    def close(self, node_id: NodeId, reason: str) -> bool:
        """A node's own word that its owner's limits close it; empty: it is open. Whether that is news."""
        before = self.closed(node_id)
        if reason:
            self._closed[node_id] = reason
        else:
            self._closed.pop(node_id, None)
        return reason != before

    def closed(self, node_id: NodeId) -> str:
        """Why the node takes no jobs now, or nothing. Known to the process that holds its stream."""
        return self._closed.get(node_id, "")

    def takes_jobs(self, node: Node) -> bool | None:
        """Whether a node that is online takes jobs; None where another process knows."""
        return not node.cordoned and not self.closed(node.id) if self.here(node.id) else None

    def keeps(self, node_id: NodeId, data_keys: Iterable[str]) -> None:
        """The node says which data it holds: the first MAX_DATA_KEYS count, and what is no key is left out."""
        self._data[node_id] = frozenset(key for key in islice(data_keys, MAX_DATA_KEYS) if _KEY.fullmatch(key))

    def data_keys(self, node_id: NodeId) -> frozenset[str]:
        return self._data.get(node_id, frozenset())

    def measured(self, node_id: NodeId, round_trip_seconds: float, bytes_per_second: float = 0.0) -> None:
        """How long its last heartbeat took to central and back, and how fast it sends to central, by its own measure;
        what is no time or no rate is left out."""
        if 0 < round_trip_seconds < self.timeout_seconds:
            self._trips[node_id] = round_trip_seconds
        if is_rate(bytes_per_second):
            self._rates[node_id] = bytes_per_second

    def round_trip(self, node_id: NodeId) -> float | None:
        return self._trips.get(node_id)

    def network_rate(self, node_id: NodeId) -> float | None:
        """Bytes a second to central."""
        return self._rates.get(node_id)

    def connected(self, node_id: NodeId) -> bool:
        return node_id not in self._cut

    def here(self, node_id: NodeId) -> bool:
        """Whether this process, and no other central, has heard it of late."""
        return self.connected(node_id) and not self.silent(node_id)

    def silent(self, node_id: NodeId) -> bool:
        last = self._heard.get(node_id)
        return last is None or self._clock.monotonic() - last > self.timeout_seconds

    async def flush(self, store: Store) -> None:
        """Writes what was heard since the last flush, for the other replicas and for the next start."""
        now = self._clock.monotonic()
        seen = {
            node_id: at - self._flushed.get(node_id, at)
            for node_id, at in self._heard.items()
            if at > self._flushed.get(node_id, -1.0)
        }
        if not seen:
            return
        await store.write(lambda tx: tx.touch_nodes(seen))
        for node_id in seen:
            if node_id in self._heard:
                self._flushed[node_id] = min(now, self._heard[node_id])
