"""Receipts: what they say of the money, and that nothing in them can be changed unnoticed."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cyxwiz.client.receipts import verify_receipt
from cyxwiz.domain.errors import CyxError
from cyxwiz.domain.receipt import DIGESTS, SIGNATURE, canonical, sealed
from cyxwiz.domain.states import JobState
from tests.central import central as served
from tests.integration.conftest import client, refused, submit
from tests.integration.test_link import admin, until
from tests.integration.test_proofs import ONE_CORE
from tests.integration.test_proofs import submit as prove
from tests.integration.test_rest import run_to_end
from tests.integration.test_verification import other_file
from tests.nodes import local_link, node
from tests.training import InlineExecutor
from tests.wiring import Central, central

Json = dict[str, Any]
WEIGHTS = b"weights" * 100


@pytest.fixture
async def charged(tmp_path: Path) -> AsyncIterator[Central]:
    made = await central(tmp_path, charged=True)
    yield made
    await made.aclose()


async def settle(house: Central) -> None:
    payments = house.api.payments
    assert payments is not None
    while any([await payments.drive(each) for each in (await payments.due(100))[0]]):
        pass


@pytest.fixture
async def paid(charged: Central) -> AsyncIterator[tuple[Json, str]]:
    """(the receipt of a job that was completed and paid for, the platform's key)"""
    async with client(charged, charged.alice) as alice:
        job = await submit(alice)
        await run_to_end(charged, job["id"])
        await settle(charged)
        yield (
            (await alice.get(f"/api/jobs/{job['id']}/receipt")).json(),
            (await alice.get("/api/platform", headers={"Authorization": ""})).json()["public_key"],
        )


async def test_a_receipt_tells_what_was_charged_and_checks_out(paid: tuple[Json, str], tmp_path: Path) -> None:
    receipt, key = paid
    assert (receipt["charged"], receipt["settled"], receipt["proof"]) == (True, True, None)
    assert receipt["paid_units"] == receipt["price_units"] > 0
    assert receipt["paid_units"] + receipt["refunded_units"] == receipt["amount_units"]
    assert receipt["platform_fee_units"] == receipt["paid_units"] // 10
    assert [each["kind"] for each in receipt["payments"][0]["transactions"]] == ["lock", "settle"]
    assert receipt["node_public_key"] == (b"k" * 32).hex()
    assert receipt["model_sha256"]
    (tmp_path / "model.safetensors").write_bytes(WEIGHTS)
    verify_receipt(receipt, key=key, files=tmp_path)


@pytest.mark.parametrize("scheme", ["blob", "https"])
async def test_a_receipt_has_the_hash_of_the_data_alone(charged: Central, scheme: str) -> None:
    """However the URI says how the data are to be read."""
    data = b"0.5,1\n" * 20
    sha256 = hashlib.sha256(data).hexdigest()
    uris = {
        "blob": f"blob://sha256/{sha256}?format=csv&header=false",
        "https": f"https://data.example/a.csv#header=false&sha256={sha256}",
    }
    async with client(charged, charged.alice) as alice:
        await alice.post("/api/blobs", content=data, headers={"Content-Type": "application/octet-stream"})
        job = await submit(alice, dataset=uris[scheme])
        await run_to_end(charged, job["id"])
        receipt = (await alice.get(f"/api/jobs/{job['id']}/receipt")).json()
    assert (receipt["dataset_uri"], receipt["dataset_sha256"]) == (uris[scheme], sha256)


async def test_a_receipt_before_the_money_has_moved_is_not_final(charged: Central) -> None:
    async with client(charged, charged.alice) as alice:
        job = await submit(alice)
        await run_to_end(charged, job["id"])
        receipt = (await alice.get(f"/api/jobs/{job['id']}/receipt")).json()
        assert (receipt["charged"], receipt["settled"]) == (False, False)
        with pytest.raises(CyxError, match=r"^settled: "):
            verify_receipt(receipt)
        line = (await alice.get("/api/receipts")).json()["receipts"][0]
        assert (line["job_id"], line["settled"]) == (job["id"], False)


async def test_a_cancelled_job_has_its_money_back(charged: Central) -> None:
    async with client(charged, charged.alice) as alice:
        job = await submit(alice)
        await alice.post(f"/api/jobs/{job['id']}/cancel")
        await settle(charged)
        receipt = (await alice.get(f"/api/jobs/{job['id']}/receipt")).json()
        verify_receipt(receipt)
        assert (receipt["charged"], receipt["paid"], receipt["refunded"]) == (False, "0", job["estimated_cost"])


async def test_without_a_ledger_a_receipt_is_an_estimate(house: Central, alice: httpx.AsyncClient) -> None:
    job = await submit(alice)
    await run_to_end(house, job["id"])
    receipt = (await alice.get(f"/api/jobs/{job['id']}/receipt")).json()
    verify_receipt(receipt)
    assert (receipt["charged"], receipt["ledger"], receipt["payments"]) == (False, None, [])
    assert receipt["note"].startswith("an estimate")


async def test_receipts_are_ones_own_and_the_newest_first(
    house: Central, alice: httpx.AsyncClient, bob: httpx.AsyncClient
) -> None:
    jobs = [(await submit(alice))["id"] for _ in range(3)]
    for job in jobs[:2]:
        await alice.post(f"/api/jobs/{job}/cancel")
    found = (await alice.get("/api/receipts?limit=1")).json()
    assert (found["total"], [each["job_id"] for each in found["receipts"]]) == (2, [jobs[1]])
    assert (await bob.get("/api/receipts")).json()["total"] == 0
    refused(await bob.get(f"/api/jobs/{jobs[0]}/receipt"), "FORBIDDEN")
    refused(await alice.get(f"/api/jobs/{jobs[2]}/receipt"), "CONFLICT")


def _other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, list):
        return value[:-1] if value else ["x"]
    return {} if value else {"x": "y"}


