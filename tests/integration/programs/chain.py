"""A Solana virtual machine in process, with the programs deployed, a mint of nine decimals, and people with tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.message import Message
from solders.pubkey import Pubkey
from solders.system_program import CreateAccountParams, create_account
from solders.token import ID as TOKEN_PROGRAM
from solders.token.associated import get_associated_token_address
from solders.transaction import Transaction
from solders.transaction_metadata import FailedTransactionMetadata, TransactionMetadata

from cyxwiz.ledger.instructions.errors import ProgramError, program_error
from cyxwiz.ledger.programs import Program, binary, local_id

ASSOCIATED_TOKEN_PROGRAM = Pubkey.from_string("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")
SYSTEM_PROGRAM = Pubkey.default()
SOL = 10**9
START = 1_800_000_000
BINARIES = {program: binary(program) for program in Program}


class Refused(Exception):
    """A transaction that failed. `error` is the program's own refusal, None when another rule stopped it."""

    def __init__(self, failed: FailedTransactionMetadata) -> None:
        super().__init__(f"{failed.err()}: {failed.meta().logs()[-4:]}")
        self.error: ProgramError | None = program_error(failed.err())


def person(name: str) -> Keypair:
    """The same key for the same name, in every run."""
    return Keypair.from_seed(name.encode().ljust(32, b"\0"))


