"""What all builders share: account metas, numbers within 64 bits, keys in account data, token accounts."""

from __future__ import annotations

from functools import lru_cache

from solders.instruction import AccountMeta
from solders.pubkey import Pubkey
from solders.token.associated import get_associated_token_address

from cyxwiz.domain.errors import invalid

MAX_U64 = 2**64 - 1
KEPT_ADDRESSES = 10_000  # that are not searched for again


def read_only(key: Pubkey, *, signs: bool = False) -> AccountMeta:
    return AccountMeta(key, signs, False)


def writable(key: Pubkey, *, signs: bool = False) -> AccountMeta:
    return AccountMeta(key, signs, True)


def u64(value: int, name: str) -> bytes:
    """8 bytes, little-endian.

    Raises:
        CyxError: INVALID outside of 0 to 2^64-1.
    """
    if not 0 <= value <= MAX_U64:
        raise invalid(f"{name}: {value} is out of bounds (0 to {MAX_U64})", field=name)
    return value.to_bytes(8, "little")


def u32(value: int, name: str) -> bytes:
    """4 bytes, little-endian.

    Raises:
        CyxError: INVALID outside of 0 to 2^32-1.
    """
    if not 0 <= value < 2**32:
        raise invalid(f"{name}: {value} is out of bounds (0 to {2**32 - 1})", field=name)
    return value.to_bytes(4, "little")


def digest(value: bytes, name: str) -> bytes:
    """32 bytes as they are.

    Raises:
        CyxError: INVALID for another length.
    """
    if len(value) != 32:
        raise invalid(f"{name}: expected 32 bytes, got {len(value)}", field=name)
    return value


def key_at(data: bytes, offset: int) -> Pubkey:
    return Pubkey(data[offset : offset + 32])


@lru_cache(KEPT_ADDRESSES)
def token_account(owner: Pubkey, mint: Pubkey) -> Pubkey:
    """The associated token account of `owner`, which everybody can find and make."""
    return get_associated_token_address(owner, mint)
