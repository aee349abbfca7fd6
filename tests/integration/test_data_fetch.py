"""Fetching data: real servers on loopback that are slow, cut, change and lie."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import shutil
import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from cyxwiz.compute.data.fetch import Data
from cyxwiz.compute.data.load import load
from cyxwiz.compute.data.settings import FetchSettings
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.job import data_key
from tests.fetching import BIG, CSV, OPEN, cache, got, refused
from tests.webserver import Served, WebServer, webserver

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
