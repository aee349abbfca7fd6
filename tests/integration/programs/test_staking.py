"""NodeStaking on the virtual machine."""

from __future__ import annotations

import pytest
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer

from cyxwiz.ledger.instructions import staking as builders
from cyxwiz.ledger.instructions.errors import ProgramError
from cyxwiz.ledger.instructions.staking import Contest
from tests.integration.programs.pledges import APPEAL, COOLDOWN, DAY, EVIDENCE, MINIMUM, STAKING, TOKENS, Pledges

YEAR = 365 * DAY


@pytest.fixture
def world() -> Pledges:
    return Pledges()


def test_the_rules_are_recorded_and_only_the_minimum_changes(world: Pledges) -> None:
    config = world.config
    assert (config.minimum, config.cooldown, config.appeal, config.rate_bps) == (MINIMUM, COOLDOWN, APPEAL, 1000)
    assert (config.admin, config.slasher, config.judge) == tuple(
        each.pubkey() for each in (world.admin, world.slasher, world.judge)
    )
    assert config.rewards == builders.rewards_address(STAKING, config.address)
    world.send(builders.set_minimum(STAKING, config, 5), world.admin)
    assert world.config.minimum == 5
    world.refused(world.configure_instruction(minimum=7), world.admin, ProgramError.EXISTS)


def test_a_stake_goes_in_cools_down_and_comes_out(world: Pledges) -> None:
    world.pledge(5000)
    assert world.balances() == (TOKENS - 5000, 5000, 0)
    world.send(world.staking().unstake(2000), world.node)
    stake = world.stake()
    assert (stake.active, stake.cooling, stake.cooling_until) == (3000, 2000, world.chain.now + COOLDOWN)
    world.refused(world.staking().withdraw(), world.node, ProgramError.TOO_EARLY)
    world.chain.wait(COOLDOWN - 1)
    world.refused(world.staking().withdraw(), world.node, ProgramError.TOO_EARLY)
    world.chain.wait(1)
    world.send(world.staking().withdraw(), world.node)
    assert world.balances() == (TOKENS - 3000, 3000, 0)
    world.refused(world.staking().withdraw(), world.node, ProgramError.ALREADY)


def test_a_second_unstake_starts_the_cool_down_anew(world: Pledges) -> None:
    world.pledge(5000)
    world.send(world.staking().unstake(1000), world.node)
    world.chain.wait(COOLDOWN - 10)
    world.send(world.staking().unstake(1000), world.node)
    world.chain.wait(10)
    world.refused(world.staking().withdraw(), world.node, ProgramError.TOO_EARLY)


@pytest.mark.parametrize(
    ("step", "amount", "error"),
    [
        ("deposit", 0, ProgramError.ARGUMENT),
        ("deposit", 2**63, ProgramError.ARGUMENT),
        ("deposit", TOKENS, ProgramError.FUNDS),
        ("unstake", 0, ProgramError.ARGUMENT),
        ("unstake", 2001, ProgramError.FUNDS),
        ("unstake", 2**64 - 1, ProgramError.FUNDS),
        ("unstake", 1001, ProgramError.ARGUMENT),  # what stays would be less than the minimum
    ],
)
def test_amounts_have_bounds(world: Pledges, step: str, amount: int, error: ProgramError) -> None:
    world.pledge(2000)
    world.refused(getattr(world.staking(), step)(amount), world.node, error)


def test_a_first_deposit_has_the_minimum(world: Pledges) -> None:
    world.send(world.staking().open(), world.node)
    world.refused(world.staking().deposit(MINIMUM - 1), world.node, ProgramError.ARGUMENT)
    world.send(world.staking().deposit(MINIMUM), world.node)
    world.send(world.staking().deposit(1), world.node)
    assert world.stake().active == MINIMUM + 1


# slashing


