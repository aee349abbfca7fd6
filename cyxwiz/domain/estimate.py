"""The earlier system's estimate of what a model costs to train, which `WalletService.EstimateJobCost` still answers.

A rule of thumb by the model's name. What a job here costs is its quote, by the tariff (`domain.payment.Tariff`).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from cyxwiz.domain.errors import invalid
from cyxwiz.domain.money import MAX_UNITS, UNITS_PER_CYXWIZ

BASES = {
    "mnist": Fraction(1, 10),
    "simplenn": Fraction(1, 10),
    "resnet-18": Fraction(1),
    "vgg-16": Fraction(1),
    "resnet-50": Fraction(10),
    "gpt-2": Fraction(10),
    "gpt-3": Fraction(50),
    "bert-large": Fraction(50),
}
OTHER = Fraction(1, 2)
TIERS = {"basic": Fraction(1), "premium": Fraction(3, 2), "enterprise": Fraction(2)}
SAMPLES, LEAST = 10_000, Fraction(1, 10)
MINUTES = 10  # for each CYXWIZ


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """`cost` is in CYXWIZ."""

    cost: float
    minutes: float
    breakdown: str


def estimate_cost(model_type: str, epochs: int, dataset_size: int, node_tier: str) -> CostEstimate:
    """base of the model · max(dataset_size / 10000, 0.1) · epochs · factor of the tier; 10 minutes for each CYXWIZ.

    No tier is the basic one. Raises INVALID for no epochs, a size below 0, an unknown tier and a cost that no
    amount can hold.
    """
    if epochs < 1:
        raise invalid(f"epochs: must be at least 1, not {epochs}", field="epochs")
    if dataset_size < 0:
        raise invalid(f"dataset_size: must be at least 0, not {dataset_size}", field="dataset_size")
    tier = TIERS.get(node_tier.lower() or "basic")
    if tier is None:
        raise invalid(f"node_tier: {node_tier[:40]!r} must be one of {', '.join(TIERS)}", field="node_tier")
    base = BASES.get(model_type.lower(), OTHER)
    data = max(Fraction(dataset_size, SAMPLES), LEAST)
    cost = base * data * epochs * tier
    if cost * UNITS_PER_CYXWIZ > MAX_UNITS:
        raise invalid("epochs: the estimate is more than an amount can hold; ask for fewer", field="epochs")
    terms = f"{float(base):g} x {float(data):g} (data) x {epochs} (epochs) x {float(tier):g} (tier)"
    return CostEstimate(float(cost), float(cost * MINUTES), f"{terms} = {float(cost):g} CYXWIZ")
