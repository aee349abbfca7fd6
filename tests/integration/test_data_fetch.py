"""Fetching data: real servers on loopback that are slow, cut, change and lie."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import hashlib
import io
import json
import shutil
import ssl
import tarfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from cyxwiz.compute.data.cid import verify
from cyxwiz.compute.data.fetch import Data, DataCache
from cyxwiz.compute.data.load import load
from cyxwiz.compute.data.settings import FetchSettings
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.job import data_key
from cyxwiz.runtime.clock import SystemClock
from tests.webserver import Served, WebServer, webserver

CSV = b"a,b,kind\n1,2,0\n3,4,1\n5,6,0\n"
BIG = hashlib.sha256(b"seed").digest() * (1 << 16)  # 2 MiB
OPEN = FetchSettings(allow_private_hosts=True, allow_http=True)


async def no_blobs(digest: str, path: Path) -> None:
    raise AssertionError("no blob is asked for")


class FastClock(SystemClock):
    """Waits between attempts are a fiftieth of what they say."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 50)


@contextlib.asynccontextmanager
async def cache(folder: Path, settings: FetchSettings = OPEN, **options: Any) -> AsyncIterator[DataCache]:
    made = DataCache(folder / "cache", settings, FastClock(), options.pop("fetch_blob", no_blobs), **options)
    try:
        yield made
    finally:
        await made.aclose()


@pytest.fixture
async def web() -> AsyncIterator[WebServer]:
    async with webserver() as running:
        yield running


async def got(data: DataCache, uri: str, **options: Any) -> Data:
    held = await data.hold(uri, **options)
    assert held is not None
    return held


async def refused(data: DataCache, uri: str, code: Code, *words: str) -> str:
    with pytest.raises(CyxError) as caught:
        await data.hold(uri)
    assert caught.value.code is code, caught.value
    assert all(word in caught.value.message for word in words), caught.value.message
    return caught.value.message


# the web


async def test_what_is_fetched_is_read_and_known(web: WebServer, tmp_path: Path) -> None:
    web.pages["/t.csv"] = Served(CSV, etag='"1"')
    uri = web.url("/t.csv#label=kind")
    async with cache(tmp_path) as data:
        assert not data.holds(uri)
        held = await got(data, uri)
        assert held.path.read_bytes() == CSV
        assert load(uri, blob=held.path).labels.tolist() == [0, 1, 0]
        assert hashlib.sha256(CSV).hexdigest() in held.notes[0]
        assert "was fetched" in held.notes[0]
        assert data.inventory() == [data_key(uri)]
        assert data.holds(web.url("/t.csv"))
        assert await data.hold("builtin:iris") is None
        held.release()
        again = await got(data, web.url("/t.csv"))
        assert "was on this node" in again.notes[0]
        assert [request.headers.get("if-none-match") for request in web.asked("/t.csv")] == [None, '"1"']
    async with cache(tmp_path) as data:  # another life of the node
        assert data.inventory() == [data_key(uri)]
        assert (await got(data, uri)).path == held.path
    assert web.sent_bytes == len(CSV)
    assert not list((tmp_path / "cache" / "incoming").iterdir())


async def test_a_changed_file_is_fetched_anew_and_its_earlier_one_goes(web: WebServer, tmp_path: Path) -> None:
    web.pages["/t.csv"] = Served(CSV, modified=1_000_000_000.0)
    async with cache(tmp_path) as data:
        first = await got(data, web.url("/t.csv"))
        web.pages["/t.csv"] = Served(CSV + b"7,8,1\n", modified=1_000_000_100.0)
        second = await got(data, web.url("/t.csv"))
        assert first.path.read_bytes() == CSV, "a run may still read it"
        assert second.path.read_bytes() == CSV + b"7,8,1\n"
        first.release()
        second.release()
        (await got(data, web.url("/t.csv"))).release()
        assert data._cache.used_bytes == len(CSV) + 6
    async with cache(tmp_path):
        assert len(list((tmp_path / "cache" / "objects").iterdir())) == 1


