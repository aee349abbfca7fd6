"""A wallet's keypair file, as Solana's tools write it: a JSON array of 64 bytes, the seed and then the public key.

Refused: a file that others on the machine can read. The secret half never leaves this module; it is in no message.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cyxwiz.domain.base58 import encode
from cyxwiz.domain.errors import invalid

SEED, WHOLE, MOST = 32, 64, 4096


class Keypair:
    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.address = encode(self._key.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"Keypair({self.address})"

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    @classmethod
    def read(cls, path: Path | str) -> Keypair:
        """Raises INVALID for what is no keypair file of the reader's own."""
        path = Path(path).expanduser()
        try:
            with path.open("rb") as file:
                mode, text = path.stat().st_mode, file.read(MOST)
        except OSError as error:
            raise invalid(f"{path}: {error.strerror}") from None
        if stat.S_IMODE(mode) & 0o077:
            raise invalid(f"{path}: others can read this key: run `chmod 600 {path}`, and use another key if they did")
        try:
            whole = bytes(json.loads(text))
        except (ValueError, TypeError, RecursionError):
            whole = b""
        if len(whole) != WHOLE:
            raise invalid(f"{path}: is no keypair file: it must hold a JSON array of {WHOLE} numbers from 0 to 255")
        made = cls(whole[:SEED])
        if made.address != encode(whole[SEED:]):
            raise invalid(f"{path}: is damaged: its public half does not belong to its secret half")
        return made
