"""Stakes by the doors and by the loop: who may, what is refused, the gate, slashes that outlive crashes."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from cyxwiz.client import Client
from cyxwiz.domain.account import Principal
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import NodeId
from cyxwiz.domain.node import Node
from cyxwiz.domain.stake import Contest, Stake, StakeDone, StakeKind, StakeStep, StepState
from cyxwiz.services.call import Call
from cyxwiz.services.stakes import Staking
from cyxwiz.transports.grpc.mapping import info_to
from tests.central import central as real_central
from tests.contract.conftest import HandClock
from tests.nodes import local_link, node
from tests.training import InlineExecutor
from tests.wiring import JOB, Central, central

UNITS = 10**9
EVIDENCE, OTHER_EVIDENCE = "ab" * 32, "cd" * 32
DAY = 86400
RULES: dict[str, Any] = {
    "ledger": {"stake_cooldown_seconds": 4 * DAY, "stake_appeal_seconds": DAY},
    "blockchain": {"minimum_stake": "100"},
}


class House:
    """A central with credits, on a clock that is moved by hand, and a node of admin's."""

    def __init__(self, made: Central, clock: HandClock, node: NodeId) -> None:
        self.central, self.clock, self.node = made, clock, node

    @property
    def staking(self) -> Staking:
        assert self.central.api.staking is not None
        return self.central.api.staking

    async def actor(self, key: str | None = None) -> Principal:
        return await self.central.accounts.authenticate(key or self.central.admin)

    async def ask(self, method: str, key: str | None = None, idempotency: str = "", **args: Any) -> dict[str, Any]:
        call = Call(await self.actor(key), self.node, args, idempotency_key=idempotency)
        return dict(await getattr(self.central.api, method)(call))

    async def refused(self, code: Code, method: str, key: str | None = None, **args: Any) -> CyxError:
        before = await self.ask("get_stake")
        with pytest.raises(CyxError) as caught:
            await self.ask(method, key, **args)
        assert caught.value.code is code, caught.value
        after = await self.ask("get_stake")
        assert {**after, "steps": []} == {**before, "steps": []}
        return caught.value

    async def balance(self) -> int:
        return int((await self.ask("get_wallet"))["balance_units"])

    async def owed(self, evidence: str = EVIDENCE) -> None:
        await self.central.store.write(lambda tx: self.staking.slash(tx, self.node, evidence))

    async def entries(self, action: str) -> list[dict[str, Any]]:
        log = await self.central.store.read(lambda tx: tx.audit_log(1000))
        return [dict(each.details) for each in log if each.action == action]

    async def steps(self, kind: StakeKind) -> list[StakeStep]:
        found = await self.central.store.read(lambda tx: tx.stake_steps(self.node, 100))
        return [each for each in found if each.kind is kind]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    clock = HandClock()
    made = await central(tmp_path, clock=clock, charged=True, **RULES)
    yield House(made, clock, await made.node())
    await made.aclose()


async def test_a_stake_goes_in_cools_down_and_comes_out(house: House) -> None:
    before = await house.balance()
    added = await house.ask("add_stake", amount="250.5")
    assert (added["stake"], added["required"], added["did"]["status"]) == ("250.5", "100", "done")
    assert await house.balance() == before - 250_500_000_000
    shown = await house.ask("get_node")
    assert (shown["stake"], shown["stake_units"]) == ("250.5", 250_500_000_000)
    cooling = await house.ask("withdraw_stake", amount="50.5")
    assert (cooling["did"]["kind"], cooling["stake"], cooling["cooling"]) == ("cooldown", "200", "50.5")
    early = await house.refused(Code.CONFLICT, "withdraw_stake")
    assert cooling["cooling_until"][:10] in early.message
    house.clock.advance(4 * DAY)
    assert (await house.ask("get_stake"))["withdrawable"] == "50.5"
    out = await house.ask("withdraw_stake")
    assert (out["did"]["kind"], out["did"]["amount"], out["cooling"]) == ("unstake", "50.5", "0")
    assert await house.balance() == before - 200 * UNITS
    kinds = [each["kind"] for each in (await house.ask("list_transactions"))["transactions"]]
    assert {"stake", "unstake", "cooldown"} <= set(kinds)
    assert await house.central.store.read(lambda tx: tx.accounts_total()) == 0


