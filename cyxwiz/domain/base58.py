"""Base58 in Bitcoin's alphabet, as Solana writes keys, signatures and data: no 0, O, I or l; a leading zero is a 1."""

from __future__ import annotations

from cyxwiz.domain.errors import invalid

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
KEY_BYTES = 32
MAX_KEY_TEXT = 44  # of 32 bytes
_VALUES = {letter: value for value, letter in enumerate(ALPHABET)}
_CHUNK = 10  # digits at a time: 58^10 fits 64 bits, so few steps are with long numbers


def encode(data: bytes) -> str:
    number, letters = int.from_bytes(data, "big"), list[str]()
    while number:
        number, chunk = divmod(number, 58**_CHUNK)
        for _ in range(_CHUNK):
            chunk, digit = divmod(chunk, 58)
            letters.append(ALPHABET[digit])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeros + "".join(reversed(letters)).lstrip("1")


def decode(text: str) -> bytes:
    """Raises ValueError, naming the first character that is none of the alphabet."""
    number = 0
    for at in range(0, len(text), _CHUNK):
        part, chunk = text[at : at + _CHUNK], 0
        for letter in part:
            if letter not in _VALUES:
                raise ValueError(f"{letter!r} is no character of base58")
            chunk = chunk * 58 + _VALUES[letter]
        number = number * 58 ** len(part) + chunk
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")


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