async def test_a_server_that_is_away_costs_a_note_but_one_that_says_no_the_job(web: WebServer, tmp_path: Path) -> None:
    web.pages["/t.csv"] = Served(CSV, etag='"1"')
    async with cache(tmp_path) as data:
        (await got(data, web.url("/t.csv"))).release()
        web.pages["/t.csv"].failures = 100
        held = await got(data, web.url("/t.csv"))
        assert any("can't be asked" in note for note in held.notes)
        assert held.path.read_bytes() == CSV
        held.release()
        web.pages["/t.csv"] = Served(status=403)
        await refused(data, web.url("/t.csv"), Code.FORBIDDEN, "403")
        await refused(data, web.url("/none.csv"), Code.NOT_FOUND, "404")


async def test_a_download_that_is_cut_goes_on_where_it_was(web: WebServer, tmp_path: Path) -> None:
    web.pages["/big.npy"] = Served(BIG, etag='"1"', cuts=[700_000, 1, 500_000])
    async with cache(tmp_path) as data:
        assert (await got(data, web.url("/big.npy"))).path.read_bytes() == BIG
    starts = [request.headers.get("range") for request in web.asked("/big.npy")]
    assert starts[0] is None
    assert len(starts) == 4
    assert all(start is not None and start.startswith("bytes=") for start in starts[1:])
    assert web.sent_bytes < len(BIG) + 4 * (1 << 20)


async def test_a_download_goes_on_in_the_next_life_of_the_node(web: WebServer, tmp_path: Path) -> None:
    web.pages["/big"] = Served(BIG, etag='"1"', cuts=[1_200_000, *[0] * 20])
    async with cache(tmp_path) as data:
        await refused(data, web.url("/big"), Code.UNAVAILABLE)
    left = next((tmp_path / "cache" / "incoming").rglob("*.part")).stat().st_size
    assert left >= 1 << 20
    web.pages["/big"].cuts = []
    async with cache(tmp_path) as data:
        assert data._cache.used_bytes >= left
        assert (await got(data, web.url("/big"))).path.read_bytes() == BIG
    assert web.asked("/big")[-1].headers["range"] == f"bytes={left}-"
    assert web.asked("/big")[-1].headers["if-range"] == '"1"'


@pytest.mark.parametrize(
    "change",
    [{"etag": '"2"'}, {"etag": 'W/"1"'}, {"ranges": False}, {"etag": ""}],
    ids=["new", "weak", "no ranges", "none"],
)
async def test_parts_of_two_versions_are_never_put_together(
    web: WebServer, tmp_path: Path, change: dict[str, Any]
) -> None:
    etag = change.get("etag", '"1"') if change.get("etag") in ('W/"1"', "") else '"1"'
    web.pages["/big"] = Served(bytes(len(BIG)), etag=etag, cuts=[1_500_000, *[0] * 20])
    async with cache(tmp_path) as data:
        await refused(data, web.url("/big"), Code.UNAVAILABLE)
    web.pages["/big"] = replace(Served(BIG, etag='"1"'), **change)
    if change == {"ranges": False}:
        web.pages["/big"].body = BIG
    async with cache(tmp_path) as data:
        assert (await got(data, web.url("/big"))).path.read_bytes() == BIG


async def test_a_partial_file_is_trusted_as_far_as_it_was_synced(web: WebServer, tmp_path: Path) -> None:
    web.pages["/big"] = Served(BIG, etag='"1"', cuts=[1_500_000, *[0] * 20])
    async with cache(tmp_path) as data:
        await refused(data, web.url("/big"), Code.UNAVAILABLE)
    part = next((tmp_path / "cache" / "incoming").rglob("*.part"))
    with part.open("ab") as file:  # as a loss of power may leave it: longer than what was synced
        file.write(b"garbage")
    web.pages["/big"].cuts = []
    async with cache(tmp_path) as data:
        assert (await got(data, web.url("/big"))).path.read_bytes() == BIG


