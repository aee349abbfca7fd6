"""Central: store, services, loops, doors."""

from __future__ import annotations

import contextlib
import json
import secrets as random
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cyxwiz.app.core import Core, build_core
from cyxwiz.app.money import open_ledger
from cyxwiz.app.parts import LOCAL_TOKEN, Running, bound, enter, lock
from cyxwiz.bus.local import LocalBus
from cyxwiz.config import Config
from cyxwiz.domain.errors import CyxError
from cyxwiz.ports.blobs import BlobStore
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.runtime.files import write_private
from cyxwiz.scheduler.loops.housekeeper import BlobCollector

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from cyxwiz.transports.auth import Guard


async def start_central(
    stack: AsyncExitStack, config: Config, data_dir: Path, running: Running, *, local: bool
) -> tuple[Core, BlobStore]:
    """`local`: this process is all there is, as with `--role both`: money may live on a chain within it."""
    from cyxwiz.store.blobs import FileBlobStore
    from cyxwiz.store.engine import open_store

    clock = SystemClock()
    bus = LocalBus()
    stack.push_async_callback(bus.aclose)
    lock(stack, data_dir / "central", "central")
    store = await open_store(config.database, data_dir, clock=clock, bus=bus)
    stack.push_async_callback(store.aclose)
    ledger = await open_ledger(stack, config, store, clock, data_dir, local=local)
    blobs = FileBlobStore(_blob_root(config, data_dir), clock)
    core = await build_core(config, store, bus, clock, ledger=ledger, blobs=blobs)
    local_token = random.token_urlsafe(32)
    write_private(data_dir / "central" / LOCAL_TOKEN, local_token)
    key = await _admin_key(core, data_dir)
    for service in (*core.loops(), BlobCollector(store, blobs)):
        await enter(stack, running, service)
    await _doors(stack, core, blobs, data_dir / "central" / "spool", local_token, running)
    client = {"grpc": _from_here(running.ready["grpc"]), "rest": _from_here(running.ready["rest"]), "key": key}
    if config.tls.cert_file:
        client["grpc"] = f"grpcs://{client['grpc']}"
        client["ca_file"] = str((config.tls.ca_file or config.tls.cert_file).resolve())
        # What central itself shows will do for its own machine.
        if config.tls.require_client_cert and config.tls.key_file:
            client["cert_file"] = str(config.tls.cert_file.resolve())
            client["key_file"] = str(config.tls.key_file.resolve())
    write_private(data_dir / "client.json", json.dumps(client))
    return core, blobs


def _from_here(address: str) -> str:
    """The address by which this machine reaches a door that listens on all of its interfaces."""
    for everywhere, loopback in (("0.0.0.0", "127.0.0.1"), ("[::]", "[::1]")):  # noqa: S104  it is taken away
        scheme, separator, rest = address.rpartition("//")
        if rest.startswith(f"{everywhere}:"):
            return f"{scheme}{separator}{loopback}{rest.removeprefix(everywhere)}"
    return address


def _blob_root(config: Config, data_dir: Path) -> Path:
    url = config.blobs.url
    if not url:
        return data_dir / "blobs"
    return Path(url.removeprefix("file://"))


async def _admin_key(core: Core, data_dir: Path) -> str:
    """The API key of `admin` for this data directory: the one that is there and still works, else a new one."""
    first = await core.accounts.bootstrap()
    if first is not None:
        return first
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = str(json.loads((data_dir / "client.json").read_text())["key"])
        with contextlib.suppress(CyxError):
            if (await core.accounts.authenticate(kept)).is_admin:
                return kept
    return await core.accounts.issue_local_key()


async def _doors(
    stack: AsyncExitStack, core: Core, blobs: BlobStore, spool: Path, local_token: str, running: Running
) -> None:
    from prometheus_client import CollectorRegistry

    from cyxwiz.domain.addresses import is_loopback
    from cyxwiz.transports.auth import Guard
    from cyxwiz.transports.grpc.legacy_push import LegacyPusher

    config, server = core.config, core.config.server
    registry = CollectorRegistry()
    guard = Guard(core.accounts, config.rate_limit, max_streams=server.max_streams_per_principal)
    on_loopback = is_loopback(server.grpc_address.rpartition(":")[0])
    private = config.scheduler.push_private if config.scheduler.push_private is not None else on_loopback
    pusher = LegacyPusher(core.bus, core.legacy, core.accounts, poll_seconds=core.poll_seconds, allow_private=private)
    await enter(stack, running, pusher)
    await _grpc_door(stack, core, blobs, guard, registry, local_token, running)
    await _rest_door(stack, core, blobs, guard, registry, spool, running)


