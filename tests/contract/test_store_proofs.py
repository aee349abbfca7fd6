"""Every store: chains, proofs, verifications and the record of each node."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import JobId, NodeId, Token
from cyxwiz.domain.job import Checkpoint
from cyxwiz.domain.proof import Kind, extend, loss_bits
from cyxwiz.domain.verification import (
    CheckRun,
    CheckSpec,
    JobProof,
    Mode,
    Outcome,
    StoredLink,
    Validity,
    Verdict,
    Verification,
)
from cyxwiz.ports.store import Store
from tests.contract.make import START, job, node, stored

NODE = NodeId("22222222-2222-4222-8222-222222222222")
HASH = "ab" * 32


def link(number: int, step: int, loss: float = 0.5) -> StoredLink:
    entry = extend(HASH, Kind.CHECKPOINT, step, loss_bits(loss), HASH)
    return StoredLink(number, Token(1, 2**40), NODE, START, HASH, '{"torch":"2"}', b"\0\xff", entry)


async def test_a_chain_is_kept_to_the_last_bit(store: Store) -> None:
    one, other = job(), job()
    links = [link(1, 1, 0.1), link(2, 2**62, -1e-310), link(3, 2**62 + 1, 1 / 3)]
    await store.write(lambda tx: [tx.add_job(one), tx.add_job(other)])
    await store.write(lambda tx: [tx.add_link(one.id, each) for each in links])
    await store.write(lambda tx: tx.add_link(other.id, links[0]))
    assert list(await store.read(lambda tx: tx.links(one.id))) == links
    assert await store.read(lambda tx: tx.last_link(one.id)) == links[2]
    assert await store.read(lambda tx: tx.link(one.id, links[1].link.link)) == links[1]
    assert await store.read(lambda tx: tx.link(other.id, links[1].link.link)) is None
    await store.write(lambda tx: tx.drop_links(one.id, 1))
    assert list(await store.read(lambda tx: tx.links(one.id))) == links[:1]
    await store.write(lambda tx: tx.drop_links(one.id, 0))
    assert await store.read(lambda tx: tx.last_link(one.id)) is None
    assert await store.read(lambda tx: tx.last_link(other.id)) == links[0]
    with pytest.raises(CyxError) as twice:
        await store.write(lambda tx: tx.add_link(other.id, links[0]))
    assert twice.value.code is Code.EXISTS


async def test_a_proof_and_its_job(store: Store) -> None:
    one = job()
    proof = JobProof(one.id, NODE, HASH, b'{"a":1}', b"\0" * 64, b"\xfe" * 32, "{}", START)
    await store.write(lambda tx: [tx.add_job(one), tx.add_proof(proof)])
    assert await store.read(lambda tx: tx.proof(one.id)) == proof
    await store.write(lambda tx: tx.drop_proof(one.id))
    assert await store.read(lambda tx: tx.proof(one.id)) is None
    await store.write(lambda tx: [tx.add_proof(proof), tx.add_link(one.id, link(1, 1)), tx.delete_job(one.id)])
    assert await store.read(lambda tx: (tx.proof(one.id), tx.last_link(one.id))) == (None, None)
    with pytest.raises(CyxError) as nobodys:
        await store.write(lambda tx: tx.add_proof(proof))
    assert nobodys.value.code is Code.CONFLICT


async def test_verifications_until_they_are_over(store: Store) -> None:
    jobs = [job() for _ in range(3)]
    held = {"files": [{"name": "a", "sha256": HASH, "size": 1}], "metrics": {"loss": 0.1}, "seconds": 1.5}
    items = [
        Verification(
            each.id, Mode.SPOT, START + timedelta(seconds=age), NODE, Token(1, 7), 0, 3, 1, held, refused=("n",)
        )
        for each, age in zip(jobs, (2, 0, 1), strict=True)
    ]
    await store.write(lambda tx: [tx.add_job(each) for each in jobs])
    await store.write(lambda tx: [tx.save_verification(each) for each in items])
    assert list(await store.read(lambda tx: tx.open_verifications())) == [items[1], items[2], items[0]]
    run = CheckRun(JobId(jobs[2].id), NODE, Verdict.MISMATCH, HASH, {"max_abs": 0.25})
    over = replace(items[1].with_check(run), outcome=Outcome.REJECTED, rejected=1)
    await store.write(lambda tx: tx.save_verification(over))
    assert await store.read(lambda tx: tx.verification(jobs[1].id)) == over
    assert len(await store.read(lambda tx: tx.open_verifications())) == 2


async def test_the_record_of_a_node(store: Store) -> None:
    one = node()
    assert await store.read(lambda tx: tx.validity(one.id)) == Validity(one.id)
    await store.write(lambda tx: [tx.add_node(one), tx.save_validity(Validity(one.id, 3, 4, 1))])
    await store.write(lambda tx: tx.save_validity(tx.validity(one.id).after(valid=True)))
    assert await store.read(lambda tx: tx.validity(one.id)) == Validity(one.id, 4, 5, 1)


async def test_a_check_is_part_of_its_job(store: Store) -> None:
    plain = job()
    check = CheckSpec(plain.id, "1-2", 0, 3, 40, 2, HASH, HASH, "", "", "CPU", HASH, True, (NODE,), ("owner",))
    hidden = replace(job(), spec=replace(job().spec, check=check, verify=Mode.QUORUM, copies=4))
    await store.write(lambda tx: [tx.add_job(plain), tx.add_job(hidden)])
    assert await store.read(lambda tx: tx.job(hidden.id)) == stored(hidden)
    point = Checkpoint(1, START, NODE, Token(1, 1), 1, 0, 5, 0.5, 2, HASH, 9, link=HASH)
    await store.write(lambda tx: tx.add_checkpoint(plain.id, point))
    assert list(await store.read(lambda tx: tx.checkpoints(plain.id, 5))) == [point]
