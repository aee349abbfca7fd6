"""Instructions of SPL Token on the accounts that belong to a key and a mint (associated token accounts)."""

from __future__ import annotations

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.token import ID as TOKEN_PROGRAM

from cyxwiz.ledger.instructions.values import token_account, u64

ASSOCIATED_TOKEN_PROGRAM = Pubkey.from_string("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")
MEMO_PROGRAM = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
CREATE_IDEMPOTENT, TRANSFER, CLOSE, INITIALIZE = b"\x01", b"\x03", b"\x09", b"\x12"
ACCOUNT_BYTES, ACCOUNT_RENT = 165, 2_039_280  # of a token account; lamports that keep it there


def memo(text: str) -> Instruction:
    """Says something, which also makes two transactions differ that are otherwise the same."""
    return Instruction(MEMO_PROGRAM, text.encode(), [])


def make_account(payer: Pubkey, owner: Pubkey, mint: Pubkey) -> Instruction:
    """Makes the account unless it is there."""
    accounts = [
        AccountMeta(payer, True, True),
        AccountMeta(token_account(owner, mint), False, True),
        AccountMeta(owner, False, False),
        AccountMeta(mint, False, False),
        AccountMeta(SYSTEM_PROGRAM, False, False),
        AccountMeta(TOKEN_PROGRAM, False, False),
    ]
    return Instruction(ASSOCIATED_TOKEN_PROGRAM, CREATE_IDEMPOTENT, accounts)


def initialize(account: Pubkey, owner: Pubkey, mint: Pubkey) -> Instruction:
    """Makes a new account of the token program's one of `owner`."""
    accounts = [AccountMeta(account, False, True), AccountMeta(mint, False, False)]
    return Instruction(TOKEN_PROGRAM, INITIALIZE + bytes(owner), accounts)


def transfer(source: Pubkey, destination: Pubkey, mint: Pubkey, units: int) -> Instruction:
    """`source` signs. Raises CyxError INVALID for an amount that does not fit."""
    return transfer_into(source, token_account(destination, mint), mint, units)


def transfer_into(source: Pubkey, account: Pubkey, mint: Pubkey, units: int) -> Instruction:
    """As `transfer`, into a token account that is named itself, such as a program's vault."""
    accounts = [
        AccountMeta(token_account(source, mint), False, True),
        AccountMeta(account, False, True),
        AccountMeta(source, True, False),
    ]
    return Instruction(TOKEN_PROGRAM, TRANSFER + u64(units, "amount"), accounts)
