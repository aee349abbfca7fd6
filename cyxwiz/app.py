"""The composition root: the one file that names concrete classes and knows roles.

Start: store, services, loops, doors, then the node. Stop, in reverse: the node finishes or gives up its runs, doors
take nothing new, loops end, the store closes. A loop that dies on its own ends the process with a status that is not 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import secrets as random
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyxwiz.bus.local import LocalBus
from cyxwiz.config import Config, ConfigError, Loaded, NodeSection
from cyxwiz.domain.errors import Code, CyxError, conflict
from cyxwiz.domain.node import REQUIREMENTS, Hardware
from cyxwiz.domain.payment import Tariff
from cyxwiz.domain.schedule import parse_schedule
from cyxwiz.ports.blobs import BlobStore
from cyxwiz.ports.bus import Bus
from cyxwiz.ports.central_link import CentralLink
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.store import Store
from cyxwiz.runtime import log as logs
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.runtime.lifecycle import Service, first_death
from cyxwiz.scheduler.loops.housekeeper import BlobCollector, Housekeeper
from cyxwiz.scheduler.loops.placer import Placer
from cyxwiz.scheduler.loops.reaper import LeaseReaper
from cyxwiz.scheduler.rank import Weights
from cyxwiz.services.accounts import Accounts
from cyxwiz.services.api import Api
from cyxwiz.services.gateway import NodeGateway
from cyxwiz.services.jobs import Jobs
from cyxwiz.services.leases import RetryPolicy
from cyxwiz.services.legacy import LegacyNodes
from cyxwiz.services.liveness import Liveness
from cyxwiz.services.nodes import Nodes
from cyxwiz.services.reports import Reporting
from cyxwiz.services.secrets import Secrets, load_secrets
from cyxwiz.services.watch import Watch

if TYPE_CHECKING:
    from cyxwiz.compute.hardware.sampler import Sensors
    from cyxwiz.compute.sandbox.sandbox import Sandbox

log = logging.getLogger(__name__)

ROLES = ("central", "node", "both")
LOCAL_TOKEN = "join.token"  # noqa: S105  the name of a file


@dataclass(frozen=True)
class Core:
    """Central without doors and loops: the services over one store."""

    config: Config
    store: Store
    bus: Bus
    clock: Clock
    secrets: Secrets
    accounts: Accounts
    liveness: Liveness
    nodes: Nodes
    jobs: Jobs
    watch: Watch
    gateway: NodeGateway
    legacy: LegacyNodes
    api: Api
    weights: Weights

    @property
    def poll_seconds(self) -> float:
        return self.config.scheduler.job_poll_interval_ms / 1000

    def loops(self) -> list[Service]:
        keep = timedelta(hours=self.config.database.event_retention_hours)
        return [
            Placer(self.store, self.bus, self.jobs, self.weights, poll_seconds=self.poll_seconds),
            LeaseReaper(self.store, self.clock, self.nodes),
            Housekeeper(self.store, keep_events=keep),
        ]


async def build_core(
    config: Config, store: Store, bus: Bus, clock: Clock, *, nonce: Callable[[], bytes] | None = None
) -> Core:
    """The services, wired. `nonce` replaces the gateway's randomness, for simulation."""
    secrets = await load_secrets(store, config.auth)
    section = config.scheduler
    accounts = Accounts(store, clock, config.auth, secrets)
    policy = RetryPolicy.of(section)
    pricing = config.pricing
    tariff = Tariff(pricing.base_rate, pricing.gpu_multiplier, pricing.ram_factor_per_gb)
    weights = Weights(
        section.weight_reputation,
        section.weight_availability,
        section.weight_capability,
        section.weight_uptime,
        section.weight_region,
        section.weight_data,
    )
    poll = section.job_poll_interval_ms / 1000
    liveness = Liveness(clock, section.node_heartbeat_timeout_ms / 1000)
    nodes = Nodes(store, liveness, policy, open_mode=accounts.open)
    jobs = Jobs(store, clock, accounts, liveness, tariff, weights, max_pending_per_user=section.max_pending_per_user)
    reporting = Reporting(policy, tariff)
    watch = Watch(store, bus, accounts, poll_seconds=poll)
    gateway = NodeGateway(
        store,
        bus,
        clock,
        nodes,
        accounts,
        secrets,
        reporting,
        poll_seconds=poll,
        nonce=nonce or (lambda: os.urandom(32)),
    )
    legacy = LegacyNodes(store, nodes, reporting, open_mode=accounts.open)
    api = Api(store, clock, jobs, nodes, accounts, watch)
    return Core(
        config, store, bus, clock, secrets, accounts, liveness, nodes, jobs, watch, gateway, legacy, api, weights
    )


