"""WebSocket connections: the methods of HTTP, and subscriptions to signatures and accounts.

Promised: a notification comes after the answer that made its subscription, and after what it tells is durable. A
reader that is too slow is cut off, and slows nobody.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from solders.pubkey import Pubkey
from solders.signature import Signature

from cyxwiz.ledger.localnet import views
from cyxwiz.ledger.localnet.chain import Chain
from cyxwiz.ledger.localnet.history import Details
from cyxwiz.ledger.localnet.jsonrpc import Dispatcher, RpcFault, invalid_params
from cyxwiz.ledger.localnet.methods import Methods
from cyxwiz.ledger.localnet.params import Config, Params

MAX_SUBSCRIPTIONS = 1000  # of a connection
MAX_WAITING = 1024  # messages that a reader may be behind
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class _Signature:
    signature: Signature
    received: bool  # its receipt is told too


@dataclass(slots=True)
class _Account:
    address: Pubkey
    config: Config
    last: Any


class TooSlow(Exception):
    """The reader is too far behind."""


class Peer:
    """One connection's subscriptions; `outgoing` are the texts to send to it."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self.outgoing: asyncio.Queue[str | None] = asyncio.Queue(MAX_WAITING)
        self._signatures: dict[int, _Signature] = {}
        self._accounts: dict[int, _Account] = {}
        self._later: list[str] = []
        self.cut = asyncio.Event()  # the reader is too far behind
        table: dict[str, Callable[[list[Any]], Awaitable[Any]]] = Methods(chain).table()
        table |= {
            "signatureSubscribe": self._signature_subscribe,
            "signatureUnsubscribe": self._signature_unsubscribe,
            "accountSubscribe": self._account_subscribe,
            "accountUnsubscribe": self._account_unsubscribe,
        }
        self._dispatcher = Dispatcher(table)
        self._unwatch = chain.watch(self._landed)

    async def take(self, text: str | bytes) -> None:
        """Answers what came in.

        Raises:
            TooSlow: the answers are not read.
        """
        answer = await self._dispatcher.answer(text)
        if answer is not None:
            self._put(answer)
        later, self._later = self._later, []
        for each in later:
            self._put(each)
        if self.slow:
            raise TooSlow

    @property
    def slow(self) -> bool:
        return self.cut.is_set()

    def close(self) -> None:
        self._unwatch()

    def _put(self, text: str) -> None:
        if self.outgoing.full():
            self.cut.set()
            if self.outgoing.get_nowait() is not None:
                self.outgoing.put_nowait(None)  # the end, in the place of what cannot be told completely
            return
        if not self.slow:
            self.outgoing.put_nowait(text)

    def _notify(self, method: str, number: int, slot: int, value: Any) -> str:
        result = {"context": {"slot": slot}, "value": value}
        document = {"jsonrpc": "2.0", "method": method, "params": {"result": result, "subscription": number}}
        return json.dumps(document, separators=(",", ":"))

    def _number(self) -> int:
        if len(self._signatures) + len(self._accounts) >= MAX_SUBSCRIPTIONS:
            raise invalid_params(f"at most {MAX_SUBSCRIPTIONS} subscriptions of a connection")
        return next(_numbers)

    async def _signature_subscribe(self, values: list[Any]) -> int:
        params = Params(values, 2)
        config = params.config(1, self._chain.slot())
        received = config.flag("enableReceivedNotification")
        signature, number = params.signature(0), self._number()
        status = self._chain.history.status(signature)
        if status is None:
            self._signatures[number] = _Signature(signature, received)
        else:
            text = self._notify("signatureNotification", number, status.slot, {"err": status.error})
            self._later.append(text)
        return number

    async def _signature_unsubscribe(self, values: list[Any]) -> bool:
        return self._unsubscribe(self._signatures, values)

    async def _account_subscribe(self, values: list[Any]) -> int:
        params = Params(values, 2)
        config = params.config(1, self._chain.slot())
        address, number = params.pubkey(0), self._number()
        last = self._chain.account(address)
        views.account_view(self._chain, last, config)  # refuses what it could not show
        self._accounts[number] = _Account(address, config, last)
        return number

    async def _account_unsubscribe(self, values: list[Any]) -> bool:
        return self._unsubscribe(self._accounts, values)

    def _unsubscribe(self, held: dict[int, Any], values: list[Any]) -> bool:
        number = Params(values, 1).integer(0, "subscription")
        if held.pop(number, None) is None:
            raise invalid_params("Invalid subscription id.")
        return True

    def _landed(self, signature: Signature, details: Details) -> None:
        for number, wanted in list(self._signatures.items()):
            if wanted.signature == signature:
                del self._signatures[number]  # it is told once
                if wanted.received:  # what is received here has landed by the time that it can be told
                    self._put(self._notify("signatureNotification", number, details.slot, "receivedSignature"))
                value = {"err": details.outcome.error}
                self._put(self._notify("signatureNotification", number, details.slot, value))
        if not self._accounts:
            return
        written = details.outcome.keys.writable_addresses()
        for number, each in list(self._accounts.items()):
            if each.address in written and (now := self._chain.account(each.address)) != each.last:
                each.last = now
                self._put(self._notify("accountNotification", number, details.slot, self._shown(now, each.config)))

    def _shown(self, account: Any, config: Config) -> Any:
        if account is None:  # gone: as the cluster tells it, an empty account of nobody
            owner = str(Pubkey.default())
            empty: Any = ["", config.choice("encoding", views.ENCODINGS, "base64")]
            return {"data": empty, "executable": False, "lamports": 0, "owner": owner, "rentEpoch": 0, "space": 0}
        try:
            return views.account_view(self._chain, account, config)
        except RpcFault:  # it has grown past what its encoding can show
            return views.account_view(self._chain, account, Config({"encoding": "base64"}))
