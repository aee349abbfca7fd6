"""The one suite of every ledger: what was locked is paid out or given back, once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import JobId, UserId, new_id
from cyxwiz.domain.payment import Payment, Step, Work, fee_of
from cyxwiz.ports.ledger import Ledger
from tests.contract.ledgers import KINDS, Bench, opened

AMOUNT = 1_000_000_007
FEE = 1000


@pytest.fixture(params=KINDS)
async def bench(request: pytest.FixtureRequest, tmp_path: object) -> AsyncIterator[Bench]:
    async with opened(request.param, tmp_path) as found:  # type: ignore[arg-type]
        yield found


def payment(bench: Bench, **changes: object) -> Payment:
    made = Payment(
        id=str(new_id()),
        job_id=JobId(new_id()),
        owner_id=bench.user,
        amount_units=AMOUNT,
        fee_bps=FEE,
        client=bench.ledger.client_account(bench.user),
        rate=AMOUNT / 100,
        interval_seconds=60,
        created_at=bench.now(),
        deadline=bench.now() + timedelta(days=3),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def work(bench: Bench, *, ended: bool = False, node: str | None = None) -> Work:
    account = bench.node_account if node is None else node
    return Work(account, bench.node_id, ended=ended, cost_units=None, progress=0, attempt=1, running=not ended)


async def locked(bench: Bench, *, assigned: bool = True) -> Payment:
    made = payment(bench)
    await bench.ledger.perform(made, Step.LOCK, work(bench))
    if assigned:
        await bench.ledger.perform(made, Step.ASSIGN, work(bench))
        made = replace(made, node=bench.node_account, node_id=bench.node_id)
    return made


async def test_a_lock_takes_the_whole_amount_from_its_owner_once(bench: Bench) -> None:
    before = await bench.client()
    made = payment(bench)
    first = await bench.ledger.perform(made, Step.LOCK, work(bench))
    again = await bench.ledger.perform(made, Step.LOCK, work(bench))
    assert first.reference
    assert again.reference == first.reference
    assert await bench.client() == before - AMOUNT
    held = await bench.ledger.held(made)
    assert held is not None
    assert (held.amount_units, held.paid_units) == (AMOUNT, 0)


async def test_a_balance_that_is_too_low_locks_nothing(bench: Bench) -> None:
    before = await bench.client()
    made = payment(bench, amount_units=before + 1)
    with pytest.raises(CyxError) as refused:
        await bench.ledger.perform(made, Step.LOCK, work(bench))
    assert refused.value.code is Code.FUNDS
    assert await bench.client() == before
    assert await bench.ledger.held(made) is None


@pytest.mark.parametrize("earned", [1, 9, 999, AMOUNT - 1, AMOUNT])
async def test_a_settlement_shares_what_was_earned_and_gives_the_rest_back(bench: Bench, earned: int) -> None:
    before, node, platform = await bench.client(), await bench.node(), await bench.platform()
    made = replace(await locked(bench), earned_units=earned)
    await bench.pass_time(100)
    done = await bench.ledger.perform(made, Step.SETTLE, work(bench, ended=True))
    assert (done.paid_units, done.refunded_units) == (earned, AMOUNT - earned)
    assert await bench.client() == before - earned
    assert await bench.platform() == platform + fee_of(earned, FEE)
    assert await bench.node() == node + earned - fee_of(earned, FEE)
    assert await bench.ledger.held(made) is None
    again = await bench.ledger.perform(made, Step.SETTLE, work(bench, ended=True))
    assert again == done
    assert await bench.client() == before - earned


async def test_progress_is_paid_for_in_totals(bench: Bench) -> None:
    made = await locked(bench)
    node, platform = await bench.node(), await bench.platform()
    paid = 0
    for total in (333, 1_000, 777_777):
        await bench.pass_time(60)
        made = replace(made, earned_units=total, paid_units=paid)
        done = await bench.ledger.perform(made, Step.PAY, work(bench))
        again = await bench.ledger.perform(made, Step.PAY, work(bench))
        assert done.paid_units == again.paid_units == total
        paid = total
    assert await bench.node() == node + 777_777 - fee_of(777_777, FEE)
    assert await bench.platform() == platform + fee_of(777_777, FEE)
    held = await bench.ledger.held(made)
    assert held is not None
    assert held.paid_units == 777_777
    await bench.pass_time(60)
    done = await bench.ledger.perform(replace(made, earned_units=800_000), Step.SETTLE, work(bench, ended=True))
    assert (done.paid_units, done.refunded_units) == (800_000, AMOUNT - 800_000)


async def test_a_refund_gives_all_of_it_back(bench: Bench) -> None:
    before = await bench.client()
    for assigned in (False, True):
        made = await locked(bench, assigned=assigned)
        done = await bench.ledger.perform(made, Step.REFUND, work(bench, ended=True))
        assert (done.locked, done.paid_units, done.refunded_units) == (True, 0, AMOUNT)
        assert await bench.client() == before
        assert await bench.ledger.perform(made, Step.REFUND, work(bench, ended=True)) == done


async def test_what_was_never_locked_is_not_refunded(bench: Bench) -> None:
    before = await bench.client()
    done = await bench.ledger.perform(payment(bench), Step.REFUND, work(bench, ended=True))
    assert (done.locked, done.refunded_units) == (False, 0)
    assert await bench.client() == before


async def test_another_node_gets_what_is_earned_after_it_took_over(bench: Bench) -> None:
    made = await locked(bench)
    await bench.pass_time(60)
    made = replace(made, earned_units=500_000)
    await bench.ledger.perform(made, Step.PAY, work(bench))
    first, other = await bench.node(), await bench.other()
    await bench.ledger.perform(made, Step.ASSIGN, work(bench, node=bench.other_account))
    made = replace(made, node=bench.other_account, node_id=bench.other_id, paid_units=500_000, earned_units=600_000)
    await bench.pass_time(60)
    await bench.ledger.perform(made, Step.SETTLE, work(bench, ended=True, node=bench.other_account))
    assert await bench.node() == first
    assert await bench.other() == other + (600_000 - fee_of(600_000, FEE)) - (500_000 - fee_of(500_000, FEE))


async def test_the_same_step_at_a_time_happens_once(bench: Bench) -> None:
    made = replace(await locked(bench), earned_units=5_000)
    node = await bench.node()
    await bench.pass_time(60)
    done = await asyncio.gather(
        *(bench.ledger.perform(made, Step.SETTLE, work(bench, ended=True)) for _ in range(4)), return_exceptions=True
    )
    assert any(not isinstance(each, BaseException) for each in done)
    assert await bench.node() == node + 4_500


async def test_a_grant_is_given_once_a_key(bench: Bench) -> None:
    before = await bench.client()
    account = bench.ledger.client_account(bench.user)
    for key in ("a", "a", "b"):
        await bench.ledger.grant(account, 5, key)
    assert await bench.client() == before + 10


async def test_a_key_means_one_thing(bench: Bench) -> None:
    """Another amount or account by the same key is refused, not answered as though it had moved."""
    account, other = (bench.ledger.client_account(each) for each in (bench.user, UserId(new_id())))
    await bench.ledger.grant(account, 5, "a")
    before = await bench.client()
    for to, units in ((account, 6), (other, 5)):
        with pytest.raises(CyxError, match="idempotency key") as refused:
            await bench.ledger.grant(to, units, "a")
        assert refused.value.code is Code.CONFLICT
    assert await bench.client() == before


@pytest.mark.parametrize("units", [0, -1, 2**63])
async def test_no_amount_is_granted(bench: Bench, units: int) -> None:
    with pytest.raises(CyxError) as refused:
        await bench.ledger.grant(bench.ledger.client_account(bench.user), units, "x")
    assert refused.value.code is Code.INVALID


async def test_an_account_that_nobody_used_has_nothing_or_its_welcome(bench: Bench) -> None:
    ledger: Ledger = bench.ledger
    assert await ledger.balance(ledger.client_account(UserId(new_id()))) == bench.welcome


async def test_who_earned_before_looking_has_the_welcome_too(bench: Bench) -> None:
    account = bench.ledger.client_account(UserId(new_id()))
    await bench.ledger.grant(account, 5, "earned")
    for _ in range(2):
        assert await bench.ledger.balance(account) == bench.welcome + 5


async def test_where_all_was_given_out_who_comes_goes_without(bench: Bench) -> None:
    ledger, rich = bench.ledger, bench.ledger.client_account(bench.user)
    with contextlib.suppress(CyxError):
        for number in range(3):  # a chain's mint goes up to 2^64 - 1, the books to half of it
            await ledger.grant(rich, 2**63 - 1 - bench.welcome, f"much {number}")
    for _ in range(3):
        with contextlib.suppress(CyxError):
            await ledger.grant(rich, bench.welcome, str(new_id()))
    late = ledger.client_account(UserId(new_id()))
    assert await ledger.balance(late) == 0
    assert await ledger.balance(rich) > 0


async def test_what_pays_for_transactions_is_on_the_platforms_account(bench: Bench) -> None:
    ledger = bench.ledger
    before = await ledger.lamports(ledger.info.platform)
    if not ledger.info.network:
        assert before is None
        return
    assert before is not None
    await locked(bench)
    after = await ledger.lamports(ledger.info.platform)
    assert after is not None
    assert 0 < after < before, "it pays the fees and the rent"
    assert await ledger.lamports(ledger.client_account(UserId(new_id()))) == 0
