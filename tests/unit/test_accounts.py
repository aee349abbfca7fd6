"""Who is calling: log-in, tokens, keys, tickets and join tokens, to the second, by a clock that is moved by hand."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from cyxwiz.domain.account import Principal, Role, User
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import NodeId, UserId, new_id
from cyxwiz.services.accounts import CACHE_SECONDS, OPEN_USER, digest
from tests.unit.conftest import SECRET, START, World, refusal

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


async def test_nobody_can_be_named_as_somebodys_id(world: World) -> None:
    """Who is granted money or disabled by id: it went to the user of that name."""
    ada, root = await world.user(), await world.actor("root", Role.ADMIN)
    for name in (ada.id, ada.id.upper(), ada.id.replace("-", ""), new_id()):
        assert "looks like an id" in await refusal(world.user(name), Code.INVALID)
    older = User(UserId(new_id()), ada.id, Role.USER, START)  # from when such names were taken
    await world.store.write(lambda tx: tx.add_user(older))
    assert (await world.accounts.disable_user(root, ada.id)).id == ada.id
    assert (await world.accounts.disable_user(root, older.id)).id == older.id


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
