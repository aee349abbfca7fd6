"""The money of reservations, on both kinds of books: locked, prolonged, paid by the minute, given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import new_id, parse_node_id
from cyxwiz.domain.payment import Movement, fee_of
from cyxwiz.domain.pricing import NodePricing
from cyxwiz.domain.states import ReservationState as S
from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.localnet.chain import open_chain
from cyxwiz.ports.ledger import Ledger
from tests.contract.conftest import HandClock
from tests.integration.conftest import client
from tests.integration.test_reservations import MINUTE, alice, reserve, rig
from tests.wiring import Central, central

NODE_WALLET = str(Key.new().pubkey)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(params=["credits", "localnet"])
async def house(request: pytest.FixtureRequest, tmp_path: Path, clock: HandClock) -> AsyncIterator[Central]:
    chain = await open_chain(None, clock) if request.param == "localnet" else None
    made = await central(tmp_path, clock=clock, charged=True, chain=chain)
    yield made
    await made.aclose()


def ledger(house: Central) -> Ledger:
    assert house.api.payments is not None
    return house.api.payments.ledger


async def has(house: Central) -> int:
    return await ledger(house).balance(ledger(house).client_account((await alice(house)).id))


async def locked(house: Central) -> int | None:
    """What the owner's wallet shows as set aside."""
    payments, actor = house.api.payments, await alice(house)
    assert payments is not None
    return (await payments.wallet(actor, payments.ledger.client_account(actor.id))).locked_units


async def escrows(house: Central) -> tuple[list[tuple[str, int]], int]:
    """What an admin sees as locked: each, and the sum."""
    async with client(house, house.admin) as admin:
        seen = (await admin.get("/api/v1/blockchain/escrows")).json()
        sums = (await admin.get("/api/v1/blockchain/stats")).json()
    assert seen["total"] == sums["active_escrows_count"] == len(seen["escrows"])
    assert seen["total_locked_lamports"] == sums["active_escrows_value"]
    return [(each["id"], each["amount"]) for each in seen["escrows"]], seen["total_locked_lamports"]


async def earned(house: Central, node_id: str) -> tuple[int, int]:
    """(the node, the platform)"""
    node = await house.store.read(lambda tx: tx.node(parse_node_id(node_id)))
    assert node is not None
    books = ledger(house)
    return await books.balance(books.node_account(node)), await books.balance(books.info.platform)


async def test_a_lock_that_never_landed_holds_up_no_settlement(house: Central, clock: HandClock) -> None:
    node_id, before = await rig(house), await has(house)
    kept = (await reserve(house, node_id, 10)).look.reservation
    failed = Movement(
        "5" * 80, "lock", 5 * MINUTE, "a", "b", clock.now(), payment_id=new_id(), job_id=kept.id, state="failed"
    )
    await house.store.write(lambda tx: tx.add_movement(failed))
    clock.advance(300)
    await house.reservations.release(await alice(house), kept.id)
    settled = await house.store.read(lambda tx: tx.reservation(kept.id))
    assert settled is not None
    assert settled.settled_at is not None
    assert await has(house) == before - 5 * MINUTE


async def test_used_minutes_are_paid_and_the_rest_comes_back(house: Central, clock: HandClock) -> None:
    node_id, before = await rig(house), await has(house)
    node_before, platform_before = await earned(house, node_id)
    made = (await reserve(house, node_id, 10)).look.reservation
    assert await has(house) == before - 10 * MINUTE
    assert made.escrow_account
    assert made.escrow_tx_hash
    actor = await alice(house)
    _, added, reference = await house.reservations.extend(actor, made.id, 5)
    assert (added, bool(reference)) == (5 * MINUTE, True)
    assert (await has(house), await locked(house)) == (before - 15 * MINUTE, 15 * MINUTE)
    assert await escrows(house) == ([(made.id, 15 * MINUTE)], 15 * MINUTE)
    clock.advance(12 * 60)  # all of the first lock is used, and a part of the second
    ended = await house.reservations.release(actor, made.id)
    assert (ended.charged, ended.paid_units, ended.refunded_units) == (True, 12 * MINUTE, 3 * MINUTE)
    assert ended.payment_tx_hash
    assert ended.refund_tx_hash
    assert (await has(house), await locked(house)) == (before - 12 * MINUTE, 0)
    assert await escrows(house) == ([], 0)
    node, platform = await earned(house, node_id)
    fees = fee_of(10 * MINUTE, 1000) + fee_of(2 * MINUTE, 1000)
    assert (node - node_before, platform - platform_before) == (12 * MINUTE - fees, fees)
    again = await house.reservations.release(actor, made.id)
    assert again.payment_tx_hash == ended.payment_tx_hash
    assert await has(house) == before - 12 * MINUTE, "ended twice, paid once"


async def test_one_extension_that_is_asked_for_twice_at_once(house: Central) -> None:
    """The repetition that a client sends while the first call is still locking gets the same answer."""
    node_id, before = await rig(house), await has(house)
    made = (await reserve(house, node_id, 10)).look.reservation
    actor = await alice(house)
    answers = await asyncio.gather(*(house.reservations.extend(actor, made.id, 5, "k") for _ in range(3)))
    assert {(one.minutes, added, reference) for one, added, reference in answers} == {(15, 5 * MINUTE, answers[0][2])}
    assert await has(house) == before - 15 * MINUTE


async def test_nothing_is_kept_without_money(house: Central) -> None:
    node_id, before = await rig(house), await has(house)
    dear = await reserve_dear(house, node_id, before)
    assert dear.code is Code.FUNDS
    assert await has(house) == before
    assert (await house.nodes.get(node_id)).status == "online"


async def reserve_dear(house: Central, node_id: str, balance: int) -> CyxError:
    """For a day, at a price that the balance can't hold."""
    dear = await house.node("dear", pricing=NodePricing(per_hour_units=balance))
    with pytest.raises(CyxError) as error:
        await reserve(house, dear, 1440)
    return error.value


async def test_a_settlement_that_stopped_halfway_goes_on(house: Central, clock: HandClock) -> None:
    """Two locks, the first settled, then a crash: what is left is settled by the next pass, once."""
    node_id, before = await rig(house), await has(house)
    node_before, platform_before = await earned(house, node_id)
    made = (await reserve(house, node_id, 10)).look.reservation
    actor = await alice(house)
    await house.reservations.extend(actor, made.id, 5)
    clock.advance(11 * 60)
    books, performed = ledger(house), 0
    whole = books.perform

    async def dying(*args: object) -> object:
        nonlocal performed
        performed += 1
        if performed == 3:
            raise CyxError(Code.UNAVAILABLE, "cut")
        return await whole(*args)  # type: ignore[arg-type]

    books.perform = dying  # type: ignore[method-assign, assignment]
    ended = await house.reservations.release(actor, made.id)
    assert (ended.state, ended.settled_at) == (S.CANCELLED, None)
    assert await house.reservations.settle_owed() == 1
    assert await has(house) == before - 11 * MINUTE
    node, platform = await earned(house, node_id)
    assert (node - node_before) + (platform - platform_before) == 11 * MINUTE
