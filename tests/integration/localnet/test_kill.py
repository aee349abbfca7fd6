"""`cyxwiz localnet` as a process: what it answered is there after it was killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer

from cyxwiz.domain.errors import CyxError
from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.localnet.genesis import signed
from cyxwiz.ledger.programs import Program, local_id
from cyxwiz.ledger.rpc import Connection, JsonRpc
from tests.ledger import ADA, SOL


@asynccontextmanager
async def localnet(data: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any], JsonRpc]]:
    ready = data / "ready.json"
    words = ["-m", "cyxwiz", "--data-dir", str(data), "localnet", "--port", "0", "--ready-file", str(ready)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(60):
            while not ready.exists() or json.loads(ready.read_text())["pid"] != process.pid:
                assert process.returncode is None, (await process.communicate())[1].decode()
                await asyncio.sleep(0.02)
        document = json.loads(ready.read_text())
        connection = Connection(document["url"])
        mint = Pubkey.from_string(document["mint"])
        yield process, document, JsonRpc(connection.call, mint=mint, programs=[local_id(each) for each in Program])
        await connection.aclose()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def pay(blockhash: Hash, number: int, to: Pubkey) -> bytes:
    give = transfer(TransferParams(from_pubkey=ADA.pubkey, to_pubkey=to, lamports=SOL + number))
    return bytes(signed([give], [ADA], blockhash))


@pytest.mark.parametrize("enough", [0, 40])
async def test_what_was_answered_outlives_a_kill(tmp_path: Path, enough: int) -> None:
    people = [Key.new().pubkey for _ in range(400)]
    answered: dict[int, Signature] = {}
    async with localnet(tmp_path) as (process, first, rpc):
        faucet = Connection(first["url"])
        await faucet.call("requestAirdrop", [str(ADA.pubkey), 5000 * SOL])
        await faucet.aclose()
        blockhash, last = await rpc.latest_blockhash()

        async def one(number: int) -> None:
            try:
                answered[number] = await rpc.send(pay(blockhash, number, people[number]))
            except CyxError:
                return  # killed meanwhile: not answered

        async with asyncio.TaskGroup() as group:
            for number in range(len(people)):
                group.create_task(one(number))
            await asyncio.sleep(0.05)
            while len(answered) < enough:
                await asyncio.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
    assert len(answered) >= enough
    async with localnet(tmp_path) as (process, second, rpc):
        assert second["mint"] == first["mint"]
        assert second["transactions"] >= first["transactions"] + 1 + len(answered)
        for number, signature in answered.items():
            (status,) = (await rpc.statuses([signature])).found
            assert status is not None, number
            assert status.error is None
            account = await rpc.account(people[number])
            assert account is not None
            assert account.lamports == SOL + number
        assert (await rpc.height()).block_height <= last, "the restart took too long for the next step"
        number = next(each for each in range(len(people), 10_000) if each not in answered)
        await rpc.send(pay(blockhash, number, people[0]))  # a blockhash of before the kill
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        assert not (tmp_path / "ready.json").exists()


async def test_the_ready_file_of_one_that_was_killed_is_taken_away(tmp_path: Path) -> None:
    async with localnet(tmp_path) as (process, _, _):
        process.kill()
        await process.wait()
    ready = tmp_path / "ready.json"
    assert ready.exists()
    (tmp_path / "localnet" / "genesis.json").write_text("rubbish")
    words = ["-m", "cyxwiz", "--data-dir", str(tmp_path), "localnet", "--port", "0", "--ready-file"]
    for place, status in ((ready, 2), (tmp_path / "none" / "x.json", 2)):
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, str(place), stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
        )
        _, told = await process.communicate()
        assert process.returncode == status, told
        assert not ready.exists()
        assert b"Traceback" not in told
    assert f"--ready-file {place}: {place.parent} is no folder".encode() in told


async def test_a_second_process_on_the_same_chain_is_refused(tmp_path: Path) -> None:
    async with localnet(tmp_path):
        words = ["-m", "cyxwiz", "--data-dir", str(tmp_path), "localnet", "--port", "0"]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=pipe, stderr=pipe)
        _, told = await process.communicate()
        assert process.returncode == 1
        assert b"in use by another process" in told