async def test_a_change_of_any_field_is_refused_by_its_name(paid: tuple[Json, str]) -> None:
    receipt, key = paid
    fields = [name for name in receipt if name not in (SIGNATURE, DIGESTS)]
    assert len(fields) > 40
    for name in fields:
        for changed in ({**receipt, name: _other(receipt[name])}, {k: v for k, v in receipt.items() if k != name}):
            with pytest.raises(CyxError) as error:
                verify_receipt(changed, key=key)
            assert error.value.details["field"] == name
    with pytest.raises(CyxError, match=r"^tip: it was added"):
        verify_receipt({**receipt, "tip": 1}, key=key)
    inner = copy.deepcopy(receipt)
    inner["payments"][0]["transactions"][0]["reference"] = "credits:other"
    with pytest.raises(CyxError, match=r"^payments: it was changed"):
        verify_receipt(inner, key=key)


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (("payments", 0, "refunded_units"), "payments[0].refunded_units"),
        (("payments", 0, "platform_fee_units"), "payments[0].platform_fee_units"),
        (("payments", 0, "node_reward_units"), "payments[0].node_reward_units"),
        (("payments", 0, "fee_bps"), "payments[0].platform_fee_units"),
        (("paid_units",), "paid_units"),
        (("paid",), "paid"),
        (("settled",), "settled"),
        (("charged",), "charged"),
        (("version",), "version"),
    ],
)
async def test_a_platform_can_not_sign_sums_that_are_wrong(
    paid: tuple[Json, str], path: tuple[Any, ...], named: str
) -> None:
    mine = Ed25519PrivateKey.generate()
    receipt = {name: value for name, value in copy.deepcopy(paid[0]).items() if name not in (SIGNATURE, DIGESTS)}
    inner: Any = receipt
    for step in path[:-1]:
        inner = inner[step]
    change = 1000 if path[-1] == "fee_bps" else 1
    inner[path[-1]] = inner[path[-1]] + change if type(inner[path[-1]]) is int else _other(inner[path[-1]])
    forged = sealed(receipt, mine.public_key().public_bytes_raw().hex(), mine.sign)
    with pytest.raises(CyxError) as error:
        verify_receipt(forged)
    assert error.value.details["field"] == named
    with pytest.raises(CyxError, match=r"^signature: it is by the key"):
        verify_receipt(forged, key=paid[1])


async def test_a_forged_signature_or_digest_is_refused(paid: tuple[Json, str]) -> None:
    receipt, key = paid
    value = receipt[SIGNATURE]["value"]
    for signature in ("00" * 64, value[:-2], "zz", None):
        with pytest.raises(CyxError):
            verify_receipt({**receipt, SIGNATURE: {**receipt[SIGNATURE], "value": signature}}, key=key)
    changed = {**receipt, "seed": receipt["seed"] + 1}
    changed[DIGESTS] = {**receipt[DIGESTS], "seed": hashlib.sha256(canonical(changed["seed"])).hexdigest()}
    with pytest.raises(CyxError, match=r"^signature: "):
        verify_receipt(changed, key=key)
    noted = {**receipt, SIGNATURE: {**receipt[SIGNATURE], "note": "approved"}}
    for broken in ({}, {"signature": 1}, {**receipt, "payments": 3}, {**receipt, SIGNATURE: {}}, noted):
        with pytest.raises(CyxError):
            verify_receipt(broken, key=key)


