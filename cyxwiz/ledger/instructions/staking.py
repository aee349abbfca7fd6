"""NodeStaking: instructions and the accounts' decoders.

Instruction data is a u64 number of the instruction, then its arguments; all integers are little-endian. Instructions on
a stake take who signs, the config and the stake; those that move tokens also take the vault, the rewards vault, the
node's tokens, the payer of the rent and SPL Token.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from solders.instruction import Instruction
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.token import ID as TOKEN_PROGRAM

from cyxwiz.domain.errors import invalid
from cyxwiz.ledger.instructions.values import digest, key_at, read_only, token_account, u64, writable

CONFIG_SIZE = 208
CONFIG_TAG = b"CNXSCFG1"
STAKE_SIZE = 248
STAKE_TAG = b"CNXSSTK1"


class Step(IntEnum):
    """The number that instruction data begin with."""

    CONFIGURE = 0
    SET_MINIMUM = 1
    OPEN = 2
    DEPOSIT = 3
    UNSTAKE = 4
    WITHDRAW = 5
    SLASH = 6
    APPEAL = 7
    JUDGE = 8
    CONCLUDE = 9
    CLAIM_REWARDS = 10
    CLOSE = 11


class Contest(IntEnum):
    """Whether part of a stake is set aside by a slash."""

    NONE = 0
    PENDING = 1
    APPEALED = 2


@dataclass(frozen=True, slots=True)
class Config:
    """The account, 208 bytes: tag 0 (8 bytes), bump u8 8, rewards bump u8 9, keys admin 16, slasher 48, judge 80, mint
    112, rewards vault 144, u64 minimum 176, cooldown 184 and appeal 192 (seconds), rate_bps 200 (of the active stake, a
    year).
    """

    address: Pubkey
    admin: Pubkey
    slasher: Pubkey
    judge: Pubkey
    mint: Pubkey
    rewards: Pubkey
    minimum: int
    cooldown: int
    appeal: int
    rate_bps: int

    @classmethod
    def decode(cls, address: Pubkey, data: bytes) -> Self:
        """The config in an account's data.

        Raises:
            CyxError: INVALID when the data are none.
        """
        if len(data) != CONFIG_SIZE or data[:8] != CONFIG_TAG:
            raise invalid(f"{address} is no staking config: expected {CONFIG_SIZE} bytes beginning with {CONFIG_TAG!r}")
        admin, slasher, judge, mint, rewards = (key_at(data, 16 + 32 * at) for at in range(5))
        minimum, cooldown, appeal, rate_bps = struct.unpack_from("<4Q", data, 176)
        return cls(address, admin, slasher, judge, mint, rewards, minimum, cooldown, appeal, rate_bps)


@dataclass(frozen=True, slots=True)
class Stake:
    """The account, 248 bytes: tag 0 (8 bytes), bump u8 8, vault bump u8 9, contest u8 10, keys config 16, node 48,
    payer 80, vault 112, evidence 144, u64 active 176, cooling 184, contested 192, of that cooling 200, slashed 208,
    rewards 216, i64 cooling_until 224, contested_until 232, accrued_at 240.
    """

    address: Pubkey
    contest: Contest
    config: Pubkey
    node: Pubkey
    payer: Pubkey
    vault: Pubkey
    evidence: bytes
    active: int
    cooling: int
    contested: int
    contested_cooling: int
    slashed: int
    rewards: int
    cooling_until: int
    contested_until: int
    accrued_at: int

    @classmethod
    def decode(cls, address: Pubkey, data: bytes) -> Self:
        """The stake in an account's data.

        Raises:
            CyxError: INVALID when the data are none.
        """
        if len(data) != STAKE_SIZE or data[:8] != STAKE_TAG:
            raise invalid(f"{address} is no stake: expected {STAKE_SIZE} bytes beginning with {STAKE_TAG!r}")
        config, node, payer, vault = (key_at(data, 16 + 32 * at) for at in range(4))
        active, cooling, contested, contested_cooling, slashed, rewards = struct.unpack_from("<6Q", data, 176)
        cooling_until, contested_until, accrued_at = struct.unpack_from("<3q", data, 224)
        return cls(
            address=address,
            contest=Contest(data[10]),
            config=config,
            node=node,
            payer=payer,
            vault=vault,
            evidence=data[144:176],
            active=active,
            cooling=cooling,
            contested=contested,
            contested_cooling=contested_cooling,
            slashed=slashed,
            rewards=rewards,
            cooling_until=cooling_until,
            contested_until=contested_until,
            accrued_at=accrued_at,
        )


def config_address(program: Pubkey, admin: Pubkey, mint: Pubkey) -> Pubkey:
    """Seeds: "config", the admin's key, the mint."""
    return Pubkey.find_program_address([b"config", bytes(admin), bytes(mint)], program)[0]


def rewards_address(program: Pubkey, config: Pubkey) -> Pubkey:
    """Seeds: "rewards", the config's address. Whoever sends tokens there funds the rewards."""
    return Pubkey.find_program_address([b"rewards", bytes(config)], program)[0]


def stake_address(program: Pubkey, config: Pubkey, node: Pubkey) -> Pubkey:
    """Seeds: "stake", the config's address, the node's key."""
    return Pubkey.find_program_address([b"stake", bytes(config), bytes(node)], program)[0]


def vault_address(program: Pubkey, stake: Pubkey) -> Pubkey:
    """Seeds: "vault", the stake's address."""
    return Pubkey.find_program_address([b"vault", bytes(stake)], program)[0]


