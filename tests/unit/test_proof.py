"""The chain's layout, what breaks it, and what a statement is compared with."""

from __future__ import annotations

import hashlib
import json
import platform
import struct
from collections.abc import Sequence
from importlib.metadata import version

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from cyxwiz.compute.identity import Identity
from cyxwiz.compute.signing import Signer
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import NodeId
from cyxwiz.domain.proof import (
    MAX_STATEMENT,
    Array,
    Kind,
    Link,
    arrays_digest,
    check_chain,
    definition_digest,
    extend,
    first_difference,
    genesis,
    is_digest,
    loss_bits,
)
from cyxwiz.ext.v1 import link_pb2 as pb

DATA, DEFINITION, WEIGHTS = ("d" * 64, "e" * 64, "a" * 64)
START = genesis("job", 7, DEFINITION, DATA)


def chain(*steps: int, weights: str = WEIGHTS) -> list[Link]:
    links: list[Link] = []
    for step in steps:
        kind = Kind.RESULT if step == steps[-1] else Kind.CHECKPOINT
        links.append(extend(links[-1].link if links else START, kind, step, loss_bits(1 / step), weights))
    return links


def test_the_layout_is_the_documented_one() -> None:
    body = (3).to_bytes(4, "big") + b"job" + struct.pack(">q", -7) + bytes.fromhex(DEFINITION + DATA)
    assert genesis("job", -7, DEFINITION, DATA) == hashlib.sha256(b"cyxwiz-proof-genesis-v1\n" + body).hexdigest()
    body = bytes.fromhex(START) + b"\1" + struct.pack(">Qd", 12, 0.25) + bytes.fromhex(WEIGHTS)
    link = extend(START, Kind.RESULT, 12, loss_bits(0.25), WEIGHTS)
    assert link.link == hashlib.sha256(b"cyxwiz-proof-link-v1\n" + body).hexdigest()
    assert link.loss == 0.25
    one = b"\0\0\0\1w\0\0\0\2f4" + (2).to_bytes(4, "big") + struct.pack(">QQ", 1, 2) + b"12345678"
    digest = arrays_digest([Array("w", "f4", (1, 2), [b"1234", b"5678"])])
    assert digest == hashlib.sha256(b"cyxwiz-proof-weights-v1\n" + one).hexdigest()


def test_the_order_of_arrays_does_not_matter_and_their_kind_does() -> None:
    one, two = Array("a", "f4", (1,), [b"1234"]), Array("b", "f4", (1,), [b"5678"])
    assert arrays_digest([one, two]) == arrays_digest([two, one])
    assert arrays_digest([one, two]) != arrays_digest([one, two], data=True)
    assert arrays_digest([Array("a", "f4", (2, 1), [b"12345678"])]) != arrays_digest(
        [Array("a", "f4", (1, 2), [b"12345678"])]
    )


@pytest.mark.parametrize(
    ("job", "seed", "definition", "data"),
    [
        ("other", 7, DEFINITION, DATA),
        ("job", 8, DEFINITION, DATA),
        ("job", 7, DATA, DATA),
        ("job", 7, DEFINITION, START),
    ],
)
def test_a_genesis_is_of_one_job(job: str, seed: int, definition: str, data: str) -> None:
    check_chain(START, chain(5, 10, 15))
    with pytest.raises(CyxError, match="step 5 does not follow"):
        check_chain(genesis(job, seed, definition, data), chain(5, 10, 15))


def test_what_breaks_a_chain() -> None:
    links = chain(5, 10, 15)
    with pytest.raises(CyxError, match="step 15 does not follow"):
        check_chain(START, [links[0], links[2]])
    with pytest.raises(CyxError, match="follows the result"):
        check_chain(START, [*links, extend(links[-1].link, Kind.RESULT, 20, 0, WEIGHTS)])
    back = extend(links[1].link, Kind.RESULT, 9, 0, WEIGHTS)
    with pytest.raises(CyxError, match="comes after that of step 10"):
        check_chain(START, [*links[:2], back])
    skipped = Link(Kind.CHECKPOINT, 11, links[1].loss_bits, WEIGHTS, links[1].link)
    with pytest.raises(CyxError, match="step 11 does not follow"):
        check_chain(START, [links[0], skipped, links[2]])


