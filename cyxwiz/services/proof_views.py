"""The documents of proofs: what is shown with a result, and all that a replay needs."""

from __future__ import annotations

import base64
import json
from typing import Any

from cyxwiz.domain.proof import Kind, genesis
from cyxwiz.domain.verification import JobProof, Outcome, StoredLink, Verification
from cyxwiz.services.proofs import ProofSeen
from cyxwiz.services.views import instant

Json = dict[str, Any]


def of_result(proof: JobProof | None, verification: Verification | None) -> Json:
    """What a result's document says of who vouches for it."""
    return {
        "chain_head": proof.head or None if proof is not None else None,
        "signature": _text(proof.signature) if proof is not None else None,
        "node_public_key": proof.public_key.hex() or None if proof is not None else None,
        "statement": proof.statement.decode() or None if proof is not None else None,
        "verification": _verification(verification),
    }


def document(item: ProofSeen) -> Json:
    spec, links = item.job.spec, item.links
    environment = _environment(item.proof)
    return {
        "job_id": item.job.id,
        "job_type": str(spec.type),
        "definition": {
            "model": item.model,
            "dataset_uri": spec.dataset_uri,
            "hyperparameters": dict(spec.hyperparameters),
            "epochs": spec.epochs,
            "batch_size": spec.batch_size,
        },
        "definition_sha256": item.definition,
        "data_sha256": links[0].data if links else (environment or {}).get("data"),
        "genesis": genesis(item.job.id, spec.seed, item.definition, links[0].data) if links else None,
        "seed": spec.seed,
        "links": [_link(each) for each in links],
        "nodes": dict(item.keys),
        "environment": environment,
        **of_result(item.proof, item.verification),
    }


def _link(item: StoredLink) -> Json:
    return {
        "number": item.number,
        "kind": "result" if item.link.kind is Kind.RESULT else "checkpoint",
        "step": item.link.step,
        "loss": item.link.loss,
        "weights": item.link.weights,
        "link": item.link.link,
        "node_id": item.node_id,
        "token": str(item.token),
        "environment": json.loads(item.environment),
        "signature": _text(item.signature),
        "at": instant(item.at),
    }


def _environment(proof: JobProof | None) -> Json | None:
    return json.loads(proof.environment) if proof is not None and proof.environment else None


def _verification(item: Verification | None) -> Json | None:
    if item is None:
        return None
    return {
        "mode": str(item.mode),
        "outcome": str(item.outcome) if item.outcome is not Outcome.OPEN else "open",
        "reason": item.reason,
        "checks": [
            {"node_id": each.node_id or None, "verdict": str(each.verdict) or "open", "figures": dict(each.figures)}
            for each in item.checks
        ],
    }


def _text(data: bytes) -> str | None:
    return base64.b64encode(data).decode() or None
