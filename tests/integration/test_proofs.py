"""What a result is accepted on: a chain that follows, signed by the nodes that made it. Real training throughout."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cyxwiz.domain.ids import JobId
from cyxwiz.domain.job import Job
from cyxwiz.domain.proof import check_chain, signed_link, signed_result
from cyxwiz.domain.states import JobState
from cyxwiz.ports.executor import Linked, Report, Work
from cyxwiz.services.api import Call
from cyxwiz.services.jobfile import parse_jobfile
from tests.central import DIGITS, Central, central
from tests.fakes import hardware
from tests.integration.test_link import admin, until
from tests.nodes import grpc_link, local_link, node, p2p_node
from tests.p2p import assignment, engine
from tests.training import InlineExecutor

ONE_CORE = hardware(1)
SAVING = {**DIGITS, "checkpoint": {"every": "5 steps"}}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Central]:
    async with central(tmp_path, "scheduler.node_heartbeat_timeout_ms=3000") as running:
        yield running


async def submit(server: Central, **changes: Any) -> Job:
    spec = parse_jobfile({**SAVING, **changes})
    return (await server.core.jobs.submit(await admin(server), spec))[0]


async def proof(server: Central, job: Job) -> dict[str, Any]:
    return await server.core.api.get_job_proof(Call(await admin(server), job.id))


async def result(server: Central, job: Job) -> dict[str, Any]:
    return await server.core.api.get_job_result(Call(await admin(server), job.id))


def verify_links(document: dict[str, Any], stored: list[Any], keys: dict[str, bytes]) -> None:
    check_chain(document["genesis"], [each.link for each in stored])
    for each in stored:
        message = signed_link(document["job_id"], str(each.token), each.link.link)
        Ed25519PublicKey.from_public_bytes(keys[each.node_id]).verify(each.signature, message)


async def test_a_result_comes_with_a_signed_chain(server: Central, tmp_path: Path) -> None:
    async with node(tmp_path / "one", local_link(server), InlineExecutor(), machine=ONE_CORE) as agent:
        job = await submit(server)
        await until(server, job, JobState.COMPLETED)
        key = agent._identity.public_key
    document, shown = await proof(server, job), await result(server, job)
    stored = list(await server.core.store.read(lambda tx: tx.links(job.id)))
    verify_links(document, stored, {agent._identity.node_id: key})
    steps = [each["step"] for each in document["links"]]
    assert steps == sorted(steps)
    assert len(steps) >= 2
    assert document["links"][-1]["kind"] == "result"
    assert shown["chain_head"] == document["links"][-1]["link"]
    assert shown["node_public_key"] == key.hex()
    statement = shown["statement"].encode()
    Ed25519PublicKey.from_public_bytes(key).verify(base64.b64decode(shown["signature"]), signed_result(statement))
    said = json.loads(statement)
    assert said["job_id"] == job.id
    assert said["files"] == {each["name"]: each["sha256"] for each in shown["files"]}
    assert said["head"] == shown["chain_head"]
    assert document["environment"]["threads"] == 1


async def test_clients_of_the_node_are_told_the_head_of_its_chain(server: Central, tmp_path: Path) -> None:
    async with p2p_node(tmp_path / "one", grpc_link(server), InlineExecutor(), machine=ONE_CORE) as (_, _, address):
        job = await submit(server)
        given = await assignment(server, job.id)
        async with engine(address, given.auth_token, job.id) as client:
            told = (await client.stream().until("complete", seconds=30)).complete
    assert told.proof_of_compute
    assert told.proof_of_compute == (await result(server, job))["chain_head"]


async def test_a_chain_goes_on_over_nodes(server: Central, tmp_path: Path) -> None:
    actor = await admin(server)
    async with node(tmp_path / "one", local_link(server), InlineExecutor(), machine=ONE_CORE, name="one") as one:
        job = await submit(server, epochs=60)
        while not (await server.core.jobs.checkpoints(actor, job.id, 0, 1)).items:
            await asyncio.sleep(0.01)
        async with node(tmp_path / "two", local_link(server), InlineExecutor(), machine=ONE_CORE, name="two") as two:
            await server.core.nodes.cordon(actor, one._identity.node_id, on=True)
            done = await until(server, job, JobState.COMPLETED)
            keys = {each._identity.node_id: each._identity.public_key for each in (one, two)}
    assert done.attempts == 2
    stored = list(await server.core.store.read(lambda tx: tx.links(job.id)))
    verify_links(await proof(server, job), stored, keys)
    assert {each.node_id for each in stored} == set(keys)


def replayed(earlier: list[Report]) -> Any:
    """Says what another job's run said: its links, in the place of its own."""
    told = iter([each for each in earlier if isinstance(each, Linked)])

    def tamper(work: Work, report: Report) -> list[Report]:
        return [next(told)] if isinstance(report, Linked) else [report]

    return tamper


