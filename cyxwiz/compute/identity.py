"""A node's identity: a UUID of its own making and an Ed25519 key, both kept in its data directory."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import NodeId, parse_node_id
from cyxwiz.domain.node import HELLO_CONTEXT
from cyxwiz.runtime.files import write_private


@dataclass(frozen=True, slots=True)
class Identity:
    node_id: NodeId
    key: Ed25519PrivateKey

    @property
    def public_key(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    def sign_hello(self, nonce: bytes) -> bytes:
        return self.key.sign(HELLO_CONTEXT + nonce + self.node_id.encode())


def load_identity(directory: Path) -> Identity:
    """The identity kept in `directory`, made at the first call.

    Raises:
        CyxError: CONFLICT when the files are damaged: a new identity would be another node, so none is made silently.
    """
    id_file, key_file = directory / "node_id", directory / "node.key"
    if not id_file.exists() and not key_file.exists():
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private(key_file, pem)
        write_private(id_file, str(uuid.uuid4()))
    try:
        node_id = parse_node_id(id_file.read_text().strip())
        loaded = serialization.load_pem_private_key(key_file.read_bytes(), None)
        if not isinstance(loaded, Ed25519PrivateKey):
            raise ValueError("not an Ed25519 key")
    except (OSError, ValueError, CyxError) as error:
        raise CyxError(
            Code.CONFLICT,
            f"The node's identity in {directory} is damaged ({error}): restore node_id and node.key, "
            "or remove both to join as a new node",
        ) from None
    return Identity(node_id, loaded)
