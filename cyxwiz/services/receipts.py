"""Receipts: what an ended job used, what it cost and what it came from, signed by the platform."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cyxwiz.domain.account import Principal, Role
from cyxwiz.domain.errors import conflict
from cyxwiz.domain.ids import parse_job_id
from cyxwiz.domain.job import Checkpoint, Job, JobResult, JobType
from cyxwiz.domain.node import Node
from cyxwiz.domain.payment import Movement, Payment
from cyxwiz.domain.receipt import VERSION, canonical, sealed
from cyxwiz.domain.states import TERMINAL_JOB_STATES, JobState
from cyxwiz.graph import content_digest
from cyxwiz.ports.ledger import LedgerInfo
from cyxwiz.ports.store import JobQuery, Page, Store, Tx
from cyxwiz.scheduler.feasible import needs_gpu
from cyxwiz.services import proof_views, views
from cyxwiz.services.jobs import owned
from cyxwiz.services.payments import payments_of
from cyxwiz.services.platform import PlatformKey
from cyxwiz.services.proofs import seen
from cyxwiz.services.views import Json

MAX_CHECKPOINTS = 1000
Paid = Sequence[tuple[Payment, Sequence[Movement]]]
_NOT_CHARGED = "an estimate by the tariff: no ledger is configured, nothing was charged"


class Receipts:
    """`ledger` is None where nothing is charged."""

    def __init__(self, store: Store, key: PlatformKey, ledger: LedgerInfo | None, *, fee_bps: int) -> None:
        self._store = store
        self._key = key
        self._ledger = ledger
        self._fee_bps = fee_bps

    def platform(self) -> Json:
        """What anybody may know of the platform: the key that receipts are checked against, and its ledger."""
        return {
            "algorithm": "ed25519",
            "public_key": self._key.public,
            "fee_bps": self._fee_bps,
            "ledger": _ledger(self._ledger),
        }

    async def of_job(self, actor: Principal, job_id: str) -> Json:
        """Its signed receipt. Raises CONFLICT while the job goes on."""
        parsed = parse_job_id(job_id)

        def unit(tx: Tx) -> Json:
            job = owned(tx, actor, parsed)
            if not job.ended:
                raise conflict(f"Job {job.id} is {job.state}: a receipt is written at its end", state=str(job.state))
            job = replace(job, spec=replace(job.spec, model=tx.model(job.id)))
            result = tx.result(job.id)
            node = tx.node(result.node_id) if result else None
            checkpoints = tx.checkpoints(job.id, MAX_CHECKPOINTS)
            found = self._document(job, result, node, list(reversed(checkpoints)), payments_of(tx, job.id))
            proof = seen(tx, job)
            signed = proof.links or (proof.proof is not None and proof.proof.signature)
            return {**found, "proof": proof_views.document(proof) if signed else None}

        document = await self._store.read(unit)
        return sealed(document, self._key.public, self._key.sign)

    def _document(
        self, job: Job, result: JobResult | None, node: Node | None, checkpoints: Sequence[Checkpoint], paid: Paid
    ) -> Json:
        return {
            "version": VERSION,
            "job_id": job.id,
            "name": job.spec.name,
            "status": str(job.state),
            "node_id": node.id if node else None,
            "node_name": node.name if node else None,
            "node_public_key": node.public_key.hex() if node and node.public_key else None,
            "node_version": node.version or None if node else None,
            "gpu": needs_gpu(job.spec),
            "compute_seconds": round(job.compute_seconds, 3),
            **_origin(job),
            "model_weights_hash": (result.weights_hash or None) if result else None,
            "files": views.result(result)["files"] if result else [],
            "made_dataset_uri": _made_dataset(job, result),
            "checkpoints": [
                {"number": each.number, "step": each.step, "sha256": each.sha256, "node_id": each.node_id}
                for each in checkpoints
            ],
            **views.money("price", job.actual_cost_units),
            **self._money(paid),
            "started_at": views.instant(job.started_at),
            "completed_at": views.instant(job.completed_at),
        }

    def _money(self, paid: Paid) -> Json:
        payments = [payment for payment, _ in paid]
        settled = not any(payment.open for payment in payments)
        spent = sum(payment.paid_units for payment in payments)
        if not payments:
            note = _NOT_CHARGED if self._ledger is None else "nothing was locked for this job, nothing was charged"
        elif settled:
            note = "settled: what was paid and refunded adds up to what was locked"
        else:
            note = "the money is still moving: the receipt is final once `settled` is true"
        return {
            "charged": spent > 0,
            "settled": settled,
            "note": note,
            "ledger": _ledger(self._ledger),
            **views.money("amount", sum(payment.amount_units for payment in payments)),
            **views.money("paid", spent),
            **views.money("platform_fee", sum(payment.fee_units for payment in payments)),
            **views.money("node_reward", sum(payment.reward_units for payment in payments)),
            **views.money("refunded", sum(payment.refunded_units for payment in payments)),
            "payments": [_payment(payment, movements) for payment, movements in paid],
        }

    async def list(self, actor: Principal, offset: int, limit: int, state: JobState | None = None) -> Page[Json]:
        """The caller's ended jobs with what they cost, the newest first; of `state`, only those that ended so."""
        actor.require(Role.USER, Role.OPERATOR)
        states = TERMINAL_JOB_STATES if state is None else frozenset({state})
        query = JobQuery(owner_id=actor.id, states=states, offset=offset, limit=limit)

        def unit(tx: Tx) -> Page[Json]:
            found = tx.jobs(query)
            return Page([self._line(tx, job) for job in found.items], found.total, found.capped)

        return await self._store.read(unit)

    def _line(self, tx: Tx, job: Job) -> Json:
        money = self._money([(payment, ()) for payment in tx.payments_of(job.id)])
        shown = ("charged", "settled", "paid", "paid_units", "refunded", "refunded_units")
        return {
            "job_id": job.id,
            "name": job.spec.name,
            "status": str(job.state),
            **views.money("price", job.actual_cost_units),
            **{name: money[name] for name in shown},
            "created_at": views.instant(job.created_at),
            "completed_at": views.instant(job.completed_at),
        }


