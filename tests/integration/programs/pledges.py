"""An admin, a slasher, a judge and nodes with stakes on a chain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from solders.instruction import Instruction
from solders.keypair import Keypair

from cyxwiz.ledger.instructions import staking as builders
from cyxwiz.ledger.instructions.errors import ProgramError
from cyxwiz.ledger.instructions.staking import Config, Rules, Stake, Staking
from cyxwiz.ledger.programs import Program, local_id
from tests.integration.programs.chain import Chain, Refused, person

STAKING = local_id(Program.STAKING)
EVIDENCE = bytes([9]) * 32
DAY = 86400
MINIMUM, COOLDOWN, APPEAL = 1000, 7 * DAY, 2 * DAY
TOKENS = 1_000_000


class Pledges:
    def __init__(self, **changes: Any) -> None:
        self.chain = Chain()
        self.admin, self.slasher, self.judge = person("admin"), person("slasher"), person("judge")
        self.node, self.other, self.stranger = person("node"), person("other node"), person("stranger")
        for each in (self.admin, self.slasher, self.judge, self.node, self.other, self.stranger):
            self.chain.fund(each.pubkey())
        self.node_tokens = self.chain.make_tokens(self.node.pubkey(), TOKENS)
        self.other_tokens = self.chain.make_tokens(self.other.pubkey(), TOKENS)
        self.stranger_tokens = self.chain.make_tokens(self.stranger.pubkey(), TOKENS)
        self.rules = replace(
            Rules(self.slasher.pubkey(), self.judge.pubkey(), MINIMUM, COOLDOWN, APPEAL, 1000), **changes
        )
        self.chain.send(self.configure_instruction(), by=[self.admin])

    def configure_instruction(self, admin: Keypair | None = None, **changes: Any) -> Instruction:
        rules, admin = replace(self.rules, **changes), admin or self.admin
        return builders.configure(STAKING, rules, payer=admin.pubkey(), admin=admin.pubkey(), mint=self.chain.mint)

    @property
    def config(self) -> Config:
        address = builders.config_address(STAKING, self.admin.pubkey(), self.chain.mint)
        return Config.decode(address, self.chain.data(address))

    def staking(self, node: Keypair | None = None) -> Staking:
        return Staking(STAKING, self.config, (node or self.node).pubkey())

    def stake(self, node: Keypair | None = None) -> Stake:
        address = self.staking(node).address
        return Stake.decode(address, self.chain.data(address))

    def pledge(self, amount: int, node: Keypair | None = None) -> None:
        node = node or self.node
        self.chain.send(self.staking(node).open(), self.staking(node).deposit(amount), by=[node])

    def fund_rewards(self, amount: int) -> None:
        self.chain.pay_tokens(self.stranger_tokens, self.config.rewards, amount, self.stranger)

    def send(self, instruction: Instruction, by: Keypair) -> int:
        return self.chain.send(instruction, by=[by])

    def balances(self) -> tuple[int, ...]:
        """Units of the node, its vault and the rewards vault."""
        places = (self.node_tokens, self.staking().vault, self.config.rewards)
        return tuple(self.chain.balance(place) for place in places)

    def refused(self, instruction: Instruction, by: Keypair, error: ProgramError) -> None:
        before = self.balances()
        with pytest.raises(Refused) as caught:
            self.send(instruction, by)
        assert caught.value.error == error, caught.value
        assert self.balances() == before
