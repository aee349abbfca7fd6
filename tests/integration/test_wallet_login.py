"""Sign-in by a wallet: a signed nonce, used once."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from cyxwiz.client.keypair import Keypair
from cyxwiz.domain.base58 import decode, encode, parse_wallet
from cyxwiz.domain.errors import CyxError
from tests.contract.conftest import HandClock
from tests.integration.conftest import client, refused
from tests.wiring import central

PAIR, OTHER = Keypair(b"\1" * 32), Keypair(b"\2" * 32)
Json = dict[str, Any]


async def proof(http: httpx.AsyncClient, pair: Keypair = PAIR, purpose: str = "login") -> Json:
    asked = await http.post("/api/auth/wallet/nonce", json={"wallet_address": pair.address, "purpose": purpose})
    assert asked.status_code == 200, asked.text
    signature = base64.b64encode(pair.sign(asked.json()["message"].encode())).decode()
    return {"wallet_address": pair.address, "nonce": asked.json()["nonce"], "signature": signature}


async def link(http: httpx.AsyncClient, pair: Keypair = PAIR) -> httpx.Response:
    return await http.post("/api/wallet/links", json=await proof(http, pair, "link"))


async def test_a_linked_wallet_signs_its_user_in(anybody: httpx.AsyncClient, alice: httpx.AsyncClient) -> None:
    assert (await link(alice)).status_code == 201
    assert (await link(alice)).status_code == 201
    tokens = (await anybody.post("/api/auth/wallet/login", json=await proof(anybody))).json()
    assert tokens["user"]["name"] == "alice"
    who = await anybody.get("/api/auth/me", headers={"Authorization": f"Bearer {tokens['access_token']}"})
    assert who.json()["name"] == "alice"
    assert [each["wallet_address"] for each in (await alice.get("/api/wallet/links")).json()["wallets"]] == [
        PAIR.address
    ]


async def test_a_wallet_is_one_users(alice: httpx.AsyncClient, bob: httpx.AsyncClient) -> None:
    await link(alice)
    refused(await link(bob), "EXISTS")
    refused(await bob.delete(f"/api/wallet/links/{PAIR.address}"), "NOT_FOUND")
    assert (await alice.delete(f"/api/wallet/links/{PAIR.address}")).json()["unlinked"] is True
    assert (await link(bob)).status_code == 201
    refused(await bob.delete(f"/api/wallet/links/{PAIR.address}"), "FORBIDDEN")  # it has no password


async def test_what_proves_nothing_is_refused(anybody: httpx.AsyncClient, alice: httpx.AsyncClient) -> None:
    await link(alice)
    good = await proof(anybody)
    forged = [
        {**good, "signature": (await proof(anybody, OTHER))["signature"]},
        {**good, "nonce": (await proof(anybody, OTHER))["nonce"]},
        {**good, "nonce": (await proof(anybody, PAIR, "link"))["nonce"]},
        {**good, "nonce": good["nonce"].replace(".", ".9", 1)},
        {**good, "nonce": "nonsense"},
        {**good, "wallet_address": OTHER.address},
        {**good, "signature": "00" * 64},
    ]
    for each in forged:
        refused(await anybody.post("/api/auth/wallet/login", json=each), "UNAUTHENTICATED")
    for field, value in (("signature", "zz"), ("wallet_address", "0OIl"), ("wallet_address", "1"), ("signature", "")):
        refused(await anybody.post("/api/auth/wallet/login", json={**good, field: value}), "INVALID")
    assert (await anybody.post("/api/auth/wallet/login", json=good)).status_code == 200
    refused(await anybody.post("/api/auth/wallet/login", json=good), "UNAUTHENTICATED")


async def test_a_nonce_is_good_for_five_minutes(tmp_path: Path) -> None:
    clock = HandClock()
    house = await central(tmp_path, clock=clock, auth={"allow_signup": True})
    async with client(house, None) as http:
        late, right = await proof(http), await proof(http)
        clock.advance(timedelta(minutes=4).total_seconds())
        assert (await http.post("/api/auth/wallet/login", json=right)).status_code == 200
        clock.advance(61)
        refused(await http.post("/api/auth/wallet/login", json=late), "UNAUTHENTICATED")
    await house.aclose()


async def test_an_unknown_wallet_becomes_a_user_only_where_sign_up_is_open(
    anybody: httpx.AsyncClient, tmp_path: Path
) -> None:
    refused(await anybody.post("/api/auth/wallet/login", json=await proof(anybody)), "FORBIDDEN")
    house = await central(tmp_path / "open", auth={"allow_signup": True})
    async with client(house, None) as http:
        first = (await http.post("/api/auth/wallet/login", json=await proof(http))).json()["user"]
        again = (await http.post("/api/auth/wallet/login", json=await proof(http))).json()["user"]
        assert (first["name"], first["role"], first["id"]) == (PAIR.address, "user", again["id"])
        async with client(house, house.admin) as admin:
            await admin.post(f"/api/users/{first['id']}/disable")
        refused(await http.post("/api/auth/wallet/login", json=await proof(http)), "FORBIDDEN")
    await house.aclose()


def test_base58_is_as_published() -> None:
    # https://datatracker.ietf.org/doc/html/draft-msporny-base58, section 5
    assert encode(b"Hello World!") == "2NEpo7TZRRrLZSi2U"
    assert encode(bytes.fromhex("0000287fb4cd")) == "11233QC4"
    for data in (b"", b"\0", b"\0\0\1", bytes(range(256))):
        assert decode(encode(data)) == data
    assert parse_wallet("11111111111111111111111111111112") == bytes(31) + b"\1"


@pytest.mark.parametrize("text", ["", "1" * 31, "1" * 32, "1" * 33, "1" * 44, "z" * 44, "l" * 32, "é" * 32, "1" * 9999])
def test_what_is_no_wallet_is_refused(text: str) -> None:
    with pytest.raises(CyxError) as error:
        parse_wallet(text)
    assert error.value.details["field"] == "wallet_address"


def test_keypair_files_are_read_only_when_they_are_private_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "id.json"
    whole = list(b"\1" * 32 + decode(PAIR.address))
    path.write_text(json.dumps(whole))
    path.chmod(0o600)
    assert Keypair.read(path).address == PAIR.address
    assert str(whole[:3]) not in repr(Keypair.read(path))
    path.chmod(0o640)
    with pytest.raises(CyxError, match="others can read"):
        Keypair.read(path)
    path.chmod(0o600)
    for bad in ("", "{}", "[1]", json.dumps([256, *whole[1:]]), json.dumps([*whole[:-1], whole[-1] ^ 1]), "1e9"):
        path.write_text(bad)
        with pytest.raises(CyxError):
            Keypair.read(path)
    with pytest.raises(CyxError, match="No such file"):
        Keypair.read(tmp_path / "none.json")
