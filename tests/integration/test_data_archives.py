"""Archives and blobs as data: unpacked, checked, and refused when they are evil."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cyxwiz.compute.data.load import load
from cyxwiz.domain.errors import Code
from tests.fetching import CSV, OPEN, cache, got, refused
from tests.webserver import Served, WebServer


def tarred(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return buffer.getvalue()


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["tar", "tar.gz"])
async def test_an_archive_becomes_a_folder(web: WebServer, tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    web.pages["/set"] = Served(pack(tarred(**{"set/train.csv": CSV, "set/test.csv": CSV[:-6]})))
    async with cache(tmp_path) as data:
        held = await got(data, web.url("/set"))
        assert sorted(path.name for path in held.path.rglob("*.csv")) == ["test.csv", "train.csv"]
        uri = web.url("/set")
        assert load(uri, blob=held.path).shape.samples == 3
        assert load(f"{uri}#split=test", blob=held.path).shape.samples == 2


async def test_a_packed_table_is_unpacked(web: WebServer, tmp_path: Path) -> None:
    web.pages["/t.csv.gz"] = Served(gzip.compress(CSV))
    async with cache(tmp_path) as data:
        held = await got(data, web.url("/t.csv.gz"))
        assert held.path.name == "t.csv"
        assert held.path.read_bytes() == CSV


def evil(name: str, **changes: Any) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        for key, value in changes.items():
            setattr(member, key, value)
        archive.addfile(member, io.BytesIO(b"\0" * member.size) if member.size else None)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "body",
    [
        evil("../out"),
        evil("/etc/out"),
        evil("a/../../out"),
        evil("link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        evil("link", type=tarfile.LNKTYPE, linkname="other"),
        evil("pipe", type=tarfile.FIFOTYPE),
        evil("a\\b"),
        tarred(**{"a": b"1", "./a": b"2"}),
        tarred(**{"a": b"1", "a/b": b"2"}),
        evil("x", size=8 << 20)[: 5 << 20],
        evil("p", type=tarfile.XHDTYPE, size=8 << 20),
        gzip.compress(tarred(**{f"{number}/b/c/d/e/f/g/h/i/j/k": b"" for number in range(500)})),
        gzip.compress(bytes(40 << 20)),
        gzip.compress(CSV)[:-9],
    ],
    ids=[
        "up",
        "absolute",
        "through",
        "link",
        "hard link",
        "pipe",
        "backslash",
        "twice",
        "file and folder",
        "short",
        "header",
        "folders",
        "bomb",
        "cut",
    ],
)
async def test_an_evil_archive_is_refused(web: WebServer, tmp_path: Path, body: bytes) -> None:
    web.pages["/set"] = Served(body)
    async with cache(tmp_path, replace(OPEN, max_dataset_bytes=16 << 20)) as data:
        await refused(data, web.url("/set"), Code.INVALID)
        assert data.inventory() == []
    assert not list(tmp_path.parent.glob("out"))
    assert not (tmp_path / "cache" / "out").exists()


# blobs


async def test_a_blob_is_fetched_once_and_checked(tmp_path: Path) -> None:
    digest, calls = hashlib.sha256(CSV).hexdigest(), []

    async def fetch_blob(sha256: str, path: Path) -> None:
        calls.append(sha256)
        path.write_bytes(CSV if sha256 == digest else b"damaged")

    async with cache(tmp_path, fetch_blob=fetch_blob) as data:
        for options in ("", "?label=0"):
            held = await got(data, f"blob://sha256/{digest}{options}")
            assert held.path.read_bytes() == CSV
        assert calls == [digest]
        await refused(data, f"blob://sha256/{'0' * 64}", Code.UNAVAILABLE, "damaged")
