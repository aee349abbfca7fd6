"""Who is calling: log-in, tokens, keys, tickets and join tokens, to the second, by a clock that is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from cyxwiz.bus.local import LocalBus
from cyxwiz.config import Auth
from cyxwiz.domain.account import Principal, Role, User
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import NodeId, UserId, new_id
from cyxwiz.domain.states import NodeState
from cyxwiz.ports.store import Tx
from cyxwiz.services.accounts import CACHE_SECONDS, OPEN_USER, P2P_ISSUER, Accounts, digest, spend_join_token
from cyxwiz.services.secrets import Secrets, load_secrets
from cyxwiz.store.memory import MemoryStore
from tests.contract import make

START = datetime(2030, 1, 1, tzinfo=UTC)
SECRET = "a secret of more than thirty-two bytes"
ROOT = "another secret of more than thirty-two bytes"


class HandClock:
    """Stands still until it is moved. Password hashes run on threads, which virtual time does not know."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class World:
    """Accounts over a store in memory, with a user of each role."""

    def __init__(self, **settings: Any) -> None:
        self.clock = HandClock()
        self.store = MemoryStore(self.clock, LocalBus())
        self.auth = Auth(argon2_memory_kib=8, argon2_time_cost=1, jwt_secret=SECRET, p2p_secret=ROOT, **settings)
        self.secrets = Secrets(SECRET, ROOT, "admin")
        self.accounts = self.again()

    def again(self) -> Accounts:
        """Another replica on the same store."""
        return Accounts(self.store, self.clock, self.auth, self.secrets)

    async def user(self, name: str = "ada", role: Role = Role.USER, password: str = "correct horse") -> User:
        admin = Principal(UserId(new_id()), "root", Role.ADMIN)
        return await self.accounts.create_user(admin, name, password, role)

    async def actor(self, name: str = "ada", role: Role = Role.USER) -> Principal:
        user = await self.user(name, role, password="")
        return Principal(user.id, user.name, user.role)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.store.aclose()


@pytest.fixture
async def open_world() -> AsyncIterator[World]:
    made = World(mode="open")
    yield made
    await made.store.aclose()


async def refusal(coro: Any, code: Code = Code.UNAUTHENTICATED) -> str:
    with pytest.raises(CyxError) as caught:
        await coro
    assert caught.value.code is code
    return caught.value.message


# log-in


async def test_a_log_in_gives_a_pair_of_tokens_that_work(world: World) -> None:
    user = await world.user()
    pair = await world.accounts.login("ada", "correct horse")
    assert pair.user == user
    assert pair.expires_in_seconds == 3600
    principal = await world.accounts.authenticate(pair.access)
    assert (principal.id, principal.name, principal.role) == (user.id, "ada", Role.USER)


async def test_every_bad_log_in_gets_one_answer(world: World) -> None:
    await world.user()
    await world.user("keyonly", password="")
    await world.user("gone")
    await world.accounts.disable_user(Principal(UserId(new_id()), "root", Role.ADMIN), "gone")
    answers = {
        await refusal(world.accounts.login(name, password))
        for name, password in (
            ("ada", "wrong horse"),
            ("nobody", "correct horse"),
            ("keyonly", ""),
            ("keyonly", "correct horse"),
            ("gone", "correct horse"),
            ("", ""),
        )
    }
    assert answers == {"Wrong name or password"}


async def test_a_log_in_of_nobody_costs_a_hash_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.user()
    hashed: list[str] = []
    verify = world.accounts._verify
    monkeypatch.setattr(world.accounts, "_verify", lambda kept, given: hashed.append(kept) or verify(kept, given))
    await refusal(world.accounts.login("nobody", "correct horse"))
    await refusal(world.accounts.login("ada", "wrong"))
    decoy, real = hashed
    assert decoy.rpartition("$")[0].rpartition("$")[0] == real.rpartition("$")[0].rpartition("$")[0]  # the same costs


async def test_a_log_in_is_written_down(world: World) -> None:
    user = await world.user()
    await world.accounts.login("ada", "correct horse")
    newest = (await world.store.read(lambda tx: tx.audit_log(1)))[0]
    assert (newest.actor, newest.action, newest.target) == ("ada", "login", f"user:{user.id}")


