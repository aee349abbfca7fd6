"""Reservations by REST: the same service, as documents."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

from tests.integration.conftest import refused
from tests.wiring import JOB, Central

PATH = "/api/reservations"


async def test_a_reservation_from_its_beginning_to_its_end(
    house: Central, alice: httpx.AsyncClient, bob: httpx.AsyncClient
) -> None:
    node_id = await house.node()
    asked = {"node_id": node_id, "duration_minutes": 10, "job": JOB}
    answer = await alice.post(PATH, json=asked, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["status"], made["charged"], made["escrow_account"]) == ("pending", False, None)
    assert made["p2p"]["auth_token"]
    again = (await alice.post(PATH, json=asked, headers={"Idempotency-Key": "k"})).json()
    assert again["id"] == made["id"]
    assert (await alice.get(f"/api/nodes/{node_id}")).json()["reserved"] is True
    job = (await alice.get(f"/api/jobs/{made['id']}")).json()
    assert (job["reservation_id"], job["name"]) == (made["id"], JOB["name"])
    path = f"{PATH}/{made['id']}"
    for _ in range(2):
        extended = await alice.post(f"{path}/extend", json={"additional_minutes": 5}, headers={"Idempotency-Key": "x"})
        longer = extended.json()
    more = await alice.post(f"{path}/extend", json={"additional_minutes": 6}, headers={"Idempotency-Key": "x"})
    refused(more, "CONFLICT")
    assert (longer["duration_minutes"], "p2p" in longer) == (15, False)
    assert longer["escrow_units"] == longer["price_per_hour_units"] * 15 // 60
    listed = (await alice.get(PATH, params={"active": "true"})).json()
    assert ([each["id"] for each in listed["reservations"]], listed["total"]) == ([made["id"]], 1)
    assert (await bob.get(PATH)).json()["total"] == 0
    refused(await bob.get(path), "FORBIDDEN")
    refused(await bob.post(f"{path}/release"), "FORBIDDEN")
    refused(await bob.post(PATH, json=asked), "CONFLICT")
    ended = (await alice.post(f"{path}/release", json={"reason": "enough"})).json()
    assert (ended["status"], ended["reason"]) == ("cancelled", "enough")
    assert ended["paid_units"] + ended["refunded_units"] == longer["escrow_units"]
    assert ended["paid_units"] == ended["price_per_hour_units"] // 60, "a begun minute"
    assert (ended["payment_tx_hash"], ended["charged"], ended["settled"]) == (None, False, True)
    refused(await alice.post(f"{path}/extend", json={"additional_minutes": 5}), "CONFLICT")
    assert (await alice.get(PATH, params={"active": "true"})).json()["total"] == 0
    assert (await alice.get(f"/api/jobs/{made['id']}")).json()["status"] == "cancelled"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"duration_minutes": 9}, "INVALID"),
        ({"duration_minutes": 1441}, "INVALID"),
        ({"duration_minutes": "60"}, "INVALID"),
        ({"node_id": "rig"}, "INVALID"),
        ({"node_id": "5f0c6e5e-8f1b-4f6e-9d53-0d8a3a6f1c11"}, "NOT_FOUND"),
        ({"bogus": 1}, "INVALID"),
        ({"job": {"epochs": 0}}, "INVALID"),
        ({"job": {**JOB, "resources": {"device": "cuda"}}}, "CONFLICT"),
    ],
    ids=str,
)
async def test_what_is_refused(house: Central, alice: httpx.AsyncClient, changes: dict[str, Any], code: str) -> None:
    node_id = await house.node()
    refused(await alice.post(PATH, json={"node_id": node_id, "duration_minutes": 10, **changes}), code)
    assert (await alice.get(PATH)).json()["total"] == 0


async def test_unknown_and_malformed_ids(house: Central, alice: httpx.AsyncClient) -> None:
    for ident, code in (("x", "INVALID"), (str(uuid.uuid4()), "NOT_FOUND")):
        refused(await alice.get(f"{PATH}/{ident}"), code)
        refused(await alice.post(f"{PATH}/{ident}/release"), code)
        refused(await alice.post(f"{PATH}/{ident}/extend", json={"additional_minutes": 5}), code)
