"""Paying for a job with a key of one's own: the transaction that a quote offers, checked and signed here.

Nothing is signed but the one instruction that the quote speaks of, with its numbers (the job, the amount, the deadline,
the fee) and its accounts: the mint, who pays the transaction's fees. The program itself checks what follows from these,
the vault's address, and that the source is an account of the wallet's and of that mint. What the program does is not
looked at: whose `program_id` it is, is the signer's to know. The page does the same in `transports/rest/escrow.js`.
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
HEADER = (2, 1, 5)  # signatures; of these and of the other keys, how many are only read
NOBODY = bytes(KEY)  # the platform may choose the node
TOKEN_PROGRAM, SYSTEM_PROGRAM = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA", "1" * 32


def pay_with(keypair: Keypair, quote: Mapping[str, Any]) -> dict[str, str]:
    """What the `payment` of the quoted job says, to be submitted with it.

    Raises:
        CyxError: INVALID for a transaction that is not the one the quote speaks of.
    """
    if quote["wallet_address"] != keypair.address:
        raise invalid(f"The quote is for the wallet {quote['wallet_address']}, not for {keypair.address}")
    try:
        message = base64.b64decode(str(quote["message"]))
        _check(message, quote)
    except (ValueError, IndexError, struct.error) as error:
        raise invalid(f"The quote's transaction is not what the quote says: {error}; nothing was signed") from None
    transaction = bytes([2]) + bytes(SIGNATURE) + keypair.sign(message) + message  # the platform signs in its place
    return {"quote": str(quote["id"]), "transaction": base64.b64encode(transaction).decode()}


def _check(message: bytes, quote: Mapping[str, Any]) -> None:
    """Raises ValueError, saying what differs.

    A message of the first kind: 3 bytes (signatures needed, of these read only, others read only), keys, a blockhash
    and instructions (the program's place, places of accounts, data), each list with its length in front.
    """
    header, at = tuple(message[:3]), 3
    keys: list[str] = []
    count, at = _length(message, at)
    for _ in range(count):
        keys.append(encode(_take(message, at, KEY)))
        at += KEY
    at += KEY
    instructions, at = _length(message, at)
    _same("number of instructions", instructions, 1)
    program = keys[message[at]]
    count, at = _length(message, at + 1)
    accounts = [keys[place] for place in _take(message, at, count)]
    at += count
    size, at = _length(message, at)
    data = _take(message, at, size)
    _same("end", len(message), at + size)
    said = quote["escrow"]
    _same("program", program, said["program_id"])
    _same("header", header, HEADER)
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
    _same("node", data[64:96], NOBODY)
    _same("number of accounts", len(accounts), 9)
    client = quote["wallet_address"]
    for name, found, expected in (
        ("first key", keys[0], said["platform"]),
        ("second key", keys[1], client),
        ("payer", accounts[0], said["platform"]),
        ("client", accounts[1], client),
        ("account", accounts[3], said["account"]),
        ("mint", accounts[5], said["mint"]),
        ("fee account", accounts[6], said["fee_account"]),
        ("token program", accounts[7], TOKEN_PROGRAM),
        ("system program", accounts[8], SYSTEM_PROGRAM),
    ):
        _same(name, found, expected)


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
