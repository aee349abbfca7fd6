"""Token accounts of those whom an escrow pays, where their owners have closed them or given them away.

Neither the node nor the client may keep the other from its money by an account of its own that is gone.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from solders.instruction import Instruction
from solders.pubkey import Pubkey
from solders.system_program import CreateAccountWithSeedParams, create_account_with_seed
from solders.token import ID as TOKEN_PROGRAM

from cyxwiz.ledger.instructions.escrow import Payout
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
        elif bytes(account.data)[32:64] != bytes(owner):
            seed = hashlib.sha256(f"{escrow.address} {role}".encode()).hexdigest()[:32]
            spare = Pubkey.create_with_seed(payer, seed, TOKEN_PROGRAM)
            if await rpc.account(spare) is None:
                params = CreateAccountWithSeedParams(
                    from_pubkey=payer,
                    to_pubkey=spare,
                    base=payer,
                    seed=seed,
                    lamports=ACCOUNT_RENT,
                    space=ACCOUNT_BYTES,
                    owner=TOKEN_PROGRAM,
                )
                made += [create_account_with_seed(params), initialize(spare, owner, escrow.mint)]
            payout = replace(payout, **{f"{role}_tokens": spare})
    return made, payout