def test_a_slash_without_appeal_goes_to_the_rewards_for_whoever_asks(world: Pledges) -> None:
    world.pledge(5000)
    world.send(world.staking().slash(1500, EVIDENCE), world.slasher)
    stake = world.stake()
    assert (stake.active, stake.contested, stake.contest, stake.evidence) == (3500, 1500, Contest.PENDING, EVIDENCE)
    assert world.balances() == (TOKENS - 5000, 5000, 0)
    conclude = world.staking().conclude(world.stranger.pubkey())
    world.refused(conclude, world.stranger, ProgramError.TOO_EARLY)
    world.refused(world.staking().slash(1, EVIDENCE), world.slasher, ProgramError.STATE)
    world.refused(world.staking().judge(upheld=True), world.judge, ProgramError.STATE)
    world.chain.wait(APPEAL)
    world.refused(world.staking().appeal(), world.node, ProgramError.TOO_LATE)
    world.send(conclude, world.stranger)
    assert world.balances() == (TOKENS - 5000, 3500, 1500)
    assert (world.stake().slashed, world.stake().contest) == (1500, Contest.NONE)
    world.refused(conclude, world.stranger, ProgramError.STATE)


def test_what_cools_down_can_be_slashed_and_nothing_else_is_held(world: Pledges) -> None:
    world.pledge(5000)
    world.send(world.staking().unstake(3000), world.node)
    world.send(world.staking().slash(2500, EVIDENCE), world.slasher)
    stake = world.stake()
    assert (stake.active, stake.cooling, stake.contested, stake.contested_cooling) == (0, 2500, 2500, 500)
    world.chain.wait(COOLDOWN)
    world.send(world.staking().withdraw(), world.node)
    assert world.balances() == (TOKENS - 2500, 2500, 0)
    world.refused(world.staking().close(), world.node, ProgramError.STATE)


@pytest.mark.parametrize("upheld", [True, False])
def test_the_judge_decides_an_appeal(world: Pledges, upheld: bool) -> None:
    world.pledge(5000)
    world.send(world.staking().unstake(3000), world.node)
    world.send(world.staking().slash(2500, EVIDENCE), world.slasher)
    world.chain.wait(APPEAL - 1)
    world.send(world.staking().appeal(), world.node)
    assert world.stake().contested_until == world.chain.now + APPEAL
    world.refused(world.staking().appeal(), world.node, ProgramError.STATE)
    world.send(world.staking().judge(upheld=upheld), world.judge)
    stake = world.stake()
    assert (stake.contest, stake.contested) == (Contest.NONE, 0)
    if upheld:
        assert (stake.active, stake.cooling, stake.slashed) == (0, 2500, 2500)
        assert world.balances() == (TOKENS - 5000, 2500, 2500)
    else:
        assert (stake.active, stake.cooling, stake.slashed) == (2000, 3000, 0)
        assert world.balances() == (TOKENS - 5000, 5000, 0)


def test_an_appeal_that_nobody_judges_is_granted(world: Pledges) -> None:
    world.pledge(5000)
    world.send(world.staking().slash(5000, EVIDENCE), world.slasher)
    world.send(world.staking().appeal(), world.node)
    world.chain.wait(APPEAL)
    world.refused(world.staking().judge(upheld=True), world.judge, ProgramError.TOO_LATE)
    world.send(world.staking().conclude(world.node.pubkey()), world.node)
    assert world.stake().active == 5000
    assert world.balances() == (TOKENS - 5000, 5000, 0)


@pytest.mark.parametrize(
    ("amount", "evidence", "error"),
    [
        (0, EVIDENCE, ProgramError.ARGUMENT),
        (5, bytes(32), ProgramError.ARGUMENT),
        (2001, EVIDENCE, ProgramError.FUNDS),
        (2**64 - 1, EVIDENCE, ProgramError.FUNDS),
    ],
)
def test_a_slash_has_evidence_and_bounds(world: Pledges, amount: int, evidence: bytes, error: ProgramError) -> None:
    world.pledge(2000)
    world.refused(world.staking().slash(amount, evidence), world.slasher, error)


# rewards


