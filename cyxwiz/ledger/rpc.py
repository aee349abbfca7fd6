"""The chain as the product sees it: the few calls that it needs, of any cluster.

`JsonRpc` makes them over a caller of JSON-RPC methods: `connect` gives one over HTTP with the `solana` library, and
`cyxwiz.ledger.localnet.direct` one in process. What is above does not know which it has.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from solders.account import Account
from solders.hash import Hash, ParseHashError
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.ledger.instructions.values import token_account
from cyxwiz.ledger.refusals import refusal

CONFIRMED, FINALIZED = "confirmed", "finalized"
PREFLIGHT_FAILURE = -32002
SIGNATURE_FAILURE = -32003
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INVALID_REQUEST = -32600
MAX_STATUSES = 256
MAX_ACCOUNTS = 100
MAX_FEE_ACCOUNTS = 128
LATEST = 1000  # transactions of an account that are looked through: as many as a cluster tells at once
FEE_PERCENTILE = 75
_UNREADABLE = (AttributeError, KeyError, IndexError, TypeError, ValueError, ParseHashError)


@dataclass(frozen=True, slots=True)
class Height:
    """How far the finalized chain is: its block height, and the slot of that block."""

    block_height: int
    slot: int


@dataclass(frozen=True, slots=True)
class Status:
    """Where a transaction landed.

    Args:
        error: None when it succeeded, else as Solana writes it in JSON.
        confirmed, finalized: how sure that is.
    """

    slot: int
    error: Any
    confirmed: bool
    finalized: bool


@dataclass(frozen=True, slots=True)
class Statuses:
    """The answer of a node that had seen everything up to `slot`, in the order of the signatures."""

    slot: int
    found: tuple[Status | None, ...]


class Rpc(Protocol):
    """A cluster.

    Every method raises `CyxError`: UNAVAILABLE when the cluster could not be asked or is not well, and then what was
    sent may have arrived; INVALID for what it will never take.
    """

    async def latest_blockhash(self) -> tuple[Hash, int]:
        """A confirmed blockhash, and the last block height at which a transaction with it can land."""
        ...

    async def height(self) -> Height:
        """The finalized height: what could land below it has, or never will."""
        ...

    async def send(self, raw: bytes, *, preflight: bool = False) -> Signature:
        """Hands in a signed transaction. That it is taken does not mean that it lands.

        Raises:
            CyxError: with `preflight` also what `refusals.refusal` says.
        """
        ...

    async def simulate(self, transaction: VersionedTransaction) -> CyxError | None:
        """What would stop a transaction now, whatever its blockhash and signatures are; None when nothing would."""
        ...

    async def statuses(self, signatures: Sequence[Signature]) -> Statuses:
        """Where transactions landed, searching all that the node has."""
        ...

    async def account(self, address: Pubkey, *, seen: int = 0) -> Account | None:
        """An account as a node has it that has seen slot `seen`. UNAVAILABLE when the node asked has not."""
        ...

    async def token_balance(self, owner: Pubkey) -> int:
        """Units of CYXWIZ in the owner's associated token account; 0 where there is none."""
        ...

    async def transaction(self, signature: Signature) -> dict[str, Any] | None:
        """A confirmed transaction as getTransaction gives it in the encoding "json"; None when it is not known."""
        ...

    async def naming(self, address: Pubkey) -> Sequence[Signature]:
        """The transactions that name an account and succeeded, the newest first: of the latest that the cluster
        knows."""
        ...

    async def failure(self, signature: Signature) -> CyxError | None:
        """Why a transaction that landed failed there, as `refusals.refusal` tells it; None when it is not known."""
        ...

    async def recent_priority_fee(self, accounts: Sequence[Pubkey]) -> int:
        """Micro-lamports for a compute unit that lately got a transaction in which writes all of `accounts`."""
        ...


