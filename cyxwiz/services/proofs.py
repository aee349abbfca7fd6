"""What nodes sign, checked before anything of it is taken: links of chains, and statements of results.

Whatever is wrong raises CyxError INVALID, which ends the lease as its node's fault: the job is tried elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cyxwiz.domain.errors import invalid
from cyxwiz.domain.ids import NodeId
from cyxwiz.domain.job import MAX_COUNT, Job, JobSpec, JobType, Lease
from cyxwiz.domain.node import SIGNS
from cyxwiz.domain.proof import (
    MAX_STATEMENT,
    Kind,
    Link,
    Statement,
    check_follows,
    definition_digest,
    environment_digest,
    genesis,
    is_digest,
    loss_bits,
    signed_link,
    signed_result,
)
from cyxwiz.domain.verification import JobProof, StoredLink, Verification
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.store import Tx

MAX_ENVIRONMENT = 2000  # characters


def proves(spec: JobSpec) -> bool:
    """Whether a run of it makes a chain: training of a declared model."""
    return spec.type is JobType.TRAINING and spec.script is None


def definition_of(tx: Tx, job: Job) -> str:
    spec = job.spec
    return definition_digest(
        model=tx.model(job.id),
        dataset_uri=spec.dataset_uri,
        hyperparameters=dict(spec.hyperparameters),
        epochs=spec.epochs,
        batch_size=spec.batch_size,
    )


@dataclass(frozen=True, slots=True)
class ProofSeen:
    """Everything that proves one job, read together."""

    job: Job
    model: str
    definition: str
    links: Sequence[StoredLink]
    proof: JobProof | None
    verification: Verification | None
    keys: Mapping[NodeId, str]  # public keys in hex of the nodes that signed links


def seen(tx: Tx, job: Job) -> ProofSeen:
    model = tx.model(job.id)
    definition = definition_of(tx, job)
    links = tx.links(job.id)
    nodes = [tx.node(node_id) for node_id in {each.node_id for each in links}]
    keys = {node.id: node.public_key.hex() for node in nodes if node is not None and node.public_key}
    return ProofSeen(job, model, definition, links, tx.proof(job.id), tx.verification(job.id), keys)


def take_link(tx: Tx, job: Job, lease: Lease, message: pb.Link) -> None:
    """Stores a link that its node has signed and that follows from the one before.

    The first one of a lease follows from the checkpoint that its run went on from, else from the genesis: what another
    lease said after that is forgotten. Of a check only what its node signed is looked at: it stands in for nobody.
    """
    entry = _link_of(message)
    key = tx.node_key(lease.node_id)
    if not key:
        raise invalid("link: its node has no key", field="link")
    _verify(lease.node_id, key, signed_link(job.id, str(lease.token), entry.link), message.signature, "link")
    if not proves(job.spec):
        raise invalid(f"link: a run of job {job.id} has no chain", field="link")
    if not is_digest(message.data) or len(message.environment) > MAX_ENVIRONMENT:
        raise invalid("link: its data or its environment is out of bounds", field="link")
    _check_environment(message.environment)
    last = tx.last_link(job.id)
    if job.spec.check is not None:
        number = last.number + 1 if last is not None else 1
    else:
        before, step, number = _stand(tx, job, lease, last, message.data)
        check_follows(before, step, entry)
    tx.add_link(
        job.id,
        StoredLink(
            number,
            lease.token,
            lease.node_id,
            tx.now,
            message.data,
            message.environment,
            message.signature,
            entry,
        ),
    )


def _stand(tx: Tx, job: Job, lease: Lease, last: StoredLink | None, data: str) -> tuple[str, int, int]:
    """What a new link of the lease must follow: (digest, step, its number)."""
    if last is None or last.token != lease.token:
        saved = tx.kept_checkpoints(job.id)
        last = tx.link(job.id, saved[0].link) if saved and saved[0].link else None
        tx.drop_links(job.id, last.number if last is not None else 0)
    if last is None:
        return genesis(job.id, job.spec.seed, definition_of(tx, job), data), 0, 1
    if last.link.kind is Kind.RESULT:
        raise invalid("link: it follows the result's", field="link")
    if last.data != data:
        raise invalid("link: the run read other data than the one before it", field="link")
    return last.link.link, last.link.step, last.number + 1


def check_checkpoint(tx: Tx, job: Job, lease: Lease, message: pb.Checkpoint) -> None:
    """A checkpoint's link must be there, at its step. One without any is taken from a run that has no chain."""
    if not message.link:
        last = tx.last_link(job.id)
        if last is not None and last.token == lease.token:
            raise invalid("checkpoint: its run has a chain, and it has no link", field="checkpoint")
        return
    known = tx.link(job.id, message.link)
    if known is None or known.token != lease.token or known.link.step != message.step:
        raise invalid("checkpoint: its link is not in the chain of its run at that step", field="checkpoint")


def check_result(tx: Tx, job: Job, lease: Lease, report: pb.Finished) -> JobProof:
    """The proof of a result: its statement says what the report says, and is signed by the node's key."""
    last = tx.last_link(job.id)
    head = last.link.link if last is not None and last.token == lease.token else ""
    if head and last is not None and last.link.kind is not Kind.RESULT and job.spec.check is None:
        raise invalid("finished: the chain of its run has no link of the result", field="finished")
    node = tx.node(lease.node_id)
    if node is None or (SIGNS not in node.features and not report.signature):
        return JobProof(job.id, lease.node_id, head, b"", b"", b"", "", tx.now)
    if len(report.statement) > MAX_STATEMENT or len(report.environment) > MAX_ENVIRONMENT:
        raise invalid(f"finished: a statement has at most {MAX_STATEMENT} bytes", field="statement")
    _verify(node.id, node.public_key, signed_result(report.statement), report.signature, "result")
    expected = Statement(
        job_id=job.id,
        token=str(lease.token),
        files={artefact.name: artefact.sha256 for artefact in report.artefacts},
        metrics=dict(report.final_metrics),
        head=head,
        seed=job.spec.seed,
        environment=environment_digest(report.environment),
    )
    _compare(_facts(report.statement.decode(errors="replace")), _facts(expected.encode().decode()))
    _facts(report.environment)
    return JobProof(
        job.id, lease.node_id, head, report.statement, report.signature, node.public_key, report.environment, tx.now
    )


def _compare(said: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    wrong = [name for name, value in expected.items() if said.get(name) != value]
    if wrong or set(said) != set(expected):
        raise invalid(f"finished: the statement that its node signed has another {', '.join(wrong) or 'field'}")


def _facts(text: str) -> Mapping[str, Any]:
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise invalid("proof: a statement or an environment is no JSON object")
    return cast("Mapping[str, Any]", facts)


def _check_environment(text: str) -> None:
    """A check of the run takes its number of threads from there."""
    threads = _facts(text).get("threads", 1)
    if type(threads) is not int or not 0 < threads < MAX_COUNT:
        raise invalid("link: the threads of its environment are no number of threads", field="link")


def _link_of(message: pb.Link) -> Link:
    if message.kind not in (0, 1) or message.step >= 2**63 or message.loss - message.loss != 0:
        raise invalid("link: its kind, step or loss is out of bounds", field="link")
    if not is_digest(message.weights) or not is_digest(message.link):
        raise invalid("link: its digests are SHA-256 in hex", field="link")
    return Link(Kind(message.kind), message.step, loss_bits(message.loss), message.weights, message.link)


def _verify(node_id: NodeId, key: bytes, message: bytes, signature: bytes, what: str) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise invalid(f"proof: the signature of the {what} is not that of node {node_id}") from None
