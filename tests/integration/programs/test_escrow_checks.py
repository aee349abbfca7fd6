"""Every instruction of JobEscrow against one wrong thing at a time: each is refused by name, and nothing moves.

The same instruction without the fault is taken (last test), so that it is the fault that was refused.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from cyxwiz.ledger.instructions import escrow as builders
from cyxwiz.ledger.instructions.errors import ProgramError
from cyxwiz.ledger.instructions.escrow import Step
from tests.integration.programs.chain import Refused, mark, person, swap
from tests.integration.programs.deals import AMOUNT, DAY, ESCROW, EVIDENCE, JOB, Deal
from tests.integration.programs.faults import Fault, shape_faults

AUTHORITY, STATE, VAULT, NODE_TOKENS, FEE_TOKENS, CLIENT_TOKENS, PAYER, TOKENS = range(8)
OTHER_JOB = b"another job's id"
Prepared = tuple[Deal, Instruction, Keypair]


def streaming(deal: Deal) -> None:
    deal.stream()
    deal.chain.wait(60)
    deal.send(builders.attest(ESCROW, deal.escrow(), 3000, EVIDENCE), deal.platform)


def disputed(deal: Deal) -> None:
    escrow = deal.create()
    deal.send(builders.dispute(ESCROW, escrow, deal.client.pubkey()), deal.client)


def past_deadline(deal: Deal) -> None:
    deal.create()
    deal.chain.wait(8 * DAY)


def assigned(deal: Deal) -> None:
    escrow = deal.create(node=None)
    deal.send(builders.assign(ESCROW, escrow, deal.node.pubkey()), deal.platform)


# A situation in which the step is taken, the instruction, and who signs it.
STEPS: dict[Step, tuple[Callable[[Deal], Any], Callable[[Deal], Instruction], str]] = {
    Step.ASSIGN: (
        lambda deal: deal.create(node=None),
        lambda deal: builders.assign(ESCROW, deal.escrow(), deal.node.pubkey()),
        "platform",
    ),
    Step.UNASSIGN: (
        assigned,
        lambda deal: builders.unassign(ESCROW, deal.escrow(), deal.platform.pubkey()),
        "platform",
    ),
    Step.RELEASE: (Deal.create, lambda deal: deal.payout(deal.platform).release(900), "platform"),
    Step.SETTLE: (Deal.create, lambda deal: deal.payout(deal.platform).settle(900), "platform"),
    Step.REFUND: (Deal.create, lambda deal: deal.payout(deal.node).refund(), "node"),
    Step.DISPUTE: (
        Deal.create,
        lambda deal: builders.dispute(ESCROW, deal.escrow(), deal.client.pubkey()),
        "client",
    ),
    Step.RESOLVE: (disputed, lambda deal: deal.payout(deal.arbiter).resolve(900), "arbiter"),
    Step.RECLAIM: (past_deadline, lambda deal: deal.payout(deal.client).reclaim(), "client"),
    Step.ATTEST: (
        streaming,
        lambda deal: (deal.chain.wait(60), builders.attest(ESCROW, deal.escrow(), 3100, EVIDENCE))[1],
        "platform",
    ),
    Step.CLAIM: (streaming, lambda deal: deal.payout(deal.node).claim(), "node"),
    Step.STOP: (streaming, lambda deal: builders.stop(ESCROW, deal.escrow()), "client"),
    Step.CLOSE: (streaming, lambda deal: deal.payout(deal.client).close(), "client"),
}
PAYING = (Step.RELEASE, Step.SETTLE, Step.RESOLVE, Step.CLAIM, Step.CLOSE)  # a node
RETURNING = (Step.SETTLE, Step.REFUND, Step.RESOLVE, Step.RECLAIM, Step.CLOSE)  # to the client, and ending
PAYOUTS = tuple(step for step in STEPS if step in PAYING or step in RETURNING)


def forged(deal: Deal, tag: bytes = builders.TAG) -> Pubkey:
    """An account of the program with a good escrow's data, where no seeds lead."""
    address = person("forged").pubkey()
    data = tag + deal.chain.data(deal.escrow().address)[8:]
    deal.chain.plant(address, data=data, owner=ESCROW)
    return address


def someone_elses(deal: Deal) -> builders.Escrow:
    return deal.escrow(OTHER_JOB)


