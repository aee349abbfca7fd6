"""Blobs over REST: parts, ranges, owners."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.integration.conftest import client, refused
from tests.wiring import JOB, Central, central

DATA = bytes(range(256)) * 5000
NAME = hashlib.sha256(DATA).hexdigest()
BYTES = {"Content-Type": "application/octet-stream"}


async def test_a_blob_in_one_request(house: Central, tmp_path: Path, alice: httpx.AsyncClient) -> None:
    made = await alice.post("/api/blobs", content=DATA, headers=BYTES)
    assert made.status_code == 201
    assert made.json() == {"sha256": NAME, "size": len(DATA), "uri": f"blob://sha256/{NAME}"}
    got = await alice.get(f"/api/blobs/{NAME}")
    assert got.content == DATA
    assert got.headers["etag"] == f'"{NAME}"'
    assert (await alice.post("/api/blobs", content=DATA, headers=BYTES)).status_code == 201
    assert list((tmp_path / "spool").iterdir()) == []
    empty = await alice.post("/api/blobs", content=b"", headers=BYTES)
    assert empty.json()["size"] == 0
    assert (await alice.get(f"/api/blobs/{empty.json()['sha256']}")).content == b""


async def test_a_blob_in_parts(alice: httpx.AsyncClient, bob: httpx.AsyncClient) -> None:
    headers = {**BYTES, "X-Content-SHA256": NAME, "Upload-Length": str(len(DATA))}
    first = await alice.post("/api/blobs", content=DATA[:1000], headers={**headers, "Upload-Offset": "0"})
    assert (first.status_code, first.json()["offset"]) == (202, 1000)
    asked = await alice.head(f"/api/blobs/{NAME}")
    assert (asked.status_code, asked.headers["upload-offset"]) == (404, "1000")
    assert (await bob.head(f"/api/blobs/{NAME}")).headers["upload-offset"] == "0", "bob has sent nothing"
    gap = await alice.post("/api/blobs", content=DATA[2000:], headers={**headers, "Upload-Offset": "2000"})
    assert refused(gap, "CONFLICT")["details"]["partial"] == 1000
    last = await alice.post("/api/blobs", content=DATA[1000:], headers={**headers, "Upload-Offset": "1000"})
    assert (last.status_code, last.json()["sha256"]) == (201, NAME)
    assert (await alice.head(f"/api/blobs/{NAME}")).headers["content-length"] == str(len(DATA))


async def test_bad_uploads(tmp_path: Path, alice: httpx.AsyncClient) -> None:
    refused(await alice.post("/api/blobs", content=DATA, headers={"Content-Type": "text/plain"}), "INVALID")
    refused(await alice.post("/api/blobs", content=DATA), "INVALID")
    refused(await alice.post("/api/blobs?x=1", content=DATA, headers=BYTES), "INVALID")
    wrong = {**BYTES, "X-Content-SHA256": "0" * 64, "Upload-Length": str(len(DATA))}
    refused(await alice.post("/api/blobs", content=DATA, headers=wrong), "INVALID")
    refused(await alice.get(f"/api/blobs/{'0' * 64}"), "NOT_FOUND")
    more = {**BYTES, "X-Content-SHA256": NAME, "Upload-Length": "10"}
    refused(await alice.post("/api/blobs", content=DATA, headers=more), "INVALID")
    for change in ({"X-Content-SHA256": "../../etc/passwd"}, {"Upload-Length": "-1"}, {"Upload-Offset": "x"}):
        refused(await alice.post("/api/blobs", content=DATA, headers={**more, **change}), "INVALID")
    refused(await alice.post("/api/blobs", content=DATA, headers={**BYTES, "Upload-Length": "10"}), "INVALID")
    small = await central(tmp_path / "small", server={"max_upload_bytes": 2000})
    async with client(small, small.alice) as made:
        refused(await made.post("/api/blobs", content=DATA, headers=BYTES), "INVALID")

        async def drip() -> AsyncIterator[bytes]:
            for _ in range(10):
                yield b" " * 1000

        refused(await made.post("/api/blobs", content=drip(), headers=BYTES), "INVALID")
        assert list((tmp_path / "small" / "spool").iterdir()) == []
    await small.aclose()


async def test_a_name_alone_makes_nobody_an_owner(alice: httpx.AsyncClient, bob: httpx.AsyncClient) -> None:
    await alice.post("/api/blobs", content=DATA, headers=BYTES)
    refused(await bob.get(f"/api/blobs/{NAME}"), "NOT_FOUND")
    claim = {**BYTES, "X-Content-SHA256": NAME, "Upload-Length": str(len(DATA))}
    refused(await bob.post("/api/blobs", content=b"", headers=claim), "CONFLICT")
    refused(await bob.post("/api/blobs", content=b"", headers={**claim, "Upload-Offset": str(len(DATA))}), "CONFLICT")
    refused(await bob.get(f"/api/blobs/{NAME}"), "NOT_FOUND")
    assert (await alice.post("/api/blobs", content=b"", headers=claim)).status_code == 201
    assert (await bob.post("/api/blobs", content=DATA, headers=claim)).status_code == 201
    assert (await bob.get(f"/api/blobs/{NAME}")).status_code == 200


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=10-", 10, len(DATA)),
        ("bytes=-5", len(DATA) - 5, len(DATA)),
        (f"bytes=5-{10**9}", 5, len(DATA)),
    ],
)
async def test_ranges(alice: httpx.AsyncClient, asked: str, start: int, end: int) -> None:
    await alice.post("/api/blobs", content=DATA, headers=BYTES)
    got = await alice.get(f"/api/blobs/{NAME}", headers={"Range": asked})
    assert got.status_code == 206
    assert got.content == DATA[start:end]
    assert got.headers["content-range"] == f"bytes {start}-{end - 1}/{len(DATA)}"
    stale = {"Range": asked, "If-Range": '"other"'}
    assert (await alice.get(f"/api/blobs/{NAME}", headers=stale)).status_code == 200


async def test_ranges_outside_and_malformed(alice: httpx.AsyncClient) -> None:
    await alice.post("/api/blobs", content=DATA, headers=BYTES)
    for asked in (
        f"bytes={len(DATA)}-",
        "bytes=9-5",
        "bytes=-",
        "bytes=-0",
        "bytes=x-y",
        "bytes=1",
        f"bytes={'9' * 40}-",
    ):
        response = await alice.get(f"/api/blobs/{NAME}", headers={"Range": asked})
        refused(response, "INVALID", 416)
        assert response.headers["content-range"] == f"bytes */{len(DATA)}"
    for asked in ("bytes=0-1,5-6", "lines=1-2"):
        assert (await alice.get(f"/api/blobs/{NAME}", headers={"Range": asked})).status_code == 200
    same = await alice.get(f"/api/blobs/{NAME}", headers={"If-None-Match": f'"{NAME}"'})
    assert (same.status_code, same.content) == (304, b"")
    for name in ("x", NAME.upper(), "..%2f..%2fetc"):
        assert (await alice.get(f"/api/blobs/{name}")).status_code in (400, 404)


async def test_what_a_user_may_keep(tmp_path: Path) -> None:
    house = await central(tmp_path, blobs={"max_user_bytes": 2 * len(DATA)})
    async with client(house, house.alice) as alice, client(house, house.bob) as bob:

        async def drip() -> AsyncIterator[bytes]:
            for _ in range(4):
                yield DATA

        assert (await alice.post("/api/blobs", content=DATA, headers=BYTES)).status_code == 201
        error = refused(
            await alice.post("/api/blobs", content=DATA + b"1" * len(DATA), headers=BYTES), "EXHAUSTED", 429
        )
        assert error["details"] == {"limit": 2 * len(DATA)}
        assert "cyxwiz blobs delete" in error["message"]
        assert not error["retryable"]
        refused(await alice.post("/api/blobs", content=drip(), headers=BYTES), "EXHAUSTED", 429)
        assert (await alice.post("/api/blobs", content=DATA, headers=BYTES)).status_code == 201, "it is hers already"
        other = DATA[::-1]
        part = {**BYTES, "X-Content-SHA256": hashlib.sha256(other).hexdigest(), "Upload-Length": str(len(other))}
        assert (await alice.post("/api/blobs", content=other[:-9], headers=part)).status_code == 202
        refused(await alice.post("/api/blobs", content=DATA[:-5], headers=BYTES), "EXHAUSTED", 429)
        rest = await alice.post(
            "/api/blobs", content=other[-9:], headers={**part, "Upload-Offset": str(len(other) - 9)}
        )
        assert rest.status_code == 201
        refused(await alice.post("/api/jobs", json=JOB), "EXHAUSTED", 429)
        assert (await bob.post("/api/blobs", content=DATA, headers=BYTES)).status_code == 201, "others have their own"
        assert (await bob.post("/api/jobs", json=JOB)).status_code == 201

        kept = (await alice.get("/api/blobs")).json()
        assert [each["sha256"] for each in kept["blobs"]] == sorted([NAME, part["X-Content-SHA256"]])
        assert (await alice.delete(f"/api/blobs/{NAME}")).json() == {"sha256": NAME, "deleted": True}
        assert (await bob.get(f"/api/blobs/{NAME}")).content == DATA, "it is bob's still"
        refused(await alice.get(f"/api/blobs/{NAME}"), "NOT_FOUND")
        refused(await alice.delete(f"/api/blobs/{NAME}"), "NOT_FOUND")
        refused(await alice.delete("/api/blobs/x"), "INVALID")
        job = (
            await alice.post("/api/jobs", json={**JOB, "dataset": f"blob://sha256/{part['X-Content-SHA256']}"})
        ).json()
        error = refused(await alice.delete(f"/api/blobs/{part['X-Content-SHA256']}"), "CONFLICT")
        assert error["details"]["job_id"] == job["id"]
        await alice.post(f"/api/jobs/{job['id']}/cancel")
        assert (await alice.delete(f"/api/blobs/{part['X-Content-SHA256']}")).status_code == 200
        assert await house.blobs.size(part["X-Content-SHA256"]) is None
    await house.aclose()


async def test_uploads_at_the_same_time_share_the_room(tmp_path: Path) -> None:
    house = await central(tmp_path, blobs={"max_user_bytes": 2 * len(DATA)})
    contents = [bytes([number]) * len(DATA) for number in range(4)]
    async with client(house, house.alice) as alice:
        given = await asyncio.gather(*(alice.post("/api/blobs", content=each, headers=BYTES) for each in contents))
    assert sorted(each.status_code for each in given) == [201, 201, 429, 429]
    await house.aclose()
