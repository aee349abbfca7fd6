"""The challenge: the same answers everywhere, and no way to fake them; the disk; the score; the command."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cyxwiz.cli.app import run_command
from cyxwiz.cli.arguments import split
from cyxwiz.compute.hardware import challenge, disk, score
from cyxwiz.compute.hardware.challenge import NumpyBackend, Shape, TorchBackend
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.transports.grpc.probe import UnreachableError, probe
from tests.central import central

SMALL = Shape(128, 2, 1.0)
ROOM = 4 * 128 * 128 * 40


def answer(backend: Any, seed: int = 0, shape: Shape = SMALL) -> challenge.Result:
    return challenge.run(backend, "here", seed, 0.05, shape)


def test_numpy_and_torch_give_the_same_answer() -> None:
    one, other = answer(NumpyBackend(ROOM)), answer(TorchBackend("cpu", ROOM))
    assert one.answer == other.answer
    assert answer(NumpyBackend(ROOM), seed=1).answer != one.answer
    assert answer(NumpyBackend(ROOM // 2)).answer == one.answer, "whatever was filled"


def test_the_figures_are_of_what_was_done() -> None:
    ticks = iter(range(10_000))
    result = challenge.run(NumpyBackend(ROOM), "here", 0, 100.0, SMALL, lambda: float(next(ticks)))
    assert result.filled_bytes <= ROOM
    assert result.filled_bytes > ROOM // 2
    assert result.products == result.checked * SMALL.round
    # On a clock that moves 1 s a reading, a round of two products takes one second.
    assert result.matrix_gflops == pytest.approx(2 * 2 * 128**3 / 1e9)
    assert result.memory_gb_per_second == pytest.approx(2 * 4 * 128**2 * challenge.COPIES / 1e9)


class Lazy(NumpyBackend):
    """Copies instead of multiplying."""

    def product(self, a: Any, b: Any, out: Any) -> None:
        out[:] = a


class Sloppy(NumpyBackend):
    """Gets one number of each product wrong by one."""

    def product(self, a: Any, b: Any, out: Any) -> None:
        super().product(a, b, out)
        out[5, 7] += 1


class Half(NumpyBackend):
    """Takes its numbers in half precision."""

    def product(self, a: Any, b: Any, out: Any) -> None:
        super().product(a.astype(np.float16).astype(np.float32), b, out)


class Tf32(NumpyBackend):
    """Rounds what goes in to 11 bits, as tensor cores do, and adds in float32."""

    def product(self, a: Any, b: Any, out: Any) -> None:
        def rounded(block: Any) -> Any:
            return ((block.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)

        super().product(rounded(a), rounded(b), out)


@pytest.mark.parametrize("cheat", [Lazy, Sloppy, Half, Tf32])
def test_a_device_that_computes_wrongly_is_caught(cheat: type[NumpyBackend]) -> None:
    with pytest.raises(CyxError) as caught:
        answer(cheat(ROOM))
    assert caught.value.code is Code.INTERNAL
    assert "computes wrongly" in caught.value.message


def test_rotated_blocks_are_checked_by_the_rotation() -> None:
    drawn = [np.random.default_rng(3).integers(-8, 8, (64, 64)).astype(np.float32) for _ in range(challenge.DRAWN)]
    vector = np.arange(64.0)
    for index in (2, 9, 66):
        block = np.roll(drawn[index % 4], index, axis=0) if index >= 4 else drawn[index]
        assert (challenge._times(drawn, index, vector) == block.astype(np.float64) @ vector).all()


@pytest.mark.parametrize("shape", [challenge.CPU_SHAPE, challenge.GPU_SHAPE])
def test_the_numbers_stay_exact(shape: Shape) -> None:
    largest = 2 * challenge.WIDE - 1
    assert largest * shape.n < 2**24, "float32"
    assert largest * shape.n**2 * challenge.LARGEST_R < 2**53, "float64"


def test_too_little_memory_is_said() -> None:
    with pytest.raises(CyxError) as caught:
        answer(NumpyBackend(4 * 128 * 128 * 5))
    assert caught.value.code is Code.EXHAUSTED


# the disk


def test_the_disk_is_written_flushed_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (flushed.append(fd), fsync(fd)))
    result = disk.run(tmp_path, 0, 0.01)
    assert result.bytes >= 4 * disk.CHUNK
    assert result.bytes % disk.CHUNK == 0
    assert result.write_mb_per_second > 0
    assert result.read_mb_per_second > 0
    assert len(flushed) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_gives_back_other_bytes_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = disk._write

    def damage(path: Path, *args: Any) -> Any:
        done = write(path, *args)
        with path.open("r+b") as file:
            file.seek(5_000_000)
            file.write(b"x" * 16)
        return done

    monkeypatch.setattr(disk, "_write", damage)
    with pytest.raises(CyxError) as caught:
        disk.run(tmp_path, 0, 0.01)
    assert caught.value.code is Code.INTERNAL
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(CyxError) as caught:
        disk.run(tmp_path / "none", 0, 0.01)
    assert caught.value.code is Code.UNAVAILABLE


# the score


def test_the_reference_machine_has_100() -> None:
    assert score.compute_score(score.parts({term.name: term.reference for term in score.TERMS})) == pytest.approx(100)
    assert sum(term.weight for term in score.TERMS) == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "kept"), [('{"compute_score": 12.5}', 12.5), ('{"compute_score": null}', None), ("[", None), ("[]", None)]
)
def test_the_score_that_was_kept(tmp_path: Path, text: str, kept: float | None) -> None:
    assert score.kept_score(tmp_path) is None
    (tmp_path / score.RESULT).write_text(text)
    assert score.kept_score(tmp_path) == kept


def test_the_formula() -> None:
    parts = score.parts({"matrix": 2000.0, "memory": 50.0, "disk_write": None, "disk_read": 1000.0, "network": 100.0})
    assert score.compute_score(parts) == pytest.approx(100 * 2 ** (0.6 / 0.95))
    assert score.compute_score(score.parts({"matrix": 1.0})) is None
    assert score.compute_score(score.parts({"disk_read": 1.0, "memory": 5.0})) is None


# the network and the command


async def test_the_way_to_central_is_measured(tmp_path: Path) -> None:
    async with central(tmp_path) as running:
        result = await probe(running.address, None, 0, 0.05)
    assert 0 < result.latency_ms < 1000
    assert result.bytes >= 1 << 20
    assert result.upload_mb_per_second > 0


async def test_nobody_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cyxwiz.transports.grpc.probe.CONNECT_SECONDS", 0.2)
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1 does not answer"):
        await probe("127.0.0.1:1", None, 0, 0.05)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cyxwiz.transports.grpc.probe.CONNECT_SECONDS", 0.2)
    return tmp_path / "data"


def cyxwiz(*args: str) -> int:
    return run_command(*split(args))


def test_node_bench_prints_its_parts_and_keeps_the_result(folder: Path, capsys: Any) -> None:
    given = ("node", "bench", "--seconds", "0.5", "--set", "node.central=127.0.0.1:1", "--data-dir", str(folder))
    assert cyxwiz(*given, "--output", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["compute_score"] > 0
    assert [each["name"] for each in document["terms"]] == [term.name for term in score.TERMS]
    (device,) = [each for each in document["devices"] if each["device"] == "cpu"]
    assert device["checked"] >= challenge.ANSWERED
    assert "does not answer" in document["unset"]["network"]
    assert document["network"] is None
    assert json.loads((folder / "node" / "bench.json").read_text()) == document


def test_node_bench_and_hardware_for_people(folder: Path, capsys: Any) -> None:
    given = ("--set", "node.central=127.0.0.1:1", "--data-dir", str(folder))
    assert cyxwiz("node", "bench", "--seconds", "0.5", "--seed", "3", *given) == 0
    said = capsys.readouterr().out
    assert "the reference machine has 100" in said
    assert "unset: network: central at 127.0.0.1:1 does not answer" in said
    assert cyxwiz("node", "hardware", *given) == 0
    assert "cpu cores" in capsys.readouterr().out
    assert cyxwiz("node", "hardware", "--output", "json", *given) == 0
    assert json.loads(capsys.readouterr().out)["cpu_cores"] >= 1


def test_central_answers_the_bench(folder: Path, tmp_path: Path) -> None:
    """The command's own way to the network, on a real central."""
    from cyxwiz.cli.machine import _network
    from cyxwiz.config import load

    async def measure() -> Any:
        async with central(tmp_path) as running:
            config = load(environ={}, flags=[f"node.central={running.address}"]).config
            return await asyncio.to_thread(_network, config, 0, 0.05)

    assert asyncio.run(measure())["latency_ms"] > 0
