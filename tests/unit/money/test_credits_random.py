"""Any order of steps on the credits ledger: the books add up to 0, and nobody but `grants` is below it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cyxwiz.bus.local import LocalBus
from cyxwiz.domain.errors import CyxError
from cyxwiz.domain.ids import JobId, UserId, new_id
from cyxwiz.domain.payment import Payment, Step, Work, fee_of
from cyxwiz.ledger.credits import GRANTS, PLATFORM, CreditsLedger
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.store.memory import MemoryStore

WELCOME, USERS, PAYMENTS = 1000, 2, 3
STEPS = st.tuples(
    st.sampled_from([*Step, "grant"]),
    st.integers(0, PAYMENTS - 1),
    st.integers(-5, 1500),
    st.integers(0, USERS),
)


@settings(max_examples=40, deadline=None)
@given(
    amounts=st.lists(st.integers(1, 1200), min_size=PAYMENTS, max_size=PAYMENTS),
    bps=st.integers(0, 5000),
    steps=st.lists(STEPS, max_size=25),
)
def test_units_are_never_made_or_lost(amounts: list[int], bps: int, steps: list[Any]) -> None:
    asyncio.run(_run(amounts, bps, steps))


async def _run(amounts: list[int], bps: int, steps: list[Any]) -> None:
    clock = SystemClock()
    store = MemoryStore(clock, LocalBus())
    ledger = CreditsLedger(store, welcome_units=WELCOME)
    users = [UserId(new_id()) for _ in range(USERS)]
    nodes = ["", *(f"user:{new_id()}" for _ in range(USERS))]
    payments = [
        Payment(
            id=str(new_id()),
            job_id=JobId(new_id()),
            owner_id=users[at % USERS],
            amount_units=amount,
            fee_bps=bps,
            client=ledger.client_account(users[at % USERS]),
            rate=1.0,
            interval_seconds=60,
            created_at=clock.now(),
            deadline=clock.now() + timedelta(days=1),
        )
        for at, amount in enumerate(amounts)
    ]
    accounts = {PLATFORM, *nodes[1:], *(each.client for each in payments), *(f"escrow:{each.id}" for each in payments)}
    try:
        for kind, at, units, node in steps:
            payment = payments[at]
            with contextlib.suppress(CyxError):
                if kind == "grant":
                    await ledger.grant(payment.client, units, f"{at}")
                else:
                    asked = replace(payment, node=payment.node or nodes[node], earned_units=max(units, 0))
                    work = Work(asked.node, None, ended=False, cost_units=None, progress=0, attempt=1, running=True)
                    done = await ledger.perform(asked, kind, work)
                    assert 0 <= done.paid_units + done.refunded_units <= payment.amount_units
                    payments[at] = replace(asked, paid_units=max(payment.paid_units, done.paid_units))
            await _check(store, ledger, accounts, payments)
    finally:
        await store.aclose()


async def _check(store: MemoryStore, ledger: CreditsLedger, accounts: set[str], payments: list[Payment]) -> None:
    assert await store.read(lambda tx: tx.accounts_total()) == 0
    units = await store.read(lambda tx: {account: tx.account_units(account) for account in accounts})
    assert min(units.values()) >= 0
    assert sum(units.values()) == -(await store.read(lambda tx: tx.account_units(GRANTS)))
    assert units[PLATFORM] == sum(fee_of(each.paid_units, each.fee_bps) for each in payments)
    for each in payments:
        held = await ledger.held(each)
        left = units[f"escrow:{each.id}"]
        assert left == (held.amount_units - held.paid_units if held else 0)