async def test_rewards_are_shown_funded_and_claimed(house: House) -> None:
    await house.ask("add_stake", amount="400")
    house.clock.advance(365 * DAY)
    shown = await house.ask("get_stake")
    assert (shown["rewards_due"], shown["rewards_percent"], shown["rewards_vault"]) == ("20", 5.0, "0")
    empty = await house.refused(Code.CONFLICT, "claim_rewards")
    assert "vault is empty" in empty.message
    before = await house.balance()
    for _ in range(2):
        given = await house.ask("fund_rewards", idempotency="gift", amount="15")
        assert (given["rewards_account"], given["rewards_vault"]) == (shown["rewards_account"], "15")
    claimed = await house.ask("claim_rewards", idempotency="claim")
    again = await house.ask("claim_rewards", idempotency="claim")
    assert claimed["did"] == again["did"]
    assert (claimed["did"]["kind"], claimed["did"]["amount"], claimed["rewards_due"]) == ("rewards", "15", "5")
    assert await house.balance() == before
    assert await house.entries("stake.rewards") == [{"units": 15 * UNITS, "reference": claimed["did"]["reference"]}]
    await house.refused(Code.FORBIDDEN, "claim_rewards", house.central.alice)
    for amount in ("0", "-1"):
        await house.refused(Code.INVALID, "fund_rewards", amount=amount)
    assert await house.central.store.read(lambda tx: tx.accounts_total()) == 0


async def test_an_answer_that_was_lost_is_asked_for_again_without_harm(house: House) -> None:
    first = await house.ask("add_stake", idempotency="a", amount="100")
    again = await house.ask("add_stake", idempotency="a", amount="100")
    assert (first["stake"], again["stake"], again["did"]) == ("100", "100", first["did"])
    down = await house.ask("withdraw_stake", idempotency="b")
    assert (await house.ask("withdraw_stake", idempotency="b"))["did"] == down["did"]
    await house.refused(Code.CONFLICT, "appeal_slash")
    for act, content in (("add_stake", {"amount": "100"}), ("withdraw_stake", {"amount": "50"})):
        with pytest.raises(CyxError, match="This idempotency key was used for something else"):
            await house.ask(act, idempotency="b", **content)


async def test_a_judgment_is_not_taken_for_the_other_one(house: House) -> None:
    await house.ask("add_stake", amount="300")
    await house.owed()
    await house.staking.tend()
    await house.ask("appeal_slash")
    first = await house.ask("judge_slash", idempotency="j", upheld=False)
    assert (await house.ask("judge_slash", idempotency="j", upheld=False))["did"] == first["did"]
    with pytest.raises(CyxError, match="This idempotency key was used for something else"):
        await house.ask("judge_slash", idempotency="j", upheld=True)


BAD = ["0", "-1", "9223372036.854775808", "0.0000000001", "much", "", "1e400", "NaN", "0.000000999", "99.999999999"]


