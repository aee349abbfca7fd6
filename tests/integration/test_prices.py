"""Nodes' own prices: in quotes, in placing, in what a job costs in the end, and as discovery shows them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cyxwiz.domain.account import Principal
from cyxwiz.domain.ids import NodeId
from cyxwiz.domain.job import Job, JobSpec
from cyxwiz.domain.money import UNITS_PER_CYXWIZ
from cyxwiz.domain.pricing import Billing, NodePricing
from cyxwiz.domain.reputation import Kind
from cyxwiz.domain.script import Script
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.store import Tx
from cyxwiz.scheduler.loops.placer import Placer
from cyxwiz.scheduler.price import epochs_done
from cyxwiz.scheduler.rank import Weights
from cyxwiz.services.api import Call
from cyxwiz.services.gateway import _registration
from cyxwiz.services.jobfile import parse_jobfile
from cyxwiz.services.pricing import pricing_to
from tests.contract.conftest import HandClock
from tests.wiring import JOB, Central, central, progress

ONE = UNITS_PER_CYXWIZ
CHEAP = NodePricing(ONE // 10, minimum_charge_units=0)
DEAR = NodePricing(ONE)


class Market:
    def __init__(self, house: Central, bob: Principal, clock: HandClock) -> None:
        self.house, self.bob, self.clock = house, bob, clock

    def spec(self, max_price: str = "", expected: float = 3600.0) -> JobSpec:
        spec = parse_jobfile({**JOB, "payment": {"max_price": max_price} if max_price else {}})
        return replace(spec, expected_seconds=expected)

    async def place(self, spec: JobSpec) -> Job:
        job, _ = await self.house.jobs.submit(self.bob, spec)
        await Placer(self.house.store, self.house.bus, self.house.jobs, Weights(), poll_seconds=1.0).place()
        return await self.house.jobs.get(self.bob, job.id)

    async def run(self, spec: JobSpec, node_id: NodeId) -> Job:
        """The job, run to its end there in 2.5 seconds."""
        job, _ = await self.house.jobs.submit(self.bob, spec)
        lease = await self.house.lease(job.id, node_id)
        self.clock.advance(2.5)
        await self.house.report(lease, await self.house.finished(job.id.encode()))
        return await self.house.jobs.get(self.bob, job.id)


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[Market]:
    clock = HandClock()
    house = await central(tmp_path, clock=clock)
    yield Market(house, await house.accounts.authenticate(house.bob), clock)
    await house.aclose()


async def test_the_cheapest_of_equals_gets_the_job_at_its_price(market: Market) -> None:
    dear = [await market.house.node(f"dear{n}", pricing=DEAR) for n in range(3)]
    cheap = await market.house.node("cheap", pricing=CHEAP)
    job = await market.place(market.spec())
    assert (job.node_id, job.estimated_cost_units) == (cheap, ONE // 10)
    estimate, verdicts = await market.house.jobs.plan(market.bob, market.spec())
    # One slot of two is taken there: the others are not its equals any more.
    assert verdicts[0].node_id in dear
    assert estimate.cost_units == verdicts[0].quote.units == ONE


async def test_max_price_is_a_hard_limit_that_is_explained_in_figures(market: Market) -> None:
    await market.house.node("dear", pricing=DEAR)
    job = await market.place(market.spec("0.5"))
    assert job.node_id is None
    assert job.reason == "no node can take it: asks 1 CYXWIZ, above max_price 0.5 (1 node)"
    document = await market.house.api.explain_job(Call(market.bob, job.id))
    (verdict,) = document["nodes"]
    assert (verdict["feasible"], verdict["reason"]) == (False, "asks 1 CYXWIZ, above max_price 0.5")
    assert verdict["quote"] == {
        "total": "1",
        "total_units": ONE,
        "lines": [{"what": "1 hours", "amount": "1", "amount_units": ONE}],
    }
    assert (await market.place(market.spec("1"))).node_id is not None


async def test_a_job_under_a_limit_does_not_speak_for_one_without(market: Market) -> None:
    node_id = await market.house.node("dear", pricing=DEAR)
    await market.house.jobs.submit(market.bob, market.spec("0.5"))
    assert (await market.place(market.spec("0.6", 60.0))).node_id == node_id


async def test_what_a_job_cost_is_by_the_nodes_prices_and_never_past_its_limit(market: Market) -> None:
    hourly = await market.house.node(
        "hourly", pricing=NodePricing(3600 * ONE, minimum_charge_units=0, minimum_minutes=0)
    )
    epochs = await market.house.node("epochs", pricing=replace(CHEAP, billing=Billing.PER_EPOCH))
    tariff = await market.house.node("tariff")
    assert (await market.run(market.spec(), hourly)).actual_cost_units == 5 * ONE // 2
    assert (await market.run(market.spec("2"), hourly)).actual_cost_units == 2 * ONE
    assert (await market.run(market.spec(), epochs)).actual_cost_units == 4 * ONE // 100
    assert (await market.run(market.spec(), tariff)).actual_cost_units == 25_250


async def test_epochs_that_early_stopping_left_out_cost_nothing(market: Market) -> None:
    node_id = await market.house.node("epochs", pricing=replace(CHEAP, billing=Billing.PER_EPOCH))
    job, _ = await market.house.jobs.submit(market.bob, market.spec())
    lease = await market.house.lease(job.id, node_id)
    await market.house.report(lease, progress(1), progress(2), await market.house.finished(job.id.encode()))
    done = await market.house.jobs.get(market.bob, job.id)
    assert (done.epoch, done.spec.epochs, done.actual_cost_units) == (2, 4, 2 * ONE // 100)


async def test_a_script_is_billed_by_all_of_its_epochs(market: Market) -> None:
    """It counts as it likes: one that told of a single epoch would have worked for the price of one."""
    declared = replace((await market.house.jobs.submit(market.bob, market.spec()))[0], epoch=3)
    script = replace(declared, spec=replace(declared.spec, script=Script("train.py", {"train.py": "a" * 64})))
    assert [epochs_done(each) for each in (declared, script, replace(declared, epoch=0))] == [3, 4, 4]
    assert epochs_done(replace(declared, epoch=100)) == 4


async def test_prices_are_those_by_which_the_node_got_the_job(market: Market) -> None:
    """What its owner asks from then on holds for the next one."""
    node_id = await market.house.node("cheap", pricing=CHEAP)
    job, _ = await market.house.jobs.submit(market.bob, market.spec())
    lease = await market.house.lease(job.id, node_id)

    def dearer(tx: Tx) -> None:
        node = tx.node(node_id)
        assert node is not None
        tx.save_node(replace(node, pricing=replace(DEAR, billing=Billing.PER_JOB, per_job_units=20 * ONE)))

    await market.house.store.write(dearer)
    market.clock.advance(1800)
    done = await market.house.finished(job.id.encode())
    done.compute_seconds = 1800
    await market.house.report(lease, done)
    assert (await market.house.jobs.get(market.bob, job.id)).actual_cost_units == ONE // 20


async def test_free_work_for_somebody_else_is_thanked(market: Market) -> None:
    node_id = await market.house.node("free", pricing=replace(CHEAP, free_tier=True, free_tier_minutes=5))
    assert (await market.run(market.spec(), node_id)).actual_cost_units == 0
    entries = await market.house.store.read(lambda tx: tx.reputation_entries(node_id, 9))
    assert [entry.kind for entry in entries] == [Kind.FREE_WORK, Kind.SUCCESS]


async def test_prices_are_stored_with_the_time_from_which_they_hold(market: Market) -> None:
    hello = pb.Hello(name="rig", pricing=pricing_to(CHEAP))
    hello.hardware.cpu_cores = 1
    said = _registration(hello, "127.0.0.1").pricing
    assert said == CHEAP
    assert _registration(pb.Hello(name="rig"), "").pricing is None
    node_id = await market.house.node("rig", pricing=said)
    document = await market.house.api.get_node(Call(market.bob, node_id))
    assert document["pricing"]["set_by"] == "node"
    for told, name in ((document["pricing"], "per_hour"), (document, "price_per_hour")):
        assert (told[name], told[f"{name}_units"]) == ("0.1", ONE // 10)
    assert document["pricing"]["updated_at"] == "2030-01-01T00:00:00.000Z"
    bare = await market.house.api.get_node(Call(market.bob, await market.house.node("bare")))
    assert (bare["pricing"]["set_by"], bare["pricing"]["per_hour"]) == ("tariff", "0.09")
