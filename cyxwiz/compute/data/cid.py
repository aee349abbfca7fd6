"""Checking a file against an IPFS content identifier, as far as one block goes.

CIDv0 and CIDv1 (https://github.com/multiformats/cid): multibase, version, codec, multihash. Checked is SHA-256 with the
codec raw (the file is the block) and dag-pb (the file is the one leaf of a UnixFS file, up to 256 KiB by default).
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

RAW, DAG_PB, SHA2_256 = 0x55, 0x70, 0x12
MAX_BLOCK = 2 << 20  # what nodes of IPFS exchange at most as one block
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def parse(cid: str) -> tuple[int, int, bytes]:
    """(codec, hash function, digest). Raises ValueError."""
    if cid.startswith("Qm"):
        number = 0
        for char in cid:
            number = number * 58 + _BASE58.index(char)
        return DAG_PB, *_multihash(number.to_bytes(34, "big"))
    raw = base64.b32decode(cid[1:].upper() + "=" * (-len(cid[1:]) % 8))
    version, raw = _varint(raw)
    codec, raw = _varint(raw)
    if version != 1:
        raise ValueError(f"version {version}")
    return codec, *_multihash(raw)


def verify(cid: str, path: Path) -> bool | None:
    """Whether the file is what the CID names; None where one block does not tell."""
    try:
        codec, function, digest = parse(cid)
    except ValueError:
        return None
    if function != SHA2_256 or path.stat().st_size > MAX_BLOCK:
        return None
    data = path.read_bytes()
    if codec == RAW:
        return hashlib.sha256(data).digest() == digest
    if codec == DAG_PB and hashlib.sha256(_leaf(data)).digest() == digest:
        return True
    return None  # a file of several blocks: its bytes alone don't give the tree


def _leaf(data: bytes) -> bytes:
    """The dag-pb node of a UnixFS file with all of its data in itself: PBNode{Data: Data{File, data, filesize}}."""
    unixfs = b"\x08\x02" + (b"\x12" + _encode(len(data)) + data if data else b"") + b"\x18" + _encode(len(data))
    return b"\x0a" + _encode(len(unixfs)) + unixfs


def _multihash(raw: bytes) -> tuple[int, bytes]:
    function, raw = _varint(raw)
    length, raw = _varint(raw)
    if length != len(raw):
        raise ValueError("the digest's length")
    return function, raw


def _varint(raw: bytes) -> tuple[int, bytes]:
    value = 0
    for index, byte in enumerate(raw[:9]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, raw[index + 1 :]
    raise ValueError("a number without an end")


def _encode(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
