from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from cyxwiz.compute.data.builtin import builtin_files
from cyxwiz.compute.data.in_place import InPlace

CSV = b"a,b,kind\n1,2,0\n3,4,1\n"


def digest(uri: str, *roots: Path, most: int = 1 << 20) -> str:
    return asyncio.run(InPlace(most).digest(uri, roots))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_file_has_its_own_and_a_folder_that_of_its_lines(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "b.csv").write_bytes(CSV)
    (tmp_path / "set" / "a.csv").write_bytes(CSV + b"5,6,1\n")
    assert digest("file://csv/set/b.csv", tmp_path) == sha256(CSV)
    lines = f"{sha256(CSV + b'5,6,1' + bytes([10]))} a.csv\n{sha256(CSV)} b.csv"
    assert digest("file://csv/set", tmp_path) == sha256(lines.encode())


def test_bundled_sets_are_hashed_as_files() -> None:
    file = builtin_files("builtin:iris", "iris")[0]
    assert digest("builtin:iris") == sha256(file.read_bytes())
    lines = [f"{sha256(each.read_bytes())} {each.name}" for each in builtin_files("builtin:diabetes", "diabetes")]
    assert (len(lines), digest("builtin:diabetes")) == (2, sha256("\n".join(lines).encode()))


def test_what_is_no_file_too_large_or_not_for_jobs_has_none(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.csv").write_bytes(CSV)
    (root / "t.csv").write_bytes(CSV)
    assert digest("mock://random", root) == ""
    assert digest("file://csv/t.csv", root, most=len(CSV)) == sha256(CSV)
    assert digest("file://csv/t.csv", root, most=len(CSV) - 1) == ""
    assert digest("file://csv/../secret.csv", root) == ""
    assert digest("file://csv/absent.csv", root) == ""
    assert digest("file://csv/t.csv") == ""
    os.mkfifo(root / "pipe.csv")  # nobody writes to it: reading would never end
    assert digest("file://csv/pipe.csv", root) == ""


def test_a_set_is_read_again_only_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes(CSV)
    hashed: list[Path] = []

    def counted(path: Path) -> str:
        hashed.append(path)
        return sha256(path.read_bytes())

    monkeypatch.setattr("cyxwiz.compute.data.in_place.file_sha256", counted)
    kept = InPlace(1 << 20)
    found = [asyncio.run(kept.digest("file://csv/t.csv", (tmp_path,))) for _ in range(2)]
    assert (found, len(hashed)) == ([sha256(CSV)] * 2, 1)
    file.write_bytes(CSV.replace(b"4", b"5"))
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert asyncio.run(kept.digest("file://csv/t.csv", (tmp_path,))) == sha256(file.read_bytes())
