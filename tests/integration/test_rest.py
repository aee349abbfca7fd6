"""The REST door: what it does, and what it refuses, always with the one error body."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import httpx
import pytest

from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.services.jobs import Jobs
from cyxwiz.transports.rest.request import STRANGERS_BYTES
from cyxwiz.transports.rest.routes_page import ASSETS
from cyxwiz.transports.rest.server import RestServer
from tests.contract.conftest import HandClock
from tests.integration.conftest import client, refused, submit
from tests.wiring import JOB, Central, central, progress

UNKNOWN = "00000000-0000-4000-8000-00000000dead"


async def run_to_end(house: Central, job_id: str, joules: float | None = None) -> None:
    lease = await house.lease(job_id, await house.node())
    if isinstance(house.clock, HandClock):
        house.clock.advance(2.5)  # what it says that it took
    points = [progress(epoch, loss=1 / epoch, accuracy=1 - 0.5 / epoch) for epoch in range(1, 5)]
    lines = pb.Logs(lines=[pb.LogLine(level="info", source="job", message=f"line {n}") for n in range(3)])
    finished = await house.finished(b"weights" * 100, loss=0.25, accuracy=0.9)
    if joules is not None:
        finished.energy_joules = joules
    await house.report(lease, lines, *points, finished)


# the server itself


async def test_health_has_exactly_three_fields_and_asks_nobody(anybody: httpx.AsyncClient) -> None:
    response = await anybody.get("/api/health", headers={"Authorization": "Bearer rubbish"})
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "version": "0.1.0", "service": "cyxwiz-central-server"}
    for header in ("content-security-policy", "x-content-type-options", "x-frame-options", "x-request-id"):
        assert header in response.headers


async def test_ready_says_whether_it_can_serve(house: Central, anybody: httpx.AsyncClient) -> None:
    assert (await anybody.get("/api/ready")).json() == {"status": "ready"}
    house.ready = False
    assert refused(await anybody.get("/api/ready"), "UNAVAILABLE")["retryable"] is True
    house.ready = True
    await house.store.aclose()
    refused(await anybody.get("/api/ready"), "UNAVAILABLE")
    assert (await anybody.get("/api/health")).status_code == 200


@pytest.mark.parametrize("path", ["/api/stats", "/metrics"])
async def test_figures_are_free_on_this_machine_only(house: Central, anybody: httpx.AsyncClient, path: str) -> None:
    assert (await anybody.get(path)).status_code == 200
    refused(await anybody.get(path, headers={"X-Forwarded-For": "203.0.113.9"}), "UNAUTHENTICATED")
    refused(await anybody.get(path, headers={"Authorization": "Bearer rubbish"}), "UNAUTHENTICATED")
    transport = httpx.ASGITransport(house.app, client=("203.0.113.9", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as elsewhere:
        refused(await elsewhere.get(path), "UNAUTHENTICATED")
        answer = await elsewhere.get(path, headers={"Authorization": f"Bearer {house.bob}"})
        assert answer.status_code == 200


async def test_stats_count_the_store(house: Central, alice: httpx.AsyncClient) -> None:
    job = await submit(alice)
    await submit(alice)
    await run_to_end(house, job["id"])
    stats = (await alice.get("/api/stats")).json()
    assert stats["total_jobs"] == 2
    assert stats["running_jobs"] == stats["assigned_jobs"] == stats["paused_jobs"] == 0
    assert stats["pending_jobs"] == stats["completed_jobs"] == stats["online_nodes"] == stats["total_nodes"] == 1
    text = (await alice.get("/metrics")).text
    assert 'cyxwiz_jobs{state="completed"} 1.0' in text
    assert "cyxwiz_nodes_online 1.0" in text
    assert 'cyxwiz_http_request_seconds_count{method="POST",route="/api/jobs",status="201"} 2.0' in text


async def test_a_paused_job_is_not_counted_as_running(alice: httpx.AsyncClient) -> None:
    job = await submit(alice)
    assert (await alice.post(f"/api/jobs/{job['id']}/pause")).json()["status"] == "paused"
    stats = (await alice.get("/api/stats")).json()
    assert (stats["paused_jobs"], stats["running_jobs"], stats["pending_jobs"]) == (1, 0, 0)


async def test_the_page_and_the_docs_need_nothing_from_elsewhere(anybody: httpx.AsyncClient) -> None:
    for path in ("/", "/docs"):
        response = await anybody.get(path)
        assert response.headers["content-type"].startswith("text/html")
        assert "http://" not in response.text.replace("http://www.w3.org", "")
        assert "https://" not in response.text
        again = await anybody.get(path, headers={"If-None-Match": response.headers["etag"]})
        assert again.status_code == 304
    for asset in ASSETS:
        answer = await anybody.get(f"/static/{asset}")
        assert answer.status_code == 200
        if asset.endswith(".js"):
            assert "javascript" in answer.headers["content-type"]
            assert "innerHTML" not in answer.text
            assert "localStorage" not in answer.text
    for path in ("/static/page.html", "/static/../app.py", "/static/%2e%2e/app.py"):
        refused(await anybody.get(path), "NOT_FOUND")


# routes, hosts, origins


async def test_unknown_routes_and_verbs(anybody: httpx.AsyncClient) -> None:
    refused(await anybody.get("/api/nothing"), "NOT_FOUND")
    refused(await anybody.get("/api/jobs/"), "NOT_FOUND")
    refused(await anybody.post(f"/api/jobs/{UNKNOWN}/explode"), "NOT_FOUND")
    response = await anybody.put("/api/jobs", json={})
    refused(response, "INVALID", 405)
    assert "allow" in response.headers


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "", "[::1", "a:b"]
)
async def test_a_foreign_host_is_refused(anybody: httpx.AsyncClient, host: str) -> None:
    refused(await anybody.get("/api/health", headers={"Host": host}), "FORBIDDEN")


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:9999", "[::1]:8080", "LOCALHOST"])
async def test_every_name_of_this_machine_is_served(anybody: httpx.AsyncClient, host: str) -> None:
    assert (await anybody.get("/api/health", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:8081", "http://127.0.0.1.evil.example:8080", "", "x"]
)
async def test_a_foreign_origin_changes_nothing(alice: httpx.AsyncClient, origin: str) -> None:
    refused(await alice.post("/api/jobs", json=JOB, headers={"Origin": origin}), "FORBIDDEN")
    assert (await alice.get("/api/jobs")).json()["total"] == 0


async def test_the_own_origin_and_the_public_one_may(tmp_path: Path, alice: httpx.AsyncClient) -> None:
    own = {"Origin": "http://127.0.0.1:8080"}
    assert (await alice.post("/api/jobs", json=JOB, headers=own)).status_code == 201
    house = await central(tmp_path / "public", server={"public_url": "https://cyx.example"})
    async with client(house, house.alice) as named:
        public = {"Origin": "https://cyx.example", "Host": "cyx.example"}
        assert (await named.post("/api/jobs", json=JOB, headers=public)).status_code == 201
        refused(await named.post("/api/jobs", json=JOB, headers={**public, "Origin": "http://x.example"}), "FORBIDDEN")
    await house.aclose()


# jobs


async def test_a_job_from_submit_to_result(house: Central, alice: httpx.AsyncClient) -> None:
    job = await submit(alice)
    assert job["status"] == "pending"
    path = f"/api/jobs/{job['id']}"
    for part in ("result", "receipt"):
        refused(await alice.get(f"{path}/{part}"), "CONFLICT")
    refused(await alice.delete(path), "CONFLICT")
    assert (await alice.get(f"{path}/explain")).json()["status"] == "pending"
    await run_to_end(house, job["id"])
    done = (await alice.get(path)).json()
    assert (done["status"], done["progress"], done["attempts"]) == ("completed", 1.0, 1)
    curve = (await alice.get(f"{path}/metrics?after=1&limit=2")).json()
    assert ([point["epoch"] for point in curve["metrics"]], curve["next_after"]) == ([2, 3], 3)
    logs = (await alice.get(f"{path}/logs")).json()
    assert [line["message"] for line in logs["logs"]] == ["line 0", "line 1", "line 2"]
    result = (await alice.get(f"{path}/result")).json()
    weights = await alice.get(f"/api/blobs/{result['files'][0]['sha256']}")
    assert f"sha256:{hashlib.sha256(weights.content).hexdigest()}" == result["model_weights_hash"]
    assert (await alice.get(f"{path}/receipt")).json()["charged"] is False
    refused(await alice.post(f"{path}/cancel"), "CONFLICT")
    assert (await alice.delete(path)).json() == {"id": job["id"], "deleted": True}
    refused(await alice.get(path), "NOT_FOUND")


@pytest.mark.parametrize(("said", "told"), [(None, None), (0.0, 0.0), (12.5, 12.5), (-1.0, None), (math.nan, None)])
async def test_a_result_tells_its_energy(
    house: Central, alice: httpx.AsyncClient, said: float | None, told: float | None
) -> None:
    job = await submit(alice)
    await run_to_end(house, job["id"], said)
    assert (await alice.get(f"/api/jobs/{job['id']}/result")).json()["energy_joules"] == told


async def test_an_idempotency_key_gets_the_first_answer_again(alice: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "one"}
    first = await alice.post("/api/jobs", json=JOB, headers=headers)
    again = await alice.post("/api/jobs", json=JOB, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    refused(await alice.post("/api/jobs", json={**JOB, "epochs": 5}, headers=headers), "CONFLICT")
    refused(await alice.post("/api/jobs", json=JOB, headers={"Idempotency-Key": "x" * 300}), "INVALID")


async def test_cancel_takes_a_reason_or_nothing(alice: httpx.AsyncClient) -> None:
    first, second = await submit(alice), await submit(alice)
    one = await alice.post(f"/api/jobs/{first['id']}/cancel", json={"reason": "enough"})
    assert [one.json()[name] for name in ("status", "reason", "error")] == ["cancelled", "enough", None]
    two = (await alice.post(f"/api/jobs/{second['id']}/cancel")).json()
    assert [two[name] for name in ("status", "reason", "error")] == ["cancelled", "cancelled by its owner", None]
    assert (await alice.get(f"/api/jobs/{first['id']}/explain")).json()["reason"] == "enough"


async def test_a_plan_stores_nothing(house: Central, alice: httpx.AsyncClient) -> None:
    await house.node()
    plan = (await alice.post("/api/jobs/plan", json=JOB)).json()
    assert plan["feasible_nodes"] == 1
    assert (await alice.get("/api/jobs")).json()["total"] == 0


async def test_lists_are_paged_and_filtered(alice: httpx.AsyncClient) -> None:
    names = [(await submit(alice, name=f"job {n}"))["name"] for n in range(5)]
    first = (await alice.get("/api/jobs?limit=2")).json()
    assert (first["total"], first["page"], first["limit"], first["total_pages"]) == (5, 1, 2, 3)
    seen = [job["name"] for job in first["jobs"]]
    while first["next_cursor"]:
        first = (await alice.get(f"/api/jobs?limit=2&cursor={first['next_cursor']}")).json()  # as it is
        seen += [job["name"] for job in first["jobs"]]
    assert seen == names[::-1]
    assert (await alice.get("/api/jobs?name=job%203")).json()["total"] == 1
    assert (await alice.get("/api/jobs?status=running")).json()["jobs"] == []


async def test_every_list_is_paged_and_has_a_filter(
    house: Central, alice: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    await house.node()
    job = (await submit(alice))["id"]
    for who, path, plural, counts in (
        (alice, f"/api/jobs/{job}/checkpoints", "checkpoints", {"": 0}),
        (alice, "/api/wallet/links", "wallets", {"": 0}),
        (alice, "/api/receipts", "receipts", {"": 0, "status=completed": 0}),
        (alice, "/api/keys", "keys", {"": 1, "revoked=false": 1, "revoked=true": 0}),
        (admin, "/api/users", "users", {"role=admin": 1, "role=operator": 1}),
        (admin, "/api/node-tokens", "tokens", {"usable=true": 0, "usable=false": 0}),
        (alice, "/api/nodes", "nodes", {"": 1, "status=online": 1, "status=busy": 0, "status=draining": 0}),
    ):
        for query, count in counts.items():
            page = (await who.get(f"{path}?{query}")).json()
            assert len(page[plural]) == page["total"] == count, f"{path}?{query}"
            assert (page["page"], page["limit"], page["total_pages"]) == (1, 20, min(1, count))
        refused(await who.get(f"{path}?limit=101"), "INVALID")


async def test_others_jobs_are_not_shown(
    alice: httpx.AsyncClient, bob: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    path = f"/api/jobs/{(await submit(alice))['id']}"
    for part in ("", "/explain", "/metrics", "/logs", "/result", "/receipt", "/events"):
        refused(await bob.get(path + part), "FORBIDDEN")
        refused(await bob.get(f"/api/jobs/nonsense{part}"), "INVALID")
        refused(await bob.get(f"/api/jobs/{UNKNOWN}{part}"), "NOT_FOUND")
    refused(await bob.post(f"{path}/cancel"), "FORBIDDEN")
    refused(await bob.delete(path), "FORBIDDEN")
    assert (await bob.get("/api/jobs")).json()["total"] == 0
    assert (await admin.get(path)).status_code == 200


BAD_JOBS: list[tuple[dict[str, Any], str]] = [
    ({"epochs": -1}, "epochs"),
    ({"epochs": 0}, "epochs"),
    ({"epochs": "3"}, "epochs"),
    ({"epochs": 1.5}, "epochs"),
    ({"epochs": True}, "epochs"),
    ({"batch_size": 0}, "batch_size"),
    ({"resources": {"device": "abacus"}}, "resources.device"),
    ({"resources": {"ram": "-1GB"}}, "resources.ram"),
    ({"resources": {"max_duration": "soon"}}, "resources.max_duration"),
    ({"seed": 2**70}, "seed"),
    ({"colour": "red"}, "colour"),
    ({"model": {"layers": [], "colour": 1}}, "model.colour"),
    ({"model": {"graph": 1}}, "model.graph"),
    ({"priority": "urgent"}, "priority"),
    ({"name": "x" * 201}, "name"),
    ({"name": None}, "name"),
    ({"dataset": ""}, "dataset"),
]


@pytest.mark.parametrize(("changes", "field"), BAD_JOBS)
async def test_a_bad_job_is_refused_by_field(alice: httpx.AsyncClient, changes: dict[str, Any], field: str) -> None:
    error = refused(await alice.post("/api/jobs", json={**JOB, **changes}), "INVALID")
    assert error["details"]["field"] == field
    assert field in error["message"]
    refused(await alice.post("/api/jobs/plan", json={**JOB, **changes}), "INVALID")


RAW_BODIES = [
    b"",
    b"{",
    b"[]",
    b'"text"',
    b"null",
    b'{"epochs": NaN}',
    b'{"epochs": -Infinity}',
    b'{"epochs": ' + b"9" * 10_000 + b"}",
    b'{"name": "\xff\xfe"}',
    b'{"name": "\\ud800"}',
    b'{"name": "a\\u0000b"}',
    b"\xef\xbb\xbf{}",
    b'{"model": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    b'{"model": ' + b'{"a":' * 200_000 + b"1" + b"}" * 200_000 + b"}",
]


@pytest.mark.parametrize("body", RAW_BODIES, ids=range(len(RAW_BODIES)))
@pytest.mark.parametrize("path", ["/api/jobs", "/api/jobs/plan", "/api/auth/login", "/api/users"])
async def test_rubbish_is_no_body(admin: httpx.AsyncClient, path: str, body: bytes) -> None:
    refused(await admin.post(path, content=body, headers={"Content-Type": "application/json"}), "INVALID")


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "x"])
async def test_json_routes_take_json_only(alice: httpx.AsyncClient, media: str) -> None:
    content = json.dumps(JOB).encode()
    error = refused(await alice.post("/api/jobs", content=content, headers={"Content-Type": media}), "INVALID")
    assert error["details"]["field"] == "Content-Type"
    named = {"Content-Type": "application/json; charset=utf-8"}
    assert (await alice.post("/api/jobs", content=content, headers=named)).status_code == 201


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "page=x",
        "limit=0",
        "limit=101",
        "limit=1e3",
        "status=sleeping",
        "type=x",
        "colour=red",
        "page=1&page=2",
        "cursor=x",
        "cursor=2030-01-01~x",
        "cursor=%00",
        "name=" + "x" * 201,
        "page=99999999999999999999",
    ],
)
async def test_a_bad_query_is_refused_by_name(alice: httpx.AsyncClient, query: str) -> None:
    error = refused(await alice.get(f"/api/jobs?{query}"), "INVALID")
    assert query.partition("=")[0] in error["message"]


async def test_ids_in_a_query_are_checked(alice: httpx.AsyncClient) -> None:
    refused(await alice.get("/api/jobs?node_id=x"), "INVALID")
    refused(await alice.get("/api/jobs?user_id=x"), "INVALID")
    refused(await alice.get(f"/api/jobs?user_id={UNKNOWN}"), "FORBIDDEN")


async def test_unknown_arguments_are_refused_where_none_belong(alice: httpx.AsyncClient) -> None:
    path = f"/api/jobs/{(await submit(alice))['id']}"
    for url in (path, f"{path}/explain", f"{path}/result", "/api/health", "/api/stats", "/api/auth/me"):
        assert "colour" in refused(await alice.get(f"{url}?colour=red"), "INVALID")["message"]
    refused(await alice.post(f"{path}/cancel?colour=red"), "INVALID")
    refused(await alice.post(f"{path}/cancel", json={"colour": "red"}), "INVALID")
    refused(await alice.post("/api/tickets", json={"colour": "red"}), "INVALID")
    refused(await alice.request("DELETE", path, json={"force": True}), "INVALID")
    for query in ("after=-1", "after=x", "limit=0", f"after={10**30}"):
        refused(await alice.get(f"{path}/metrics?{query}"), "INVALID")


async def test_a_body_past_the_bound_is_refused(tmp_path: Path) -> None:
    house = await central(tmp_path, server={"max_request_bytes": 2000})
    async with client(house, house.alice) as made:
        refused(await made.post("/api/jobs", json={**JOB, "labels": {"a": "x" * 3000}}), "INVALID")

        async def drip() -> Any:
            for _ in range(10):
                yield b" " * 1000

        refused(await made.post("/api/jobs", content=drip(), headers={"Content-Type": "application/json"}), "INVALID")
        assert (await made.post("/api/jobs", json=JOB)).status_code == 201
    await house.aclose()


@pytest.mark.parametrize("path", ["/api/auth/login", "/api/auth/refresh", "/api/auth/wallet/login", "/api/users"])
async def test_a_stranger_sends_little(tmp_path: Path, path: str) -> None:
    """A body is kept until all of it is there, for a minute: a few connections held the memory of many requests."""
    house = await central(tmp_path, auth={"allow_signup": True})
    async with client(house, None) as anybody:
        answer = await anybody.post(path, json={"name": "x" * STRANGERS_BYTES})
        assert refused(answer, "INVALID")["details"] == {"limit": STRANGERS_BYTES}
    await house.aclose()


async def test_a_hundred_megabytes_over_a_socket(house: Central, served: RestServer) -> None:
    def send() -> int:
        return httpx.post(
            f"{served.url}/api/jobs",
            content=b"x" * 100_000_000,
            headers={"Authorization": f"Bearer {house.alice}", "Content-Type": "application/json"},
        ).status_code

    assert await asyncio.to_thread(send) == 400
    assert await asyncio.to_thread(lambda: httpx.get(f"{served.url}/api/health").status_code) == 200


async def test_what_nobody_foresaw_is_internal_with_an_id(
    alice: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr(Jobs, "get", broken)
    response = await alice.get(f"/api/jobs/{UNKNOWN}", headers={"X-Request-ID": "mine-1"})
    error = refused(response, "INTERNAL")
    assert error["request_id"] == "mine-1"
    assert "hunter2" not in response.text
    assert error["details"]["id"] in caplog.text


# budgets


async def test_budgets(house: Central, alice: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
    refused(await alice.post("/api/users/alice/budget", json={"amount": "1"}), "FORBIDDEN")
    refused(await admin.post("/api/users/alice/budget", json={"amount": 1}), "INVALID")
    assert (await admin.post("/api/users/alice/budget", json={"amount": "0.001"})).json()["left"] == "0.001"
    refused(await alice.post("/api/jobs", json=JOB), "FUNDS")
    seen = (await alice.get("/api/users/alice/budget")).json()
    assert (seen["budget"], seen["reserved"], seen["spent"]) == ("0.001", "0", "0")
    assert (seen["budget_units"], seen["left_units"], seen["spent_units"]) == (10**6, 10**6, 0)
    assert (await admin.post("/api/users/alice/budget", json={"amount": "none"})).json()["left"] is None
    assert (await alice.post("/api/jobs", json=JOB)).status_code == 201


# nodes


async def test_nodes(house: Central, alice: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
    node_id = await house.node("rig")
    assert (await alice.get("/api/nodes")).json()["nodes"][0]["name"] == "rig"
    assert (await alice.get(f"/api/nodes/{node_id}")).json()["status"] == "online"
    assert (await alice.get(f"/api/nodes/{node_id}/metrics")).json()["count"] == 0
    refused(await alice.post(f"/api/nodes/{node_id}/drain"), "FORBIDDEN")
    assert (await admin.post(f"/api/nodes/{node_id}/drain")).json()["status"] == "draining"
    assert (await admin.post(f"/api/nodes/{node_id}/resume")).json()["status"] == "online"
    assert (await admin.post(f"/api/nodes/{node_id}/ban", json={"seconds": 60})).json()["status"] == "banned"
    refused(await admin.post(f"/api/nodes/{node_id}/ban", json={"seconds": -1}), "INVALID")
    refused(await alice.post(f"/api/nodes/{node_id}/unban"), "FORBIDDEN")
    unbanned = (await admin.post(f"/api/nodes/{node_id}/unban")).json()
    assert (unbanned["status"], unbanned["tier"], unbanned["reputation"]) == ("offline", "probation", 0.25)
    refused(await alice.post(f"/api/nodes/{node_id}/complaints", json={"job_id": UNKNOWN}), "INVALID")
    refused(await alice.post(f"/api/nodes/{node_id}/complaints", json={"job_id": UNKNOWN, "reason": "x"}), "NOT_FOUND")
    account = (await alice.get(f"/api/nodes/{node_id}")).json()["reputation_account"]
    assert [event["kind"] for event in account["events"]] == ["unban", "ban"]
    await admin.post(f"/api/nodes/{node_id}/ban")
    refused(await admin.post(f"/api/nodes/{node_id}/ban", json={"seconds": "60"}), "INVALID")
    for part in ("", "/metrics"):
        refused(await alice.get(f"/api/nodes/x{part}"), "INVALID")
        refused(await alice.get(f"/api/nodes/{UNKNOWN}{part}"), "NOT_FOUND")
    refused(await alice.get(f"/api/nodes/{node_id}/metrics?start=yesterday"), "INVALID")
    refused(await alice.get("/api/nodes?status=asleep"), "INVALID")


async def test_node_tokens(alice: httpx.AsyncClient, bob: httpx.AsyncClient) -> None:
    made = await alice.post("/api/node-tokens", json={"uses": 2, "expires_seconds": 60})
    assert made.status_code == 201
    token = made.json()
    assert token["token"].startswith("cyxjoin_")
    assert (await alice.post("/api/node-tokens")).json()["uses_left"] is None
    listed = (await alice.get("/api/node-tokens")).json()
    assert listed["total"] == 2
    assert all("token" not in each for each in listed["tokens"])
    refused(await bob.post("/api/node-tokens"), "FORBIDDEN")
    refused(await bob.delete(f"/api/node-tokens/{token['id']}"), "NOT_FOUND")
    assert (await alice.delete(f"/api/node-tokens/{token['id']}")).json()["revoked_at"]
    for body in ({"uses": 0}, {"uses": "2"}, {"uses": True}, {"expires_seconds": 0}, {"x": 1}):
        refused(await alice.post("/api/node-tokens", json=body), "INVALID")


# figures that no store can hold


async def test_figures_beyond_64_bits(alice: httpx.AsyncClient) -> None:
    costly = {"device": "cuda", "ram": 2**62, "max_duration": "366d"}
    plan = (await alice.post("/api/jobs/plan", json={**JOB, "resources": costly})).json()
    job = await submit(alice, resources=costly)
    assert job["estimated_cost"] == plan["estimated_cost"] == "9223372036.854775807"
    for name in ("logs", "metrics"):
        error = refused(await alice.get(f"/api/jobs/{job['id']}/{name}?after={2**70}"), "INVALID")
        assert error["details"]["field"] == "after"
        assert (await alice.get(f"/api/jobs/{job['id']}/{name}?after={2**63 - 1}")).status_code == 200
