"""Nodes for integration tests: the real agent over either link, with a scripted executor unless told otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from cyxwiz.compute.agent import Agent, AgentSettings
from cyxwiz.compute.data.settings import FetchSettings
from cyxwiz.compute.identity import load_identity
from cyxwiz.compute.journal import SqliteJournal
from cyxwiz.domain.node import SCRIPTS, Hardware, LoadSample
from cyxwiz.ports.central_link import CentralLink
from cyxwiz.ports.executor import Executor
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.transports.grpc.link import GrpcLink
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
        3600.0,
        features=(SCRIPTS,),
        detect_seconds=0.05,
        look_seconds=0.05,
        fetch=fetch or FetchSettings(),
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
