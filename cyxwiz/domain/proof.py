"""Proof of compute: a hash chain over a training run, and the statement that a node signs about its result.

All digests are SHA-256. Whole numbers are unsigned and big-endian unless said otherwise; a text is its length in bytes
(4 bytes) and its UTF-8 bytes.

    genesis = H("cyxwiz-proof-genesis-v1\\n" | text job id | seed (8 bytes, two's complement)
                | digest of the definition (32) | digest of the data (32))
    link    = H("cyxwiz-proof-link-v1\\n" | link before, or genesis (32) | kind (1: 0 checkpoint, 1 result)
                | step (8) | loss of that step (8, IEEE 754 binary64) | digest of the result's weights, or of a
                checkpoint's state (32))
    weights = H("cyxwiz-proof-weights-v1\\n" | for each tensor, by name: text name | text type | dimensions (4)
                | each dimension (8) | its bytes, little-endian, row-major)
    data    = H("cyxwiz-proof-data-v1\\n" | the same for each array that was read)

A node signs each link, so that every node that had a part of a job answers for it, and a statement at the end. What is
signed begins with a line that no other signature of the platform begins with.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from cyxwiz.domain.errors import invalid

LINK_CONTEXT = b"cyxwiz-proof-signed-link-v1\n"
RESULT_CONTEXT = b"cyxwiz-proof-signed-result-v1\n"
MAX_STATEMENT = 64 << 10  # bytes
_GENESIS = b"cyxwiz-proof-genesis-v1\n"
_LINK = b"cyxwiz-proof-link-v1\n"
_WEIGHTS = b"cyxwiz-proof-weights-v1\n"
_DATA = b"cyxwiz-proof-data-v1\n"
_HEX = frozenset("0123456789abcdef")


class Kind(IntEnum):
    CHECKPOINT = 0
    RESULT = 1


@dataclass(frozen=True, slots=True)
class Link:
    """One step of a chain. Digests are hex; `loss_bits` are those of an IEEE binary64."""

    kind: Kind
    step: int  # optimizer steps done
    loss_bits: int
    weights: str  # of a checkpoint: its state
    link: str

    @property
    def loss(self) -> float:
        value: float = struct.unpack(">d", self.loss_bits.to_bytes(8, "big"))[0]
        return value


@dataclass(frozen=True, slots=True)
class Array:
    """What is hashed of a tensor. `data` are chunks of its bytes, in order."""

    name: str
    type: str
    shape: tuple[int, ...]
    data: Iterable[bytes | bytearray | memoryview]


def loss_bits(loss: float) -> int:
    """The 64 bits of a loss: equal losses have equal bits, and so have no others."""
    return int.from_bytes(struct.pack(">d", loss), "big")


def definition_digest(**parts: Any) -> str:
    """Of what is trained and how. JSON with sorted keys, so that who stores it and who runs it get the same."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def genesis(job_id: str, seed: int, definition: str, data: str) -> str:
    """What the first link of a chain stands on. Raises CyxError INVALID for what is no digest or no seed."""
    if not -(2**63) <= seed < 2**63:
        raise invalid(f"proof: the seed {seed} has more than 64 bits", field="seed")
    parts = (_text(job_id), seed.to_bytes(8, "big", signed=True), _digest(definition), _digest(data))
    return hashlib.sha256(_GENESIS + b"".join(parts)).hexdigest()


def extend(before: str, kind: Kind, step: int, bits: int, weights: str) -> Link:
    """The link that follows `before`, a link's digest or the genesis. Raises CyxError INVALID for what can't be one."""
    if not 0 <= step < 2**63 or not 0 <= bits < 2**64:
        raise invalid("proof: a step or a loss is out of bounds", field="step")
    body = _digest(before) + bytes([kind]) + step.to_bytes(8, "big") + bits.to_bytes(8, "big") + _digest(weights)
    return Link(kind, step, bits, weights, hashlib.sha256(_LINK + body).hexdigest())


def check_chain(start: str, links: Sequence[Link]) -> None:
    """Raises CyxError INVALID at the first link that does not follow from the one before, or goes back in its steps."""
    before, step, ended = start, 0, False
    for link in links:
        if ended:
            raise invalid(f"proof: a link of step {link.step} follows the result", step=link.step)
        check_follows(before, step, link)
        before, step, ended = link.link, link.step, link.kind is Kind.RESULT


def check_follows(before: str, step: int, link: Link) -> None:
    """Raises CyxError INVALID unless `link` is what follows the digest `before`, which stands at `step`."""
    if link.step < step:
        raise invalid(f"proof: the link of step {link.step} comes after that of step {step}", step=link.step)
    if extend(before, link.kind, link.step, link.loss_bits, link.weights).link != link.link:
        raise invalid(f"proof: the link of step {link.step} does not follow from the one before", step=link.step)


def arrays_digest(arrays: Iterable[Array], *, data: bool = False) -> str:
    """The digest of weights, or of a data set's arrays; their order does not matter."""
    digest = hashlib.sha256(_DATA if data else _WEIGHTS)
    for array in sorted(arrays, key=lambda each: each.name):
        digest.update(_text(array.name) + _text(array.type) + len(array.shape).to_bytes(4, "big"))
        for size in array.shape:
            digest.update(size.to_bytes(8, "big"))
        for chunk in array.data:
            digest.update(chunk)
    return digest.hexdigest()


def signed_link(job_id: str, token: str, link: str) -> bytes:
    """What a node signs of one link: it computed it, under this lease of this job."""
    return LINK_CONTEXT + _text(job_id) + _text(token) + _digest(link)


@dataclass(frozen=True, slots=True)
class Statement:
    """What a node says of a result, and signs. `head` is the last link's digest, empty for a run without a chain."""

    job_id: str
    token: str
    files: Mapping[str, str]  # name to SHA-256
    metrics: Mapping[str, float]
    head: str
    seed: int
    environment: str  # SHA-256 of the environment's JSON

    def encode(self) -> bytes:
        """JSON with sorted keys and no spaces: the same for the same statement."""
        return json.dumps(
            {
                "job_id": self.job_id,
                "token": self.token,
                "files": dict(self.files),
                "metrics": dict(self.metrics),
                "head": self.head,
                "seed": self.seed,
                "environment": self.environment,
            },
            sort_keys=True,
            separators=(",", ":"),
        ).encode()


def signed_result(statement: bytes) -> bytes:
    return RESULT_CONTEXT + statement


def environment_digest(environment: str) -> str:
    return hashlib.sha256(environment.encode()).hexdigest()


def first_difference(expected: Sequence[Link], got: Sequence[Link]) -> int | None:
    """The step of the first link that differs, or that one chain has and the other has not; None if all are equal."""
    for index in range(max(len(expected), len(got))):
        one = expected[index] if index < len(expected) else None
        other = got[index] if index < len(got) else None
        if one != other:
            found = one or other
            return found.step if found is not None else 0
    return None


def is_digest(text: str) -> bool:
    """Whether it is a SHA-256 in hex, in small letters."""
    return len(text) == 64 and _HEX.issuperset(text)


def _digest(text: str) -> bytes:
    if not is_digest(text):
        raise invalid(f"proof: {text[:70]!r} is no SHA-256 in hex")
    return bytes.fromhex(text)


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "big") + data
