"""`ClientService`: what REST refuses as no document, it refuses alike, at every one of its methods."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from cyxwiz import wire
from cyxwiz.ext.v1 import client_pb2, client_pb2_grpc
from cyxwiz.transports.grpc.client_api import SERVICE
from tests.central import Central, central

UNKNOWN = str(uuid.uuid4())
RUBBISH = [
    b"{",
    b"[]",
    b"null",
    b'{"name": NaN}',
    b'{"name": "\xff"}',
    b'{"name": "\\ud800"}',
    b'{"name": "a\\u0000b"}',
]


class Asked:
    """The code word that each call ends with."""

    def __init__(self, server: Central, channel: grpc.aio.Channel) -> None:
        self._stub = client_pb2_grpc.ClientServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {server.key}"),)

    async def __call__(self, method: str, ident: str = "", data: bytes = b"") -> str:
        call = getattr(self._stub, method)(client_pb2.Query(id=ident, json=data), metadata=self._metadata)
        try:
            if SERVICE.methods_by_name[method].server_streaming:
                async for _ in call:
                    return "OK"
            else:
                await call
        except grpc.aio.AioRpcError as error:
            trailer = dict(error.trailing_metadata() or ())
            return str(json.loads(trailer[wire.ERROR_METADATA])["code"])
        return "OK"


@pytest.fixture
async def ask(tmp_path: Path) -> AsyncIterator[Asked]:
    flags = ("rate_limit.enabled=false",)
    async with central(tmp_path, *flags, charged=True) as server, server.channel() as channel:
        yield Asked(server, channel)


async def test_every_method_refuses_a_field_that_it_does_not_know(ask: Asked) -> None:
    answers = {each.name: await ask(each.name, UNKNOWN, b'{"bogus": 1}') for each in SERVICE.methods}
    assert {name: code for name, code in answers.items() if code != "INVALID"} == {}


@pytest.mark.parametrize("data", RUBBISH, ids=range(len(RUBBISH)))
async def test_rubbish_is_no_query(ask: Asked, data: bytes) -> None:
    for method in ("CreateKey", "CreateUser", "Login", "WhoAmI", "SubmitJob"):
        assert await ask(method, data=data) == "INVALID", method


async def test_a_nul_is_no_part_of_an_id(ask: Asked) -> None:
    assert await ask("DisableUser", "a\0b") == "INVALID"
