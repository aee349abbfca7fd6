"""Calls made of anything: a program answers with one of its own errors, never by a fault of the machine."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.token import ID as TOKEN_PROGRAM

from cyxwiz.ledger.instructions.errors import ProgramError
from tests.integration.programs.chain import SYSTEM_PROGRAM, Chain, Refused, person
from tests.integration.programs.deals import ESCROW, Deal
from tests.integration.programs.pledges import STAKING, Pledges
from tests.soak import SOAKING, examples

LENGTHS = [0, 1, 7, 8, 16, 40, 48, 104, 160, 161, 1000]
EDGES = [0, 1, 255, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1]


@pytest.fixture(scope="module")
def deal() -> Deal:
    deal = Deal()
    deal.create()
    return deal


@pytest.fixture(scope="module")
def pledges() -> Pledges:
    pledges = Pledges()
    pledges.pledge(5000)
    return pledges


def data(random: Random) -> bytes:
    """Mostly a known instruction with arguments at their edges; sometimes noise."""
    if random.random() < 0.2:
        return random.randbytes(random.choice(LENGTHS))
    words = [random.randrange(14)] + [
        random.choice([*EDGES, random.getrandbits(64)]) for _ in range(random.choice([0, 1, 5, 12, 19]))
    ]
    return b"".join(word.to_bytes(8, "little") for word in words)


def attempt(chain: Chain, program: Pubkey, pool: list[Pubkey], random: Random) -> ProgramError | None:
    """The refusal of one random call that a stranger alone signs; None when it was taken or the machine stopped it."""
    stranger = person("stranger")
    count = random.choice([0, 1, 2, 3, 7, 8, 9, 13])
    metas = []
    for key in random.choices([*pool, stranger.pubkey()], k=count):
        # What is signed or written is so for the whole transaction.
        metas.append(AccountMeta(key, key == stranger.pubkey(), random.random() < 0.7))
    signs = any(meta.is_signer for meta in metas)
    try:
        chain.send(Instruction(program, data(random), metas), by=[stranger] if signs else [])
    except Refused as refused:
        return refused.error
    return None


@settings(max_examples=examples(150), derandomize=not SOAKING, deadline=None)
@given(st.randoms(use_true_random=True))
def test_the_escrow_answers_noise_with_an_error(deal: Deal, random: Random) -> None:
    escrow = deal.escrow()
    places = [deal.client_tokens, deal.node_tokens, deal.fee_account, deal.stranger_tokens]
    people = [each.pubkey() for each in (deal.client, deal.node, deal.platform)]
    pool = [escrow.address, escrow.vault, *places, *people, deal.chain.mint, TOKEN_PROGRAM, SYSTEM_PROGRAM, ESCROW]
    before = deal.balances(), deal.chain.balance(deal.stranger_tokens)
    for _ in range(10):
        assert attempt(deal.chain, ESCROW, pool, random) is not None
    assert (deal.escrow(), (deal.balances(), deal.chain.balance(deal.stranger_tokens))) == (escrow, before)


@settings(max_examples=examples(150), derandomize=not SOAKING, deadline=None)
@given(st.randoms(use_true_random=True))
def test_the_staking_answers_noise_with_an_error(pledges: Pledges, random: Random) -> None:
    stake, config = pledges.stake(), pledges.config
    places = [pledges.node_tokens, pledges.stranger_tokens, config.rewards, stake.vault]
    people = [each.pubkey() for each in (pledges.node, pledges.admin, pledges.slasher)]
    pool = [stake.address, config.address, *places, *people, pledges.chain.mint, TOKEN_PROGRAM, SYSTEM_PROGRAM, STAKING]
    before = pledges.balances()
    for _ in range(10):
        assert attempt(pledges.chain, STAKING, pool, random) is not None
    assert (pledges.stake(), pledges.config, pledges.balances()) == (stake, config, before)
