"""What a node is told of a job that it is to run."""

from __future__ import annotations

from cyxwiz.domain.checkpoint import parse_every
from cyxwiz.domain.job import Checkpoint, Job, JobSpec, Lease
from cyxwiz.domain.script import Script
from cyxwiz.domain.states import LeaseState
from cyxwiz.domain.verification import CheckSpec, Mode
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.store import Tx
from cyxwiz.services.reports import token_to
from cyxwiz.services.verification import machine_of


def assignment(tx: Tx, job: Job, lease: Lease) -> pb.Assign:
    """What a node needs to run the job, from its last checkpoint on if there is one."""
    spec = job.spec
    first = job.attempts <= 1 and lease.state is LeaseState.OFFERED  # nobody can have saved anything yet
    saved = () if first else tx.kept_checkpoints(job.id)
    return pb.Assign(
        job_id=job.id,
        token=token_to(lease.token),
        job_type=str(spec.type),
        model="" if spec.script is not None else tx.model(job.id),
        dataset_uri=spec.dataset_uri,
        hyperparameters=dict(spec.hyperparameters),
        epochs=spec.epochs,
        batch_size=spec.batch_size,
        seed=spec.seed,
        device=str(spec.resources.device),
        ram_bytes=spec.resources.ram_bytes,
        vram_bytes=spec.resources.vram_bytes,
        max_duration_seconds=max(1.0, spec.resources.max_duration_seconds - job.compute_seconds),
        name=spec.name,
        resume=_checkpoint(saved[0]) if saved else _checked_from(spec),
        checkpoint_every=str(parse_every(spec.checkpoint_every)),
        script=_script(spec.script),
        gang=_gang(spec, lease),
        owner_id=job.owner_id,
        weights=spec.weights.sha256 if spec.weights is not None else "",
        requirements=tx.model(job.id) if spec.requirements else "",
        network=spec.network,
        reservation_id=spec.reservation_id,
        chain_id=spec.check.parent if spec.check is not None else "",
        check=_check(tx, spec.check, lease) if spec.check is not None else None,
        fixed=spec.verify is not Mode.NONE,
    )


def _checked_from(spec: JobSpec) -> pb.Checkpoint | None:
    """Where a check begins."""
    return pb.Checkpoint(sha256=spec.check.resume) if spec.check is not None and spec.check.resume else None


def _check(tx: Tx, check: CheckSpec, lease: Lease) -> pb.Check:
    """What is to be compared is shown only to a node of other hardware: on the same one its digest must be equal, and
    who has not seen it can't copy it."""
    node = tx.node(lease.node_id)
    shown = check.show_claim or node is None or machine_of(node) != check.machine
    return pb.Check(
        stop_step=check.stop_step,
        threads=check.threads,
        claim=check.claim if shown else "",
        result=check.result,
        result_weights=check.result_weights,
        start=check.start_digest,
    )


def _checkpoint(checkpoint: Checkpoint) -> pb.Checkpoint:
    return pb.Checkpoint(
        sha256=checkpoint.sha256,
        size=checkpoint.size,
        epoch=checkpoint.epoch,
        batch=checkpoint.batch,
        step=checkpoint.step,
        progress=checkpoint.progress,
        threads=checkpoint.threads,
    )


def _script(script: Script | None) -> pb.Script | None:
    return None if script is None else pb.Script(entry=script.entry, files=dict(script.files), args=script.args)


def _gang(spec: JobSpec, lease: Lease) -> pb.Gang | None:
    """None where nobody has to be met. A script for several machines meets nobody, by the same calls."""
    if lease.world == 1 and (spec.resources.nodes == 1 or spec.script is None):
        return None
    return pb.Gang(rank=lease.rank, world=lease.world, strategy=str(spec.strategy))
