"""Who the REST door knows: tokens, keys, users."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from tests.integration.conftest import client, refused
from tests.wiring import Central, central


async def test_credentials(house: Central, anybody: httpx.AsyncClient) -> None:
    response = await anybody.get("/api/jobs")
    refused(response, "UNAUTHENTICATED")
    assert response.headers["www-authenticate"] == "Bearer"
    for value in ("Bearer rubbish", "Bearer cyx_rubbish", "Basic YTpi", "Bearer", "Bearer a.b.c"):
        refused(await anybody.get("/api/jobs", headers={"Authorization": value}), "UNAUTHENTICATED")
    refused(await anybody.get("/api/jobs?token=x"), "UNAUTHENTICATED")


async def test_an_expired_token_is_refused_and_may_still_refresh(tmp_path: Path) -> None:
    class Later:
        def __init__(self) -> None:
            self.by = timedelta()

        def now(self) -> datetime:
            return datetime(2030, 1, 1, tzinfo=UTC) + self.by

        def monotonic(self) -> float:
            return self.by.total_seconds()

        async def sleep(self, seconds: float) -> None:
            raise NotImplementedError

    clock = Later()
    house = await central(tmp_path, clock=clock)
    async with client(house, None) as made:
        login = await made.post("/api/auth/login", json={"name": "alice", "password": "alice-password"})
        pair = login.json()
        bearer = {"Authorization": f"Bearer {pair['access_token']}"}
        assert (await made.get("/api/auth/me", headers=bearer)).json()["name"] == "alice"
        clock.by = timedelta(hours=2)
        assert "expired" in refused(await made.get("/api/auth/me", headers=bearer), "UNAUTHENTICATED")["message"]
        again = await made.post("/api/auth/refresh", json={"refresh_token": pair["refresh_token"]}, headers=bearer)
        assert again.status_code == 200
        twice = await made.post("/api/auth/refresh", json={"refresh_token": pair["refresh_token"]})
        refused(twice, "UNAUTHENTICATED")
    await house.aclose()


async def test_log_out_voids_tokens(anybody: httpx.AsyncClient) -> None:
    refused(await anybody.post("/api/auth/login", json={"name": "alice", "password": "wrong"}), "UNAUTHENTICATED")
    pair = (await anybody.post("/api/auth/login", json={"name": "alice", "password": "alice-password"})).json()
    bearer = {"Authorization": f"Bearer {pair['access_token']}"}
    gone = await anybody.post("/api/auth/logout", json={"refresh_token": pair["refresh_token"]}, headers=bearer)
    assert gone.json() == {"logged_out": True}
    refused(await anybody.get("/api/auth/me", headers=bearer), "UNAUTHENTICATED")


async def test_users_and_keys(
    admin: httpx.AsyncClient, alice: httpx.AsyncClient, bob: httpx.AsyncClient, anybody: httpx.AsyncClient
) -> None:
    made = await admin.post("/api/users", json={"name": "carol", "password": "carol-password", "role": "user"})
    assert (made.status_code, made.json()["role"]) == (201, "user")
    refused(await admin.post("/api/users", json={"name": "carol"}), "EXISTS")
    refused(await admin.post("/api/users", json={"name": "dave", "password": "short"}), "INVALID")
    refused(await alice.post("/api/users", json={"name": "dave"}), "FORBIDDEN")
    refused(await anybody.post("/api/users", json={"name": "dave", "password": "dave-password"}), "FORBIDDEN")
    refused(await alice.get("/api/users"), "FORBIDDEN")
    assert (await admin.get("/api/users?limit=2")).json()["total_pages"] == 2
    disabled = await admin.post("/api/users/carol/disable")
    assert disabled.json()["disabled"] is True
    refused(await admin.post("/api/users/nobody/disable"), "NOT_FOUND")

    key = (await alice.post("/api/keys", json={"name": "laptop"})).json()
    assert set(key) >= {"id", "key"}
    assert "key" not in (await alice.get("/api/keys")).json()["keys"][0]
    refused(await bob.delete(f"/api/keys/{key['id']}"), "NOT_FOUND")
    assert (await alice.delete(f"/api/keys/{key['id']}")).json()["revoked_at"]
    bearer = {"Authorization": f"Bearer {key['key']}"}
    refused(await anybody.get("/api/auth/me", headers=bearer), "UNAUTHENTICATED")


async def test_a_nodes_token_opens_nothing_of_its_owners(house: Central, anybody: httpx.AsyncClient) -> None:
    bearer = {"Authorization": f"Bearer {house.accounts.node_session(await house.node())}"}
    for path in ("/api/jobs", "/api/keys", "/api/auth/me", "/api/nodes"):
        refused(await anybody.get(path, headers=bearer), "FORBIDDEN")
    refused(await anybody.post("/api/tickets", headers=bearer), "FORBIDDEN")
