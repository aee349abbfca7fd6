"""Base58 in Bitcoin's alphabet, as Solana writes its keys: no 0, O, I or l; a leading zero byte is a '1'."""

from __future__ import annotations

from cyxwiz.domain.errors import invalid

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
KEY_BYTES = 32
MAX_KEY_TEXT = 44  # of 32 bytes
_VALUES = {letter: value for value, letter in enumerate(ALPHABET)}


def encode(data: bytes) -> str:
    number, text = int.from_bytes(data), ""
    while number:
        number, rest = divmod(number, 58)
        text = ALPHABET[rest] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def decode(text: str) -> bytes:
    """Raises ValueError, naming the first character that is none of the alphabet."""
    number = 0
    for letter in text:
        if letter not in _VALUES:
            raise ValueError(f"{letter!r} is no character of base58")
        number = number * 58 + _VALUES[letter]
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8)


def parse_wallet(text: str, field: str = "wallet_address") -> bytes:
    """The 32 bytes of a wallet's public key. Raises INVALID for all else."""
    if not 0 < len(text) <= MAX_KEY_TEXT:
        raise invalid(f"{field}: must be a public key of 32 to {MAX_KEY_TEXT} characters in base58", field=field)
    try:
        key = decode(text)
    except ValueError as error:
        raise invalid(f"{field}: {text!r} is no wallet address: {error}", field=field) from None
    if len(key) != KEY_BYTES:
        raise invalid(f"{field}: {text!r} is no wallet address: {len(key)} bytes, not {KEY_BYTES}", field=field)
    if not any(key):
        raise invalid(f"{field}: {text} is the address of all zeros: nobody has its key", field=field)
    return key
