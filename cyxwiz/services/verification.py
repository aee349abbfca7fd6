"""Checking results before they are taken: by hidden jobs that do a part of the work again on other nodes.

A result that is to be verified is held: its lease is over, its job stays running in the phase `verifying`, and its
files belong to nobody yet. Whatever follows happens in the unit that takes a check's result, or in the loop that looks
for checks that can't be had. The verdicts and what follows from them are decided in `domain.verification`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from itertools import pairwise
from typing import Any, Protocol, cast

from cyxwiz.config import VerifySection
from cyxwiz.domain.errors import invalid
from cyxwiz.domain.events import JobVerified, NodeWorkRefused
from cyxwiz.domain.ids import JobId, NodeId, UserId, new_id
from cyxwiz.domain.job import Checkpoint, Device, Intent, Job, Lease, Phase, Priority, ResultFile
from cyxwiz.domain.node import Node
from cyxwiz.domain.proof import is_digest
from cyxwiz.domain.reputation import MAX_NOTE, Kind, ReputationEvent
from cyxwiz.domain.states import JobState
from cyxwiz.domain.verification import (
    CheckRun,
    CheckSpec,
    JobProof,
    Mode,
    Outcome,
    StoredLink,
    Tolerance,
    Verdict,
    Verification,
    compare,
    decide,
    drawn,
    interval,
    is_checked,
    same_class,
    same_loss,
    wrong_start,
)
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.store import Tx
from cyxwiz.services import leases
from cyxwiz.services.audit import WRONG, record
from cyxwiz.services.checks import broke, digest_at, parts, waits_since, whose
from cyxwiz.services.reputation import Reputation
from cyxwiz.services.secrets import Secrets

CHECKER = UserId("00000000-0000-4000-8000-00000000000c")  # whose the hidden jobs are: nobody signs in as it
MOST_CHECKS = 8  # of one result, failed ones included
MOST_REFUSED = 2  # results of one job: then it fails


class Slasher(Protocol):
    """Takes stake of a node whose work was found wrong. Called once for each time, within the unit that found it: it
    must only write down what is owed. `evidence_hash` is the SHA-256 of the audit entry's `evidence`."""

    def slash(self, tx: Tx, node_id: NodeId, evidence_hash: str) -> None: ...


