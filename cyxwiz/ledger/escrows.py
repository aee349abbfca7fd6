"""What an escrow and its recorded transactions say, and when it is."""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from solders.pubkey import Pubkey
from solders.token import ID as TOKEN_PROGRAM

from cyxwiz.domain.base58 import decode
from cyxwiz.domain.payment import Done, Movement, Payment, fee_of
from cyxwiz.ledger.instructions.escrow import PARTS, Escrow, Flag
from cyxwiz.ledger.rpc import Rpc
from cyxwiz.ledger.sending import CONFIRMED
from cyxwiz.ledger.tokens import CLOSE, TRANSFER
from cyxwiz.ports.clock import Clock

CLOCK = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")


async def chain_time(rpc: Rpc, clock: Clock) -> int:
    """Unix seconds of the cluster's clock; the program reads the same. This machine's where there is none."""
    account = await rpc.account(CLOCK)
    if account is None:
        return int(clock.now().timestamp())
    return int.from_bytes(bytes(account.data)[32:40], "little", signed=True)


def job_bytes(payment: Payment) -> bytes:
    """The 16 bytes that name the escrow beside its client."""
    return uuid.UUID(payment.id).bytes


def evidence(payment: Payment) -> bytes:
    """What the platform attests by: a digest of the job, the lease's number and how far it was."""
    return hashlib.sha256(f"{payment.job_id}:{payment.attempt}:{payment.progress!r}".encode()).digest()


def allowance(held: Escrow, now: int) -> int:
    """What a stream may earn at once at a Unix second: as the program computes it."""
    if Flag.STOPPED in held.flags:
        return 0
    until = min(now, held.deadline)
    span = min(max(0, until - held.accrued_at), held.interval)
    by_time, by_interval = held.cap * span // held.interval, held.cap - _earned_lately(held, until)
    return min(by_time, by_interval, held.amount - held.accrued)


def _earned_lately(held: Escrow, until: int) -> int:
    """What a stream has earned within the parts of an interval that one which ends at `until` can reach back to."""
    if not held.earned:
        return 0
    seconds = math.ceil(held.interval / PARTS)
    last, current = held.accrued_at // seconds, until // seconds
    earliest = max(current - math.ceil(held.interval / seconds), last - PARTS)
    return sum(held.earned[part % len(held.earned)] for part in range(earliest, last + 1))


def in_dispute(held: Escrow) -> str:
    """What is said of an escrow that a dispute freezes."""
    until = datetime.fromtimestamp(held.frozen_until, UTC)
    return f"A dispute is open until {until:%Y-%m-%d %H:%M} UTC: its arbiter decides, or it goes on then"


async def how_it_ended(rpc: Rpc, payment: Payment, moves: Sequence[Movement], escrow: Pubkey, vault: Pubkey) -> Done:
    """How an escrow ended that was locked and is gone: by what was recorded before it was sent, else, as its client,
    its node or the arbiter ended it, by the transaction on the chain that did."""
    landed = [move for move in moves if move.state == CONFIRMED]
    total = sum(move.units for move in landed if move.kind in ("pay", "settle", "refund"))
    last = next((move.reference for move in reversed(landed) if move.kind in ("settle", "refund")), "")
    if not last and (document := await _ending(rpc, escrow, vault)) is not None:
        back = min(given_back(document, vault, payment.client), payment.amount_units - total)
        return Done(
            document["transaction"]["signatures"][0],
            paid_units=payment.amount_units - back,
            refunded_units=back,
        )
    return Done(last, paid_units=total, refunded_units=payment.amount_units - total)


def ended_by_others(movement: Movement, payment: Payment, moves: Sequence[Movement], done: Done) -> Movement | None:
    """The transaction by which somebody else ended an escrow, to be recorded as those of the platform are; None where
    it is recorded.

    Args:
        movement: of the payment's end, without amounts.
    """
    if not done.reference or any(each.reference == done.reference for each in moves):
        return None
    landed = [each for each in moves if each.state == CONFIRMED and each.kind == "pay"]
    units = done.paid_units - sum(each.units for each in landed)
    fee = fee_of(done.paid_units, payment.fee_bps) - sum(each.fee_units for each in landed)
    return replace(
        movement,
        reference=done.reference,
        kind="settle" if units else "refund",
        units=units,
        fee_units=fee,
        back_units=done.refunded_units,
        confirmed_at=movement.at,
    )


async def _ending(rpc: Rpc, escrow: Pubkey, vault: Pubkey) -> dict[str, Any] | None:
    """The transaction that closed an escrow's vault. It need not be the last one: anybody can name the escrow's address
    in others afterwards."""
    for signature in await rpc.naming(escrow):
        document = await rpc.transaction(signature)
        if document is not None and any(data == CLOSE and at[0] == str(vault) for data, at, _ in _inner(document)):
            return document
    return None


def given_back(document: Mapping[str, Any], vault: Pubkey, client: str) -> int:
    """Units that a transaction moved out of a vault into accounts of the client's, by the transfers that it made within
    its instructions.

    Args:
        document: of getTransaction, in the encoding "json".
    """
    units = 0
    for data, at, owners in _inner(document):
        if data[:1] == TRANSFER and at[0] == str(vault):
            units += int.from_bytes(data[1:9], "little") if owners[1] == client else 0
    return units


def _inner(document: Mapping[str, Any]) -> Iterator[tuple[bytes, list[str], list[str | None]]]:
    """SPL Token's instructions that were made within those of a transaction: data, accounts, the accounts' owners."""
    meta, loaded = document["meta"], document["meta"].get("loadedAddresses") or {}
    keys = document["transaction"]["message"]["accountKeys"]
    keys = [*keys, *loaded.get("writable", ()), *loaded.get("readonly", ())]
    balances = [*(meta["preTokenBalances"] or ()), *(meta["postTokenBalances"] or ())]
    owners = {each["accountIndex"]: each["owner"] for each in balances}
    for inner in (each for group in meta["innerInstructions"] or () for each in group["instructions"]):
        if keys[inner["programIdIndex"]] == str(TOKEN_PROGRAM):
            places = inner["accounts"]
            yield decode(inner["data"]), [keys[place] for place in places], [owners.get(place) for place in places]
