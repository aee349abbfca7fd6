"""Settings within those of a node: its prices, and what tensor operations may take of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from cyxwiz.config.section import Section
from cyxwiz.config.values import Amount, Share, Strings, currencies_checked


class NodePricingSection(Section):
    """A node's prices. With none set, central's tariff holds; with some, the others follow from the hardware."""

    billing: Literal["hourly", "per_epoch", "per_job", "per_inference"] | None = Field(
        default=None, description="What the node bills by; hourly when unset, and where a job has nothing to count."
    )
    per_hour: Amount | None = Field(default=None, description="CYXWIZ; unset: by the hardware.")
    per_epoch: Amount | None = Field(default=None, description="CYXWIZ; unset: 0.01.")
    per_job: Amount | None = Field(default=None, description="CYXWIZ, added to each job; unset: 0.")
    per_inference: Amount | None = Field(default=None, description="CYXWIZ; unset: 0.001.")
    minimum_charge: Amount | None = Field(default=None, description="CYXWIZ, of one job; unset: 0.05.")
    minimum_minutes: int | None = Field(
        default=None, ge=0, le=10 * 366 * 24 * 60, description="Least time that is billed by the hour; unset: 10."
    )
    discount_1h: Share | None = Field(default=None, description="Off the hours past the first; unset: 0.1.")
    discount_24h: Share | None = Field(default=None, description="Off the hours past the first day; unset: 0.2.")
    discount_bulk: Share | None = Field(
        default=None, description="Off the members past the first of a job of several nodes; unset: 0.05."
    )
    free_tier: bool | None = Field(default=None, description="Whether the first minutes of each job are free.")
    free_tier_minutes: int | None = Field(
        default=None, ge=0, le=10 * 366 * 24 * 60, description="How many; also turns the free tier on."
    )
    usd_per_hour: float | None = Field(default=None, ge=0, le=10**9, description="Shown to people; nothing is billed.")
    currencies: Annotated[Strings, AfterValidator(currencies_checked)] | None = Field(
        default=None, description="What the owner takes: cyxwiz, sol, usdc; unset: all."
    )


class OperationsSection(Section):
    """What the tensor operations of `ComputeService` may take of this node."""

    children: int = Field(default=2, ge=1, le=64, description="Processes; each serves one caller at a time.")
    threads: int = Field(default=1, ge=1, le=256, description="CPU threads of a process.")
    memory_bytes: int = Field(default=2 << 30, ge=256 << 20, le=1 << 40, description="Memory of a process on the CPU.")
    seconds: float = Field(default=30.0, ge=0.1, le=3600, description="Time of a request, once it has its process.")
    idle_seconds: float = Field(
        default=60.0, ge=0, le=86400, description="How long a process waits for its caller's next request."
    )
    waiting: int = Field(default=64, ge=1, le=100_000, description="Requests that may wait for a process.")
    waiting_each: int = Field(default=16, ge=1, le=100_000, description="Of them, those of one caller.")
    graph_operations: int = Field(default=256, ge=1, le=10_000, description="Operations of one graph.")
    input_bytes: int = Field(
        default=64 << 20, ge=1 << 10, le=1 << 40, description="Tensors of a request together, unpacked."
    )
    room_bytes: int = Field(
        default=64 << 20,
        ge=1 << 10,
        le=1 << 40,
        description="An array that an operation makes, and all outputs of a request together.",
    )
