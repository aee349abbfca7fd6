"""A node that gives a wrong result loses stake: real central, agents, training, and the staking program on a chain."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from solders.pubkey import Pubkey

from cyxwiz.domain.ids import NodeId, new_id
from cyxwiz.domain.money import UNITS_PER_CYXWIZ
from cyxwiz.domain.node import Hardware, Node
from cyxwiz.domain.stake import StakeKind, StakeStep, StepState
from cyxwiz.domain.states import JobState
from cyxwiz.ledger.instructions.staking import Contest, Stake
from cyxwiz.ledger.localnet.genesis import STAKING_APPEAL_SECONDS
from cyxwiz.ports.store import MovementQuery
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.services.call import Call
from tests.central import Central, central
from tests.contract.ledgers import opened
from tests.integration.test_link import admin, until
from tests.integration.test_proofs import submit
from tests.integration.test_verification import FLAGS, SPOT, nodes, other_file, verifying
from tests.training import InlineExecutor

STAKED = 400 * UNITS_PER_CYXWIZ


class Ahead(SystemClock):
    """The system's clock, some time ahead."""

    def __init__(self) -> None:
        self.by = timedelta()

    def now(self) -> datetime:
        return super().now() + self.by

    def monotonic(self) -> float:
        return super().monotonic() + self.by.total_seconds()


async def on_chain(server: Central, account: str) -> Stake:
    assert server.core.payments is not None
    ledger: Any = server.core.payments.ledger
    found = await ledger._rpc.account(Pubkey.from_string(account))
    return Stake.decode(Pubkey.from_string(account), bytes(found.data))


async def test_a_cheat_loses_stake_on_the_real_program(tmp_path: Path) -> None:
    clock = Ahead()
    async with central(
        tmp_path,
        *FLAGS,
        "ledger.backend=localnet",
        "ledger.welcome=5000",
        "blockchain.minimum_stake=400",
        charged=True,
        clock=clock,
    ) as server:
        caller = await admin(server)
        api = server.core.api

        async def ask(method: str, node_id: str, **args: Any) -> dict[str, Any]:
            return dict(await getattr(api, method)(Call(caller, node_id, args)))

        async def until_done(node_id: str, kind: StakeKind) -> dict[str, Any]:
            """The stake once a step of the kind is written down as done; the chain has it a moment earlier."""
            async with asyncio.timeout(20):
                while True:
                    seen = await ask("get_stake", node_id)
                    if (str(kind), str(StepState.DONE)) in [(each["kind"], each["status"]) for each in seen["steps"]]:
                        return seen
                    await asyncio.sleep(0.1)

        async with nodes(server, tmp_path, InlineExecutor(other_file)) as (bad,):
            cheat = bad._identity.node_id
            assert (await ask("add_stake", cheat, amount="400"))["stake"] == "400"
            job = await submit(server, verify=SPOT, checkpoint={"every": "1 epoch"})
            await verifying(server, job)
            async with nodes(server, tmp_path, *(InlineExecutor() for _ in range(2))) as others:
                for each in others:  # what checks is the platform's: its nodes need stakes, too
                    assert (await ask("add_stake", each._identity.node_id, amount="400"))["stake"] == "400"
                await until(server, job, JobState.COMPLETED, seconds=40)
                aside = await until_done(cheat, StakeKind.SLASH)
                for each in others:
                    assert (await ask("get_stake", each._identity.node_id))["stake"] == "400"
        assert (aside["stake"], aside["contested"], aside["slashed"]) == ("200", "200", "0")
        assert aside["contest"] == "pending"
        log = await server.core.store.read(lambda tx: tx.audit_log(1000))
        (wrong,) = [each.details for each in log if each.action == "node.wrong"]
        held = await on_chain(server, aside["account"])
        assert (held.contest, held.active, held.contested) == (Contest.PENDING, STAKED // 2, STAKED // 2)
        assert held.evidence.hex() == wrong["evidence_hash"] == aside["evidence_hash"]
        assert aside["evidence"] == wrong["evidence"], "who judges can read it"
        assert hashlib.sha256(aside["evidence"].encode()).hexdigest() == aside["evidence_hash"]
        clock.by += timedelta(seconds=STAKING_APPEAL_SECONDS + 5)
        ended = await until_done(cheat, StakeKind.CONCLUDE)
        assert (ended["stake"], ended["contested"], ended["slashed"]) == ("200", "0", "200")
        assert ended["evidence"] == aside["evidence"]
        held = await on_chain(server, ended["account"])
        assert (held.contest, held.active, held.slashed) == (Contest.NONE, STAKED // 2, STAKED // 2)
        steps = await server.core.store.read(lambda tx: tx.stake_steps(cheat, 10))
        assert [each.kind for each in steps] == [StakeKind.CONCLUDE, StakeKind.SLASH, StakeKind.ADD]
        shown = await ask("get_node", cheat)
        notes = [each["note"] for each in shown["reputation_account"]["events"] if each["kind"] == "slashed"]
        assert len(notes) == 2
        assert shown["stake"] == "200"


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("sent", [False, True], ids=["recorded, not sent", "landed, not known"])
@pytest.mark.parametrize("kind", [StakeKind.ADD, StakeKind.SLASH])
async def test_a_crash_around_the_send_neither_loses_nor_repeats_a_step(
    tmp_path: Path, kind: StakeKind, sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened("localnet", tmp_path) as bench:
        ledger: Any = bench.ledger
        least = (await ledger.stakes.rules()).minimum_units
        await ledger.grant(ledger.client_account(bench.user), 10 * least, "for tests")
        now = bench.now()
        node = Node(NodeId(new_id()), bench.user, "rig", Hardware("CPU", 1, 1, 1, ()), now, now)

        def step(which: StakeKind, units: int) -> StakeStep:
            return StakeStep(new_id(), node.id, bench.user, which, now, now, units=units, evidence="ab" * 32)

        await ledger.stakes.perform(node, step(StakeKind.ADD, 4 * least))
        whole = ledger._rpc.send

        async def dies(raw: bytes, *, preflight: bool = False) -> Any:
            if sent:
                await whole(raw, preflight=preflight)
            raise Killed

        asked = step(kind, least)
        monkeypatch.setattr(ledger._rpc, "send", dies)
        with pytest.raises(Killed):
            await ledger.stakes.perform(node, asked)
        monkeypatch.setattr(ledger._rpc, "send", whole)
        done = await ledger.stakes.perform(node, asked)
        again = await ledger.stakes.perform(node, asked)
        assert done.reference == again.reference
        assert done.stake.active_units == (5 if kind is StakeKind.ADD else 3) * least
        moved = await ledger._store.read(lambda tx: tx.movements(MovementQuery(payment_id=asked.id)))
        assert [each.state for each in moved.items] == ["confirmed"], "what was recorded is what landed"