@dataclass(frozen=True, slots=True)
class Rules:
    """What an admin fixes: `minimum` can be changed later, the rest cannot.

    Args:
        minimum: units that a stake has at least, or nothing.
        cooldown: seconds from unstaking to withdrawal.
        appeal: seconds to appeal against a slash, and as many to judge the appeal.
        rate_bps: rewards a year, in basis points of the active stake.
    """

    slasher: Pubkey
    judge: Pubkey
    minimum: int
    cooldown: int
    appeal: int
    rate_bps: int


def configure(program: Pubkey, rules: Rules, *, payer: Pubkey, admin: Pubkey, mint: Pubkey) -> Instruction:
    """Makes a config. Data: 0, u64 minimum, cooldown, appeal, rate_bps, keys slasher, judge.

    Raises:
        CyxError: INVALID for a number that does not fit its field.
    """
    config = config_address(program, admin, mint)
    data = u64(Step.CONFIGURE, "step") + u64(rules.minimum, "minimum") + u64(rules.cooldown, "cooldown")
    data += u64(rules.appeal, "appeal") + u64(rules.rate_bps, "rate_bps") + bytes(rules.slasher) + bytes(rules.judge)
    accounts = [
        writable(payer, signs=True),
        read_only(admin, signs=True),
        writable(config),
        writable(rewards_address(program, config)),
        read_only(mint),
        read_only(TOKEN_PROGRAM),
        read_only(SYSTEM_PROGRAM),
    ]
    return Instruction(program, data, accounts)


def set_minimum(program: Pubkey, config: Config, minimum: int) -> Instruction:
    """The admin changes the minimum. Data: 1, u64 minimum."""
    accounts = [read_only(config.admin, signs=True), writable(config.address)]
    return Instruction(program, u64(Step.SET_MINIMUM, "step") + u64(minimum, "minimum"), accounts)


@dataclass(frozen=True, slots=True)
class Staking:
    """The instructions on the stake of `node` in `config`.

    Args:
        payer: who pays the stake's rent and gets it back; the node itself when None.
        node_tokens: a token account of the node's; None takes the associated one.
    """

    program: Pubkey
    config: Config
    node: Pubkey
    payer: Pubkey | None = None
    node_tokens: Pubkey | None = None

    @property
    def address(self) -> Pubkey:
        return stake_address(self.program, self.config.address, self.node)

    @property
    def vault(self) -> Pubkey:
        return vault_address(self.program, self.address)

    def open(self) -> Instruction:
        """Makes an empty stake. Data: 2."""
        accounts = [
            writable(self.payer or self.node, signs=True),
            read_only(self.node, signs=True),
            read_only(self.config.address),
            writable(self.address),
            writable(self.vault),
            read_only(self.config.mint),
            read_only(TOKEN_PROGRAM),
            read_only(SYSTEM_PROGRAM),
        ]
        return Instruction(self.program, u64(Step.OPEN, "step"), accounts)

    def deposit(self, amount: int) -> Instruction:
        """The node adds to its stake. Data: 3, u64 amount."""
        return self._moving(self.node, Step.DEPOSIT, u64(amount, "amount"))

    def unstake(self, amount: int) -> Instruction:
        """The node starts the cool-down. Data: 4, u64 amount."""
        return self._still(self.node, Step.UNSTAKE, u64(amount, "amount"))

    def withdraw(self) -> Instruction:
        """The node takes what has cooled down. Data: 5."""
        return self._moving(self.node, Step.WITHDRAW)

    def slash(self, amount: int, evidence: bytes) -> Instruction:
        """The slasher sets `amount` aside. Data: 6, u64 amount, 32 bytes of evidence."""
        return self._still(self.config.slasher, Step.SLASH, u64(amount, "amount") + digest(evidence, "evidence"))

    def appeal(self) -> Instruction:
        """The node appeals. Data: 7."""
        return self._still(self.node, Step.APPEAL)

    def judge(self, *, upheld: bool) -> Instruction:
        """The judge upholds a slash, or not. Data: 8, u64 1 or 0."""
        return self._moving(self.config.judge, Step.JUDGE, u64(int(upheld), "upheld"))

    def conclude(self, authority: Pubkey) -> Instruction:
        """Anybody has a slash ended whose time is over. Data: 9."""
        return self._moving(authority, Step.CONCLUDE)

    def claim_rewards(self) -> Instruction:
        """The node takes the rewards due, as far as the vault has them. Data: 10."""
        return self._moving(self.node, Step.CLAIM_REWARDS)

    def close(self) -> Instruction:
        """The node ends its empty stake; the rent goes back. Data: 11."""
        return self._moving(self.node, Step.CLOSE)

    def _still(self, authority: Pubkey, step: Step, arguments: bytes = b"") -> Instruction:
        accounts = [read_only(authority, signs=True), read_only(self.config.address), writable(self.address)]
        return Instruction(self.program, u64(step, "step") + arguments, accounts)

    def _moving(self, authority: Pubkey, step: Step, arguments: bytes = b"") -> Instruction:
        accounts = [
            read_only(authority, signs=True),
            read_only(self.config.address),
            writable(self.address),
            writable(self.vault),
            writable(self.config.rewards),
            writable(self.node_tokens or token_account(self.node, self.config.mint)),
            writable(self.payer or self.node),
            read_only(TOKEN_PROGRAM),
        ]
        return Instruction(self.program, u64(step, "step") + arguments, accounts)
