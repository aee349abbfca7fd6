"""Proofs and verifications as statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, text, update

from cyxwiz.domain.ids import JobId, NodeId, Token
from cyxwiz.domain.proof import Kind, Link, loss_bits
from cyxwiz.domain.verification import (
    CheckRun,
    JobProof,
    Mode,
    Outcome,
    StoredLink,
    Validity,
    Verdict,
    Verification,
)
from cyxwiz.store.sql_unit import Unit, lookup, table
from cyxwiz.store.tables_proof import OPEN, JobLinkRow, JobProofRow, NodeValidityRow, VerificationRow

links, proofs = table(JobLinkRow), table(JobProofRow)
verifications, validity = table(VerificationRow), table(NodeValidityRow)

_OF_JOB = links.c.job_id == bindparam("job_id")
_ADD_LINK, _ADD_PROOF = insert(links), insert(proofs)
_LINKS = select(links).where(_OF_JOB).order_by(links.c.number)
_LAST = select(links).where(_OF_JOB).order_by(links.c.number.desc()).limit(1)
_LINK = select(links).where(_OF_JOB, links.c.link == bindparam("link")).order_by(links.c.number.desc()).limit(1)
_DROP_LINKS = delete(links).where(_OF_JOB, links.c.number > bindparam("above"))
_PROOF = lookup(select(proofs).where(proofs.c.job_id == bindparam("job_id")))
_DROP_PROOF = delete(proofs).where(proofs.c.job_id == bindparam("job_id"))
_VERIFICATION = lookup(select(verifications).where(verifications.c.job_id == bindparam("job_id")))
_OPEN = select(verifications).where(text(f"verifications.{OPEN}")).order_by(verifications.c.since)
# A row is changed in place: who waits for its lock would not find one that was put in the place of another.
_SAVE_VERIFICATION = update(verifications).where(verifications.c.job_id == bindparam("at_job_id"))
_VALIDITY = lookup(select(validity).where(validity.c.node_id == bindparam("node_id")))
_SAVE_VALIDITY = update(validity).where(validity.c.node_id == bindparam("at_node_id"))


class Proofs(Unit):
    def add_link(self, job_id: JobId, link: StoredLink) -> None:
        entry = link.link
        row = {
            "job_id": job_id,
            "number": link.number,
            "token_epoch": link.token.epoch,
            "token_counter": link.token.counter,
            "node_id": link.node_id,
            "at": link.at,
            "kind": int(entry.kind),
            "step": entry.step,
            "loss": entry.loss,
            "weights": entry.weights,
            "link": entry.link,
            "data": link.data,
            "environment": link.environment,
            "signature": link.signature,
        }
        self._run(_ADD_LINK, row)

    def links(self, job_id: JobId) -> Sequence[StoredLink]:
        return [_to_link(row) for row in self._run(_LINKS, {"job_id": job_id})]

    def last_link(self, job_id: JobId) -> StoredLink | None:
        row = self._run(_LAST, {"job_id": job_id}).one_or_none()
        return None if row is None else _to_link(row)

    def link(self, job_id: JobId, digest: str) -> StoredLink | None:
        row = self._run(_LINK, {"job_id": job_id, "link": digest}).one_or_none()
        return None if row is None else _to_link(row)

    def drop_links(self, job_id: JobId, above: int) -> None:
        self._run(_DROP_LINKS, {"job_id": job_id, "above": above})

    def add_proof(self, proof: JobProof) -> None:
        self._run(_ADD_PROOF, asdict(proof))

    def drop_proof(self, job_id: JobId) -> None:
        self._run(_DROP_PROOF, {"job_id": job_id})

    def proof(self, job_id: JobId) -> JobProof | None:
        row = self._one(_PROOF, job_id=job_id)
        if row is None:
            return None
        values = {**row._mapping, "job_id": JobId(row.job_id), "node_id": NodeId(row.node_id)}
        bare = {name: bytes(values[name]) for name in ("statement", "signature", "public_key")}
        return JobProof(**{**values, **bare})

    def save_verification(self, item: Verification) -> None:
        data = asdict(item)
        del data["job_id"], data["since"]
        row = {"since": item.since, "outcome": item.outcome.value, "data": data}
        if self._run(_SAVE_VERIFICATION, {**row, "at_job_id": item.job_id}).rowcount == 0:
            self._run(insert(verifications), {**row, "job_id": item.job_id})

    def verification(self, job_id: JobId) -> Verification | None:
        row = self._one(_VERIFICATION, job_id=job_id)
        return None if row is None else _to_verification(row)

    def open_verifications(self) -> Sequence[Verification]:
        return [_to_verification(row) for row in self._run(_OPEN)]

    def validity(self, node_id: NodeId) -> Validity:
        row = self._one(_VALIDITY, node_id=node_id)
        return Validity(node_id) if row is None else Validity(node_id, row.streak, row.valid, row.invalid)

    def save_validity(self, item: Validity) -> None:
        if self._run(_SAVE_VALIDITY, {**asdict(item), "at_node_id": item.node_id}).rowcount == 0:
            self._run(insert(validity), asdict(item))


def _to_link(row: Any) -> StoredLink:
    return StoredLink(
        number=row.number,
        token=Token(row.token_epoch, row.token_counter),
        node_id=NodeId(row.node_id),
        at=row.at,
        data=row.data,
        environment=row.environment,
        signature=bytes(row.signature),
        link=Link(Kind(row.kind), row.step, loss_bits(row.loss), row.weights, row.link),
    )


def _to_verification(row: Any) -> Verification:
    data = dict(row.data)
    data["mode"], data["outcome"] = Mode(data["mode"]), Outcome(data["outcome"])
    data["token"], data["node_id"] = Token(**data["token"]), NodeId(data["node_id"])
    data["checks"] = tuple(
        CheckRun(**{**each, "job_id": JobId(each["job_id"]), "verdict": Verdict(each["verdict"])})
        for each in data["checks"]
    )
    data["refused"] = tuple(data["refused"])
    return Verification(job_id=JobId(row.job_id), since=row.since, **data)