def _origin(job: Job) -> Json:
    """What the result was made from: data, code and environment by their hashes, as far as central knows them."""
    spec, script = job.spec, job.spec.script
    return {
        "dataset_uri": spec.dataset_uri,
        "dataset_sha256": content_digest(spec.dataset_uri),
        "model_sha256": hashlib.sha256(spec.model.encode()).hexdigest() if spec.model else None,
        "code_sha256": hashlib.sha256(canonical(script.files)).hexdigest() if script else None,
        "code_files": dict(script.files) if script else {},
        "requirements_sha256": spec.requirements or None,
        "weights_sha256": spec.weights.sha256 if spec.weights else None,
        "hyperparameters": dict(spec.hyperparameters),
        "epochs": spec.epochs,
        "batch_size": spec.batch_size,
        "seed": spec.seed,
    }


def _made_dataset(job: Job, result: JobResult | None) -> str | None:
    """What a later job names as its `dataset` to read what this one made; None if it made no data set."""
    made = job.spec.type is JobType.PREPROCESSING and result is not None
    return f"blob://sha256/{result.files[0].sha256}" if made and result is not None else None


def _payment(item: Payment, movements: Sequence[Movement]) -> Json:
    return {
        "id": item.id,
        "status": str(item.state),
        "member": item.member,
        "number": item.number,
        "client": item.client,
        "node": item.node or None,
        "node_id": item.node_id,
        "fee_bps": item.fee_bps,
        "amount_units": item.amount_units,
        "paid_units": item.paid_units,
        "platform_fee_units": item.fee_units,
        "node_reward_units": item.reward_units,
        "refunded_units": item.refunded_units,
        "transactions": [
            {"reference": each.reference, "kind": each.kind, "amount_units": each.units, "at": views.instant(each.at)}
            for each in movements
            if each.state == "confirmed"
        ],
    }


def _ledger(info: LedgerInfo | None) -> dict[str, Any] | None:
    if info is None:
        return None
    return {
        "backend": info.backend,
        "network": info.network or None,
        "platform": info.platform or None,
        "token_mint": info.token_mint or None,
        "program_id": info.program_id or None,
    }
