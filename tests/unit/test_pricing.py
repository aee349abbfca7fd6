"""Quotes: integer units, lines that add up, and never less for more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cyxwiz.config import NodePricingSection
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.job import Device
from cyxwiz.domain.money import MAX_UNITS, UNITS_PER_CYXWIZ
from cyxwiz.domain.node import DeviceInfo, Hardware
from cyxwiz.domain.payment import Tariff
from cyxwiz.domain.pricing import (
    Billing,
    Needs,
    NodePricing,
    default_pricing,
    quote,
    quote_by_tariff,
)
from cyxwiz.protocol import node_pb2 as pb
from cyxwiz.services.pricing import pricing_by, pricing_of, pricing_to, states_prices

ONE = UNITS_PER_CYXWIZ
HOUR = 3600.0
PLAIN = NodePricing(ONE, ONE // 10, 0, ONE // 1000, minimum_charge_units=0, minimum_minutes=0)


def machine(*gpus: tuple[Device, int], cores: int = 8) -> Hardware:
    devices = tuple(DeviceInfo(kind, "gpu", memory_total_bytes=size << 30) for kind, size in gpus)
    return Hardware("cpu", cores, 32 << 30, 32 << 30, devices)


@pytest.mark.parametrize(
    ("hardware", "per_hour"),
    [
        (machine((Device.CUDA, 24)), 730_000_000),
        (machine((Device.OPENCL, 8)), 230_000_000),
        (machine(), 90_000_000),
    ],
)
def test_prices_by_the_hardware(hardware: Hardware, per_hour: int) -> None:
    found = default_pricing(hardware)
    assert found.per_hour_units == per_hour
    assert (found.per_epoch_units, found.per_inference_units) == (ONE // 100, ONE // 1000)
    assert (found.minimum_charge_units, found.minimum_minutes) == (ONE // 20, 10)
    assert (found.discount_1h, found.discount_24h, found.discount_bulk) == (0.10, 0.20, 0.05)
    assert found.currencies == ("cyxwiz", "sol", "usdc")
    assert not found.free_tier


@pytest.mark.parametrize(
    ("needs", "changes", "units"),
    [
        (Needs(HOUR), {}, ONE),
        (Needs(2 * HOUR), {}, ONE + ONE * 9 // 10),
        (Needs(25 * HOUR), {}, ONE + 23 * ONE * 9 // 10 + ONE * 8 // 10),
        (Needs(60), {"minimum_minutes": 10}, 166_666_667),
        (Needs(1), {"minimum_charge_units": ONE}, ONE),
        (Needs(HOUR, epochs=3), {"billing": Billing.PER_EPOCH}, 3 * ONE // 10),
        (Needs(HOUR), {"billing": Billing.PER_EPOCH}, ONE),
        (Needs(HOUR, inferences=500), {"billing": Billing.PER_INFERENCE}, ONE // 2),
        (Needs(HOUR), {"billing": Billing.PER_INFERENCE}, ONE),
        (Needs(HOUR), {"billing": Billing.PER_JOB, "per_job_units": 7}, 7),
        (Needs(HOUR), {"per_job_units": 7}, ONE + 7),
        (Needs(HOUR, members=3), {}, ONE + 2 * ONE * 95 // 100),
        (Needs(600), {"free_tier": True, "free_tier_minutes": 10, "minimum_charge_units": ONE}, 0),
        (Needs(HOUR + 600), {"free_tier": True, "free_tier_minutes": 10}, ONE),
        (Needs(HOUR), {"free_tier": True}, ONE),
        (Needs(0.0005), {}, 278),
        (Needs(float("inf")), {"per_hour_units": MAX_UNITS}, MAX_UNITS),
    ],
)
def test_quotes(needs: Needs, changes: dict[str, Any], units: int) -> None:
    found = quote(needs, replace(PLAIN, **changes))
    assert found.units == units
    assert sum(each for _, each in found.lines) == units


amounts = st.integers(0, 10**12)
shares = st.floats(0, 1)
pricings = st.builds(
    NodePricing,
    amounts,
    amounts,
    amounts,
    amounts,
    amounts,
    st.integers(0, 3000),
    st.sampled_from(Billing),
    shares,
    shares,
    shares,
    free_tier=st.booleans(),
    free_tier_minutes=st.integers(0, 3000),
)
needs_given = st.builds(
    Needs,
    st.floats(0, 1e6),
    st.integers(0, 1000),
    st.none() | st.integers(0, 10**6),
    st.integers(1, 50),
)


@given(pricings, needs_given, st.sampled_from(["seconds", "epochs", "inferences", "members"]), st.integers(0, 10**6))
def test_more_never_costs_less(pricing: NodePricing, needs: Needs, what: str, more: int) -> None:
    # A job without epochs is billed by the hour even where epochs are billed: one with some is another kind of job.
    assume(getattr(needs, what) is not None and (what != "epochs" or needs.epochs))
    small, large = quote(needs, pricing), quote(replace(needs, **{what: getattr(needs, what) + more}), pricing)
    assert 0 <= small.units <= large.units <= MAX_UNITS
    assert sum(each for _, each in small.lines) == small.units


@given(
    pricings,
    needs_given,
    st.sampled_from(
        ["per_hour_units", "per_epoch_units", "per_job_units", "per_inference_units", "minimum_charge_units"]
    ),
    amounts,
)
def test_a_higher_price_never_costs_less(pricing: NodePricing, needs: Needs, what: str, more: int) -> None:
    dearer = replace(pricing, **{what: getattr(pricing, what) + more})
    assert quote(needs, pricing).units <= quote(needs, dearer).units


def test_a_node_without_prices_costs_the_tariff() -> None:
    tariff = Tariff(10_000, 10.0, 0.01)
    assert quote_by_tariff(Needs(60, members=2), tariff, gpu=False, ram_bytes=8 << 30).units == 2 * 648_000


@given(pricings)
def test_prices_travel_unchanged(pricing: NodePricing) -> None:
    given = replace(pricing, updated_at=0)
    sent = pricing_to(given)
    assert pricing_of(pb.NodePricing.FromString(sent.SerializeToString())) == given


@pytest.mark.parametrize(
    "changes",
    [
        {"price_per_hour": -1.0},
        {"price_per_epoch": float("nan")},
        {"minimum_charge": 1e300},
        {"discount_1h_plus": 1.01},
        {"discount_bulk": -0.1},
        {"usd_equivalent": float("inf")},
        {"minimum_duration_minutes": -1},
        {"billing_model": 9},
    ],
)
def test_what_is_no_price_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CyxError) as caught:
        pricing_of(pb.NodePricing(**changes))
    assert caught.value.code is Code.INVALID
    assert caught.value.details["field"] == f"pricing.{next(iter(changes))}"


def test_settings_set_prices_and_the_hardware_the_others() -> None:
    assert pricing_by(NodePricingSection(), machine()) is None
    found = pricing_by(NodePricingSection(per_epoch="0.5", free_tier_minutes=5, billing="per_epoch"), machine())
    assert found == replace(
        default_pricing(machine()),
        per_epoch_units=ONE // 2,
        free_tier=True,
        free_tier_minutes=5,
        billing=Billing.PER_EPOCH,
    )
    assert not states_prices(pb.NodePricing())
    assert states_prices(pricing_to(NodePricing(0, free_tier=True)))
