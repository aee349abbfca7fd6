"""Who may read a blob."""

from __future__ import annotations

from cyxwiz.domain.account import Principal
from cyxwiz.domain.ids import JobId
from cyxwiz.ports.store import Tx
from cyxwiz.services.jobfile import blobs_of
from cyxwiz.services.reports import KEPT_CHECKPOINTS


def may_read(tx: Tx, actor: Principal, sha256: str) -> bool:
    """Whether the blob is the caller's, or named by a live lease of the calling node."""
    info = tx.blob(sha256)
    if info is None:
        return False
    if actor.node_id is not None:
        return any(needs(tx, lease.job_id, sha256) for lease in tx.live_leases(actor.node_id))
    return actor.is_admin or actor.id in info.owners


def needs(tx: Tx, job_id: JobId, sha256: str) -> bool:
    """Whether who runs the job must read the blob: its data set, its files, its weights, or a checkpoint."""
    job = tx.job(job_id)
    if job is None:
        return False
    if sha256 in blobs_of(job.spec):
        return True
    if (check := job.spec.check) is not None and sha256 in (check.resume, check.claim, check.result):
        return True
    return sha256 in [each.sha256 for each in tx.checkpoints(job_id, KEPT_CHECKPOINTS) if each.kept]
