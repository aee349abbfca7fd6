"""What a job costs. Prices here are estimates: nothing is charged without a ledger."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cyxwiz.domain.money import MAX_UNITS


class PaymentState(StrEnum):
    PENDING = "pending"
    LOCKED = "locked"
    STREAMING = "streaming"
    COMPLETED = "completed"
    FAILED = "failed"
    REFUNDED = "refunded"


@dataclass(frozen=True, slots=True)
class Tariff:
    """base_rate is in units a second."""

    base_rate: int
    gpu_multiplier: float
    ram_factor_per_gb: float

    def units_per_second(self, *, gpu: bool, ram_bytes: int) -> float:
        """base_rate · gpu_multiplier · (1 + ram_gb · ram_factor); the multiplier counts only with a GPU."""
        ram_gb = ram_bytes / 2**30
        return self.base_rate * (self.gpu_multiplier if gpu else 1.0) * (1 + ram_gb * self.ram_factor_per_gb)

    def cost_units(self, seconds: float, *, gpu: bool, ram_bytes: int) -> int:
        """At most `MAX_UNITS`, which is what an amount can hold."""
        cost = self.units_per_second(gpu=gpu, ram_bytes=ram_bytes) * seconds
        return round(cost) if cost < MAX_UNITS else MAX_UNITS
