"""The REST application: every route, behind the gate, with one way to fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cyxwiz import __version__
from cyxwiz.config import Config
from cyxwiz.ports.blobs import BlobStore
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.store import Store
from cyxwiz.services.api import Api
from cyxwiz.services.reconcile import Found
from cyxwiz.transports.auth import Guard
from cyxwiz.transports.rest import (
    errors,
    openapi,
    routes_accounts,
    routes_blobs,
    routes_blockchain,
    routes_jobs,
    routes_money,
    routes_nodes,
    routes_page,
    routes_reservations,
    routes_system,
)
from cyxwiz.transports.rest.request import Door
from cyxwiz.transports.rest.security import Gate, Hosts
from cyxwiz.transports.rest.streams import Streams


def build(
    api: Api,
    guard: Guard,
    blobs: BlobStore,
    clock: Clock,
    store: Store,
    *,
    config: Config,
    spool: Path,
    ready: Callable[[], bool],
    registry: CollectorRegistry,
    routers: Sequence[APIRouter] = (),
) -> FastAPI:
    """`spool` is a folder of this process alone, for uploads on their way; `routers` are served beside REST's own.

    `app.state.streams` has the open event streams, which a server ends first when it stops.
    """
    streams, door = Streams(), Door(guard)
    gauges = routes_system.Gauges(
        store, registry, lambda: api.payments.reconciliation.found if api.payments else Found()
    )
    blob_door = routes_blobs.BlobDoor(api, blobs, spool=spool, max_bytes=config.server.max_upload_bytes)
    operations = [
        *routes_system.operations(api, store, gauges if config.metrics.enabled else None, ready),
        *routes_jobs.operations(api, guard, streams),
        *routes_nodes.operations(api),
        *routes_reservations.operations(api),
        *blob_door.operations(),
        *routes_accounts.operations(api),
        *routes_money.operations(api),
        *routes_blockchain.operations(api),
        *routes_page.operations(api, guard, streams),
    ]
    description = cache(lambda: openapi.document(operations))  # made when it is asked for

    app = FastAPI(
        title="CyxWiz", version=__version__, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
    )
    app.router.default = _no_route
    app.state.streams = streams
    app.openapi = description  # type: ignore[method-assign]
    app.include_router(routes_page.router(description, open_mode=guard.accounts.open))
    app.include_router(door.router(operations))
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(HTTPException, _answer)
    app.add_middleware(
        Gate,
        hosts=Hosts(config.server.rest_address.rpartition(":")[0], config.server.public_url),
        clock=clock,
        observe=gauges.observe,
        max_body_bytes=config.server.max_request_bytes,
        unbounded=(routes_blobs.UPLOAD_PATH,),
    )
    return app


async def _no_route(scope: Scope, receive: Receive, send: Send) -> None:
    """A WebSocket gets the error body too, where the framework would refuse it without a word."""
    raise HTTPException(404)


async def _answer(request: Request, error: Exception) -> Response:
    return errors.answer(error, request.scope)
