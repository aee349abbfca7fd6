"""Which nodes may not have a job, for what they had to do with it before."""

from __future__ import annotations

from cyxwiz.domain.ids import NodeId, UserId
from cyxwiz.domain.job import Job
from cyxwiz.domain.verification import CheckSpec, Mode
from cyxwiz.ports.store import Tx


def barred(tx: Tx, job: Job) -> frozenset[NodeId]:
    """Nodes that may not have the job: their results of it were refused, or it is a check and they have a word in the
    same matter by another one. A node, and an owner where owners are told apart, has one word."""
    if job.spec.check is not None:
        return _heard(tx, job, job.spec.check)
    if job.spec.verify is Mode.NONE:
        return frozenset()
    item = tx.verification(job.id)
    return frozenset(map(NodeId, item.refused)) if item is not None else frozenset()


def _heard(tx: Tx, job: Job, check: CheckSpec) -> frozenset[NodeId]:
    item = tx.verification(check.parent)
    others = [each for each in item.checks if each.job_id != job.id] if item is not None else []
    doing = [other for each in others if (other := tx.job(each.job_id)) is not None and not other.ended]
    heard = {each.node_id for each in others} | {other.node_id for other in doing if other.node_id is not None}
    heard.discard("")
    if not heard:
        return frozenset()
    fleet = tx.fleet()
    # Where owners are not told apart, none is named in the check.
    owners = {node.owner_id for node in fleet if node.id in heard} if check.not_owners else set[UserId]()
    return frozenset(node.id for node in fleet if node.id in heard or node.owner_id in owners)
