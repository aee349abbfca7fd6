"""Tokens that leave the platform's keeping: of a user's balance to a wallet."""

from __future__ import annotations

import uuid

from solders.instruction import Instruction
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM

from cyxwiz.domain.errors import invalid
from cyxwiz.domain.ids import UserId
from cyxwiz.domain.payment import Movement
from cyxwiz.ledger.chain_stakes import Accounts
from cyxwiz.ledger.deployment import Deployment
from cyxwiz.ledger.instructions.values import token_account
from cyxwiz.ledger.rpc import Rpc
from cyxwiz.ledger.sending import Prepared, Send
from cyxwiz.ledger.tokens import memo, transfer
from cyxwiz.ports.clock import Clock

WITHDRAW = "withdraw"


class Withdrawals:
    """The platform pays the fees. It opens an account for a wallet only where it makes SOL itself: elsewhere the rent
    of accounts that their owners close again would drain it."""

    def __init__(self, clock: Clock, rpc: Rpc, send: Send, deployment: Deployment, accounts: Accounts) -> None:
        self._clock = clock
        self._rpc = rpc
        self._send = send
        self._at = deployment
        self._accounts = accounts

    async def to(self, user_id: UserId, wallet: Pubkey, units: int, key: str) -> str:
        """Sends so much, once a key; returns the transaction.

        Raises:
            CyxError: INVALID for what is no wallet, or has no account for CYXWIZ and is opened none; FUNDS.
        """
        owner = self._accounts.user_key(user_id)
        account, ident = str(owner.pubkey), str(uuid.uuid5(uuid.UUID(user_id), f"withdraw {key}"))

        async def prepare() -> Prepared:
            opens = await self._opening(wallet)
            await self._accounts.afford(account, units)
            moves = transfer(owner.pubkey, wallet, self._at.mint, units)
            return [memo(ident), *opens, moves], [self._at.platform, owner]

        at = self._clock.now()
        moved = Movement("", WITHDRAW, units, account, str(wallet), at, payment_id=ident, owner_id=user_id)
        return await self._send.once(moved, prepare)

    async def _opening(self, wallet: Pubkey) -> list[Instruction]:
        there = await self._rpc.account(wallet)
        if there is not None and there.owner != SYSTEM_PROGRAM:  # such as a token account: nobody could move it on
            raise invalid(f"to: {wallet} is an account of a program, no wallet: give its owner's address", field="to")
        if self._at.faucet is not None:
            return [self._accounts.make_account(wallet)]
        if await self._rpc.account(token_account(wallet, self._at.mint)) is None:
            how = f"`spl-token create-account {self._at.mint} --owner {wallet}`"
            raise invalid(f"to: {wallet} has no account for CYXWIZ yet: open one first, {how}", field="to")
        return []
