"""JSON-RPC 2.0: bodies in, bodies out. Whatever comes in, the answer is one of Solana's errors and never a crash."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import new_id

log = logging.getLogger(__name__)

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
BLOCK_CLEANED_UP = -32001
PREFLIGHT_FAILURE = -32002
SIGNATURE_FAILURE = -32003
BLOCK_NOT_AVAILABLE = -32004
NODE_UNHEALTHY = -32005
UNSUPPORTED_VERSION = -32015
MIN_CONTEXT_SLOT = -32016

MAX_BATCH = 500
MAX_DEPTH = 64  # of nested arrays and objects in a request

Method = Callable[[list[Any]], Awaitable[Any]]
_ids = (str, int, float, type(None))


class RpcFault(Exception):
    """An error as it goes over the wire.

    Args:
        data: JSON-ready; left out when None.
    """

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def document(self) -> dict[str, Any]:
        shown = {"code": self.code, "message": self.message}
        return shown if self.data is None else {**shown, "data": self.data}


def invalid_params(message: str) -> RpcFault:
    return RpcFault(INVALID_PARAMS, f"Invalid params: {message}")


class Dispatcher:
    """Methods by name. Each takes its positional parameters and gives a JSON-ready result or raises `RpcFault`."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self._methods = methods

    async def call(self, method: str, params: list[Any]) -> Any:
        """One call.

        Raises:
            RpcFault: for every failure.
        """
        found = self._methods.get(method)
        if found is None:
            raise RpcFault(METHOD_NOT_FOUND, f"Method not found: {method[:100]}")
        try:
            return await found(params)
        except RpcFault:
            raise
        except CyxError as error:
            raise _fault(error) from error
        except Exception as error:
            ident = new_id()
            log.exception("%s failed (%s)", method, ident)
            raise RpcFault(INTERNAL_ERROR, f"Internal error {ident}; the localnet's log says more") from error

    async def answer(self, body: bytes | str) -> str | None:
        """The answer to a request or to a batch; None when there is nothing to answer."""
        try:
            document = json.loads(body, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            return _dump(_failure(None, RpcFault(PARSE_ERROR, "Parse error: the body is no JSON")))
        if not isinstance(document, list):
            one = await self._one(document)
            return None if one is None else _dump(one)
        if not 0 < len(document) <= MAX_BATCH:
            fault = RpcFault(INVALID_REQUEST, f"Invalid request: a batch has 1 to {MAX_BATCH} requests")
            return _dump(_failure(None, fault))
        answers = [answer for each in document if (answer := await self._one(each)) is not None]
        return _dump(answers) if answers else None

    async def _one(self, request: Any) -> dict[str, Any] | None:
        ident = request.get("id") if isinstance(request, dict) else None
        try:
            method, params = _read(request)
            result = await self.call(method, params)
        except RpcFault as fault:
            if isinstance(request, dict) and "id" not in request and isinstance(request.get("method"), str):
                return None  # a notification is not answered, not even with its error
            return _failure(ident if _good_id(ident) else None, fault)
        return {"jsonrpc": "2.0", "result": result, "id": ident} if "id" in request else None


def _read(request: Any) -> tuple[str, list[Any]]:
    if not isinstance(request, dict):
        raise RpcFault(INVALID_REQUEST, "Invalid request: expected an object")
    if request.get("jsonrpc") != "2.0":
        raise RpcFault(INVALID_REQUEST, 'Invalid request: "jsonrpc" must be "2.0"')
    method, params = request.get("method"), request.get("params")
    if not isinstance(method, str):
        raise RpcFault(INVALID_REQUEST, 'Invalid request: "method" must be a string')
    if not _good_id(request.get("id")):
        raise RpcFault(INVALID_REQUEST, 'Invalid request: "id" must be a string, a number or null')
    if params is None:
        params = []
    if not isinstance(params, list):
        raise invalid_params("expected an array")
    if _depth(params) > MAX_DEPTH:
        raise invalid_params(f"nested deeper than {MAX_DEPTH}")
    return method, params


def _good_id(ident: Any) -> bool:
    return isinstance(ident, _ids) and not isinstance(ident, bool) and len(str(ident)) <= 200


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        depth += 1
        level = [
            inner
            for each in level
            if isinstance(each, (list, dict))
            for inner in (each if isinstance(each, list) else each.values())
        ]
    return depth


def _fault(error: CyxError) -> RpcFault:
    if error.code in (Code.INVALID, Code.UNSUPPORTED):
        return invalid_params(error.message)
    if error.code is Code.UNAVAILABLE:
        return RpcFault(NODE_UNHEALTHY, f"Node is unhealthy: {error.message}", {"numSlotsBehind": None})
    return RpcFault(INTERNAL_ERROR, f"Internal error: {error.message}")


def _failure(ident: Any, fault: RpcFault) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "error": fault.document(), "id": ident}


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _dump(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"))
