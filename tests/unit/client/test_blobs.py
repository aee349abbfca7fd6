from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cyxwiz.client import Client
from cyxwiz.client.blobs import place, writing
from cyxwiz.domain.errors import Code, CyxError
from tests.unit.client.server import FakeCentral, job, serving

DATA = os.urandom(900_000)
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
async def fake() -> FakeCentral:
    return FakeCentral()


@pytest.fixture
async def client(fake: FakeCentral, tmp_path: Path) -> AsyncIterator[Client]:
    async with serving(fake) as port, Client(f"127.0.0.1:{port}", "k", tmp_path / "none", patience=5) as opened:
        yield opened


async def test_push_and_again(fake: FakeCentral, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(DATA)
    seen: list[int] = []
    answer = await client.push_blob(file, lambda name, done, size: seen.append(done))
    assert answer == {"sha256": SHA, "size": len(DATA), "uri": f"blob://sha256/{SHA}", "sent": len(DATA)}
    assert fake.blobs[SHA] == DATA
    assert seen[-1] == len(DATA)
    assert (await client.push_blob(file))["sent"] == 0


async def test_push_goes_on_after_a_cut(fake: FakeCentral, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(DATA)
    fake.cut_after = 300_000
    answer = await client.push_blob(file)
    assert fake.blobs[SHA] == DATA
    assert 0 < answer["sent"] < len(DATA)


async def test_push_over_something_else_begins_anew(fake: FakeCentral, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(DATA)
    fake.partial[SHA] = b"x" * 1000
    await client.push_blob(file)
    assert fake.blobs[SHA] == DATA


async def test_push_of_nothing(fake: FakeCentral, client: Client, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    await client.push_blob(tmp_path / "empty")
    assert list(fake.blobs.values()) == [b""]
    with pytest.raises(CyxError, match="No such file"):
        await client.push_blob(tmp_path / "nope")


async def test_pull_whole_and_again(fake: FakeCentral, client: Client, tmp_path: Path) -> None:
    fake.blobs[SHA] = DATA
    path = await client.pull_blob(f"blob://sha256/{SHA}", tmp_path / "new" / "data")
    assert path.read_bytes() == DATA
    assert [each.name for each in path.parent.iterdir()] == ["data"]
    await client.pull_blob(SHA, path)


async def test_pull_goes_on_after_a_cut(fake: FakeCentral, client: Client, tmp_path: Path) -> None:
    fake.blobs[SHA] = DATA
    fake.cut_after = 400_000
    assert (await client.pull_blob(SHA, tmp_path / "data")).read_bytes() == DATA


async def test_pull_over_a_bad_beginning(fake: FakeCentral, client: Client, tmp_path: Path) -> None:
    fake.blobs[SHA] = DATA
    for beginning in (b"x" * 5000, b"x" * (len(DATA) + 5), b"x" * len(DATA)):
        (tmp_path / f"data.{SHA[:12]}.part").write_bytes(beginning)
        (tmp_path / "data").unlink(missing_ok=True)
        assert (await client.pull_blob(SHA, tmp_path / "data")).read_bytes() == DATA


async def test_pull_of_what_it_is_not(fake: FakeCentral, client: Client, tmp_path: Path) -> None:
    fake.blobs[SHA] = b"something else"
    with pytest.raises(CyxError, match="not what"):
        await client.pull_blob(SHA, tmp_path / "data")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CyxError) as caught:
        await client.pull_blob("0" * 64, tmp_path / "data")
    assert caught.value.code is Code.NOT_FOUND
    with pytest.raises(CyxError, match="SHA-256"):
        await client.pull_blob("../etc/passwd", tmp_path / "data")


async def test_download_of_a_result(fake: FakeCentral, client: Client, tmp_path: Path) -> None:
    fake.blobs[SHA] = DATA
    files = [{"name": "model.safetensors", "sha256": SHA, "size": len(DATA)}]
    fake.answers["GetJobResult"] = {"files": files}
    assert await client.download(job()["id"], tmp_path / "out") == [tmp_path / "out" / "model.safetensors"]
    files[0]["name"] = "../../evil"
    with pytest.raises(CyxError, match="does not belong"):
        await client.download(job()["id"], tmp_path / "out")


@pytest.mark.parametrize(("uri", "said"), [("file:///m.bin", "at 'file:///m.bin'"), ("", "did not say where")])
async def test_download_of_a_result_that_its_node_kept(
    fake: FakeCentral, client: Client, tmp_path: Path, uri: str, said: str
) -> None:
    fake.answers["GetJobResult"] = {"files": [], "model_weights_uri": uri}
    with pytest.raises(CyxError, match=said) as caught:
        await client.download(job()["id"], tmp_path / "out")
    assert caught.value.code is Code.NOT_FOUND
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["", "/etc/passwd", "a/../../b", "..", "a\\b", "a\0b", "."])
def test_names_that_lead_out(name: str) -> None:
    with pytest.raises(CyxError, match="does not belong"):
        place(Path("out"), name)


def test_names_that_do_not() -> None:
    assert place(Path("out"), "a/b.txt") == Path("out/a/b.txt")


async def test_a_folder_is_pushed_as_one_archive_that_is_always_the_same(
    fake: FakeCentral, client: Client, tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    (folder / "cat").mkdir(parents=True)
    (folder / "cat" / "1.txt").write_bytes(b"one")
    (folder / "a.txt").write_bytes(b"two")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_bytes(b"hidden")
    (folder / "link.txt").symlink_to("/etc/passwd")
    answer = await client.push_blob(folder)
    with tarfile.open(fileobj=io.BytesIO(fake.blobs[answer["sha256"]])) as tar:
        assert {member.name: tar.extractfile(member).read() for member in tar} == {  # type: ignore[union-attr]
            "a.txt": b"two",
            "cat/1.txt": b"one",
        }
    os.utime(folder / "a.txt", (1, 1))
    (folder / "a.txt").chmod(0o600)
    folder.rename(tmp_path / "other")
    assert (await client.push_blob(tmp_path / "other"))["sha256"] == answer["sha256"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(CyxError, match="no files"):
        await client.push_blob(tmp_path / "empty")


@pytest.mark.parametrize("error", [TimeoutError("late"), ConnectionResetError("gone")])
def test_what_the_network_does_is_no_fault_of_the_disk(tmp_path: Path, error: OSError) -> None:
    with pytest.raises(type(error)), writing(tmp_path):
        raise error
