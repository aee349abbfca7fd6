"""A proof as people hold it: the document that `services/proof_views.py` makes, checked without any server."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cyxwiz.domain.errors import conflict, invalid
from cyxwiz.domain.proof import (
    Kind,
    Link,
    check_chain,
    definition_digest,
    environment_digest,
    genesis,
    loss_bits,
    signed_link,
    signed_result,
)

Verified = Callable[[bytes, bytes, bytes], bool]  # (public key, signature, message)


def links_of(document: Mapping[str, Any]) -> list[Link]:
    """The links of a chain that holds in itself, from its genesis on; none for a run without one.

    Raises:
        CyxError: INVALID for a chain that does not hold.
    """
    links = [
        Link(
            Kind.RESULT if each["kind"] == "result" else Kind.CHECKPOINT,
            each["step"],
            loss_bits(each["loss"]),
            each["weights"],
            each["link"],
        )
        for each in document["links"]
    ]
    if links:
        definition = definition_digest(**document["definition"])
        check_chain(genesis(document["job_id"], document["seed"], definition, document["data_sha256"]), links)
    return links


def whole_chain(document: Mapping[str, Any]) -> list[Link]:
    """Raises CONFLICT for a job without a chain or that has not ended, INVALID for a chain that does not hold."""
    links = links_of(document)
    if not links or links[-1].kind is not Kind.RESULT:
        raise conflict(f"Job {document['job_id']} has no whole chain to compare with: it has {len(links)} links")
    return links


def check_proof(document: Mapping[str, Any], verified: Verified, files: Mapping[str, str]) -> None:
    """Raises INVALID unless the chain holds, each link is signed by its node, and the statement says what is here.

    Args:
        files: SHA-256 in hex of the result's files, by name.
    """
    job_id, links = document["job_id"], links_of(document)
    for link, told in zip(links, document["links"], strict=True):
        key = document["nodes"].get(told["node_id"])
        message = signed_link(job_id, told["token"], link.link)
        if key is None or not verified(bytes.fromhex(key), base64.b64decode(told["signature"]), message):
            raise invalid(f"proof: node {told['node_id']} did not sign the link of step {link.step}", step=link.step)
    if document["statement"] is None:
        return
    statement = document["statement"].encode()
    key, signature = bytes.fromhex(document["node_public_key"]), base64.b64decode(document["signature"])
    if not verified(key, signature, signed_result(statement)):
        raise invalid("proof: the statement of the result is not signed by its node")
    said = json.loads(statement)
    _agrees("job_id", said["job_id"], job_id)
    _agrees("seed", said["seed"], document["seed"])
    _agrees("files", said["files"], dict(files))
    _agrees("head", said["head"], links[-1].link if links else "")
    environment = document["environment"]
    if not links and environment:
        text = json.dumps(environment, sort_keys=True, separators=(",", ":"))
        _agrees("environment", said["environment"], environment_digest(text))
        _agrees("data", environment.get("data") or "", document["data_sha256"] or "")


def _agrees(field: str, said: Any, here: Mapping[str, str] | Sequence[str] | int) -> None:
    if said != here:
        raise invalid(f"proof: the node signed {str(said)[:200]} as {field}, and it is {str(here)[:200]}")
