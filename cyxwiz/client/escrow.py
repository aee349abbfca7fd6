"""Paying for a job with a key of one's own: the transaction that a quote offers, checked and signed here.

Nothing is signed but the one instruction that the quote speaks of, with its numbers: the job, the amount, the deadline,
the fee. What the program does is not looked at: whose `program_id` it is, is the signer's to know.
"""

from __future__ import annotations

import base64
import struct
import uuid
from collections.abc import Mapping
from typing import Any

from cyxwiz.client.keypair import Keypair
from cyxwiz.domain.base58 import encode
from cyxwiz.domain.errors import invalid

KEY, SIGNATURE = 32, 64
CREATE = 0
DATA = 160  # bytes of the instruction


def pay_with(keypair: Keypair, quote: Mapping[str, Any]) -> dict[str, str]:
    """What the `payment` of the quoted job says, to be submitted with it.

    Raises:
        CyxError: INVALID for a transaction that is not the one the quote speaks of.
    """
    message = base64.b64decode(str(quote["message"]))
    if quote["wallet_address"] != keypair.address:
        raise invalid(f"The quote is for the wallet {quote['wallet_address']}, not for {keypair.address}")
    try:
        place, signers = _checked(message, quote)
    except (ValueError, IndexError, struct.error) as error:
        raise invalid(f"The quote's transaction is not what the quote says: {error}; nothing was signed") from None
    signatures = [bytes(SIGNATURE)] * signers
    signatures[place] = keypair.sign(message)
    transaction = bytes([signers]) + b"".join(signatures) + message
    return {"quote": str(quote["id"]), "transaction": base64.b64encode(transaction).decode()}


def _checked(message: bytes, quote: Mapping[str, Any]) -> tuple[int, int]:
    """(which signature is the wallet's, how many there are). Raises ValueError, saying what differs.

    A message of the first kind: 3 bytes (signatures needed, of these read only, others read only), keys, a blockhash
    and instructions (the program's place, places of accounts, data), each list with its length in front.
    """
    signers, at = message[0], 3
    keys: list[str] = []
    count, at = _length(message, at)
    for _ in range(count):
        keys.append(encode(_take(message, at, KEY)))
        at += KEY
    at += KEY
    instructions, at = _length(message, at)
    _same("number of instructions", instructions, 1)
    program = keys[message[at]]
    accounts, at = _length(message, at + 1)
    at += accounts
    size, at = _length(message, at)
    data = _take(message, at, size)
    _same("end", len(message), at + size)
    said = quote["escrow"]
    _same("program", program, said["program_id"])
    _same("signatures", signers, 2)
    _same("length", size, DATA)
    step, job, amount, deadline, cap, interval, window, fee_bps = struct.unpack_from("<Q16sQqQIIQ", data)
    _same("step", step, CREATE)
    _same("job", str(uuid.UUID(bytes=job)), quote["id"])
    _same("price", said["amount_units"], quote["amount_units"])
    for name, found in (
        ("amount_units", amount),
        ("deadline_seconds", deadline),
        ("cap_units", cap),
        ("interval_seconds", interval),
        ("window_seconds", window),
        ("fee_bps", fee_bps),
        ("platform", encode(data[96:128])),
        ("arbiter", encode(data[128:160])),
    ):
        _same(name, found, said[name])
    return keys[:signers].index(str(quote["wallet_address"])), signers


def _length(data: bytes, at: int) -> tuple[int, int]:
    """(a length in 1 to 3 bytes of 7 bits each, what follows it)"""
    value = 0
    for index in range(3):
        byte = data[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            return value, at + index + 1
    raise ValueError("a length is too long")


def _take(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise ValueError("it is cut off")
    return data[at : at + size]


def _same(what: str, found: object, said: object) -> None:
    if found != said:
        raise ValueError(f"its {what} is {found}, not {said}")
