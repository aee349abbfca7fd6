"""What goes wrong on a node or on its way costs at most a try: nothing hangs. Over gRPC and in process."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from cyxwiz.compute import agent as agent_module
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.node import LoadSample
from cyxwiz.domain.states import JobState, NodeState
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.central_link import CentralLink
from cyxwiz.ports.executor import Run, Work
from cyxwiz.services.reports import token_to
from tests.central import Central
from tests.fakes import ScriptedExecutor
from tests.integration.test_link import admin, link, server, submit, until
from tests.nodes import node

__all__ = ("link", "server")  # fixtures
Link = Callable[..., CentralLink]
Push = Callable[[str, Path], object]


class BrokenExecutor(ScriptedExecutor):
    """Fails as nobody foresaw, the first `times` times."""

    def __init__(self, times: int, error: Exception) -> None:
        super().__init__()
        self.times, self.error = times, error

    async def start(self, work: Work) -> Run:
        self.times -= 1
        if self.times >= 0:
            raise self.error
        return await super().start(work)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("/home/secret")])
async def test_an_unforeseen_fault_is_a_failed_try(
    server: Central, link: Link, tmp_path: Path, error: Exception
) -> None:
    async with node(tmp_path / "node", link(server), BrokenExecutor(1, error)):
        job = await until(server, await submit(server), JobState.COMPLETED)
    assert (job.attempts, job.retry_count) == (2, 1)
    async with node(tmp_path / "node", link(server), BrokenExecutor(9, error)):
        job = await until(server, await submit(server), JobState.FAILED)
    assert job.error_code == "INTERNAL"
    assert ("No space left" in job.error) == isinstance(error, OSError)
    assert "secret" not in job.error


async def stored(server: Central, content: bytes) -> str:
    """A file of admin's at central; its digest."""
    sha256 = hashlib.sha256(content).hexdigest()
    upload = await server.blobs.begin(sha256, len(content), 0)
    await upload.write(content)
    await upload.commit()
    await server.core.jobs.record_blob(sha256, len(content), owner=(await admin(server)).id)
    return sha256


@pytest.mark.parametrize(
    ("error", "charged"),
    [
        (CyxError(Code.INVALID, "The packages of requirements can't be installed", retryable=True), False),
        (CyxError(Code.UNAVAILABLE, "This node can start no process now"), True),
    ],
)
async def test_what_a_script_asks_for_in_vain_is_not_its_nodes_fault(
    server: Central, link: Link, tmp_path: Path, error: CyxError, charged: bool
) -> None:
    files = {"main.py": await stored(server, b"print(1)")}
    async with node(tmp_path / "node", link(server), BrokenExecutor(9, error)) as agent:
        job = await submit(server, model={"script": "main.py", "files": files})
        async with asyncio.timeout(10):
            while (await server.core.jobs.get(await admin(server), job.id)).retry_count < 1:
                await asyncio.sleep(0.02)
        found = await server.core.nodes.get(agent._identity.node_id)
    assert (found.standing.score < 75.0) is charged


@pytest.mark.parametrize(
    "error",
    [CyxError(Code.INVALID, "size: at most 1024 bytes"), FileNotFoundError(2, "gone"), PermissionError(13, "no")],
    ids=["refused", "missing", "unreadable"],
)
async def test_a_result_that_cannot_be_stored_is_a_failed_try(
    server: Central, link: Link, tmp_path: Path, error: Exception
) -> None:
    way = link(server)
    push, left = way.push_blob, [error]

    async def refused_once(path: Path, sha256: str | None = None) -> tuple[str, int]:
        if left:
            raise left.pop()
        return await push(path, sha256)

    way.push_blob = refused_once  # type: ignore[method-assign]
    async with node(tmp_path / "node", way):
        job = await until(server, await submit(server), JobState.COMPLETED)
    assert (job.attempts, job.retry_count) == (2, 1)


async def test_what_is_damaged_at_central_is_not_waited_for(server: Central, link: Link, tmp_path: Path) -> None:
    """Nor is it taken as it is; once it was sent again, all is well."""
    sha256 = await stored(server, b"print(1)")
    (path,) = (found for found in tmp_path.rglob(sha256[2:]) if found.parent.name == sha256[:2])
    path.write_bytes(b"print(2)")
    async with node(tmp_path / "node", link(server)):
        job = await submit(server, model={"script": "main.py", "files": {"main.py": sha256}})
        job = await until(server, job, JobState.FAILED)
        assert (job.error_code, job.error) == (
            "INTERNAL",
            f"Blob {sha256} is damaged where it is stored: send it again",
        )
        assert await stored(server, b"print(1)") == sha256
        again = await submit(server, model={"script": "main.py", "files": {"main.py": sha256}})
        await until(server, again, JobState.COMPLETED)


