"""PaymentStreaming on the virtual machine: what can flow, how fast, and who can end it."""

from __future__ import annotations

from random import Random

import pytest

from cyxwiz.ledger.escrows import allowance
from cyxwiz.ledger.instructions import escrow as builders
from cyxwiz.ledger.instructions.errors import ProgramError
from cyxwiz.ledger.instructions.escrow import Flag
from tests.integration.programs.deals import AMOUNT, DAY, ESCROW, EVIDENCE, Deal, ended

START_TOKENS = 10 * AMOUNT
INTERVAL, CAP = 60, 6000


@pytest.fixture
def deal() -> Deal:
    return Deal()


def attest(deal: Deal, total: int) -> None:
    deal.send(builders.attest(ESCROW, deal.escrow(), total, EVIDENCE), deal.platform)


def cannot_attest(deal: Deal, total: int, error: ProgramError) -> None:
    deal.refused(builders.attest(ESCROW, deal.escrow(), total, EVIDENCE), deal.platform, error)


def test_milestones_accrue_are_claimed_and_the_rest_comes_back(deal: Deal) -> None:
    escrow = deal.stream()
    deal.chain.wait(30)
    attest(deal, 2000)
    after = deal.escrow()
    assert (after.accrued, after.released, after.accrued_at) == (2000, 0, deal.chain.now)
    assert (after.evidence, after.flags) == (EVIDENCE, Flag.STREAM)
    deal.send(deal.payout(deal.node).claim(), deal.node)
    assert deal.balances() == (START_TOKENS - AMOUNT, 1800, 200)
    deal.refused(deal.payout(deal.node).claim(), deal.node, ProgramError.ALREADY)
    deal.chain.wait(30)
    attest(deal, 3333)
    deal.send(deal.payout(deal.platform).close(), deal.platform)
    assert deal.balances() == (START_TOKENS - 3333, 3000, 333)
    assert ended(deal, escrow)


@pytest.mark.parametrize("span", [1, 7, 59, 60, 61, 6000])
def test_a_span_earns_its_part_of_the_cap_and_never_more_than_one(deal: Deal, span: int) -> None:
    deal.stream(cap=6001)
    deal.chain.wait(span)
    most = 6001 * min(span, INTERVAL) // INTERVAL
    cannot_attest(deal, most + 1, ProgramError.RATE)
    attest(deal, most)
    cannot_attest(deal, most + 1, ProgramError.RATE)  # the same second earns nothing more
    cannot_attest(deal, most, ProgramError.ALREADY)


