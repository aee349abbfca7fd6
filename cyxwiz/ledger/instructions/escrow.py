"""JobEscrow with its streaming mode: instructions and the account's decoder.

Instruction data is a u64 number of the instruction, then its arguments; all integers are little-endian. Instructions
that may pay take eight accounts: authority (signs), state, vault, node's tokens, fee account, client's tokens, payer of
the rent, SPL Token.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import lru_cache
from typing import Self

from solders.instruction import Instruction
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.token import ID as TOKEN_PROGRAM

from cyxwiz.domain.errors import invalid
from cyxwiz.ledger.instructions.values import (
    KEPT_ADDRESSES,
    digest,
    key_at,
    read_only,
    token_account,
    u32,
    u64,
    writable,
)

STATE_SIZE = 440
FORMER_SIZE = 400  # of a chain whose program was built before streams remembered when they earned what
PARTS = 4  # of an interval, by which they do
TAG = b"CXNESC01"
NOBODY = Pubkey.default()


class Step(IntEnum):
    """The number that instruction data begin with."""

    CREATE = 0
    ASSIGN = 1
    UNASSIGN = 2
    RELEASE = 3
    SETTLE = 4
    REFUND = 5
    DISPUTE = 6
    RESOLVE = 7
    RECLAIM = 8
    ATTEST = 9
    CLAIM = 10
    STOP = 11
    CLOSE = 12


class Flag(IntFlag):
    """Bits of the account's byte 10."""

    BORN_OPEN = 1
    STREAM = 2
    STOPPED = 4
    CLIENT_DISPUTED = 8
    NODE_DISPUTED = 16


@dataclass(frozen=True, slots=True)
class Terms:
    """What a client signs for.

    Args:
        job: the job's id, 16 bytes.
        amount: units locked, fees included.
        deadline: Unix seconds; from then on the client may take back what was not released.
        node: None leaves the choice to the platform.
        fee_bps: the platform's share of what is released, in basis points.
        window: seconds of a dispute.
        interval: seconds, 0 for an escrow without streaming.
        cap: units that any time as long as an interval earns at most, fees included.
    """

    client: Pubkey
    job: bytes
    mint: Pubkey
    platform: Pubkey
    arbiter: Pubkey
    fee_account: Pubkey
    amount: int
    deadline: int
    node: Pubkey | None = None
    fee_bps: int = 1000
    window: int = 86400
    interval: int = 0
    cap: int = 0


@dataclass(frozen=True, slots=True)
class Escrow:
    """The account, 440 bytes: tag 0 (8 bytes), bump u8 8, vault bump u8 9, flags u8 10, fee_bps u16 12, job 16 (16
    bytes), keys of 32 bytes client 32, payer 64, mint 96, platform 128, arbiter 160, fee account 192, node 224 (zero
    when open),
    vault 256, evidence 288, u64 amount 320, released 328, fees 336, accrued 344, i64 created_at 352, deadline 360,
    frozen_until 368, accrued_at 376, u64 cap 384, u32 interval 392, window 396, u64 earned 400 (5 of them).

    Args:
        earned: by a stream in the part of an interval that `accrued_at` lies in and in the four before it, each in the
            place of the part's number, counted from 1970, modulo 5; none in an account of the former size.
    """

    address: Pubkey
    flags: Flag
    fee_bps: int
    job: bytes
    client: Pubkey
    payer: Pubkey
    mint: Pubkey
    platform: Pubkey
    arbiter: Pubkey
    fee_account: Pubkey
    node: Pubkey | None
    vault: Pubkey
    evidence: bytes
    amount: int
    released: int
    fees: int
    accrued: int
    created_at: int
    deadline: int
    frozen_until: int
    accrued_at: int
    cap: int
    interval: int
    window: int
    earned: tuple[int, ...] = ()

    @classmethod
    def decode(cls, address: Pubkey, data: bytes) -> Self:
        """The escrow in an account's data.

        Raises:
            CyxError: INVALID when the data are none.
        """
        if len(data) not in (STATE_SIZE, FORMER_SIZE) or data[:8] != TAG:
            raise invalid(
                f"{address} is no escrow: expected {STATE_SIZE} bytes beginning with {TAG!r}, got {len(data)}"
            )
        client, payer, mint, platform, arbiter, fee_account, node, vault = (key_at(data, 32 * at) for at in range(1, 9))
        amount, released, fees, accrued = struct.unpack_from("<4Q", data, 320)
        created_at, deadline, frozen_until, accrued_at = struct.unpack_from("<4q", data, 352)
        cap, interval, window = struct.unpack_from("<Q2I", data, 384)
        earned = struct.unpack_from(f"<{PARTS + 1}Q", data, FORMER_SIZE) if len(data) == STATE_SIZE else ()
        return cls(
            address=address,
            flags=Flag(data[10]),
            fee_bps=int.from_bytes(data[12:14], "little"),
            job=data[16:32],
            client=client,
            payer=payer,
            mint=mint,
            platform=platform,
            arbiter=arbiter,
            fee_account=fee_account,
            node=None if node == NOBODY else node,
            vault=vault,
            evidence=data[288:320],
            amount=amount,
            released=released,
            fees=fees,
            accrued=accrued,
            created_at=created_at,
            deadline=deadline,
            frozen_until=frozen_until,
            accrued_at=accrued_at,
            cap=cap,
            interval=interval,
            window=window,
            earned=earned,
        )


@lru_cache(KEPT_ADDRESSES)
def state_address(program: Pubkey, client: Pubkey, job: bytes) -> Pubkey:
    """Seeds: "escrow", the client's key, the job's 16 bytes.

    Raises:
        CyxError: INVALID for a job id of another length.
    """
    if len(job) != 16:
        raise invalid(f"job: expected the 16 bytes of an id, got {len(job)}", field="job")
    return Pubkey.find_program_address([b"escrow", bytes(client), job], program)[0]