class RpcRefusal(Exception):
    """A JSON-RPC error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


Caller = Callable[[str, list[Any]], Awaitable[Any]]


class JsonRpc:
    """`Rpc` over a caller, which raises `RpcRefusal` for the errors of JSON-RPC, and UNAVAILABLE.

    Args:
        mint: of CYXWIZ.
        programs: ids of our programs, whose refusals are named.
    """

    def __init__(self, call: Caller, *, mint: Pubkey, programs: Collection[Pubkey]) -> None:
        self._caller = call
        self._mint = mint
        self.programs = frozenset(map(str, programs))

    async def _call(self, method: str, *params: Any) -> Any:
        try:
            return await self._caller(method, list(params))
        except RpcRefusal as error:
            raise self._error(method, error) from error

    def _error(self, method: str, error: RpcRefusal) -> CyxError:
        data = error.data if isinstance(error.data, dict) else {}
        if error.code == PREFLIGHT_FAILURE and "err" in data:
            return refusal(data["err"], data.get("logs"), self.programs)
        if error.code == SIGNATURE_FAILURE:
            return bad_signature()
        if error.code in (INVALID_PARAMS, INVALID_REQUEST):
            return invalid(f"the cluster refused {method}: {error.message}")
        if error.code == METHOD_NOT_FOUND:
            return CyxError(Code.UNSUPPORTED, f"the cluster does not know {method}")
        return CyxError(Code.UNAVAILABLE, f"the cluster could not do {method}: {error.message} ({error.code})")

    async def genesis(self) -> str:
        """The hash that tells clusters apart."""
        answer = await self._call("getGenesisHash")
        with _reading("getGenesisHash"):
            return str(Hash.from_string(answer))

    async def latest_blockhash(self) -> tuple[Hash, int]:
        answer = await self._call("getLatestBlockhash", {"commitment": CONFIRMED})
        with _reading("getLatestBlockhash"):
            value = answer["value"]
            return Hash.from_string(value["blockhash"]), int(value["lastValidBlockHeight"])

    async def height(self) -> Height:
        answer = await self._call("getEpochInfo", {"commitment": FINALIZED})
        with _reading("getEpochInfo"):
            return Height(int(answer["blockHeight"]), int(answer["absoluteSlot"]))

    async def send(self, raw: bytes, *, preflight: bool = False) -> Signature:
        config = {
            "encoding": "base64",
            "skipPreflight": not preflight,
            "preflightCommitment": CONFIRMED,
            "maxRetries": 0,  # who sends it again is the sender here
        }
        answer = await self._call("sendTransaction", base64.b64encode(raw).decode(), config)
        with _reading("sendTransaction"):
            return Signature.from_string(answer)

    async def simulate(self, transaction: VersionedTransaction) -> CyxError | None:
        config = {
            "encoding": "base64",
            "sigVerify": False,
            "replaceRecentBlockhash": True,
            "commitment": CONFIRMED,
        }
        answer = await self._call("simulateTransaction", base64.b64encode(bytes(transaction)).decode(), config)
        with _reading("simulateTransaction"):
            value = answer["value"]
            error, logs = value["err"], value.get("logs")
        return None if error is None else refusal(error, logs, self.programs)

    async def statuses(self, signatures: Sequence[Signature]) -> Statuses:
        check_count(signatures)
        config = {"searchTransactionHistory": True}
        answer = await self._call("getSignatureStatuses", [str(each) for each in signatures], config)
        with _reading("getSignatureStatuses"):
            found = tuple(None if each is None else _status(each) for each in answer["value"])
            if len(found) != len(signatures):
                raise ValueError("one status for each signature")
            return Statuses(int(answer["context"]["slot"]), found)

    async def account(self, address: Pubkey, *, seen: int = 0) -> Account | None:
        config: dict[str, Any] = {"encoding": "base64", "commitment": CONFIRMED}
        if seen:
            config["minContextSlot"] = seen
        answer = await self._call("getAccountInfo", str(address), config)
        with _reading("getAccountInfo"):
            return _account(answer["value"])

    async def accounts(self, addresses: Sequence[Pubkey]) -> tuple[int, Sequence[Account | None]]:
        """(the slot that a node had seen, what it held of at most `MAX_ACCOUNTS` accounts)"""
        config = {"encoding": "base64", "commitment": CONFIRMED}
        answer = await self._call("getMultipleAccounts", [str(each) for each in addresses], config)
        with _reading("getMultipleAccounts"):
            found = [_account(each) for each in answer["value"]]
            if len(found) != len(addresses):
                raise ValueError("one account for each address")
            return int(answer["context"]["slot"]), found

    async def token_balance(self, owner: Pubkey) -> int:
        account = await self.account(token_account(owner, self._mint))
        return int.from_bytes(bytes(account.data)[64:72], "little") if account is not None else 0

    async def transaction(self, signature: Signature) -> dict[str, Any] | None:
        config = {"encoding": "json", "commitment": CONFIRMED, "maxSupportedTransactionVersion": 0}
        answer = await self._call("getTransaction", str(signature), config)
        with _reading("getTransaction"):
            if answer is not None and not isinstance(answer, dict):
                raise ValueError("no object")
            return answer

    async def naming(self, address: Pubkey) -> Sequence[Signature]:
        config = {"limit": LATEST, "commitment": CONFIRMED}
        answer = await self._call("getSignaturesForAddress", str(address), config)
        with _reading("getSignaturesForAddress"):
            return [Signature.from_string(each["signature"]) for each in answer if each["err"] is None]

    async def failure(self, signature: Signature) -> CyxError | None:
        document = await self.transaction(signature)
        if document is None:
            return None
        with _reading("getTransaction"):
            error, logs = document["meta"]["err"], document["meta"]["logMessages"]
        return None if error is None else refusal(error, logs, self.programs)

    async def recent_priority_fee(self, accounts: Sequence[Pubkey]) -> int:
        addresses = [str(each) for each in accounts[:MAX_FEE_ACCOUNTS]]
        answer = await self._call("getRecentPrioritizationFees", addresses)
        with _reading("getRecentPrioritizationFees"):
            fees = sorted(int(each["prioritizationFee"]) for each in answer)
        return fees[(len(fees) - 1) * FEE_PERCENTILE // 100] if fees else 0


def check_count(signatures: Sequence[Signature]) -> None:
    """Raises INVALID for more than one call can ask for, and for none."""
    if not 0 < len(signatures) <= MAX_STATUSES:
        raise invalid(f"{len(signatures)} signatures: 1 to {MAX_STATUSES} at once")


def bad_signature() -> CyxError:
    return invalid("the cluster refused the transaction: a signature does not fit")


class _reading:
    """Turns what a strange answer raises into UNAVAILABLE: the node is not one that we can work with now."""

    def __init__(self, method: str) -> None:
        self._method = method

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _UNREADABLE):
            raise CyxError(Code.UNAVAILABLE, f"the cluster's answer to {self._method} is none: {error!r}") from error


def _account(value: dict[str, Any] | None) -> Account | None:
    if value is None:
        return None
    data = base64.b64decode(value["data"][0], validate=True)
    owner = Pubkey.from_string(value["owner"])
    return Account(int(value["lamports"]), data, owner, bool(value["executable"]), int(value["rentEpoch"]))


def _status(value: dict[str, Any]) -> Status:
    level = value.get("confirmationStatus")
    finalized = level == FINALIZED or value["confirmations"] is None
    return Status(int(value["slot"]), value["err"], finalized or level == CONFIRMED, finalized)


class Connection:
    """A caller over HTTP, with the `solana` library's client.

    Args:
        url: of the cluster; it may hold an access key, so no message names more of it than its host.
        timeout: seconds for a call.
    """

    def __init__(self, url: str, *, timeout: float = 30.0) -> None:
        from solana.rpc.async_api import AsyncClient

        self._url, self.name = url, _host(url)
        self._client = AsyncClient(url, timeout=timeout, max_transport_retries=0)  # what is sent again is decided above
        self._number = 0

    async def call(self, method: str, params: list[Any]) -> Any:
        from httpx2 import HTTPError
        from pydantic import ValidationError
        from solana.exceptions import SolanaRpcException
        from solana.rpc.jsonrpc import JsonRpcRequest, SolanaJsonRpcError

        self._number += 1
        request = JsonRpcRequest(id=self._number, method=method, params=params)
        try:
            return await self._client.send_rpc_request(request, Any)
        except SolanaJsonRpcError as error:
            raise RpcRefusal(error.code, error.message, error.data) from None
        except (SolanaRpcException, HTTPError) as error:
            cause = error.__cause__ or error
            why = f"{type(cause).__name__}: {cause}".replace(self._url, self.name)
            raise CyxError(Code.UNAVAILABLE, f"{self.name} could not be asked for {method}: {why}") from None
        except (ValidationError, ValueError) as error:
            raise CyxError(
                Code.UNAVAILABLE, f"{self.name} answers {method} with what is no JSON-RPC: {type(error).__name__}"
            ) from None

    async def aclose(self) -> None:
        await self._client.close()


def _host(url: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise invalid(f"{parts.scheme or 'no'}://…: expected the http or https address of a Solana cluster")
    return parts.netloc.rpartition("@")[2]
