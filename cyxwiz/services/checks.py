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


def whose(tx: Tx, job: Job, item: Verification) -> NodeId:
    """Whose work was wrong: the state that its interval goes on from may be another node's."""
    wrong = [each for each in item.checks if each.verdict is Verdict.MISMATCH]
    saved = next((each for each in tx.kept_checkpoints(job.id) if each.number == item.start), None)
    return saved.node_id if saved is not None and all(wrong_start(each.figures) for each in wrong) else item.node_id


def broke(tx: Tx, item: Verification) -> str:
    """What most of the checks that came to no end broke by; empty where it is what they had to fetch. A result whose
    checks break down is not believed: what they go on from is its node's."""
    failed = [check for each in item.checks if each.verdict is Verdict.FAILED and (check := tx.job(each.job_id))]
    own = [check.error for check in failed if check.error and check.error_code != Code.UNAVAILABLE]
    return own[-1][:300] if len(own) * 2 > len(failed) else ""
