"""Users, API keys, join tokens, revoked tokens and who owns which blob as statements."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    cast,
    delete,
    exists,
    insert,
    or_,
    select,
    update,
)

from cyxwiz.domain.account import ApiKey, JoinToken, Role, User
from cyxwiz.domain.errors import not_found
from cyxwiz.domain.ids import JobId, NodeId, UserId
from cyxwiz.domain.states import TERMINAL_JOB_STATES
from cyxwiz.ports.store import BlobInfo, Page
from cyxwiz.store import mapping
from cyxwiz.store.sql_unit import Unit, insert_once, lookup, table
from cyxwiz.store.tables import (
    ApiKeyRow,
    BlobOwnerRow,
    BlobRoomRow,
    BlobRow,
    BlobSenderRow,
    JobCheckpointRow,
    JobRow,
    JoinTokenRow,
    RevokedTokenRow,
    UserRow,
)

users, api_keys, join_tokens = table(UserRow), table(ApiKeyRow), table(JoinTokenRow)
revoked, blobs, owners = table(RevokedTokenRow), table(BlobRow), table(BlobOwnerRow)
checkpoints, senders = table(JobCheckpointRow), table(BlobSenderRow)
room, jobs = table(BlobRoomRow), table(JobRow)

_USER = lookup(select(users).where(users.c.id == bindparam("id")))
_USER_BY_NAME = lookup(select(users).where(users.c.name == bindparam("name")))
_KEY = lookup(select(api_keys).where(api_keys.c.id == bindparam("id")))
_KEY_BY_DIGEST = lookup(select(api_keys).where(api_keys.c.digest == bindparam("digest")))
_JOIN_TOKEN = lookup(select(join_tokens).where(join_tokens.c.id == bindparam("id")))
_JOIN_TOKEN_BY_DIGEST = lookup(select(join_tokens).where(join_tokens.c.digest == bindparam("digest")))
_USABLE = and_(
    join_tokens.c.revoked_at.is_(None),
    or_(join_tokens.c.expires_at.is_(None), join_tokens.c.expires_at > bindparam("now")),
    or_(join_tokens.c.uses_left.is_(None), join_tokens.c.uses_left > 0),
)
_REVOKED = select(revoked.c.id).where(revoked.c.id == bindparam("id"))
_FORGET_EXPIRED = delete(revoked).where(revoked.c.expires_at < bindparam("now"))
_BLOB = select(blobs).where(blobs.c.sha256 == bindparam("sha256"))
_OWNERS = select(owners.c.owner_id).where(owners.c.sha256 == bindparam("sha256"))
_SENT = select(senders.c.sha256).where(
    senders.c.sha256 == bindparam("sha256"), senders.c.node_id == bindparam("node_id")
)
# Locked first: a delete that waited for who takes it would go by what it saw before.
_LOCK_BLOB = select(blobs.c.sha256).where(blobs.c.sha256 == bindparam("sha256")).with_for_update()
_DROP_BLOB = delete(blobs).where(
    blobs.c.sha256 == bindparam("at_sha256"),
    ~exists().where(owners.c.sha256 == blobs.c.sha256),
    ~exists().where(checkpoints.c.sha256 == blobs.c.sha256, checkpoints.c.kept.is_(True)),
)
_TAKE_ROOM = (
    update(room)
    .where(room.c.owner_id == bindparam("of_owner"))
    .values(taken=room.c.taken + bindparam("more", type_=BigInteger))
)
_TAKEN = select(room.c.taken).where(room.c.owner_id == bindparam("of_owner"))
_DISOWN = delete(owners).where(owners.c.sha256 == bindparam("of_sha256"), owners.c.owner_id == bindparam("of_owner"))
_JOB_WITH_BLOB = (
    select(jobs.c.id)
    .where(
        jobs.c.owner_id == bindparam("owner_id"),
        jobs.c.state.not_in(sorted(TERMINAL_JOB_STATES)),
        cast(jobs.c.spec, Text).contains(bindparam("sha256", type_=Text)),
    )
    .limit(1)
)
_REVOKE, _ADD_BLOB, _ADD_OWNER = insert_once(revoked), insert_once(blobs), insert_once(owners)
_ADD_SENDER, _ADD_ROOM = insert_once(senders), insert_once(room)


class Accounts(Unit):
    def add_user(self, user: User) -> None:
        self._run(insert(users), mapping.from_user(user))

    def user(self, user_id: UserId) -> User | None:
        row = self._one(_USER, id=user_id)
        return None if row is None else mapping.to_user(row)

    def user_by_name(self, name: str) -> User | None:
        row = self._one(_USER_BY_NAME, name=name)
        return None if row is None else mapping.to_user(row)

    def save_user(self, user: User) -> None:
        self._replace(users, "user", mapping.from_user(user))

    def users(self, offset: int, limit: int, role: Role | None = None) -> Page[User]:
        matching = select(users).order_by(users.c.name)
        if role is not None:
            matching = matching.where(users.c.role == role.value)
        rows, total, capped = self._page(matching, offset, limit)
        return Page([mapping.to_user(row) for row in rows], total, capped)

    def add_key(self, key: ApiKey) -> None:
        self._run(insert(api_keys), mapping.from_key(key))

    def key_by_digest(self, digest: str) -> ApiKey | None:
        row = self._one(_KEY_BY_DIGEST, digest=digest)
        return None if row is None else mapping.to_key(row)

    def key(self, key_id: str) -> ApiKey | None:
        row = self._one(_KEY, id=key_id)
        return None if row is None else mapping.to_key(row)

    def save_key(self, key: ApiKey) -> None:
        self._replace(api_keys, "API key", mapping.from_key(key))

    def keys(self, user_id: UserId | None, offset: int, limit: int, revoked: bool | None = None) -> Page[ApiKey]:
        matching = select(api_keys).order_by(api_keys.c.created_at.desc(), api_keys.c.id)
        if user_id is not None:
            matching = matching.where(api_keys.c.user_id == user_id)
        if revoked is not None:
            matching = matching.where(api_keys.c.revoked_at.is_not(None) == revoked)
        rows, total, capped = self._page(matching, offset, limit)
        return Page([mapping.to_key(row) for row in rows], total, capped)

    def add_join_token(self, token: JoinToken) -> None:
        self._run(insert(join_tokens), mapping.from_join_token(token))

    def join_token_by_digest(self, digest: str) -> JoinToken | None:
        row = self._one(_JOIN_TOKEN_BY_DIGEST, digest=digest)
        return None if row is None else mapping.to_join_token(row)

    def join_token(self, token_id: str) -> JoinToken | None:
        row = self._one(_JOIN_TOKEN, id=token_id)
        return None if row is None else mapping.to_join_token(row)

    def save_join_token(self, token: JoinToken) -> None:
        self._replace(join_tokens, "join token", mapping.from_join_token(token))

    def join_tokens(
        self, owner_id: UserId | None, offset: int, limit: int, usable: bool | None = None
    ) -> Page[JoinToken]:
        matching = select(join_tokens).order_by(join_tokens.c.created_at.desc(), join_tokens.c.id)
        if owner_id is not None:
            matching = matching.where(join_tokens.c.owner_id == owner_id)
        if usable is not None:
            matching = matching.where(_USABLE if usable else ~_USABLE).params(now=self.now)
        rows, total, capped = self._page(matching, offset, limit)
        return Page([mapping.to_join_token(row) for row in rows], total, capped)

    def revoke(self, token_id: str, expires_at: datetime) -> bool:
        self._run(_FORGET_EXPIRED, {"now": self.now})
        added: int = self._run(_REVOKE, {"id": token_id, "expires_at": expires_at}).rowcount
        return added > 0

    def revoked(self, token_id: str) -> bool:
        return self._run(_REVOKED, {"id": token_id}).one_or_none() is not None

    def add_blob(self, info: BlobInfo, owner_id: UserId | None) -> None:
        self._run(_ADD_BLOB, mapping.from_blob(info))
        wanted = info.owners if owner_id is None else info.owners | {owner_id}
        for owner in sorted(wanted):
            if self._run(_ADD_OWNER, {"sha256": info.sha256, "owner_id": owner}).rowcount > 0:
                self._run(_ADD_ROOM, {"owner_id": owner, "taken": 0})
                self._run(_TAKE_ROOM, {"of_owner": owner, "more": info.room_bytes})

    def blob(self, sha256: str) -> BlobInfo | None:
        row = self._run(_BLOB, {"sha256": sha256}).one_or_none()
        return None if row is None else mapping.to_blob(row, self._run(_OWNERS, {"sha256": sha256}).scalars().all())

    def disown_blob(self, sha256: str, owner_id: UserId) -> bool:
        info = self.blob(sha256)
        if info is None or self._run(_DISOWN, {"of_sha256": sha256, "of_owner": owner_id}).rowcount == 0:
            return False
        self._run(_TAKE_ROOM, {"of_owner": owner_id, "more": -info.room_bytes})
        return True

    def kept_bytes(self, owner_id: UserId) -> int:
        taken: int | None = self._run(_TAKEN, {"of_owner": owner_id}).scalar_one_or_none()
        return taken or 0

    def blobs_of(self, owner_id: UserId, offset: int, limit: int) -> Page[BlobInfo]:
        matching = (
            select(blobs)
            .join(owners, owners.c.sha256 == blobs.c.sha256)
            .where(owners.c.owner_id == owner_id)
            .order_by(owners.c.sha256)
        )
        rows, total, capped = self._page(matching, offset, limit)
        return Page([mapping.to_blob(row, (owner_id,)) for row in rows], total, capped)

    def job_with_blob(self, owner_id: UserId, sha256: str) -> JobId | None:
        return self._run(_JOB_WITH_BLOB, {"owner_id": owner_id, "sha256": sha256}).scalar_one_or_none()

    def add_blob_sender(self, sha256: str, node_id: NodeId) -> None:
        self._run(_ADD_SENDER, {"sha256": sha256, "node_id": node_id})

    def sent_blob(self, sha256: str, node_id: NodeId) -> bool:
        return self._run(_SENT, {"sha256": sha256, "node_id": node_id}).one_or_none() is not None

    def drop_blob(self, sha256: str) -> bool:
        self._run(_LOCK_BLOB, {"sha256": sha256})
        dropped: int = self._run(_DROP_BLOB, {"at_sha256": sha256}).rowcount
        return dropped > 0

    def _page(self, matching: Select[Any], offset: int, limit: int) -> tuple[Any, int, bool]:
        total, capped = self._total(matching)
        return self._run(matching.limit(limit).offset(offset)).all(), total, capped

    def _replace(self, rows: Table, kind: str, columns: dict[str, Any]) -> None:
        ident = columns.pop("id")
        if self._run(update(rows).where(rows.c.id == ident), columns).rowcount == 0:
            raise not_found(kind, ident)