async def test_files_are_checked_by_their_hashes(paid: tuple[Json, str], tmp_path: Path) -> None:
    receipt, key = paid
    with pytest.raises(CyxError, match=r"^files: model.safetensors is not here"):
        verify_receipt(receipt, key=key, files=tmp_path)
    (tmp_path / "model.safetensors").write_bytes(WEIGHTS + b"x")
    with pytest.raises(CyxError, match=r"^files: model.safetensors has the SHA-256"):
        verify_receipt(receipt, key=key, files=tmp_path)


def sealed_anew(receipt: Json) -> Json:
    mine = Ed25519PrivateKey.generate()
    rest = {name: value for name, value in receipt.items() if name not in (SIGNATURE, DIGESTS)}
    return sealed(rest, mine.public_key().public_bytes_raw().hex(), mine.sign)


@pytest.mark.parametrize("honest", [True, False])
async def test_a_file_that_its_run_did_not_come_to_is_told(tmp_path: Path, honest: bool) -> None:
    """Its node signed the one and the other."""
    executor = InlineExecutor() if honest else InlineExecutor(other_file)
    async with served(tmp_path) as house:
        actor = await admin(house)
        async with node(tmp_path / "one", local_link(house), executor, machine=ONE_CORE, name="one"):
            job = await prove(house, epochs=2)
            await until(house, job, JobState.COMPLETED, seconds=40)
        receipt = await house.core.api.receipts.of_job(actor, job.id)
        for file in receipt["files"]:
            data = b"".join([part async for part in house.blobs.read(file["sha256"])])
            (tmp_path / file["name"]).write_bytes(data)
    receipt = json.loads(json.dumps(receipt))
    verify_receipt(receipt)
    if honest:
        verify_receipt(receipt, files=tmp_path)
        return
    with pytest.raises(CyxError, match=r"^files: the weights are not those"):
        verify_receipt(receipt, files=tmp_path)


async def test_a_platform_can_not_sign_what_its_nodes_did_not(tmp_path: Path) -> None:
    """The receipt of a job that really ran, over two nodes, with what each of them signed."""
    async with served(tmp_path, "scheduler.node_heartbeat_timeout_ms=3000") as house:
        actor = await admin(house)
        async with node(tmp_path / "one", local_link(house), InlineExecutor(), machine=ONE_CORE, name="one") as one:
            job = await prove(house, epochs=60)
            while not (await house.core.jobs.checkpoints(actor, job.id, 0, 1)).items:
                await asyncio.sleep(0.01)
            async with node(tmp_path / "two", local_link(house), InlineExecutor(), machine=ONE_CORE, name="two"):
                await house.core.nodes.cordon(actor, one._identity.node_id, on=True)
                await until(house, job, JobState.COMPLETED, seconds=40)
        receipt = await house.core.api.receipts.of_job(actor, job.id)
    receipt = json.loads(json.dumps(receipt))
    assert len(receipt["proof"]["nodes"]) == 2
    verify_receipt(receipt)
    verify_receipt(sealed_anew(receipt))

    def refused(change: Callable[[Json], object], why: str) -> None:
        forged = copy.deepcopy(receipt)
        change(forged)
        with pytest.raises(CyxError, match=why):
            verify_receipt(sealed_anew(forged))

    other = receipt["proof"]["links"][0]["node_id"]
    refused(lambda it: it["proof"]["links"][0].update(weights="0" * 64), "does not follow")
    refused(lambda it: it["proof"]["links"][1].update(loss=0.5), "does not follow")
    refused(lambda it: it["proof"]["links"].pop(0), "does not follow")
    refused(lambda it: it["proof"].update(data_sha256="0" * 64), "does not follow")
    refused(lambda it: it["proof"]["definition"].update(epochs=1), "does not follow")
    refused(lambda it: it["proof"]["links"][-1].update(node_id=other), "did not sign the link")
    refused(lambda it: it["proof"]["links"][0].update(token="9"), "did not sign the link")
    refused(lambda it: it["proof"]["nodes"].clear(), "did not sign the link")
    refused(lambda it: it["proof"]["links"].pop(), "head")
    refused(
        lambda it: it["proof"].update(statement=it["proof"]["statement"].replace('"files"', '"f"')), "is not signed"
    )
    refused(lambda it: it["files"][0].update(sha256="0" * 64), "files")
    refused(lambda it: it.update(seed=it["seed"] + 1), "another job")
    refused(lambda it: it.update(node_public_key="11" * 32), "and the result is signed by")


def test_canonical_json_is_one_text_for_one_value() -> None:
    assert (
        canonical({"b": [1.0, 0.5, "é"], "a": {"y": None, "x": True}})
        == '{"a":{"x":true,"y":null},"b":[1,0.5,"é"]}'.encode()
    )
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical(float("nan"))
