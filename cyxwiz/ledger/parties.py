"""What each party of an escrow does with its key alone, on the chain itself: no platform is asked.

What the program allows decides (docs/programs.md); what it would refuse is said here in words, before a fee is paid.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from solders.instruction import Instruction
from solders.pubkey import Pubkey
from solders.signature import Signature

from cyxwiz.domain.errors import Code, CyxError, conflict, forbidden, invalid
from cyxwiz.domain.money import format_cyxwiz
from cyxwiz.ledger.escrows import chain_time, in_dispute
from cyxwiz.ledger.instructions import escrow as program_of
from cyxwiz.ledger.instructions.escrow import Escrow, Flag, Payout, state_address
from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.payees import mend
from cyxwiz.ledger.rpc import Rpc
from cyxwiz.ledger.sender import Failed, Intent, Sender
from cyxwiz.ports.clock import Clock


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an escrow: units that are paid out in all, and that came back to its client now.

    Args:
        frozen_until: the end of the dispute that was opened, in Unix seconds; 0 for none.
    """

    escrow: Pubkey
    signature: Signature
    paid: int
    back: int = 0
    frozen_until: int = 0


class Party:
    """A key on its own. It pays the fees of its transactions in SOL; each method waits until what it did stands.

    Raises, in every method: FUNDS or INVALID as the cluster says, UNAVAILABLE when it can't be asked.
    """

    def __init__(self, rpc: Rpc, clock: Clock, program: Pubkey, key: Key) -> None:
        self._rpc = rpc
        self._clock = clock
        self._program = program
        self._key = key

    async def escrow(self, client: Pubkey, job: bytes) -> Escrow:
        """The escrow of a client for a job. Raises NOT_FOUND where there is none."""
        address = state_address(self._program, client, job)
        account = await self._rpc.account(address)
        if account is None or not account.data:
            raise CyxError(
                Code.NOT_FOUND,
                f"{client} has no escrow {address} for that job (program {self._program}): it has ended, or is "
                "elsewhere",
            )
        return Escrow.decode(address, bytes(account.data))

    async def reclaim(self, escrow: Escrow) -> Outcome:
        """Ends it for its client: one that streams at any time, a plain one while it has no node or after its deadline.
        Raises FORBIDDEN for another's, CONFLICT while it is held for the job."""
        self._need(escrow.client, "the client")
        streams = Flag.STREAM in escrow.flags
        if not streams:
            _check_free(escrow, await chain_time(self._rpc, self._clock))
        made, payout = await self._payout(escrow)
        signature = await self._send(*made, payout.close() if streams else payout.reclaim())
        paid = escrow.accrued if streams else escrow.released
        return Outcome(escrow.address, signature, paid, escrow.amount - paid)

    async def dispute(self, escrow: Escrow) -> Outcome:
        """Freezes a plain escrow for its client or its node until the arbiter decides, or the window is over.

        Raises:
            CyxError: FORBIDDEN for anybody else; CONFLICT for one that streams, has no node, has had this party's
                dispute, is in one, or is past its deadline.
        """
        by_node = escrow.node == self._key.pubkey
        if not by_node:
            self._need(escrow.client, "the client or the node")
        now = await chain_time(self._rpc, self._clock)
        if Flag.STREAM in escrow.flags:
            raise conflict("This escrow streams: its client ends it at any time (`cyxwiz wallet reclaim`)")
        _check_thawed(escrow, now)
        if escrow.node is None or now >= escrow.deadline:
            why = "No node has the job" if escrow.node is None else f"Its deadline was {_at(escrow.deadline)}"
            raise conflict(f"{why}: its client takes the money back (`cyxwiz wallet reclaim`)")
        if (Flag.NODE_DISPUTED if by_node else Flag.CLIENT_DISPUTED) in escrow.flags:
            raise conflict("Each side has one dispute, and yours is over")
        signature = await self._send(program_of.dispute(self._program, escrow, self._key.pubkey))
        return Outcome(escrow.address, signature, escrow.released, frozen_until=now + escrow.window)

    async def resolve(self, escrow: Escrow, units: int) -> Outcome:
        """Ends a dispute for the arbiter: so many units are paid out in all, with what was before, the rest goes back.

        Raises:
            CyxError: FORBIDDEN for others; CONFLICT while no dispute is open; INVALID for too many or too few units.
        """
        self._need(escrow.arbiter, "the arbiter")
        if await chain_time(self._rpc, self._clock) >= escrow.frozen_until:
            raise conflict("No dispute is open: there is nothing to decide")
        if not escrow.released <= units <= escrow.amount:
            least, most = format_cyxwiz(escrow.released), format_cyxwiz(escrow.amount)
            raise invalid(f"amount: expected {least} (paid out already) to {most} CYXWIZ", field="amount")
        made, payout = await self._payout(escrow)
        signature = await self._send(*made, payout.resolve(units))
        return Outcome(escrow.address, signature, units, escrow.amount - units)

    async def claim(self, escrow: Escrow) -> Outcome:
        """Pays a stream's node what was attested for it. Raises FORBIDDEN for anybody else, CONFLICT when it has it."""
        if escrow.node != self._key.pubkey:
            raise forbidden(f"{self._key.pubkey} is not the node of escrow {escrow.address}")
        if escrow.accrued <= escrow.released:
            raise conflict(f"Nothing is owed: {format_cyxwiz(escrow.released)} CYXWIZ were earned, and are paid")
        made, payout = await self._payout(escrow)
        return Outcome(escrow.address, await self._send(*made, payout.claim()), escrow.accrued)

    def _need(self, whose: Pubkey, role: str) -> None:
        if self._key.pubkey != whose:
            raise forbidden(f"{self._key.pubkey} is not {role} of this escrow")

    async def _payout(self, escrow: Escrow) -> tuple[list[Instruction], Payout]:
        return await mend(self._rpc, self._key.pubkey, Payout(self._program, escrow, self._key.pubkey))

    async def _send(self, *instructions: Instruction) -> Signature:
        ended = await Sender(self._rpc, self._clock).send(Intent(instructions, (self._key,)), record=_nowhere)
        if isinstance(ended, Failed):
            raise ended.error
        return ended.signature


async def _nowhere(signature: Signature, raw: bytes, last_height: int) -> None:
    """What is lost with this process is done again: the program does each of these once."""


def _check_free(escrow: Escrow, now: int) -> None:
    _check_thawed(escrow, now)
    if escrow.node is not None and now < escrow.deadline:
        raise conflict(
            f"A node has the job: what it does not earn can be taken back from {_at(escrow.deadline)} on; until then "
            "`cyxwiz wallet dispute` keeps the platform from paying it"
        )


def _check_thawed(escrow: Escrow, now: int) -> None:
    if now < escrow.frozen_until:
        raise conflict(in_dispute(escrow))


def _at(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
