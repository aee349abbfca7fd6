"""Prices of nodes between the settings, the wire and the domain; and what a finished job costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from cyxwiz.config import NodePricingSection
from cyxwiz.domain.errors import invalid
from cyxwiz.domain.job import Job, Lease
from cyxwiz.domain.money import MAX_UNITS, UNITS_PER_CYXWIZ, parse_cyxwiz
from cyxwiz.domain.node import Hardware
from cyxwiz.domain.payment import Tariff
from cyxwiz.domain.pricing import Billing, NodePricing, default_pricing
from cyxwiz.protocol import node_pb2 as pb
from cyxwiz.scheduler.price import epochs_done, needs_of, price

BILLING = tuple(Billing)  # by the wire contract's numbers
MAX_MINUTES = 10 * 366 * 24 * 60
_AMOUNTS = {
    "per_hour_units": "price_per_hour",
    "per_epoch_units": "price_per_epoch",
    "per_job_units": "price_per_job_base",
    "per_inference_units": "price_per_inference",
    "minimum_charge_units": "minimum_charge",
}
_DISCOUNTS = {"discount_1h": "discount_1h_plus", "discount_24h": "discount_24h_plus", "discount_bulk": "discount_bulk"}


def pricing_by(section: NodePricingSection, hardware: Hardware) -> NodePricing | None:
    """A node's prices by its settings, what is unset by its hardware; None where its owner has set nothing."""
    given = {name: value for name, value in section if value is not None}
    if not given:
        return None
    changes: dict[str, object] = {}
    for name, value in given.items():
        if name in ("per_hour", "per_epoch", "per_job", "per_inference", "minimum_charge"):
            changes[f"{name}_units"] = parse_cyxwiz(str(value), f"node.pricing.{name}")
        else:
            changes[name] = Billing(value) if name == "billing" else value
    if section.free_tier_minutes and section.free_tier is None:
        changes["free_tier"] = True
    return replace(default_pricing(hardware), **changes)  # type: ignore[arg-type]


def units_of(amount: float, field: str) -> int:
    """Units for an amount that travels as a double, rounded to the nearest unit. Raises INVALID, also for one that
    comes to nothing: 0 means something else."""
    if not math.isfinite(amount) or amount < 0 or amount > MAX_UNITS / UNITS_PER_CYXWIZ:
        raise invalid(f"{field}: must be from 0 to {MAX_UNITS // UNITS_PER_CYXWIZ} CYXWIZ, not {amount}", field=field)
    units = int((Decimal(repr(amount)) * UNITS_PER_CYXWIZ).to_integral_value())
    if amount and not units:
        raise invalid(f"{field}: {amount} CYXWIZ is finer than one unit (0.000000001)", field=field)
    return units


def states_prices(given: pb.NodePricing) -> bool:
    """Whether a message of a node says any price: one of the earlier kind may send an empty one."""
    return given.free_tier_available or any(getattr(given, field) for field in _AMOUNTS.values())


def pricing_of(given: pb.NodePricing) -> NodePricing:
    """Raises INVALID for what is no price."""
    values: dict[str, Any] = {
        name: units_of(getattr(given, field), f"pricing.{field}") for name, field in _AMOUNTS.items()
    }
    for name, field in _DISCOUNTS.items():
        values[name] = value = getattr(given, field)
        if not 0.0 <= value <= 1.0:
            raise invalid(f"pricing.{field}: must be a share from 0 to 1, not {value}", field=f"pricing.{field}")
    if not math.isfinite(given.usd_equivalent) or given.usd_equivalent < 0:
        raise invalid("pricing.usd_equivalent: must be a number from 0 on", field="pricing.usd_equivalent")
    for field in ("minimum_duration_minutes", "free_tier_minutes"):
        if not 0 <= getattr(given, field) <= MAX_MINUTES:
            raise invalid(f"pricing.{field}: must be from 0 to {MAX_MINUTES}", field=f"pricing.{field}")
    if not 0 <= given.billing_model < len(BILLING):
        raise invalid(f"pricing.billing_model: {given.billing_model} is unknown", field="pricing.billing_model")
    taken = (given.accepts_cyxwiz_token, given.accepts_sol, given.accepts_usdc)
    return NodePricing(
        **values,
        minimum_minutes=given.minimum_duration_minutes,
        billing=BILLING[given.billing_model],
        usd_per_hour=given.usd_equivalent,
        free_tier=given.free_tier_available,
        free_tier_minutes=given.free_tier_minutes,
        currencies=tuple(each for each, on in zip(("cyxwiz", "sol", "usdc"), taken, strict=True) if on) or ("cyxwiz",),
    )


def pricing_to(given: NodePricing) -> pb.NodePricing:
    return pb.NodePricing(
        **{field: getattr(given, name) / UNITS_PER_CYXWIZ for name, field in _AMOUNTS.items()},
        **{field: getattr(given, name) for name, field in _DISCOUNTS.items()},
        billing_model=BILLING.index(given.billing),  # type: ignore[arg-type]
        minimum_duration_minutes=given.minimum_minutes,
        usd_equivalent=given.usd_per_hour,
        price_updated_at=given.updated_at,
        accepts_cyxwiz_token="cyxwiz" in given.currencies,
        accepts_sol="sol" in given.currencies,
        accepts_usdc="usdc" in given.currencies,
        free_tier_available=given.free_tier,
        free_tier_minutes=given.free_tier_minutes,
    )


def cost_of(job: Job, group: Sequence[Lease], tariff: Tariff, seconds: float) -> int:
    """Units for a finished job that took `seconds` in all, at the prices by which the nodes that ended it got it.

    Never more than its max_price. Each member of a gang is paid at its own prices, those past the first with their bulk
    discount.
    """
    each, epochs = seconds / len(group), epochs_done(job)
    total = 0
    for rank, lease in enumerate(group):
        alone = price(job.spec, needs_of(job.spec, each, 1, epochs), lease.pricing, tariff).units
        if rank:
            alone = price(job.spec, needs_of(job.spec, each, 2, epochs), lease.pricing, tariff).units - alone
        total += alone
    return min(total, job.spec.max_price_units or MAX_UNITS)