@dataclass
class Running:
    """What a process runs, for the ready line and for stopping."""

    services: list[Service]
    ready: dict[str, Any]
    stop: asyncio.Event  # set once the process was told to stop


async def run(
    loaded: Loaded,
    role: str,
    data_dir: Path,
    *,
    ready_file: Path | None = None,
    on_ready: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
    allow_unsafe: bool = False,
) -> int:
    """Runs one role until SIGTERM or SIGINT; returns the exit status.

    Raises:
        ConfigError, CyxError: it can't start, with what to do about it.
    """
    config = loaded.config
    data_dir = data_dir.resolve()  # children of the node run elsewhere
    logs.configure(config.logging.level, config.logging.format)
    for warning in loaded.warnings:
        log.warning("%s", warning)
    check_exposure(config, role)
    if config.redis.url:
        log.warning("redis.url is set, and Redis is not used yet: centrals learn of each other by polling")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop)
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    data_dir.chmod(0o700)
    async with AsyncExitStack() as stack:
        running = Running([], {"pid": os.getpid(), "role": role}, stop)
        core = blobs = None
        if role in ("central", "both"):
            core, blobs = await _central(stack, config, data_dir, running)
        if role in ("node", "both"):
            await _node(stack, config, data_dir, running, core, blobs, allow_unsafe=allow_unsafe)
        _announce(running.ready, ready_file)
        if on_ready is not None:
            await on_ready(running.ready)
        status = await _until_stopped(stop, running.services)
        stop.set()
        if core is not None:
            await _take_nothing_new(core, running.services)
        return status


async def _take_nothing_new(core: Core, services: Sequence[Service]) -> None:
    """Before the node drains: what it gives back must not be offered to it again."""
    core.jobs.close()
    for service in services:
        if isinstance(service, Placer):
            await service.stop()


def _on_signal(stop: asyncio.Event) -> None:
    if stop.is_set():
        os._exit(130)  # asked twice: now
    stop.set()