# access tokens


async def test_a_token_ends_at_the_exact_second(world: World) -> None:
    await world.user()
    pair = await world.accounts.login("ada", "correct horse")
    world.clock.advance(3599)
    await world.accounts.authenticate(pair.access)
    world.clock.advance(0.999)
    await world.accounts.authenticate(pair.access)
    world.clock.advance(0.001)
    assert "expired" in await refusal(world.accounts.authenticate(pair.access))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"iss": "somebody"}, "not issued here"),
        ({"exp": None}, "expired"),
        ({"exp": "never"}, "expired"),
        ({"jti": None}, "not issued here"),
        ({"typ": "refresh"}, "refresh token; access or node"),
        ({"typ": "ticket"}, "ticket token"),
    ],
)
async def test_a_token_with_other_claims_is_refused(world: World, change: dict[str, Any], word: str) -> None:
    user = await world.user()
    now = int(START.timestamp())
    claims = {"iss": "cyxwiz", "sub": user.id, "typ": "access", "jti": "1", "iat": now, "exp": now + 60, **change}
    claims = {name: value for name, value in claims.items() if value is not None}
    assert word in await refusal(world.accounts.authenticate(jwt.encode(claims, SECRET, algorithm="HS256")))


async def test_a_token_of_another_secret_or_none_is_refused(world: World) -> None:
    user = await world.user()
    now = int(START.timestamp())
    claims = {"iss": "cyxwiz", "sub": user.id, "typ": "access", "jti": "1", "iat": now, "exp": now + 60}
    forged = jwt.encode(claims, "x" * 40, algorithm="HS256")
    unsigned = jwt.encode(claims, "", algorithm="none")
    other = jwt.encode(claims, SECRET + "x" * 40, algorithm="HS512")
    for bearer in (forged, unsigned, other, "nonsense", "cyx_unknown"):
        await refusal(world.accounts.authenticate(bearer))
    assert "Missing credentials" in await refusal(world.accounts.authenticate(None))
    assert "Missing credentials" in await refusal(world.accounts.authenticate(""))


async def test_a_disabled_user_is_out_at_once_here_and_soon_elsewhere(world: World) -> None:
    user, replica = await world.user(), world.again()
    pair = await world.accounts.login("ada", "correct horse")
    await world.accounts.authenticate(pair.access)
    await replica.authenticate(pair.access)
    await world.accounts.disable_user(Principal(UserId(new_id()), "root", Role.ADMIN), user.id)
    assert "disabled" in await refusal(world.accounts.authenticate(pair.access))
    world.clock.advance(CACHE_SECONDS)
    assert "disabled" in await refusal(replica.authenticate(pair.access))
    await refusal(world.accounts.refresh(pair.refresh))


# refresh, log-out


async def test_a_refresh_token_works_once(world: World) -> None:
    await world.user()
    first = await world.accounts.login("ada", "correct horse")
    second = await world.accounts.refresh(first.refresh)
    assert "used already" in await refusal(world.accounts.refresh(first.refresh))
    third = await world.accounts.refresh(second.refresh)
    assert len({first.refresh, second.refresh, third.refresh}) == 3
    await world.accounts.authenticate(third.access)


async def test_only_a_refresh_token_refreshes(world: World) -> None:
    await world.user()
    pair = await world.accounts.login("ada", "correct horse")
    assert "access token; refresh is needed" in await refusal(world.accounts.refresh(pair.access))
    assert "refresh token; access or node" in await refusal(world.accounts.authenticate(pair.refresh))


async def test_a_refresh_token_ends_too(world: World) -> None:
    await world.user()
    pair = await world.accounts.login("ada", "correct horse")
    world.clock.advance(world.auth.refresh_token_seconds)
    assert "expired" in await refusal(world.accounts.refresh(pair.refresh))


