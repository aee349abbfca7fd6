"""What client, node and arbiter do to an escrow with their own keys, on the real program, beside a central."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from solders.keypair import Keypair as SoldersKeypair

from cyxwiz.cli.chain import act
from cyxwiz.client.escrow import pay_with
from cyxwiz.client.keypair import Keypair
from cyxwiz.config import Blockchain
from cyxwiz.domain.errors import CyxError
from cyxwiz.domain.job import Lease
from cyxwiz.ledger.instructions import escrow as program
from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.localnet.chain import Chain
from cyxwiz.ledger.localnet.direct import direct_rpc
from cyxwiz.ledger.localnet.server import LocalnetServer
from cyxwiz.ledger.parties import Party
from tests.contract.conftest import HandClock
from tests.integration import test_quotes as quotes
from tests.integration.test_hostile_wallets import ESCROW, escrow_of
from tests.integration.test_quotes import HAS, PRICED, ledger, own_key, paying, quote, send
from tests.integration.test_receipts import settle
from tests.wiring import Central, progress

clock, chain, house, alice, wallet = quotes.clock, quotes.chain, quotes.house, quotes.alice, quotes.wallet
VERIFIED = {**PRICED, "verify": {"mode": "spot"}}
LOCKED = 30_000_000
DAY = 86_400


@dataclass
class Deal:
    """A job that a wallet has paid for and a node with a wallet of its own runs."""

    chain: Chain
    clock: HandClock
    asked: dict[str, Any]
    rig: Key
    lease: Lease

    @property
    def job_id(self) -> str:
        return str(self.asked["id"])

    def escrow(self) -> program.Escrow:
        return escrow_of(self.chain, self.asked)

    def party(self, key: Key) -> Party:
        return Party(direct_rpc(self.chain), self.clock, ESCROW, key)

    @property
    def client(self) -> Party:
        return self.party(Key(SoldersKeypair.from_seed(b"\7" * 32)))

    @property
    def node(self) -> Party:
        return self.party(self.rig)

    @property
    def arbiter(self) -> Party:
        return self.party(self.chain.genesis.keys.judge)


async def begin(
    job: dict[str, Any], house: Central, chain: Chain, alice: httpx.AsyncClient, wallet: Keypair, clock: HandClock
) -> Deal:
    rig = Key.new()
    for key in (rig.pubkey, chain.genesis.keys.judge.pubkey):
        await chain.airdrop(key, 10**9)
    asked = await quote(alice, wallet, job)
    assert (await alice.post("/api/jobs", json=paying(pay_with(wallet, asked), job))).status_code == 201
    await settle(house)
    lease = await house.lease(asked["id"], await house.node(wallet_address=str(rig.pubkey)))
    await house.report(lease, progress(1, 20))
    await settle(house)
    deal = Deal(chain, clock, asked, rig, lease)
    assert deal.escrow().node == rig.pubkey
    return deal


@pytest.fixture
async def plain(house: Central, chain: Chain, alice: httpx.AsyncClient, wallet: Keypair, clock: HandClock) -> Deal:
    return await begin(VERIFIED, house, chain, alice, wallet, clock)


@pytest.fixture
async def stream(house: Central, chain: Chain, alice: httpx.AsyncClient, wallet: Keypair, clock: HandClock) -> Deal:
    return await begin(PRICED, house, chain, alice, wallet, clock)


async def test_an_arbiter_decides_what_a_node_and_a_platform_disagree_on(
    plain: Deal, house: Central, alice: httpx.AsyncClient, wallet: Keypair, clock: HandClock
) -> None:
    """The client cancels, the platform would give everything back, and the node objects in time."""
    opened = await plain.node.dispute(plain.escrow())
    assert opened.frozen_until == plain.escrow().frozen_until == int(clock.now().timestamp()) + DAY
    assert (await alice.post(f"/api/jobs/{plain.job_id}/cancel", json={})).status_code == 200
    with pytest.raises(CyxError, match="A dispute is open until 2030-01-02"):
        await settle(house)
    payment = (await alice.get("/api/payments")).json()["payments"][0]
    assert payment["status"] == "locked"
    assert "A dispute is open until 2030-01-02 00:00 UTC: its arbiter decides" in payment["error"]
    decided = await plain.arbiter.resolve(plain.escrow(), LOCKED // 3)
    assert (decided.paid, decided.back) == (LOCKED // 3, LOCKED - LOCKED // 3)
    clock.advance(60)
    await settle(house)
    payment = (await alice.get("/api/payments")).json()["payments"][0]
    assert (payment["status"], payment["paid_units"]) == ("completed", LOCKED // 3)
    assert await ledger(house).balance(wallet.address) == HAS - LOCKED // 3
    assert await ledger(house).balance(str(plain.rig.pubkey)) == LOCKED // 3 * 9 // 10
    job = (await alice.get(f"/api/jobs/{plain.job_id}")).json()
    assert job["actual_cost_units"] == LOCKED // 3


@pytest.mark.parametrize("noticed", [False, True])
async def test_a_completed_job_has_cost_what_was_paid_of_it_where_its_client_ended_the_stream(
    stream: Deal, house: Central, alice: httpx.AsyncClient, clock: HandClock, noticed: bool
) -> None:
    clock.advance(60)
    platform = stream.chain.genesis.keys.platform
    await send(stream.chain, program.attest(ESCROW, stream.escrow(), 1_000, b"\1" * 32), by=platform)
    if noticed:  # by central, before the result comes
        await stream.client.reclaim(stream.escrow())
        await house.report(stream.lease, progress(2, 20), after=1)
        clock.advance(60)
        await settle(house)
    await house.report(stream.lease, await house.finished(b"weights" * 100), after=2 if noticed else 1)
    if not noticed:
        await stream.client.reclaim(stream.escrow())
    await settle(house)
    (payment,) = (await alice.get("/api/payments")).json()["payments"]
    assert (payment["status"], payment["paid_units"]) == ("completed", 1_000)
    job = (await alice.get(f"/api/jobs/{stream.job_id}")).json()
    assert (job["status"], job["actual_cost_units"]) == ("completed", 1_000)
    receipt = (await alice.get(f"/api/jobs/{stream.job_id}/receipt")).json()
    assert (receipt["price_units"], receipt["paid_units"]) == (1_000, 1_000)


async def test_a_dispute_that_nobody_decides_ends_by_itself(
    plain: Deal, house: Central, alice: httpx.AsyncClient, wallet: Keypair, clock: HandClock
) -> None:
    await plain.client.dispute(plain.escrow())
    with pytest.raises(CyxError, match="A dispute is open until 2030-01-02"):
        await plain.client.reclaim(plain.escrow())
    await alice.post(f"/api/jobs/{plain.job_id}/cancel", json={})
    with pytest.raises(CyxError, match="A dispute is open until 2030-01-02"):
        await settle(house)
    clock.advance(DAY + 60)
    await settle(house)
    payment = (await alice.get("/api/payments")).json()["payments"][0]
    assert (payment["status"], payment["paid_units"]) == ("refunded", 0)
    assert await ledger(house).balance(wallet.address) == HAS


async def test_each_side_has_one_dispute_and_nobody_else_any(plain: Deal, clock: HandClock) -> None:
    async def cannot(party: Party, code: str, said: str) -> None:
        with pytest.raises(CyxError, match=said) as error:
            await party.dispute(plain.escrow())
        assert error.value.code == code

    stranger = plain.party(Key.new())
    await cannot(stranger, "FORBIDDEN", "is not the client or the node of this escrow")
    await plain.client.dispute(plain.escrow())
    await cannot(plain.client, "CONFLICT", "A dispute is open until")
    await cannot(plain.node, "CONFLICT", "A dispute is open until")
    clock.advance(DAY)
    await cannot(plain.client, "CONFLICT", "Each side has one dispute, and yours is over")
    await plain.node.dispute(plain.escrow())
    clock.advance(DAY)
    await cannot(plain.node, "CONFLICT", "Each side has one dispute")
    clock.advance(40 * DAY)
    await cannot(plain.client, "CONFLICT", r"Its deadline was .*: its client takes the money back")
    assert (await plain.client.reclaim(plain.escrow())).back == LOCKED
    with pytest.raises(CyxError, match="it has ended, or is elsewhere"):
        await plain.client.escrow(plain.client._key.pubkey, b"\0" * 16)


async def test_only_an_arbiter_decides_and_only_on_a_dispute(plain: Deal) -> None:
    async def cannot(party: Party, units: int, code: str, said: str) -> None:
        with pytest.raises(CyxError, match=said) as error:
            await party.resolve(plain.escrow(), units)
        assert error.value.code == code

    await cannot(plain.arbiter, 1, "CONFLICT", "No dispute is open")
    await plain.client.dispute(plain.escrow())
    await cannot(plain.node, 1, "FORBIDDEN", "is not the arbiter")
    await cannot(plain.arbiter, LOCKED + 1, "INVALID", r"expected 0 \(paid out already\) to 0.03 CYXWIZ")
    assert (await plain.arbiter.resolve(plain.escrow(), 0)).back == LOCKED


async def test_a_node_claims_what_the_platform_attested_and_did_not_pay(
    stream: Deal, house: Central, clock: HandClock
) -> None:
    with pytest.raises(CyxError, match="its client ends it at any time"):
        await stream.client.dispute(stream.escrow())
    with pytest.raises(CyxError, match="Nothing is owed: 0 CYXWIZ were earned"):
        await stream.node.claim(stream.escrow())
    clock.advance(60)
    platform = stream.chain.genesis.keys.platform
    await send(stream.chain, program.attest(ESCROW, stream.escrow(), 1_000_000, b"\1" * 32), by=platform)
    with pytest.raises(CyxError, match="is not the node of escrow") as error:
        await stream.client.claim(stream.escrow())
    assert error.value.code == "FORBIDDEN"
    assert (await stream.node.claim(stream.escrow())).paid == 1_000_000
    assert await ledger(house).balance(str(stream.rig.pubkey)) == 900_000
    with pytest.raises(CyxError, match=r"Nothing is owed: 0.001 CYXWIZ were earned, and are paid"):
        await stream.node.claim(stream.escrow())


async def test_a_client_that_can_take_nothing_back_yet_is_told_of_disputes(plain: Deal) -> None:
    with pytest.raises(CyxError, match="`cyxwiz wallet dispute` keeps the platform from paying it"):
        await plain.client.reclaim(plain.escrow())


async def test_the_commands_do_it_over_the_chains_own_socket(plain: Deal, wallet: Keypair, tmp_path: Path) -> None:
    judge = tmp_path / "judge.json"
    judge.write_text(json.dumps(list(plain.chain.genesis.keys.judge.secret())))
    judge.chmod(0o600)
    server: Any = LocalnetServer(plain.chain, port=0)
    await server.start()
    try:
        at = Blockchain(network="localnet", solana_rpc_url=server.url)
        job = uuid.UUID(plain.job_id).bytes
        opened = await act(at, own_key(tmp_path), job, "dispute")
        assert opened["frozen_until"] == "2030-01-02T00:00:00+00:00"
        done = await act(at, judge, job, "resolve", client=wallet.address, units=1_000_000)
        assert (done["paid"], done["taken_back"], done["escrow"]) == ("0.001", "0.029", opened["escrow"])
        assert done["frozen_until"] is None
        with pytest.raises(CyxError, match="'nobody' is no address"):
            await act(at, judge, job, "claim", client="nobody")
    finally:
        await server.stop(5.0)
