"""LiteSVM with the chain's time: executes transactions one after the other, the same way at each replay.

Signatures, blockhashes and repeats are checked before, by `chain`; so a replay does not pay for them again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from solders.account import Account
from solders.litesvm import LiteSVM
from solders.pubkey import Pubkey
from solders.token import ID as TOKEN_PROGRAM
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import FailedTransactionMetadata, TransactionMetadata

from cyxwiz.ledger.localnet.timeline import SLOT_MS, SLOTS_PER_EPOCH, Timeline
from cyxwiz.ledger.localnet.transactions import Keys, keys_of, tables_of

TABLE_PROGRAM = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")
TOKEN_ACCOUNT_SIZE = 165
SLOT_HASHES = 512  # slots whose hashes programs can ask for
_TABLE_HEADER = 56
_TOKEN_STATE = 108  # offset of the byte that says whether a token account is initialised
Balance = tuple[int, "Tokens | None"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a token account holds, in units."""

    mint: Pubkey
    owner: Pubkey
    amount: int

    @classmethod
    def of(cls, account: Account | None) -> Tokens | None:
        """None where the account is no initialised one of SPL Token."""
        if account is None or account.owner != TOKEN_PROGRAM:
            return None
        data = bytes(account.data)
        if len(data) != TOKEN_ACCOUNT_SIZE or not data[_TOKEN_STATE]:
            return None
        return cls(Pubkey(data[:32]), Pubkey(data[32:64]), int.from_bytes(data[64:72], "little"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What executing a transaction gave.

    Args:
        landed: whether it is on the chain; a failed one is when its fee was taken.
        error: None, or the error as Solana writes it in JSON.
        before: lamports and tokens of each of `keys` before it; `after`: after it. Tokens of written accounts only.
    """

    landed: bool
    error: Any
    meta: TransactionMetadata
    keys: Keys
    before: tuple[Balance, ...]
    after: tuple[Balance, ...]


class Machine:
    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._svm = LiteSVM().with_sigverify(False).with_blockhash_check(False).with_transaction_history(0)
        self._clock = self._svm.get_clock()
        self._no_slots = self._svm.get_slot_hashes()
        self._shown: tuple[int, int] | None = None  # slot and second
        self._set_time(0)

    def _set_time(self, at_ms: int) -> None:
        clock, slot, unix = self._clock, at_ms // SLOT_MS, self._timeline.unix(at_ms)
        if self._shown == (slot, unix):
            return
        self._shown = slot, unix
        epoch = slot // SLOTS_PER_EPOCH
        clock.slot = slot
        clock.epoch = epoch
        clock.leader_schedule_epoch = epoch + 1
        clock.epoch_start_timestamp = self._timeline.unix_of_slot(epoch * SLOTS_PER_EPOCH)
        clock.unix_timestamp = unix
        self._svm.set_clock(clock)

    def _tell_slots(self, keys: Keys, at_ms: int, *, known: bool) -> None:
        """Who makes an address table proves by the hashes of the latest slots that its address is a new one."""
        if TABLE_PROGRAM not in keys.addresses:
            return
        slot = at_ms // SLOT_MS
        latest = range(slot, max(-1, slot - SLOT_HASHES), -1)
        told = [(each, self._timeline.blockhash(each)) for each in latest] if known else self._no_slots
        self._svm.set_slot_hashes(told)

    def deploy(self, program: Pubkey, body: bytes) -> None:
        self._svm.add_program(program, body)

    def endow(self, address: Pubkey, lamports: int) -> None:
        """Makes lamports out of nothing, which only the genesis does."""
        self._svm.set_account(address, Account(lamports, b"", Pubkey.default(), False, 0))

    def account(self, address: Pubkey) -> Account | None:
        found = self._svm.get_account(address)
        return found if found is not None and found.lamports else None

    def owned_by(self, program: Pubkey) -> list[tuple[Pubkey, Account]]:
        own = self._svm.airdrop_pubkey()  # the machine's, which is no part of the chain: another at each start
        return [each for each in self._svm.get_program_accounts(program) if each[0] != own]

    def rent(self, size: int) -> int:
        return self._svm.minimum_balance_for_rent_exemption(size)

    def keys(self, transaction: VersionedTransaction) -> Keys:
        writable: list[Pubkey] = []
        read_only: list[Pubkey] = []
        for table, writes, reads in tables_of(transaction):
            held = self._svm.get_account(table)
            data = bytes(held.data)[_TABLE_HEADER:] if held is not None and held.owner == TABLE_PROGRAM else b""
            addresses = [Pubkey(data[at : at + 32]) for at in range(0, len(data) // 32 * 32, 32)]
            writable += [addresses[at] for at in writes if at < len(addresses)]
            read_only += [addresses[at] for at in reads if at < len(addresses)]
        return keys_of(transaction, writable, read_only)

    def execute(self, transaction: VersionedTransaction, at_ms: int, *, take_back: bool, slots: bool) -> Outcome:
        """Executes it at that time.

        Args:
            take_back: a transaction that fails leaves nothing, not even its fee: a preflight and the execution in one.
            slots: it may ask for the hashes of the latest slots.
        """
        self._set_time(at_ms)
        keys = self.keys(transaction)
        self._tell_slots(keys, at_ms, known=slots)
        payer = keys.addresses[0]
        paying = self._svm.get_account(payer) if take_back else None
        before = self._balances(keys)
        result = self._svm.send_transaction(transaction)
        if isinstance(result, TransactionMetadata):
            return Outcome(True, None, result, keys, before, self._balances(keys))
        after = self._balances(keys)
        charged = after[0] != before[0]
        if charged and paying is not None:
            self._svm.set_account(payer, paying)
            after = before
        return Outcome(charged and not take_back, error_of(result), result.meta(), keys, before, after)

    def _balances(self, keys: Keys) -> tuple[Balance, ...]:
        return tuple(map(self._balance, keys.addresses, keys.writable))

    def _balance(self, address: Pubkey, written: bool) -> Balance:
        if not written:  # without its data, which for a program are many
            return self._svm.get_balance(address) or 0, None
        account = self._svm.get_account(address)
        return (account.lamports, Tokens.of(account)) if account is not None else (0, None)

    def simulate(
        self, transaction: VersionedTransaction, at_ms: int
    ) -> tuple[Any, TransactionMetadata, dict[Pubkey, Account]]:
        """The error or None, the metadata, and the accounts as they would be."""
        self._set_time(at_ms)
        self._tell_slots(self.keys(transaction), at_ms, known=True)
        result = self._svm.simulate_transaction(transaction)
        if isinstance(result, FailedTransactionMetadata):
            return error_of(result), result.meta(), {}
        return None, result.meta(), dict(result.post_accounts())

    def show_time(self, at_ms: int) -> None:
        """Sets the clock's account, for those who read it."""
        self._set_time(at_ms)


def error_of(result: FailedTransactionMetadata) -> Any:
    return json.loads(result.to_json())["err"]
