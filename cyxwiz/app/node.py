"""The node: sandbox, executor, journal, link, agent."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyxwiz.config import Config, Loaded, NodeSection
from cyxwiz.domain.account import Role
from cyxwiz.domain.errors import CyxError
from cyxwiz.domain.node import COMPUTE_SERVICE, GANG, P2P_SERVICE, REQUIREMENTS, Hardware
from cyxwiz.domain.schedule import parse_schedule
from cyxwiz.ports.blobs import BlobStore
from cyxwiz.ports.central_link import CentralLink
from cyxwiz.ports.clock import Clock
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.runtime.tasks import Tasks, spawn

if TYPE_CHECKING:
    from cyxwiz.compute.agent import Agent
    from cyxwiz.compute.agent_settings import AgentSettings
    from cyxwiz.compute.hardware.sampler import Sensors
    from cyxwiz.compute.kernels.pool import KernelPool
    from cyxwiz.compute.p2p.hub import Hub
    from cyxwiz.compute.sandbox.devices import Gpu
    from cyxwiz.compute.sandbox.sandbox import Sandbox


from cyxwiz.app.core import Core
from cyxwiz.app.parts import LOCAL_TOKEN, Running, bound, enter, lock

log = logging.getLogger(__name__)

UPLINK_SECONDS, UPLINK_BYTES = 0.5, 4 << 20  # what measuring the way to central may take
ANSWER_SECONDS = 10.0  # how long a start waits for central's first answer


async def start_node(
    stack: AsyncExitStack,
    loaded: Loaded,
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
    from cyxwiz.compute.hardware.energy import Shares
    from cyxwiz.compute.identity import load_identity
    from cyxwiz.compute.journal import SqliteJournal
    from cyxwiz.compute.kernels.pool import KernelLimits, KernelPool
    from cyxwiz.compute.sandbox.devices import lent_gpus
    from cyxwiz.compute.uplink import Uplink

    config = loaded.config
    clock = SystemClock()
    directory = data_dir / "node"
    lock(stack, directory, "node")
    identity = load_identity(directory)
    journal = SqliteJournal(directory / "journal.db")
    stack.push_async_callback(journal.aclose)
    detector = Detector(config.node.devices)

    def inspect() -> tuple[Hardware, tuple[Gpu, ...]]:
        inventory = detector.inspect()
        os.environ.update(inventory.environment())  # children inherit which GPU is cuda:0 for central
        return inventory.hardware, lent_gpus(inventory)

    hardware, gpus = await asyncio.to_thread(inspect)
    sandbox = await asyncio.to_thread(open_sandbox, config, directory, gpus, allow_unsafe=allow_unsafe)

    def detect() -> Hardware:
        found, sandbox.gpus = inspect()
        return found

    warm_devices = ("cpu", *(f"cuda:{index}" for index, gpu in enumerate(gpus) if gpu.files))
    sampler = Sampler(clock)
    executor = ProcessExecutor(
        clock,
        sandbox,
        warm_children=config.node.warm_children,
        warm_devices=warm_devices,
        energy=Shares(clock, sampler.sensors),
    )
    stack.push_async_callback(executor.aclose)
    link = _link(config, data_dir, core, blobs)
    stack.push_async_callback(link.aclose)
    settings = _agent_settings(config, directory, hardware, sandbox.mode)
    closed = _owners_limits(config, clock, sampler.sensors)
    kernels = KernelPool(clock, sandbox, KernelLimits(**config.node.operations.model_dump()))
    stack.push_async_callback(kernels.aclose)
    p2p, settings = await _door(stack, loaded, running, identity.node_id, settings, clock, kernels, core)
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
        p2p=p2p,
    )
    kernels.why_closed = lambda: agent.closed_reason
    await enter(stack, running, agent, config.server.stop_grace_seconds)
    if core is None and settings.gang_address:  # what is beside central has no way to it that could be measured
        await enter(stack, running, Uplink(agent, clock, partial(_uplink, config)), 1.0)
    await _first_answer(agent, running.stop)
    running.ready["node_id"] = identity.node_id


async def _first_answer(agent: Agent, stop: asyncio.Event) -> None:
    """Until central has taken the node in. A central that can't be reached or is silent keeps no node from its start.

    Raises:
        CyxError: central refuses the node.
    """
    tasks = Tasks()
    death = spawn(agent.died(), name="node's death", group=tasks)
    others = [spawn(each.wait(), name="first answer", group=tasks) for each in (agent.connected, agent.dialled, stop)]
    try:
        await asyncio.wait([death, *others], timeout=ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if death.done():
            raise death.result()
    finally:
        await tasks.aclose()


async def _door(
    stack: AsyncExitStack,
    loaded: Loaded,
    running: Running,
    node_id: str,
    settings: AgentSettings,
    clock: Clock,
    kernels: KernelPool,
    core: Core | None,
) -> tuple[Hub, AgentSettings]:
    """The node's own door, and the agent's settings with what there is to announce of it."""
    from cyxwiz.compute.p2p.hub import Hub
    from cyxwiz.compute.p2p.service import ExecutionService
    from cyxwiz.transports.grpc.compute import add_compute_service
    from cyxwiz.transports.grpc.execution import headers_of
    from cyxwiz.transports.grpc.node_server import NodeServer, addresses_of, advertised, node_pair

    node = loaded.config.node
    hub = Hub(node_id, clock, max_data_bytes=node.max_dataset_bytes)
    execution = hub.relayed.execution = ExecutionService(hub, clock, node_id)
    addresses = addresses_of(node, loaded.origins)
    pair = node_pair(loaded.config.tls, settings.directory, addresses, clock)

    async def caller(context: Any) -> str:
        """By a token that central gave out for a job on this node; beside central, by what central itself takes."""
        headers = headers_of(context)
        try:
            return hub.sessions.caller(headers)
        except CyxError:
            if core is None:
                raise
        principal = await core.accounts.authenticate(headers.authorization.partition(" ")[2].strip() or None)
        principal.require(Role.USER, Role.OPERATOR)
        return principal.id

    compute = partial(add_compute_service, kernels=kernels, authorize=caller)
    server = NodeServer(execution, addresses, pair, [compute])
    await enter(stack, running, server)
    host, port = advertised(node, server.ports["node.address"])
    for address in addresses:
        if address.key in server.ports:  # not one that gave way to another program
            name = address.key.replace(".", "_").removesuffix("_address")
            running.ready[name] = bound(address.text, server.ports[address.key])
    announced = {"advertise_host": host, "advertise_port": port, "services": (P2P_SERVICE, COMPUTE_SERVICE)}
    return hub, replace(settings, **announced, certificate_fingerprint=pair.fingerprint if pair else "")


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


def open_sandbox(config: Config, directory: Path, gpus: tuple[Gpu, ...], *, allow_unsafe: bool = False) -> Sandbox:
    """The sandbox that the settings ask for, seen to work. Starts children. Raises ConfigError."""
    from cyxwiz.compute.sandbox.choose import choose
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
        gpus=gpus,
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


async def _uplink(config: Config) -> float | None:
    """Bytes a second to central; None if it does not answer."""
    from cyxwiz.transports.grpc.probe import UnreachableError, probe
    from cyxwiz.transports.grpc.server import channel_credentials

    credentials = channel_credentials(config.tls) if config.node.tls else None
    try:
        found = await probe(config.node.central, credentials, 0, UPLINK_SECONDS, most_bytes=UPLINK_BYTES)
    except UnreachableError as error:
        log.info("how fast central is reached is not known: %s", error)
        return None
    return found.upload_mb_per_second * 1e6


def _agent_settings(config: Config, directory: Path, hardware: Hardware, sandboxed: str) -> Any:
    from cyxwiz.compute.agent_settings import AgentSettings
    from cyxwiz.compute.features import features_of
    from cyxwiz.compute.gang_network import gang_network
    from cyxwiz.compute.packages import PackageSettings
    from cyxwiz.services.pricing import pricing_by

    node = config.node
    network = gang_network(node)
    features = features_of(node, sandboxed)
    return AgentSettings(
        name=node.name or socket.gethostname(),
        region=node.region,
        wallet_address=node.wallet_address or "",
        max_concurrent_jobs=node.max_concurrent_jobs or max(1, hardware.cpu_cores // 2),
        join_token=node.join_token or "",
        heartbeat_seconds=node.heartbeat_interval_ms / 1000,
        directory=directory,
        keep_results_seconds=node.keep_results_seconds,
        data_roots=tuple(Path(root).resolve() for root in node.data_roots),
        detect_seconds=node.detect_interval_seconds,
        features=(*features, f"{GANG}{network}") if network else features,
        gang_address=node.gang_address if network else "",
        fetch=fetch_settings(node),
        pricing=pricing_by(node.pricing, hardware),
        packages=PackageSettings(node.package_index, node.package_cache_bytes) if REQUIREMENTS in features else None,
    )


def fetch_settings(node: NodeSection) -> Any:
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
