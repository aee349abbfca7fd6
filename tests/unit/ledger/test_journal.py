"""The log of a local chain: torn ends, damage, a disk that refuses."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ledger.localnet.journal import FileJournal

GROUPS = [[b"one"], [b"two", b"", b"three" * 50], [b"four"]]
ALL = [record for group in GROUPS for record in group]


async def written(path: Path, groups: list[list[bytes]] = GROUPS) -> list[int]:
    """Writes the groups; the file's size after each."""
    journal = FileJournal(path)
    assert journal.read() == []
    sizes = [path.stat().st_size]
    for group in groups:
        await journal.commit(group)
        sizes.append(path.stat().st_size)
    journal.close()
    return sizes


def read(path: Path) -> list[bytes]:
    journal = FileJournal(path)
    try:
        return journal.read()
    finally:
        journal.close()


async def test_what_was_committed_is_read_in_order(tmp_path: Path) -> None:
    await written(tmp_path / "log")
    assert read(tmp_path / "log") == ALL


async def test_every_torn_end_is_cut_to_whole_groups(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "log"
    sizes = await written(path)
    whole = path.read_bytes()
    kept = {size: sum(map(len, GROUPS[:number])) for number, size in enumerate(sizes)}
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        caplog.clear()
        records = kept[max((size for size in sizes if size <= length), default=sizes[0])]
        assert read(path) == ALL[:records]
        assert bool(caplog.records) == (length not in (*sizes, *range(sizes[0])))
        assert path.stat().st_size == max((size for size in sizes if size <= length), default=sizes[0])


async def test_writing_goes_on_after_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "log"
    await written(path)
    path.write_bytes(path.read_bytes()[:-2])
    journal = FileJournal(path)
    assert journal.read() == ALL[:-1]
    await journal.commit([b"again"])
    journal.close()
    assert read(path) == [*ALL[:-1], b"again"]


@pytest.mark.parametrize("group", [0, 1])
async def test_damage_in_the_middle_is_refused_and_left_as_it_is(tmp_path: Path, group: int) -> None:
    path = tmp_path / "log"
    sizes = await written(path)
    good = path.read_bytes()
    for offset in range(sizes[group], sizes[group + 1]):
        bad = bytearray(good)
        bad[offset] ^= 0x40
        path.write_bytes(bad)
        with pytest.raises(CyxError, match="damaged") as caught:
            read(path)
        assert caught.value.code is Code.INVALID
        assert path.read_bytes() == bad


@pytest.mark.parametrize("head", [b"not a log of ours, at all", b"CYXCHAIN\x09\0\0\0saltsalt"])
def test_another_file_is_refused(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(head)
    with pytest.raises(CyxError) as caught:
        FileJournal(path)
    assert caught.value.code is Code.INVALID
    assert path.read_bytes() == head


async def test_one_process_has_it(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "log")
    with pytest.raises(CyxError) as caught:
        FileJournal(tmp_path / "log")
    assert caught.value.code is Code.CONFLICT
    journal.close()
    FileJournal(tmp_path / "log").close()


async def test_a_full_disk_refuses_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = FileJournal(tmp_path / "log")
    journal.read()
    await journal.commit([b"before"])
    real = os.pwrite

    def half(fd: int, data: bytes, offset: int) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data[: len(data) // 2], offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", half)
        with pytest.raises(CyxError, match="No space") as caught:
            await journal.commit([b"x" * 100])
        assert caught.value.code is Code.UNAVAILABLE
    await journal.commit([b"after"])
    journal.close()
    assert read(tmp_path / "log") == [b"before", b"after"]


async def test_a_disk_that_takes_nothing_back_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = FileJournal(tmp_path / "log")
    journal.read()

    def dead(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        for name in ("fdatasync", "fsync", "ftruncate"):
            patched.setattr(os, name, dead)
        with pytest.raises(CyxError):
            await journal.commit([b"lost"])
    with pytest.raises(CyxError, match="restart") as caught:
        await journal.commit([b"refused"])
    assert caught.value.code is Code.UNAVAILABLE
    journal.close()
