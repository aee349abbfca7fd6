"""What the record says about a result's checks: where they begin, who is to blame, why they came to no end."""

from __future__ import annotations

from datetime import datetime

from cyxwiz.domain.errors import Code
from cyxwiz.domain.ids import NodeId
from cyxwiz.domain.job import Checkpoint, Job
from cyxwiz.domain.verification import Verdict, Verification, wrong_start
from cyxwiz.ports.store import Tx


def digest_at(tx: Tx, job: Job, checkpoint: Checkpoint | None) -> str:
    """The digest of the state that a checkpoint is to have."""
    link = tx.link(job.id, checkpoint.link) if checkpoint is not None else None
    return link.link.weights if link is not None else ""


def waits_since(tx: Tx, check: Job) -> datetime:
    """Since when a check waits for a node: from its beginning, or since the last one had it."""
    return max([check.created_at, *(each.ended_at for each in tx.leases_of(check.id) if each.ended_at)])


def whose(tx: Tx, job: Job, item: Verification) -> NodeId | None:
    """Whose work was wrong: the state that its interval goes on from may be another node's. None where several had a
    part in what was done again, one after the other: the first of them may have left a wrong state to the last."""
    wrong = [each for each in item.checks if each.verdict is Verdict.MISMATCH]
    saved = next((each for each in tx.kept_checkpoints(job.id) if each.number == item.start), None)
    if saved is not None and all(wrong_start(each.figures) for each in wrong):
        return saved.node_id
    return item.node_id if len(parts(tx, job, item)) < 2 else None


def parts(tx: Tx, job: Job, item: Verification) -> tuple[NodeId, ...]:
    """The nodes that signed the interval that is checked, in their order."""
    kept, links = {each.number: each.link for each in tx.kept_checkpoints(job.id)}, tx.links(job.id)
    place = {each.link.link: number for number, each in enumerate(links)}
    first = place.get(kept.get(item.start, ""), -1) + 1
    last = place.get(kept.get(item.end, ""), len(links) - 1)
    return tuple(dict.fromkeys(each.node_id for each in links[first : last + 1]))


def broke(tx: Tx, item: Verification) -> str:
    """What most of the checks that came to no end broke by; empty where it is what they had to fetch. A result whose
    checks break down is not believed: what they go on from is its node's."""
    failed = [check for each in item.checks if each.verdict is Verdict.FAILED and (check := tx.job(each.job_id))]
    own = [check.error for check in failed if check.error and check.error_code != Code.UNAVAILABLE]
    return own[-1][:300] if len(own) * 2 > len(failed) else ""
