"""s3:// against a real S3 server in this process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from moto.server import ThreadedMotoServer

from cyxwiz.compute.data.fetch import DataCache
from cyxwiz.compute.data.load import load
from cyxwiz.compute.data.settings import FetchSettings
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.runtime.clock import SystemClock

CSV = b"1,2,0\n3,4,1\n5,6,0\n"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint: str) -> Iterator[Any]:
    client = botocore.session.Session().create_client(
        "s3", "us-east-1", endpoint_url=endpoint, aws_access_key_id="id", aws_secret_access_key="secret"
    )
    client.create_bucket(Bucket="data-sets")
    yield client
    for each in client.list_objects_v2(Bucket="data-sets").get("Contents", ()):
        client.delete_object(Bucket="data-sets", Key=each["Key"])
    client.delete_bucket(Bucket="data-sets")
    client.close()


@pytest.fixture
def settings(endpoint: str) -> FetchSettings:
    return FetchSettings(
        s3_endpoint=endpoint, s3_access_key="id", s3_secret_key="secret", s3_buckets=("data-sets", "no-such-bucket")
    )


async def no_blobs(digest: str, path: Path) -> None:
    raise AssertionError("no blob is asked for")


def cache(folder: Path, settings: FetchSettings) -> DataCache:
    return DataCache(folder / "cache", settings, SystemClock(), no_blobs)


async def refusal(data: DataCache, uri: str) -> CyxError:
    with pytest.raises(CyxError) as caught:
        await data.hold(uri)
    return caught.value


async def test_an_object_and_its_next_version(s3: Any, settings: FetchSettings, tmp_path: Path) -> None:
    s3.put_object(Bucket="data-sets", Key="a/t.csv", Body=CSV)
    data, uri = cache(tmp_path, settings), "s3://data-sets/a/t.csv"
    held = await data.hold(f"{uri}?label=0#sha256={hashlib.sha256(CSV).hexdigest()}")
    assert held is not None
    assert held.path.name == "t.csv"
    assert held.path.read_bytes() == CSV
    again = await data.hold(uri)
    assert again is not None
    assert "was on this node" in again.notes[0]
    s3.put_object(Bucket="data-sets", Key="a/t.csv", Body=CSV + b"7,8,1\n")
    changed = await data.hold(uri)
    assert changed is not None
    assert changed.path.read_bytes() == CSV + b"7,8,1\n"
    await data.aclose()


async def test_all_objects_below_a_prefix(s3: Any, settings: FetchSettings, tmp_path: Path) -> None:
    for name in ("set/train-1.csv", "set/train-2.csv", "set/deep/er/test.csv", "set/", "settle.csv"):
        s3.put_object(Bucket="data-sets", Key=name, Body=b"" if name.endswith("/") else CSV)
    data = cache(tmp_path, settings)
    for uri in ("s3://data-sets/set", "s3://data-sets/set/"):
        held = await data.hold(uri)
        assert held is not None
        found = sorted(path.relative_to(held.path).as_posix() for path in held.path.rglob("*.csv"))
        assert found == ["deep/er/test.csv", "train-1.csv", "train-2.csv"]
        assert load(uri, blob=held.path).shape.samples == 6
    whole = await data.hold("s3://data-sets")
    assert whole is not None
    assert (whole.path / "settle.csv").read_bytes() == CSV
    s3.put_object(Bucket="data-sets", Key="bad/../../out.csv", Body=CSV)
    assert (await refusal(data, "s3://data-sets/bad")).code is Code.INVALID
    assert "relative path" in (await refusal(data, "s3://data-sets/bad")).message
    await data.aclose()


async def test_what_is_refused(s3: Any, settings: FetchSettings, tmp_path: Path) -> None:
    s3.put_object(Bucket="data-sets", Key="t.csv", Body=CSV)
    data = cache(tmp_path, settings)
    assert (await refusal(data, "s3://data-sets/none")).code is Code.NOT_FOUND
    assert (await refusal(data, "s3://no-such-bucket/x")).code is Code.NOT_FOUND
    other = await refusal(data, "s3://other-bucket/x")
    assert other.code is Code.FORBIDDEN
    assert "s3_buckets" in other.message
    await data.aclose()
    small = cache(tmp_path / "small", replace(settings, max_dataset_bytes=10))
    assert (await refusal(small, "s3://data-sets/t.csv")).code is Code.INVALID
    await small.aclose()
    away = cache(tmp_path / "away", replace(settings, s3_endpoint="http://127.0.0.1:9"))
    error = await refusal(away, "s3://data-sets/t.csv")
    assert error.code is Code.UNAVAILABLE
    assert error.retryable
    assert "secret" not in error.message
    await away.aclose()


async def test_without_keys_requests_are_not_signed(s3: Any, endpoint: str, tmp_path: Path) -> None:
    """Then only what everybody may read is read."""
    s3.put_object(Bucket="data-sets", Key="t.csv", Body=CSV, ACL="public-read")
    s3.put_object(Bucket="data-sets", Key="private.csv", Body=CSV)
    data = cache(tmp_path, FetchSettings(s3_endpoint=endpoint))
    assert (await refusal(data, "s3://data-sets/private.csv")).code is Code.FORBIDDEN
    url = data._sources._bucket.url("data-sets", "t.csv")
    assert "Signature" not in url
    held = await data.hold("s3://data-sets/t.csv")
    assert held is not None
    assert held.path.read_bytes() == CSV
    await data.aclose()
