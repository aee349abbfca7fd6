"""Which payments are to be looked at: the same on every store."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import JobId, UserId, new_id
from cyxwiz.domain.money import MAX_UNITS
from cyxwiz.domain.payment import Funding, Payment
from cyxwiz.domain.states import PaymentState
from cyxwiz.ports.store import Store
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