def skipping(work: Work, report: Report) -> list[Report]:
    """Claims twice the steps that it did, in links that were made for the steps done."""
    return [replace(report, step=report.step * 2)] if isinstance(report, Linked) else [report]


def dropping(work: Work, report: Report) -> list[Report]:
    """Leaves its first link out."""
    first = isinstance(report, Linked) and report.step <= 5
    return [] if first else [report]


def unproved(work: Work, report: Report) -> list[Report]:
    """Ends without the link of its result."""
    return [] if isinstance(report, Linked) and report.kind else [report]


def crowded(work: Work, report: Report) -> list[Report]:
    """Claims threads that are no number: a check would have to take as many."""
    return [replace(report, environment='{"threads":"many"}')] if isinstance(report, Linked) else [report]


@pytest.mark.parametrize("cheat", ["forged", "replayed", "skipping", "dropping", "unproved", "crowded"])
async def test_what_is_no_proof_is_refused_and_done_again_elsewhere(
    server: Central, tmp_path: Path, cheat: str
) -> None:
    said: list[Report] = []

    def listening(work: Work, report: Report) -> list[Report]:
        said.append(report)
        return [report]

    bad, good = InlineExecutor(listening), InlineExecutor()
    async with node(tmp_path / "bad", local_link(server), bad, machine=ONE_CORE, name="bad") as agent:
        first = await submit(server)
        await until(server, first, JobState.COMPLETED)
        if cheat == "forged":
            agent._runner._identity = replace(agent._identity, key=Ed25519PrivateKey.generate())
        else:
            tampers = {"skipping": skipping, "dropping": dropping, "unproved": unproved, "crowded": crowded}
            bad.tamper = {**tampers, "replayed": replayed(said)}[cheat]
        second = await submit(server)
        while not await _leases(server, second):
            await asyncio.sleep(0.01)
        async with node(tmp_path / "good", local_link(server), good, machine=ONE_CORE, name="good"):
            done = await until(server, second, JobState.COMPLETED)
    ended = await _leases(server, second)
    assert "its node's report was refused" in ended[0].end_reason.lower(), ended[0]
    assert done.retry_count >= 1
    assert ended[-1].node_id != ended[0].node_id
    same = (await result(server, first))["model_weights_hash"]
    assert (await result(server, second))["model_weights_hash"] == same, "the right weights"
    spoiled = await server.core.nodes.get(ended[0].node_id)
    assert spoiled.jobs_failed == done.retry_count


async def _leases(server: Central, job: Job) -> list[Any]:
    return list(await server.core.store.read(lambda tx: tx.leases_of(JobId(job.id))))


async def test_figures_that_were_not_signed_are_refused(server: Central, tmp_path: Path) -> None:
    """A statement is of the very report: one byte of it changed on the way makes it another's."""
    executor = InlineExecutor()
    async with node(tmp_path / "one", local_link(server), executor, machine=ONE_CORE, name="one") as agent:
        signers = agent._runner._signer

        def tampered(record: Any) -> Any:
            signer = signers(record)
            sign = type(signer).sign

            class Liar:
                link = staticmethod(signer.link)

                @staticmethod
                def sign(finished: Any, metrics: Any) -> None:
                    sign(signer, finished, metrics)
                    finished.final_metrics["accuracy"] = 1.0

            return Liar()

        agent._runner._signer = tampered  # type: ignore[method-assign]
        job = await submit(server)
        while not any(each.end_reason for each in await _leases(server, job)):
            await asyncio.sleep(0.01)
        agent._runner._signer = signers  # type: ignore[method-assign]
        await until(server, job, JobState.COMPLETED)
    assert "another metrics" in (await _leases(server, job))[0].end_reason