def without_signature(_: Deal, instruction: Instruction) -> Instruction:
    return mark(instruction, AUTHORITY, signs=False)


STATE_FAULTS: list[Fault[Deal]] = [
    *shape_faults(),
    Fault("no signature", ProgramError.SIGNER, without_signature),
    Fault("a stranger's signature", ProgramError.SIGNER, lambda deal, each: swap(each, 0, deal.stranger.pubkey())),
    Fault("state of another program", ProgramError.OWNER, lambda deal, each: swap(each, STATE, deal.fee_account)),
    Fault("state that is not there", ProgramError.OWNER, lambda _, each: swap(each, STATE, person("none").pubkey())),
    Fault("forged state", ProgramError.ADDRESS, lambda deal, each: swap(each, STATE, forged(deal))),
    Fault(
        "state without the tag",
        ProgramError.NOT_INITIALISED,
        lambda deal, each: swap(each, STATE, forged(deal, bytes(8))),
    ),
    Fault("state read-only", ProgramError.NOT_WRITABLE, lambda _, each: mark(each, STATE, writable=False)),
]
PAYOUT_FAULTS: list[Fault[Deal]] = [
    Fault("another escrow's vault", ProgramError.ADDRESS, lambda deal, each: swap(each, 2, someone_elses(deal).vault)),
    Fault("another escrow's state", ProgramError.ADDRESS, lambda d, each: swap(each, 1, someone_elses(d).address)),
    Fault("another fee account", ProgramError.ADDRESS, lambda deal, each: swap(each, 4, deal.stranger_tokens)),
    Fault("another payer", ProgramError.ADDRESS, lambda deal, each: swap(each, PAYER, deal.stranger.pubkey())),
    Fault("another token program", ProgramError.PROGRAM, lambda _, each: swap(each, TOKENS, Pubkey.default())),
    Fault("the vault as node's account", ProgramError.DUPLICATE, lambda d, each: swap(each, 3, d.escrow().vault)),
    Fault("the vault as client's account", ProgramError.DUPLICATE, lambda d, each: swap(each, 5, d.escrow().vault)),
    Fault("the state as node's account", ProgramError.DUPLICATE, lambda d, each: swap(each, 3, d.escrow().address)),
    Fault("the vault read-only", ProgramError.NOT_WRITABLE, lambda _, each: mark(each, VAULT, writable=False)),
]
NODE_FAULTS: list[Fault[Deal]] = [
    Fault("a stranger's account", ProgramError.TOKEN_ACCOUNT, lambda d, each: swap(each, 3, d.stranger_tokens)),
    Fault("another mint's account", ProgramError.MINT, lambda d, each: swap(each, 3, other_mint(d, d.node))),
    Fault("no token account", ProgramError.OWNER, lambda deal, each: swap(each, 3, deal.node.pubkey())),
    Fault("a mint as an account", ProgramError.TOKEN_ACCOUNT, lambda d, each: swap(each, 3, d.chain.mint)),
    Fault("read-only", ProgramError.NOT_WRITABLE, lambda _, each: mark(each, NODE_TOKENS, writable=False)),
]
CLIENT_FAULTS: list[Fault[Deal]] = [
    Fault("a stranger's account", ProgramError.TOKEN_ACCOUNT, lambda d, each: swap(each, 5, d.stranger_tokens)),
    Fault("the node's account", ProgramError.TOKEN_ACCOUNT, lambda d, each: swap(each, 5, d.node_tokens)),
    Fault("the fee account", ProgramError.TOKEN_ACCOUNT, lambda d, each: swap(each, 5, d.fee_account)),
    Fault("another mint's account", ProgramError.MINT, lambda d, each: swap(each, 5, other_mint(d, d.client))),
    Fault("no token account", ProgramError.OWNER, lambda d, each: swap(each, 5, d.stranger.pubkey())),
    Fault("rent to a read-only account", ProgramError.NOT_WRITABLE, lambda _, each: mark(each, PAYER, writable=False)),
    Fault("read-only", ProgramError.NOT_WRITABLE, lambda _, each: mark(each, CLIENT_TOKENS, writable=False)),
]


def other_mint(deal: Deal, owner: Keypair) -> Pubkey:
    mint = person("false mint").pubkey()
    if deal.chain.account(mint) is None:
        deal.chain.make_mint("false mint")
    return deal.chain.make_tokens(owner.pubkey(), mint=mint)