async def _until_stopped(stop: asyncio.Event, services: Sequence[Service]) -> int:
    async with asyncio.TaskGroup() as group:
        stopped = group.create_task(stop.wait(), name="signal")
        death = group.create_task(first_death(*services), name="deaths")
        await asyncio.wait({stopped, death}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not death.done():
            death.cancel()
            log.info("stopping")
            return 0
    error = death.result()
    if isinstance(error, CyxError):
        raise error
    log.critical("a part of the program died: stopping", exc_info=error)
    return 1


def _announce(ready: dict[str, Any], ready_file: Path | None) -> None:
    """The file first: whoever waits for the line may read it."""
    if ready_file is not None:
        _write_private(ready_file, json.dumps(ready))
    for name in ("grpc", "rest", "node_grpc"):
        if name in ready:
            print(f"{name} {ready[name]}", flush=True)  # noqa: T201  the contract of `run`
    if "node_id" in ready:
        print(f"node {ready['node_id']}", flush=True)  # noqa: T201
    print("ready", flush=True)  # noqa: T201


def _write_private(path: Path, text: str) -> None:
    """Writes a file whole or not at all, for its owner alone."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _lock(stack: AsyncExitStack, directory: Path, what: str) -> None:
    """Holds the kernel's lock on a directory as long as the process lives."""
    directory.mkdir(mode=0o700, exist_ok=True)
    file = stack.enter_context((directory / "lock").open("w"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise conflict(
            f"Another {what} runs on {directory}: stop it, or give this one a --data-dir of its own"
        ) from None


def check_exposure(config: Config, role: str) -> None:
    """Refuses doors beyond loopback without TLS, and open mode there. Raises ConfigError."""
    addresses = {"server.grpc_address": config.server.grpc_address, "server.rest_address": config.server.rest_address}
    if config.server.node_grpc_address:
        addresses["server.node_grpc_address"] = config.server.node_grpc_address
    if role == "node":
        return
    from cyxwiz.transports.auth import is_loopback

    for key, address in addresses.items():
        if is_loopback(address.rpartition(":")[0]):
            continue
        if config.auth.mode == "open":
            raise ConfigError(f'{key} = {address!r}: auth.mode = "open" is for loopback addresses only')
        if config.tls.cert_file is None and not config.tls.allow_plaintext:
            raise ConfigError(
                f"{key} = {address!r}: beyond loopback it must speak TLS: set tls.cert_file and tls.key_file "
                "(`cyxwiz certs init` makes them), or tls.allow_plaintext = true behind a proxy of your own"
            )


# central


async def _central(stack: AsyncExitStack, config: Config, data_dir: Path, running: Running) -> tuple[Core, BlobStore]:
    from cyxwiz.store.blobs import FileBlobStore
    from cyxwiz.store.engine import open_store

    clock = SystemClock()
    bus = LocalBus()
    stack.push_async_callback(bus.aclose)
    _lock(stack, data_dir / "central", "central")
    store = await open_store(config.database, data_dir, clock=clock, bus=bus)
    stack.push_async_callback(store.aclose)
    core = await build_core(config, store, bus, clock)
    blobs = FileBlobStore(_blob_root(config, data_dir), clock)
    local_token = random.token_urlsafe(32)
    _write_private(data_dir / "central" / LOCAL_TOKEN, local_token)
    key = await _admin_key(core, data_dir)
    for service in (*core.loops(), BlobCollector(store, blobs)):
        await _enter(stack, running, service)
    await _doors(stack, core, blobs, data_dir / "central" / "spool", local_token, running)
    client = {"grpc": _from_here(running.ready["grpc"]), "rest": _from_here(running.ready["rest"]), "key": key}
    if config.tls.cert_file:
        client["grpc"] = f"grpcs://{client['grpc']}"
        client["ca_file"] = str((config.tls.ca_file or config.tls.cert_file).resolve())
        if (
            config.tls.require_client_cert and config.tls.key_file
        ):  # what central itself shows will do for its own machine
            client["cert_file"] = str(config.tls.cert_file.resolve())
            client["key_file"] = str(config.tls.key_file.resolve())
    _write_private(data_dir / "client.json", json.dumps(client))
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


async def _enter(stack: AsyncExitStack, running: Running, service: Service, grace: float = 5.0) -> None:
    stack.push_async_callback(service.stop, grace)
    await service.start()
    running.services.append(service)


async def _doors(
    stack: AsyncExitStack, core: Core, blobs: BlobStore, spool: Path, local_token: str, running: Running
) -> None:
    from prometheus_client import CollectorRegistry, Histogram

    from cyxwiz.transports.auth import Guard, is_loopback
    from cyxwiz.transports.grpc.blobs import BlobServicer
    from cyxwiz.transports.grpc.door import Door
    from cyxwiz.transports.grpc.events import EventServicer
    from cyxwiz.transports.grpc.jobs import JobServicer
    from cyxwiz.transports.grpc.legacy_push import LegacyPusher
    from cyxwiz.transports.grpc.link import NodeLinkServicer
    from cyxwiz.transports.grpc.nodes import DiscoveryServicer, JobStatusServicer, NodeServicer
    from cyxwiz.transports.grpc.server import GrpcServer, Servicers, server_credentials
    from cyxwiz.transports.rest.app import build as build_rest
    from cyxwiz.transports.rest.server import RestServer
    from cyxwiz.transports.ws.events import router as ws_router

    config, server = core.config, core.config.server
    registry = CollectorRegistry()
    seconds = Histogram("cyxwiz_grpc_seconds", "gRPC calls", ["method", "code"], registry=registry)
    guard = Guard(core.accounts, config.rate_limit, max_streams=server.max_streams_per_principal)
    on_loopback = is_loopback(server.grpc_address.rpartition(":")[0])
    private = config.scheduler.push_private if config.scheduler.push_private is not None else on_loopback
    await _enter(
        stack,
        running,
        LegacyPusher(core.bus, core.legacy, core.accounts, poll_seconds=core.poll_seconds, allow_private=private),
    )
    servicers = Servicers(
        jobs=JobServicer(
            core.jobs,
            core.watch,
            blobs,
            core.clock,
            keep=timedelta(seconds=config.node.keep_results_seconds),
        ),
        nodes=NodeServicer(core.store, core.clock, core.nodes, core.legacy, core.accounts),
        job_status=JobStatusServicer(core.legacy),
        discovery=DiscoveryServicer(core.clock, core.nodes),
        link=NodeLinkServicer(core.gateway, local_token=local_token),
        blobs=BlobServicer(blobs, core.jobs, max_bytes=server.max_upload_bytes),
        events=EventServicer(core.watch),
        api=core.api,
    )
    # Client certificates are all or nothing on an address: with one for nodes, only that one demands them.
    demand, nodes_alone = config.tls.require_client_cert, server.node_grpc_address is not None
    addresses = [(server.grpc_address, server_credentials(config.tls, client_certs=demand and not nodes_alone))]
    if server.node_grpc_address is not None:
        addresses.append((server.node_grpc_address, server_credentials(config.tls, client_certs=demand)))
    grpc_server = GrpcServer(
        servicers,
        Door(guard, lambda method, code, took: seconds.labels(method, code).observe(took)),
        addresses,
        max_message_bytes=server.max_request_bytes,
        max_connections=server.max_connections,
    )
    await _enter(stack, running, grpc_server, server.stop_grace_seconds)
    running.ready["grpc"] = _bound(server.grpc_address, grpc_server.ports[0])
    if server.node_grpc_address:
        running.ready["node_grpc"] = _bound(server.node_grpc_address, grpc_server.ports[1])
    app = build_rest(
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
        require_client_cert=demand and not nodes_alone,
        max_connections=server.max_connections,
    )
    await _enter(stack, running, rest, server.stop_grace_seconds)
    scheme = "https" if config.tls.cert_file else "http"
    running.ready["rest"] = f"{scheme}://{_bound(server.rest_address, rest.port)}"


def _bound(address: str, port: int) -> str:
    return f"{address.rpartition(':')[0]}:{port}"


# node


async def _node(
    stack: AsyncExitStack,
    config: Config,
    data_dir: Path,
    running: Running,
    core: Core | None,
    blobs: BlobStore | None,
    *,
    allow_unsafe: bool,
) -> None:
    from cyxwiz.compute.agent import Agent
    from cyxwiz.compute.executor import ProcessExecutor
    from cyxwiz.compute.hardware import Detector, Sampler
    from cyxwiz.compute.identity import load_identity
    from cyxwiz.compute.journal import SqliteJournal

    clock = SystemClock()
    directory = data_dir / "node"
    _lock(stack, directory, "node")
    identity = load_identity(directory)
    journal = SqliteJournal(directory / "journal.db")
    stack.push_async_callback(journal.aclose)
    detector = Detector(config.node.devices)

    def detect() -> Hardware:
        inventory = detector.inspect()
        os.environ.update(inventory.environment())  # children inherit which GPU is cuda:0 for central
        return inventory.hardware

    hardware = await asyncio.to_thread(detect)
    sandbox = await asyncio.to_thread(open_sandbox, config, directory, allow_unsafe=allow_unsafe)
    warm_devices = ("cpu", *(f"cuda:{index}" for index in range(len(sandbox.gpus))))
    executor = ProcessExecutor(clock, sandbox, warm_children=config.node.warm_children, warm_devices=warm_devices)
    stack.push_async_callback(executor.aclose)
    link = _link(config, data_dir, core, blobs)
    stack.push_async_callback(link.aclose)
    settings = _agent_settings(config, directory, hardware.cpu_cores, sandbox.mode)
    sampler = Sampler(clock)
    closed = _owners_limits(config, clock, sampler.sensors)
    agent = Agent(
        link,
        executor,
        journal,
        clock,
        identity,
        settings,
        hardware,
        sampler.sample,
        detect=detect,
        closed=closed,
    )
    await _enter(stack, running, agent, config.server.stop_grace_seconds)
    running.ready["node_id"] = identity.node_id


def _owners_limits(config: Config, clock: Clock, sensors: Sensors) -> Callable[[], str] | None:
    """What says why the node must not work now; None where its owner sets no limit."""
    from cyxwiz.compute.limits import Limits, Watchman

    limits = Limits(parse_schedule(config.node.schedule), config.node.max_temperature_c)
    if not limits.any:
        return None
    watchman = Watchman(limits, clock, sensors)
    if limits.max_temperature_c is not None and not watchman.senses_heat:
        log.warning("node.max_temperature_c is set and no temperature can be read here: that limit does not act")
    return watchman.look


def open_sandbox(config: Config, directory: Path, *, allow_unsafe: bool = False) -> Sandbox:
    """The sandbox that the settings ask for, seen to work. Starts children. Raises ConfigError."""
    from cyxwiz.compute.sandbox.choose import choose
    from cyxwiz.compute.sandbox.devices import lent_gpus
    from cyxwiz.compute.sandbox.sandbox import Bounds

    node = config.node
    bounds = Bounds(
        processes=node.max_job_processes,
        disk_bytes=node.max_job_disk_bytes,
        tmp_bytes=node.max_job_tmp_bytes,
        memory_bytes=node.max_job_memory_bytes,
    )
    return choose(
        node.sandbox,
        directory / "sandbox",
        allow_unsafe=allow_unsafe,
        data_roots=tuple(Path(root) for root in node.data_roots),
        bounds=bounds,
        gpus=lent_gpus(node.devices),
        allow_network=node.network == "on",
    )


def _link(config: Config, data_dir: Path, core: Core | None, blobs: BlobStore | None) -> CentralLink:
    if core is not None and blobs is not None:
        from cyxwiz.transports.local import LocalLink

        return LocalLink(core.gateway, blobs, core.jobs, core.accounts)
    from cyxwiz.transports.grpc.link import GrpcLink
    from cyxwiz.transports.grpc.server import channel_credentials

    token_file = data_dir / "central" / LOCAL_TOKEN
    local = token_file.read_text() if token_file.exists() else ""
    credentials = channel_credentials(config.tls) if config.node.tls else None
    return GrpcLink(config.node.central, credentials, local_token=local)


def _agent_settings(config: Config, directory: Path, cores: int, sandboxed: str) -> Any:
    from cyxwiz.compute.agent import AgentSettings
    from cyxwiz.compute.features import features_of
    from cyxwiz.compute.packages import PackageSettings

    node = config.node
    features = features_of(node, sandboxed)
    host, _, port = (node.advertise_address or "").rpartition(":")
    return AgentSettings(
        name=node.name or socket.gethostname(),
        region=node.region,
        max_concurrent_jobs=node.max_concurrent_jobs or max(1, cores // 2),
        join_token=node.join_token or "",
        heartbeat_seconds=node.heartbeat_interval_ms / 1000 if node.heartbeat_interval_ms else None,
        directory=directory,
        keep_results_seconds=node.keep_results_seconds,
        data_roots=tuple(Path(root).resolve() for root in node.data_roots),
        advertise_host=host,
        advertise_port=int(port or 0),
        detect_seconds=node.detect_interval_seconds,
        features=features,
        fetch=_fetch_settings(node),
        packages=PackageSettings(node.package_index, node.package_cache_bytes) if REQUIREMENTS in features else None,
    )


def _fetch_settings(node: NodeSection) -> Any:
    from cyxwiz.compute.data.settings import FetchSettings

    return FetchSettings(
        cache_bytes=node.data_cache_bytes,
        max_dataset_bytes=node.max_dataset_bytes,
        allow_private_hosts=node.allow_private_data_hosts,
        allow_http=node.allow_http_data,
        s3_endpoint=node.s3_endpoint or "",
        s3_region=node.s3_region,
        s3_access_key=node.s3_access_key or "",
        s3_secret_key=node.s3_secret_key or "",
        s3_buckets=node.s3_buckets,
        hf_endpoint=node.hf_endpoint or "",
        hf_root=node.hf_root,
        ipfs_gateway=node.ipfs_gateway or "",
    )


def main(
    loaded: Loaded, role: str, data_dir: Path, ready_file: Path | None = None, *, allow_unsafe: bool = False
) -> int:
    """Runs a role on the fastest loop there is. Errors that keep it from starting are one line on standard error."""
    try:
        import uvloop
    except ImportError:
        runner = asyncio.run
    else:
        runner = uvloop.run  # type: ignore[assignment]
    try:
        return runner(run(loaded, role, data_dir, ready_file=ready_file, allow_unsafe=allow_unsafe))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except CyxError as error:
        from cyxwiz.wire import CODES

        print(f"error: {error.message}", file=sys.stderr)  # noqa: T201
        return 1 if error.code is Code.CONFLICT else CODES[error.code].exit
