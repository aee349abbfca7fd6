"""Links between nodes, as members of gangs measured them: taken from who holds a lease of the group, and no other."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from cyxwiz.domain.errors import CyxError, invalid, stale
from cyxwiz.domain.ids import JobId, NodeId
from cyxwiz.domain.job import Lease
from cyxwiz.domain.link import VALID, Link, Links, Pair, is_rate, is_trip, pair
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.store import Store, Tx
from cyxwiz.services import leases
from cyxwiz.services.reports import held, token_of

log = logging.getLogger(__name__)


async def learn(store: Store, node_id: NodeId, told: pb.LinksMeasured) -> None:
    """Keeps what a member measured; what is wrong or comes too late is passed over: it is measured again."""
    try:
        await store.write(lambda tx: keep(tx, node_id, told))
    except CyxError as error:
        log.info("node %s measured for nothing for job %s: %s", node_id, told.job_id[:64], error.message)


def links_within(tx: Tx, held: Sequence[Lease]) -> Links:
    """What is known of the links between the nodes of a gang's leases."""
    nodes = {each.node_id for each in held}
    known: Links = tx.node_links(tx.now - VALID) if len(nodes) > 1 else {}
    return {key: link for key, link in known.items() if nodes.issuperset(key)}


def keep(tx: Tx, node_id: NodeId, told: pb.LinksMeasured) -> None:
    """Raises STALE for who holds no lease of the job's newest group, INVALID for figures that no link has."""
    _, lease = held(tx, node_id, JobId(told.job_id), token_of(told.token))
    if not lease.live:
        raise stale(f"Lease {lease.token} of job {told.job_id} is over")
    others = {each.rank: each.node_id for each in leases.members(tx, lease) if each.rank > lease.rank}
    found = dict[Pair, Link]()
    for each in told.links:
        if each.rank not in others:
            raise invalid(f"links: member {lease.rank} measures to those of a higher rank of its group")
        if not is_trip(each.round_trip_seconds) or not is_rate(each.bytes_per_second):
            raise invalid("links: no link has such a round trip or rate")
        found[pair(node_id, others[each.rank])] = Link(each.round_trip_seconds, each.bytes_per_second, tx.now)
    tx.save_node_links(found)