def test_a_lying_platform_gets_no_more_than_the_rate_and_nothing_after_the_stop(deal: Deal) -> None:
    """It attests all that the program lets through, every second; the client looks once an interval, then stops."""
    escrow = deal.stream()
    total = 0
    for second in range(1, INTERVAL + 1):
        deal.chain.wait(1)
        total += CAP // INTERVAL
        attest(deal, total)
        cannot_attest(deal, total + 1, ProgramError.RATE)
        assert deal.escrow().accrued <= CAP * second // INTERVAL
    deal.send(builders.stop(ESCROW, escrow), deal.client)
    deal.chain.wait(10 * INTERVAL)
    cannot_attest(deal, total + 1, ProgramError.STATE)
    deal.refused(builders.stop(ESCROW, escrow), deal.client, ProgramError.ALREADY)
    deal.send(deal.payout(deal.client).close(), deal.client)
    assert deal.balances() == (START_TOKENS - CAP, CAP * 9 // 10, CAP // 10)


@pytest.mark.parametrize("pieces", [1, 2, 60])
def test_between_two_looks_a_lying_platform_gets_one_cap_at_most(deal: Deal, pieces: int) -> None:
    """It is silent for an interval, so that the client sees nothing, and then attests all that it can until the client
    looks again, which it does once an interval."""
    deal.stream()
    deal.chain.wait(INTERVAL)
    assert deal.escrow().accrued == 0, "what the client sees"
    attest(deal, CAP)
    for _ in range(pieces):
        deal.chain.wait(INTERVAL // pieces)
        cannot_attest(deal, CAP + 1, ProgramError.RATE)


@pytest.mark.parametrize("interval", [1, 2, 3, 4, 5, 7, 60, 3601])
def test_no_time_as_long_as_an_interval_earns_more_than_the_cap(deal: Deal, interval: int) -> None:
    """Somebody takes all that there is, or a part of it, whenever it likes. Central knows beforehand how much it is."""
    random, cap = Random(interval), 1000
    deal.stream(interval=interval, cap=cap, amount=AMOUNT)
    earned: list[tuple[int, int]] = []
    for _ in range(150):
        deal.chain.wait(random.choice([1, 1, 2, interval, random.randint(1, interval), 3 * interval]))
        held = deal.escrow()
        most = allowance(held, deal.chain.now)
        cannot_attest(deal, held.accrued + most + 1, ProgramError.RATE)
        part = most if random.random() < 0.7 else random.randint(0, most)
        if part:
            attest(deal, held.accrued + part)
            earned.append((deal.chain.now, part))
    assert len(earned) > 30
    for begin, _ in earned:
        assert sum(part for at, part in earned if begin <= at <= begin + interval) <= cap


@pytest.mark.parametrize("interval", [4, 60, 3600])
@pytest.mark.parametrize("spans", [(1,), (1, 4), (4, 4, 1), (2, 3)], ids=str)
def test_who_earns_at_half_the_cap_is_never_held_back(deal: Deal, interval: int, spans: tuple[int, ...]) -> None:
    """That is what central asks for: the cap is twice the rate."""
    deal.stream(interval=interval, cap=2 * interval, amount=AMOUNT)
    total = 0
    for turn in range(60):
        seconds = interval * spans[turn % len(spans)] // 4
        deal.chain.wait(seconds)
        attest(deal, total := total + seconds)


def test_another_node_does_not_begin_with_a_cap_of_its_own(deal: Deal) -> None:
    """The platform gives the work to one key after another, to have each earn what is due in an interval."""
    escrow = deal.stream(node=None)
    for number, node in enumerate((deal.node, deal.stranger)):
        deal.send(builders.assign(ESCROW, escrow, node.pubkey()), deal.platform)
        deal.chain.wait(INTERVAL // 2)
        if number:
            cannot_attest(deal, CAP // 2 + CAP // 2 + 1, ProgramError.RATE)
        attest(deal, (number + 1) * CAP // 2)
        deal.send(deal.payout(deal.platform).claim(), deal.platform)
        deal.send(builders.unassign(ESCROW, escrow, deal.platform.pubkey()), deal.platform)
    deal.send(builders.assign(ESCROW, escrow, deal.node.pubkey()), deal.platform)
    deal.chain.wait(INTERVAL // 4)
    cannot_attest(deal, CAP + 1, ProgramError.RATE)


def test_a_silent_time_is_not_made_up_for(deal: Deal) -> None:
    deal.stream()
    deal.chain.wait(100 * INTERVAL)
    cannot_attest(deal, CAP + 1, ProgramError.RATE)
    attest(deal, CAP)
    deal.chain.wait(INTERVAL // 2)
    cannot_attest(deal, CAP + 1, ProgramError.RATE)
    deal.chain.wait(INTERVAL)
    cannot_attest(deal, 2 * CAP + 1, ProgramError.RATE)
    attest(deal, 2 * CAP)


def test_the_platform_can_neither_release_nor_refund_a_stream(deal: Deal) -> None:
    escrow = deal.stream()
    deal.chain.wait(INTERVAL)
    attest(deal, 100)
    platform = deal.payout(deal.platform)
    for instruction in (platform.release(200), platform.settle(200), platform.refund()):
        deal.refused(instruction, deal.platform, ProgramError.STATE)
    deal.refused(deal.payout(deal.node).refund(), deal.node, ProgramError.STATE)  # it would lose what it earned
    deal.refused(deal.payout(deal.client).reclaim(), deal.client, ProgramError.STATE)
    deal.refused(builders.dispute(ESCROW, escrow, deal.client.pubkey()), deal.client, ProgramError.STATE)
    deal.refused(deal.payout(deal.arbiter).resolve(200), deal.arbiter, ProgramError.TOO_LATE)


@pytest.mark.parametrize("who", ["client", "node", "platform"])
@pytest.mark.parametrize("stopped", [False, True])
def test_each_of_the_three_closes_and_the_earned_part_is_paid(deal: Deal, who: str, stopped: bool) -> None:
    escrow = deal.stream()
    deal.chain.wait(INTERVAL)
    attest(deal, 1000)
    if stopped:
        deal.send(builders.stop(ESCROW, escrow), deal.client)
    by = getattr(deal, who)
    deal.send(deal.payout(by).close(), by)
    assert deal.balances() == (START_TOKENS - 1000, 900, 100)
    assert ended(deal, escrow)


def test_a_node_without_lamports_is_paid_by_the_platforms_transaction(deal: Deal) -> None:
    deal.stream()
    deal.chain.wait(INTERVAL)
    attest(deal, 1000)
    deal.send(deal.payout(deal.platform).claim(), deal.platform)
    assert deal.balances()[1:] == (900, 100)


def test_time_before_the_node_and_after_the_deadline_earns_nothing(deal: Deal) -> None:
    escrow = deal.stream(node=None, deadline=deal.chain.now + DAY)
    cannot_attest(deal, 1, ProgramError.STATE)
    deal.chain.set_time(escrow.deadline - 10)
    deal.send(builders.assign(ESCROW, escrow, deal.node.pubkey()), deal.platform)
    cannot_attest(deal, 1, ProgramError.RATE)
    deal.chain.wait(INTERVAL)
    cannot_attest(deal, CAP * 10 // INTERVAL + 1, ProgramError.RATE)
    attest(deal, CAP * 10 // INTERVAL)
    deal.chain.wait(INTERVAL)
    cannot_attest(deal, CAP * 10 // INTERVAL + 1, ProgramError.RATE)


def test_another_node_gets_the_stream_when_the_first_is_paid(deal: Deal) -> None:
    escrow = deal.stream(node=None)
    deal.send(builders.assign(ESCROW, escrow, deal.node.pubkey()), deal.platform)
    deal.chain.wait(INTERVAL)
    attest(deal, 1000)
    unassign = builders.unassign(ESCROW, escrow, deal.platform.pubkey())
    deal.refused(unassign, deal.platform, ProgramError.STATE)  # 1000 are the first node's
    deal.send(deal.payout(deal.platform).claim(), deal.platform)
    deal.chain.wait(INTERVAL)
    deal.send(unassign, deal.platform)
    deal.send(builders.assign(ESCROW, escrow, deal.stranger.pubkey()), deal.platform)
    cannot_attest(deal, 1001, ProgramError.RATE)  # the second earns from its own start
    deal.chain.wait(INTERVAL)
    attest(deal, 3000)
    deal.send(deal.payout(deal.stranger).close(), deal.stranger)
    assert deal.balances() == (START_TOKENS - 3000, 900, 300)
    assert deal.chain.balance(deal.stranger_tokens) == AMOUNT + 1800


def test_a_stopped_stream_gets_no_node(deal: Deal) -> None:
    escrow = deal.stream(node=None)
    deal.send(builders.stop(ESCROW, escrow), deal.client)
    deal.refused(builders.assign(ESCROW, escrow, deal.node.pubkey()), deal.platform, ProgramError.STATE)


def test_a_stream_ends_at_its_amount(deal: Deal) -> None:
    deal.stream(amount=7000)
    deal.chain.wait(INTERVAL)
    attest(deal, CAP)
    deal.chain.wait(2 * INTERVAL)
    cannot_attest(deal, 7001, ProgramError.FUNDS)
    attest(deal, 7000)
    deal.send(deal.payout(deal.node).claim(), deal.node)
    deal.send(deal.payout(deal.node).close(), deal.node)
    assert deal.balances() == (START_TOKENS - 7000, 6300, 700)


def test_a_clock_that_goes_back_earns_nothing(deal: Deal) -> None:
    deal.stream()
    deal.chain.wait(INTERVAL)
    attest(deal, 10)
    deal.chain.wait(-30)
    cannot_attest(deal, 11, ProgramError.RATE)


def test_milestones_and_stops_are_for_streams_only(deal: Deal) -> None:
    escrow = deal.create()
    cannot_attest(deal, 1, ProgramError.STATE)
    deal.refused(builders.stop(ESCROW, escrow), deal.client, ProgramError.STATE)
    deal.refused(deal.payout(deal.node).claim(), deal.node, ProgramError.STATE)
    deal.refused(deal.payout(deal.client).close(), deal.client, ProgramError.STATE)


def test_large_caps_are_exact(deal: Deal) -> None:
    amount = 2**63 - 1
    deal.chain.make_tokens(deal.client.pubkey(), amount - deal.chain.balance(deal.client_tokens))
    deal.stream(amount=amount, cap=amount, interval=86_399)
    deal.chain.wait(86_398)
    most = amount * 86_398 // 86_399
    cannot_attest(deal, most + 1, ProgramError.RATE)
    attest(deal, most)
