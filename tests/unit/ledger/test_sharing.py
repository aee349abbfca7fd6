"""Polls that are shared: how often a cluster is asked, and that each gets its own answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from solders.pubkey import Pubkey
from solders.signature import Signature

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ledger.rpc import Statuses
from cyxwiz.ledger.sharing import SPACING_SECONDS, SharingRpc
from cyxwiz.runtime.clock import VirtualClock, VirtualLoop


def signature(number: int) -> Signature:
    return Signature(number.to_bytes(64, "little"))


class Cluster:
    """Knows the transactions with even numbers; each call takes a while, and its slot is the number of calls."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.asked: list[list[str]] = []
        self.times: list[float] = []
        self.heights = 0
        self.accounts: list[int] = []
        self.down = False

    async def call(self, method: str, params: list[Any]) -> Any:
        await self.clock.sleep(0.1)
        if self.down:
            raise CyxError(Code.UNAVAILABLE, "down")
        if method == "getEpochInfo":
            self.heights += 1
            return {"blockHeight": self.heights, "absoluteSlot": self.heights}
        if method == "getMultipleAccounts":
            self.accounts.append(len(params[0]))
            held = {"data": ["", "base64"], "owner": str(Pubkey.default()), "executable": False, "rentEpoch": 0}
            lamports = [bytes(Pubkey.from_string(each))[0] for each in params[0]]
            values = [{**held, "lamports": each} if each else None for each in lamports]
            return {"context": {"slot": len(self.accounts)}, "value": values}
        assert method == "getSignatureStatuses"
        self.asked.append(params[0])
        self.times.append(self.clock.monotonic())
        slot = len(self.asked)
        even = [int.from_bytes(bytes(Signature.from_string(each)), "little") % 2 == 0 for each in params[0]]
        known = {"slot": 1, "confirmations": None, "err": None, "confirmationStatus": "finalized"}
        return {"context": {"slot": slot}, "value": [known if each else None for each in even]}


def played(body: Any) -> Cluster:
    async def play() -> Cluster:
        clock = VirtualClock()
        cluster = Cluster(clock)
        rpc = SharingRpc(cluster.call, clock, mint=Pubkey.default(), programs=[])
        try:
            await body(cluster, rpc)
        finally:
            await rpc.aclose()
        return cluster

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(play())


def found(statuses: Statuses) -> list[bool]:
    return [each is not None for each in statuses.found]


def test_many_who_ask_at_once_are_one_call_and_each_gets_its_own() -> None:
    async def body(cluster: Cluster, rpc: SharingRpc) -> None:
        answers = await asyncio.gather(*(rpc.statuses([signature(at), signature(at + 1)]) for at in range(60)))
        assert [found(each) for each in answers] == [[at % 2 == 0, at % 2 == 1] for at in range(60)]

    cluster = played(body)
    assert [len(each) for each in cluster.asked] == [61]


def test_more_than_a_call_takes_are_several_and_hold_for_the_earliest_slot() -> None:
    async def body(cluster: Cluster, rpc: SharingRpc) -> None:
        answers = await asyncio.gather(*(rpc.statuses([signature(at)]) for at in range(600)))
        assert [found(each) for each in answers] == [[at % 2 == 0] for at in range(600)]
        assert {each.slot for each in answers} == {1}

    assert [len(each) for each in played(body).asked] == [256, 256, 88]


def test_who_asks_alone_does_not_wait_and_who_asks_again_waits_its_time() -> None:
    async def body(cluster: Cluster, rpc: SharingRpc) -> None:
        for _ in range(3):
            await rpc.statuses([signature(2)])
            await rpc.height()

    cluster = played(body)
    assert cluster.times[0] == pytest.approx(0.1)
    assert all(b - a >= SPACING_SECONDS - 1e-9 for a, b in zip(cluster.times, cluster.times[1:], strict=False))
    assert cluster.heights == 3


def test_what_is_answered_was_asked_after_the_question() -> None:
    """One that comes while a call is on its way is not given that call's answer."""

    async def body(cluster: Cluster, rpc: SharingRpc) -> None:
        first = asyncio.create_task(rpc.height())
        await cluster.clock.sleep(0.05)
        second = await rpc.height()
        assert (await first).block_height < second.block_height

    played(body)


def test_a_failure_is_everybodys_and_the_next_round_asks_anew() -> None:
    async def body(cluster: Cluster, rpc: SharingRpc) -> None:
        cluster.down = True
        answers = await asyncio.gather(*(rpc.statuses([signature(at)]) for at in range(3)), return_exceptions=True)
        assert [getattr(each, "code", None) for each in answers] == [Code.UNAVAILABLE] * 3
        cluster.down = False
        assert found(await rpc.statuses([signature(4)])) == [True]

    played(body)


def test_accounts_are_read_together_and_each_says_itself_what_must_have_been_seen() -> None:
    async def body(cluster: Cluster, rpc: SharingRpc) -> None:
        keys = [Pubkey(bytes([at]) + bytes(31)) for at in range(120)]
        answers = await asyncio.gather(*(rpc.account(each) for each in (*keys, *keys)))
        lamports = [each.lamports if each is not None else 0 for each in answers]
        assert lamports == [*range(120), *range(120)]
        mixed = await asyncio.gather(*(rpc.account(keys[1], seen=at) for at in (2, 3, 4)), return_exceptions=True)
        assert [getattr(each, "code", None) for each in mixed] == [None, None, Code.UNAVAILABLE]

    assert played(body).accounts == [100, 20, 1]


def test_who_gives_up_disturbs_no_other() -> None:
    async def body(cluster: Cluster, rpc: SharingRpc) -> None:
        impatient = asyncio.create_task(rpc.statuses([signature(1)]))
        other = asyncio.create_task(rpc.statuses([signature(2)]))
        await cluster.clock.sleep(0.01)
        impatient.cancel()
        assert found(await other) == [True]
        assert found(await rpc.statuses([signature(6)])) == [True]

    played(body)


async def closed_meanwhile(cluster: Cluster, rpc: SharingRpc) -> None:
    asking = [asyncio.create_task(rpc.height()) for _ in range(2)]
    await cluster.clock.sleep(0.05)  # the call is on its way
    asking.append(asyncio.create_task(rpc.height()))
    await cluster.clock.sleep(0.01)
    await rpc.aclose()
    ended = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(each) for each in ended] == [asyncio.CancelledError] * 3


def test_nobody_waits_for_a_poll_that_was_closed() -> None:
    played(closed_meanwhile)


def test_a_question_that_is_none_fails_alone() -> None:
    async def body(cluster: Cluster, rpc: SharingRpc) -> None:
        answers = await asyncio.gather(rpc.statuses([]), rpc.statuses([signature(2)]), return_exceptions=True)
        assert getattr(answers[0], "code", None) is Code.INVALID
        assert isinstance(answers[1], Statuses)

    played(body)
