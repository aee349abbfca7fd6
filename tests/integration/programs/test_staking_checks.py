"""Every instruction of NodeStaking against one wrong thing at a time: each is refused by name, and nothing moves."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from cyxwiz.ledger.instructions import staking as builders
from cyxwiz.ledger.instructions.errors import ProgramError
from cyxwiz.ledger.instructions.staking import Staking, Step
from tests.integration.programs.chain import Refused, mark, person, swap
from tests.integration.programs.faults import Fault, shape_faults
from tests.integration.programs.pledges import APPEAL, COOLDOWN, DAY, EVIDENCE, MINIMUM, STAKING, Pledges

AUTHORITY, CONFIG, STAKE, VAULT, REWARDS, NODE_TOKENS, PAYER, TOKENS = range(8)


def pledged(world: Pledges) -> None:
    world.pledge(5000)


def cooled(world: Pledges) -> None:
    world.pledge(5000)
    world.send(world.staking().unstake(5000), world.node)
    world.chain.wait(COOLDOWN)


def slashed(world: Pledges) -> None:
    world.pledge(5000)
    world.send(world.staking().slash(700, EVIDENCE), world.slasher)


def appealed(world: Pledges) -> None:
    slashed(world)
    world.send(world.staking().appeal(), world.node)


def unappealed(world: Pledges) -> None:
    slashed(world)
    world.chain.wait(APPEAL)


def rewarded(world: Pledges) -> None:
    world.pledge(5000)
    world.fund_rewards(1000)
    world.chain.wait(365 * DAY)


def emptied(world: Pledges) -> None:
    cooled(world)
    world.send(world.staking().withdraw(), world.node)
    world.chain.pay_tokens(world.stranger_tokens, world.staking().vault, 5, world.stranger)


STEPS: dict[Step, tuple[Callable[[Pledges], Any], Callable[[Staking], Instruction], str]] = {
    Step.DEPOSIT: (pledged, lambda staking: staking.deposit(2000), "node"),
    Step.UNSTAKE: (pledged, lambda staking: staking.unstake(2000), "node"),
    Step.WITHDRAW: (cooled, Staking.withdraw, "node"),
    Step.SLASH: (pledged, lambda staking: staking.slash(300, EVIDENCE), "slasher"),
    Step.APPEAL: (slashed, Staking.appeal, "node"),
    Step.JUDGE: (appealed, lambda staking: staking.judge(upheld=True), "judge"),
    Step.CONCLUDE: (unappealed, lambda staking: staking.conclude(person("admin").pubkey()), "admin"),
    Step.CLAIM_REWARDS: (rewarded, Staking.claim_rewards, "node"),
    Step.CLOSE: (emptied, Staking.close, "node"),
}
MOVING = tuple(step for step in STEPS if step not in (Step.UNSTAKE, Step.SLASH, Step.APPEAL))
PAYING = (Step.DEPOSIT, Step.WITHDRAW, Step.CLAIM_REWARDS, Step.CLOSE)  # to or from the node's own account
OPEN_TO_ALL = (Step.CONCLUDE,)


def forged(world: Pledges, source: Pubkey, tag: bytes) -> Pubkey:
    """An account of the program with good data, where no seeds lead."""
    address = person("forged").pubkey()
    world.chain.plant(address, data=tag + world.chain.data(source)[8:], owner=STAKING)
    return address


def foreign_config(world: Pledges) -> Pubkey:
    address = builders.config_address(STAKING, world.stranger.pubkey(), world.chain.mint)
    if world.chain.account(address) is None:
        instruction = world.configure_instruction(world.stranger, slasher=world.stranger.pubkey())
        world.send(instruction, world.stranger)
    return address


def other_mint(world: Pledges) -> Pubkey:
    mint = person("false mint").pubkey()
    if world.chain.account(mint) is None:
        world.chain.make_mint("false mint")
    return world.chain.make_tokens(world.node.pubkey(), 5000, mint)


FAULTS: list[Fault[Pledges]] = [
    *shape_faults(),
    Fault("no signature", ProgramError.SIGNER, lambda _, each: mark(each, AUTHORITY, signs=False)),
    Fault("config of another program", ProgramError.OWNER, lambda w, each: swap(each, CONFIG, w.node_tokens)),
    Fault(
        "forged config",
        ProgramError.ADDRESS,
        lambda w, each: swap(each, CONFIG, forged(w, w.config.address, builders.CONFIG_TAG)),
    ),
    Fault("another admin's config", ProgramError.ADDRESS, lambda w, each: swap(each, CONFIG, foreign_config(w))),
    Fault("the stake as config", ProgramError.NOT_INITIALISED, lambda w, each: swap(each, 1, w.staking().address)),
    Fault("the config as stake", ProgramError.NOT_INITIALISED, lambda w, each: swap(each, 2, w.config.address)),
    Fault("stake of another program", ProgramError.OWNER, lambda w, each: swap(each, STAKE, w.node_tokens)),
    Fault(
        "forged stake",
        ProgramError.ADDRESS,
        lambda w, each: swap(each, STAKE, forged(w, w.staking().address, builders.STAKE_TAG)),
    ),
    Fault(
        "stake without the tag",
        ProgramError.NOT_INITIALISED,
        lambda w, each: swap(each, STAKE, forged(w, w.staking().address, bytes(8))),
    ),
    Fault("stake read-only", ProgramError.NOT_WRITABLE, lambda _, each: mark(each, STAKE, writable=False)),
]
STRANGER = Fault[Pledges]("stranger", ProgramError.SIGNER, lambda w, each: swap(each, 0, w.stranger.pubkey()))
MOVING_FAULTS: list[Fault[Pledges]] = [
    Fault("another vault", ProgramError.ADDRESS, lambda w, each: swap(each, VAULT, w.staking(w.other).vault)),
    Fault("another rewards vault", ProgramError.ADDRESS, lambda w, each: swap(each, REWARDS, w.stranger_tokens)),
    Fault("another payer", ProgramError.ADDRESS, lambda w, each: swap(each, PAYER, w.stranger.pubkey())),
    Fault("another token program", ProgramError.PROGRAM, lambda _, each: swap(each, TOKENS, STAKING)),
    Fault("the vault as node's account", ProgramError.DUPLICATE, lambda w, each: swap(each, 5, w.staking().vault)),
    Fault("the rewards as node's account", ProgramError.DUPLICATE, lambda w, each: swap(each, 5, w.config.rewards)),
]
NODE_FAULTS: list[Fault[Pledges]] = [
    Fault("a stranger's account", ProgramError.TOKEN_ACCOUNT, lambda w, each: swap(each, 5, w.stranger_tokens)),
    Fault("another mint's account", ProgramError.MINT, lambda w, each: swap(each, 5, other_mint(w))),
    Fault("no token account", ProgramError.OWNER, lambda w, each: swap(each, 5, w.node.pubkey())),
    Fault("read-only", ProgramError.NOT_WRITABLE, lambda _, each: mark(each, 5, writable=False)),
]


@functools.cache
def prepared(step: Step) -> tuple[Pledges, Instruction, Keypair]:
    """One world a step: a refused instruction changes nothing in it."""
    situation, build, who = STEPS[step]
    world = Pledges()
    world.pledge(3000, world.other)
    situation(world)
    return world, build(world.staking()), getattr(world, who)


def check(step: Step, fault: Fault[Pledges]) -> None:
    world, instruction, by = prepared(step)
    bad = fault.change(world, instruction)
    signers = [
        each
        for each in (by, world.stranger)
        if any(meta.is_signer and meta.pubkey == each.pubkey() for meta in bad.accounts)
    ]
    address = world.staking().address
    before = (world.chain.data(address), world.balances())
    with pytest.raises(Refused) as caught:
        world.chain.send(bad, by=signers)
    assert caught.value.error == fault.error, caught.value
    assert (world.chain.data(address), world.balances()) == before


def cases(steps: Any, faults: list[Fault[Pledges]]) -> Any:
    pairs = [pytest.param(step, fault, id=f"{step.name}-{fault.name}") for step in steps for fault in faults]
    return pytest.mark.parametrize(("step", "fault"), pairs)


@cases(STEPS, FAULTS)
def test_signature_owner_address_and_shape_are_checked(step: Step, fault: Fault[Pledges]) -> None:
    check(step, fault)


@cases([step for step in STEPS if step not in OPEN_TO_ALL], [STRANGER])
def test_a_strangers_signature_moves_nothing(step: Step, fault: Fault[Pledges]) -> None:
    check(step, fault)


@cases(MOVING, MOVING_FAULTS)
def test_the_vaults_are_checked(step: Step, fault: Fault[Pledges]) -> None:
    check(step, fault)


@cases(
    [Step.CLOSE],
    [Fault("rent to a read-only account", ProgramError.NOT_WRITABLE, lambda _, each: mark(each, 6, writable=False))],
)
def test_the_rent_goes_where_it_can(step: Step, fault: Fault[Pledges]) -> None:
    check(step, fault)


@cases(PAYING, NODE_FAULTS)
def test_tokens_come_from_and_go_to_the_nodes_own_account(step: Step, fault: Fault[Pledges]) -> None:
    check(step, fault)


@pytest.mark.parametrize("step", [step for step in STEPS if step not in OPEN_TO_ALL])
def test_each_signature_moves_only_what_is_its_own(step: Step) -> None:
    world, instruction, right = prepared(step)
    for who in ("admin", "slasher", "judge", "node", "other", "stranger"):
        by = getattr(world, who)
        if by != right:
            world.refused(swap(instruction, AUTHORITY, by.pubkey()), by, ProgramError.SIGNER)


# configure, set_minimum, open

BAD = ProgramError.ARGUMENT


def ruled(**changes: Any) -> Callable[[Pledges, Instruction], Instruction]:
    return lambda world, _: world.configure_instruction(world.stranger, **changes)


CONFIGURE_FAULTS: list[Fault[Pledges]] = [
    *shape_faults(),
    Fault("minimum 0", BAD, ruled(minimum=0)),
    Fault("minimum past 2^63-1", BAD, ruled(minimum=2**63)),
    Fault("cool-down 0", BAD, ruled(cooldown=0)),
    Fault("cool-down past 90 days", BAD, ruled(cooldown=90 * DAY + 1)),
    Fault("appeal 0", BAD, ruled(appeal=0)),
    Fault("appeal past 30 days", BAD, ruled(appeal=2**64 - 1)),
    Fault("rate past 100 %", BAD, ruled(rate_bps=10_001)),
    Fault("no slasher", BAD, ruled(slasher=Pubkey.default())),
    Fault("no judge", BAD, ruled(judge=Pubkey.default())),
    Fault("slasher and judge are one", ProgramError.DUPLICATE, ruled(judge=person("slasher").pubkey())),
    Fault("config elsewhere", ProgramError.ADDRESS, lambda w, each: swap(each, 2, w.config.address)),
    Fault("rewards elsewhere", ProgramError.ADDRESS, lambda w, each: swap(each, 3, w.config.rewards)),
    Fault("config read-only", ProgramError.NOT_WRITABLE, lambda _, each: mark(each, 2, writable=False)),
    Fault("no mint", ProgramError.OWNER, lambda w, each: swap(each, 4, w.node.pubkey())),
    Fault("a token account as mint", ProgramError.MINT, lambda w, each: swap(each, 4, w.node_tokens)),
    Fault("another token program", ProgramError.PROGRAM, lambda _, each: swap(each, 5, STAKING)),
    Fault("another System program", ProgramError.PROGRAM, lambda _, each: swap(each, 6, STAKING)),
]


@functools.cache
def plain_world() -> Pledges:
    return Pledges()


@pytest.mark.parametrize("fault", CONFIGURE_FAULTS, ids=lambda fault: fault.name)
def test_configure_checks_its_rules_and_accounts(fault: Fault[Pledges]) -> None:
    world = plain_world()
    bad = fault.change(world, world.configure_instruction(world.stranger))
    world.refused(bad, world.stranger, fault.error)
    assert world.chain.account(builders.config_address(STAKING, world.stranger.pubkey(), world.chain.mint)) is None


@pytest.mark.parametrize("unsigned", [0, 1], ids=["payer", "admin"])
def test_configure_takes_both_signatures(unsigned: int) -> None:
    world = plain_world()
    payer, admin = world.other, world.stranger
    instruction = builders.configure(
        STAKING, world.rules, payer=payer.pubkey(), admin=admin.pubkey(), mint=world.chain.mint
    )
    world.refused(mark(instruction, unsigned, signs=False), (admin, payer)[unsigned], ProgramError.SIGNER)


OPEN_FAULTS: list[Fault[Pledges]] = [
    *shape_faults(),
    Fault("the payer does not sign", ProgramError.SIGNER, lambda _, each: mark(each, 0, signs=False)),
    Fault("the node does not sign", ProgramError.SIGNER, lambda _, each: mark(each, 1, signs=False)),
    Fault("config of another program", ProgramError.OWNER, lambda w, each: swap(each, 2, w.node_tokens)),
    Fault("stake elsewhere", ProgramError.ADDRESS, lambda w, each: swap(each, 3, w.staking(w.other).address)),
    Fault("stake read-only", ProgramError.NOT_WRITABLE, lambda _, each: mark(each, 3, writable=False)),
    Fault("vault elsewhere", ProgramError.ADDRESS, lambda w, each: swap(each, 4, w.staking(w.other).vault)),
    Fault("another mint", ProgramError.MINT, lambda w, each: swap(each, 5, mint_of(w))),
    Fault("another token program", ProgramError.PROGRAM, lambda _, each: swap(each, 6, STAKING)),
    Fault("another System program", ProgramError.PROGRAM, lambda _, each: swap(each, 7, STAKING)),
]


def mint_of(world: Pledges) -> Pubkey:
    other_mint(world)
    return person("false mint").pubkey()


@pytest.mark.parametrize("fault", OPEN_FAULTS, ids=lambda fault: fault.name)
def test_open_checks_its_accounts(fault: Fault[Pledges]) -> None:
    world = plain_world()
    instruction = Staking(STAKING, world.config, world.node.pubkey(), payer=world.stranger.pubkey()).open()
    bad = fault.change(world, instruction)
    asked = {meta.pubkey for meta in bad.accounts if meta.is_signer}
    with pytest.raises(Refused) as caught:
        world.chain.send(bad, by=[each for each in (world.stranger, world.node) if each.pubkey() in asked])
    assert caught.value.error == fault.error, caught.value
    assert world.chain.account(world.staking().address) is None


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("stranger", ProgramError.SIGNER),
        ("slasher", ProgramError.SIGNER),
        ("unsigned", ProgramError.SIGNER),
        ("zero", ProgramError.ARGUMENT),
        ("forged", ProgramError.ADDRESS),
        ("owner", ProgramError.OWNER),
        ("read-only", ProgramError.NOT_WRITABLE),
    ],
)
def test_only_the_admin_sets_the_minimum(fault: str, error: ProgramError) -> None:
    world = plain_world()
    instruction, by = builders.set_minimum(STAKING, world.config, 0 if fault == "zero" else 5), [world.admin]
    if fault in ("stranger", "slasher"):
        by = [getattr(world, fault)]
        instruction = swap(instruction, 0, by[0].pubkey())
    elif fault == "unsigned":
        instruction, by = mark(instruction, 0, signs=False), []
    elif fault == "forged":
        instruction = swap(instruction, 1, forged(world, world.config.address, builders.CONFIG_TAG))
    elif fault == "owner":
        instruction = swap(instruction, 1, world.node_tokens)
    elif fault == "read-only":
        instruction = mark(instruction, 1, writable=False)
    with pytest.raises(Refused) as caught:
        world.chain.send(instruction, by=by)
    assert caught.value.error == error
    assert world.config.minimum == MINIMUM


@pytest.mark.parametrize("fault", shape_faults(), ids=lambda fault: fault.name)
def test_the_shape_of_set_minimum_is_checked(fault: Fault[Pledges]) -> None:
    world = plain_world()
    bad = fault.change(world, builders.set_minimum(STAKING, world.config, 5))
    world.refused(bad, world.admin, fault.error)
    assert world.config.minimum == MINIMUM


@pytest.mark.parametrize("step", STEPS)
def test_without_a_fault_each_is_taken(step: Step) -> None:
    situation, build, who = STEPS[step]
    world = Pledges()
    world.pledge(3000, world.other)
    situation(world)
    world.send(build(world.staking()), getattr(world, who))
    assert world.chain.balance(world.staking(world.other).vault) == 3000  # another node's stake stayed
