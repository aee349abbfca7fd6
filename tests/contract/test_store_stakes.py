"""Stakes and the steps to be done with them: the same on every store."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import NodeId
from cyxwiz.domain.stake import Contest, Stake, StakeKind, StakeStep, StepState
from cyxwiz.ports.store import Store
from tests.contract.make import OWNER, START

NODE, OTHER = NodeId("33333333-3333-4333-8333-333333333333"), NodeId("44444444-4444-4444-8444-444444444444")


def step(ident: str, node: NodeId = NODE, due: float = 0.0, **changes: object) -> StakeStep:
    made = StakeStep(
        ident, node, OWNER, StakeKind.SLASH, START, START + timedelta(seconds=due), units=2**62, evidence="ab", by="me"
    )
    return replace(made, **changes)  # type: ignore[arg-type]


async def test_a_step_is_added_once_and_saved_by_who_read_it(store: Store) -> None:
    assert await store.write(lambda tx: tx.add_stake_step(step("a")))
    assert not await store.write(lambda tx: tx.add_stake_step(step("a", units=1)))
    read = await store.read(lambda tx: tx.stake_step("a"))
    assert read == step("a")
    done = replace(step("a"), state=StepState.DONE, reference="r", upheld=True, attempts=2)
    assert await store.write(lambda tx: tx.save_stake_step(done)) == replace(done, version=1)
    with pytest.raises(CyxError) as caught:
        await store.write(lambda tx: tx.save_stake_step(done))
    assert caught.value.code is Code.STALE
    assert await store.read(lambda tx: tx.stake_step("b")) is None


async def test_pending_steps_are_found_by_node_and_by_time(store: Store) -> None:
    now = await store.read(lambda tx: tx.now)
    ahead = (now - START).total_seconds()
    late = step("late", due=ahead + 60)
    given = [step("b"), step("a"), late, step("done", state=StepState.DONE), step("other", OTHER)]
    for each in given:
        await store.write(lambda tx, each=each: tx.add_stake_step(each))
    assert [each.id for each in await store.read(lambda tx: tx.due_stake_steps(10))] == ["a", "b", "other"]
    assert [each.id for each in await store.read(lambda tx: tx.due_stake_steps(1))] == ["a"]
    assert [each.id for each in await store.read(lambda tx: tx.pending_stake_steps(NODE))] == ["a", "b", "late"]
    newest = [each.id for each in await store.read(lambda tx: tx.stake_steps(NODE, 2))]
    assert newest == ["late", "done"]


async def test_a_stake_is_kept_as_it_was_saved(store: Store) -> None:
    assert await store.read(lambda tx: tx.stake_of("x")) == Stake("x")
    stake = Stake("x", 1, 2, START, Contest.APPEALED, 3, 4, START + timedelta(seconds=1), "ab", 2**62)
    for each in (replace(stake, active_units=9), stake):
        await store.write(lambda tx, each=each: tx.save_stake(each))
    assert await store.read(lambda tx: tx.stake_of("x")) == stake