async def test_logging_out_voids_both_tokens_and_no_key(world: World) -> None:
    await world.user()
    replica = world.again()
    pair = await world.accounts.login("ada", "correct horse")
    principal = await world.accounts.authenticate(pair.access)
    await replica.authenticate(pair.access)
    _, key = await world.accounts.create_key(principal, "laptop")
    await world.accounts.logout(pair.access, pair.refresh)
    assert "revoked" in await refusal(world.accounts.authenticate(pair.access))
    await refusal(world.accounts.refresh(pair.refresh))
    await world.accounts.authenticate(key)
    world.clock.advance(CACHE_SECONDS)
    assert "revoked" in await refusal(replica.authenticate(pair.access))
    await world.accounts.logout(key)
    await world.accounts.authenticate(key)


# API keys


async def test_a_key_is_shown_once_and_kept_as_a_digest(world: World) -> None:
    actor = await world.actor()
    record, text = await world.accounts.create_key(actor, "laptop")
    assert text.startswith("cyx_")
    assert len(text) == len("cyx_") + 43  # 256 bits in base64
    assert record.digest == digest(text)
    assert text not in repr(record)
    principal = await world.accounts.authenticate(text)
    assert (principal.id, principal.credential_id) == (actor.id, record.id)
    listed = (await world.accounts.keys(actor, 0, 10)).items
    assert listed == [record]


async def test_a_revoked_key_is_void_at_once_here_and_soon_elsewhere(world: World) -> None:
    actor, replica = await world.actor(), world.again()
    record, text = await world.accounts.create_key(actor, "laptop")
    await world.accounts.authenticate(text)
    await replica.authenticate(text)
    revoked = await world.accounts.revoke_key(actor, record.id)
    assert revoked.revoked_at == START
    assert "revoked API key" in await refusal(world.accounts.authenticate(text))
    world.clock.advance(CACHE_SECONDS)
    assert "revoked API key" in await refusal(replica.authenticate(text))
    assert (await world.accounts.revoke_key(actor, record.id)).revoked_at == START


async def test_a_key_is_its_owners_or_an_admins(world: World) -> None:
    ada, eve = await world.actor("ada"), await world.actor("eve")
    root = await world.actor("root", Role.ADMIN)
    record, _ = await world.accounts.create_key(ada, "laptop")
    await refusal(world.accounts.revoke_key(eve, record.id), Code.NOT_FOUND)
    assert (await world.accounts.keys(eve, 0, 10)).total == 0
    assert (await world.accounts.keys(root, 0, 10)).items == [record]
    await world.accounts.revoke_key(root, record.id)


@pytest.mark.parametrize("name", ["", "n" * 101])
async def test_a_key_needs_a_name(world: World, name: str) -> None:
    assert "name" in await refusal(world.accounts.create_key(await world.actor(), name), Code.INVALID)


# tickets


async def test_a_ticket_works_once_and_for_a_minute(world: World) -> None:
    actor = await world.actor()
    ticket = await world.accounts.ticket(actor)
    world.clock.advance(59)
    redeemed = await world.accounts.redeem(ticket)
    assert (redeemed.id, redeemed.role) == (actor.id, Role.USER)
    assert "used already" in await refusal(world.accounts.redeem(ticket))
    late = await world.accounts.ticket(actor)
    world.clock.advance(60)
    assert "expired" in await refusal(world.accounts.redeem(late))


async def test_a_ticket_is_no_bearer_token(world: World) -> None:
    ticket = await world.accounts.ticket(await world.actor())
    await refusal(world.accounts.authenticate(ticket))
    await world.user("bob")
    pair = await world.accounts.login("bob", "correct horse")
    assert "ticket is needed" in await refusal(world.accounts.redeem(pair.access))


async def test_a_ticket_of_a_disabled_user_is_void(world: World) -> None:
    actor = await world.actor()
    ticket = await world.accounts.ticket(actor)
    await world.accounts.disable_user(await world.actor("root", Role.ADMIN), "ada")
    assert "disabled" in await refusal(world.accounts.redeem(ticket))


# users and roles


async def test_bootstrap_makes_one_admin_without_a_password(world: World) -> None:
    key = await world.accounts.bootstrap()
    assert key is not None
    principal = await world.accounts.authenticate(key)
    assert (principal.name, principal.is_admin) == ("admin", True)
    assert await world.accounts.bootstrap() is None
    await refusal(world.accounts.login("admin", ""))
    again = await world.accounts.issue_local_key()
    assert (await world.accounts.authenticate(again)).id == principal.id


