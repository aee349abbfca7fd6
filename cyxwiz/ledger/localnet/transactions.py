"""Signed transactions as they come over the wire: decoding, what they lock, what they offer for priority."""

from __future__ import annotations

from dataclasses import dataclass

from solders.compute_budget import ID as COMPUTE_BUDGET
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import Legacy, VersionedTransaction

from cyxwiz.domain.errors import invalid, unsupported
from cyxwiz.ledger.tokens import MEMO_PROGRAM

MAX_BYTES = 1232
_MEMO_PROGRAMS = (MEMO_PROGRAM, Pubkey.from_string("Memo1UhkJRfHyvLMcVucJwxXeuD728EqVddwQDxFMNo"))
_SET_PRICE = 3  # the compute budget's instruction "set compute unit price": this byte, then a u64


def decode(raw: bytes) -> VersionedTransaction:
    """The transaction in its wire format.

    Raises:
        CyxError: INVALID for what is none, UNSUPPORTED for a version later than 0.
    """
    if len(raw) > MAX_BYTES:
        raise invalid(f"transaction of {len(raw)} bytes, at most {MAX_BYTES}")
    try:
        transaction = VersionedTransaction.from_bytes(raw)
        version = transaction.version()
        transaction.sanitize()
    except Exception as error:  # solders has no common base for its decoding errors
        raise invalid(f"no transaction: {error}") from None
    if version != Legacy.Legacy and version != 0:
        raise unsupported(f"transaction version {version}: versions are legacy and 0")
    if bytes(transaction) != raw:
        raise invalid("no transaction: bytes are left over, or it is not in its shortest form")
    return transaction


@dataclass(frozen=True, slots=True)
class Keys:
    """The accounts that a transaction names, in the order of its indices.

    Args:
        addresses: the message's own, then those loaded from tables, writable ones first.
        writable: a flag for each.
        loaded: how many of the writable and of the read-only ones come from tables.
    """

    addresses: tuple[Pubkey, ...]
    writable: tuple[bool, ...]
    loaded: tuple[int, int] = (0, 0)

    def writable_addresses(self) -> set[Pubkey]:
        return {address for address, flag in zip(self.addresses, self.writable, strict=True) if flag}


def keys_of(
    transaction: VersionedTransaction, writable: list[Pubkey] | None = None, read_only: list[Pubkey] | None = None
) -> Keys:
    """The accounts of a transaction, given what its address tables hold."""
    message = transaction.message
    own, header = message.account_keys, message.header
    signed = header.num_required_signatures
    signed_writable = signed - header.num_readonly_signed_accounts
    unsigned_writable = len(own) - header.num_readonly_unsigned_accounts
    flags = [at < signed_writable if at < signed else at < unsigned_writable for at in range(len(own))]
    more, rest = writable or [], read_only or []
    return Keys(
        (*own, *more, *rest), (*flags, *(True for _ in more), *(False for _ in rest)), loaded=(len(more), len(rest))
    )


def tables_of(transaction: VersionedTransaction) -> list[tuple[Pubkey, bytes, bytes]]:
    """Address tables that a transaction uses: the table, its writable and its read-only indices."""
    message = transaction.message
    if not isinstance(message, MessageV0):
        return []
    return [(each.account_key, each.writable_indexes, each.readonly_indexes) for each in message.address_table_lookups]


def price_of(transaction: VersionedTransaction) -> int:
    """Micro-lamports for a compute unit that it offers."""
    message = transaction.message
    own = message.account_keys
    for each in message.instructions:
        data = bytes(each.data)
        if own[each.program_id_index] == COMPUTE_BUDGET and len(data) == 9 and data[0] == _SET_PRICE:
            return int.from_bytes(data[1:], "little")
    return 0


def memos_of(transaction: VersionedTransaction) -> str | None:
    """Its memos in one line, as Solana writes them."""
    message = transaction.message
    own = message.account_keys
    memos = [bytes(each.data) for each in message.instructions if own[each.program_id_index] in _MEMO_PROGRAMS]
    return "; ".join(f"[{len(memo)}] {_text(memo)}" for memo in memos) or None


def _text(memo: bytes) -> str:
    try:
        return memo.decode()
    except UnicodeDecodeError:
        return "(unparseable)"


def signature_of(transaction: VersionedTransaction) -> Signature:
    """What a transaction goes by: the payer's signature."""
    return transaction.signatures[0]
