"""Payments and their movements: the same on every store."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import JobId, UserId, new_id
from cyxwiz.domain.money import MAX_UNITS
from cyxwiz.domain.payment import Funding, Movement, Payment
from cyxwiz.domain.states import PaymentState
from cyxwiz.ports.store import PaymentQuery, Store, Tx
from tests.contract.conftest import HandClock
from tests.contract.make import START, job


def payment(made: JobId, owner: UserId, **given: Any) -> Payment:
    deadline = START + timedelta(days=365)
    base = Payment(new_id(), made, owner, 10, 1000, "client", 1.0, 0, START, deadline)
    return replace(base, **given)


async def test_open_payments_that_are_due_later_are_due_at_once(store: Store, clock: HandClock) -> None:
    made = job()
    now = await store.read(lambda tx: tx.now)
    later = now + timedelta(minutes=1)
    in_hand = payment(made.id, made.owner_id, due_at=later, job_version=0)
    at_rest = payment(made.id, made.owner_id, number=1, state=PaymentState.LOCKED, job_version=made.version)
    ended = payment(made.id, made.owner_id, number=2, state=PaymentState.COMPLETED, due_at=later)
    await store.write(lambda tx: [tx.add_job(made), *(tx.add_payment(each) for each in (in_hand, at_rest, ended))])
    assert in_hand.id not in await store.read(lambda tx: tx.due_payment_ids(10))
    await store.write(lambda tx: tx.hurry_payments())
    assert in_hand.id in await store.read(lambda tx: tx.due_payment_ids(10))
    rows = {each.id: each for each in await store.read(lambda tx: tx.payments_of(made.id))}
    hurried = rows[in_hand.id].due_at
    assert hurried is not None
    assert now <= hurried < later
    assert rows[at_rest.id].due_at is None
    assert rows[ended.id].due_at == later
    assert rows[in_hand.id].version == in_hand.version, "whoever has it in hand may still write down what was done"


async def test_no_account_passes_what_an_amount_can_be(store: Store) -> None:
    """Neither end of an entry: nothing of one that would is entered."""
    overdraw = frozenset({"mint"})
    await store.write(lambda tx: tx.post("one", {"mint": -MAX_UNITS, "ada": MAX_UNITS}, overdraw))
    for name, lines in (("two", {"bob": -1, "ada": 1}), ("three", {"mint": -1, "bob": 1})):
        with pytest.raises(CyxError) as refused:
            await store.write(lambda tx, given=(name, lines): tx.post(*given, overdraw | {"bob"}))
        assert refused.value.code is Code.INVALID
    units = await store.read(lambda tx: [tx.account_units(each) for each in ("mint", "ada", "bob")])
    assert units == [-MAX_UNITS, MAX_UNITS, 0]


async def test_the_fees_of_all_payments_are_the_sum_of_each_ones_own(store: Store) -> None:
    """Rounded down one by one, as they were paid; and no product leaves what the store can count."""
    made = job()
    told = [(999, 1000), (999, 1000), (9, 1000), (7, 2500), (MAX_UNITS - 10_000, 5000)]
    paid = [
        payment(
            made.id, made.owner_id, number=number, state=PaymentState.COMPLETED, amount_units=units, paid_units=units
        )
        for number, (units, _) in enumerate(told)
    ]
    charged = [replace(each, fee_bps=bps) for each, (_, bps) in zip(paid, told, strict=True)]
    await store.write(lambda tx: [tx.add_job(made), *(tx.add_payment(each) for each in charged)])
    found = await store.read(lambda tx: tx.money())
    assert found.fee_units == sum(each.fee_units for each in charged)
    assert found.paid_units == sum(each.paid_units for each in charged)


async def test_what_reservations_paid_is_in_the_sums(store: Store) -> None:
    """A lock of a reservation has no row of a payment, only its movements."""
    made = job()
    of_job = payment(made.id, made.owner_id, state=PaymentState.COMPLETED, amount_units=100, paid_units=50)

    def unit(tx: Tx) -> None:
        tx.add_job(made)
        tx.add_payment(of_job)
        told = [(of_job.id, "settle", 50, 5, 50), ("r1", "lock", 90, 0, 0), ("r1", "settle", 30, 3, 60)]
        for ident, kind, units, fee, back in [
            *told,
            ("r2", "lock", 7, 0, 0),
            ("r2", "refund", 0, 0, 7),
            ("r4", "lock", 5, 0, 0),
        ]:
            moved = Movement(f"{ident} {kind}", kind, units, "a", "b", tx.now, payment_id=ident)
            tx.add_movement(replace(moved, fee_units=fee, back_units=back))
        tx.add_movement(Movement("lost", "settle", 30, "a", "b", tx.now, payment_id="r3", state="failed"))

    await store.write(unit)
    found = await store.read(lambda tx: tx.money())
    assert (found.paid_units, found.fee_units) == (50 + 30, of_job.fee_units + 3)
    assert found.refunded_units == of_job.refunded_units + 60 + 7
    assert found.locked_units == 5


async def test_what_is_promised_of_a_balance(store: Store) -> None:
    """What is prepaid, not locked and not given up on; of nobody else."""
    made = job()
    told: list[dict[str, Any]] = [
        {"amount_units": 3},
        {"amount_units": 40},
        {"amount_units": 500, "attempts": 1},
        {"amount_units": 500, "state": PaymentState.LOCKED},
        {"amount_units": 500, "funding": Funding.SIGNED},
    ]
    rows = [payment(made.id, made.owner_id, number=number, **given) for number, given in enumerate(told)]
    rows.append(payment(made.id, UserId(new_id()), number=9, amount_units=500))
    await store.write(lambda tx: [tx.add_job(made), *(tx.add_payment(each) for each in rows)])
    assert await store.read(lambda tx: tx.promised_units(made.owner_id)) == 43
    assert await store.read(lambda tx: tx.promised_units(UserId(new_id()))) == 0


async def test_what_is_gathered_is_known_within_the_unit_and_saved_at_its_end(store: Store) -> None:
    made = [job(str(number)) for number in range(3)]
    first = [payment(each.id, each.owner_id) for each in made]
    second = payment(made[0].id, made[0].owner_id, number=1)
    await store.write(lambda tx: [*map(tx.add_job, made), *map(tx.add_payment, (*first, second))])

    def unit(tx: Tx) -> None:
        tx.gather([each.id for each in first])
        for each in first:
            assert tx.payment(each.id) == each
            once = tx.save_payment(replace(each, earned_units=5, paid_units=1))
            assert tx.payment(each.id) == once
            tx.save_payment(replace(once, paid_units=2))
        assert [each.paid_units for each in tx.payments_of(made[0].id)] == [2, 0]
        found = tx.job(made[1].id)
        assert found is not None
        saved = tx.save_job(replace(found, reason="gathered"))
        assert tx.job(made[1].id) == saved
        # What is asked for by other ways than by id sees it as well.
        page = tx.payments(PaymentQuery(owner_id=made[0].owner_id))
        assert sorted(each.paid_units for each in page.items) == [0, 2, 2, 2]
        tx.save_payment(replace(second, paid_units=3))

    await store.write(unit)

    def look(tx: Tx) -> None:
        rows = [tx.payment(each.id) for each in (*first, second)]
        assert [(row.earned_units, row.paid_units, row.version) for row in rows if row is not None] == [
            *[(5, 2, 2)] * 3,
            (0, 3, 1),
        ]
        assert [(each.reason, each.version) for each in map(tx.job, (one.id for one in made)) if each is not None] == [
            ("", 0),
            ("gathered", 1),
            ("", 0),
        ]

    await store.read(look)


async def test_a_save_over_another_version_than_was_gathered_fails_the_unit(store: Store) -> None:
    made = job()
    one = payment(made.id, made.owner_id)
    await store.write(lambda tx: [tx.add_job(made), tx.add_payment(one)])
    await store.write(lambda tx: tx.save_payment(replace(one, paid_units=1)))

    def unit(tx: Tx) -> None:
        tx.gather([one.id])
        tx.save_job(replace(made, reason="not kept"))
        tx.save_payment(replace(one, paid_units=2))

    with pytest.raises(CyxError) as refused:
        await store.write(unit)
    assert refused.value.code is Code.STALE
    found = await store.read(lambda tx: (tx.payment(one.id), tx.job(made.id)))
    assert found[0] is not None
    assert found[1] is not None
    assert (found[0].paid_units, found[1].reason) == (1, "")


async def test_payments_that_share_a_transaction_have_a_movement_each(store: Store) -> None:
    now = await store.read(lambda tx: tx.now)
    shared = [Movement("signed once", "settle", 7, "a", "b", now, payment_id=each, state="pending") for each in "xyz"]
    await store.write(lambda tx: tx.add_movements(shared))
    assert not await store.write(lambda tx: tx.add_movement(shared[0]))
    await store.write(lambda tx: tx.save_movements([replace(shared[1], state="confirmed", confirmed_at=now)]))
    found = await store.read(lambda tx: tx.movements_of_all(["x", "y", "w"]))
    assert {ident: [each.state for each in moves] for ident, moves in found.items()} == {
        "x": ["pending"],
        "y": ["confirmed"],
        "w": [],
    }
    await store.write(lambda tx: tx.save_movements([replace(each, state="confirmed") for each in shared]))
    assert await store.read(lambda tx: tx.moved()) == (1, 21), "one transaction"
    with pytest.raises(CyxError) as refused:
        await store.write(lambda tx: tx.save_movements([replace(shared[0], payment_id="w")]))
    assert refused.value.code is Code.NOT_FOUND
