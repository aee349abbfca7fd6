"""Taking back what an escrow of one's own still holds, by its client's key alone: no platform is asked.

What the program allows decides: an escrow that streams may be closed by its client at any time, a plain one is taken
back once its deadline is past, or while it has no node.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from solders.pubkey import Pubkey
from solders.signature import Signature

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ledger.escrows import chain_time
from cyxwiz.ledger.instructions.escrow import Escrow, Flag, Payout, state_address
from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.payees import mend
from cyxwiz.ledger.rpc import Rpc
from cyxwiz.ledger.sender import Failed, Intent, Sender
from cyxwiz.ports.clock import Clock


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """`units` came back to the client; `paid` had been, or was now, paid out to the node and the platform."""

    escrow: Pubkey
    signature: Signature
    units: int
    paid: int


async def reclaim(rpc: Rpc, clock: Clock, program: Pubkey, key: Key, job: bytes) -> Reclaimed:
    """Ends the escrow of this key for a job, and waits until that stands. The key pays the transaction's fee in SOL.

    Raises:
        CyxError: NOT_FOUND where there is no such escrow, CONFLICT while the program holds it for the job, FUNDS or
            INVALID as the cluster says, UNAVAILABLE when it can't be asked.
    """
    address = state_address(program, key.pubkey, job)
    account = await rpc.account(address)
    if account is None or not account.data:
        raise CyxError(
            Code.NOT_FOUND,
            f"{key.pubkey} has no escrow {address} for that job (program {program}): it has ended, or is elsewhere",
        )
    escrow = Escrow.decode(address, bytes(account.data))
    streams = Flag.STREAM in escrow.flags
    if not streams:
        _check_free(escrow, await chain_time(rpc, clock))
    made, payout = await mend(rpc, key.pubkey, Payout(program, escrow, key.pubkey))
    back = payout.close() if streams else payout.reclaim()
    ended = await Sender(rpc, clock).send(Intent((*made, back), (key,)), record=_nowhere)
    if isinstance(ended, Failed):
        raise ended.error
    paid = escrow.accrued if streams else escrow.released
    return Reclaimed(address, ended.signature, escrow.amount - paid, paid)


async def _nowhere(signature: Signature, raw: bytes, last_height: int) -> None:
    """What is lost with this process is done again: an escrow ends once."""


def _check_free(escrow: Escrow, now: int) -> None:
    frozen, deadline = (datetime.fromtimestamp(at, UTC) for at in (escrow.frozen_until, escrow.deadline))
    if now < escrow.frozen_until:
        raise CyxError(Code.CONFLICT, f"A dispute is open until {frozen:%Y-%m-%d %H:%M} UTC; take it back after that")
    if escrow.node is not None and now < escrow.deadline:
        raise CyxError(
            Code.CONFLICT,
            f"A node has the job: what it does not earn can be taken back from {deadline:%Y-%m-%d %H:%M} UTC on",
        )
