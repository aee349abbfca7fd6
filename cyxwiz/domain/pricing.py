"""What nodes ask for their work, and what a job costs at such prices: pure, in integer units of 1e-9 CYXWIZ.

A quote never falls when a job grows (more time, epochs, inferences or members) or a price rises. That is why discounts
are brackets: the hours past the first cost 10 % less, those past the first day 20 %, not all of them at once; and a
gang's members past the first get the bulk discount. Fractions of a unit are rounded up, a line at a time.

The figures of `default_pricing` are the earlier system's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cyxwiz.domain.job import Device
from cyxwiz.domain.money import MAX_UNITS, UNITS_PER_CYXWIZ
from cyxwiz.domain.payment import Tariff

if TYPE_CHECKING:
    from cyxwiz.domain.node import Hardware

CURRENCIES = ("cyxwiz", "sol", "usdc")
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
WHOLE = 10_000  # discounts are counted in 1/100 of a percent
MOST_SECONDS = 1e12  # beyond, every price is past what an amount holds, or nought


class Billing(StrEnum):
    """What a node bills by; in the order of the wire contract's numbers."""

    HOURLY = "hourly"
    PER_EPOCH = "per_epoch"
    PER_JOB = "per_job"
    PER_INFERENCE = "per_inference"


@dataclass(frozen=True, slots=True)
class NodePricing:
    """A node's prices. Amounts are units; discounts are shares from 0 to 1."""

    per_hour_units: int
    per_epoch_units: int = UNITS_PER_CYXWIZ // 100
    per_job_units: int = 0
    per_inference_units: int = UNITS_PER_CYXWIZ // 1000
    minimum_charge_units: int = UNITS_PER_CYXWIZ // 20
    minimum_minutes: int = 10
    billing: Billing = Billing.HOURLY
    discount_1h: float = 0.10
    discount_24h: float = 0.20
    discount_bulk: float = 0.05
    usd_per_hour: float = 0.0  # for people: nothing is billed in it
    free_tier: bool = False
    free_tier_minutes: int = 0
    currencies: tuple[str, ...] = CURRENCIES
    updated_at: int = 0  # Unix seconds

    @property
    def per_hour(self) -> float:
        """In CYXWIZ, for the wire contract's doubles."""
        return self.per_hour_units / UNITS_PER_CYXWIZ


@dataclass(frozen=True, slots=True)
class Needs:
    """What of a job is billed. `inferences` is None where nobody knows how many there will be."""

    seconds: float  # of each member
    epochs: int = 0
    inferences: int | None = None
    members: int = 1


@dataclass(frozen=True, slots=True)
class Quote:
    """A price with its lines, which add up to `units`: (what for, units); a discount is below 0."""

    units: int
    lines: tuple[tuple[str, int], ...]


def quote(needs: Needs, pricing: NodePricing) -> Quote:
    """What the job costs at a node's prices, each member of a gang as though at the same ones."""
    first = _one(needs, pricing)
    total = sum(units for _, units in first)
    lines = list(first)
    if needs.members > 1:
        others = (needs.members - 1) * total
        reduced = (needs.members - 1) * _share(total, WHOLE - _basis(pricing.discount_bulk))
        lines += [(f"{needs.members - 1} more members", others), ("bulk discount", reduced - others)]
    return _quote(lines)


def quote_by_tariff(needs: Needs, tariff: Tariff, *, gpu: bool, ram_bytes: int) -> Quote:
    """What the job costs on a node that has set no prices: the operator's tariff, for every second."""
    units = tariff.cost_units(needs.seconds * needs.members, gpu=gpu, ram_bytes=ram_bytes)
    return _quote([("tariff", units)])


def _one(needs: Needs, pricing: NodePricing) -> list[tuple[str, int]]:
    """The lines of one member."""
    spent = math.ceil(min(max(0.0, needs.seconds), MOST_SECONDS) * 1000)
    free = pricing.free_tier_minutes * 60_000 if pricing.free_tier else 0
    if pricing.free_tier and spent <= free:
        return [("free tier", 0)]
    lines = [("per job", pricing.per_job_units)] if pricing.per_job_units else []
    if pricing.billing is Billing.PER_EPOCH and needs.epochs:
        lines.append((f"{needs.epochs} epochs", needs.epochs * pricing.per_epoch_units))
    elif pricing.billing is Billing.PER_INFERENCE and needs.inferences is not None:
        lines.append((f"{needs.inferences} inferences", needs.inferences * pricing.per_inference_units))
    elif pricing.billing is not Billing.PER_JOB:
        # Also for a job without what the node counts: an evaluation has no epochs.
        lines += _hourly(max(spent - free, pricing.minimum_minutes * 60_000), pricing)
    total = sum(units for _, units in lines)
    if total < pricing.minimum_charge_units:
        lines.append(("up to the minimum charge", pricing.minimum_charge_units - total))
    return lines


def _hourly(milliseconds: int, pricing: NodePricing) -> list[tuple[str, int]]:
    past_hour = max(0, min(milliseconds, DAY_MS) - HOUR_MS)
    past_day = max(0, milliseconds - DAY_MS)
    whole = _ceil(pricing.per_hour_units * milliseconds, HOUR_MS)
    reduced = milliseconds * WHOLE - past_hour * _basis(pricing.discount_1h) - past_day * _basis(pricing.discount_24h)
    net = _ceil(pricing.per_hour_units * reduced, HOUR_MS * WHOLE)
    lines = [(f"{milliseconds / HOUR_MS:.6g} hours", whole)]
    return [*lines, ("discount for the hours past the first", net - whole)] if net != whole else lines


def _quote(lines: list[tuple[str, int]]) -> Quote:
    units = sum(each for _, each in lines)
    if units > MAX_UNITS:
        return Quote(MAX_UNITS, (("more than an amount can hold", MAX_UNITS),))
    return Quote(units, tuple(lines))


def _basis(discount: float) -> int:
    return round(discount * WHOLE)


def _share(units: int, basis: int) -> int:
    return _ceil(units * basis, WHOLE)


def _ceil(number: int, by: int) -> int:
    return -(-number // by)


def default_pricing(hardware: Hardware) -> NodePricing:
    """Prices by the hardware. An hour: CUDA 0.25 + 0.02·GB, another GPU 0.15 + 0.01·GB, else 0.05 + 0.005·cores."""
    for gpu in hardware.gpus:
        vram = (gpu.memory_total_bytes or 0) / 2**30
        per_hour = 0.25 + 0.02 * vram if gpu.kind is Device.CUDA else 0.15 + 0.01 * vram
        return NodePricing(round(round(per_hour, 6) * UNITS_PER_CYXWIZ))
    return NodePricing(round((0.05 + 0.005 * hardware.cpu_cores) * UNITS_PER_CYXWIZ))
