"""Every blob store keeps the contract of `ports.blobs`."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ports.blobs import BlobStore
from cyxwiz.store import blobs as module
from cyxwiz.store.blobs import ABANDONED_SECONDS, CHUNK_BYTES, FileBlobStore
from tests.contract.conftest import HandClock
from tests.soak import examples

DATA = bytes(range(256)) * 10
NAME = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobStore:
    return FileBlobStore(tmp_path / "blobs", HandClock())


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CyxError, match="file/blobs: blobs can't be kept there: Not a directory") as refused:
        FileBlobStore(tmp_path / "file" / "blobs", HandClock())
    assert refused.value.code is Code.INVALID


async def put(blobs: BlobStore, data: bytes) -> str:
    name = hashlib.sha256(data).hexdigest()
    upload = await blobs.begin(name, len(data), 0)
    await upload.write(data)
    await upload.commit()
    await upload.aclose()
    return name


async def content(blobs: BlobStore, name: str, *span: Any) -> bytes:
    return b"".join([chunk async for chunk in blobs.read(name, *span)])


async def fails(code: Code, awaitable: Any) -> CyxError:
    with pytest.raises(CyxError) as caught:
        await awaitable
    assert caught.value.code is code
    return caught.value


@pytest.mark.parametrize("data", [b"", b"x", DATA, os.urandom(2 * CHUNK_BYTES + 1)])
async def test_what_is_committed_can_be_read(blobs: FileBlobStore, data: bytes) -> None:
    name = await put(blobs, data)
    assert await blobs.size(name) == len(data)
    assert await blobs.partial(name) == 0
    assert await content(blobs, name) == data
    assert [len(chunk) <= CHUNK_BYTES async for chunk in blobs.read(name)].count(False) == 0


@pytest.mark.parametrize("damaged", [b"", DATA[:-1], DATA + b"x", b"?" + DATA[1:]])
async def test_what_the_disk_damaged_is_told_kept_aside_and_can_be_sent_again(
    blobs: FileBlobStore, tmp_path: Path, damaged: bytes
) -> None:
    """It said that it is there already, to whoever sent it again."""
    name = await put(blobs, DATA)
    (path,) = tmp_path.rglob(name[2:])
    path.write_bytes(damaged)
    await fails(Code.INTERNAL, content(blobs, name))
    assert await blobs.size(name) is None
    assert [each.read_bytes() for each in tmp_path.rglob(f"damaged/{name}")] == [damaged]
    await put(blobs, DATA)
    assert await content(blobs, name) == DATA


@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(offset=st.integers(-5, 2600), length=st.none() | st.integers(-5, 2600))
async def test_ranges(blobs: FileBlobStore, offset: int, length: int | None) -> None:
    if await blobs.size(NAME) is None:
        await put(blobs, DATA)
    end = len(DATA) if length is None else offset + length
    if 0 <= offset <= end <= len(DATA):
        assert await content(blobs, NAME, offset, length) == DATA[offset:end]
    else:
        await fails(Code.INVALID, content(blobs, NAME, offset, length))


async def test_an_upload_is_gone_on_with_and_unreadable_until_then(blobs: FileBlobStore, tmp_path: Path) -> None:
    upload = await blobs.begin(NAME, len(DATA), 0)
    await upload.write(DATA[:1000])
    await upload.aclose()
    await upload.aclose()
    clock = HandClock()
    clock.at = datetime.now(UTC)  # as the file system has it
    blobs = FileBlobStore(tmp_path / "blobs", clock)
    assert (await blobs.size(NAME), await blobs.partial(NAME)) == (None, 1000)
    await fails(Code.NOT_FOUND, content(blobs, NAME))
    assert "1000" in (await fails(Code.CONFLICT, blobs.begin(NAME, len(DATA), 1001))).message
    upload = await blobs.begin(NAME, len(DATA), 900)
    assert upload.offset == 900
    await upload.write(DATA[900:])
    await upload.commit()
    assert await content(blobs, NAME) == DATA
    await fails(Code.EXISTS, blobs.begin(NAME, len(DATA), 0))


async def test_two_uploads_of_one_content_conflict(blobs: FileBlobStore) -> None:
    upload = await blobs.begin(NAME, len(DATA), 0)
    await upload.write(DATA[:10])
    await fails(Code.CONFLICT, blobs.begin(NAME, len(DATA), 0))
    assert await blobs.partial(NAME) == 10
    await upload.aclose()
    await (await blobs.begin(NAME, len(DATA), 10)).aclose()


async def test_owners_do_not_meet(blobs: FileBlobStore) -> None:
    ann, bob = "0b5c2a4e-0000-4000-8000-00000000000a", "0b5c2a4e-0000-4000-8000-00000000000b"
    spoiling = await blobs.begin(NAME, len(DATA), 0, ann)
    await spoiling.write(b"garbage")
    assert [await blobs.partial(NAME, owner) for owner in (ann, bob, "")] == [7, 0, 0]
    upload = await blobs.begin(NAME, len(DATA), 0, bob)
    await upload.write(DATA)
    await upload.commit()
    assert await content(blobs, NAME) == DATA
    await spoiling.write(DATA[7:])
    await fails(Code.INVALID, spoiling.commit())
    assert await content(blobs, NAME) == DATA
    for owner in ("../x", "a/b", "a.b", "x" * 65):
        await fails(Code.INVALID, blobs.begin(NAME, len(DATA), 0, owner))
        await fails(Code.INVALID, blobs.partial(NAME, owner))


@pytest.mark.parametrize("data", [DATA[:-1], DATA[:-1] + b"?"])
async def test_what_is_not_as_announced_is_forgotten(blobs: FileBlobStore, data: bytes) -> None:
    upload = await blobs.begin(NAME, len(DATA), 0)
    await upload.write(data)
    await fails(Code.INVALID, upload.commit())
    assert (await blobs.size(NAME), await blobs.partial(NAME)) == (None, 0)
    await fails(Code.CONFLICT, upload.write(b""))
    assert await put(blobs, DATA) == NAME


async def test_more_than_announced_is_refused(blobs: FileBlobStore) -> None:
    upload = await blobs.begin(NAME, 10, 0)
    await fails(Code.INVALID, upload.write(DATA))
    await upload.aclose()
    await fails(Code.INVALID, blobs.begin(NAME, 10, 11))
    await fails(Code.INVALID, blobs.begin(NAME, -1, 0))


@pytest.mark.parametrize("name", ["", "../../etc/passwd", NAME.upper(), NAME + "\n", NAME[:-1], "/" * 64, "\0" * 64])
async def test_other_names_never_reach_the_disk(blobs: FileBlobStore, name: str) -> None:
    for call in (
        blobs.size(name),
        blobs.partial(name),
        blobs.begin(name, 1, 0),
        content(blobs, name),
        blobs.delete(name),
    ):
        await fails(Code.INVALID, call)


async def test_a_local_file_is_taken_in_once(blobs: FileBlobStore, tmp_path: Path) -> None:
    source = tmp_path / "weights"
    source.write_bytes(DATA)
    assert await blobs.add_file(source) == (NAME, len(DATA))
    assert await blobs.add_file(source) == (NAME, len(DATA))
    assert source.read_bytes() == DATA
    assert list((tmp_path / "blobs" / "incoming").iterdir()) == []
    with pytest.raises(FileNotFoundError):
        await blobs.add_file(tmp_path / "nosuch")


async def test_a_local_file_that_is_not_what_it_is_said_to_be_leaves_nothing(
    blobs: FileBlobStore, tmp_path: Path
) -> None:
    source = tmp_path / "weights"
    source.write_bytes(DATA)
    await fails(Code.INVALID, blobs.add_file(source, "0" * 64))
    assert not await blobs.size(NAME)
    assert list((tmp_path / "blobs" / "incoming").iterdir()) == []
    assert await blobs.add_file(source, NAME) == (NAME, len(DATA))


async def test_deleting(blobs: FileBlobStore) -> None:
    await put(blobs, DATA)
    await blobs.delete(NAME)
    await blobs.delete(NAME)
    assert await blobs.size(NAME) is None


async def test_a_full_disk_is_exhausted_and_the_upload_can_go_on(
    blobs: FileBlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await blobs.begin(NAME, len(DATA), 0)
    await upload.write(DATA[:100])
    real = os.pwrite

    def full(fd: int, data: Any, at: int) -> int:
        if at >= 150:
            raise OSError(errno.ENOSPC, "full")
        return real(fd, data[:50], at)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        await fails(Code.EXHAUSTED, upload.write(DATA[100:]))
    assert (upload.offset, await blobs.partial(NAME), await blobs.size(NAME)) == (100, 100, None)
    await upload.write(DATA[100:])
    await upload.commit()
    assert await content(blobs, NAME) == DATA


async def test_abandoned_uploads_are_swept_at_the_start(tmp_path: Path) -> None:
    clock = HandClock()
    blobs = FileBlobStore(tmp_path, clock)
    old, young, busy = (hashlib.sha256(word).hexdigest() for word in (b"old", b"young", b"busy"))
    for name in (old, young):
        upload = await blobs.begin(name, 100, 0)
        await upload.write(b"x")
        await upload.aclose()
    held = await blobs.begin(busy, 100, 0)
    await held.write(b"x")
    for name, hours in ((old, 25), (busy, 25), (young, 23)):
        at = clock.now().timestamp() - hours * 3600
        os.utime(tmp_path / "incoming" / name, (at, at))
    blobs = FileBlobStore(tmp_path, clock)
    assert [await blobs.partial(name) for name in (old, young, busy)] == [0, 1, 1]
    await held.aclose()


async def test_files_are_their_owners_alone(blobs: FileBlobStore, tmp_path: Path) -> None:
    await put(blobs, DATA)
    for path in (tmp_path / "blobs").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


async def test_an_upload_whose_caller_is_cancelled_meanwhile_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileBlobStore(tmp_path, HandClock())
    data = b"x" * 10
    name = hashlib.sha256(data).hexdigest()
    entered, gate = threading.Event(), threading.Event()
    locked = module._locked

    def slow(fd: int) -> bool:
        entered.set()
        gate.wait(5)
        return locked(fd)

    monkeypatch.setattr(module, "_locked", slow)
    task = asyncio.ensure_future(store.begin(name, len(data), 0))
    await asyncio.to_thread(entered.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    monkeypatch.undo()
    gate.set()
    upload = None
    async with asyncio.timeout(5):
        while upload is None:
            with contextlib.suppress(CyxError):  # CONFLICT, until the thread is done
                upload = await store.begin(name, len(data), 0)
            await asyncio.sleep(0.01)
    await upload.write(data)
    await upload.commit()


async def test_a_read_that_is_cancelled_closes_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileBlobStore(tmp_path, HandClock())
    (tmp_path / "file").write_bytes(b"y" * 10)
    name, _ = await store.add_file(tmp_path / "file")
    entered, gate = threading.Event(), threading.Event()
    opened: list[int] = []
    open_range = module._open_range

    def slow(*args: Any) -> tuple[int, int]:
        entered.set()
        gate.wait(5)
        found = open_range(*args)
        opened.append(found[0])
        return found

    monkeypatch.setattr(module, "_open_range", slow)
    task = asyncio.ensure_future(anext(store.read(name)))
    await asyncio.to_thread(entered.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    async with asyncio.timeout(5):
        while not opened or Path(f"/proc/self/fd/{opened[0]}").exists():
            await asyncio.sleep(0.01)


async def test_what_an_owner_has_left_unfinished(tmp_path: Path) -> None:
    clock = HandClock()
    blobs = FileBlobStore(tmp_path / "blobs", clock)
    for name, owner, data in (("a", "ann", b"12345"), ("b", "ann", b"123"), ("a", "bob", b"1")):
        upload = await blobs.begin(name * 64, 100, 0, owner)
        await upload.write(data)
        await upload.aclose()
    assert sorted(await blobs.unfinished("ann")) == [3, 5]
    for age, left in ((1, [3, 5]), (ABANDONED_SECONDS + 1, [])):
        for path in (tmp_path / "blobs" / "incoming").iterdir():
            os.utime(path, (0, clock.now().timestamp() - age))
        await blobs.sweep()
        assert sorted(await blobs.unfinished("ann")) == left