async def test_sign_up_is_closed_unless_opened_and_never_gives_a_role(world: World) -> None:
    assert "Sign-up is closed" in await refusal(
        world.accounts.create_user(None, "eve", "long enough", Role.USER), Code.FORBIDDEN
    )
    world.auth = world.auth.model_copy(update={"allow_signup": True})
    accounts = world.again()
    eve = await accounts.create_user(None, "eve", "long enough", Role.ADMIN)
    assert eve.role is Role.USER
    assert "8 to 1024" in await refusal(accounts.create_user(None, "mallory", "", Role.USER), Code.INVALID)


async def test_what_each_role_may_do(world: World) -> None:
    actors = {role: await world.actor(str(role), role) for role in (Role.USER, Role.OPERATOR, Role.ADMIN)}
    node = Principal(actors[Role.USER].id, "node", Role.NODE, node_id=NodeId(new_id()))

    async def allowed(coro: Any) -> bool:
        try:
            await coro
        except CyxError as error:
            if error.code is not Code.FORBIDDEN:
                raise
            return False
        return True

    accounts = world.accounts
    may = {
        role: (
            await allowed(accounts.create_user(actor, f"made-by-{role}", "", Role.USER)),
            await allowed(accounts.users(actor, 0, 10)),
            await allowed(accounts.create_join_token(actor, None, None)),
            await allowed(accounts.create_key(actor, "k")),
        )
        for role, actor in {**actors, Role.NODE: node}.items()
    }
    assert may == {
        Role.USER: (False, False, False, True),
        Role.OPERATOR: (False, False, True, True),
        Role.ADMIN: (True, True, True, True),
        Role.NODE: (False, False, False, False),
    }


async def test_a_user_is_named_once_and_plainly(world: World) -> None:
    await world.user("ada.l-1_x@home")
    await refusal(world.user("ada.l-1_x@home"), Code.EXISTS)
    for name in ("", "a b", "a/b", "n" * 65, "a\n"):
        assert "name" in await refusal(world.user(name), Code.INVALID)
    for password in ("short", "p" * 1025):
        assert "password" in await refusal(world.user("bob", password=password), Code.INVALID)
    assert "no user" in await refusal(world.user("bob", Role.NODE), Code.INVALID)


async def test_nobody_locks_themself_out(world: World) -> None:
    root = await world.actor("root", Role.ADMIN)
    assert "yourself" in await refusal(world.accounts.disable_user(root, "root"), Code.FORBIDDEN)
    await refusal(world.accounts.disable_user(root, "nobody"), Code.NOT_FOUND)
    await refusal(world.accounts.disable_user(await world.actor(), "root"), Code.FORBIDDEN)


async def test_open_mode_asks_for_nothing_and_gives_the_role_user(open_world: World) -> None:
    accounts = open_world.accounts
    assert await accounts.authenticate(None) == OPEN_USER
    assert OPEN_USER.role is Role.USER
    await refusal(accounts.authenticate("nonsense"))
    assert "Open mode" in await refusal(accounts.create_key(OPEN_USER, "k"), Code.FORBIDDEN)
    await accounts.create_join_token(OPEN_USER, None, None)
    assert await accounts.redeem(await accounts.ticket(OPEN_USER)) == OPEN_USER
    await refusal(accounts.create_user(OPEN_USER, "eve", "", Role.USER), Code.FORBIDDEN)


# join tokens


async def spend(world: World, text: str) -> UserId:
    return await world.store.write(lambda tx: spend_join_token(tx, text))


async def test_a_join_token_has_its_uses(world: World) -> None:
    operator = await world.actor("op", Role.OPERATOR)
    record, text = await world.accounts.create_join_token(operator, 2, None)
    assert text.startswith("cyxjoin_")
    assert record.digest == digest(text)
    assert [await spend(world, text), await spend(world, text)] == [operator.id] * 2
    assert "used up" in await refusal(spend(world, text))
    _, endless = await world.accounts.create_join_token(operator, None, None)
    for _ in range(20):
        await spend(world, endless)