def test_the_first_difference_is_named() -> None:
    links = chain(5, 10, 15)
    assert first_difference(links, list(links)) is None
    assert first_difference(links, [links[0], *chain(5, 10, 15, weights="b" * 64)[1:]]) == 10
    assert first_difference(links, links[:2]) == 15
    assert first_difference(links[:2], links) == 15


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_bits_tell_losses_apart(one: float, other: float) -> None:
    assert (loss_bits(one) == loss_bits(other)) == (struct.pack(">d", one) == struct.pack(">d", other))
    assert Link(Kind.RESULT, 1, loss_bits(one), WEIGHTS, START).loss == one


@given(st.text(max_size=70))
def test_only_digests_are_digests(text: str) -> None:
    assert is_digest(text) == (len(text) == 64 and all(each in "0123456789abcdef" for each in text))


def test_a_definition_is_the_same_however_its_parts_are_given() -> None:
    assert definition_digest(a=1, b={"x": "1", "y": "2"}) == definition_digest(b={"y": "2", "x": "1"}, a=1)
    assert definition_digest(a=1) != definition_digest(a=2)


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1])
def test_a_seed_has_64_bits(seed: int) -> None:
    with pytest.raises(CyxError):
        genesis("job", seed, DEFINITION, DATA)


def test_no_statement_is_signed_that_central_would_not_take() -> None:
    """It would refuse the node for it, and how many files there are is a script's choice."""
    signer = Signer(Identity(NodeId("node"), Ed25519PrivateKey.generate()), pb.Assign(job_id="job"))

    def signed(count: int) -> pb.Finished:
        finished = pb.Finished(
            artefacts=[pb.Artefact(name=f"{number:04}.bin", sha256=WEIGHTS) for number in range(count)]
        )
        signer.sign(finished, {"loss": 0.5})
        return finished

    assert len(signed(800).statement) <= MAX_STATEMENT
    with pytest.raises(CyxError, match="pack files into one") as caught:
        signed(1000)
    assert caught.value.code is Code.INVALID


def test_a_result_without_a_chain_is_signed_with_what_its_node_gave_it() -> None:
    """A script makes no links, and its receipt has to say in what it ran, and on what, all the same."""
    signer = Signer(Identity(NodeId("node"), Ed25519PrivateKey.generate()), pb.Assign(job_id="job"), data=DATA)
    finished = pb.Finished(artefacts=[pb.Artefact(name="model.bin", sha256=WEIGHTS)])
    signer.sign(finished, {})
    facts = json.loads(finished.environment)
    assert (facts["python"], facts["torch"]) == (platform.python_version(), version("torch"))
    assert facts["machine"]
    assert facts["data"] == DATA
    assert json.loads(finished.statement)["environment"] == hashlib.sha256(finished.environment.encode()).hexdigest()


@pytest.mark.parametrize("names", [("a", "a"), ("a", "./a"), ("b/../a",), ("/a",), ("",), (".",), ("a//b",), ("a\0",)])
def test_no_result_is_signed_whose_names_mislead(names: Sequence[str]) -> None:
    """Of two files by one name the second was saved over the first, which alone is told, signed for and verified."""
    signer = Signer(Identity(NodeId("node"), Ed25519PrivateKey.generate()), pb.Assign(job_id="job"))
    with pytest.raises(CyxError, match="artefacts: ") as caught:
        signer.sign(pb.Finished(artefacts=[pb.Artefact(name=name, sha256=WEIGHTS) for name in names]), {})
    assert caught.value.code is Code.INVALID
    signer.sign(pb.Finished(artefacts=[pb.Artefact(name=name) for name in ("a", "b/a", "..a", "a \\ b")]), {})
