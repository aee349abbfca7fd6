"""What a job's owner asked its node for over P2P, done as if it had been asked of central."""

from __future__ import annotations

from cyxwiz.domain.errors import stale
from cyxwiz.domain.ids import JobId
from cyxwiz.domain.job import Job
from cyxwiz.domain.node import Node
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.store import Tx
from cyxwiz.services import leases
from cyxwiz.services.audit import record
from cyxwiz.services.reports import token_of


def obey(tx: Tx, node: Node, command: pb.OwnerCommand) -> None:
    """Pauses, resumes or cancels. The node must hold the job's newest lease, or have held it last.

    Raises:
        CyxError: STALE when another node has the job by now; CONFLICT as central's own methods.
    """
    job = tx.job(JobId(command.job_id))
    lease = tx.lease(job.id, job.token) if job is not None and job.token else None
    if job is None or lease is None or lease.token != token_of(command.token) or lease.node_id != node.id:
        raise stale(f"Node {node.id} does not hold job {command.job_id} any more: ask central where it is")
    by = f"its owner, by node {node.name}"
    if command.action == pb.OwnerCommand.PAUSE:
        leases.pause(tx, job, by)
    elif command.action == pb.OwnerCommand.RESUME:
        leases.resume(tx, job, by)
    else:
        leases.check_cancel(job)
        if command.keep_checkpoint:
            keep_checkpoint(tx, job)
        leases.cancel(tx, job, by, command.reason[:500] or "cancelled by its owner")
    action = pb.OwnerCommand.Action.Name(command.action).lower()
    record(tx, f"node:{node.id}", f"job.{action}", f"job:{job.id}", over="p2p")


def keep_checkpoint(tx: Tx, job: Job) -> None:
    """The last checkpoint's blob becomes the owner's: it outlives the job, and they may fetch it."""
    newest = tx.checkpoints(job.id, 1)
    info = tx.blob(newest[0].sha256) if newest and newest[0].kept else None
    if info is not None:
        tx.add_blob(info, job.owner_id)