async def test_a_join_token_ends_at_the_exact_second(world: World) -> None:
    operator = await world.actor("op", Role.OPERATOR)
    record, text = await world.accounts.create_join_token(operator, None, 60)
    assert record.expires_at == START + timedelta(seconds=60)
    world.clock.advance(59.999)
    await spend(world, text)
    world.clock.advance(0.001)
    assert "expired" in await refusal(spend(world, text))


async def test_a_revoked_join_token_is_void(world: World) -> None:
    operator, other = await world.actor("op", Role.OPERATOR), await world.actor("other", Role.OPERATOR)
    record, text = await world.accounts.create_join_token(operator, None, None)
    await refusal(world.accounts.revoke_join_token(other, record.id), Code.NOT_FOUND)
    await world.accounts.revoke_join_token(operator, record.id)
    assert "revoked join token" in await refusal(spend(world, text))
    await refusal(spend(world, ""))
    await refusal(spend(world, "cyxjoin_unknown"))


async def test_a_use_of_a_unit_that_fails_is_not_spent(world: World) -> None:
    operator = await world.actor("op", Role.OPERATOR)
    _, text = await world.accounts.create_join_token(operator, 1, None)

    def unit(tx: Tx) -> None:
        spend_join_token(tx, text)
        raise CyxError(Code.INVALID, "the registration was bad")

    await refusal(world.store.write(unit), Code.INVALID)
    assert await spend(world, text) == operator.id


async def test_a_join_token_of_a_disabled_user_is_void(world: World) -> None:
    operator = await world.actor("op", Role.OPERATOR)
    _, text = await world.accounts.create_join_token(operator, None, None)
    await world.accounts.disable_user(Principal(UserId(new_id()), "root", Role.ADMIN), "op")
    assert "disabled" in await refusal(spend(world, text), Code.FORBIDDEN)


@pytest.mark.parametrize(("uses", "seconds"), [(0, None), (10**6 + 1, None), (None, 0.5), (None, 11 * 365 * 86400.0)])
async def test_a_join_token_out_of_bounds(world: World, uses: int | None, seconds: float | None) -> None:
    operator = await world.actor("op", Role.OPERATOR)
    await refusal(world.accounts.create_join_token(operator, uses, seconds), Code.INVALID)


# nodes


async def test_a_nodes_session_says_which_node_and_whose(world: World) -> None:
    owner = await world.user()
    node = make.node(owner_id=owner.id, state=NodeState.ONLINE)
    session = world.accounts.node_session(node.id)
    assert "not registered" in await refusal(world.accounts.authenticate(session))
    await world.store.write(lambda tx: tx.add_node(node))
    principal = await world.accounts.authenticate(session)
    assert (principal.role, principal.node_id, principal.id) == (Role.NODE, node.id, owner.id)
    with pytest.raises(CyxError):
        principal.require(Role.USER, Role.OPERATOR, Role.ADMIN)
    world.clock.advance(30 * 86400)
    assert "expired" in await refusal(world.accounts.authenticate(session))


async def test_the_session_of_a_banned_node_or_of_a_disabled_owner_is_void(world: World) -> None:
    owner = await world.user()
    banned = make.node("banned", owner_id=owner.id, state=NodeState.BANNED, banned_until=START + timedelta(seconds=60))
    theirs = make.node("theirs", owner_id=owner.id, state=NodeState.ONLINE)
    await world.store.write(lambda tx: [tx.add_node(each) for each in (banned, theirs)])
    session = world.accounts.node_session(banned.id)
    assert "banned" in await refusal(world.accounts.authenticate(session), Code.FORBIDDEN)
    world.clock.advance(60)
    assert (await world.accounts.authenticate(session)).node_id == banned.id
    await world.accounts.disable_user(Principal(UserId(new_id()), "root", Role.ADMIN), owner.name)
    refused = await refusal(world.accounts.authenticate(world.accounts.node_session(theirs.id)), Code.FORBIDDEN)
    assert "disabled" in refused


async def test_a_p2p_token_has_the_published_claims(world: World) -> None:
    node_id, job_id = NodeId(new_id()), new_id()
    token, expires = world.accounts.p2p_token("ada", job_id, node_id, legacy=True)
    assert jwt.get_unverified_header(token)["alg"] == "HS256"
    now = int(START.timestamp())
    options = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(token, ROOT, algorithms=["HS256"], issuer=P2P_ISSUER, options=options)
    assert claims == {
        "iss": "CyxWiz-Central-Server",
        "sub": "ada",
        "job_id": job_id,
        "node_id": node_id,
        "iat": now,
        "exp": now + 3600,
    }
    assert expires == now + 3600


