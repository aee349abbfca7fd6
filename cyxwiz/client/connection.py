"""Which server to call, as whom, and the channel to it.

What is said wins over the environment (CYXWIZ_SERVER, CYXWIZ_TOKEN, CYXWIZ_DATA_DIR, CYXWIZ_CA_FILE, CYXWIZ_CERT_FILE,
CYXWIZ_KEY_FILE), that over a log-in kept in `session.json`, and that over `client.json`, which central leaves in its
data directory. Refused: sending a kept credential to any server but the one that it is for.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc

from cyxwiz.domain.errors import Code, CyxError, invalid

CONNECT_MS = 5_000  # TLS to the other side of the world takes one
DEFAULT_PORT = 50051
DEFAULT_ADDRESS = f"127.0.0.1:{DEFAULT_PORT}"
PLAIN_SCHEMES = ("http", "grpc")
TLS_SCHEMES = ("https", "grpcs")
MAX_MESSAGE_BYTES = 256 << 20
_LOOPBACK = ("127.", "localhost", "[::1]")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller shows. `kept` is the file in which a log-in is kept, to be renewed there."""

    token: str = ""
    refresh_token: str = ""
    kept: Path | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A server: `address` is host:port. `own` tells that it is the one of the data directory's `client.json`.

    `certificate` is what the client shows of itself to a server that demands it: the files of the chain and the key.
    """

    address: str
    tls: bool
    ca_file: Path | None
    credentials: Credentials
    own: bool = False
    certificate: tuple[Path, Path] | None = None


def discover(
    server: str | None = None,
    token: str | None = None,
    data_dir: Path | str | None = None,
    ca_file: Path | str | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    cert_file: Path | str | None = None,
    key_file: Path | str | None = None,
) -> Target:
    """The server to call and the credentials for it.

    Raises:
        CyxError: INVALID for an address that is none, a certificate without its key, or a file in the data directory
            that can't be read.
    """
    environ = os.environ if environ is None else environ
    folder = data_folder(data_dir, environ)
    kept, session = _read(folder / "client.json"), _read(folder / "session.json")
    said = server or environ.get("CYXWIZ_SERVER") or session.get("server") or kept.get("grpc") or DEFAULT_ADDRESS
    if kept and said.rstrip("/") == str(kept.get("rest", "")).rstrip("/"):
        said = str(kept["grpc"])  # somebody named the address that a browser takes
    own = _is_same(said, kept.get("grpc"))
    # How to speak is known where the address was kept: a key must not travel in the open for want of a scheme.
    known = kept if own else session if _is_same(said, session.get("server")) else {}
    authority = ca_file or environ.get("CYXWIZ_CA_FILE") or known.get("ca_file")
    spoken = parse_server(str(known.get("grpc") or known.get("server") or said))[1]
    address, tls = parse_server(said, tls=authority is not None or spoken)
    pair = (
        cert_file or environ.get("CYXWIZ_CERT_FILE") or known.get("cert_file"),
        key_file or environ.get("CYXWIZ_KEY_FILE") or known.get("key_file"),
    )
    if bool(pair[0]) != bool(pair[1]):
        raise invalid("cert_file and key_file go together: name the certificate and its key", field="cert_file")
    certificate = (Path(str(pair[0])), Path(str(pair[1]))) if pair[0] else None
    target = Target(address, tls, Path(authority) if authority else None, Credentials(), own, certificate)
    given = token or environ.get("CYXWIZ_TOKEN")
    if given:
        return replace(target, credentials=Credentials(given.strip()))
    return replace(target, credentials=_kept_credentials(target, kept, session, folder))


def data_folder(given: Path | str | None, environ: Mapping[str, str]) -> Path:
    if given:
        return Path(given)
    if environ.get("CYXWIZ_DATA_DIR"):
        return Path(environ["CYXWIZ_DATA_DIR"])
    from cyxwiz.config import default_data_dir  # pydantic comes with it: only where it is needed

    return default_data_dir(environ)


def _kept_credentials(target: Target, kept: Mapping[str, Any], session: Mapping[str, Any], folder: Path) -> Credentials:
    # A log-in at the data directory's own server follows that server when its port changes.
    at = session.get("server") or kept.get("grpc")
    if session.get("access_token") and at and parse_server(str(at))[0] == target.address:
        return Credentials(
            str(session["access_token"]), str(session.get("refresh_token") or ""), folder / "session.json"
        )
    if target.own and kept.get("key"):
        return Credentials(str(kept["key"]), kept=folder / "session.json")
    return Credentials(kept=folder / "session.json")


def parse_server(text: str, *, tls: bool = False) -> tuple[str, bool]:
    """(host:port, whether to speak TLS) of `host[:port]` or a URL. `tls` decides where no scheme does.

    Raises:
        CyxError: INVALID when it names no host, or has a scheme that is none of ours.
    """
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise invalid(f"server: {text!r} is no address: {error}", field="server") from None
    if not host or parts.path.strip("/") or parts.query or parts.username:
        raise invalid(
            f"server: {text!r} is no address; write host:port, grpc://host:port or grpcs://host:port", field="server"
        )
    if parts.scheme and parts.scheme not in PLAIN_SCHEMES + TLS_SCHEMES:
        raise invalid(
            f"server: {parts.scheme}:// is not spoken here; take grpc:// (plain) or grpcs:// (TLS)", field="server"
        )
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port or DEFAULT_PORT}", parts.scheme in TLS_SCHEMES if parts.scheme else tls


def open_channel(target: Target) -> grpc.aio.Channel:
    """A channel that reconnects quickly after a restart.

    Raises:
        CyxError: INVALID when a file of certificates or keys can't be read.
    """
    options: list[tuple[str, Any]] = [
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", CONNECT_MS),  # its name notwithstanding, what an attempt may take
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # Just above what servers call too often: a watch of a machine that vanished ends at last.
        ("grpc.keepalive_time_ms", 330_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    ]
    if target.address.startswith(_LOOPBACK):
        options.append(("grpc.enable_http_proxy", 0))
    if not target.tls:
        return grpc.aio.insecure_channel(target.address, options)
    roots = _pem(target.ca_file, "ca_file") if target.ca_file else None
    chain = key = None
    if target.certificate is not None:
        chain, key = _pem(target.certificate[0], "cert_file"), _pem(target.certificate[1], "key_file")
    return grpc.aio.secure_channel(target.address, grpc.ssl_channel_credentials(roots, key, chain), options)


def _pem(path: Path, field: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise invalid(f"{field}: {path} can't be read: {error.strerror}", field=field) from None


def where(target: Target) -> dict[str, str | None]:
    """What a kept log-in says of its server: nothing of the data directory's own, which may move."""
    if target.own:
        return {"server": None, "ca_file": None, "cert_file": None, "key_file": None}
    chain, key = target.certificate or (None, None)
    files = {"ca_file": target.ca_file, "cert_file": chain, "key_file": key}
    return {
        "server": f"{'grpcs' if target.tls else 'grpc'}://{target.address}",
        **{name: str(path.resolve()) if path else None for name, path in files.items()},
    }


def keep_session(path: Path, document: Mapping[str, Any]) -> None:
    """Writes a log-in, whole or not at all, for its owner alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_session(path: Path) -> Mapping[str, Any]:
    return _read(path)


def _is_same(one: str, other: Any) -> bool:
    with contextlib.suppress(CyxError):
        return bool(other) and parse_server(one)[0] == parse_server(str(other))[0]
    return False


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except PermissionError:
        raise CyxError(
            Code.FORBIDDEN,
            f"{path} belongs to somebody else: name a server and a token with --server and CYXWIZ_TOKEN, "
            "or a data directory of your own with --data-dir",
        ) from None
    except (OSError, ValueError) as error:
        raise invalid(f"{path} can't be read ({error}): move it away, then log in or start central again") from None
    if not isinstance(document, dict):
        raise invalid(f"{path} is no JSON object: move it away, then log in or start central again")
    return document
