"""Base 58 in Bitcoin's alphabet, as Solana writes keys, signatures and data."""

from __future__ import annotations

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS = {letter: digit for digit, letter in enumerate(ALPHABET)}
_CHUNK = 10  # digits at a time: 58^10 fits 64 bits, so few steps are with long numbers


def encode(data: bytes) -> str:
    number, letters = int.from_bytes(data, "big"), []
    while number:
        number, chunk = divmod(number, 58**_CHUNK)
        for _ in range(_CHUNK):
            chunk, digit = divmod(chunk, 58)
            letters.append(ALPHABET[digit])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeros + "".join(reversed(letters)).lstrip("1")


def decode(text: str) -> bytes:
    """The bytes.

    Raises:
        ValueError: for a letter that is not in the alphabet.
    """
    number = 0
    for at in range(0, len(text), _CHUNK):
        part, chunk = text[at : at + _CHUNK], 0
        for letter in part:
            if letter not in _DIGITS:
                raise ValueError(f"{letter!r} is no digit of base 58")
            chunk = chunk * 58 + _DIGITS[letter]
        number = number * 58 ** len(part) + chunk
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")