async def test_each_node_has_a_p2p_secret_of_its_own(world: World) -> None:
    one, other = NodeId(new_id()), NodeId(new_id())
    token, _ = world.accounts.p2p_token("ada", new_id(), one, legacy=False)
    options = {"verify_exp": False, "verify_iat": False}
    jwt.decode(
        token, world.secrets.p2p_for(one, legacy=False), algorithms=["HS256"], issuer=P2P_ISSUER, options=options
    )
    for wrong in (world.secrets.p2p_for(other, legacy=False), ROOT):
        with pytest.raises(jwt.InvalidSignatureError):
            jwt.decode(token, wrong, algorithms=["HS256"], issuer=P2P_ISSUER, options=options)


async def test_a_p2p_token_is_no_bearer_token_of_central(world: World) -> None:
    token, _ = world.accounts.p2p_token("ada", new_id(), NodeId(new_id()), legacy=True)
    await refusal(world.accounts.authenticate(token))


async def test_secrets_are_made_once_and_shared_by_the_store(world: World) -> None:
    first = await load_secrets(world.store, Auth())
    assert await load_secrets(world.store, Auth()) == first
    assert len({first.jwt, first.p2p, first.admin}) == 3
    assert (await load_secrets(world.store, Auth(jwt_secret=SECRET))).jwt == SECRET
    assert (await load_secrets(world.store, Auth())).jwt == first.jwt


# streams


async def by_key(world: World) -> tuple[Principal, Any]:
    actor = await world.actor()
    key, text = await world.accounts.create_key(actor, "laptop")
    return await world.accounts.authenticate(text), lambda: world.accounts.revoke_key(actor, key.id)


async def by_token(world: World) -> tuple[Principal, Any]:
    await world.user()
    pair = await world.accounts.login("ada", "correct horse")
    return await world.accounts.authenticate(pair.access), lambda: world.accounts.logout(pair.access)


async def by_ticket(world: World) -> tuple[Principal, Any]:
    actor, void = await by_key(world)
    return await world.accounts.redeem(await world.accounts.ticket(actor)), void


@pytest.mark.parametrize("come", [by_key, by_token, by_ticket])
async def test_a_stream_ends_with_its_credential(world: World, come: Any) -> None:
    actor, void = await come(world)
    replica = world.again()
    await replica.check(actor)
    await world.accounts.check(actor)
    await void()
    assert "revoked" in await refusal(world.accounts.check(actor)), "here at once"
    await replica.check(actor)
    world.clock.advance(CACHE_SECONDS)
    assert "revoked" in await refusal(replica.check(actor))


@pytest.mark.parametrize("come", [by_key, by_token, by_ticket])
async def test_a_stream_ends_with_its_user(world: World, come: Any) -> None:
    actor, _ = await come(world)
    await world.accounts.check(actor)
    await world.accounts.disable_user(await world.actor("root", Role.ADMIN), "ada")
    assert "disabled" in await refusal(world.accounts.check(actor))


async def test_a_stream_ends_when_its_token_does_and_so_does_one_by_its_ticket(world: World) -> None:
    actor, _ = await by_token(world)
    ticketed = await world.accounts.redeem(await world.accounts.ticket(actor))
    world.clock.advance(3599)
    for each in (actor, ticketed):
        await world.accounts.check(each)
    world.clock.advance(1)
    for each in (actor, ticketed):
        assert "expired" in await refusal(world.accounts.check(each))


async def test_a_ticket_drawn_with_a_revoked_credential_is_void(world: World) -> None:
    actor, void = await by_key(world)
    ticket = await world.accounts.ticket(actor)
    await void()
    assert "revoked" in await refusal(world.accounts.redeem(ticket))


async def test_open_mode_has_nothing_to_check() -> None:
    world = World(mode="open")
    await world.accounts.check(OPEN_USER)
    await world.store.aclose()