async def test_a_busy_server_is_asked_again(web: WebServer, tmp_path: Path) -> None:
    web.pages["/t.csv"] = Served(CSV, failures=2)
    async with cache(tmp_path) as data:
        await got(data, web.url("/t.csv"))
    assert len(web.asked("/t.csv")) == 3


async def test_a_hash_is_checked_and_saves_asking(web: WebServer, tmp_path: Path) -> None:
    web.pages["/t.csv"] = Served(CSV, etag='"1"')
    right, wrong = hashlib.sha256(CSV).hexdigest(), "0" * 64
    async with cache(tmp_path) as data:
        one, other = await asyncio.gather(
            data.hold(web.url(f"/t.csv#sha256={wrong}")),
            data.hold(web.url(f"/t.csv#label=a&sha256={right}")),
            return_exceptions=True,
        )
        assert isinstance(one, CyxError)
        assert one.code is Code.INVALID
        assert right in one.message
        assert isinstance(other, Data)
        count = len(web.requests)
        (await got(data, web.url(f"/t.csv#sha256={right}"))).release()
        assert len(web.requests) == count


async def test_many_jobs_share_one_download(web: WebServer, tmp_path: Path) -> None:
    web.pages["/t.csv"] = Served(CSV, gate=asyncio.Event())
    async with cache(tmp_path) as data:
        waiting = [asyncio.ensure_future(got(data, web.url(f"/t.csv#label={n}"))) for n in range(5)]
        while not web.requests:
            await asyncio.sleep(0.01)
        gate = web.pages["/t.csv"].gate
        assert gate is not None
        gate.set()
        paths = {held.path for held in await asyncio.gather(*waiting)}
    assert len(paths) == 1
    assert len(web.requests) == 1


async def test_a_fetch_ends_when_nobody_wants_it_and_starts_again(web: WebServer, tmp_path: Path) -> None:
    web.pages["/t.csv"] = Served(CSV, gate=asyncio.Event())
    wanted = [True, True]
    async with cache(tmp_path) as data:
        one = asyncio.ensure_future(data.hold(web.url("/t.csv"), lambda: wanted[0]))
        two = asyncio.ensure_future(data.hold(web.url("/t.csv"), lambda: wanted[1]))
        while not web.requests:
            await asyncio.sleep(0.01)
        wanted[0] = False
        with pytest.raises(CyxError, match="not wanted"):
            await one
        assert len(data._tasks) == 1
        with pytest.raises(CyxError) as caught:
            await data.hold(web.url("/t.csv"), seconds=0.0)
        assert caught.value.code is Code.TIMEOUT
        wanted[1] = False
        with pytest.raises(CyxError, match="not wanted"):
            await two
        web.pages["/t.csv"] = Served(CSV)
        assert (await got(data, web.url("/t.csv"))).path.read_bytes() == CSV


async def test_a_node_that_stops_leaves_no_task(web: WebServer, tmp_path: Path) -> None:
    web.pages["/t.csv"] = Served(CSV, gate=asyncio.Event())
    async with cache(tmp_path) as data:
        waiting = asyncio.ensure_future(data.hold(web.url("/t.csv")))
        while not web.requests:
            await asyncio.sleep(0.01)
    with pytest.raises(CyxError, match="stopping"):
        await waiting


@pytest.mark.parametrize("length", [True, False], ids=["told", "untold"])
async def test_a_file_that_is_too_large_is_refused(web: WebServer, tmp_path: Path, length: bool) -> None:
    huge = bytes(32 << 20)
    web.pages["/big"] = Served(huge, length=length)
    async with cache(tmp_path, replace(OPEN, max_dataset_bytes=1 << 20)) as data:
        await refused(data, web.url("/big"), Code.INVALID, "max_dataset_bytes")
    async with cache(tmp_path, replace(OPEN, cache_bytes=1 << 20)) as data:
        await refused(data, web.url("/big"), Code.EXHAUSTED, "data_cache_bytes")
    assert web.sent_bytes < len(huge)


