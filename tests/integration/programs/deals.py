"""A client, a node, a platform and their escrows on a chain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from cyxwiz.ledger.instructions import escrow as builders
from cyxwiz.ledger.instructions.errors import ProgramError
from cyxwiz.ledger.instructions.escrow import Escrow, Payout, Terms
from cyxwiz.ledger.programs import Program, local_id
from tests.integration.programs.chain import Chain, Refused, person

ESCROW = local_id(Program.ESCROW)
JOB = bytes(range(16))
EVIDENCE = bytes([7]) * 32
AMOUNT = 1_000_000_007
DAY = 86400


class Deal:
    """One chain with one client, one node, one platform; escrows by job."""

    def __init__(self) -> None:
        self.chain = Chain()
        self.client, self.node, self.platform = person("client"), person("node"), person("platform")
        self.arbiter, self.stranger = person("arbiter"), person("stranger")
        everybody = (self.client, self.node, self.platform, self.arbiter, self.stranger)
        self.chain.fund(*(each.pubkey() for each in everybody))
        self.client_tokens = self.chain.make_tokens(self.client.pubkey(), 10 * AMOUNT)
        self.node_tokens = self.chain.make_tokens(self.node.pubkey())
        self.fee_account = self.chain.make_tokens(self.platform.pubkey())
        self.stranger_tokens = self.chain.make_tokens(self.stranger.pubkey(), AMOUNT)

    def terms(self, **changes: Any) -> Terms:
        base = Terms(
            client=self.client.pubkey(),
            job=JOB,
            mint=self.chain.mint,
            platform=self.platform.pubkey(),
            arbiter=self.arbiter.pubkey(),
            fee_account=self.fee_account,
            amount=AMOUNT,
            deadline=self.chain.now + 7 * DAY,
            node=self.node.pubkey(),
        )
        return replace(base, **changes)

    def create_instruction(self, **changes: Any) -> Instruction:
        return builders.create(ESCROW, self.terms(**changes), payer=self.client.pubkey())

    def create(self, **changes: Any) -> Escrow:
        terms = self.terms(**changes)
        self.chain.send(builders.create(ESCROW, terms, payer=self.client.pubkey()), by=[self.client])
        return self.escrow(terms.job)

    def stream(self, **changes: Any) -> Escrow:
        return self.create(**{"interval": 60, "cap": 6000, **changes})

    def escrow(self, job: bytes = JOB) -> Escrow:
        address = builders.state_address(ESCROW, self.client.pubkey(), job)
        return Escrow.decode(address, self.chain.data(address))

    def payout(self, by: Keypair, escrow: Escrow | None = None, **changes: Any) -> Payout:
        return Payout(ESCROW, escrow or self.escrow(), by.pubkey(), **changes)

    def balances(self) -> tuple[int, int, int]:
        """Units of the client, the node and the platform."""
        places = (self.client_tokens, self.node_tokens, self.fee_account)
        client, node, fee = (self.chain.balance(place) for place in places)
        return client, node, fee

    def send(self, instruction: Instruction, by: Keypair) -> int:
        return self.chain.send(instruction, by=[by])

    def refused(self, instruction: Instruction, by: Keypair, error: ProgramError) -> None:
        """The instruction fails with that error, and no token moves."""
        before = self.balances()
        with pytest.raises(Refused) as caught:
            self.send(instruction, by)
        assert caught.value.error == error, caught.value
        assert self.balances() == before


def ended(deal: Deal, escrow: Escrow) -> bool:
    """Whether both accounts are gone."""
    gone: tuple[Pubkey, Pubkey] = (escrow.address, escrow.vault)
    return all(deal.chain.account(address) is None for address in gone)
