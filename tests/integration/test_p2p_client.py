"""The SDK's `P2PSession` with a real central, a real agent and real sockets: pinned, cut, relayed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme

from cyxwiz.client import Client, CyxError, LocalData, P2PSession
from cyxwiz.client.pinned import open_node_channel
from cyxwiz.config import Tls
from cyxwiz.domain.errors import Code
from cyxwiz.domain.states import JobState
from cyxwiz.ports.executor import Report
from cyxwiz.protocol import execution_pb2 as pb
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.transports.grpc.node_server import Address, Pair, node_pair
from tests.central import Central, central
from tests.fakes import ScriptedExecutor, ScriptedRun, artefact
from tests.integration.test_link import submit, until
from tests.integration.test_remote_data import Keeping
from tests.nodes import grpc_link, p2p_node
from tests.relay import relay

BEYOND = [Address("node.address", "0.0.0.0:0", stated=True)]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Central]:
    async with central(tmp_path, "scheduler.node_heartbeat_timeout_ms=3000") as running:
        yield running


@pytest.fixture
async def client(server: Central) -> AsyncIterator[Client]:
    async with Client(server.address, token=server.key) as opened:
        yield opened


def own_pair(directory: Path) -> Pair:
    directory.mkdir(exist_ok=True)
    pair = node_pair(Tls(), directory, BEYOND, SystemClock())
    assert pair is not None
    return pair


def authoritys_pair(directory: Path) -> Pair:
    """A certificate that an authority signed, as the settings may name one."""
    directory.mkdir(exist_ok=True)
    made = trustme.CA().issue_cert("node.example.org")
    made.private_key_pem.write_to_path(directory / "key.pem")
    for part in made.cert_chain_pems:
        part.write_to_path(directory / "cert.pem", append=True)
    pair = node_pair(
        Tls(cert_file=directory / "cert.pem", key_file=directory / "key.pem"), directory, BEYOND, SystemClock()
    )
    assert pair is not None
    return pair


async def finished(session: P2PSession) -> dict[str, Any]:
    last: dict[str, Any] = {}
    async with asyncio.timeout(20), aclosing(session.follow()) as updates:
        async for update in updates:
            last = update
    return last


@pytest.mark.parametrize("make", [None, own_pair, authoritys_pair], ids=["plain", "own", "authority"])
async def test_a_job_is_followed_and_fetched(
    server: Central, client: Client, tmp_path: Path, make: Callable[[Path], Pair] | None
) -> None:
    pair = make(tmp_path / "keys") if make else None
    async with p2p_node(tmp_path / "node", grpc_link(server), pair=pair):
        job = await submit(server)
        async with P2PSession(client, job.id) as session:
            assert (session.relayed, session.why_relayed) == (False, "")
            assert session.capabilities["supports_checkpointing"]
            await session.send_job()
            complete = await finished(session)
            assert complete["success"]
            path = await session.download(tmp_path / "out" / "model", complete["result_hash"])
        assert path.read_bytes() == f"weights of {job.id}".encode()
        assert list(path.parent.iterdir()) == [path]


def test_the_nodes_own_certificate_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    first = own_pair(tmp_path)
    assert own_pair(tmp_path).fingerprint == first.fingerprint
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == {
        "door.crt": "0o600",
        "door.key": "0o600",
    }
    loopback = [Address("node.address", "127.0.0.1:0", stated=True)]
    assert node_pair(Tls(), tmp_path / "none", loopback, SystemClock()) is None


async def test_another_certificate_is_refused(server: Central, client: Client, tmp_path: Path) -> None:
    pair, other = own_pair(tmp_path / "keys"), own_pair(tmp_path / "others")
    async with p2p_node(
        tmp_path / "node",
        grpc_link(server),
        ScriptedExecutor(gated=True),
        pair=pair,
        certificate_fingerprint=other.fingerprint,
    ):
        job = await submit(server)
        with pytest.raises(CyxError) as refused:
            async with P2PSession(client, job.id, way="direct"):
                raise AssertionError("it connected to a stranger")
        assert refused.value.code is Code.FORBIDDEN
        assert pair.fingerprint in refused.value.message
        async with P2PSession(client, job.id) as session:  # what is safe all the same
            assert session.relayed
            assert "not the node" in session.why_relayed
    with pytest.raises(CyxError) as plain:
        await open_node_channel("192.0.2.1:50052", "", same_machine=True)
    assert "in the open" in plain.value.message
    with pytest.raises(CyxError) as foreign:
        await open_node_channel("127.0.0.1:50052", "", same_machine=False)
    assert foreign.value.code is Code.UNAVAILABLE


async def test_an_unreachable_node_is_reached_over_central(server: Central, client: Client, tmp_path: Path) -> None:
    async with p2p_node(tmp_path / "node", grpc_link(server), advertise_port=1):
        job = await submit(server)
        with pytest.raises(CyxError) as away:
            async with P2PSession(client, job.id, way="direct"):
                raise AssertionError("nobody listens on port 1")
        assert away.value.code is Code.UNAVAILABLE
        async with P2PSession(client, job.id) as session:
            assert session.relayed
            assert session.why_relayed
            complete = await finished(session)
            path = await session.download(tmp_path / "model", complete["result_hash"])
        assert path.read_bytes() == f"weights of {job.id}".encode()


BIG = bytes(range(256)) * 12_288  # 3 MiB


class BigRun(ScriptedRun):
    async def reports(self) -> AsyncIterator[Report]:
        from cyxwiz.ports.executor import Finished

        async for report in super().reports():
            if isinstance(report, Finished):
                path = report.artefacts[0].path
                path.write_bytes(BIG)
                yield Finished((artefact(path),), report.final_metrics, report.epochs_completed, 1.0)
            else:
                yield report


class BigExecutor(ScriptedExecutor):
    async def start(self, work: Any) -> Any:
        run = BigRun(work, None, None)
        self.runs.append(run)
        return run


async def test_a_cut_download_goes_on_where_it_stopped(server: Central, client: Client, tmp_path: Path) -> None:
    async with (
        relay(cut_after=1_500_000) as cutting,
        p2p_node(tmp_path / "node", grpc_link(server), BigExecutor(), advertise_port=cutting.port) as (_, _, address),
    ):
        cutting.target = int(address.rpartition(":")[2])
        job = await until(server, await submit(server), JobState.COMPLETED)
        wanted = f"sha256:{hashlib.sha256(BIG).hexdigest()}"
        async with P2PSession(client, job.id, way="direct") as session:
            path = await session.download(tmp_path / "model", wanted, chunk_size=1 << 18)
            assert path.read_bytes() == BIG
            assert len(cutting.answered) == 2
            assert sum(cutting.answered[1:]) < len(BIG), "what had arrived was sent again"
            with pytest.raises(CyxError) as wrong:
                await session.download(tmp_path / "other", "sha256:" + "0" * 64)
            assert wrong.value.code is Code.INTERNAL
            assert not (tmp_path / "other").exists()


async def test_local_data_are_streamed_and_commands_act(server: Central, client: Client, tmp_path: Path) -> None:
    executor = Keeping(gated=True)
    rows = np.arange(40, dtype=np.float32).reshape(20, 2)
    (tmp_path / "data.csv").write_text(
        "a,b,kind\n" + "".join(f"{a},{b},{'odd' if index % 2 else 'even'}\n" for index, (a, b) in enumerate(rows))
    )
    data = LocalData.read(tmp_path / "data.csv")
    assert data.names == ("even", "odd")
    async with p2p_node(tmp_path / "node", grpc_link(server), executor):
        job = await submit(server, dataset="remote://data.csv", epochs=2, batch_size=8, model={"layers": [2, 2]})
        async with P2PSession(client, job.id, data=data) as session, asyncio.timeout(20):
            with pytest.raises(CyxError):
                await session.command(pause=True)  # nothing is followed yet
            async with aclosing(session.follow()) as updates:
                async for update in updates:
                    if update["type"] == "log" and update["message"] == "started":
                        await session.command(request_checkpoint=True)
                        await session.command(update_params={"learning_rate": 0.5})
                        executor.step(2)
            assert update["success"]
    assert executor.runs[0].told == [("checkpoint", {}), ("update", {"learning_rate": 0.5})]
    assert np.array_equal(executor.x, rows)
    assert executor.y.tolist() == [index % 2 for index in range(20)]


async def test_following_goes_along_to_another_node(server: Central, client: Client, tmp_path: Path) -> None:
    first, second = ScriptedExecutor(gated=True), ScriptedExecutor(gated=True)
    seen: list[dict[str, Any]] = []

    async def follow(session: P2PSession) -> None:
        async with aclosing(session.follow()) as updates:
            async for update in updates:
                seen.append(update)

    async with contextlib.AsyncExitStack() as nodes:
        one = contextlib.AsyncExitStack()
        await nodes.enter_async_context(one)
        await one.enter_async_context(p2p_node(tmp_path / "one", grpc_link(server), first, name="one", grace=2.0))
        job = await submit(server, epochs=4)
        async with P2PSession(client, job.id) as session, asyncio.timeout(30):
            before = session.node_id
            following = asyncio.ensure_future(follow(session))
            first.step(2)
            while not any(update["type"] == "progress" and update["current_epoch"] == 2 for update in seen):
                await asyncio.sleep(0.02)
            await nodes.enter_async_context(p2p_node(tmp_path / "two", grpc_link(server), second, name="two"))
            await one.aclose()
            second.step(4)
            await following
            assert session.node_id != before
    epochs = [update["current_epoch"] for update in seen if update["type"] == "progress"]
    assert epochs == [1, 2, 3, 4]
    assert [update["error_code"] for update in seen if update["type"] == "error"] == ["MOVED"]
    assert seen[-1]["success"]


async def test_a_client_without_the_data_fails_the_job(server: Central, client: Client, tmp_path: Path) -> None:
    async with p2p_node(tmp_path / "node", grpc_link(server), Keeping()):
        job = await submit(server, dataset="remote://elsewhere", model={"layers": [2, 2]})
        async with P2PSession(client, job.id) as session:
            last = await finished(session)
        assert (last["type"], last["recoverable"]) == ("error", False)
        assert "no data" in last["error_message"]
        await until(server, job, JobState.FAILED)


async def test_a_job_without_a_node_to_talk_to(server: Central, client: Client) -> None:
    job = await submit(server)
    await client.cancel(job.id)
    with pytest.raises(CyxError) as over:
        async with P2PSession(client, job.id):
            raise AssertionError("there is no node")
    assert over.value.code is Code.CONFLICT


@pytest.mark.parametrize(("split", "indices", "code"), [(pb.SPLIT_TEST, [0], 1002), (pb.SPLIT_TRAIN, [-1, 99], 1003)])
def test_local_data_refuse_in_band(tmp_path: Path, split: Any, indices: list[int], code: int) -> None:
    np.savez(tmp_path / "data.npz", x=np.full((4, 3), 255, np.uint8), y=np.arange(4))
    data = LocalData.read(tmp_path / "data.npz")
    assert data.samples.max() == 1.0
    assert data.info().num_classes == 4
    answer = data.batch(pb.BatchRequest(split=split, sample_indices=indices, request_id=7))
    assert (answer.error.code, answer.request_id) == (code, 7)
    kept = data.batch(pb.BatchRequest(split=pb.SPLIT_TRAIN, sample_indices=[3, 99], request_id=8))
    assert list(kept.batch_shape) == [1, 3]