class Chain:
    def __init__(self) -> None:
        self.svm = LiteSVM()
        for program in Program:
            self.svm.add_program(local_id(program), BINARIES[program])
        self.bank = person("bank")
        self.svm.airdrop(self.bank.pubkey(), 100_000 * SOL)
        self.now = START
        self.set_time(START)
        self.used = 0  # compute units of the last transaction
        self.mint = self.make_mint("mint")

    def set_time(self, now: int) -> None:
        clock = self.svm.get_clock()
        clock.unix_timestamp = now
        self.svm.set_clock(clock)
        self.now = now

    def wait(self, seconds: int) -> None:
        self.set_time(self.now + seconds)

    def send(self, *instructions: Instruction, by: Sequence[Keypair] = (), payer: Keypair | None = None) -> int:
        """Executes them in one transaction; the compute units it took.

        Raises:
            Refused: it failed, and changed nothing but the fee.
        """
        self.svm.expire_blockhash()  # else a transaction that looks like an earlier one is that one
        payer = payer or self.bank
        signers = {key.pubkey(): key for key in (payer, *by)}
        message = Message.new_with_blockhash(list(instructions), payer.pubkey(), self.svm.latest_blockhash())
        result = self.svm.send_transaction(Transaction(list(signers.values()), message, self.svm.latest_blockhash()))
        if not isinstance(result, TransactionMetadata):
            raise Refused(result)
        self.used = result.compute_units_consumed()
        return self.used

    def make_mint(self, name: str, *, freezer: Keypair | None = None) -> Pubkey:
        mint, authority = person(name), bytes(self.bank.pubkey())
        rent = self.svm.minimum_balance_for_rent_exemption(82)
        make = create_account(
            CreateAccountParams(
                from_pubkey=self.bank.pubkey(), to_pubkey=mint.pubkey(), lamports=rent, space=82, owner=TOKEN_PROGRAM
            )
        )
        freeze = b"\1" + bytes(freezer.pubkey()) if freezer else b"\0"
        initialise = Instruction(
            TOKEN_PROGRAM, b"\x14\x09" + authority + freeze, [AccountMeta(mint.pubkey(), False, True)]
        )
        self.send(make, initialise, by=[mint])
        return mint.pubkey()

    def make_tokens(self, owner: Pubkey, amount: int = 0, mint: Pubkey | None = None) -> Pubkey:
        """The associated token account of `owner` with `amount` more units in it."""
        mint = mint or self.mint
        address = get_associated_token_address(owner, mint)
        metas = [
            AccountMeta(self.bank.pubkey(), True, True),
            AccountMeta(address, False, True),
            AccountMeta(owner, False, False),
            AccountMeta(mint, False, False),
            AccountMeta(SYSTEM_PROGRAM, False, False),
            AccountMeta(TOKEN_PROGRAM, False, False),
        ]
        issue = [
            AccountMeta(mint, False, True),
            AccountMeta(address, False, True),
            AccountMeta(self.bank.pubkey(), True, False),
        ]
        instructions = [Instruction(ASSOCIATED_TOKEN_PROGRAM, b"\1", metas)]
        if amount:
            instructions.append(Instruction(TOKEN_PROGRAM, b"\7" + amount.to_bytes(8, "little"), issue))
        self.send(*instructions)
        return address

    def extra_tokens(self, name: str, owner: Pubkey, mint: Pubkey | None = None) -> Pubkey:
        """A token account of `owner` that is not the associated one."""
        account = person(name)
        make = create_account(
            CreateAccountParams(
                from_pubkey=self.bank.pubkey(),
                to_pubkey=account.pubkey(),
                lamports=self.svm.minimum_balance_for_rent_exemption(165),
                space=165,
                owner=TOKEN_PROGRAM,
            )
        )
        metas = [AccountMeta(account.pubkey(), False, True), AccountMeta(mint or self.mint, False, False)]
        self.send(make, Instruction(TOKEN_PROGRAM, b"\x12" + bytes(owner), metas), by=[account])
        return account.pubkey()

    def pay_tokens(self, source: Pubkey, target: Pubkey, amount: int, owner: Keypair) -> None:
        metas = [
            AccountMeta(source, False, True),
            AccountMeta(target, False, True),
            AccountMeta(owner.pubkey(), True, False),
        ]
        self.send(Instruction(TOKEN_PROGRAM, b"\3" + amount.to_bytes(8, "little"), metas), by=[owner])

    def fund(self, *keys: Pubkey) -> None:
        for key in keys:
            self.svm.airdrop(key, 10 * SOL)

    def account(self, address: Pubkey) -> Account | None:
        found = self.svm.get_account(address)
        return found if found is not None and found.lamports else None

    def data(self, address: Pubkey) -> bytes:
        account = self.account(address)
        assert account is not None, f"{address} is not there"
        return bytes(account.data)

    def balance(self, address: Pubkey) -> int:
        """Units in a token account; 0 where there is none."""
        account = self.account(address)
        return int.from_bytes(bytes(account.data)[64:72], "little") if account else 0

    def plant(self, address: Pubkey, **changes: Any) -> None:
        """Puts an account there that no transaction would have made: what a forger would like to have."""
        old = self.svm.get_account(address)
        base = {"lamports": 10**7, "data": b"", "owner": SYSTEM_PROGRAM}
        if old is not None:
            base = {"lamports": old.lamports, "data": bytes(old.data), "owner": old.owner}
        made = {**base, **changes}
        self.svm.set_account(address, Account(made["lamports"], made["data"], made["owner"], False, 0))


def swap(instruction: Instruction, at: int, key: Pubkey) -> Instruction:
    """The same instruction with another key as its account `at`."""
    metas = list(instruction.accounts)
    metas[at] = AccountMeta(key, metas[at].is_signer, metas[at].is_writable)
    return Instruction(instruction.program_id, bytes(instruction.data), metas)


def mark(instruction: Instruction, at: int, *, signs: bool | None = None, writable: bool | None = None) -> Instruction:
    """The same instruction with other rights of its account `at`."""
    metas = list(instruction.accounts)
    old = metas[at]
    metas[at] = AccountMeta(
        old.pubkey, old.is_signer if signs is None else signs, old.is_writable if writable is None else writable
    )
    return Instruction(instruction.program_id, bytes(instruction.data), metas)


def with_data(instruction: Instruction, data: bytes) -> Instruction:
    return Instruction(instruction.program_id, data, list(instruction.accounts))
