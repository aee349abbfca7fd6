"""What nodes measured between them: the same on every store."""

from __future__ import annotations

from datetime import timedelta

from cyxwiz.domain.ids import NodeId
from cyxwiz.domain.link import Link, pair
from cyxwiz.ports.store import Store
from tests.contract.make import START

A, B, C = (NodeId(f"{digit * 8}-3333-4333-8333-333333333333") for digit in "123")


async def test_the_newest_measurement_of_a_pair_is_kept(store: Store) -> None:
    old, new = Link(0.5, 1e6, START), Link(0.001, 1.25e9, START + timedelta(hours=1))
    await store.write(lambda tx: tx.save_node_links({pair(B, A): old, pair(B, C): old}))
    await store.write(lambda tx: tx.save_node_links({pair(A, B): new}))
    await store.write(lambda tx: tx.save_node_links({}))
    assert await store.read(lambda tx: tx.node_links(START)) == {(A, B): new, (B, C): old}
    assert await store.read(lambda tx: tx.node_links(START, C)) == {(B, C): old}
    assert await store.read(lambda tx: tx.node_links(START, B)) == {(A, B): new, (B, C): old}
    assert await store.read(lambda tx: tx.node_links(START + timedelta(minutes=1))) == {(A, B): new}
    assert await store.write(lambda tx: tx.prune_node_links(START + timedelta(minutes=1))) == 1
    assert await store.read(lambda tx: tx.node_links(START)) == {(A, B): new}