async def test_an_encoded_answer_is_refused(web: WebServer, tmp_path: Path) -> None:
    web.pages["/t.csv"] = Served(gzip.compress(CSV), encoding="gzip")
    async with cache(tmp_path) as data:
        await refused(data, web.url("/t.csv"), Code.INVALID, "encoded")


async def test_redirects_are_followed_so_far(web: WebServer, tmp_path: Path) -> None:
    web.pages["/a"] = Served(status=302, location="/b")
    web.pages["/b"] = Served(status=307, location=web.url("/t.csv"))
    web.pages["/t.csv"] = Served(CSV)
    web.pages["/loop"] = Served(status=301, location="/loop")
    bad = ["file:///etc/passwd", "http://[::1", "https://h:0/", "http://h\x7f/"]
    for number, location in enumerate(bad):
        web.pages[f"/bad{number}"] = Served(status=301, location=location)
    async with cache(tmp_path) as data:
        assert (await got(data, web.url("/a"))).path.read_bytes() == CSV
        await refused(data, web.url("/loop"), Code.INVALID, "redirects")
        for number in range(len(bad)):
            with pytest.raises(CyxError) as caught:
                await data.hold(web.url(f"/bad{number}"))
            assert caught.value.code in (Code.INVALID, Code.UNAVAILABLE)
        await refused(data, web.url("/bad0"), Code.INVALID, "no web address")


async def test_a_version_that_can_t_be_sent_back_is_none(web: WebServer, tmp_path: Path) -> None:
    web.pages["/t.csv"] = Served(CSV, etag='"\xe9\xff"')
    async with cache(tmp_path) as data:
        for _ in range(2):
            held = await got(data, web.url("/t.csv"))
            assert "was fetched" in held.notes[0]
            held.release()


async def test_a_disk_that_takes_nothing_is_told_as_such(web: WebServer, tmp_path: Path) -> None:
    web.pages["/t.csv"] = Served(CSV)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "incoming").write_text("in the way")
    async with cache(tmp_path) as data:
        message = await refused(data, web.url("/t.csv"), Code.EXHAUSTED)
        assert "can't be stored" in message


# who may be dialled


def names(**table: str) -> Callable[[str, int], Any]:
    async def resolver(host: str, port: int) -> Sequence[str]:
        if host not in table:
            raise OSError(f"unknown {host}")
        return table[host].split()

    return resolver


async def test_private_hosts_are_refused_before_anything_is_sent(web: WebServer, tmp_path: Path) -> None:
    web.pages["/t.csv"] = Served(CSV)
    async with cache(tmp_path, FetchSettings(allow_http=True)) as data:
        for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"):
            await refused(data, web.url("/t.csv", host=host), Code.FORBIDDEN, "not public")
    resolver = names(mixed="93.184.216.34 10.0.0.1", inner="127.0.0.1")
    async with cache(tmp_path, FetchSettings(allow_http=True), resolver=resolver) as data:
        await refused(data, web.url("/t.csv", host="mixed"), Code.FORBIDDEN, "10.0.0.1")
        await refused(data, web.url("/t.csv", host="inner"), Code.FORBIDDEN, "127.0.0.1")
        await refused(data, web.url("/t.csv", host="nowhere"), Code.UNAVAILABLE, "resolved")
    async with cache(tmp_path, FetchSettings(allow_private_hosts=True)) as data:
        await refused(data, web.url("/t.csv"), Code.FORBIDDEN, "allow_http_data")
    assert web.requests == []


