"""A local chain in this process behind the same client as any other cluster, without sockets."""

from __future__ import annotations

from typing import Any

from cyxwiz.ledger.localnet.chain import Chain
from cyxwiz.ledger.localnet.jsonrpc import Dispatcher, RpcFault
from cyxwiz.ledger.localnet.methods import Methods
from cyxwiz.ledger.programs import Program, local_id
from cyxwiz.ledger.rpc import Caller, JsonRpc, RpcRefusal


def caller(chain: Chain) -> Caller:
    """Calls the methods that the sockets serve."""
    dispatcher = Dispatcher(Methods(chain).table())

    async def call(method: str, params: list[Any]) -> Any:
        try:
            return await dispatcher.call(method, params)
        except RpcFault as fault:
            raise RpcRefusal(fault.code, fault.message, fault.data) from None

    return call


def direct_rpc(chain: Chain) -> JsonRpc:
    return JsonRpc(caller(chain), mint=chain.genesis.mint, programs=[local_id(program) for program in Program])
