"""What operators and programs ask of the server itself: health, readiness, figures, the description of the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from fastapi import Request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, Histogram, generate_latest
from starlette.responses import Response

from cyxwiz import __version__
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.states import JobState
from cyxwiz.ports.store import Store
from cyxwiz.services.api import Api, Call
from cyxwiz.services.reconcile import Found
from cyxwiz.transports.rest.request import Access, Operation, reply

STORE_SECONDS = 3.0  # that the store may take to answer whoever asks whether this central can serve
DRIFTS = ("payments", "units", "books_units", "reservations", "reservation_units", "spare_units")


class Gauges:
    """Figures for Prometheus: jobs and nodes as the store counts them when asked, requests as they pass."""

    def __init__(self, store: Store, registry: CollectorRegistry, drift: Callable[[], Found]) -> None:
        self._drift = drift
        self._store = store
        self._registry = registry
        self._jobs = Gauge("cyxwiz_jobs", "Jobs by state", ["state"], registry=registry)
        self._online = Gauge("cyxwiz_nodes_online", "Nodes that are online", registry=registry)
        self._nodes = Gauge("cyxwiz_nodes", "Nodes that have joined", registry=registry)
        self._compute = Gauge("cyxwiz_compute_seconds", "Seconds of compute that jobs have used", registry=registry)
        self._drifts = Gauge(
            "cyxwiz_ledger_drift",
            "Payments and reservations that differ from what the ledger holds, their units, what the books are off by",
            ["of"],
            registry=registry,
        )
        self._requests = Histogram(
            "cyxwiz_http_request_seconds", "Time to answer", ["method", "route", "status"], registry=registry
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        known = method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"
        self._requests.labels(known, route, str(status)).observe(seconds)

    async def render(self, request: Request, call: Call) -> Response:
        stats = await self._store.read(lambda tx: tx.stats())
        for state in JobState:
            self._jobs.labels(str(state)).set(stats.jobs_by_state.get(state, 0))
        self._online.set(stats.online_nodes)
        self._nodes.set(stats.total_nodes)
        self._compute.set(stats.compute_seconds)
        drift = self._drift()
        for name in DRIFTS:
            self._drifts.labels(name).set(getattr(drift, name))
        return Response(generate_latest(self._registry), media_type=None, headers={"Content-Type": CONTENT_TYPE_LATEST})


def operations(api: Api, store: Store, gauges: Gauges | None, ready: Callable[[], bool]) -> Iterable[Operation]:
    async def health(call: Call) -> Any:
        return {"status": "ok", "version": __version__, "service": "cyxwiz-central-server"}

    async def readiness(_: Request, call: Call) -> Response:
        if not ready():
            raise CyxError(Code.UNAVAILABLE, "Not ready: starting or stopping")
        try:
            async with asyncio.timeout(STORE_SECONDS):
                await store.read(lambda tx: tx.last_seq())
        except TimeoutError:
            raise CyxError(Code.UNAVAILABLE, f"Not ready: no answer of the database in {STORE_SECONDS:g} s") from None
        return reply({"status": "ready"})

    yield Operation("GET", "/api/health", "Whether the process lives", "Health", health, access=Access.ANYBODY)
    yield Operation("GET", "/api/ready", "Whether it can serve", "Ready", serve=readiness, access=Access.ANYBODY)
    yield Operation("GET", "/api/stats", "Figures of all nodes and jobs", "Stats", api.get_stats, access=Access.LOCAL)
    if gauges is not None:
        yield Operation(
            "GET",
            "/metrics",
            "Figures for Prometheus",
            "text/plain",
            serve=gauges.render,
            access=Access.LOCAL,
            tag="system",
        )
