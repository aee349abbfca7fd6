"""A central in this process, with its gRPC door on a free port: what integration tests talk to."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc

from cyxwiz import config as settings
from cyxwiz.app.core import Core, build_core
from cyxwiz.app.money import open_ledger
from cyxwiz.bus.local import LocalBus
from cyxwiz.domain.account import Principal, Role
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.store import Store
from cyxwiz.protocol import job_pb2_grpc, node_pb2_grpc
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.store.blobs import FileBlobStore
from cyxwiz.store.memory import MemoryStore
from cyxwiz.transports.auth import Guard
from cyxwiz.transports.grpc.blobs import BlobServicer
from cyxwiz.transports.grpc.door import Door
from cyxwiz.transports.grpc.events import EventServicer
from cyxwiz.transports.grpc.jobs import JobServicer
from cyxwiz.transports.grpc.legacy_push import LegacyPusher
from cyxwiz.transports.grpc.link import NodeLinkServicer
from cyxwiz.transports.grpc.nodes import DiscoveryServicer, JobStatusServicer, NodeServicer
from cyxwiz.transports.grpc.reservations import ReservationServicer
from cyxwiz.transports.grpc.server import GrpcServer, Servicers
from cyxwiz.transports.grpc.wallet import WalletServicer

CHEAP = ("auth.argon2_memory_kib=8", "auth.argon2_time_cost=1")
DIGITS: dict[str, Any] = {
    "name": "digits",
    "dataset": "builtin:digits",
    "epochs": 3,
    "batch_size": 64,
    "model": {"layers": [{"type": "dense", "units": 16}, {"type": "relu"}, {"type": "dense", "units": 10}]},
}
MODEL = '{"layers": [{"type": "dense", "units": 16}, {"type": "relu"}, {"type": "dense", "units": 10}]}'
LOCAL_TOKEN = "the-local-token"


@dataclass
class Central:
    core: Core
    blobs: FileBlobStore
    server: GrpcServer
    address: str
    key: str  # of admin

    def channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self.address)

    async def user(self, name: str, role: Role = Role.USER) -> tuple[Principal, str]:
        """A user with an API key."""
        admin = await self.core.accounts.authenticate(self.key)
        await self.core.accounts.create_user(admin, name, "a long password", role)
        pair = await self.core.accounts.login(name, "a long password")
        principal = await self.core.accounts.authenticate(pair.access)
        _, key = await self.core.accounts.create_key(principal, "test")
        return principal, key


@contextlib.asynccontextmanager
async def central(
    tmp_path: Path,
    *flags: str,
    store: Store | None = None,
    bus: LocalBus | None = None,
    charged: bool = False,
    clock: Clock | None = None,
) -> AsyncIterator[Central]:
    """Central with its loops and its gRPC door. `clock` is that of the store and of the ledger."""
    config = settings.load(
        environ={}, flags=[*CHEAP, "scheduler.retry_backoff_ms=20", *flags], file=_nothing(tmp_path)
    ).config
    clock, bus = clock or SystemClock(), bus or LocalBus()
    async with contextlib.AsyncExitStack() as stack:
        if store is None:
            store = MemoryStore(clock, bus)
            stack.push_async_callback(store.aclose)
        ledger = await open_ledger(stack, config, store, clock, tmp_path, local=False) if charged else None
        blobs = FileBlobStore(tmp_path / "blobs", clock)
        core = await build_core(config, store, bus, clock, ledger=ledger, blobs=blobs)
        key = await core.accounts.bootstrap() or await core.accounts.issue_local_key()
        guard = Guard(core.accounts, config.rate_limit, max_streams=config.server.max_streams_per_principal)
        server = GrpcServer(
            servicers(core, blobs),
            Door(guard, lambda method, code, seconds: None),
            [("127.0.0.1:0", None)],
            max_message_bytes=config.server.max_request_bytes,
            max_connections=1000,
        )
        server.grace = 0.1
        pusher = LegacyPusher(bus, core.legacy, core.accounts, poll_seconds=core.poll_seconds, allow_private=True)
        for service in (*core.loops(), pusher, server):
            stack.push_async_callback(service.stop, 5.0)
            await service.start()
        yield Central(core, blobs, server, f"127.0.0.1:{server.ports[0]}", key)


def _nothing(tmp_path: Path) -> Path:
    """An empty settings file: the project's own must not act on tests."""
    path = tmp_path / "empty.toml"
    path.write_text("")
    return path


def servicers(core: Core, blobs: FileBlobStore) -> Servicers:
    return Servicers(
        jobs=JobServicer(
            core.jobs,
            core.watch,
            blobs,
            core.api.keeping,
            core.clock,
            keep=timedelta(hours=24),
            quotes=core.api.quotes,
        ),
        nodes=NodeServicer(core.store, core.clock, core.nodes, core.legacy, core.accounts),
        job_status=JobStatusServicer(core.legacy),
        discovery=DiscoveryServicer(core.clock, core.nodes),
        reservations=ReservationServicer(core.reservations, core.reservation_reports, core.legacy, core.clock),
        link=NodeLinkServicer(core.gateway, local_token=LOCAL_TOKEN),
        blobs=BlobServicer(blobs, core.jobs, core.api.keeping, max_bytes=core.config.server.max_upload_bytes),
        events=EventServicer(core.watch),
        api=core.api,
        relay=core.gateway.relay,
        wallet=WalletServicer(core.api),
    )


@dataclass
class Stubs:
    """The wire contract's stubs with one caller's credentials."""

    channel: grpc.aio.Channel
    token: str

    @property
    def metadata(self) -> Sequence[tuple[str, str]]:
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    @property
    def jobs(self) -> Any:
        return job_pb2_grpc.JobServiceStub(self.channel)

    @property
    def nodes(self) -> Any:
        return node_pb2_grpc.NodeServiceStub(self.channel)

    @property
    def status(self) -> Any:
        return node_pb2_grpc.JobStatusServiceStub(self.channel)

    @property
    def discovery(self) -> Any:
        return node_pb2_grpc.NodeDiscoveryServiceStub(self.channel)
