"""Amounts and wallets that are none, wherever money is asked for: one code, the field's name, and nothing moves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cyxwiz.domain.errors import CyxError
from cyxwiz.domain.money import UNITS_PER_CYXWIZ
from cyxwiz.domain.pricing import NodePricing
from cyxwiz.ledger.localnet.chain import Chain, open_chain
from cyxwiz.scheduler.loops.placer import Placer
from cyxwiz.scheduler.rank import Weights
from tests.contract.conftest import HandClock
from tests.integration.conftest import client
from tests.integration.test_receipts import settle
from tests.integration.test_rest import run_to_end
from tests.wiring import JOB, Central, central

SOMEBODY = "9xQeWvG816bUx9EPjHmaT23yvVM2ZWbrrpZb9PusVFin"
TOO_FINE, DUST = "0.0000000001", "0.000000999"
BAD_AMOUNTS = ["0", "-1", "-0.000000001", "9223372036.854775808", "1e300", TOO_FINE, DUST, "much", "", "NaN"]
CAPPED = {**JOB, "payment": {"max_price": "0.01"}}
BAD_WALLETS = ["", "abc", "1" * 32, "l" * 44, SOMEBODY + "x", "é" * 32]


@pytest.fixture(params=["localnet"])
async def charged(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Central]:
    clock = HandClock()
    chain: Chain | None = await open_chain(None, clock) if request.param == "localnet" else None
    made = await central(tmp_path, clock=clock, chain=chain, charged=True)
    yield made
    await made.aclose()


@pytest.fixture
async def alice(charged: Central) -> AsyncIterator[httpx.AsyncClient]:
    async with client(charged, charged.alice) as made:
        yield made


async def refused(alice: httpx.AsyncClient, path: str, body: dict[str, Any], field: str) -> None:
    answer = await alice.post(path, json=body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["details"]["field"]) == ("INVALID", field)
    assert error["message"].startswith(f"{field}: ")


async def test_no_amount_passes_any_door(alice: httpx.AsyncClient) -> None:
    job = (await alice.post("/api/jobs", json=JOB)).json()
    before = (await alice.get("/api/wallet")).json()
    for amount in BAD_AMOUNTS:
        await refused(alice, f"/api/jobs/{job['id']}/topup", {"amount": amount}, "amount")
        await refused(alice, "/api/wallet/withdrawals", {"to": SOMEBODY, "amount": amount}, "amount")
        priced = {**JOB, "payment": {"max_price": amount}}
        await refused(alice, "/api/jobs", priced, "payment.max_price")
        quoted = {"job": priced, "wallet_address": SOMEBODY}
        await refused(alice, "/api/jobs/quote", quoted, "payment.max_price")
    assert (await alice.get("/api/wallet")).json() == before
    assert (await alice.get("/api/jobs")).json()["total"] == 1


async def test_a_top_up_that_is_sent_twice_locks_once(alice: httpx.AsyncClient) -> None:
    job = (await alice.post("/api/jobs", json=JOB)).json()
    path, key = f"/api/jobs/{job['id']}/topup", {"Idempotency-Key": "again"}
    for _ in range(2):
        assert (await alice.post(path, json={"amount": "1"}, headers=key)).status_code == 200
    payments = (await alice.get("/api/payments")).json()["payments"]
    assert sorted(each["amount"] for each in payments)[-2:].count("1") == 1
    other = await alice.post(path, json={"amount": "2"}, headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "CONFLICT")
    long = await alice.post(path, json={"amount": "1"}, headers={"Idempotency-Key": "k" * 201})
    assert (long.status_code, long.json()["error"]["details"]["field"]) == (400, "idempotency-key")
    assert len((await alice.get("/api/payments")).json()["payments"]) == len(payments)


@pytest.mark.parametrize("charged", ["localnet", "credits"], indirect=True)
async def test_one_balance_is_promised_once(charged: Central, alice: httpx.AsyncClient) -> None:
    """Each of several submits at once finds all of it, where a lock is a transaction that lands later."""
    job = (await alice.post("/api/jobs", json=JOB)).json()
    await settle(charged)
    year = {**JOB, "resources": {"max_duration": "366d"}}
    answers = await asyncio.gather(*(alice.post("/api/jobs", json=year) for _ in range(5)))
    assert sorted(each.status_code for each in answers) == [201, 201, 201, 402, 402], "one costs 319 of 1000"
    for each in answers:
        if each.status_code == 402:
            assert each.json()["error"]["code"] == "FUNDS"
            assert each.json()["error"]["details"]["available_units"] < 50 * 10**9
    more = await alice.post(f"/api/jobs/{job['id']}/topup", json={"amount": "50"})
    assert more.status_code == 402, more.text
    await settle(charged)
    states = [each["status"] for each in (await alice.get("/api/payments")).json()["payments"]]
    assert states == ["locked"] * 4


async def test_nobody_tops_up_with_the_balance_of_another(charged: Central, alice: httpx.AsyncClient) -> None:
    """An admin's own balance was looked at, and the owner's was locked."""
    job = (await alice.post("/api/jobs", json=JOB)).json()
    before = (await alice.get("/api/payments")).json()["payments"]
    for key in (charged.admin, charged.bob):
        async with client(charged, key) as other:
            answer = await other.post(f"/api/jobs/{job['id']}/topup", json={"amount": "1"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN")
    assert (await alice.get("/api/payments")).json()["payments"] == before


async def test_a_top_up_counts_in_the_budget(charged: Central, alice: httpx.AsyncClient) -> None:
    job = (await alice.post("/api/jobs", json=CAPPED)).json()
    admin = await charged.accounts.authenticate(charged.admin)
    await charged.api.budgets.set(admin, "alice", "0.03")
    path = f"/api/jobs/{job['id']}/topup"
    assert (await alice.post(path, json={"amount": "0.015"})).status_code == 200
    assert (await alice.get(f"/api/jobs/{job['id']}")).json()["estimated_cost_units"] == 25_000_000
    answer = await alice.post(path, json={"amount": "0.006"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "FUNDS")
    assert answer.json()["error"]["message"].startswith(
        "With it this job may cost another 0.006 CYXWIZ, and 0.005 of your budget of 0.03 for this month are left"
    )
    assert len((await alice.get("/api/payments")).json()["payments"]) == 2


@pytest.mark.parametrize("charged", ["localnet", "credits"], indirect=True)
async def test_a_top_up_adds_to_what_a_job_may_cost(charged: Central, alice: httpx.AsyncClient) -> None:
    """Its money was locked, and no node that asked more than before got the job."""
    prices = NodePricing(UNITS_PER_CYXWIZ // 50, minimum_charge_units=0, minimum_minutes=0)
    node_id = await charged.node("dear", pricing=prices)
    placer = Placer(charged.store, charged.bus, charged.jobs, Weights(), poll_seconds=1.0)
    path = f"/api/jobs/{(await alice.post('/api/jobs', json=CAPPED)).json()['id']}"

    async def topped_up(amount: str) -> dict[str, Any]:
        await settle(charged)
        assert (await alice.post(f"{path}/topup", json={"amount": amount})).status_code == 200
        await settle(charged)
        await placer.place()
        return dict((await alice.get(path)).json())

    waiting = await topped_up("0.004")
    assert waiting["reason"] == "no node can take it: asks 0.02 CYXWIZ, above max_price 0.014 (1 node)"
    assert (await topped_up("0.006"))["assigned_node_id"] == node_id


@pytest.mark.parametrize("charged", ["localnet", "credits"], indirect=True)
async def test_a_limit_above_the_tariff_is_for_nodes_that_ask_more(charged: Central, alice: httpx.AsyncClient) -> None:
    """What such a node asks is locked, as far as limit, balance and budget reach; also while it is busy."""
    prices = NodePricing(UNITS_PER_CYXWIZ // 2, minimum_charge_units=0, minimum_minutes=0)
    placer = Placer(charged.store, charged.bus, charged.jobs, Weights(), poll_seconds=1.0)

    async def submitted(limit: str) -> dict[str, Any]:
        answer = await alice.post("/api/jobs", json={**JOB, "payment": {"max_price": limit}})
        assert answer.status_code == 201, answer.text
        await settle(charged)
        await placer.place()
        return dict((await alice.get(f"/api/jobs/{answer.json()['id']}")).json())

    async def locked(job: dict[str, Any]) -> str:
        answer = await alice.get("/api/payments", params={"job_id": job["id"]})
        return str(answer.json()["payments"][0]["amount"])

    assert await locked(await submitted("1")) == "0.03636", "nobody asks more"
    nodes = [await charged.node("dear", pricing=prices) for _ in range(2)]
    taken = await submitted("1")
    assert (await locked(taken), taken["assigned_node_id"] in nodes) == ("0.5", True)
    few = await submitted("0.4")
    assert await locked(few) == "0.03636"
    for _ in range(3):
        await submitted("0.5")
    assert await locked(await submitted("0.5")) == "0.5", "all are busy"
    me = (await alice.get("/api/auth/me")).json()["id"]
    async with client(charged, charged.admin) as admin:
        await admin.post(f"/api/users/{me}/budget", json={"amount": "3"})
    dear = {**JOB, "payment": {"max_price": "1"}}
    answer = await alice.post("/api/jobs", json=dear)
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "FUNDS"), "all ask more than its budget"
    await charged.node("tariff")
    assert await locked(await submitted("1")) == "0.03636"


async def test_a_plan_says_no_where_a_submit_would_wait(charged: Central, alice: httpx.AsyncClient) -> None:
    """Without a limit the tariff is locked, and a node that asks more does not get the job."""
    await charged.node("dear", pricing=NodePricing(UNITS_PER_CYXWIZ // 2, minimum_charge_units=0, minimum_minutes=0))

    async def planned(job: dict[str, Any]) -> tuple[int, str | None]:
        answer = (await alice.post("/api/jobs/plan", json=job)).json()
        return answer["feasible_nodes"], answer["nodes"][0]["reason"]

    assert await planned(JOB) == (0, "asks 0.5 CYXWIZ, above max_price 0.03636")
    assert await planned({**JOB, "payment": {"max_price": "0.5"}}) == (1, None)


@pytest.mark.parametrize("charged", ["localnet", "credits"], indirect=True)
async def test_the_history_adds_up_to_the_balance(charged: Central, alice: httpx.AsyncClient) -> None:
    cancelled, done = [(await alice.post("/api/jobs", json=JOB)).json() for _ in range(2)]
    await settle(charged)
    await alice.post(f"/api/jobs/{cancelled['id']}/cancel", json={})
    await run_to_end(charged, done["id"])
    with contextlib.suppress(CyxError):  # a chain's streams earn by the second
        await settle(charged)
    charged.clock.advance(60)
    await settle(charged)
    moved = (await alice.get("/api/wallet/history?limit=100")).json()["transactions"]
    of = {kind: [each for each in moved if each["kind"] == kind] for kind in ("grant", "lock", "settle", "refund")}
    assert [len(each) for each in of.values()] == [1, 2, 1, 1]
    payments = {each["job_id"]: each for each in (await alice.get("/api/payments")).json()["payments"]}
    (settled,), (refund,) = of["settle"], of["refund"]
    assert (refund["amount_units"], refund["refunded_units"]) == (0, payments[cancelled["id"]]["amount_units"])
    paid = payments[done["id"]]
    assert (settled["amount_units"], settled["refunded_units"]) == (paid["paid_units"], paid["refunded_units"])
    assert paid["paid_units"] > 0
    adds = of["grant"][0]["amount_units"] - sum(each["amount_units"] for each in of["lock"])
    adds += sum(each["refunded_units"] for each in moved)
    assert adds == (await alice.get("/api/wallet")).json()["balance_units"]


async def test_no_wallet_passes_any_door(alice: httpx.AsyncClient) -> None:
    before = (await alice.get("/api/wallet")).json()
    for wallet in BAD_WALLETS:
        await refused(alice, "/api/jobs/quote", {"job": JOB, "wallet_address": wallet}, "wallet_address")
        await refused(alice, "/api/wallet/withdrawals", {"to": wallet, "amount": "1"}, "to")
    assert (await alice.get("/api/wallet")).json() == before


@pytest.mark.parametrize(
    ("payment", "says"),
    [
        ({"quote": "abc"}, "payment.quote: Invalid quote ID"),
        ({"quote": "00000000-0000-0000-0000-000000000000"}, "payment.quote: you have no quote"),
        ({"transaction": "AAAA"}, "payment.quote: missing"),
        ({"escrow_tx_hash": "abc"}, "payment.quote: missing"),
    ],
)
async def test_what_pays_for_nothing_is_told_so(alice: httpx.AsyncClient, payment: dict[str, str], says: str) -> None:
    answer = await alice.post("/api/jobs", json={**JOB, "payment": payment})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID"), answer.text
    assert answer.json()["error"]["message"].startswith(says)