@functools.cache
def prepared(step: Step) -> Prepared:
    """One chain a step: a refused instruction changes nothing in it."""
    situation, build, who = STEPS[step]
    deal = Deal()
    deal.create(job=OTHER_JOB)
    situation(deal)
    return deal, build(deal), getattr(deal, who)


def check(step: Step, fault: Fault[Deal]) -> None:
    deal, instruction, by = prepared(step)
    bad = fault.change(deal, instruction)
    signers = [
        each for each in (by, deal.stranger) if any(m.is_signer and m.pubkey == each.pubkey() for m in bad.accounts)
    ]
    address = deal.escrow().address
    before = (deal.chain.data(address), deal.balances())
    with pytest.raises(Refused) as caught:
        deal.chain.send(bad, by=signers)
    assert caught.value.error == fault.error, caught.value
    assert (deal.chain.data(address), deal.balances()) == before


def cases(steps: Any, faults: list[Fault[Deal]]) -> Any:
    pairs = [pytest.param(step, fault, id=f"{step.name}-{fault.name}") for step in steps for fault in faults]
    return pytest.mark.parametrize(("step", "fault"), pairs)


@cases(STEPS, STATE_FAULTS)
def test_signer_owner_address_and_shape_are_checked(step: Step, fault: Fault[Deal]) -> None:
    check(step, fault)


@cases(PAYOUTS, PAYOUT_FAULTS)
def test_accounts_of_a_payout_are_checked(step: Step, fault: Fault[Deal]) -> None:
    check(step, fault)


@cases(PAYING, NODE_FAULTS)
def test_a_node_is_paid_to_its_own_account_only(step: Step, fault: Fault[Deal]) -> None:
    check(step, fault)


@cases(RETURNING, CLIENT_FAULTS)
def test_a_client_gets_the_rest_on_its_own_account_only(step: Step, fault: Fault[Deal]) -> None:
    check(step, fault)


# who may do what: everybody else is refused

MAY = {
    Step.ASSIGN: {"platform"},
    Step.UNASSIGN: {"platform", "node"},
    Step.RELEASE: {"platform"},
    Step.SETTLE: {"platform"},
    Step.REFUND: {"platform", "node"},
    Step.DISPUTE: {"client", "node"},
    Step.RESOLVE: {"arbiter"},
    Step.RECLAIM: {"client"},
    Step.ATTEST: {"platform"},
    Step.CLAIM: {"platform", "node"},
    Step.STOP: {"client"},
    Step.CLOSE: {"client", "node", "platform"},
}


@pytest.mark.parametrize("step", MAY)
def test_each_signature_moves_only_what_is_its_own(step: Step) -> None:
    for who in ("client", "node", "platform", "arbiter", "stranger"):
        situation, build, _ = STEPS[step]
        deal = Deal()
        situation(deal)
        by = getattr(deal, who)
        instruction = swap(build(deal), AUTHORITY, by.pubkey())
        if who in MAY[step]:
            deal.send(instruction, by)
        else:
            deal.refused(instruction, by, ProgramError.SIGNER)


# create


def created(**changes: Any) -> Callable[[Deal, Instruction], Instruction]:
    return lambda deal, _: deal.create_instruction(**changes)


def raw(at: int, value: int, size: int = 8) -> Callable[[Deal, Instruction], Instruction]:
    """A field of the data that the builder would not write."""

    def change(_: Deal, instruction: Instruction) -> Instruction:
        data = bytearray(bytes(instruction.data))
        data[at : at + size] = (value % 2 ** (8 * size)).to_bytes(size, "little")
        return Instruction(instruction.program_id, bytes(data), list(instruction.accounts))

    return change


