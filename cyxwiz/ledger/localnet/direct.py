"""A local chain in this process behind the same client as any other cluster, without sockets.

What a payment asks for many times is asked of the chain itself: as JSON-RPC it would take as long as the transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from solders.account import Account
from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ledger.localnet.chain import BadSignature, Chain, Refused
from cyxwiz.ledger.localnet.jsonrpc import Dispatcher, RpcFault
from cyxwiz.ledger.localnet.methods import Methods
from cyxwiz.ledger.programs import Program, local_id
from cyxwiz.ledger.refusals import refusal
from cyxwiz.ledger.rpc import Caller, Height, JsonRpc, RpcRefusal, Status, Statuses, bad_signature, check_count

_PROGRAMS = [local_id(program) for program in Program]


def caller(chain: Chain) -> Caller:
    """Calls the methods that the sockets serve."""
    dispatcher = Dispatcher(Methods(chain).table())

    async def call(method: str, params: list[Any]) -> Any:
        try:
            return await dispatcher.call(method, params)
        except RpcFault as fault:
            raise RpcRefusal(fault.code, fault.message, fault.data) from None

    return call


class DirectRpc(JsonRpc):
    """`Rpc` of a chain in this process."""

    def __init__(self, chain: Chain) -> None:
        super().__init__(caller(chain), mint=chain.genesis.mint, programs=_PROGRAMS)
        self._chain = chain

    async def latest_blockhash(self) -> tuple[Hash, int]:
        return self._chain.latest_blockhash()

    async def height(self) -> Height:
        slot = self._chain.slot()
        return Height(slot, slot)  # each slot has one block

    async def send(self, raw: bytes, *, preflight: bool = False) -> Signature:
        try:
            return await self._chain.submit(raw, preflight=preflight)
        except BadSignature:
            raise bad_signature() from None
        except Refused as refused:
            raise refusal(refused.error, refused.logs, self.programs) from None

    async def statuses(self, signatures: Sequence[Signature]) -> Statuses:
        check_count(signatures)
        slot = self._chain.slot()  # first: what is found holds for that slot at least
        found = [await self._chain.status(each) for each in signatures]
        return Statuses(
            slot, tuple(None if each is None else Status(each.slot, each.error, True, True) for each in found)
        )

    async def account(self, address: Pubkey, *, seen: int = 0) -> Account | None:
        if seen > self._chain.slot():
            raise CyxError(Code.UNAVAILABLE, f"the cluster has not seen slot {seen} yet")
        return self._chain.account(address)


def direct_rpc(chain: Chain) -> DirectRpc:
    return DirectRpc(chain)