async def _grpc_door(
    stack: AsyncExitStack,
    core: Core,
    blobs: BlobStore,
    guard: Guard,
    registry: CollectorRegistry,
    local_token: str,
    running: Running,
) -> None:
    from prometheus_client import Histogram

    from cyxwiz.transports.grpc.blobs import BlobServicer
    from cyxwiz.transports.grpc.door import Door
    from cyxwiz.transports.grpc.events import EventServicer
    from cyxwiz.transports.grpc.jobs import JobServicer
    from cyxwiz.transports.grpc.link import NodeLinkServicer
    from cyxwiz.transports.grpc.nodes import DiscoveryServicer, JobStatusServicer, NodeServicer
    from cyxwiz.transports.grpc.reservations import ReservationServicer
    from cyxwiz.transports.grpc.server import GrpcServer, Servicers, server_credentials
    from cyxwiz.transports.grpc.wallet import WalletServicer

    config, server = core.config, core.config.server
    keep = timedelta(seconds=config.node.keep_results_seconds)
    servicers = Servicers(
        jobs=JobServicer(core.jobs, core.watch, blobs, core.api.keeping, core.clock, keep=keep, quotes=core.api.quotes),
        nodes=NodeServicer(core.store, core.clock, core.nodes, core.legacy, core.accounts),
        job_status=JobStatusServicer(core.legacy),
        discovery=DiscoveryServicer(core.clock, core.nodes),
        reservations=ReservationServicer(core.reservations, core.reservation_reports, core.legacy, core.clock),
        link=NodeLinkServicer(core.gateway, local_token=local_token),
        blobs=BlobServicer(blobs, core.jobs, core.api.keeping, max_bytes=server.max_upload_bytes),
        events=EventServicer(core.watch),
        api=core.api,
        relay=core.gateway.relay,
        wallet=WalletServicer(core.api),
    )
    addresses = [(server.grpc_address, server_credentials(config.tls, client_certs=_everybody_shows_one(config)))]
    if server.node_grpc_address is not None:
        demanded = config.tls.require_client_cert
        addresses.append((server.node_grpc_address, server_credentials(config.tls, client_certs=demanded)))
    seconds = Histogram("cyxwiz_grpc_seconds", "gRPC calls", ["method", "code"], registry=registry)
    grpc_server = GrpcServer(
        servicers,
        Door(guard, lambda method, code, took: seconds.labels(method, code).observe(took)),
        addresses,
        max_message_bytes=server.max_request_bytes,
        max_connections=server.max_connections,
    )
    await enter(stack, running, grpc_server, server.stop_grace_seconds)
    running.ready["grpc"] = bound(server.grpc_address, grpc_server.ports[0])
    if server.node_grpc_address:
        running.ready["node_grpc"] = bound(server.node_grpc_address, grpc_server.ports[1])


async def _rest_door(
    stack: AsyncExitStack,
    core: Core,
    blobs: BlobStore,
    guard: Guard,
    registry: CollectorRegistry,
    spool: Path,
    running: Running,
) -> None:
    from cyxwiz.transports.rest.app import build
    from cyxwiz.transports.rest.server import RestServer
    from cyxwiz.transports.ws.events import router as ws_router

    config, server = core.config, core.config.server
    app = build(
        core.api,
        guard,
        blobs,
        core.clock,
        core.store,
        config=config,
        spool=spool,
        ready=lambda: not running.stop.is_set(),
        registry=registry,
        routers=[ws_router(core.api, guard)],
    )
    host, _, port = server.rest_address.rpartition(":")
    rest = RestServer(
        app,
        host,
        int(port),
        ssl_certfile=config.tls.cert_file,
        ssl_keyfile=config.tls.key_file,
        ca=config.tls.ca_file,
        require_client_cert=_everybody_shows_one(config),
        max_connections=server.max_connections,
    )
    await enter(stack, running, rest, server.stop_grace_seconds)
    scheme = "https" if config.tls.cert_file else "http"
    running.ready["rest"] = f"{scheme}://{bound(server.rest_address, rest.port)}"


def _everybody_shows_one(config: Config) -> bool:
    """Client certificates are all or nothing on an address: with an address for nodes, only that one demands them."""
    return config.tls.require_client_cert and config.server.node_grpc_address is None
