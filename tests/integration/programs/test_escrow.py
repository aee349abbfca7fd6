"""JobEscrow on the virtual machine: where the money goes."""

from __future__ import annotations

import pytest
from solders.pubkey import Pubkey
from solders.rent import Rent
from solders.system_program import TransferParams, transfer

from cyxwiz.ledger.instructions import escrow as builders
from cyxwiz.ledger.instructions.errors import ProgramError
from cyxwiz.ledger.instructions.escrow import STATE_SIZE
from tests.integration.programs.chain import Refused, person, swap
from tests.integration.programs.deals import AMOUNT, DAY, ESCROW, JOB, Deal, ended

START_TOKENS = 10 * AMOUNT


@pytest.fixture
def deal() -> Deal:
    return Deal()


def test_create_locks_the_amount_and_records_the_terms(deal: Deal) -> None:
    escrow = deal.create(fee_bps=250, window=3600)
    assert escrow.address == builders.state_address(ESCROW, deal.client.pubkey(), JOB)
    assert (escrow.client, escrow.node, escrow.platform) == tuple(
        each.pubkey() for each in (deal.client, deal.node, deal.platform)
    )
    assert (escrow.arbiter, escrow.mint, escrow.fee_account) == (
        deal.arbiter.pubkey(),
        deal.chain.mint,
        deal.fee_account,
    )
    assert (escrow.payer, escrow.job, escrow.fee_bps, escrow.window) == (deal.client.pubkey(), JOB, 250, 3600)
    assert (escrow.amount, escrow.released, escrow.fees, escrow.accrued) == (AMOUNT, 0, 0, 0)
    assert escrow.deadline == deal.chain.now + 7 * DAY
    assert deal.chain.balance(escrow.vault) == AMOUNT
    assert deal.balances() == (START_TOKENS - AMOUNT, 0, 0)


def test_settle_pays_ninety_and_ten_and_gives_the_rent_back(deal: Deal) -> None:
    before = deal.chain.svm.get_balance(deal.client.pubkey())
    escrow = deal.create()
    assert deal.chain.svm.get_balance(deal.client.pubkey()) < before  # type: ignore[operator]
    deal.send(deal.payout(deal.platform).settle(AMOUNT), deal.platform)
    assert deal.balances() == (START_TOKENS - AMOUNT, 900_000_007, 100_000_000)
    assert ended(deal, escrow)
    assert deal.chain.svm.get_balance(deal.client.pubkey()) == before


@pytest.mark.parametrize(
    ("amount", "bps", "fee"),
    [(999, 1000, 99), (1, 1000, 0), (9, 1000, 0), (10, 1000, 1), (7, 5000, 3), (7, 0, 0), (2**63 - 1, 3333, None)],
)
def test_the_fee_is_rounded_down_and_the_node_has_the_rest(amount: int, bps: int, fee: int | None) -> None:
    deal = Deal()
    deal.chain.make_tokens(deal.client.pubkey(), max(0, amount - deal.chain.balance(deal.client_tokens)))
    deal.create(amount=amount, fee_bps=bps)
    deal.send(deal.payout(deal.platform).settle(amount), deal.platform)
    expected = amount * bps // 10_000
    assert fee in (None, expected)
    assert deal.balances()[1:] == (amount - expected, expected)


