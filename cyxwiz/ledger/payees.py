"""Token accounts of those whom an escrow pays, where their owners have closed them or given them away.

Neither the node nor the client may keep the other from its money by an account of its own that is gone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from solders.account import Account
from solders.instruction import Instruction
from solders.pubkey import Pubkey
from solders.system_program import CreateAccountWithSeedParams, create_account_with_seed
from solders.token import ID as TOKEN_PROGRAM

from cyxwiz.ledger.instructions.escrow import Escrow, Payout
from cyxwiz.ledger.instructions.values import token_account
from cyxwiz.ledger.rpc import Rpc
from cyxwiz.ledger.tokens import ACCOUNT_BYTES, ACCOUNT_RENT, initialize, make_account


async def mend(rpc: Rpc, payer: Pubkey, payout: Payout) -> tuple[list[Instruction], Payout]:
    """What has to come before a payout so that nobody's account stands in its way, none where nothing does; and the
    payout into accounts that will be there.

    An associated account that is closed is made anew. One whose owner gave it to another key is passed by: a spare one
    of the same owner takes its place. `payer` signs and pays the rent of either.

    Raises:
        CyxError: UNAVAILABLE when the cluster can't be asked.
    """
    escrow = payout.escrow
    made: list[Instruction] = []
    for role, owner in (("node", escrow.node), ("client", escrow.client)):
        if owner is None:
            continue
        account = await rpc.account(token_account(owner, escrow.mint))
        if account is None:
            made.append(make_account(payer, owner, escrow.mint))
        elif not _belongs(account, owner):
            spare, makes = await _spare(rpc, payer, escrow, role, owner)
            made += makes
            payout = replace(payout, **{f"{role}_tokens": spare})
    return made, payout


def _belongs(account: Account, owner: Pubkey) -> bool:
    return bytes(account.data)[32:64] == bytes(owner)


async def _spare(
    rpc: Rpc, payer: Pubkey, escrow: Escrow, role: str, owner: Pubkey
) -> tuple[Pubkey, Sequence[Instruction]]:
    """An account of the owner's, with what makes it if it is not there. It is paid into in the same transaction: who
    gives that one away as well comes too late, and the next is another one."""
    number = 0
    while True:
        seed = hashlib.sha256(f"{escrow.address} {role} {number}".encode()).hexdigest()[:32]
        spare = Pubkey.create_with_seed(payer, seed, TOKEN_PROGRAM)
        account = await rpc.account(spare)
        if account is not None and _belongs(account, owner):
            return spare, ()
        if account is None:
            params = CreateAccountWithSeedParams(
                from_pubkey=payer,
                to_pubkey=spare,
                base=payer,
                seed=seed,
                lamports=ACCOUNT_RENT,
                space=ACCOUNT_BYTES,
                owner=TOKEN_PROGRAM,
            )
            return spare, (create_account_with_seed(params), initialize(spare, owner, escrow.mint))
        number += 1
