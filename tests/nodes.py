"""Nodes for integration tests: the real agent over either link, with a scripted executor unless told otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from cyxwiz.compute.agent import Agent
from cyxwiz.compute.agent_settings import AgentSettings
from cyxwiz.compute.data.settings import FetchSettings
from cyxwiz.compute.identity import load_identity
from cyxwiz.compute.journal import SqliteJournal
from cyxwiz.compute.p2p.hub import Hub
from cyxwiz.compute.p2p.service import ExecutionService
from cyxwiz.domain.node import JOB_TYPES, P2P_SERVICE, SCRIPTS, Hardware, LoadSample
from cyxwiz.ports.central_link import CentralLink
from cyxwiz.ports.executor import Executor
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.transports.grpc.link import GrpcLink
from cyxwiz.transports.grpc.node_server import Address, NodeServer, Pair
from cyxwiz.transports.local import LocalLink
from tests.central import LOCAL_TOKEN, Central
from tests.fakes import ScriptedExecutor, hardware


def grpc_link(central: Central, *, local: bool = True) -> GrpcLink:
    return GrpcLink(central.address, local_token=LOCAL_TOKEN if local else "")


def local_link(central: Central, *, local: bool = True) -> LocalLink:
    core = central.core
    return LocalLink(core.gateway, central.blobs, core.jobs, core.accounts, local=local)


@contextlib.asynccontextmanager
async def node(
    directory: Path,
    link: CentralLink,
    executor: Executor | None = None,
    *,
    join_token: str = "",
    slots: int = 1,
    machine: Hardware | None = None,
    name: str = "node",
    grace: float = 0.0,
    wait: bool = True,
    detect: Callable[[], Hardware] | None = None,
    closed: Callable[[], str] | None = None,
    fetch: FetchSettings | None = None,
    p2p: Hub | None = None,
    keep: float = 3600.0,
    **announced: Any,
) -> AsyncIterator[Agent]:
    """A node that runs until the block ends; the same directory is the same node."""
    clock = SystemClock()
    directory.mkdir(exist_ok=True)
    journal = SqliteJournal(directory / "journal.db")
    settings = AgentSettings(
        name,
        "",
        slots,
        join_token,
        0.1,
        directory,
        keep,
        features=(SCRIPTS, JOB_TYPES),
        detect_seconds=0.05,
        look_seconds=0.05,
        fetch=fetch or FetchSettings(),
        **announced,
    )
    executor = executor or ScriptedExecutor()
    agent = Agent(
        link,
        executor,
        journal,
        clock,
        load_identity(directory),
        settings,
        machine or hardware(),
        lambda active: LoadSample(clock.now(), cpu_usage=0.5, memory_usage=0.25, active_jobs=active),
        detect=detect,
        closed=closed,
        p2p=p2p,
    )
    await agent.start()
    try:
        if wait:
            await agent.connected.wait()
        yield agent
    finally:
        await agent.stop(grace)
        await executor.aclose()
        await link.aclose()
        await journal.aclose()


@contextlib.asynccontextmanager
async def p2p_node(
    directory: Path, link: CentralLink, executor: Executor | None = None, *, pair: Pair | None = None, **options: Any
) -> AsyncIterator[tuple[Agent, Hub, str]]:
    """A node with its own door on a free port of loopback: the agent, its hub and the door's address."""
    clock = SystemClock()
    directory.mkdir(exist_ok=True)
    node_id = load_identity(directory).node_id
    hub = Hub(node_id, clock, max_data_bytes=1 << 24)
    service = hub.relayed.execution = ExecutionService(hub, clock, node_id)
    server = NodeServer(service, [Address("node.address", "127.0.0.1:0", stated=True)], pair)
    server.grace = 0.1
    await server.start()
    port = server.ports["node.address"]
    announced = {"advertise_host": "127.0.0.1", "advertise_port": port, "services": (P2P_SERVICE,)}
    announced |= {"certificate_fingerprint": pair.fingerprint if pair else ""}
    try:
        async with node(directory, link, executor, p2p=hub, **{**announced, **options}) as agent:
            yield agent, hub, f"127.0.0.1:{port}"
    finally:
        await server.stop()
