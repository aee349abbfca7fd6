"""Escrows that clients lock themselves: the transaction that they are asked to sign, and whether what came back is it.

A client's key never comes here. What is signed is compared byte by byte with what was offered, so that the platform,
which pays the fees, signs nothing that it did not build; a transaction that the client sent alone counts by the escrow
that it left on the chain.
"""

from __future__ import annotations

from collections.abc import Sequence

from solders.hash import Hash
from solders.instruction import Instruction
from solders.message import Message
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from cyxwiz.domain.errors import conflict, invalid
from cyxwiz.ledger.instructions import escrow as program
from cyxwiz.ledger.instructions.escrow import Escrow, Flag, Terms
from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.rpc import Rpc

MAX_BYTES = 1232  # of a transaction


def differences(terms: Terms, held: Escrow) -> list[str]:
    """What an escrow has otherwise than agreed: the mint that is not CYXWIZ's, too little locked, and so on."""
    deadline = terms.deadline if held.deadline >= terms.deadline else None
    pairs = (
        ("amount", terms.amount, held.amount),
        ("mint", terms.mint, held.mint),
        ("client", terms.client, held.client),
        ("platform", terms.platform, held.platform),
        ("arbiter", terms.arbiter, held.arbiter),
        ("fee account", terms.fee_account, held.fee_account),
        ("fee_bps", terms.fee_bps, held.fee_bps),
        ("interval", terms.interval, held.interval),
        ("cap", terms.cap, held.cap),
        ("dispute window", terms.window, held.window),
        ("deadline", terms.deadline, deadline if deadline is not None else held.deadline),
    )
    found = [f"its {name} is {found}, not {agreed}" for name, agreed, found in pairs if agreed != found]
    if Flag.BORN_OPEN not in held.flags:
        # Nobody else could ever be paid out of it, and whose work it is given to would work for nothing.
        found.append(f"its node was fixed to {held.node} when it was made, not left open")
    if Flag.STOPPED in held.flags:
        found.append("its client has stopped it")
    return found


class Offers:
    """For escrows of one program. The platform pays the fees of what it offers."""

    def __init__(self, rpc: Rpc, program_id: Pubkey, platform: Key) -> None:
        self._rpc = rpc
        self._program = program_id
        self._platform = platform

    def shown(self, terms: Terms) -> dict[str, str | int]:
        """The terms as people read them: all that the program's `create` takes, but for the client and the job."""
        return {
            "account": str(program.state_address(self._program, terms.client, terms.job)),
            "program_id": str(self._program),
            "mint": str(terms.mint),
            "platform": str(terms.platform),
            "arbiter": str(terms.arbiter),
            "fee_account": str(terms.fee_account),
            "amount_units": terms.amount,
            "deadline_seconds": terms.deadline,
            "fee_bps": terms.fee_bps,
            "window_seconds": terms.window,
            "interval_seconds": terms.interval,
            "cap_units": terms.cap,
        }

    async def message(self, terms: Terms) -> tuple[bytes, int]:
        """(what the client signs, the last block height at which it can land)"""
        blockhash, last_height = await self._rpc.latest_blockhash()
        return bytes(self._message(self._create(terms), blockhash)), last_height

    async def complete(
        self, terms: Terms, transaction: bytes, offered: bytes, last_height: int
    ) -> tuple[Signature, bytes]:
        """The transaction with the platform's signature beside the client's: (its signature, the whole). Its blockhash
        has to be that of the message that was offered too: by a later one it could land after `last_height`, when
        it counts as lost.

        Raises:
            CyxError: INVALID for another transaction than was offered, or one that its client did not sign; CONFLICT
                for one that can't land any more.
        """
        try:
            given = VersionedTransaction.from_bytes(transaction[: MAX_BYTES + 1])
        except ValueError:
            raise invalid("payment.transaction: is no transaction of Solana's in base64", field="payment") from None
        expected = self._message(self._create(terms), Message.from_bytes(offered).recent_blockhash)
        message = bytes(expected)
        if not isinstance(given.message, Message) or bytes(given.message) != message:
            raise invalid(
                "payment.transaction: is not the one that the quote offers: sign the quote's `message` as it is",
                field="payment",
            )
        place = expected.account_keys.index(terms.client)
        if place >= len(given.signatures) or not given.signatures[place].verify(terms.client, message):
            raise invalid(f"payment.transaction: is not signed by the wallet {terms.client}", field="payment")
        if (await self._rpc.height()).block_height > last_height:
            raise conflict("payment.transaction: its blockhash has expired: ask for a new quote and sign that")
        signatures = list(given.signatures)
        signatures[0] = self._platform.sign(message)
        return signatures[0], bytes(VersionedTransaction.populate(expected, signatures))

    async def check(self, terms: Terms, reference: str) -> None:
        """Whether that transaction locked what was agreed.

        Raises:
            CyxError: INVALID for a text that is no signature, one that is not on the chain or failed there, one of
                something else, and an escrow on other terms, each told.
        """
        address = program.state_address(self._program, terms.client, terms.job)
        try:
            signature = Signature.from_string(reference)
        except ValueError:
            raise _refused(f"{reference[:100]!r} is no signature of a transaction, 64 bytes in base58") from None
        found = await self._rpc.transaction(signature)
        if found is None:
            raise _refused(f"{reference} is not on the chain: submit again with the same quote once it is confirmed")
        if found["meta"]["err"] is not None:
            raise _refused(f"{reference} failed on the chain, it locked nothing: {found['meta']['err']}")
        if str(address) not in found["transaction"]["message"]["accountKeys"]:
            raise _refused(f"{reference} is of something else: it does not make the quote's escrow, {address}")
        account = await self._rpc.account(address)
        if account is None or account.owner != self._program or not account.data:
            raise _refused(f"there is no escrow at {address}: its money was taken back")
        wrong = differences(terms, Escrow.decode(address, bytes(account.data)))
        if wrong:
            raise _refused(f"the escrow {address} is not what the quote says: {'; '.join(wrong)}")

    def _create(self, terms: Terms) -> Sequence[Instruction]:
        return [program.create(self._program, terms, payer=self._platform.pubkey)]

    def _message(self, instructions: Sequence[Instruction], blockhash: Hash) -> Message:
        return Message.new_with_blockhash(instructions, self._platform.pubkey, blockhash)


def _refused(why: str) -> Exception:
    return invalid(f"payment.escrow_tx_hash: {why}", field="payment")
