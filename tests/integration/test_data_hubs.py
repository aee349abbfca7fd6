"""Data of a hub and of IPFS, from servers on loopback."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

from cyxwiz.compute.data.cid import verify
from cyxwiz.compute.data.load import load
from cyxwiz.compute.data.settings import FetchSettings
from cyxwiz.domain.errors import Code
from tests.fetching import CSV, cache, got, refused
from tests.webserver import Served, WebServer

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
