"""A stream ends with the credential that it was opened with."""

from __future__ import annotations

from typing import Any

import pytest

from cyxwiz.domain.account import Principal, Role
from cyxwiz.services.accounts import CACHE_SECONDS, OPEN_USER
from tests.unit.conftest import World, refusal

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
