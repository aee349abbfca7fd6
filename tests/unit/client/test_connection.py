from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from cyxwiz import wire
from cyxwiz.client.connection import Credentials, discover, keep_session, open_channel, parse_server, where
from cyxwiz.client.errors import BROKEN_WRITE, is_passing, rebuild
from cyxwiz.domain.errors import Code, CyxError


@pytest.mark.parametrize(
    ("text", "address", "tls"),
    [
        ("127.0.0.1:50051", "127.0.0.1:50051", False),
        ("host", "host:50051", False),
        ("grpc://host:1", "host:1", False),
        ("http://host:1/", "host:1", False),
        ("https://host:1", "host:1", True),
        ("grpcs://[::1]:1", "[::1]:1", True),
        ("[::1]:7", "[::1]:7", False),
    ],
)
def test_addresses(text: str, address: str, tls: bool) -> None:
    assert parse_server(text) == (address, tls)


@pytest.mark.parametrize("text", ["", "ftp://x", "http://", "host:port", "host:99999", "host:1/path", "a@b:1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(CyxError) as caught:
        parse_server(text)
    assert caught.value.code is Code.INVALID


def kept(folder: Path, **changed: Any) -> None:
    document = {"grpc": "127.0.0.1:7001", "rest": "http://127.0.0.1:7002", "key": "cyx_kept", **changed}
    (folder / "client.json").write_text(json.dumps(document))


def test_the_data_directory_tells_all(tmp_path: Path) -> None:
    kept(tmp_path)
    found = discover(data_dir=tmp_path, environ={})
    assert (found.address, found.tls, found.own, found.credentials.token) == ("127.0.0.1:7001", False, True, "cyx_kept")
    assert discover(environ={"CYXWIZ_DATA_DIR": str(tmp_path)}).credentials.token == "cyx_kept"
    assert discover("http://127.0.0.1:7002", data_dir=tmp_path, environ={}).address == "127.0.0.1:7001"
    assert discover(data_dir=tmp_path / "none", environ={}).address == "127.0.0.1:50051"


def test_a_kept_key_goes_to_no_other_server(tmp_path: Path) -> None:
    kept(tmp_path)
    assert discover("other:7001", data_dir=tmp_path, environ={}).credentials.token == ""
    assert discover(data_dir=tmp_path, environ={"CYXWIZ_SERVER": "other:1"}).credentials.token == ""
    assert discover("127.0.0.1:7001", data_dir=tmp_path, environ={}).credentials.token == "cyx_kept"


def test_what_is_said_wins(tmp_path: Path) -> None:
    kept(tmp_path)
    environ = {"CYXWIZ_SERVER": "env:1", "CYXWIZ_TOKEN": "env-token\n"}
    found = discover(data_dir=tmp_path, environ=environ)
    assert (found.address, found.credentials) == ("env:1", Credentials("env-token"))
    found = discover("flag:2", "flag-token", tmp_path, environ=environ)
    assert (found.address, found.credentials.token) == ("flag:2", "flag-token")


def test_tls_is_kept_with_the_address(tmp_path: Path) -> None:
    kept(tmp_path, grpc="grpcs://127.0.0.1:7001", ca_file="/x/ca.crt")
    for said in (None, "127.0.0.1:7001"):
        found = discover(said, data_dir=tmp_path, environ={})
        assert (found.tls, found.ca_file) == (True, Path("/x/ca.crt"))
    kept(tmp_path, grpc="grpcs://127.0.0.1:7001")
    assert discover("127.0.0.1:7001", data_dir=tmp_path, environ={}).tls
    assert discover("other:1", ca_file="ca.crt", data_dir=tmp_path, environ={}).tls


def test_a_certificate_of_the_client_is_kept_with_the_address(tmp_path: Path) -> None:
    kept(tmp_path, grpc="grpcs://127.0.0.1:7001", cert_file="/x/me.crt", key_file="/x/me.key")
    assert discover(data_dir=tmp_path, environ={}).certificate == (Path("/x/me.crt"), Path("/x/me.key"))
    assert discover("other:1", data_dir=tmp_path, environ={}).certificate is None
    environ = {"CYXWIZ_CERT_FILE": "a.crt", "CYXWIZ_KEY_FILE": "a.key"}
    found = discover("grpcs://other:1", data_dir=tmp_path, environ=environ)
    assert found.certificate == (Path("a.crt"), Path("a.key"))
    keep_session(tmp_path / "session.json", {"access_token": "a", **where(found)})
    assert discover(data_dir=tmp_path, environ={}).certificate == (Path("a.crt").resolve(), Path("a.key").resolve())
    with pytest.raises(CyxError, match="go together"):
        discover("another:1", data_dir=tmp_path, environ={}, cert_file="a.crt")
    with pytest.raises(CyxError, match=r"a\.crt"):
        open_channel(found)


def test_a_log_in_before_the_key_and_only_at_its_server(tmp_path: Path) -> None:
    kept(tmp_path)
    keep_session(tmp_path / "session.json", {"access_token": "a", "refresh_token": "r", "server": None})
    found = discover(data_dir=tmp_path, environ={})
    assert found.credentials == Credentials("a", "r", tmp_path / "session.json")
    keep_session(tmp_path / "session.json", {"access_token": "a", "server": "grpcs://far:9", "ca_file": "/y"})
    found = discover(data_dir=tmp_path, environ={})
    assert (found.address, found.tls, found.ca_file, found.credentials.token) == ("far:9", True, Path("/y"), "a")
    assert discover("127.0.0.1:7001", data_dir=tmp_path, environ={}).credentials.token == "cyx_kept"


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "client.json").write_text(text, encoding="latin-1")
    with pytest.raises(CyxError, match=r"client\.json"):
        discover(data_dir=tmp_path, environ={})


class Failure:
    def __init__(self, status: grpc.StatusCode, details: str = "", trailer: Any = None) -> None:
        self._status, self._details = status, details
        self._trailer = () if trailer is None else ((wire.ERROR_METADATA, trailer),)

    def code(self) -> grpc.StatusCode:
        return self._status

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._trailer


def rebuilt(*args: Any) -> CyxError:
    return rebuild(Failure(*args), "host:1")  # type: ignore[arg-type]


@pytest.mark.parametrize("code", list(Code))
def test_every_code_comes_back(code: Code) -> None:
    status = next(each for each in grpc.StatusCode if each.value[0] == wire.CODES[code].grpc)
    body = {"code": code, "message": "m", "details": {"a": 1}, "retryable": False}
    error = rebuilt(status, "m", json.dumps(body).encode())
    assert (error.code, error.message, error.details, error.retryable) == (code, "m", {"a": 1}, False)


@pytest.mark.parametrize("trailer", [b"\xff", b"[]", b"{}", b'{"code": "NEW", "message": "m"}', b'"x"'])
def test_a_trailer_that_is_none_falls_back_to_the_status(trailer: bytes) -> None:
    assert rebuilt(grpc.StatusCode.NOT_FOUND, "gone", trailer).code is Code.NOT_FOUND


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("last error: UNAVAILABLE: ipv4:127.0.0.1:1: Socket closed", "grpcs://"),
        ("SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER: Invalid certificate verification context: OK", "no TLS"),
    ],
)
def test_a_door_that_speaks_otherwise_says_how(said: str, means: str) -> None:
    error = rebuilt(grpc.StatusCode.UNAVAILABLE, f"failed to connect to all addresses; {said}")
    assert means in error.message
    assert "start a server" not in error.message


def test_bare_statuses() -> None:
    for status in grpc.StatusCode:
        if status is not grpc.StatusCode.OK:
            assert rebuilt(status, "said").message
    assert rebuilt(grpc.StatusCode.FAILED_PRECONDITION, "x").code is Code.CONFLICT
    assert rebuilt(grpc.StatusCode.CANCELLED).code is Code.UNAVAILABLE
    assert "older" in rebuilt(grpc.StatusCode.UNIMPLEMENTED, "Method not found!").message
    assert rebuilt(grpc.StatusCode.INTERNAL, "went wrong").code is Code.INTERNAL


def test_a_write_into_an_ended_call_may_be_repeated() -> None:
    error = rebuilt(grpc.StatusCode.INTERNAL, BROKEN_WRITE)
    assert is_passing(error)
    assert "while a message was being sent" in error.message