async def test_the_address_that_was_checked_is_dialled_and_the_name_is_kept(web: WebServer, tmp_path: Path) -> None:
    """A name that resolves once to what is allowed is not resolved again for the connection."""
    web.pages["/t.csv"] = Served(CSV)
    asked: list[str] = []

    async def resolver(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.2", "127.0.0.1"] if len(asked) == 1 else ["192.0.2.1"]

    async with cache(tmp_path, resolver=resolver) as data:
        await got(data, web.url("/t.csv", host="data.example"))
    assert asked == ["data.example"]
    assert web.requests[0].headers["host"] == f"data.example:{web.port}"


async def test_a_redirect_to_a_private_host_is_refused(web: WebServer, tmp_path: Path) -> None:
    """The owner's own gateway may be private; where it leads to somewhere else, it may not."""
    cid = "b" + "a" * 58
    web.pages[f"/ipfs/{cid}"] = Served(status=302, location=web.url("/t.csv", host="localhost"))
    web.pages["/t.csv"] = Served(CSV)
    async with cache(tmp_path, FetchSettings(ipfs_gateway=web.url(""))) as data:
        await refused(data, f"ipfs://{cid}", Code.FORBIDDEN)
    assert web.asked("/t.csv") == []


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ssl.SSLContext:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("data.example").configure_cert(context)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return context


async def test_https_checks_the_certificate_of_the_name(authority: ssl.SSLContext, tmp_path: Path) -> None:
    resolver = names(**{"data.example": "127.0.0.1", "other.example": "127.0.0.1"})
    async with webserver(authority) as web:
        web.pages["/t.csv"] = Served(CSV)
        async with cache(tmp_path, FetchSettings(allow_private_hosts=True), resolver=resolver) as data:
            held = await got(data, web.url("/t.csv", host="data.example", scheme="https"))
            assert held.path.read_bytes() == CSV
            uri = web.url("/t.csv", host="other.example", scheme="https")
            await refused(data, uri, Code.UNAVAILABLE, "certificate")
    assert len(web.requests) == 1


# the cache


async def test_the_least_recently_used_goes_and_what_is_held_stays(web: WebServer, tmp_path: Path) -> None:
    for name in "abcd":
        web.pages[f"/{name}"] = Served(name.encode() * 1000, etag=f'"{name}"')
    async with cache(tmp_path, replace(OPEN, cache_bytes=2500)) as data:
        held = await got(data, web.url("/a"))
        (await got(data, web.url("/b"))).release()
        (await got(data, web.url("/c"))).release()
        assert data.inventory() == [data_key(web.url("/c")), data_key(web.url("/a"))]
        assert held.path.read_bytes() == b"a" * 1000
        other = await got(data, web.url("/c"))
        await refused(data, web.url("/d"), Code.EXHAUSTED, "2500")
        held.release()
        held.release()  # a second time has no effect
        (await got(data, web.url("/d"))).release()
        assert not held.path.exists()
        other.release()
        assert data._cache.used_bytes == 2000
    async with cache(tmp_path, replace(OPEN, cache_bytes=2500)) as data:  # the order of use survives
        assert data.inventory() == [data_key(web.url("/d")), data_key(web.url("/c"))]
        (await got(data, web.url("/a"))).release()
        assert data.inventory() == [data_key(web.url("/a")), data_key(web.url("/d"))]
    on_disk = {path.name for path in (tmp_path / "cache" / "objects").iterdir()}
    assert on_disk == {hashlib.sha256(name * 1000).hexdigest() for name in (b"a", b"d")}


async def test_the_same_content_of_two_sources_is_kept_once(web: WebServer, tmp_path: Path) -> None:
    web.pages["/a"] = Served(CSV, etag='"a"')
    web.pages["/b"] = Served(CSV, etag='"b"')
    async with cache(tmp_path) as data:
        one, two = await asyncio.gather(got(data, web.url("/a")), got(data, web.url("/b")))
        assert one.path.samefile(two.path)
        assert (one.path.name, two.path.name) == ("a", "b")
        assert data._cache.used_bytes == len(CSV)


async def test_what_a_crash_left_is_put_right(web: WebServer, tmp_path: Path) -> None:
    web.pages["/a"] = Served(CSV)
    async with cache(tmp_path) as data:
        (await got(data, web.url("/a"))).release()
    root = tmp_path / "cache"
    (root / "objects" / "nobodys").mkdir()
    (root / "trash").mkdir(exist_ok=True)
    (root / "trash" / "x").write_bytes(b"x")
    (root / "sources" / ("0" * 64 + ".json")).write_text("{")
    async with cache(tmp_path) as data:
        assert data.inventory() == [data_key(web.url("/a"))]
    assert len(list((root / "objects").iterdir())) == 1
    assert not (root / "trash").exists()
    shutil.rmtree(next((root / "objects").iterdir()))
    async with cache(tmp_path) as data:
        assert data.inventory() == []
        assert (await got(data, web.url("/a"))).path.read_bytes() == CSV


# archives


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
        evil("x", size=8 << 20)[: 5 << 20],
        evil("p", type=tarfile.XHDTYPE, size=8 << 20),
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
        "short",
        "header",
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


# the hub


def hub(web: WebServer, files: dict[str, bytes], sha: str = "c0ffee", revision: str = "main") -> None:
    listing = {"sha": sha, "siblings": [{"rfilename": name} for name in files]}
    web.pages[f"/api/datasets/o/set/revision/{revision}"] = Served(json.dumps(listing).encode())
    for name, body in files.items():
        web.pages[f"/datasets/o/set/resolve/{sha}/{name}"] = Served(status=302, location=f"/cdn/{sha}/{name}")
        web.pages[f"/cdn/{sha}/{name}"] = Served(body, etag=f'"{sha}{name}"')


async def test_a_repository_of_the_hub(web: WebServer, tmp_path: Path) -> None:
    files = {"README.md": b"#", "data/train.csv": CSV, "data/test.csv": CSV[:-6], "dataset_infos.json": b"{}"}
    hub(web, files)
    async with cache(tmp_path, FetchSettings(hf_endpoint=web.url(""))) as data:
        held = await got(data, "hf://datasets/o/set")
        assert load("hf://datasets/o/set", blob=held.path).shape.samples == 3
        assert load("hf://datasets/o/set?split=test", blob=held.path).shape.samples == 2
        assert not list(held.path.rglob("README.md"))
        held.release()
        count = web.sent_bytes
        (await got(data, "hf://datasets/o/set")).release()
        assert web.sent_bytes == count + len(web.pages["/api/datasets/o/set/revision/main"].body)
        one = await got(data, "hf://datasets/o/set/data/test.csv")
        assert one.path.read_bytes() == CSV[:-6]
        hub(web, {**files, "data/train.csv": CSV + b"9,9,1\n"}, "beef")
        changed = await got(data, "hf://datasets/o/set")
        assert load("hf://datasets/o/set", blob=changed.path).shape.samples == 4
        await refused(data, "hf://datasets/o/set@v2", Code.NOT_FOUND)
        await refused(data, "hf://datasets/o/set/none", Code.NOT_FOUND, "known format")


async def test_a_fetch_of_many_files_goes_on_with_those_that_are_missing(web: WebServer, tmp_path: Path) -> None:
    hub(web, {f"data/train-{n}.csv": CSV for n in range(3)})
    web.pages["/cdn/c0ffee/data/train-2.csv"].failures = 100
    async with cache(tmp_path, FetchSettings(hf_endpoint=web.url(""))) as data:
        await refused(data, "hf://datasets/o/set", Code.UNAVAILABLE)
        web.pages["/cdn/c0ffee/data/train-2.csv"].failures = 0
        held = await got(data, "hf://datasets/o/set")
        assert load("hf://datasets/o/set", blob=held.path).shape.samples == 9
    assert len(web.asked("/cdn/c0ffee/data/train-0.csv")) == 1


async def test_a_hub_s_paths_don_t_lead_out(web: WebServer, tmp_path: Path) -> None:
    hub(web, {"../../../out.csv": CSV})
    async with cache(tmp_path, FetchSettings(hf_endpoint=web.url(""))) as data:
        await refused(data, "hf://datasets/o/set", Code.NOT_FOUND, "known format")


async def test_a_local_folder_comes_before_the_hub(tmp_path: Path) -> None:
    place = tmp_path / "hf" / "o" / "set"
    (place / "data").mkdir(parents=True)
    (place / "data" / "train.csv").write_bytes(CSV)
    (place / "data" / "test.csv").write_bytes(CSV[:-6])
    (tmp_path / "secret.csv").write_bytes(CSV)
    (place / "link.csv").symlink_to(tmp_path / "secret.csv")
    async with cache(tmp_path, FetchSettings(hf_root=tmp_path / "hf")) as data:
        held = await got(data, "hf://datasets/o/set")
        assert load("hf://datasets/o/set", blob=held.path).shape.samples == 3
        assert not list(held.path.rglob("link.csv"))
        one = await got(data, "hf://datasets/o/set/data/test.csv")
        assert one.path.read_bytes() == CSV[:-6]
        again = await got(data, "hf://datasets/o/set")
        assert "was on this node" in again.notes[0]
        (place / "data" / "train.csv").write_bytes(CSV + b"1,1,1\n")
        changed = await got(data, "hf://datasets/o/set")
        assert load("hf://datasets/o/set", blob=changed.path).shape.samples == 4
        assert load("hf://datasets/o/set", blob=held.path).shape.samples == 3
        await refused(data, "hf://datasets/o/set/link.csv", Code.FORBIDDEN)


# IPFS


def cid_of(block: bytes, codec: int) -> str:
    digest = bytes((0x12, 32)) + hashlib.sha256(block).digest()
    return "b" + base64.b32encode(bytes((1, codec)) + digest).decode().lower().rstrip("=")


def leaf(data: bytes) -> bytes:
    """The block that IPFS stores for a small file."""
    size = bytes((len(data),))
    unixfs = b"\x08\x02\x12" + size + data + b"\x18" + size
    return b"\x0a" + bytes((len(unixfs),)) + unixfs


async def test_ipfs_through_a_gateway_is_checked_where_one_block_tells(web: WebServer, tmp_path: Path) -> None:
    raw, small, tree = cid_of(CSV, 0x55), cid_of(leaf(CSV), 0x70), cid_of(b"a tree of blocks", 0x70)
    for path in (raw, small, tree, f"{tree}/data/t.csv"):
        web.pages[f"/ipfs/{path}"] = Served(CSV)
    lie = cid_of(b"something else", 0x55)
    web.pages[f"/ipfs/{lie}"] = Served(CSV)
    async with cache(tmp_path, FetchSettings(ipfs_gateway=web.url(""))) as data:
        for cid in (raw, small):
            held = await got(data, f"ipfs://{cid}")
            assert held.path.read_bytes() == CSV
            assert not any("could not be checked" in note for note in held.notes)
        for path in (tree, f"{tree}/data/t.csv"):
            held = await got(data, f"ipfs://{path}")
            assert any("could not be checked" in note for note in held.notes)
        await refused(data, f"ipfs://{lie}", Code.INVALID, "other content")
        count = len(web.requests)
        await got(data, f"ipfs://{raw}")
        assert len(web.requests) == count, "what is named by its content is not asked for again"
    async with cache(tmp_path / "none", FetchSettings()) as data:
        await refused(data, f"ipfs://{raw}", Code.UNSUPPORTED, "ipfs_gateway")


def test_a_cid_of_version_0_is_checked_too(tmp_path: Path) -> None:
    """The one of the empty file and of "hello world" are known to everybody who uses IPFS."""
    path = tmp_path / "f"
    path.write_bytes(b"")
    assert verify("QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH", path) is True
    path.write_bytes(b"hello world\n")
    assert verify("QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o", path) is True
    assert verify("QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH", path) is None
    assert verify("b" + "a" * 58, path) is None
