"""Reading the positional parameters of a call; every mismatch is -32602 and names the parameter."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from solders.hash import Hash, ParseHashError
from solders.pubkey import Pubkey
from solders.signature import Signature

from cyxwiz.domain import base58
from cyxwiz.ledger.localnet.jsonrpc import MIN_CONTEXT_SLOT, RpcFault, invalid_params
from cyxwiz.ledger.localnet.transactions import MAX_BYTES

COMMITMENTS = ("processed", "confirmed", "finalized", "recent", "single", "singleGossip", "root", "max")
MAX_BASE58 = 1683  # letters of the longest transaction
U64 = 2**64 - 1


class Params:
    """The parameters of one call.

    Args:
        values: as they came.
        most: how many a call has at most.
    """

    def __init__(self, values: list[Any], most: int) -> None:
        if len(values) > most:
            raise invalid_params(f"{len(values)} parameters, at most {most}")
        self._values = values

    def _at(self, index: int, name: str) -> Any:
        if index >= len(self._values):
            raise invalid_params(f"{name} is missing")
        return self._values[index]

    def pubkey(self, index: int, name: str = "address") -> Pubkey:
        return pubkey(self._at(index, name), name)

    def signature(self, index: int) -> Signature:
        return signature(self._at(index, "signature"))

    def hash(self, index: int) -> Hash:
        value = self._at(index, "blockhash")
        try:
            return Hash.from_string(value)
        except (ParseHashError, ValueError, TypeError):
            raise invalid_params("blockhash: expected 32 bytes in base 58") from None

    def integer(self, index: int, name: str, most: int = U64) -> int:
        return integer(self._at(index, name), name, most)

    def text(self, index: int, name: str) -> str:
        value = self._at(index, name)
        if not isinstance(value, str):
            raise invalid_params(f"{name}: expected a string")
        return value

    def array(self, index: int, name: str, most: int) -> list[Any]:
        value = self._at(index, name)
        if not isinstance(value, list):
            raise invalid_params(f"{name}: expected an array")
        if len(value) > most:
            raise invalid_params(f"{name}: {len(value)} entries, at most {most}")
        return value

    def object(self, index: int, name: str) -> Config:
        value = self._at(index, name)
        if not isinstance(value, dict):
            raise invalid_params(f"{name}: expected an object")
        return Config(value)

    def config(self, index: int, slot: int, *, alone: str = "commitment") -> Config:
        """The configuration object, which may be left out or null.

        Args:
            alone: what a text in its place means.

        Raises:
            RpcFault: also when its minContextSlot is later than `slot`.
        """
        value = self._values[index] if index < len(self._values) else None
        if isinstance(value, str):  # some calls took one option alone in earlier versions
            value = {alone: value}
        if value is not None and not isinstance(value, dict):
            raise invalid_params("the configuration must be an object")
        config = Config(value or {})
        config.choice("commitment", COMMITMENTS, "finalized")
        config.choice("preflightCommitment", COMMITMENTS, "finalized")
        wanted = config.integer("minContextSlot", None)
        if wanted is not None and wanted > slot:
            raise RpcFault(MIN_CONTEXT_SLOT, "Minimum context slot has not been reached", {"contextSlot": slot})
        return config


class Config:
    """An object of options; null is the same as left out."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def get(self, name: str) -> Any:
        return self._values.get(name)

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        value = self._values.get(name)
        if value is None:
            return default
        if value not in choices:
            raise invalid_params(f"{name}: expected one of {', '.join(choices)}")
        return str(value)

    def flag(self, name: str) -> bool:
        value = self._values.get(name)
        if value is not None and not isinstance(value, bool):
            raise invalid_params(f"{name}: expected true or false")
        return bool(value)

    def integer(self, name: str, default: int | None, most: int = U64) -> int | None:
        value = self._values.get(name)
        return default if value is None else integer(value, name, most)

    def object(self, name: str) -> Config | None:
        value = self._values.get(name)
        if value is not None and not isinstance(value, dict):
            raise invalid_params(f"{name}: expected an object")
        return None if value is None else Config(value)

    def array(self, name: str, most: int) -> list[Any]:
        value = self._values.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > most:
            raise invalid_params(f"{name}: expected an array of at most {most}")
        return value

    def pubkey(self, name: str) -> Pubkey | None:
        value = self._values.get(name)
        return None if value is None else pubkey(value, name)

    def signature(self, name: str) -> Signature | None:
        value = self._values.get(name)
        return None if value is None else signature(value)


def pubkey(value: Any, name: str = "address") -> Pubkey:
    try:
        return Pubkey.from_string(value)
    except (ValueError, TypeError):
        raise invalid_params(f"{name}: expected 32 bytes in base 58") from None


def signature(value: Any) -> Signature:
    try:
        return Signature.from_string(value)
    except (ValueError, TypeError):
        raise invalid_params("signature: expected 64 bytes in base 58") from None


def integer(value: Any, name: str, most: int = U64) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise invalid_params(f"{name}: expected a whole number from 0 to {most}")
    return value


def transaction_bytes(text: str, encoding: str) -> bytes:
    try:
        if encoding == "base64":
            if len(text) > 4 * (MAX_BYTES // 3 + 1):
                raise invalid_params(f"the transaction is longer than {MAX_BYTES} bytes")
            return base64.b64decode(text, validate=True)
        if len(text) > MAX_BASE58:
            raise invalid_params(f"the transaction is longer than {MAX_BYTES} bytes")
        return base58.decode(text)
    except (ValueError, binascii.Error):
        raise invalid_params(f"the transaction is not in {encoding}") from None