class Unstaked:
    """`Slasher` where no node has staked anything: the audit entry with the evidence is all there is."""

    def slash(self, tx: Tx, node_id: NodeId, evidence_hash: str) -> None:
        record(tx, "central", "node.slash_owed", f"node:{node_id}", evidence_hash=evidence_hash, staked=0)


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings verify.…; `wait` is how long a result waits for a node that can check it."""

    wait: timedelta
    keep_checkpoints: int
    same_owner: bool
    cpu: Tolerance
    gpu: Tolerance


def verifying_of(
    config: VerifySection,
    policy: leases.RetryPolicy,
    secrets: Secrets,
    reputation: Reputation,
    slasher: Slasher | None = None,
) -> Verifying:
    """As the settings say; without a slasher, nobody has staked anything."""
    rules = Rules(
        timedelta(seconds=config.wait_seconds),
        config.keep_checkpoints,
        config.same_owner,
        Tolerance(config.cpu_max_abs, config.cpu_max_rel),
        Tolerance(config.gpu_max_abs, config.gpu_max_rel),
    )
    return Verifying(policy, secrets.verify, rules, slasher or Unstaked(), reputation)


class Completes(Protocol):
    """Takes a result for good: `services.reports.Reporting`."""

    def complete(
        self,
        tx: Tx,
        job: Job,
        lease: Lease,
        *,
        files: tuple[ResultFile, ...],
        uri: str,
        hashed: str,
        size: int,
        metrics: Mapping[str, float],
        seconds: float,
        joules: float | None = None,
    ) -> Job: ...


@dataclass(frozen=True, slots=True)
class Verifying:
    """`secret` makes what is drawn unforeseeable for nodes, and the same when it is drawn again."""

    policy: leases.RetryPolicy
    secret: bytes
    rules: Rules
    slasher: Slasher
    reputation: Reputation

    # checkpoints

    def surplus(self, tx: Tx, job: Job) -> list[Checkpoint]:
        """Of a job that will be checked by intervals: the checkpoint to let go, once too many are kept. It is drawn, so
        that no node knows which intervals stay apart; those at which another node took over stay."""
        kept = tx.kept_checkpoints(job.id)
        if len(kept) <= self.rules.keep_checkpoints:
            return []
        inner = [old for newer, old in pairwise(kept) if newer.token == old.token]
        if not inner:
            return [kept[-1]]
        return [inner[int(drawn(self.secret, "surplus", job.id, kept[0].sha256) * len(inner))]]

    # a result

    def hold(self, tx: Tx, job: Job, lease: Lease, report: pb.Finished, proof: JobProof) -> Verification | None:
        """Holds a result back until it is verified; None, with the reason noted, if it is to be taken at once.

        Raises:
            CyxError: INVALID for a result without a whole, signed chain: it can't be verified.
        """
        if not proof.head or not proof.signature:
            raise invalid("finished: a result that is to be verified needs a signed chain", field="statement")
        before, node_id = tx.verification(job.id), lease.node_id
        # As good as the least proven one that had a part in it: any node may have left a state to go on from.
        workers = {node_id, *(each.node_id for each in tx.links(job.id))}
        streak = min(tx.validity(each).streak for each in workers)
        start, end, wanted = 0, 0, job.spec.copies - 1
        if job.spec.verify is Mode.SPOT:
            points = sorted(each.number for each in tx.kept_checkpoints(job.id) if each.link)
            start, end = interval(points, drawn(self.secret, "which", job.id, proof.head))
            wanted = 1
        worker = self._worker(tx, job, lease, end)
        item = Verification(
            job_id=job.id,
            mode=job.spec.verify,
            since=tx.now,
            node_id=worker,
            token=lease.token,
            start=start,
            end=end,
            wanted=wanted,
            held=_held(report),
            rejected=before.rejected if before is not None else 0,
            refused=before.refused if before is not None else (),
        )
        if not is_checked(streak, drawn(self.secret, "whether", job.id, proof.head)):
            those = "its node has" if len(workers) == 1 else f"each of its {len(workers)} nodes has at least"
            reason = f"{those} {streak} valid results in a row, and this one was not drawn"
            tx.save_verification(replace(item, held={}, outcome=Outcome.TRUSTED, reason=reason))
            return None
        tx.add_proof(proof)
        leases.end(tx, lease, "done: its result is being verified")
        job = tx.save_job(
            replace(
                job,
                phase=Phase.VERIFYING,
                intent=Intent.RUN,
                progress=1.0,
                reason="its result is being verified by another node",
            )
        )
        self._settle(tx, None, job, item)
        tx.hint(f"job:{job.id}", "progress")
        return item

    def _worker(self, tx: Tx, job: Job, lease: Lease, end: int) -> NodeId:
        """Who did the interval that ends there."""
        found = [each for each in tx.kept_checkpoints(job.id) if each.number == end] if end else []
        return found[0].node_id if found else lease.node_id

    # a check

    def judged(self, tx: Tx, completes: Completes, check: Job, lease: Lease, report: pb.Finished) -> None:
        """A check has come to its end: what it found counts, if its result still waits."""
        spec = check.spec.check
        assert spec is not None
        item, job, own = tx.verification(spec.parent), tx.job(spec.parent), tx.last_link(check.id)
        if item is None or job is None or item.outcome is not Outcome.OPEN or job.phase is not Phase.VERIFYING:
            return
        claim, figures = self._claim(tx, job, item), dict(report.final_metrics)
        if claim is not None and wrong_start(figures):
            verdict = Verdict.MISMATCH
        elif own is None or claim is None:
            verdict = Verdict.FAILED
        elif own.link.step != claim.link.step:
            verdict = Verdict.MISMATCH
        else:
            verdict = self._compare(item, claim, own, report)
            if not same_loss(claim, own):
                verdict, figures = Verdict.MISMATCH, {**figures, "loss": own.link.loss, "claimed_loss": claim.link.loss}
        weights = own.link.weights if own is not None else ""
        item = item.with_check(CheckRun(check.id, lease.node_id, verdict, weights, figures))
        self._settle(tx, completes, job, item)

    def _compare(self, item: Verification, claim: StoredLink, own: StoredLink, report: pb.Finished) -> Verdict:
        files = cast("list[dict[str, Any]]", item.held["files"])
        same = same_class(claim.environment, own.environment)
        equal = claim.link.weights == own.link.weights
        if not item.end and equal and report.artefacts[0].sha256 != files[0]["sha256"]:
            return Verdict.MISMATCH  # the link is of these weights, the file is not
        device = json.loads(own.environment).get("device"), json.loads(claim.environment).get("device")
        tolerance = self.rules.cpu if device == ("cpu", "cpu") else self.rules.gpu
        return compare(claim.link.weights, own.link.weights, dict(report.final_metrics), same=same, tolerance=tolerance)

    def _claim(self, tx: Tx, job: Job, item: Verification) -> StoredLink | None:
        """The link whose weights are in question."""
        if not item.end:
            return tx.last_link(job.id)
        found = [each for each in tx.kept_checkpoints(job.id) if each.number == item.end]
        return tx.link(job.id, found[0].link) if found else None

    def _settle(self, tx: Tx, completes: Completes | None, job: Job, item: Verification) -> None:
        """Does what follows from the checks so far."""
        done = [(each.node_id, each.verdict) for each in item.checks]
        still_open, unclear = item.count(Verdict.OPEN), item.count(Verdict.UNCLEAR)
        step = decide(item.wanted, done, still_open)
        if step.outcome is Outcome.VERIFIED and completes is not None:
            self._accept(tx, completes, job, item, step.wrong)
        elif step.outcome is Outcome.REJECTED:
            self._reject(tx, job, item, step.wrong)
        elif len(item.checks) + step.more > MOST_CHECKS and completes is not None:
            came, why = f"{len(item.checks)} checks came to no end", broke(tx, item)
            if why:
                self._refuse(tx, job, item, f"{came}: {why}")
            else:
                self._undecided(tx, completes, job, item, came)
        else:
            for _ in range(step.more):
                item = self._begin(tx, job, item, show_claim=unclear > 0)
            tx.save_verification(item)

    def _begin(self, tx: Tx, job: Job, item: Verification, *, show_claim: bool) -> Verification:
        """Adds the hidden job of one more check."""
        by_number = {each.number: each for each in tx.kept_checkpoints(job.id)}
        start, end = by_number.get(item.start), by_number.get(item.end)
        last, claim = tx.last_link(job.id), self._claim(tx, job, item)
        assert last is not None
        assert claim is not None
        files = cast("list[dict[str, Any]]", item.held["files"])
        worker = tx.node(item.node_id)
        busy = [item.node_id, *item.refused, *(each.node_id for each in item.checks if each.node_id)]
        nodes = [node for each in dict.fromkeys(busy) if (node := tx.node(NodeId(each))) is not None]
        environment = json.loads(claim.environment)
        check = CheckSpec(
            parent=job.id,
            token=str(item.token),
            start=item.start,
            end=item.end,
            stop_step=end.step if end is not None else 0,
            threads=int(environment.get("threads", 0)),
            resume=start.sha256 if start is not None else "",
            claim=end.sha256 if end is not None else files[0]["sha256"],
            result=files[0]["sha256"] if end is not None else "",
            result_weights=last.link.weights if end is not None else "",
            machine=machine_of(worker) if worker is not None else "",
            start_digest=digest_at(tx, job, start),
            show_claim=show_claim,
            not_nodes=tuple(node.id for node in nodes),
            not_owners=() if self.rules.same_owner else tuple({node.owner_id: None for node in nodes}),
        )
        device = Device.CPU if environment.get("device") == "cpu" else job.spec.resources.device
        hidden = Job(
            id=JobId(new_id()),
            owner_id=CHECKER,
            spec=replace(
                job.spec,
                name=f"check of {job.id}",
                model=tx.model(job.id),
                priority=Priority.HIGH,
                verify=Mode.NONE,
                checkpoint_every="none",
                labels={},
                resources=replace(job.spec.resources, device=device),
                check=check,
            ),
            created_at=tx.now,
            reason="waiting for the scheduler",
        )
        tx.add_job(hidden)
        tx.hint(leases.QUEUE)
        return item.with_check(CheckRun(hidden.id))

    # how it ends

    def _accept(self, tx: Tx, completes: Completes, job: Job, item: Verification, wrong: tuple[str, ...]) -> None:
        right = [each.node_id for each in item.checks if each.verdict is Verdict.MATCH]
        reason = f"{len(right)} of {len(right) + len(wrong)} other nodes came to the same"
        self._take(tx, completes, job, item, Outcome.VERIFIED, reason)
        for node_id in dict.fromkeys([item.node_id, *map(NodeId, right)]):
            tx.save_validity(tx.validity(node_id).after(valid=True))
        for node_id in wrong:
            self._blame(tx, job, item, NodeId(node_id), "its check was found wrong")

    def _undecided(self, tx: Tx, completes: Completes, job: Job, item: Verification, reason: str) -> None:
        """No more checks can be had. The result is taken, and says so; but not one that more found wrong than right.
        Who is wrong is not known then: none of them gets the job again, so that nobody wins it by a false word."""
        wrong = [each.node_id for each in item.checks if each.verdict is Verdict.MISMATCH]
        if len(wrong) <= item.count(Verdict.MATCH):
            self._take(tx, completes, job, item, Outcome.UNVERIFIED, reason)
            return
        found = f"{len(wrong)} of {len(item.checks)} checks found it wrong, and no other node could decide in time"
        self._refuse(tx, job, item, f"{found}: {reason}", wrong)

    def _take(self, tx: Tx, completes: Completes, job: Job, item: Verification, outcome: Outcome, reason: str) -> None:
        self.close(tx, item)
        held, lease = item.held, tx.lease(job.id, item.token)
        assert lease is not None
        files = tuple(ResultFile(**each) for each in cast("list[dict[str, Any]]", held["files"]))
        for file in files:
            info = tx.blob(file.sha256)
            if info is not None:
                tx.add_blob(info, job.owner_id)
        completes.complete(
            tx,
            job,
            lease,
            files=files,
            uri=f"blob://sha256/{files[0].sha256}",
            hashed=f"sha256:{files[0].sha256}",
            size=files[0].size,
            metrics=cast("dict[str, float]", held["metrics"]),
            seconds=float(held["seconds"]),
            joules=cast("float | None", held.get("joules")),
        )
        tx.save_verification(replace(item, held={}, outcome=outcome, reason=reason))
        tx.emit(JobVerified(job.id, job.owner_id, str(outcome), reason), private_to=job.owner_id)

    def _reject(self, tx: Tx, job: Job, item: Verification, wrong: tuple[str, ...]) -> None:
        """The work was wrong, by the word of two."""
        guilty: list[NodeId] = []
        others = Counter(each.weights for each in item.checks if each.verdict is Verdict.MISMATCH)
        reason = "two other nodes came to other weights"
        if max(others.values()) > 1:  # and to the same ones: so it is known who is wrong
            node_id = whose(tx, job, item)
            if node_id is None:
                guilty += parts(tx, job, item)
                reason = f"{reason}, and which of its {len(guilty)} nodes was wrong is not known: nobody is blamed"
            else:
                guilty.append(node_id)
                self._blame(tx, job, item, node_id, "its work was found wrong by two others")
            for node_id in wrong:
                self._blame(tx, job, item, NodeId(node_id), "its check was found wrong")
        else:
            reason = f"{reason}, each to its own: nobody is blamed"
        self._refuse(tx, job, item, reason, guilty)

    def _refuse(self, tx: Tx, job: Job, item: Verification, reason: str, others: Sequence[str] = ()) -> None:
        """Nothing of the work is kept or charged, and the job is done again elsewhere, once: by none of `others`."""
        self.close(tx, item)
        self.drop_held(tx, job, item)
        refused = tuple(dict.fromkeys([*item.refused, item.node_id, *others]))
        item = replace(
            item, held={}, outcome=Outcome.REJECTED, reason=reason, rejected=item.rejected + 1, refused=refused
        )
        tx.save_verification(item)
        tx.emit(JobVerified(job.id, job.owner_id, str(item.outcome), reason), private_to=job.owner_id)
        job = replace(job, compute_seconds=0.0, progress=0.0, epoch=0)
        if item.rejected >= MOST_REFUSED:
            leases.fail(tx, job, "INTERNAL", f"{item.rejected} nodes gave results that others did not come to")
        else:
            leases.refused(tx, job, item.node_id, f"the result of its node was refused: {reason}")

    def drop_held(self, tx: Tx, job: Job, item: Verification) -> None:
        """The result's files and the job's checkpoints go, and what was proved with them."""
        from cyxwiz.services.reports import release, release_blob

        tx.drop_proof(job.id)
        tx.drop_links(job.id, 0)
        for checkpoint in tx.kept_checkpoints(job.id):
            release(tx, job.id, checkpoint)
        for file in cast("list[dict[str, Any]]", item.held.get("files", [])):
            if is_digest(file["sha256"]):
                release_blob(tx, f"{job.id}:{item.token}:{file['name']}", file["sha256"])

    def close(self, tx: Tx, item: Verification) -> None:
        """Ends the checks that nobody waits for any more; what they made is not needed now."""
        from cyxwiz.services.reports import release_blob

        for each in item.checks:
            check = tx.job(each.job_id)
            if check is not None and not check.ended and each.verdict is Verdict.OPEN:
                leases.cancel(tx, check, "central", "its result is not waited for any more")
            made = tx.result(each.job_id)
            for file in made.files if made is not None else ():
                release_blob(tx, f"{each.job_id}:{file.name}", file.sha256)

    def _blame(self, tx: Tx, job: Job, item: Verification, node_id: NodeId, why: str) -> None:
        checks = [asdict(each) for each in item.checks]
        claim = self._claim_of(tx, job)
        evidence = {
            "job_id": job.id,
            "node_id": node_id,
            "token": str(item.token),
            "mode": str(item.mode),
            "interval": [item.start, item.end],
            "claimed": claim,
            "held": dict(item.held),
            "checks": checks,
            "why": why,
        }
        text = json.dumps(evidence, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).hexdigest()
        record(tx, "central", WRONG, f"node:{node_id}", evidence=text, evidence_hash=digest)
        node = tx.node(node_id)
        tx.emit(NodeWorkRefused(node_id, node.name if node is not None else "", why, digest))
        tx.save_validity(tx.validity(node_id).after(valid=False))
        self.reputation.record(tx, node_id, ReputationEvent(Kind.UNVERIFIED, job.id, why[:MAX_NOTE]), failed=1)
        self.slasher.slash(tx, node_id, digest)

    def _claim_of(self, tx: Tx, job: Job) -> Mapping[str, Any] | None:
        proof = tx.proof(job.id)
        return None if proof is None else {"statement": proof.statement.decode(), "signature": proof.signature.hex()}

    # when checks can't be had

    def attend(self, tx: Tx, completes: Completes, job_id: JobId) -> None:
        """One look at an open verification: failed checks are begun anew, one that waits too long is given up."""
        item, job = tx.verification(job_id), tx.job(job_id)
        if item is None or item.outcome is not Outcome.OPEN:
            return
        if job is None or job.phase is not Phase.VERIFYING or job.state is not JobState.RUNNING:
            self.close(tx, item)
            if job is not None:
                self.drop_held(tx, job, item)
            tx.save_verification(
                replace(item, held={}, outcome=Outcome.UNVERIFIED, reason="its job ended while it was verified")
            )
            return
        waiting, since, running = "", item.since, False
        for each in item.checks:
            check = tx.job(each.job_id)
            if each.verdict is not Verdict.OPEN:
                continue
            if check is None or check.ended:
                item = item.with_check(replace(each, verdict=Verdict.FAILED))
            elif check.state is JobState.PENDING:
                waiting, since = check.reason, max(since, waits_since(tx, check))
            else:
                running = True
        if waiting and not running and tx.now - since >= self.rules.wait:
            self._undecided(tx, completes, job, item, f"no node could check it in time: {waiting}")
            return
        if waiting:
            reason = f"its result waits for another node to check it: {waiting}"[: leases.MAX_REASON]
            if reason != job.reason:
                job = tx.save_job(replace(job, reason=reason))
                tx.hint(f"job:{job.id}", "progress")
        self._settle(tx, completes, job, item)


def machine_of(node: Node) -> str:
    """The class of a node's hardware, as far as central knows it before a run."""
    return " | ".join([node.hardware.cpu_model, *(gpu.name for gpu in node.hardware.gpus)])


def _held(report: pb.Finished) -> Mapping[str, Any]:
    return {
        "files": [{"name": each.name, "sha256": each.sha256, "size": each.size} for each in report.artefacts],
        "metrics": dict(report.final_metrics),
        "seconds": report.compute_seconds,
        "joules": report.energy_joules if report.HasField("energy_joules") else None,
    }
