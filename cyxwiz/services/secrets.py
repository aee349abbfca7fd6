"""Secrets that every replica of central shares: from the settings, else generated once and kept in the store."""

from __future__ import annotations

import secrets as random
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cyxwiz.config import Auth
from cyxwiz.ports.store import Store, Tx


@dataclass(frozen=True, slots=True)
class Secrets:
    jwt: str
    p2p: str
    admin: str
    custody: str  # of the keys that are kept for users on a chain
    platform: str = field(default_factory=lambda: random.token_urlsafe(48))  # of `services.platform.PlatformKey`

    @property
    def verify(self) -> bytes:
        """What is drawn with, when results are checked: HKDF-SHA256 of a root that no node has a part of."""
        return HKDF(SHA256(), 32, salt=None, info=b"cyxwiz-verify-v1").derive(self.admin.encode())

    def p2p_for(self, node_id: str, *, legacy: bool) -> bytes:
        """The secret shared with one node: HKDF-SHA256 of the root and the node's id, so that none can forge another's.

        A node of the earlier kind has the root itself in its configuration and can't be handed another.
        """
        if legacy:
            return self.p2p.encode()
        return HKDF(SHA256(), 32, salt=None, info=b"cyxwiz-p2p-v1" + node_id.encode()).derive(self.p2p.encode())


async def load_secrets(store: Store, auth: Auth) -> Secrets:
    def unit(tx: Tx) -> Secrets:
        def kept(name: str, given: str | None) -> str:
            return given or tx.put_setting(f"secret.{name}", random.token_urlsafe(48))

        return Secrets(
            jwt=kept("jwt", auth.jwt_secret),
            p2p=kept("p2p", auth.p2p_secret),
            admin=kept("admin", auth.admin_secret),
            custody=kept("custody", None),
            platform=kept("platform", None),
        )

    return await store.write(unit)
