"""Database against ledger: what differs is found, healed where that is safe, and told where it is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import JobId, NodeId
from cyxwiz.domain.payment import Payment, Step, Work
from cyxwiz.domain.states import PaymentState
from cyxwiz.services.payments import Payments
from tests.integration.conftest import client, submit
from tests.integration.test_receipts import settle
from tests.integration.test_rest import run_to_end
from tests.wiring import Central, central

NOTHING = Work("", None, ended=False, cost_units=None, progress=0, attempt=0, running=False)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Central]:
    made = await central(tmp_path, charged=True)
    yield made
    await made.aclose()


def money(house: Central) -> Payments:
    assert house.api.payments is not None
    return house.api.payments


async def job(house: Central) -> str:
    async with client(house, house.alice) as alice:
        return str((await submit(alice))["id"])


async def payment(house: Central, job_id: str) -> Payment:
    return (await house.store.read(lambda tx: tx.payments_of(JobId(job_id))))[0]


async def change(house: Central, job_id: str, **changes: Any) -> Payment:
    seen = await payment(house, job_id)
    return await house.store.write(lambda tx: tx.save_payment(replace(seen, **changes)))


async def look(house: Central) -> Any:
    await money(house).reconciliation.look()
    return await money(house).reconciliation.look()


async def test_what_agrees_is_no_drift(house: Central) -> None:
    await job(house)
    ended = await job(house)
    await run_to_end(house, ended)
    found = await look(house)
    assert (found.payments, found.units, found.books_units, found.healed) == (0, 0, 0, 0)


async def test_a_row_behind_what_was_paid_is_brought_forward(house: Central) -> None:
    made = await job(house)
    node = f"user:{(await payment(house, made)).owner_id}"
    seen = await change(house, made, node=node, node_id=NodeId("n"), earned_units=1000)
    await money(house).ledger.perform(seen, Step.PAY, NOTHING)
    first = await money(house).reconciliation.look()
    assert (first.payments, first.healed) == (0, 0)  # it may just be on its way
    assert (await look(house)).healed == 0
    assert (await payment(house, made)).paid_units == 1000
    assert (await payment(house, made)).state is PaymentState.STREAMING
    assert (await look(house)).payments == 0


async def test_a_settlement_that_was_cut_off_is_finished(house: Central) -> None:
    made = await job(house)
    await run_to_end(house, made)
    seen = await payment(house, made)
    price = (await house.store.read(lambda tx: tx.job(JobId(made)))).actual_cost_units  # type: ignore[union-attr]
    node = f"user:{seen.owner_id}"
    held = await change(house, made, node=node, earned_units=price, due_at=None, job_version=10**6)
    done = await money(house).ledger.perform(replace(held, earned_units=price), Step.SETTLE, NOTHING)
    assert (await look(house)).healed == 1
    await settle(house)
    after = await payment(house, made)
    assert (after.state, after.paid_units) == (PaymentState.COMPLETED, done.paid_units)
    assert (await look(house)).payments == 0


async def test_a_step_that_was_cut_off_is_due_again_by_itself(house: Central) -> None:
    made = await job(house)
    await run_to_end(house, made)
    decided = await house.store.write(lambda tx: money(house)._look(tx, made, {}))
    assert decided is not None
    _, wait = await money(house).due(10)
    assert 0 < wait <= 60


async def test_a_row_ahead_of_the_ledger_needs_a_person(house: Central) -> None:
    made = await job(house)
    before = await change(house, made, paid_units=7, earned_units=7)
    found = await look(house)
    assert (found.payments, found.units, found.healed) == (1, 7, 0)
    assert await payment(house, made) == before
    async with client(house, house.admin) as admin:
        text = (await admin.get("/metrics")).text
    assert 'cyxwiz_ledger_drift{of="payments"} 1.0' in text
    assert 'cyxwiz_ledger_drift{of="units"} 7.0' in text


async def test_what_the_ledger_cannot_say_of_one_payment_hides_no_other(
    house: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, wrong = await job(house), await job(house)
    await change(house, wrong, paid_units=7, earned_units=7)
    ledger = money(house).ledger
    held = type(ledger).held

    async def unsure(self: Any, seen: Payment) -> Any:
        if seen.job_id == lost:
            raise CyxError(Code.UNAVAILABLE, "the cluster does not show transaction abc yet")
        return await held(self, seen)

    monkeypatch.setattr(type(ledger), "held", unsure)
    found = await look(house)
    assert (found.payments, found.units) == (2, 7 + (await payment(house, lost)).amount_units)

    async def nothing(self: Any, account: str) -> int:
        raise CyxError(Code.UNAVAILABLE, "the cluster does not answer")

    monkeypatch.setattr(type(ledger), "balance", nothing)
    with pytest.raises(CyxError, match="does not show"):  # it can't be asked at all: that is no drift
        await look(house)


async def test_books_that_do_not_add_up_are_told(house: Central, monkeypatch: pytest.MonkeyPatch) -> None:
    await job(house)
    monkeypatch.setattr(type(await _tx(house)), "accounts_total", lambda _: 5)
    assert (await look(house)).books_units == 5


async def _tx(house: Central) -> Any:
    return await house.store.read(lambda tx: tx)
