"""What a node's owner decides and what happens to its machine, as central and people see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cyxwiz.domain.account import Principal
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.node import Hardware
from cyxwiz.domain.states import JobState
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.services.api import Call
from cyxwiz.services.hardware import hardware_of, hardware_to
from cyxwiz.services.jobfile import parse_jobfile
from cyxwiz.services.nodes import check_hardware
from tests.central import DIGITS, Central, central
from tests.fakes import GIB, ScriptedExecutor, hardware
from tests.nodes import grpc_link, node

CLOSED = "its owner's schedule is 22:00-07:00"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Central]:
    async with central(tmp_path, "scheduler.node_heartbeat_timeout_ms=30000") as running:
        yield running


async def admin(server: Central) -> Principal:
    return await server.core.accounts.authenticate(server.key)


async def until(condition: Callable[[], Any]) -> Any:
    async with asyncio.timeout(10):
        while not (found := await condition()):
            await asyncio.sleep(0.01)
    return found


async def submit(server: Central) -> str:
    job, _ = await server.core.jobs.submit(await admin(server), parse_jobfile(dict(DIGITS)))
    return job.id


async def shown(server: Central, node_id: str) -> dict[str, Any]:
    return await server.core.api.get_node(Call(await admin(server), node_id))


async def test_a_closed_node_gets_no_jobs_until_it_opens(server: Central, tmp_path: Path) -> None:
    reason = CLOSED
    async with node(tmp_path / "node", grpc_link(server), closed=lambda: reason) as agent:
        me, node_id = await admin(server), agent._identity.node_id

        async def told() -> bool:
            return (await shown(server, node_id))["closed_reason"] == CLOSED

        await until(told)
        job_id = await submit(server)

        async def waits() -> bool:
            reason = (await server.core.jobs.get(me, job_id)).reason
            return reason == f"no node can take it: closed: {CLOSED} (1 node)"

        await until(waits)
        explained = await server.core.api.explain_job(Call(me, job_id))
        assert [each["reason"] for each in explained["nodes"]] == [f"closed: {CLOSED}"]
        assert explained["leases"] == [], "it was not even offered"
        reason = ""  # the owner's hours begin

        async def done() -> bool:
            return (await server.core.jobs.get(me, job_id)).state is JobState.COMPLETED

        await until(done)
        assert (await shown(server, node_id))["closed_reason"] is None


async def test_closing_is_told_once_and_what_runs_saves_itself(server: Central, tmp_path: Path) -> None:
    reason, asked = "", list[str]()
    executor = ScriptedExecutor(gated=True)
    async with node(tmp_path / "node", grpc_link(server), executor, slots=2, closed=lambda: reason) as agent:
        yield_runs = agent.yield_runs

        def noted(why: str) -> None:
            asked.append(why)
            yield_runs(why)

        agent.yield_runs = noted  # type: ignore[method-assign]
        me, first = await admin(server), await submit(server)

        async def running() -> bool:
            return (await server.core.jobs.get(me, first)).state is JobState.RUNNING

        await until(running)
        reason = "hotter than its owner allows (80 °C)"

        async def told() -> bool:
            return bool((await shown(server, agent._identity.node_id))["closed_reason"])

        await until(told)
        reason = CLOSED  # another reason, and still closed: not asked again

        async def waiting() -> bool:
            return (await server.core.jobs.get(me, first)).state is JobState.PENDING

        await until(waiting)
        assert asked == ["hotter than its owner allows (80 °C)"]
        reason = ""  # it has cooled down
        executor.step(20)

        async def done() -> bool:
            return (await server.core.jobs.get(me, first)).state is JobState.COMPLETED

        await until(done)
        job = await server.core.jobs.get(me, first)
        assert (job.attempts, job.retry_count) == (2, 0)


async def test_a_job_that_waits_is_not_offered_to_a_node_that_joins_closed(server: Central, tmp_path: Path) -> None:
    job_id = await submit(server)
    async with node(tmp_path / "node", grpc_link(server), closed=lambda: CLOSED):

        async def explained() -> bool:
            document = await server.core.api.explain_job(Call(await admin(server), job_id))
            assert document["leases"] == []
            return CLOSED in document["reason"]

        await until(explained)


async def test_an_assignment_that_crosses_the_closing_is_refused(server: Central, tmp_path: Path) -> None:
    async with node(tmp_path / "node", grpc_link(server)) as agent:
        agent.closed_reason = CLOSED  # closed, and central has not heard of it
        job_id = await submit(server)

        async def refused() -> list[Any]:
            explained = await server.core.api.explain_job(Call(await admin(server), job_id))
            return [each for each in explained["leases"] if each["end_reason"]]

        (lease, *_) = await until(refused)
        assert f"the node is closed: {CLOSED}" in lease["end_reason"]


async def hardware_events(server: Central) -> list[Any]:
    stored = await server.core.store.read(lambda tx: tx.events(0, frozenset(), 1000))
    return [each for each in stored if each.kind == "node.hardware"]


async def test_a_gpu_that_goes_is_an_event_and_no_longer_offered(server: Central, tmp_path: Path) -> None:
    now: Hardware = hardware(gpus=(24 * GIB,))
    async with node(tmp_path / "node", grpc_link(server), machine=now, detect=lambda: now) as agent:
        await asyncio.sleep(0.2)
        assert await hardware_events(server) == [], "nothing changed yet"
        now = replace(hardware(), unknown=("cuda:0: it is there and can't be opened: GPU is lost",))

        async def told() -> list[Any]:
            return await hardware_events(server)

        (event,) = await until(told)
        assert event.data["node_id"] == agent._identity.node_id
        assert "device 1 Test GPU is gone" in event.data["changes"]
        assert "GPU is lost" in event.data["changes"]
        document = await shown(server, agent._identity.node_id)
        assert document["gpu_model"] is None
        assert document["hardware_unknown"] == list(now.unknown)
        assert agent._runner._gpus._sizes == ()


async def test_free_memory_alone_is_no_event(server: Central, tmp_path: Path) -> None:
    now, looked = hardware(), 0

    def detect() -> Hardware:
        nonlocal now, looked
        looked += 1
        now = replace(now, ram_available_bytes=now.ram_available_bytes - 1)
        return now

    async with node(tmp_path / "node", grpc_link(server), detect=detect):

        async def enough() -> bool:
            return looked > 4

        await until(enough)
        assert await hardware_events(server) == []


async def test_a_change_while_the_node_was_away_is_an_event(server: Central, tmp_path: Path) -> None:
    async with node(tmp_path / "node", grpc_link(server), machine=hardware(cores=4)):
        pass
    async with node(tmp_path / "node", grpc_link(server), machine=hardware(cores=8)):
        (event,) = await hardware_events(server)
    assert event.data["changes"] == "cores: 4 -> 8"


async def test_hardware_that_no_machine_has_ends_the_stream(server: Central, tmp_path: Path) -> None:
    async with node(tmp_path / "node", grpc_link(server)) as agent:
        first = agent._session
        assert first is not None
        await first.send(pb.NodeMessage(hardware=hardware_to(hardware(cores=0))))

        async def again() -> bool:
            return agent._session is not None and agent._session is not first

        await until(again)
        assert (await shown(server, agent._identity.node_id))["cpu_cores"] == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"cpu_cores": 0},
        {"cpu_cores": 70000},
        {"ram_total_bytes": 0},
        {"cpu_model": "x" * 1001},
        {"devices": hardware(gpus=(-5,)).devices},
        {"devices": hardware(gpus=(2**61,)).devices},
        {"devices": hardware(gpus=(1,) * 300).devices},
    ],
)
def test_bounds_of_hardware(changes: dict[str, Any]) -> None:
    with pytest.raises(CyxError) as caught:
        check_hardware(replace(hardware(), **changes))
    assert caught.value.code is Code.INVALID


def test_a_device_of_unknown_size_crosses_the_wire_as_unknown() -> None:
    there = hardware(gpus=(24 * GIB,))
    unknown = replace(there.devices[1], memory_total_bytes=None, memory_available_bytes=None)
    report = hardware_to(replace(there, devices=(there.devices[0], unknown)))
    assert hardware_of(report).devices[1].memory_total_bytes is None
    check_hardware(hardware_of(report))
