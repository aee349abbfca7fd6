"""Central's gRPC server: every service that is built, reflection and health."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_NAME
from grpc_health.v1.health import aio as health  # pyright: ignore[reportAttributeAccessIssue]
from grpc_reflection.v1alpha import reflection

from cyxwiz.config import Tls
from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.ext.v1 import blobs_pb2, blobs_pb2_grpc, client_pb2, events_pb2, events_pb2_grpc, link_pb2, link_pb2_grpc
from cyxwiz.ports.execution import Execution
from cyxwiz.protocol import (
    job_pb2,
    job_pb2_grpc,
    node_pb2,
    node_pb2_grpc,
    reservation_pb2,
    reservation_pb2_grpc,
    wallet_pb2,
    wallet_pb2_grpc,
)
from cyxwiz.runtime.lifecycle import Service
from cyxwiz.services.api import Api
from cyxwiz.transports.grpc import client_api, execution
from cyxwiz.transports.grpc.blobs import BlobServicer
from cyxwiz.transports.grpc.door import Door, pending_options
from cyxwiz.transports.grpc.events import EventServicer
from cyxwiz.transports.grpc.jobs import JobServicer
from cyxwiz.transports.grpc.link import NodeLinkServicer
from cyxwiz.transports.grpc.nodes import DiscoveryServicer, JobStatusServicer, NodeServicer
from cyxwiz.transports.grpc.reservations import ReservationServicer
from cyxwiz.transports.grpc.wallet import WalletServicer


@dataclass(frozen=True, slots=True)
class Servicers:
    jobs: JobServicer
    nodes: NodeServicer
    job_status: JobStatusServicer
    discovery: DiscoveryServicer
    reservations: ReservationServicer
    link: NodeLinkServicer
    blobs: BlobServicer
    events: EventServicer
    api: Api
    relay: Execution
    wallet: WalletServicer

    def register(self, server: grpc.aio.Server) -> list[str]:
        """Adds every service; returns their full names."""
        job_pb2_grpc.add_JobServiceServicer_to_server(self.jobs, server)
        node_pb2_grpc.add_NodeServiceServicer_to_server(self.nodes, server)
        node_pb2_grpc.add_JobStatusServiceServicer_to_server(self.job_status, server)
        node_pb2_grpc.add_NodeDiscoveryServiceServicer_to_server(self.discovery, server)
        reservation_pb2_grpc.add_JobReservationServiceServicer_to_server(self.reservations, server)
        wallet_pb2_grpc.add_WalletServiceServicer_to_server(self.wallet, server)
        link_pb2_grpc.add_NodeLinkServicer_to_server(self.link, server)
        blobs_pb2_grpc.add_BlobServiceServicer_to_server(self.blobs, server)
        events_pb2_grpc.add_EventServiceServicer_to_server(self.events, server)
        server.add_generic_rpc_handlers((client_api.handlers(self.api), execution.handlers(self.relay)))
        return [
            job_pb2.DESCRIPTOR.services_by_name["JobService"].full_name,
            node_pb2.DESCRIPTOR.services_by_name["NodeService"].full_name,
            node_pb2.DESCRIPTOR.services_by_name["JobStatusService"].full_name,
            node_pb2.DESCRIPTOR.services_by_name["NodeDiscoveryService"].full_name,
            reservation_pb2.DESCRIPTOR.services_by_name["JobReservationService"].full_name,
            wallet_pb2.DESCRIPTOR.services_by_name["WalletService"].full_name,
            link_pb2.DESCRIPTOR.services_by_name["NodeLink"].full_name,
            blobs_pb2.DESCRIPTOR.services_by_name["BlobService"].full_name,
            events_pb2.DESCRIPTOR.services_by_name["EventService"].full_name,
            client_pb2.DESCRIPTOR.services_by_name["ClientService"].full_name,
            execution.SERVICE.full_name,
        ]


def server_credentials(tls: Tls, *, client_certs: bool) -> grpc.ServerCredentials | None:
    """Credentials from the settings, with or without a demand for client certificates; None for plaintext."""
    if tls.cert_file is None:
        return None
    if tls.key_file is None:
        raise invalid("tls.key_file: must be set with tls.cert_file")
    ca = _read(tls.ca_file, "tls.ca_file") if tls.ca_file else None
    if client_certs and ca is None:
        raise invalid("tls.ca_file: must be set with tls.require_client_cert")
    pair = (_read(tls.key_file, "tls.key_file"), _read(tls.cert_file, "tls.cert_file"))
    return grpc.ssl_server_credentials([pair], ca, client_certs)


def channel_credentials(tls: Tls) -> grpc.ChannelCredentials:
    """For dialling out: the system's authorities or the one of the settings, and the certificate where one is set."""
    ca = _read(tls.ca_file, "tls.ca_file") if tls.ca_file else None
    if tls.cert_file and tls.key_file:
        return grpc.ssl_channel_credentials(
            ca, _read(tls.key_file, "tls.key_file"), _read(tls.cert_file, "tls.cert_file")
        )
    return grpc.ssl_channel_credentials(ca)


def _read(path: Path, key: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise invalid(f"{key}: {path}: {error.strerror}") from None


class GrpcServer(Service):
    """Listens on all its addresses, or fails to start; `ports` has what was bound, in order."""

    def __init__(
        self,
        servicers: Servicers,
        door: Door,
        addresses: Sequence[tuple[str, grpc.ServerCredentials | None]],
        *,
        max_message_bytes: int,
        max_connections: int,
    ) -> None:
        super().__init__()
        self._addresses = addresses
        self._servicers = servicers
        options: list[tuple[str, Any]] = [
            ("grpc.so_reuseport", 0),  # otherwise a second process shares the port without a word
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", 16384),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
            *pending_options(max_connections),
        ]
        self._server = grpc.aio.server(interceptors=(door,), options=options, maximum_concurrent_rpcs=max_connections)
        self._health = health.HealthServicer()
        self._names = servicers.register(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*self._names, HEALTH_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self.ports: list[int] = []

    async def run(self) -> None:
        for address, credentials in self._addresses:
            self.ports.append(self._bind(address, credentials))
        await self._server.start()
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self.ready()
        await self.stopping.wait()
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self.grace)

    grace = 2.0  # for calls in flight; streams that last are cut then, and their readers come back

    def _bind(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, credentials)
        except RuntimeError:
            port = 0
        if not port:
            raise CyxError(Code.UNAVAILABLE, f"Can't listen on {address}: is it in use? Set server.grpc_address")
        return port
