"""The composition root in this process: what it writes down, and what it says while it stops."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx

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


async def test_both_are_ready_once_the_node_is_there(tmp_path: Path) -> None:
    flags = ("server.grpc_address=127.0.0.1:0", "server.rest_address=127.0.0.1:0", "node.address=127.0.0.1:0")
    flags += ("auth.mode=open", "node.warm_children=0")
    statuses: list[str] = []

    async def look(ready: dict[str, Any]) -> None:
        async with httpx.AsyncClient(base_url=ready["rest"]) as http:
            statuses.extend(node["status"] for node in (await http.get("/api/nodes")).json()["nodes"])
        os.kill(os.getpid(), signal.SIGTERM)

    (tmp_path / "empty.toml").write_text("")
    loaded = config.load(file=tmp_path / "empty.toml", environ={}, flags=flags)
    assert await process.run(loaded, "both", tmp_path, on_ready=look) == 0
    assert statuses == ["online"]
