"""The node's own door: `JobExecutionService`, `ComputeService`, health and reflection, on every address of the node.

Beyond loopback it speaks TLS, with the certificate of the settings or one that the node makes itself. A client pins it
by the fingerprint that central hands out.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_NAME
from grpc_health.v1.health import aio as health  # pyright: ignore[reportAttributeAccessIssue]
from grpc_reflection.v1alpha import reflection

from cyxwiz.config import NodeSection, Tls
from cyxwiz.domain.addresses import is_loopback
from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.execution import Execution
from cyxwiz.runtime.files import write_private
from cyxwiz.runtime.lifecycle import Service
from cyxwiz.transports.grpc.door import Door, pending_options
from cyxwiz.transports.grpc.execution import MAX_MESSAGE, SERVICE, handlers

log = logging.getLogger(__name__)

CERTIFICATE, KEY = "door.crt", "door.key"
NAME = "cyxwiz-node"  # in a certificate that a node makes: it is known by its fingerprint, not by this
LIFE = timedelta(days=3650)
STREAMS_OF_PEER = 256
MAX_CALLS = 1000


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. One that nobody stated gives way when it is in use: to any port if it is `spare`, or to none."""

    key: str
    text: str
    stated: bool
    spare: bool = False

    @property
    def host(self) -> str:
        return self.text.rpartition(":")[0]


def addresses_of(node: NodeSection, origins: Mapping[str, str]) -> list[Address]:
    """The node's addresses, each once; the first is the one that clients are told. All have the same services."""
    names = ("address", "terminal_address", "service_address", "deployment_address")
    found: dict[str, Address] = {}
    for name in names:
        key, text = f"node.{name}", str(getattr(node, name))
        stated = origins.get(key, "default") != "default"
        each = text if not text.endswith(":0") else f"{text} {name}"  # port 0 is another one each time
        found.setdefault(each, Address(key, text, stated, spare=name == "address"))
    return list(found.values())


def advertised(node: NodeSection, port: int) -> tuple[str, int]:
    """(host, port) that clients are to call: as the settings say, else as bound. Without a host central knows it."""
    host, _, stated = (node.advertise_address or "").rpartition(":")
    if host:
        return host.strip("[]"), int(stated) or port
    host = node.address.rpartition(":")[0].strip("[]")
    return "" if host in ("0.0.0.0", "::") else host, port  # noqa: S104  it is left out


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate (PEM, the leaf first) and its key."""

    certificate: bytes
    key: bytes

    @property
    def fingerprint(self) -> str:
        """`sha256:` and the hex digest of the certificate's DER."""
        leaf = x509.load_pem_x509_certificate(self.certificate)
        return f"sha256:{leaf.fingerprint(hashes.SHA256()).hex()}"


def node_pair(tls: Tls, directory: Path, addresses: Sequence[Address], clock: Clock) -> Pair | None:
    """What the door shows: the settings' certificate; beyond loopback without one, the node's own; else None.

    Raises:
        CyxError: INVALID for files that can't be read, or a certificate without its key.
    """
    if tls.cert_file is not None:
        if tls.key_file is None:
            raise invalid("tls.key_file: must be set with tls.cert_file")
        return _read(tls.cert_file, tls.key_file)
    if all(is_loopback(address.host) for address in addresses):
        return None
    certificate, key = directory / CERTIFICATE, directory / KEY
    if not (certificate.exists() and key.exists()):
        _make(certificate, key, clock)
    return _read(certificate, key)


def _read(certificate: Path, key: Path) -> Pair:
    try:
        pair = Pair(certificate.read_bytes(), key.read_bytes())
        x509.load_pem_x509_certificate(pair.certificate)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds no certificate"
        raise invalid(f"tls.cert_file: {certificate}: {why}") from None
    return pair


def _make(certificate: Path, key: Path, clock: Clock) -> None:
    """A key and a certificate signed by itself, both for the node's owner alone."""
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = clock.now()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + LIFE)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(secret, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    text = secret.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    write_private(key, text)
    write_private(certificate, made.public_bytes(serialization.Encoding.PEM))


class _NodeGuard:
    """The node knows no users: tokens are checked by the service itself. It counts the streams of each peer."""

    def __init__(self) -> None:
        self._streams: Counter[str] = Counter()

    async def admit(self, authorization: str | None, peer: str, *, public: bool = False) -> None:
        return None

    @contextmanager
    def stream(self, key: str) -> Generator[None]:
        if self._streams[key] >= STREAMS_OF_PEER:
            raise CyxError(Code.EXHAUSTED, f"{STREAMS_OF_PEER} streams are open from your address; close some first")
        self._streams[key] += 1
        try:
            yield
        finally:
            self._streams[key] -= 1
            if not self._streams[key]:
                del self._streams[key]


class NodeServer(Service):
    """Listens on the addresses, the first of which it must have; `ports` has what was bound, by the key."""

    def __init__(
        self,
        execution: Execution,
        addresses: Sequence[Address],
        pair: Pair | None,
        register: Sequence[Callable[[grpc.aio.Server], str]] = (),
    ) -> None:
        """Each of `register` adds a service more and returns its full name."""
        super().__init__()
        self._addresses = addresses
        self._pair = pair
        options: list[tuple[str, Any]] = [
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", 16384),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
            *pending_options(MAX_CALLS),
        ]
        guard: Any = _NodeGuard()
        door = Door(guard, lambda method, code, seconds: log.debug("%s %s in %.3f s", method, code, seconds))
        self._server = grpc.aio.server(interceptors=(door,), options=options, maximum_concurrent_rpcs=MAX_CALLS)
        self._server.add_generic_rpc_handlers((handlers(execution),))
        self._names = (SERVICE.full_name, *(add(self._server) for add in register))
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((*self._names, HEALTH_NAME, reflection.SERVICE_NAME), self._server)
        self.ports: dict[str, int] = {}

    grace = 1.0

    async def run(self) -> None:
        for address in self._addresses:
            port = self._bind(address)
            if port:
                self.ports[address.key] = port
        await self._server.start()
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self.ready()
        await self.stopping.wait()
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self.grace)

    def _bind(self, address: Address) -> int:
        port = self._try(address.text)
        if port:
            return port
        if address.stated:
            raise CyxError(Code.UNAVAILABLE, f"Can't listen on {address.text}: is it in use? Set {address.key}")
        if not address.spare:
            log.warning("%s %s is in use, and nothing listens there for this node", address.key, address.text)
            return 0
        port = self._try(f"{address.host}:0")
        if not port:
            raise CyxError(Code.UNAVAILABLE, f"Can't listen on {address.host}. Set {address.key}")
        log.warning("%s %s is in use: this node listens on port %d instead", address.key, address.text, port)
        return port

    def _try(self, address: str) -> int:
        try:
            if self._pair is None:
                return self._server.add_insecure_port(address)
            credentials = grpc.ssl_server_credentials([(self._pair.key, self._pair.certificate)])
            return self._server.add_secure_port(address, credentials)
        except RuntimeError:
            return 0
