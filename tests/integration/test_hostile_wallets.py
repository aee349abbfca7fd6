"""Clients and nodes that turn their own keys against each other, on the real program: neither holds the other up."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair as SoldersKeypair
from solders.pubkey import Pubkey
from solders.system_program import TransferParams
from solders.system_program import transfer as give_sol
from solders.token import ID as TOKEN_PROGRAM

from cyxwiz.client.escrow import pay_with
from cyxwiz.client.keypair import Keypair
from cyxwiz.domain.pricing import Billing, NodePricing
from cyxwiz.ledger.instructions import escrow as program
from cyxwiz.ledger.instructions.values import token_account
from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.localnet.chain import Chain
from cyxwiz.ledger.localnet.vm import Tokens
from cyxwiz.ledger.programs import Program, local_id
from cyxwiz.ledger.tokens import make_account, transfer
from tests.contract.conftest import HandClock
from tests.integration import test_quotes as quotes
from tests.integration.conftest import refused
from tests.integration.test_quotes import HAS, PRICED, ledger, make, paying, quote, send, terms_of
from tests.integration.test_receipts import settle
from tests.wiring import JOB, Central, progress

clock, chain, house, alice, wallet = quotes.clock, quotes.chain, quotes.house, quotes.alice, quotes.wallet
CLIENT = Key(SoldersKeypair.from_seed(b"\7" * 32))
ESCROW = local_id(Program.ESCROW)


def emptied(owner: Pubkey, mint: Pubkey, units: int) -> list[Instruction]:
    """Its tokens go to another key of the same person."""
    other = Pubkey.from_bytes(b"\5" * 32)
    return [make_account(owner, other, mint), transfer(owner, other, mint, units)] if units else []


def closing(owner: Pubkey, mint: Pubkey) -> Instruction:
    """SPL Token's CloseAccount, which needs it to be empty: the rent is the owner's."""
    metas = [(token_account(owner, mint), False, True), (owner, False, True), (owner, True, False)]
    return Instruction(TOKEN_PROGRAM, b"\x09", [AccountMeta(*each) for each in metas])


def giving_away(owner: Pubkey, mint: Pubkey, account: Pubkey | None = None) -> Instruction:
    """SPL Token's SetAuthority of the account's owner: its address stays that of the first one."""
    metas = [(account or token_account(owner, mint), False, True), (owner, True, False)]
    return Instruction(TOKEN_PROGRAM, b"\x06\x02\x01" + b"\6" * 32, [AccountMeta(*each) for each in metas])


def escrow_of(chain: Chain, asked: quotes.Json) -> program.Escrow:
    address = Pubkey.from_string(asked["escrow"]["account"])
    account = chain.account(address)
    assert account is not None
    return program.Escrow.decode(address, bytes(account.data))


def _owner(account: Account) -> Pubkey | None:
    tokens = Tokens.of(account)
    return tokens.owner if tokens is not None else None


def all_tokens(chain: Chain, owner: Pubkey) -> int:
    """In whatever accounts of that owner."""
    found = [Tokens.of(account) for _, account in chain.owned_by(TOKEN_PROGRAM)]
    return sum(each.amount for each in found if each is not None and each.owner == owner)


@pytest.mark.parametrize("stopped", [False, True])
async def test_an_escrow_that_can_pay_no_node_is_no_payment(
    chain: Chain, alice: httpx.AsyncClient, wallet: Keypair, stopped: bool
) -> None:
    asked = await quote(alice, wallet)
    terms = terms_of(asked)
    if stopped:
        sent = await send(chain, make(terms))
        await send(chain, program.stop(ESCROW, escrow_of(chain, asked)))
    else:
        sent = await send(chain, make(terms, node=Key.new().pubkey))
    body = paying({"quote": asked["id"], "escrow_tx_hash": sent})
    said = refused(await alice.post("/api/jobs", json=body), "INVALID")["message"]
    assert ("its client has stopped it" if stopped else "its node was fixed to") in said
    assert (await alice.get("/api/jobs")).json()["total"] == 0


async def test_a_stream_that_is_stopped_before_its_node_is_assigned_sets_its_job_aside(
    house: Central, chain: Chain, alice: httpx.AsyncClient, wallet: Keypair
) -> None:
    asked = await quote(alice, wallet)
    job_id = (await alice.post("/api/jobs", json=paying(pay_with(wallet, asked)))).json()["id"]
    await settle(house)
    await send(chain, program.stop(ESCROW, escrow_of(chain, asked)))
    lease = await house.lease(job_id, await house.node())
    await house.report(lease, progress(1, 20))
    await settle(house)
    job = (await alice.get(f"/api/jobs/{job_id}")).json()
    assert job["reason"].startswith("its client stopped the payments: `cyxwiz jobs topup")
    payment = (await alice.get("/api/payments")).json()["payments"][0]
    assert (payment["status"], payment["paid_units"], payment["refunded_units"]) == ("refunded", 0, 30_000_000)
    assert await ledger(house).balance(wallet.address) == HAS


def closing_it(at: Pubkey, held: program.Escrow) -> Instruction:
    return program.Payout(at, held, held.client).close()


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (program.stop, "its client stopped the payments"),
        (closing_it, "what was set aside for it was ended on the ledger"),
    ],
)
async def test_a_client_may_stop_its_stream_at_any_time(
    house: Central,
    chain: Chain,
    alice: httpx.AsyncClient,
    wallet: Keypair,
    clock: HandClock,
    end: Callable[[Pubkey, program.Escrow], Instruction],
    why: str,
) -> None:
    """The node is paid what was attested, its job is set aside, and nothing waits for the chain for ever."""
    long = {**PRICED, "epochs": 20}
    asked = await quote(alice, wallet, long)
    job_id = (await alice.post("/api/jobs", json=paying(pay_with(wallet, asked), long))).json()["id"]
    await settle(house)
    lease = await house.lease(job_id, await house.node())
    sent = 0

    async def epoch() -> None:
        nonlocal sent
        await house.report(lease, progress(sent + 1, 20), after=sent)
        sent += 1
        clock.advance(60)
        await settle(house)

    for _ in range(3):
        await epoch()
    paid = (await alice.get("/api/payments")).json()["payments"][0]["paid_units"]
    assert paid > 0
    await send(chain, end(ESCROW, escrow_of(chain, asked)))
    for _ in range(3):
        await epoch()
    job = (await alice.get(f"/api/jobs/{job_id}")).json()
    assert job["reason"].startswith(f"{why}: `cyxwiz jobs topup")
    await alice.post(f"/api/jobs/{job_id}/cancel", json={})
    await settle(house)
    clock.advance(2)
    await settle(house)
    ended = (await alice.get("/api/payments")).json()["payments"][0]
    assert (ended["status"], ended["paid_units"]) == ("completed", paid)
    assert await ledger(house).balance(wallet.address) == HAS - paid


@pytest.mark.parametrize("spoil", [closing, giving_away])
async def test_a_client_without_its_account_pays_all_the_same(
    house: Central,
    chain: Chain,
    alice: httpx.AsyncClient,
    wallet: Keypair,
    clock: HandClock,
    spoil: Callable[..., Instruction],
) -> None:
    asked = await quote(alice, wallet)
    job_id = (await alice.post("/api/jobs", json=paying(pay_with(wallet, asked)))).json()["id"]
    await settle(house)
    mint = terms_of(asked).mint
    left = await ledger(house).balance(wallet.address)
    await send(chain, *emptied(CLIENT.pubkey, mint, left), spoil(CLIENT.pubkey, mint))
    await quotes.settle_after_a_run(house, job_id, clock)
    payment = (await alice.get("/api/payments")).json()["payments"][0]
    assert payment["status"] == "completed"
    assert payment["paid_units"] > 0
    assert payment["paid_units"] + payment["refunded_units"] == 30_000_000
    assert all_tokens(chain, CLIENT.pubkey) == payment["refunded_units"]


@pytest.mark.parametrize("spoil", [closing, giving_away])
async def test_a_node_without_its_account_holds_nobodys_money(
    house: Central, chain: Chain, alice: httpx.AsyncClient, clock: HandClock, spoil: Callable[..., Instruction]
) -> None:
    rig = Key.new()
    await chain.airdrop(rig.pubkey, 10**9)
    before = (await alice.get("/api/wallet")).json()["balance_units"]
    job = {**JOB, "payment": {"max_price": "0.03"}}
    job_id = (await alice.post("/api/jobs", json=job)).json()["id"]
    await settle(house)
    lease = await house.lease(job_id, await house.node(wallet_address=str(rig.pubkey)))
    clock.advance(2.5)
    await house.report(lease, progress(1, 20))
    await settle(house)  # its node is assigned
    given = 0
    mint = Pubkey.from_string((await alice.get("/api/platform")).json()["ledger"]["token_mint"])
    await send(chain, spoil(rig.pubkey, mint), by=rig)
    for epoch in range(1, 4):  # paid on the way, more than once
        clock.advance(60)
        await house.report(lease, progress(epoch + 1, 20), after=epoch)
        await settle(house)
        if epoch == 2 and spoil is giving_away:  # the account that took its place, too
            (spare,) = [at for at, one in chain.owned_by(TOKEN_PROGRAM) if _owner(one) == rig.pubkey]
            units = all_tokens(chain, rig.pubkey)
            await send(chain, giving_away(rig.pubkey, mint, spare), by=rig)
            given = units
    assert (await alice.get("/api/payments")).json()["payments"][0]["paid_units"] > 0
    clock.advance(60)
    finished = await house.finished(b"weights" * 100, loss=0.25)
    await house.report(lease, finished, after=4)
    await settle(house)
    payment = (await alice.get("/api/payments")).json()["payments"][0]
    assert payment["status"] == "completed"
    paid = payment["paid_units"]
    assert paid > 0
    assert payment["paid_units"] + payment["refunded_units"] == 30_000_000
    assert all_tokens(chain, rig.pubkey) + given == paid - paid // 10
    assert (await alice.get("/api/wallet")).json()["balance_units"] == before - paid


@pytest.mark.parametrize("named", [0, 25])
@pytest.mark.parametrize("share", [0, 10_000_000, 30_000_000])
async def test_what_an_arbiter_decided_is_what_the_receipt_says(
    house: Central, chain: Chain, alice: httpx.AsyncClient, wallet: Keypair, share: int, named: int
) -> None:
    """A dispute is between the client, the node and the arbiter: central only finds the escrow gone. Transactions that
    name its address afterwards say nothing of it."""
    job = {**PRICED, "verify": {"mode": "spot"}}
    asked = await quote(alice, wallet, job)
    job_id = (await alice.post("/api/jobs", json=paying(pay_with(wallet, asked), job))).json()["id"]
    await settle(house)
    lease = await house.lease(job_id, await house.node())
    await house.report(lease, progress(1, 20))
    await settle(house)
    await send(chain, program.dispute(ESCROW, escrow_of(chain, asked), CLIENT.pubkey))
    arbiter = chain.genesis.keys.judge
    held = escrow_of(chain, asked)
    assert held.arbiter == arbiter.pubkey
    await chain.airdrop(arbiter.pubkey, 10**9)
    before = await ledger(house).balance(wallet.address)
    sent = await send(chain, program.Payout(ESCROW, held, arbiter.pubkey).resolve(share), by=arbiter)
    for more in range(named):
        given = TransferParams(from_pubkey=arbiter.pubkey, to_pubkey=held.address, lamports=1_000_000 + more)
        await send(chain, give_sol(given), by=arbiter)
    await alice.post(f"/api/jobs/{job_id}/cancel", json={})
    await settle(house)
    assert await ledger(house).balance(wallet.address) == before + 30_000_000 - share
    receipt = (await alice.get(f"/api/jobs/{job_id}/receipt")).json()
    assert (receipt["settled"], receipt["paid_units"], receipt["refunded_units"]) == (True, share, 30_000_000 - share)
    told = {each["reference"]: each["amount_units"] for each in receipt["payments"][0]["transactions"]}
    assert told[sent] == share
    moves = (await alice.get("/api/wallet/history")).json()["transactions"]
    (moved,) = (each for each in moves if each["reference"] == sent)
    assert (moved["platform_fee_units"], moved["refunded_units"]) == (share // 10, 30_000_000 - share)


@pytest.mark.parametrize(
    ("pricing", "gets_it"),
    [
        (None, True),
        (NodePricing(36_000_000, minimum_charge_units=0), True),
        (NodePricing(36_000_000, minimum_charge_units=20_000_000), False),
        (NodePricing(0, billing=Billing.PER_JOB, per_job_units=20_000_000, minimum_charge_units=0), False),
        (NodePricing(0, billing=Billing.PER_EPOCH, per_epoch_units=2_000_000, minimum_charge_units=0), False),
    ],
)
async def test_no_node_gets_a_job_whose_client_could_close_before_it_is_paid(
    house: Central, alice: httpx.AsyncClient, wallet: Keypair, pricing: NodePricing | None, gets_it: bool
) -> None:
    await house.node(pricing=pricing)
    job = {**JOB, "epochs": 10}
    asked = await quote(alice, wallet, {**job, "payment": {}})
    body = {**job, "payment": pay_with(wallet, asked)}
    made = (await alice.post("/api/jobs", json=body)).json()
    balance = (await alice.post("/api/jobs", json=job)).json()
    await settle(house)
    told = {
        each: (await alice.get(f"/api/jobs/{each}/explain")).json()["nodes"] for each in (made["id"], balance["id"])
    }
    assert told[made["id"]][0]["feasible"] is gets_it, told
    assert gets_it or told[made["id"]][0]["reason"].startswith("asks more at once than the client's own escrow")
    assert not str(told[balance["id"]][0]["reason"]).startswith("asks more at once")
