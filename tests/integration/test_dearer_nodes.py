"""Jobs whose limit is above the tariff: a node that asks more is paid what it asks, with progress too, out of the
balance and by an escrow of the client's own; one that asks no more is paid the tariff."""

from __future__ import annotations

import httpx
import pytest

from cyxwiz.client.escrow import pay_with
from cyxwiz.client.keypair import Keypair
from cyxwiz.domain.ids import JobId
from cyxwiz.domain.job import Lease
from cyxwiz.domain.money import UNITS_PER_CYXWIZ
from cyxwiz.domain.pricing import NodePricing
from cyxwiz.ledger.localnet.chain import Chain
from cyxwiz.ports.store import Tx
from cyxwiz.scheduler.loops.placer import Placer
from cyxwiz.scheduler.rank import Weights
from tests.contract.conftest import HandClock
from tests.integration import test_quotes as quotes
from tests.integration.test_quotes import HAS, ledger, make, paying, quote, send, terms_of
from tests.integration.test_receipts import settle
from tests.wiring import JOB, Central, progress

clock, chain, house, alice, wallet = quotes.clock, quotes.chain, quotes.house, quotes.alice, quotes.wallet
ALLOWING = {**JOB, "epochs": 60, "payment": {"max_price": "1"}}
DEAR = NodePricing(UNITS_PER_CYXWIZ // 2, minimum_charge_units=0, minimum_minutes=0)  # for the hour that it may take
BY_TARIFF = 36_360_000


async def ran(house: Central, job_id: str, seconds: int, *, ends: bool = True) -> None:
    """It is placed, makes progress each interval, and is done after so long."""
    placer = Placer(house.store, house.bus, house.jobs, Weights(), poll_seconds=1.0)
    await placer.place()

    def placed(tx: Tx) -> Lease | None:
        job = tx.job(JobId(job_id))
        return tx.lease(job.id, job.token) if job is not None and job.token is not None else None

    lease, clock = await house.store.read(placed), house.clock
    assert lease is not None
    assert isinstance(clock, HandClock)
    for step in range(1, seconds // 60 + 1):
        clock.advance(60)
        await house.report(lease, progress(step, 60), after=step - 1)
        await settle(house)
    if not ends:
        return
    finished = await house.finished(b"weights" * 100, loss=0.25)
    finished.compute_seconds = seconds
    clock.advance(60)  # what the first interval earned comes with the end
    await house.report(lease, finished, after=seconds // 60)
    await settle(house)


@pytest.mark.parametrize("by_reference", [False, True])
async def test_a_wallet_pays_a_node_that_asks_more_than_the_tariff(
    house: Central, alice: httpx.AsyncClient, wallet: Keypair, chain: Chain, by_reference: bool
) -> None:
    node_id = await house.node("dear", pricing=DEAR)
    asked = await quote(alice, wallet, ALLOWING)
    assert asked["amount"] == "0.5"
    assert asked["most_rate_units_per_second"] == pytest.approx(500_000_000 / 3600)
    given = {"quote": asked["id"], "escrow_tx_hash": await send(chain, make(terms_of(asked)))} if by_reference else None
    answer = await alice.post("/api/jobs", json=paying(given or pay_with(wallet, asked), ALLOWING))
    assert answer.status_code == 201, answer.text
    job_id = answer.json()["id"]
    assert answer.json()["estimated_cost"] == "0.5"
    await settle(house)
    await ran(house, job_id, 1800)
    job = (await alice.get(f"/api/jobs/{job_id}")).json()
    assert (job["status"], job["assigned_node_id"], job["actual_cost"]) == ("completed", node_id, "0.25")
    assert await ledger(house).balance(wallet.address) == HAS - 250_000_000


async def test_a_node_at_the_tariff_earns_no_more_of_it(
    house: Central, alice: httpx.AsyncClient, wallet: Keypair
) -> None:
    await house.node("dear", pricing=DEAR)
    asked = await quote(alice, wallet, ALLOWING)
    job_id = (await alice.post("/api/jobs", json=paying(pay_with(wallet, asked), ALLOWING))).json()["id"]
    await settle(house)
    cheap = await house.node("tariff")
    await ran(house, job_id, 1800)
    job = (await alice.get(f"/api/jobs/{job_id}")).json()
    assert (job["assigned_node_id"], job["status"], job["actual_cost_units"]) == (cheap, "completed", BY_TARIFF // 2)
    assert await ledger(house).balance(wallet.address) == HAS - BY_TARIFF // 2


async def test_nothing_more_is_quoted_than_the_wallet_has(
    house: Central, alice: httpx.AsyncClient, chain: Chain
) -> None:
    await house.node("dear", pricing=DEAR)
    await house.node("tariff")
    poor = Keypair(b"\x09" * 32)
    assert (await quote(alice, poor, ALLOWING))["amount_units"] == BY_TARIFF


async def test_a_dearer_node_is_paid_for_the_progress_of_a_job_that_is_cancelled(
    house: Central, alice: httpx.AsyncClient
) -> None:
    """It had the tariff for that, whatever it asked: all else came with a completed job only."""
    await house.node("dear", pricing=DEAR)
    job_id = (await alice.post("/api/jobs", json=ALLOWING)).json()["id"]
    await settle(house)
    await ran(house, job_id, 1860, ends=False)
    await alice.post(f"/api/jobs/{job_id}/cancel", json={})
    await settle(house)
    (payment,) = (await alice.get("/api/payments", params={"job_id": job_id})).json()["payments"]
    assert (payment["amount"], payment["status"]) == ("0.5", "completed")
    assert payment["paid_units"] == pytest.approx(250_000_000, abs=30), "half an hour's, rounded each minute"