async def test_a_session_token_that_expires_is_renewed(server: Central, link: Link, tmp_path: Path) -> None:
    way, executor = link(server), ScriptedExecutor(gated=True)
    async with node(tmp_path / "node", way, executor):
        job = await until(server, await submit(server), JobState.RUNNING)
        way.session_token = "expired"
        executor.step(3)
        job = await until(server, job, JobState.COMPLETED)
    assert job.attempts == 1


@pytest.mark.parametrize("what", ["_sample", "_leftovers.sweep"])
async def test_a_heartbeat_that_fails_leaves_no_zombie(server: Central, link: Link, tmp_path: Path, what: str) -> None:
    executor = ScriptedExecutor(gated=True)
    async with node(tmp_path / "node", link(server), executor) as agent:
        job = await until(server, await submit(server), JobState.RUNNING)
        owner, name = agent._leftovers if "." in what else agent, what.rpartition(".")[2]
        works, failed = getattr(owner, name), asyncio.Event()

        def fails_once(*args: int) -> LoadSample | None:
            if failed.is_set():
                return works(*args)
            failed.set()
            raise OSError(24, "Too many open files")

        setattr(owner, name, fails_once)
        await asyncio.wait_for(failed.wait(), 5)
        await asyncio.sleep(2)  # longer than the time-out
        assert (await server.core.nodes.get(agent._identity.node_id)).state is NodeState.ONLINE
        executor.step(3)
        job = await until(server, job, JobState.COMPLETED)
    assert (job.attempts, job.node_losses) == (1, 0)


async def test_a_node_that_central_gave_up_dials_again(server: Central, link: Link, tmp_path: Path) -> None:
    executor = ScriptedExecutor(gated=True)
    async with node(tmp_path / "node", link(server), executor) as agent:
        job = await until(server, await submit(server), JobState.RUNNING)
        session, node_id = agent._session, agent._identity.node_id
        await server.core.store.write(lambda tx: server.core.nodes.expire(tx, node_id))
        job = await until(server, job, JobState.RUNNING)
        assert agent._session is not session
        executor.step(3)
        job = await until(server, job, JobState.COMPLETED)
    assert (job.attempts, job.node_losses) == (1, 0), "it revives, and a silence that cost nothing is not counted"


async def test_a_wrong_report_ends_its_lease_and_nothing_else(server: Central, link: Link, tmp_path: Path) -> None:
    executor = ScriptedExecutor(gated=True)
    async with node(tmp_path / "node", link(server), executor, slots=2) as agent:
        wrong, right = [await until(server, await submit(server), JobState.RUNNING) for _ in range(2)]
        session = agent._session
        assert session is not None and wrong.token is not None
        (record,) = [each for each in agent._records.values() if each.assign.job_id == wrong.id]
        report = pb.Report(job_id=wrong.id, token=token_to(wrong.token), seq=record.last_seq + 1)
        report.progress.progress = math.nan
        await session.send(pb.NodeMessage(report=report))
        async with asyncio.timeout(5):
            while (await server.core.jobs.get(await admin(server), wrong.id)).retry_count == 0:
                await asyncio.sleep(0.01)
        executor.step(9)
        for job in (wrong, right):
            await until(server, job, JobState.COMPLETED)
        assert agent._session is session


def slow_push(way: CentralLink, gate: asyncio.Event) -> None:
    push = way.push_blob

    async def slow(path: Path, sha256: str | None = None) -> tuple[str, int]:
        await gate.wait()
        return await push(path, sha256)

    way.push_blob = slow  # type: ignore[method-assign]


async def test_a_stop_waits_for_results(
    server: Central, link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "FLUSH_SECONDS", 0.0)
    way, gate = link(server), asyncio.Event()
    slow_push(way, gate)
    async with node(tmp_path / "node", way, grace=10.0) as agent:
        job = await submit(server)
        async with asyncio.timeout(5):
            while not [record for record in agent._records.values() if record.ended]:
                await asyncio.sleep(0.01)
        asyncio.get_running_loop().call_later(0.3, gate.set)
    job = await server.core.jobs.get(await admin(server), job.id)
    assert (job.state, job.attempts) == (JobState.COMPLETED, 1)


async def test_a_result_that_a_stop_cannot_send_is_sent_at_the_next_start(
    server: Central, link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "FLUSH_SECONDS", 0.1)
    way = link(server)
    slow_push(way, asyncio.Event())
    async with node(tmp_path / "node", way) as agent:
        job = await submit(server)
        async with asyncio.timeout(5):
            while not [record for record in agent._records.values() if record.ended]:
                await asyncio.sleep(0.01)
    again = ScriptedExecutor()
    async with node(tmp_path / "node", link(server), again):
        job = await until(server, job, JobState.COMPLETED)
    assert (job.attempts, job.node_losses, len(again.runs)) == (1, 0, 0)