@pytest.mark.parametrize("amount", BAD)
@pytest.mark.parametrize("door", ["rest", "core"])
async def test_no_amount_is_refused_at_every_door(house: House, door: str, amount: str) -> None:
    if door == "core":
        await house.refused(Code.INVALID, "add_stake", amount=amount)
        if amount != "99.999999999":  # which is a fine amount to withdraw, were it there
            await house.refused(Code.INVALID, "withdraw_stake", amount=amount)
        return
    transport = httpx.ASGITransport(app=house.central.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        for path in ("stake", "stake/withdraw")[: 1 if amount == "99.999999999" else 2]:
            answer = await client.post(
                f"/api/nodes/{house.node}/{path}",
                json={"amount": amount},
                headers={"Authorization": f"Bearer {house.central.admin}"},
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID"), answer.text
            assert "amount" in answer.json()["error"]["message"]


async def test_grpc_serves_it_and_refuses_the_same(tmp_path: Path) -> None:
    async with (
        real_central(tmp_path, "blockchain.minimum_stake=100", charged=True) as server,
        node(tmp_path / "node", local_link(server), InlineExecutor()) as agent,
    ):
        rig = agent._identity.node_id
        _, alice = await server.user("alice")
        async with Client(server.address, server.key) as mine, Client(server.address, alice) as hers:
            for amount in BAD:
                with pytest.raises(CyxError) as refused:
                    await mine.add_stake(rig, amount)
                assert refused.value.code is Code.INVALID, amount
            with pytest.raises(CyxError) as poor:
                await mine.add_stake(rig, "5000")
            assert poor.value.code is Code.FUNDS
            assert (await mine.add_stake(rig, "150"))["stake"] == "150"
            assert (await mine.withdraw_stake(rig, "50"))["cooling"] == "50"
            for act in (hers.stake, hers.withdraw_stake, hers.appeal_slash):
                with pytest.raises(CyxError) as foreign:
                    await act(rig)
                assert foreign.value.code is Code.FORBIDDEN
            assert (await mine.stake(rig))["stake"] == "100"


async def test_rest_serves_it_to_the_owner_alone(house: House) -> None:
    transport = httpx.ASGITransport(app=house.central.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:

        async def ask(verb: str, path: str, key: str = "", **body: Any) -> tuple[int, Any]:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            answer = await client.request(verb, f"/api/nodes/{house.node}/{path}", json=body or None, headers=headers)
            return answer.status_code, answer.json()

        admin, alice = house.central.admin, house.central.alice
        for verb, path, body in (
            ("GET", "stake", {}),
            ("POST", "stake", {"amount": "100"}),
            ("POST", "stake/withdraw", {}),
            ("POST", "stake/appeal", {}),
            ("POST", "stake/judgment", {"upheld": True}),
        ):
            assert (await ask(verb, path, **body))[0] == 401
            assert (await ask(verb, path, alice, **body))[0] == 403
        status, made = await ask("POST", "stake", admin, amount="100")
        assert (status, made["stake"]) == (200, "100")
        status, found = await ask("GET", "stake", admin)
        assert (status, found["stake_units"], found["did"]) == (200, 100 * UNITS, None)
        status, refusal = await ask("POST", "stake", admin, amount="5000")
        assert (status, refusal["error"]["code"]) == (402, "FUNDS")
        status, refusal = await ask("POST", "stake/withdraw", admin, amount="101")
        assert (status, refusal["error"]["code"]) == (402, "FUNDS")
        assert (await ask("POST", "stake/judgment", admin))[0] == 400


async def test_without_a_ledger_there_are_no_stakes(tmp_path: Path) -> None:
    made = await central(tmp_path)
    admin, node_id = await made.accounts.authenticate(made.admin), await made.node()
    for act, args in ((made.api.get_stake, {}), (made.api.add_stake, {"amount": "1"})):
        with pytest.raises(CyxError) as caught:
            await act(Call(admin, node_id, args))
        assert caught.value.code is Code.UNSUPPORTED
        assert "ledger.backend" in caught.value.message
    await made.aclose()


async def test_a_node_below_the_minimum_gets_no_jobs_of_others(house: House) -> None:
    made = house.central
    bob, admin = await house.actor(made.bob), await house.actor()

    async def reasons(who: Principal) -> list[str | None]:
        document = await made.api.submit_job(Call(who, args=JOB))
        verdicts = (await made.api.explain_job(Call(who, document["id"])))["nodes"]
        return [each["reason"] for each in verdicts]

    node = await made.nodes.get(house.node)
    assert node.status == "online"
    assert await reasons(bob) == ["stake below 100 CYXWIZ"]
    assert await reasons(admin) == [None], "its owner's jobs need no stake"
    with pytest.raises(CyxError) as kept:
        await made.reservations.reserve(bob, house.node, "", 60)
    assert kept.value.code is Code.CONFLICT
    await house.ask("add_stake", amount="100")
    assert await reasons(bob) == [None]
    await house.ask("withdraw_stake")
    assert await reasons(bob) == ["stake below 100 CYXWIZ"]


async def test_a_slash_sets_half_aside_and_is_lost_after_its_time(house: House) -> None:
    await house.ask("add_stake", amount="300")
    await house.owed()
    await house.owed()  # the same evidence once more
    await house.refused(Code.CONFLICT, "withdraw_stake")
    await house.staking.tend()
    seen = await house.ask("get_stake")
    assert (seen["stake"], seen["contested"], seen["contest"], seen["evidence_hash"]) == (
        "150",
        "150",
        "pending",
        EVIDENCE,
    )
    await house.staking.tend()
    assert (await house.ask("get_stake"))["contested"] == "150"
    house.clock.advance(DAY)
    await house.staking.tend()
    ended = await house.ask("get_stake")
    assert (ended["stake"], ended["contested"], ended["slashed"]) == ("150", "0", "150")
    assert [each["units"] for each in await house.entries("node.slash")] == [150 * UNITS]
    assert [each["units"] for each in await house.entries("stake.conclude")] == [150 * UNITS]
    account = (await house.ask("get_node"))["reputation_account"]
    told = [each["note"] for each in account["events"] if each["kind"] == "slashed"]
    assert len(told) == 2
    assert all("150 CYXWIZ" in note and EVIDENCE[:16] in note for note in told)
    assert account["score"] == 75
    events = await house.central.store.read(lambda tx: tx.events(0, frozenset(), 1000))
    slashed = [each for each in events if each.kind == "node.slashed"]
    assert [each.data["step"] for each in slashed] == ["set_aside", "lost"]
    owner = (await house.actor()).id
    assert {each.owner_id for each in slashed} == {owner}, "its owner alone is told"
    assert await house.central.store.read(lambda tx: tx.accounts_total()) == 0


async def test_ones_own_nodes_and_the_wire_contract_show_the_stake(house: House) -> None:
    await house.ask("add_stake", amount="250.5")
    assert [each["id"] for each in (await house.ask("list_nodes", mine=True))["nodes"]] == [house.node]
    assert (await house.ask("list_nodes", house.central.alice, mine=True))["nodes"] == []
    node = await house.central.nodes.get(house.node)
    assert info_to(node, house.clock.now()).staked_amount == 250.5


async def test_a_ledger_that_has_less_than_was_written_down_is_right(house: House) -> None:
    await house.ask("add_stake", amount="250")
    account = (await house.ask("get_stake"))["account"]
    await house.central.store.write(lambda tx: tx.save_stake(Stake(account, active_units=UNITS)))
    await house.staking.refresh()
    assert (await house.central.nodes.get(house.node)).stake_units == UNITS


@pytest.mark.parametrize("end", ["upheld", "dismissed", "not judged"])
async def test_an_appeal_is_judged_by_an_admin_or_granted_by_time(house: House, end: str) -> None:
    await house.ask("add_stake", amount="300")
    await house.owed()
    await house.staking.tend()
    assert (await house.ask("appeal_slash"))["contest"] == "appealed"
    if end == "not judged":
        house.clock.advance(DAY)
        await house.staking.tend()
    else:
        await house.ask("judge_slash", upheld=end == "upheld")
    seen = await house.ask("get_stake")
    assert (seen["contest"], seen["slashed"]) == ("none", "150" if end == "upheld" else "0")
    house.clock.advance(3 * DAY)
    await house.staking.tend()
    assert (await house.ask("get_stake"))["stake"] == ("150" if end == "upheld" else "300")
    assert [each.state for each in await house.steps(StakeKind.CONCLUDE)] == [StepState.DONE]


async def test_only_an_admin_judges(house: House) -> None:
    alice = await house.actor(house.central.alice)
    await house.central.store.write(
        lambda tx: tx.save_node(replace(tx.node(house.node), owner_id=alice.id))  # type: ignore[type-var]
    )
    await house.ask("add_stake", house.central.alice, amount="300")
    await house.owed()
    await house.staking.tend()
    await house.ask("appeal_slash", house.central.alice)
    await house.refused(Code.FORBIDDEN, "judge_slash", house.central.alice, upheld=False)


async def test_two_slashes_come_one_after_the_other_and_none_is_lost(house: House) -> None:
    await house.ask("add_stake", amount="400")
    await house.owed()
    await house.owed(OTHER_EVIDENCE)
    await house.staking.tend()
    assert (await house.ask("get_stake"))["contested"] == "200"
    for _ in range(4):
        house.clock.advance(DAY + 61)
        await house.staking.tend()
    ended = await house.ask("get_stake")
    assert (ended["stake"], ended["slashed"], ended["contest"]) == ("100", "300", "none")


async def test_nothing_staked_is_nothing_slashed(house: House) -> None:
    await house.owed()
    await house.staking.tend()
    (step,) = await house.steps(StakeKind.SLASH)
    assert (step.state, step.units) == (StepState.DONE, 0)
    assert [each["units"] for each in await house.entries("node.slash")] == [0]


class Dying:
    """A ledger whose central dies before or after it did a step."""

    def __init__(self, whole: Any, *, after: bool) -> None:
        self.whole, self.after = whole, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    async def perform(self, node: Node, step: StakeStep) -> StakeDone:
        if self.after:
            await self.whole.perform(node, step)
        raise KeyboardInterrupt("killed")


@pytest.mark.parametrize("after", [False, True], ids=["before the ledger did it", "after it"])
@pytest.mark.parametrize("kind", ["slash", "conclude", "add"])
async def test_a_crash_neither_loses_a_step_nor_does_it_twice(house: House, kind: str, after: bool) -> None:
    await house.ask("add_stake", amount="300")
    if kind != "add":
        await house.owed()
    if kind == "conclude":
        await house.staking.tend()
        house.clock.advance(DAY)
    whole = house.staking._stakes
    house.staking._stakes = Dying(whole, after=after)
    with pytest.raises(KeyboardInterrupt):
        await (house.ask("add_stake", amount="100") if kind == "add" else house.staking.tend())
    house.staking._stakes = whole
    house.staking._locks.clear()
    await house.staking.tend()  # it is still claimed
    for _ in range(3):
        house.clock.advance(timedelta(minutes=3).total_seconds())
        await house.staking.tend()
    seen = await house.ask("get_stake")
    expected = {"slash": ("150", "150", "0"), "conclude": ("150", "0", "150"), "add": ("400", "0", "0")}[kind]
    assert (seen["stake"], seen["contested"], seen["slashed"]) == expected
    done = {"slash": "node.slash", "conclude": "stake.conclude", "add": "stake.add"}[kind]
    assert len(await house.entries(done)) == (2 if kind == "add" else 1)
    assert Contest(seen["contest"]) is (Contest.PENDING if kind == "slash" else Contest.NONE)


async def test_a_ledger_that_is_away_is_asked_again(house: House) -> None:
    class Away(Dying):
        async def perform(self, node: Node, step: StakeStep) -> StakeDone:
            raise CyxError(Code.UNAVAILABLE, "the cluster is away")

    whole = house.staking._stakes
    house.staking._stakes = Away(whole, after=False)
    with pytest.raises(CyxError) as caught:
        await house.ask("add_stake", amount="100")
    assert caught.value.code is Code.UNAVAILABLE
    assert "stake show" in caught.value.message
    await house.refused(Code.CONFLICT, "add_stake", amount="100")
    house.staking._stakes = whole
    house.clock.advance(61)
    await house.staking.tend()
    assert (await house.ask("get_stake"))["stake"] == "100"


class Slow(Dying):
    """A ledger that lets others run before it does a step."""

    async def perform(self, node: Node, step: StakeStep) -> StakeDone:
        await asyncio.sleep(0.02)
        done: StakeDone = await self.whole.perform(node, step)
        return done


async def test_what_is_asked_at_a_time_happens_once(house: House) -> None:
    house.staking._stakes = Slow(house.staking._stakes, after=False)
    asked = (house.ask("add_stake", idempotency="a", amount="100") for _ in range(3))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sorted(type(each).__name__ for each in answers) == ["CyxError", "CyxError", "dict"]
    assert (await house.ask("get_stake"))["stake"] == "100"


async def test_two_centrals_slash_once(house: House) -> None:
    await house.ask("add_stake", amount="300")
    house.staking._stakes = Slow(house.staking._stakes, after=False)
    other = copy.copy(house.staking)
    other._locks = {}
    await house.owed()
    await asyncio.gather(house.staking.tend(), other.tend())
    seen = await house.ask("get_stake")
    assert (seen["stake"], seen["contested"]) == ("150", "150")
    assert len(await house.entries("node.slash")) == 1