BAD = ProgramError.ARGUMENT
CREATE_FAULTS: list[Fault[Deal]] = [
    *shape_faults(),
    Fault("client does not sign", ProgramError.SIGNER, lambda _, each: mark(each, 1, signs=False)),
    Fault("source of a stranger", ProgramError.TOKEN_ACCOUNT, lambda d, each: swap(each, 2, d.stranger_tokens)),
    Fault("source of another mint", ProgramError.MINT, lambda d, each: swap(each, 2, other_mint(d, d.client))),
    Fault("source read-only", ProgramError.NOT_WRITABLE, lambda _, each: mark(each, 2, writable=False)),
    Fault("state elsewhere", ProgramError.ADDRESS, lambda _, each: swap(each, 3, person("elsewhere").pubkey())),
    Fault("state read-only", ProgramError.NOT_WRITABLE, lambda _, each: mark(each, 3, writable=False)),
    Fault("vault elsewhere", ProgramError.ADDRESS, lambda d, each: swap(each, 4, d.stranger_tokens)),
    Fault("vault read-only", ProgramError.NOT_WRITABLE, lambda _, each: mark(each, 4, writable=False)),
    Fault("no mint", ProgramError.OWNER, lambda d, each: swap(each, 5, d.stranger.pubkey())),
    Fault("a token account as mint", ProgramError.MINT, lambda d, each: swap(each, 5, d.stranger_tokens)),
    Fault("fee account of another mint", ProgramError.MINT, lambda d, each: swap(each, 6, other_mint(d, d.platform))),
    Fault("no fee account", ProgramError.OWNER, lambda d, each: swap(each, 6, d.platform.pubkey())),
    Fault("another token program", ProgramError.PROGRAM, lambda _, each: swap(each, 7, ESCROW)),
    Fault("another System program", ProgramError.PROGRAM, lambda _, each: swap(each, 8, ESCROW)),
    Fault("amount 0", BAD, created(amount=0)),
    Fault("amount past 2^63-1", BAD, created(amount=2**63)),
    Fault("amount -1", BAD, raw(24, -1)),
    Fault("more than the client has", ProgramError.FUNDS, created(amount=10 * AMOUNT + 1)),
    Fault("fee above half", BAD, created(fee_bps=5001)),
    Fault("fee that overflows 16 bits", BAD, created(fee_bps=65536 + 1000)),
    Fault("deadline now", BAD, lambda d, _: d.create_instruction(deadline=d.chain.now)),
    Fault("deadline of the past", BAD, raw(32, -1)),
    Fault("deadline in 367 days", BAD, lambda d, _: d.create_instruction(deadline=d.chain.now + 367 * DAY)),
    Fault("deadline at the end of time", BAD, created(deadline=2**63 - 1)),
    Fault("no dispute window", BAD, created(window=0)),
    Fault("a window past 30 days", BAD, created(window=30 * DAY + 1)),
    Fault("a cap without interval", BAD, created(cap=5)),
    Fault("an interval without cap", BAD, created(interval=60)),
    Fault("a cap above the amount", BAD, created(interval=60, cap=AMOUNT + 1)),
    Fault("an interval past a day", BAD, created(interval=DAY + 1, cap=5)),
    Fault("no platform", BAD, created(platform=Pubkey.default())),
    Fault("no arbiter", BAD, created(arbiter=Pubkey.default())),
]


@functools.cache
def before_create() -> Deal:
    return Deal()


@pytest.mark.parametrize("fault", CREATE_FAULTS, ids=lambda fault: fault.name)
def test_create_checks_its_terms_and_accounts(fault: Fault[Deal]) -> None:
    deal = before_create()
    # A payer besides the client, so that there is a signature to leave out.
    instruction = builders.create(ESCROW, deal.terms(), payer=deal.chain.bank.pubkey())
    bad = fault.change(deal, instruction)
    signs = any(meta.is_signer and meta.pubkey == deal.client.pubkey() for meta in bad.accounts)
    with pytest.raises(Refused) as caught:
        deal.chain.send(bad, by=[deal.client] if signs else [])
    assert caught.value.error == fault.error, caught.value
    assert deal.balances() == (10 * AMOUNT, 0, 0)
    assert deal.chain.account(builders.state_address(ESCROW, deal.client.pubkey(), JOB)) is None


def test_without_a_payers_signature_there_is_no_escrow() -> None:
    deal = Deal()
    instruction = builders.create(ESCROW, deal.terms(), payer=deal.stranger.pubkey())
    deal.refused(mark(instruction, 0, signs=False), deal.client, ProgramError.SIGNER)


@pytest.mark.parametrize("step", STEPS)
def test_without_a_fault_each_is_taken(step: Step) -> None:
    situation, build, who = STEPS[step]
    deal = Deal()
    deal.create(job=OTHER_JOB)
    situation(deal)
    deal.send(build(deal), getattr(deal, who))
    assert deal.chain.balance(deal.escrow(OTHER_JOB).vault) == AMOUNT  # another job's money stayed