def test_how_a_release_is_cut_does_not_change_the_shares(deal: Deal) -> None:
    deal.create(amount=997)
    for total in (1, 9, 10, 11, 500, 996):
        deal.send(deal.payout(deal.platform).release(total), deal.platform)
        escrow = deal.escrow()
        assert (escrow.released, escrow.fees) == (total, total // 10)
        assert deal.balances()[1:] == (total - total // 10, total // 10)
        assert deal.chain.balance(escrow.vault) == 997 - total


def test_a_release_sent_again_pays_nothing(deal: Deal) -> None:
    deal.create()
    release = deal.payout(deal.platform).release(500)
    deal.send(release, deal.platform)
    deal.refused(release, deal.platform, ProgramError.ALREADY)
    deal.refused(deal.payout(deal.platform).release(499), deal.platform, ProgramError.ALREADY)
    deal.refused(deal.payout(deal.platform).settle(499), deal.platform, ProgramError.ALREADY)
    deal.refused(deal.payout(deal.platform).release(AMOUNT + 1), deal.platform, ProgramError.FUNDS)
    deal.refused(deal.payout(deal.platform).settle(2**64 - 1), deal.platform, ProgramError.FUNDS)


def test_settle_below_the_amount_gives_the_rest_back(deal: Deal) -> None:
    escrow = deal.create()
    deal.send(deal.payout(deal.platform).release(1000), deal.platform)
    deal.send(deal.payout(deal.platform).settle(3000), deal.platform)
    assert deal.balances() == (START_TOKENS - 3000, 2700, 300)
    assert ended(deal, escrow)


@pytest.mark.parametrize("who", ["platform", "node"])
def test_refund_gives_back_what_was_not_released(deal: Deal, who: str) -> None:
    escrow = deal.create()
    deal.send(deal.payout(deal.platform).release(100), deal.platform)
    by = getattr(deal, who)
    deal.send(deal.payout(by).refund(), by)
    assert deal.balances() == (START_TOKENS - 100, 90, 10)
    assert ended(deal, escrow)


def test_the_client_takes_back_after_the_deadline_and_not_before(deal: Deal) -> None:
    escrow = deal.create()
    reclaim = deal.payout(deal.client).reclaim()
    deal.chain.wait(7 * DAY - 1)
    deal.refused(reclaim, deal.client, ProgramError.TOO_EARLY)
    deal.chain.wait(1)
    deal.send(reclaim, deal.client)
    assert deal.balances() == (START_TOKENS, 0, 0)
    assert ended(deal, escrow)


def test_the_client_takes_back_at_once_while_there_is_no_node(deal: Deal) -> None:
    escrow = deal.create(node=None)
    deal.refused(deal.payout(deal.platform).release(1), deal.platform, ProgramError.STATE)
    deal.refused(deal.payout(deal.platform).settle(1), deal.platform, ProgramError.STATE)
    deal.send(deal.payout(deal.client).reclaim(), deal.client)
    assert deal.balances() == (START_TOKENS, 0, 0)
    assert ended(deal, escrow)


def test_an_open_escrow_gets_its_node_once_and_can_be_opened_again(deal: Deal) -> None:
    escrow = deal.create(node=None)
    other = person("other").pubkey()
    deal.send(builders.assign(ESCROW, escrow, deal.node.pubkey()), deal.platform)
    assert deal.escrow().node == deal.node.pubkey()
    deal.refused(builders.assign(ESCROW, escrow, other), deal.platform, ProgramError.STATE)
    deal.send(builders.unassign(ESCROW, escrow, deal.node.pubkey()), deal.node)
    deal.refused(builders.unassign(ESCROW, escrow, deal.node.pubkey()), deal.node, ProgramError.SIGNER)
    deal.send(builders.assign(ESCROW, escrow, other), deal.platform)
    deal.send(builders.unassign(ESCROW, escrow, deal.platform.pubkey()), deal.platform)
    assert deal.escrow().node is None
    deal.chain.wait(7 * DAY)
    deal.refused(builders.assign(ESCROW, escrow, other), deal.platform, ProgramError.TOO_LATE)


def test_a_node_that_the_client_named_is_not_exchanged(deal: Deal) -> None:
    escrow = deal.create()
    for by in (deal.platform, deal.node):
        deal.refused(builders.unassign(ESCROW, escrow, by.pubkey()), by, ProgramError.STATE)
    deal.refused(builders.assign(ESCROW, escrow, deal.stranger.pubkey()), deal.platform, ProgramError.STATE)


@pytest.mark.parametrize("bad", ["zero", "state"])
def test_a_node_that_is_no_persons_key_is_refused(deal: Deal, bad: str) -> None:
    escrow = deal.create(node=None)
    node = Pubkey.default() if bad == "zero" else escrow.address
    deal.refused(builders.assign(ESCROW, escrow, node), deal.platform, ProgramError.ARGUMENT)
    if bad == "state":
        job = bytes(16)
        own = builders.state_address(ESCROW, deal.client.pubkey(), job)
        deal.refused(deal.create_instruction(job=job, node=own), deal.client, ProgramError.ARGUMENT)


# disputes


@pytest.mark.parametrize("who", ["client", "node"])
def test_a_dispute_freezes_and_its_end_thaws(deal: Deal, who: str) -> None:
    escrow = deal.create(node=None, window=DAY)
    deal.send(builders.assign(ESCROW, escrow, deal.node.pubkey()), deal.platform)
    by = getattr(deal, who)
    deal.chain.wait(10)
    deal.send(builders.dispute(ESCROW, escrow, by.pubkey()), by)
    disputed = deal.escrow()
    assert disputed.frozen_until == deal.chain.now + DAY
    assert disputed.deadline == escrow.deadline + DAY
    platform, client = deal.payout(deal.platform), deal.payout(deal.client)
    for instruction in (platform.release(5), platform.settle(5), platform.refund()):
        deal.refused(instruction, deal.platform, ProgramError.FROZEN)
    deal.refused(client.reclaim(), deal.client, ProgramError.FROZEN)
    deal.refused(builders.unassign(ESCROW, escrow, deal.platform.pubkey()), deal.platform, ProgramError.FROZEN)
    other = deal.node if who == "client" else deal.client
    deal.refused(builders.dispute(ESCROW, escrow, other.pubkey()), other, ProgramError.FROZEN)
    deal.chain.wait(DAY)
    deal.refused(builders.dispute(ESCROW, escrow, by.pubkey()), by, ProgramError.ALREADY)
    deal.refused(deal.payout(deal.arbiter).resolve(5), deal.arbiter, ProgramError.TOO_LATE)
    deal.send(platform.release(5), deal.platform)
    deal.chain.set_time(escrow.deadline)
    deal.refused(client.reclaim(), deal.client, ProgramError.TOO_EARLY)  # the dispute moved the deadline
    deal.chain.wait(DAY)
    deal.send(client.reclaim(), deal.client)
    assert deal.balances() == (START_TOKENS - 5, 5, 0)


def test_the_arbiter_splits(deal: Deal) -> None:
    escrow = deal.create()
    deal.send(deal.payout(deal.platform).release(1000), deal.platform)
    deal.refused(deal.payout(deal.arbiter).resolve(2000), deal.arbiter, ProgramError.TOO_LATE)  # no dispute is open
    deal.send(builders.dispute(ESCROW, escrow, deal.node.pubkey()), deal.node)
    deal.refused(deal.payout(deal.arbiter).resolve(999), deal.arbiter, ProgramError.ALREADY)
    deal.refused(deal.payout(deal.arbiter).resolve(AMOUNT + 1), deal.arbiter, ProgramError.FUNDS)
    deal.send(deal.payout(deal.arbiter).resolve(2000), deal.arbiter)
    assert deal.balances() == (START_TOKENS - 2000, 1800, 200)
    assert ended(deal, escrow)


def test_a_node_gives_up_in_the_middle_of_a_dispute(deal: Deal) -> None:
    escrow = deal.create()
    deal.send(builders.dispute(ESCROW, escrow, deal.client.pubkey()), deal.client)
    deal.send(deal.payout(deal.node).refund(), deal.node)
    assert deal.balances() == (START_TOKENS, 0, 0)


def test_a_dispute_needs_a_node_and_comes_before_the_deadline(deal: Deal) -> None:
    escrow = deal.create(node=None)
    dispute = builders.dispute(ESCROW, escrow, deal.client.pubkey())
    deal.refused(dispute, deal.client, ProgramError.STATE)
    deal.send(builders.assign(ESCROW, escrow, deal.node.pubkey()), deal.platform)
    deal.chain.wait(7 * DAY)
    deal.refused(dispute, deal.client, ProgramError.TOO_LATE)


# what others may do to the accounts


def test_the_same_job_is_locked_once(deal: Deal) -> None:
    deal.create()
    deal.refused(deal.create_instruction(amount=5), deal.client, ProgramError.EXISTS)
    assert deal.escrow().amount == AMOUNT


def test_lamports_sent_ahead_do_not_block_an_escrow(deal: Deal) -> None:
    state = builders.state_address(ESCROW, deal.client.pubkey(), JOB)
    vault = builders.vault_address(ESCROW, state)
    for place in (state, vault):
        deal.chain.svm.airdrop(place, 1_000_000)
    escrow = deal.create()
    deal.send(deal.payout(deal.platform).settle(AMOUNT), deal.platform)
    assert ended(deal, escrow)


@pytest.mark.parametrize(("threshold", "years"), [(2.0, 2), (1.0, 1), (1.5, None)])
def test_the_rent_is_that_of_the_cluster(deal: Deal, threshold: float, years: int | None) -> None:
    """Its double is read without floating point: the forms that clusters have are known, others refused."""
    deal.chain.svm.set_rent(Rent(3480, threshold, 50))
    if years is None:
        deal.refused(deal.create_instruction(), deal.client, ProgramError.RENT)
        return
    escrow = deal.create()
    account = deal.chain.account(escrow.address)
    assert account is not None
    assert account.lamports == (128 + STATE_SIZE) * 3480 * years


def test_tokens_sent_to_the_vault_go_to_the_client_and_block_nothing(deal: Deal) -> None:
    escrow = deal.create(amount=1000)
    deal.chain.pay_tokens(deal.stranger_tokens, escrow.vault, 77, deal.stranger)
    deal.refused(deal.payout(deal.platform).release(1001), deal.platform, ProgramError.FUNDS)
    deal.send(deal.payout(deal.platform).settle(1000), deal.platform)
    assert deal.balances() == (START_TOKENS - 1000 + 77, 900, 100)
    assert ended(deal, escrow)


def test_a_closed_escrow_does_not_come_back_with_its_state(deal: Deal) -> None:
    """Lamports given back within the same transaction keep an account alive: it must be empty and System's."""
    escrow = deal.create()
    settle = deal.payout(deal.platform).settle(5)
    revive = transfer(
        TransferParams(from_pubkey=deal.chain.bank.pubkey(), to_pubkey=escrow.address, lamports=10_000_000)
    )
    deal.chain.send(settle, revive, by=[deal.platform])
    account = deal.chain.account(escrow.address)
    assert account is not None
    assert (bytes(account.data), account.owner) == (b"", Pubkey.default())
    deal.refused(settle, deal.platform, ProgramError.OWNER)
    with pytest.raises(Refused) as caught:
        deal.chain.send(settle, revive, settle, by=[deal.platform])
    assert caught.value.error == ProgramError.OWNER
    again = deal.create(amount=50)  # the client may sign for the same job anew
    assert (again.amount, again.released) == (50, 0)


def test_two_steps_of_one_transaction_do_not_pay_twice(deal: Deal) -> None:
    deal.create()
    settle = deal.payout(deal.platform).settle(AMOUNT)
    with pytest.raises(Refused) as caught:
        deal.chain.send(settle, settle, by=[deal.platform])
    assert caught.value.error == ProgramError.OWNER
    assert deal.balances() == (START_TOKENS - AMOUNT, 0, 0)


@pytest.mark.parametrize("gone", ["closed", "frozen"])
def test_an_unusable_fee_account_forfeits_the_fee_to_the_node(deal: Deal, gone: str) -> None:
    deal.create(amount=1000)
    data = bytearray(deal.chain.data(deal.fee_account))
    data[108] = 2
    if gone == "closed":
        deal.chain.plant(deal.fee_account, data=b"", owner=Pubkey.default())
    else:
        deal.chain.plant(deal.fee_account, data=bytes(data))
    deal.send(deal.payout(deal.platform).settle(1000), deal.platform)
    assert deal.chain.balance(deal.node_tokens) == 1000


def test_anybody_pays_to_any_token_account_of_the_node(deal: Deal) -> None:
    """A node cannot block a client, nor a client a node, by closing the associated account."""
    deal.create(amount=1000)
    node_extra = deal.chain.extra_tokens("node extra", deal.node.pubkey())
    client_extra = deal.chain.extra_tokens("client extra", deal.client.pubkey())
    deal.send(deal.payout(deal.platform, node_tokens=node_extra, client_tokens=client_extra).settle(400), deal.platform)
    assert (deal.chain.balance(node_extra), deal.chain.balance(client_extra)) == (360, 600)


def test_a_payer_other_than_the_client_gets_its_rent_back(deal: Deal) -> None:
    before = deal.chain.svm.get_balance(deal.stranger.pubkey())
    create = builders.create(ESCROW, deal.terms(), payer=deal.stranger.pubkey())
    deal.chain.send(create, by=[deal.client, deal.stranger])
    assert deal.escrow().payer == deal.stranger.pubkey()
    deal.send(deal.payout(deal.node).refund(), deal.node)
    assert deal.chain.svm.get_balance(deal.stranger.pubkey()) == before


def test_one_account_may_be_the_nodes_and_the_fees(deal: Deal) -> None:
    """A platform that runs the node itself."""
    deal.create(amount=1000, node=deal.platform.pubkey())
    deal.send(deal.payout(deal.platform).settle(1000), deal.platform)
    assert deal.chain.balance(deal.fee_account) == 1000


def test_jobs_of_two_clients_have_addresses_of_their_own(deal: Deal) -> None:
    """Nobody can take the address of another client's job."""
    foreign = builders.state_address(ESCROW, deal.client.pubkey(), JOB)
    own = builders.create(ESCROW, deal.terms(client=deal.stranger.pubkey()), payer=deal.stranger.pubkey())
    with pytest.raises(Refused) as caught:
        deal.chain.send(swap(own, 3, foreign), by=[deal.stranger])
    assert caught.value.error == ProgramError.ADDRESS
    deal.chain.send(own, by=[deal.stranger])
    assert deal.create().client == deal.client.pubkey()
