"""Keypair files of Solana: a JSON array of 64 numbers, the 32 bytes of the seed and the 32 of the public key.

Promised: a file is readable by its owner alone, is whole or not there, and is never overwritten. A secret is in no
message, no log line and no repr: solders' own `Keypair` prints its secret, so it stays inside `Key`.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from cyxwiz.domain.errors import CyxError, conflict, forbidden, invalid
from cyxwiz.runtime.files import sync_directory

KEY_BYTES = 64
MAX_FILE_BYTES = 4096
_SHAPE = "a JSON array of 64 numbers from 0 to 255, as `solana-keygen new` writes it"


class Key:
    """A secret key that can sign and does not show itself."""

    __slots__ = ("_keypair", "pubkey")

    def __init__(self, keypair: Keypair) -> None:
        self._keypair = keypair
        self.pubkey: Pubkey = keypair.pubkey()

    @classmethod
    def new(cls) -> Key:
        return cls(Keypair())

    def sign(self, message: bytes) -> Signature:
        return self._keypair.sign_message(message)

    def secret(self) -> bytes:
        """The 64 bytes of the file."""
        return bytes(self._keypair)

    def __repr__(self) -> str:
        return f"Key({self.pubkey})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self.pubkey == other.pubkey

    def __hash__(self) -> int:
        return hash(self.pubkey)

    def __reduce__(self) -> str:
        raise TypeError("a key is not copied by serialising it: use its file")


def load_key(path: Path) -> Key:
    """The key in a file.

    Raises:
        CyxError: INVALID for a missing file and for other content, FORBIDDEN when others than the owner may read it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise invalid(f"key file {path}: {error.strerror}") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise invalid(f"key file {path}: is no file, expected {_SHAPE}")
        if found.st_mode & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            raise forbidden(
                f"key file {path}: mode {mode:04o} lets others read or change it, expected 0600; "
                f"run `chmod 600 {path}`, and make a new key if somebody else could have read it"
            )
        raw = os.read(descriptor, MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    return _decode(path, raw)


def _decode(path: Path, raw: bytes) -> Key:
    # No message quotes the content, not even the bad part of it: what is nearly a key is a secret too.
    if len(raw) > MAX_FILE_BYTES:
        raise invalid(f"key file {path}: more than {MAX_FILE_BYTES} bytes, expected {_SHAPE}")
    try:
        numbers = json.loads(raw)
    except (ValueError, RecursionError):
        raise invalid(f"key file {path}: is no JSON, expected {_SHAPE}") from None
    if not isinstance(numbers, list):
        raise invalid(f"key file {path}: JSON but no array, expected {_SHAPE}")
    if len(numbers) != KEY_BYTES:
        raise invalid(f"key file {path}: {len(numbers)} entries, expected {_SHAPE}")
    if not all(type(number) is int and 0 <= number <= 255 for number in numbers):
        raise invalid(f"key file {path}: not all entries are numbers from 0 to 255, expected {_SHAPE}")
    try:
        return Key(Keypair.from_bytes(bytes(numbers)))
    except ValueError:
        raise invalid(
            f"key file {path}: its second half is not the public key of its first half; restore it from a backup"
        ) from None


def save_key(key: Key, path: Path) -> None:
    """Writes a new key file, whole or not at all.

    Raises:
        CyxError: CONFLICT when the file exists, INVALID when it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(json.dumps(list(key.secret())).encode())
                file.flush()
                os.fsync(file.fileno())
            os.link(partial, path)  # unlike a rename it never replaces a key that is there
        finally:
            partial.unlink()
        sync_directory(path.parent)
    except FileExistsError:
        raise conflict(f"key file {path}: exists already; a key is never overwritten, choose another name") from None
    except OSError as error:
        raise invalid(f"key file {path}: {error.strerror}") from None


def load_or_make_key(path: Path) -> Key:
    """The key in a file, which is made with a new key when it is not there."""
    if not path.exists():
        key = Key.new()
        try:
            save_key(key, path)
        except CyxError:
            if not path.exists():  # else another process was faster, and its key is the one
                raise
    return load_key(path)
