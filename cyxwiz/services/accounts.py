"""Users, credentials and who is calling.

Passwords are argon2id; API keys and join tokens are 256 random bits kept as SHA-256; tokens are JWT (HS256). Promises:
what is revoked is void on this process at once and on its replicas within `CACHE_SECONDS`, for open streams too, which
ask `check`. Refuses to say whether a
user exists: every bad log-in gets one answer, at one pace.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import argon2
import jwt

from cyxwiz.config import Auth
from cyxwiz.domain.account import NO_CREDENTIALS, ApiKey, JoinToken, Principal, Role, User
from cyxwiz.domain.errors import Code, CyxError, forbidden, invalid, not_found
from cyxwiz.domain.ids import NodeId, UserId, new_id, parse_user_id
from cyxwiz.domain.node import P2P_ISSUER
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.store import Page, Store, Tx
from cyxwiz.services.audit import record
from cyxwiz.services.secrets import Secrets

ISSUER = "cyxwiz"
KEY_PREFIX = "cyx_"
JOIN_PREFIX = "cyxjoin_"
CACHE_SECONDS = 10.0
TICKET_SECONDS = 60
NODE_SESSION = timedelta(days=30)
ADMIN_NAME = "admin"
OPEN_USER = Principal(UserId("00000000-0000-4000-8000-000000000000"), "open", Role.USER)


@dataclass(frozen=True, slots=True)
class TokenPair:
    access: str
    refresh: str
    expires_in_seconds: int
    user: User


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class Accounts:
    def __init__(self, store: Store, clock: Clock, auth: Auth, keys: Secrets) -> None:
        self._store = store
        self._clock = clock
        self._auth = auth
        self._secrets = keys
        self._cache: dict[str, tuple[float, Principal]] = {}
        self._hasher = argon2.PasswordHasher(
            time_cost=auth.argon2_time_cost, memory_cost=auth.argon2_memory_kib, parallelism=1
        )
        self._decoy = ""

    @property
    def open(self) -> bool:
        return self._auth.mode == "open"

    # who is calling

    async def authenticate(self, bearer: str | None) -> Principal:
        """The caller behind a bearer token: an access token, a node's session token or an API key.

        Raises:
            CyxError: UNAUTHENTICATED with what is wrong with it; without any, unless the mode is open.
        """
        if not bearer:
            if self.open:
                return OPEN_USER
            raise _unauthenticated(NO_CREDENTIALS)
        is_key = bearer.startswith(KEY_PREFIX)
        claims: Mapping[str, Any] = {} if is_key else self._decode(bearer, "access", "node")
        held = self._cache.get(bearer)
        if held and held[0] > self._clock.monotonic():
            return held[1]
        principal = await (self._by_key(bearer) if is_key else self._by_claims(claims))
        self._remember(bearer, principal)
        return principal

    def _remember(self, credential: str, principal: Principal) -> None:
        if len(self._cache) > 10_000:
            self._cache.clear()
        self._cache[credential] = (self._clock.monotonic() + CACHE_SECONDS, principal)

    async def check(self, actor: Principal) -> None:
        """Raises UNAUTHENTICATED once what a person came with is void: for streams, which outlive their beginning."""
        if self.open and actor.id == OPEN_USER.id:
            return
        if actor.expires_at is not None and actor.expires_at <= self._clock.now():
            raise _unauthenticated("This token has expired; log in or refresh")
        credential = actor.credential_id or actor.id
        held = self._cache.get(credential)
        if held and held[0] > self._clock.monotonic():
            return
        await self._store.read(lambda tx: _check_person(tx, actor.id, actor.credential_id))
        self._remember(credential, actor)

    async def _by_key(self, bearer: str) -> Principal:
        def unit(tx: Tx) -> Principal:
            key = tx.key_by_digest(digest(bearer))
            user = tx.user(key.user_id) if key else None
            if key is None or key.revoked_at or user is None or user.disabled:
                raise _unauthenticated("Unknown or revoked API key; make one with `cyxwiz keys create`")
            return Principal(user.id, user.name, user.role, credential_id=key.id)

        return await self._store.read(unit)

    async def _by_claims(self, claims: Mapping[str, Any]) -> Principal:
        def unit(tx: Tx) -> Principal:
            if tx.revoked(claims["jti"]):
                raise _unauthenticated("This token was revoked; log in again")
            if claims["typ"] == "node":
                node = tx.node(NodeId(claims["sub"]))
                if node is None:
                    raise _unauthenticated("This node is not registered; register again")
                if node.banned(tx.now):
                    raise forbidden(f"Node {node.id} is banned")
                refuse_disabled(tx, node.owner_id)
                return Principal(node.owner_id, node.name, Role.NODE, node_id=node.id, credential_id=claims["jti"])
            user = _check_person(tx, UserId(claims["sub"]))
            ends = datetime.fromtimestamp(claims["exp"], UTC)
            return Principal(user.id, user.name, user.role, credential_id=claims["jti"], expires_at=ends)

        return await self._store.read(unit)

    def _decode(self, token: str, *kinds: str) -> Mapping[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._secrets.jwt,
                algorithms=["HS256"],
                issuer=ISSUER,
                options={"require": ["sub", "typ", "jti", "iat"], "verify_exp": False, "verify_iat": False},
            )
        except jwt.PyJWTError:
            raise _unauthenticated("Invalid token: it was not issued here or is damaged") from None
        if claims["typ"] not in kinds:
            raise _unauthenticated(f"This is a {claims['typ']} token; {' or '.join(kinds)} is needed here")
        if not isinstance(claims.get("exp"), int) or claims["exp"] <= self._clock.now().timestamp():
            raise _unauthenticated("This token has expired; log in or refresh")
        return claims

    def _issue(self, typ: str, subject: str, life: timedelta, **claims: Any) -> str:
        now = self._clock.now()
        payload = {
            "iss": ISSUER,
            "sub": subject,
            "typ": typ,
            "jti": new_id(),
            "iat": int(now.timestamp()),
            "exp": int((now + life).timestamp()),
            **claims,
        }
        return jwt.encode(payload, self._secrets.jwt, algorithm="HS256")

    def node_session(self, node_id: NodeId) -> str:
        return self._issue("node", node_id, NODE_SESSION)

    def p2p_token(
        self,
        user: str,
        job_id: str,
        node_id: NodeId,
        *,
        legacy: bool,
        reservation_id: str = "",
        until: datetime | None = None,
    ) -> tuple[str, int]:
        """(token, Unix seconds at which it expires): lets `user` reach `job_id` on `node_id` directly.

        With a reservation it reaches all of its jobs. `until`: how long it is good, instead of p2p_token_seconds.
        """
        now = int(self._clock.now().timestamp())
        expires = now + self._auth.p2p_token_seconds if until is None else int(until.timestamp())
        claims = {"iss": P2P_ISSUER, "sub": user, "job_id": job_id, "node_id": node_id, "iat": now, "exp": expires}
        if reservation_id:
            claims["reservation_id"] = reservation_id
        return jwt.encode(claims, self._secrets.p2p_for(node_id, legacy=legacy), algorithm="HS256"), expires

    # log-in

    async def login(self, name: str, password: str) -> TokenPair:
        user = await self._store.read(lambda tx: tx.user_by_name(name))
        usable = user is not None and bool(user.password_hash) and not user.disabled
        if not self._decoy:
            self._decoy = await asyncio.to_thread(self._hasher.hash, secrets.token_hex(8))
        hashed = user.password_hash if user is not None and usable else self._decoy
        matches = await asyncio.to_thread(self._verify, hashed, password)
        if user is None or not usable or not matches:
            raise _unauthenticated("Wrong name or password")
        await self._store.write(lambda tx: record(tx, user.name, "login", f"user:{user.id}"))
        return self.pair(user)

    def _verify(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except argon2.exceptions.VerificationError:
            return False

    def pair(self, user: User) -> TokenPair:
        """Tokens for a user who has proved to be that one."""
        access = self._issue("access", user.id, timedelta(seconds=self._auth.access_token_seconds))
        refresh = self._issue("refresh", user.id, timedelta(seconds=self._auth.refresh_token_seconds))
        return TokenPair(access, refresh, self._auth.access_token_seconds, user)

    async def refresh(self, token: str) -> TokenPair:
        """New tokens for a refresh token, which is void from now on: used twice, it was stolen."""
        claims = self._decode(token, "refresh")

        def unit(tx: Tx) -> User:
            user = tx.user(UserId(claims["sub"]))
            if user is None or user.disabled or not tx.revoke(claims["jti"], _expiry(tx, claims)):
                raise _unauthenticated("This refresh token was used already or its user is disabled; log in again")
            return user

        return self.pair(await self._store.write(unit))

    async def logout(self, token: str, refresh_token: str = "") -> None:
        """Voids an access token and, if given, its refresh token. API keys live on until they are revoked."""
        given = [("access", token)] if not token.startswith(KEY_PREFIX) else []
        if refresh_token:
            given.append(("refresh", refresh_token))
        claims = [self._decode(text, kind) for kind, text in given]

        def unit(tx: Tx) -> None:
            for each in claims:
                tx.revoke(each["jti"], _expiry(tx, each))

        await self._store.write(unit)
        self._cache.clear()

    async def ticket(self, principal: Principal) -> str:
        """A single-use token of 60 seconds, for a browser's WebSocket or event stream.

        The stream that it opens ends with the credential that it was drawn with.
        """
        principal.require(Role.USER, Role.OPERATOR)
        ends = int(principal.expires_at.timestamp()) if principal.expires_at else None
        return self._issue(
            "ticket",
            principal.id,
            timedelta(seconds=TICKET_SECONDS),
            credential=principal.credential_id,
            credential_ends=ends,
        )

    async def redeem(self, ticket: str) -> Principal:
        claims = self._decode(ticket, "ticket")

        def unit(tx: Tx) -> Principal:
            if not tx.revoke(claims["jti"], _expiry(tx, claims)):
                raise _unauthenticated("This ticket was used already")
            if self.open and claims["sub"] == OPEN_USER.id:
                return OPEN_USER
            credential, ends = str(claims.get("credential", "")), claims.get("credential_ends")
            user = _check_person(tx, UserId(claims["sub"]), credential)
            expires = datetime.fromtimestamp(ends, UTC) if ends else None
            return Principal(user.id, user.name, user.role, credential_id=credential, expires_at=expires)

        return await self._store.write(unit)

    # users

    async def bootstrap(self) -> str | None:
        """Makes the user `admin`, who has no password, with an API key; returns the key, once."""
        text = KEY_PREFIX + secrets.token_urlsafe(32)

        def unit(tx: Tx) -> str | None:
            if tx.user_by_name(ADMIN_NAME):
                return None
            user = User(UserId(new_id()), ADMIN_NAME, Role.ADMIN, tx.now)
            tx.add_user(user)
            tx.add_key(ApiKey(new_id(), user.id, "bootstrap", digest(text), text[:12], tx.now))
            record(tx, "system", "user.create", f"user:{user.id}", name=ADMIN_NAME)
            return text

        return await self._store.write(unit)

    async def issue_local_key(self) -> str:
        """A fresh key for `admin`: only for whoever can write the data directory, who owns the store anyhow."""
        text = KEY_PREFIX + secrets.token_urlsafe(32)

        def unit(tx: Tx) -> str:
            user = tx.user_by_name(ADMIN_NAME)
            assert user is not None, "bootstrap comes first"
            tx.add_key(ApiKey(new_id(), user.id, "local", digest(text), text[:12], tx.now))
            return text

        return await self._store.write(unit)

    async def create_user(self, actor: Principal | None, name: str, password: str, role: Role) -> User:
        """`actor` None is a stranger signing up: allowed only by auth.allow_signup, and only as a user."""
        if actor is None:
            if not self._auth.allow_signup:
                raise forbidden("Sign-up is closed here: ask an admin for a user (auth.allow_signup opens it)")
            role = Role.USER
        else:
            actor.require(Role.ADMIN)
        if role is Role.NODE:
            raise invalid("role: a node joins with a token, it is no user", field="role")
        _check_name(name)
        if len(password) > 1024 or 0 < len(password) < 8 or (actor is None and not password):
            raise invalid("password: must have 8 to 1024 characters", field="password")
        hashed = await asyncio.to_thread(self._hasher.hash, password) if password else ""
        by = actor.name if actor else "sign-up"

        def unit(tx: Tx) -> User:
            if tx.user_by_name(name):
                raise CyxError(Code.EXISTS, f"A user named {name!r} exists already", {"name": name})
            user = User(UserId(new_id()), name, role, tx.now, hashed)
            tx.add_user(user)
            record(tx, by, "user.create", f"user:{user.id}", name=name, role=str(role))
            return user

        return await self._store.write(unit)

    async def users(self, actor: Principal, offset: int, limit: int, role: Role | None = None) -> Page[User]:
        actor.require(Role.ADMIN)
        return await self._store.read(lambda tx: tx.users(offset, limit, role))

    async def disable_user(self, actor: Principal, name_or_id: str) -> User:
        actor.require(Role.ADMIN)

        def unit(tx: Tx) -> User:
            user = find_user(tx, name_or_id)
            if user.id == actor.id:
                raise forbidden("You can't disable yourself")
            user = replace(user, disabled=True)
            tx.save_user(user)
            record(tx, actor.name, "user.disable", f"user:{user.id}")
            return user

        user = await self._store.write(unit)
        self._cache.clear()
        return user

    async def user(self, principal: Principal) -> User | None:
        return await self._store.read(lambda tx: tx.user(principal.id))

    # API keys

    async def create_key(self, actor: Principal, name: str) -> tuple[ApiKey, str]:
        """(the record, the key itself): the key is shown this once."""
        actor.require(Role.USER, Role.OPERATOR)
        if self.open and actor.id == OPEN_USER.id:
            raise forbidden('Open mode has no users, so no keys; set auth.mode = "required"')
        if not 0 < len(name) <= 100:
            raise invalid("name: must have 1 to 100 characters", field="name")
        text = KEY_PREFIX + secrets.token_urlsafe(32)

        def unit(tx: Tx) -> ApiKey:
            key = ApiKey(new_id(), actor.id, name, digest(text), text[:12], tx.now)
            tx.add_key(key)
            record(tx, actor.name, "key.create", f"key:{key.id}")
            return key

        return await self._store.write(unit), text

    async def keys(self, actor: Principal, offset: int, limit: int, revoked: bool | None = None) -> Page[ApiKey]:
        actor.require(Role.USER, Role.OPERATOR)
        owner = None if actor.is_admin else actor.id
        return await self._store.read(lambda tx: tx.keys(owner, offset, limit, revoked))

    async def revoke_key(self, actor: Principal, key_id: str) -> ApiKey:
        def unit(tx: Tx) -> ApiKey:
            key = tx.key(key_id)
            if key is None or not actor.owns(key.user_id):
                raise not_found("key", key_id)
            key = replace(key, revoked_at=key.revoked_at or tx.now)
            tx.save_key(key)
            record(tx, actor.name, "key.revoke", f"key:{key.id}")
            return key

        key = await self._store.write(unit)
        self._cache.clear()
        return key

    # join tokens

    async def create_join_token(
        self, actor: Principal, uses: int | None, expires_seconds: float | None
    ) -> tuple[JoinToken, str]:
        if not (self.open and actor.id == OPEN_USER.id):
            actor.require(Role.OPERATOR)
        if uses is not None and not 1 <= uses <= 10**6:
            raise invalid("uses: must be from 1 to 1000000", field="uses")
        if expires_seconds is not None and not 1 <= expires_seconds <= 10 * 365 * 86400:
            raise invalid("expires: must be from 1 second to 10 years", field="expires")
        text = JOIN_PREFIX + secrets.token_urlsafe(32)

        def unit(tx: Tx) -> JoinToken:
            ends = tx.now + timedelta(seconds=expires_seconds) if expires_seconds else None
            token = JoinToken(new_id(), actor.id, digest(text), tx.now, ends, uses)
            tx.add_join_token(token)
            record(tx, actor.name, "node_token.create", f"join_token:{token.id}")
            return token

        return await self._store.write(unit), text

    async def join_tokens(
        self, actor: Principal, offset: int, limit: int, usable: bool | None = None
    ) -> Page[JoinToken]:
        actor.require(Role.USER, Role.OPERATOR)
        owner = None if actor.is_admin else actor.id
        return await self._store.read(lambda tx: tx.join_tokens(owner, offset, limit, usable))

    async def revoke_join_token(self, actor: Principal, token_id: str) -> JoinToken:
        def unit(tx: Tx) -> JoinToken:
            token = tx.join_token(token_id)
            if token is None or not actor.owns(token.owner_id):
                raise not_found("join token", token_id)
            token = replace(token, revoked_at=token.revoked_at or tx.now)
            tx.save_join_token(token)
            record(tx, actor.name, "node_token.revoke", f"join_token:{token.id}")
            return token

        return await self._store.write(unit)


def spend_join_token(tx: Tx, text: str) -> UserId:
    """The owner under whom a node joins with this token, which has one use less afterwards."""
    if not text:
        raise _unauthenticated("No join token: set node.join_token_file; `cyxwiz node token create` makes a token")
    token = tx.join_token_by_digest(digest(text))
    if token is None or token.revoked_at:
        raise _unauthenticated("Unknown or revoked join token; make one with `cyxwiz node token create`")
    if token.expires_at and token.expires_at <= tx.now:
        raise _unauthenticated("This join token has expired; make one with `cyxwiz node token create`")
    refuse_disabled(tx, token.owner_id)
    if token.uses_left is not None:
        if token.uses_left < 1:
            raise _unauthenticated("This join token is used up; make one with `cyxwiz node token create`")
        tx.save_join_token(replace(token, uses_left=token.uses_left - 1))
    return token.owner_id


def refuse_disabled(tx: Tx, owner_id: UserId) -> None:
    """Raises FORBIDDEN when the owner of a node or of a join token is disabled: what is theirs goes with them."""
    owner = tx.user(owner_id)
    if owner is not None and owner.disabled:
        raise forbidden("The owner of this node is disabled: ask an admin")


def _unauthenticated(message: str) -> CyxError:
    return CyxError(Code.UNAUTHENTICATED, message)


def _check_person(tx: Tx, user_id: UserId, credential_id: str = "") -> User:
    """The user, unless they or the API key or token with this id are void."""
    user = tx.user(user_id)
    if user is None or user.disabled:
        raise _unauthenticated("This user is disabled or gone")
    key = tx.key(credential_id) if credential_id else None
    if (key is not None and key.revoked_at) or (credential_id and tx.revoked(credential_id)):
        raise _unauthenticated("This credential was revoked; log in again")
    return user


def _expiry(tx: Tx, claims: Mapping[str, Any]) -> Any:
    return tx.now + timedelta(seconds=max(0, claims["exp"] - tx.now.timestamp()))


def find_user(tx: Tx, name_or_id: str) -> User:
    """By the id first, which nobody chooses: a name that looks like somebody's id stands for nobody else. Raises
    NOT_FOUND."""
    user = tx.user(_id_of(name_or_id)) or tx.user_by_name(name_or_id)
    if user is None:
        raise not_found("user", name_or_id)
    return user


def _check_name(name: str) -> None:
    if not 0 < len(name) <= 64 or not all(ch.isalnum() or ch in "._-@" for ch in name):
        raise invalid("name: must have 1 to 64 letters, digits, '.', '_', '-' or '@'", field="name")
    if _id_of(name):
        raise invalid("name: looks like an id, by which users are found as well; take another one", field="name")


def _id_of(text: str) -> UserId:
    """The id that a text is; "" for any other text."""
    with contextlib.suppress(CyxError):
        return parse_user_id(text)
    return UserId("")
