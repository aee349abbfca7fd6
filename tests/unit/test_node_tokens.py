"""Tokens of nodes: to join, for a session, for P2P; and the secrets they are made with."""

from __future__ import annotations

from datetime import timedelta

import jwt
import pytest

from cyxwiz.config import Auth
from cyxwiz.domain.account import Principal, Role
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import NodeId, UserId, new_id
from cyxwiz.domain.states import NodeState
from cyxwiz.ports.store import Tx
from cyxwiz.services.accounts import P2P_ISSUER, digest, spend_join_token
from cyxwiz.services.secrets import load_secrets
from tests.contract import make
from tests.unit.conftest import ROOT, SECRET, START, World, refusal

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
    assert "node.join_token_file" in await refusal(spend(world, ""))
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