@lru_cache(KEPT_ADDRESSES)
def vault_address(program: Pubkey, state: Pubkey) -> Pubkey:
    """Seeds: "vault", the state's address."""
    return Pubkey.find_program_address([b"vault", bytes(state)], program)[0]


def create(program: Pubkey, terms: Terms, *, payer: Pubkey, source: Pubkey | None = None) -> Instruction:
    """Locks `terms.amount` out of `source`, a token account of the client's. The payer gets the rent back in the end.

    Data, 160 bytes: 0, job 16 bytes, u64 amount, i64 deadline, u64 cap, u32 interval, u32 window, u64 fee_bps, keys
    node (zero: open), platform, arbiter.

    Raises:
        CyxError: INVALID for a number that does not fit its field, or a job id that is not 16 bytes.
    """
    state = state_address(program, terms.client, terms.job)
    data = u64(Step.CREATE, "step") + terms.job + u64(terms.amount, "amount") + u64(terms.deadline, "deadline")
    data += u64(terms.cap, "cap") + u32(terms.interval, "interval") + u32(terms.window, "window")
    data += u64(terms.fee_bps, "fee_bps") + bytes(terms.node or NOBODY) + bytes(terms.platform) + bytes(terms.arbiter)
    accounts = [
        writable(payer, signs=True),
        read_only(terms.client, signs=True),
        writable(source or token_account(terms.client, terms.mint)),
        writable(state),
        writable(vault_address(program, state)),
        read_only(terms.mint),
        read_only(terms.fee_account),
        read_only(TOKEN_PROGRAM),
        read_only(SYSTEM_PROGRAM),
    ]
    return Instruction(program, data, accounts)


def assign(program: Pubkey, escrow: Escrow, node: Pubkey) -> Instruction:
    """The platform gives an open escrow its node. Data: 1, key of the node."""
    return _signed(program, escrow, escrow.platform, Step.ASSIGN, bytes(node))


def unassign(program: Pubkey, escrow: Escrow, authority: Pubkey) -> Instruction:
    """The platform or the node opens it again, when it was created open. Data: 2."""
    return _signed(program, escrow, authority, Step.UNASSIGN)


def dispute(program: Pubkey, escrow: Escrow, authority: Pubkey) -> Instruction:
    """The client or the node freezes releases for the window. Data: 6."""
    return _signed(program, escrow, authority, Step.DISPUTE)


def attest(program: Pubkey, escrow: Escrow, total: int, evidence: bytes) -> Instruction:
    """The platform says what was earned in all, fees included. Data: 9, u64 total, 32 bytes of evidence."""
    return _signed(program, escrow, escrow.platform, Step.ATTEST, u64(total, "total") + digest(evidence, "evidence"))


def stop(program: Pubkey, escrow: Escrow) -> Instruction:
    """The client ends what the stream earns. Data: 11."""
    return _signed(program, escrow, escrow.client, Step.STOP)


@dataclass(frozen=True, slots=True)
class Payout:
    """An instruction that may pay, but for its step: who signs and where tokens go.

    Args:
        node_tokens, client_tokens: token accounts of these keys; None takes the associated ones.
    """

    program: Pubkey
    escrow: Escrow
    authority: Pubkey
    node_tokens: Pubkey | None = None
    client_tokens: Pubkey | None = None

    def release(self, total: int) -> Instruction:
        """The platform raises what was paid out to `total`. Data: 3, u64 total."""
        return self._build(Step.RELEASE, u64(total, "total"))

    def settle(self, total: int) -> Instruction:
        """The platform pays up to `total`, gives the rest back and ends the accounts. Data: 4, u64 total."""
        return self._build(Step.SETTLE, u64(total, "total"))

    def refund(self) -> Instruction:
        """The platform or the node gives the rest back to the client. Data: 5."""
        return self._build(Step.REFUND)

    def resolve(self, total: int) -> Instruction:
        """The arbiter ends a dispute: `total` is the node's in all, the rest the client's. Data: 7, u64 total."""
        return self._build(Step.RESOLVE, u64(total, "total"))

    def reclaim(self) -> Instruction:
        """The client takes the rest back. Data: 8."""
        return self._build(Step.RECLAIM)

    def claim(self) -> Instruction:
        """The node or the platform has the earned part of a stream paid. Data: 10."""
        return self._build(Step.CLAIM)

    def close(self) -> Instruction:
        """Client, node or platform ends a stream: the earned part is paid, the rest given back. Data: 12."""
        return self._build(Step.CLOSE)

    def _build(self, step: Step, arguments: bytes = b"") -> Instruction:
        escrow = self.escrow
        client_tokens = self.client_tokens or token_account(escrow.client, escrow.mint)
        node_tokens = self.node_tokens or (token_account(escrow.node, escrow.mint) if escrow.node else client_tokens)
        accounts = [
            read_only(self.authority, signs=True),
            writable(escrow.address),
            writable(escrow.vault),
            writable(node_tokens),
            writable(escrow.fee_account),
            writable(client_tokens),
            writable(escrow.payer),
            read_only(TOKEN_PROGRAM),
        ]
        return Instruction(self.program, u64(step, "step") + arguments, accounts)


def _signed(program: Pubkey, escrow: Escrow, authority: Pubkey, step: Step, arguments: bytes = b"") -> Instruction:
    accounts = [read_only(authority, signs=True), writable(escrow.address)]
    return Instruction(program, u64(step, "step") + arguments, accounts)
