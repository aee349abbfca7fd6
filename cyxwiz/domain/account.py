"""Who may do what."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cyxwiz.domain.errors import forbidden
from cyxwiz.domain.ids import NodeId, UserId

NO_CREDENTIALS = (
    "Missing credentials: send 'Authorization: Bearer <token or API key>' "
    "(on the command line: CYXWIZ_TOKEN, --token, or `cyxwiz login NAME`)"
)


class Role(StrEnum):
    USER = "user"
    OPERATOR = "operator"  # owns nodes: may create join tokens
    ADMIN = "admin"
    NODE = "node"  # a machine, never a person


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated caller. For a node, `id` is its owner's and `node_id` is set."""

    id: UserId
    name: str
    role: Role
    node_id: NodeId | None = None
    credential_id: str = ""  # the API key or token it came with
    expires_at: datetime | None = None  # when that ends by itself

    @property
    def is_admin(self) -> bool:
        return self.role is Role.ADMIN

    def owns(self, owner_id: UserId) -> bool:
        """Whether the caller may act on what belongs to `owner_id`. A node acts for itself, never for its owner."""
        return self.role is not Role.NODE and (self.is_admin or self.id == owner_id)

    def require(self, *roles: Role) -> None:
        """Raises FORBIDDEN unless the caller has one of the roles; an admin has them all, save a node's."""
        if self.role in roles or (self.is_admin and Role.NODE not in roles):
            return
        wanted = " or ".join(str(role) for role in roles)
        raise forbidden(f"This needs the role {wanted}; you are {self.name!r} with the role {self.role}")


@dataclass(frozen=True, slots=True)
class UserWallet:
    """A wallet whose key its user has shown to hold; `address` is the public key in base58."""

    address: str
    user_id: UserId
    linked_at: datetime


@dataclass(frozen=True, slots=True)
class User:
    id: UserId
    name: str
    role: Role
    created_at: datetime
    password_hash: str = ""  # empty: no password, cannot log in with one
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key; only the SHA-256 of its 256 random bits is kept."""

    id: str
    user_id: UserId
    name: str
    digest: str
    prefix: str
    created_at: datetime
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class JoinToken:
    """Lets nodes join under its owner. `uses_left` None: any number."""

    id: str
    owner_id: UserId
    digest: str
    created_at: datetime
    expires_at: datetime | None = None
    uses_left: int | None = None
    revoked_at: datetime | None = None
