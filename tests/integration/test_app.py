"""The composition root in this process: what it writes down, and what it says while it stops."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from cyxwiz import config
from cyxwiz.app import process


async def test_a_central_that_stops_says_so_and_is_found_on_every_interface(tmp_path: Path) -> None:
    flags = ("server.grpc_address=0.0.0.0:0", "server.rest_address=[::]:0", "tls.allow_plaintext=true")
    found: dict[str, Any] = {}

    async def look(ready: dict[str, Any]) -> None:
        found["client"] = client = json.loads((tmp_path / "client.json").read_text())
        found["ready"] = ready
        async with httpx.AsyncClient(base_url=client["rest"]) as http:
            found["before"] = (await http.get("/api/ready")).status_code
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.05)
            found["after"] = (await http.get("/api/ready")).status_code

    (tmp_path / "empty.toml").write_text("")
    loaded = config.load(file=tmp_path / "empty.toml", environ={}, flags=flags)
    assert await process.run(loaded, "central", tmp_path, on_ready=look) == 0
    assert (found["before"], found["after"]) == (200, 503)
    client, ready = found["client"], found["ready"]
    assert client["grpc"] == ready["grpc"].replace("0.0.0.0", "127.0.0.1")
    assert client["rest"] == ready["rest"].replace("[::]", "[::1]")


def settings(folder: Path, *flags: str) -> config.Loaded:
    (folder / "empty.toml").write_text("")
    loopback = ("server.grpc_address=127.0.0.1:0", "server.rest_address=127.0.0.1:0")
    return config.load(file=folder / "empty.toml", environ={}, flags=(*loopback, *flags))


async def test_the_ready_file_is_there_while_its_process_serves(tmp_path: Path) -> None:
    file, data = tmp_path / "ready.json", tmp_path / "data"
    found: list[Any] = []

    async def stop(ready: dict[str, Any]) -> None:
        found.append(json.loads(file.read_text()) == ready)
        os.kill(os.getpid(), signal.SIGTERM)

    loaded = settings(tmp_path)
    assert await process.run(loaded, "central", data, ready_file=file, on_ready=stop) == 0
    assert found == [True]
    assert not file.exists()
    gone = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await gone.wait()
    broken = settings(tmp_path, f"database.url=sqlite:///{tmp_path}/none/x.db")
    for pid, kept in ((os.getpid(), True), (gone.pid, False)):  # what a running one says is left alone
        file.write_text(json.dumps({"pid": pid}))
        with pytest.raises(Exception, match="none"):
            await process.run(broken, "central", data, ready_file=file)
        assert file.exists() is kept


@pytest.mark.parametrize("place", ["file", "file/below"])
async def test_places_that_will_not_do_are_named_before_anything_starts(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(config.ConfigError, match=r"the data directory .*file.* can't be used: .*--data-dir"):
        await process.run(settings(tmp_path), "central", tmp_path / place)
    for ready in (tmp_path / "file" / "x", tmp_path / "none" / "x", tmp_path):
        with pytest.raises(config.ConfigError, match=f"--ready-file {ready}: "):
            await process.run(settings(tmp_path), "central", tmp_path / "data", ready_file=ready)
    assert list((tmp_path / "data").iterdir()) == []


async def test_both_are_ready_once_the_node_is_there(tmp_path: Path) -> None:
    statuses: list[str] = []

    async def look(ready: dict[str, Any]) -> None:
        async with httpx.AsyncClient(base_url=ready["rest"]) as http:
            statuses.extend(node["status"] for node in (await http.get("/api/nodes")).json()["nodes"])
        os.kill(os.getpid(), signal.SIGTERM)

    loaded = settings(tmp_path, "node.address=127.0.0.1:0", "auth.mode=open", "node.warm_children=0")
    assert await process.run(loaded, "both", tmp_path, on_ready=look) == 0
    assert statuses == ["online"]
