"""Log-ins and sign-ups have a pace, the same at both doors: it slows guesses and shuts out nobody else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from cyxwiz.ext.v1 import client_pb2, client_pb2_grpc
from cyxwiz.transports import auth
from tests.central import central as grpc_central
from tests.integration.conftest import client
from tests.wiring import central as rest_central

PASSWORD = "alice-password"
Ask = Callable[..., Awaitable[tuple[str, dict[str, Any]]]]


@asynccontextmanager
async def by_rest(folder: Path) -> AsyncIterator[tuple[Ask, str]]:
    house = await rest_central(folder, rate_limit={"logins_per_minute": 2}, auth={"allow_signup": True})
    paths = {"Login": "/api/auth/login", "Refresh": "/api/auth/refresh", "CreateUser": "/api/users"}
    async with client(house, None) as made:

        async def ask(method: str, key: str = "", **body: str) -> tuple[str, dict[str, Any]]:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            response: httpx.Response = await made.post(paths[method], json=body, headers=headers)
            document = response.json()
            return document["error"]["code"] if "error" in document else "OK", document

        yield ask, house.admin
    await house.aclose()


@asynccontextmanager
async def by_grpc(folder: Path) -> AsyncIterator[tuple[Ask, str]]:
    flags = ("rate_limit.logins_per_minute=2", "auth.allow_signup=true")
    async with grpc_central(folder, *flags) as server, server.channel() as channel:
        actor = await server.core.accounts.authenticate(server.key)
        await server.core.api.accounts.create_user(actor, "alice", PASSWORD, actor.role)
        stub = client_pb2_grpc.ClientServiceStub(channel)

        async def ask(method: str, key: str = "", **body: str) -> tuple[str, dict[str, Any]]:
            metadata = (("authorization", f"Bearer {key}"),) if key else ()
            try:
                answer = await getattr(stub, method)(
                    client_pb2.Query(json=json.dumps(body).encode()), metadata=metadata
                )
            except grpc.aio.AioRpcError as error:
                trailer = dict(error.trailing_metadata() or ())
                return json.loads(next(iter(trailer.values())))["code"], {}
            return "OK", json.loads(answer.json)

        yield ask, server.key


@pytest.fixture(params=[by_rest, by_grpc], ids=["rest", "grpc"])
async def door(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Ask, str]]:
    async with request.param(tmp_path) as made:
        yield made


async def test_guesses_at_one_name_shut_out_nobody_else(door: tuple[Ask, str]) -> None:
    ask, _ = door
    guesses = [(await ask("Login", name="bob", password="guess"))[0] for _ in range(4)]
    assert guesses == ["UNAUTHENTICATED", "UNAUTHENTICATED", "EXHAUSTED", "EXHAUSTED"]
    code, tokens = await ask("Login", name="alice", password=PASSWORD)
    assert code == "OK"
    for _ in range(4):
        code, tokens = await ask("Refresh", refresh_token=tokens["refresh_token"])
        assert code == "OK", "a signed token is no guess"


async def test_guesses_at_many_names_have_a_pace_too(door: tuple[Ask, str]) -> None:
    ask, _ = door
    codes = [(await ask("Login", name=f"user{number}", password="guess"))[0] for number in range(21)]
    assert codes == ["UNAUTHENTICATED"] * 2 * auth.LOGIN_NAMES + ["EXHAUSTED"]


async def test_sign_ups_have_a_pace_and_admins_have_none(door: tuple[Ask, str]) -> None:
    ask, admin = door
    made = [(await ask("CreateUser", admin, name=f"made{number}", password=PASSWORD))[0] for number in range(3)]
    assert made == ["OK"] * 3
    signed = [(await ask("CreateUser", name=f"signed{number}", password=PASSWORD))[0] for number in range(3)]
    assert signed == ["OK", "OK", "EXHAUSTED"]
    assert (await ask("Login", name="alice", password=PASSWORD))[0] == "OK"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"name": {"a": 1}}', b"[" * 50_000])
async def test_what_is_no_log_in_is_refused_as_such(tmp_path: Path, body: bytes) -> None:
    async with grpc_central(tmp_path) as server, server.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client_pb2_grpc.ClientServiceStub(channel).Login(client_pb2.Query(json=body))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
