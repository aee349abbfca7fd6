"""Checking a receipt without any server: the file, the platform's public key, and the result's files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cyxwiz.client.blobs import place
from cyxwiz.client.weights import WEIGHTS, weights_digest
from cyxwiz.domain.errors import invalid
from cyxwiz.domain.receipt import check

MOST = 64 << 20  # bytes of a receipt
Json = dict[str, Any]


def read_receipt(path: Path | str) -> Json:
    """Raises INVALID for what is no JSON object."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MOST + 1)
    except OSError as error:
        raise invalid(f"{path}: {error.strerror}") from None
    if len(data) > MOST:
        raise invalid(f"{path}: is larger than a receipt may be, {MOST} bytes")
    try:
        document = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise invalid(f"{path}: is no JSON document: {str(error)[:200]}") from None
    if not isinstance(document, dict):
        raise invalid(f"{path}: is no receipt: it must be a JSON object")
    return document


def _once(pairs: list[tuple[str, Any]]) -> Json:
    """An object whose keys are there once: of two, readers might take different ones."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def verify_receipt(document: Mapping[str, Any], *, key: str = "", files: Path | str | None = None) -> None:
    """Raises INVALID with the field that is wrong.

    Args:
        key: the platform's public key (hex), from `Client.platform`. Without it the receipt is only checked against
            the key that it names itself, which anybody can make.
        files: the folder of the result's files, which are checked by their hashes, and the weights by the proof's end.
    """
    check_against(key, files)
    hashes = None if files is None else _hashes(document, Path(files))
    made = weights_digest(Path(files) / WEIGHTS) if files is not None and hashes and WEIGHTS in hashes else None
    check(document, _verified, key=key, files=hashes, weights=made)


def check_against(key: str, files: Path | str | None) -> None:
    """Raises INVALID for a key or a folder by which no receipt can be checked."""
    if key and not re.fullmatch(r"[0-9a-fA-F]{64}", key):
        raise invalid("key: must be the platform's public key, 64 characters of hex", field="key")
    if files is not None and not Path(files).is_dir():
        raise invalid(f"files: {files} is no folder", field="files")


def _hashes(document: Mapping[str, Any], folder: Path) -> dict[str, str]:
    listed = document.get("files")
    found: dict[str, str] = {}
    for file in listed if isinstance(listed, list) else []:
        name = file.get("name") if isinstance(file, dict) else None
        if isinstance(name, str) and (path := place(folder, name)).is_file():
            with path.open("rb") as data:
                found[name] = hashlib.file_digest(data, "sha256").hexdigest()
    return found


def _verified(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