def test_rewards_are_the_rate_for_the_time_as_far_as_the_vault_goes(world: Pledges) -> None:
    world.pledge(100_003)
    claim = world.staking().claim_rewards()
    world.refused(claim, world.node, ProgramError.ALREADY)
    world.chain.wait(YEAR // 3)
    due = 100_003 * 1000 * (YEAR // 3) // (10_000 * YEAR)
    world.refused(claim, world.node, ProgramError.FUNDS)
    world.fund_rewards(due - 7)
    world.send(claim, world.node)
    assert world.chain.balance(world.node_tokens) == TOKENS - 100_003 + due - 7
    assert world.stake().rewards == 7
    world.fund_rewards(100)
    world.send(claim, world.node)
    assert (world.stake().rewards, world.chain.balance(world.config.rewards)) == (0, 93)
    assert world.chain.balance(world.staking().vault) == 100_003


def test_what_cools_down_or_is_contested_earns_nothing(world: Pledges) -> None:
    world.pledge(10_000)
    world.send(world.staking().unstake(4000), world.node)
    world.send(world.staking().slash(3000, EVIDENCE), world.slasher)
    world.chain.wait(YEAR)
    world.send(world.staking().conclude(world.node.pubkey()), world.node)
    assert world.stake().rewards == 300


def test_a_clock_that_goes_back_earns_nothing_twice(world: Pledges) -> None:
    world.pledge(10_000)
    world.chain.wait(YEAR)
    world.send(world.staking().unstake(1000), world.node)
    world.chain.wait(-YEAR // 2)
    world.send(world.staking().unstake(1000), world.node)
    world.chain.wait(YEAR // 2)
    world.send(world.staking().unstake(1000), world.node)
    assert world.stake().rewards == 1000


def test_a_sum_past_64_bits_locks_nobody() -> None:
    world = Pledges(rate_bps=10_000)
    amount = 2**63 - 1
    world.chain.make_tokens(world.node.pubkey(), amount - TOKENS)
    world.pledge(amount)
    world.chain.wait(10 * YEAR)
    world.send(world.staking().unstake(amount), world.node)
    assert world.stake().rewards == 2**64 - 1
    world.chain.wait(COOLDOWN)
    world.send(world.staking().withdraw(), world.node)
    assert world.chain.balance(world.node_tokens) == amount


# the end


def test_an_empty_stake_is_closed_and_everything_goes_back(world: Pledges) -> None:
    before = world.chain.svm.get_balance(world.node.pubkey())
    world.pledge(2000)
    world.refused(world.staking().close(), world.node, ProgramError.STATE)
    world.send(world.staking().unstake(2000), world.node)
    world.refused(world.staking().close(), world.node, ProgramError.STATE)
    world.chain.wait(COOLDOWN)
    world.send(world.staking().withdraw(), world.node)
    world.chain.pay_tokens(world.stranger_tokens, world.staking().vault, 5, world.stranger)
    world.send(world.staking().close(), world.node)
    assert world.balances() == (TOKENS + 5, 0, 0)
    assert world.chain.svm.get_balance(world.node.pubkey()) == before
    assert world.chain.account(world.staking().address) is None
    assert world.chain.account(world.staking().vault) is None


def test_a_closed_stake_does_not_come_back_with_its_state(world: Pledges) -> None:
    world.send(world.staking().open(), world.node)
    staking = world.staking()
    revive = transfer(
        TransferParams(from_pubkey=world.chain.bank.pubkey(), to_pubkey=staking.address, lamports=10_000_000)
    )
    world.chain.send(staking.close(), revive, by=[world.node])
    account = world.chain.account(staking.address)
    assert account is not None
    assert (bytes(account.data), account.owner) == (b"", Pubkey.default())
    world.refused(staking.deposit(MINIMUM), world.node, ProgramError.OWNER)
    world.pledge(MINIMUM)
    assert world.stake().active == MINIMUM


def test_a_stake_is_opened_once(world: Pledges) -> None:
    world.pledge(2000)
    world.refused(world.staking().open(), world.node, ProgramError.EXISTS)
    assert world.stake().active == 2000


def test_configs_of_two_admins_are_apart(world: Pledges) -> None:
    world.send(world.configure_instruction(world.stranger), world.stranger)
    assert world.config.admin == world.admin.pubkey()
    world.pledge(2000)
    world.pledge(2000, world.other)
    world.send(world.staking().slash(2000, EVIDENCE), world.slasher)
    assert world.stake(world.other).active == 2000
