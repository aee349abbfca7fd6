"""Solana's JSON-RPC methods over a chain, and three of our own: cyxwizInfo, cyxwizAirdrop and cyxwizAdvance.

All commitments are the same here, so they are checked and not used otherwise.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from solders.account import Account
from solders.message import from_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.token import ID as TOKEN_PROGRAM
from solders.transaction import VersionedTransaction

from cyxwiz.domain import base58
from cyxwiz.domain.money import parse_cyxwiz
from cyxwiz.ledger.localnet import views
from cyxwiz.ledger.localnet.blocks import Blocks, Json, landed_view
from cyxwiz.ledger.localnet.chain import BadSignature, Refused
from cyxwiz.ledger.localnet.history import Status
from cyxwiz.ledger.localnet.jsonrpc import (
    PREFLIGHT_FAILURE,
    SIGNATURE_FAILURE,
    Method,
    RpcFault,
    invalid_params,
)
from cyxwiz.ledger.localnet.params import Config, Params, pubkey, signature, transaction_bytes
from cyxwiz.ledger.localnet.transactions import decode, memos_of
from cyxwiz.ledger.localnet.vm import Tokens
from cyxwiz.ledger.programs import Program, local_id
from cyxwiz.ledger.refusals import describe

LAMPORTS_PER_SIGNATURE = 5000
MAX_ACCOUNTS = 100
MAX_STATUSES = 256
MAX_SIGNATURES = 1000
MAX_FILTERS = 4
MAX_DATA = 10 * 1024 * 1024  # bytes that an account has at most
FINAL = "finalized"
TOKEN_2022 = Pubkey.from_string("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")


class Methods(Blocks):
    def table(self) -> dict[str, Method]:
        prefix = "do_"
        return {name.removeprefix(prefix): getattr(self, name) for name in dir(self) if name.startswith(prefix)}

    async def do_cyxwizInfo(self, values: list[Any]) -> Json:
        Params(values, 0)
        genesis = self._chain.genesis
        return {
            "mint": str(genesis.mint),
            "programs": {str(program): str(local_id(program)) for program in Program},
            "stakingConfig": str(genesis.staking_config),
            "platform": str(genesis.keys.platform.pubkey),
            "judge": str(genesis.keys.judge.pubkey),
            "faucet": str(genesis.keys.faucet.pubkey),
        }

    async def do_getLatestBlockhash(self, values: list[Any]) -> Json:
        self._config(Params(values, 1), 0)
        blockhash, last = self._chain.latest_blockhash()
        return self._value({"blockhash": str(blockhash), "lastValidBlockHeight": last})

    async def do_isBlockhashValid(self, values: list[Any]) -> Json:
        params = Params(values, 2)
        self._config(params, 1)
        return self._value(self._chain.timeline.slot_of(params.hash(0)) is not None)

    async def do_getMinimumBalanceForRentExemption(self, values: list[Any]) -> int:
        params = Params(values, 2)
        self._config(params, 1)
        return self._chain.rent(params.integer(0, "size", MAX_DATA))

    async def do_getRecentPrioritizationFees(self, values: list[Any]) -> list[Json]:
        params = Params(values, 1)
        addresses = [pubkey(each) for each in params.array(0, "addresses", 128)] if values else []
        found = self._chain.lowest_prices(addresses)
        return [{"slot": slot, "prioritizationFee": price} for slot, price in found]

    async def do_getFeeForMessage(self, values: list[Any]) -> Json:
        params = Params(values, 2)
        self._config(params, 1)
        try:
            message = from_bytes_versioned(base64.b64decode(params.text(0, "message"), validate=True))
            signers = message.header.num_required_signatures
            unsigned = VersionedTransaction.populate(message, [Signature.default()] * signers)
            unsigned = decode(bytes(unsigned))
        except (ValueError, binascii.Error):
            raise invalid_params("expected a message in base64") from None
        if self._chain.timeline.slot_of(message.recent_blockhash) is None:
            return self._value(None)
        _, meta, _ = self._chain.simulate(unsigned, verify=False, any_blockhash=False)
        # One that could not even begin has no fee yet: then it is that of its signatures.
        return self._value(meta.fee() or LAMPORTS_PER_SIGNATURE * signers)

    # -- accounts

    async def do_getBalance(self, values: list[Any]) -> Json:
        params = Params(values, 2)
        self._config(params, 1)
        account = self._chain.account(params.pubkey(0))
        return self._value(account.lamports if account else 0)

    async def do_getAccountInfo(self, values: list[Any]) -> Json:
        params = Params(values, 2)
        config = self._config(params, 1)
        return self._value(views.account_view(self._chain, self._chain.account(params.pubkey(0)), config))

    async def do_getMultipleAccounts(self, values: list[Any]) -> Json:
        params = Params(values, 2)
        config = self._config(params, 1)
        addresses = [pubkey(each) for each in params.array(0, "addresses", MAX_ACCOUNTS)]
        accounts = [self._chain.account(each) for each in addresses]
        return self._value([views.account_view(self._chain, each, config, "base64") for each in accounts])

    async def do_getProgramAccounts(self, values: list[Any]) -> Any:
        params = Params(values, 2)
        config = self._config(params, 1)
        matches = [_filter(each) for each in config.array("filters", MAX_FILTERS)]
        found = [
            (address, account)
            for address, account in self._chain.owned_by(params.pubkey(0))
            if all(match(account) for match in matches)
        ]
        shown = self._keyed(found, config)
        return self._value(shown) if config.flag("withContext") else shown

    def _keyed(self, found: list[tuple[Pubkey, Account]], config: Config) -> list[Json]:
        return [
            {"pubkey": str(address), "account": views.account_view(self._chain, account, config)}
            for address, account in sorted(found, key=lambda each: bytes(each[0]))
        ]

    async def do_getTokenAccountsByOwner(self, values: list[Any]) -> Json:
        return self._token_accounts(values, lambda account, owner: bytes(account.data)[32:64] == owner)

    async def do_getTokenAccountsByDelegate(self, values: list[Any]) -> Json:
        return self._token_accounts(values, lambda account, delegate: views.delegate_of(account) == delegate)

    def _token_accounts(self, values: list[Any], held: Callable[[Account, bytes], bool]) -> Json:
        params = Params(values, 3)
        whose, wanted, config = params.pubkey(0), params.object(1, "filter"), self._config(params, 2)
        mint, program = wanted.pubkey("mint"), wanted.pubkey("programId")
        if (mint is None) == (program is None):
            raise invalid_params("the filter must have a mint or a programId")
        if mint is not None and not self._is_mint(mint):
            raise invalid_params(f"mint: there is no mint at {mint}")
        if program not in (None, TOKEN_PROGRAM, TOKEN_2022):
            raise invalid_params(f"programId: {program} is no program of tokens")
        found = [
            (address, account)
            for address, account in self._chain.owned_by(TOKEN_PROGRAM)
            if (tokens := Tokens.of(account)) is not None
            and held(account, bytes(whose))
            and (tokens.mint == mint if mint is not None else program == TOKEN_PROGRAM)
        ]
        return self._value(self._keyed(found, config))

    async def do_getTokenAccountBalance(self, values: list[Any]) -> Json:
        params = Params(values, 2)
        self._config(params, 1)
        address = params.pubkey(0)
        tokens = Tokens.of(self._chain.account(address))
        if tokens is None:
            raise invalid_params(f"could not find account {address}, or it is no token account")
        return self._value(views.amount_view(tokens.amount, views.decimals_of(self._chain, tokens.mint)))

    async def do_getTokenSupply(self, values: list[Any]) -> Json:
        params = Params(values, 2)
        self._config(params, 1)
        address = params.pubkey(0)
        account = self._chain.account(address)
        if account is None or not self._is_mint(address):
            raise invalid_params(f"there is no mint at {address}")
        data = bytes(account.data)
        return self._value(views.amount_view(int.from_bytes(data[36:44], "little"), data[44]))

    # -- transactions

    async def do_sendTransaction(self, values: list[Any]) -> str:
        params = Params(values, 2)
        config = self._config(params, 1)
        encoding = config.choice("encoding", ("base58", "base64"), "base58")
        preflight = not config.flag("skipPreflight")
        config.integer("maxRetries", None)
        raw = transaction_bytes(params.text(0, "transaction"), encoding)
        try:
            return str(await self._chain.submit(raw, preflight=preflight))
        except BadSignature:
            raise _bad_signature() from None
        except Refused as refused:
            raise _refusal(refused) from None

    async def do_simulateTransaction(self, values: list[Any]) -> Json:
        params = Params(values, 2)
        config = self._config(params, 1)
        encoding = config.choice("encoding", ("base58", "base64"), "base58")
        verify, replace = config.flag("sigVerify"), config.flag("replaceRecentBlockhash")
        if verify and replace:
            raise invalid_params("sigVerify may not be used with replaceRecentBlockhash")
        transaction = decode(transaction_bytes(params.text(0, "transaction"), encoding))
        if not replace and await self._chain.status(transaction.signatures[0]) is not None:
            return self._value(_simulated("AlreadyProcessed", [], 0))
        try:
            error, meta, after = self._chain.simulate(transaction, verify=verify, any_blockhash=replace)
        except BadSignature:
            raise _bad_signature() from None
        except Refused as refused:
            return self._value(_simulated(refused.error, refused.logs, refused.units))
        shown = _simulated(error, meta.logs(), meta.compute_units_consumed()) | {"fee": meta.fee()}
        if (returned := views.returned_view(meta)) and error is None:
            shown |= returned
        if config.flag("innerInstructions"):
            shown["innerInstructions"] = views.inner_view(meta, self._chain.keys(transaction))
        if replace:
            blockhash, last = self._chain.latest_blockhash()
            shown["replacementBlockhash"] = {"blockhash": str(blockhash), "lastValidBlockHeight": last}
        if (wanted := config.object("accounts")) is not None:
            addresses = [pubkey(each) for each in wanted.array("addresses", MAX_ACCOUNTS)]
            accounts = [after.get(each) or self._chain.account(each) for each in addresses]
            shown["accounts"] = [views.account_view(self._chain, each, wanted, "base64") for each in accounts]
        return self._value(shown)

    async def do_getSignatureStatuses(self, values: list[Any]) -> Json:
        params = Params(values, 2)
        self._config(params, 1).flag("searchTransactionHistory")
        signatures = [signature(each) for each in params.array(0, "signatures", MAX_STATUSES)]
        # The slot first: what it says holds for that slot at least.
        answer = self._value(None)
        answer["value"] = [_status(await self._chain.status(each)) for each in signatures]
        return answer

    async def do_getTransaction(self, values: list[Any]) -> Json | None:
        params = Params(values, 2)
        config = self._config(params, 1, alone="encoding")
        encoding = config.choice("encoding", views.TRANSACTION_ENCODINGS, "json")
        wanted = params.signature(0)
        await self._chain.status(wanted)
        details = self._chain.history.details(wanted)
        if details is None:
            return None
        understood = config.integer("maxSupportedTransactionVersion", None, 255)
        shown = landed_view(self._chain, details, encoding, understood)
        return {"slot": details.slot, "blockTime": details.unix, **shown}

    async def do_getSignaturesForAddress(self, values: list[Any]) -> list[Json]:
        params = Params(values, 2)
        config = self._config(params, 1)
        limit = config.integer("limit", MAX_SIGNATURES, MAX_SIGNATURES)
        if not limit:
            raise invalid_params(f"limit: expected 1 to {MAX_SIGNATURES}")
        found = self._chain.history.of_address(
            params.pubkey(0), limit, config.signature("before"), config.signature("until")
        )
        return [
            {
                "signature": str(each),
                "slot": details.slot,
                "err": details.outcome.error,
                "memo": memos_of(details.transaction),
                "blockTime": details.unix,
                "confirmationStatus": FINAL,
            }
            for each, details in found
        ]

    # -- faucet and time

    async def do_requestAirdrop(self, values: list[Any]) -> str:
        params = Params(values, 3)
        self._config(params, 2)
        try:
            return str(await self._chain.airdrop(params.pubkey(0), params.integer(1, "lamports")))
        except Refused as refused:
            raise _refusal(refused) from None

    async def do_cyxwizAirdrop(self, values: list[Any]) -> str:
        """[owner, amount of CYXWIZ as a decimal string]: new tokens in the owner's associated account; a signature."""
        params = Params(values, 2)
        owner, units = params.pubkey(0, "owner"), parse_cyxwiz(params.text(1, "amount"))
        try:
            return str(await self._chain.token_airdrop(owner, units))
        except Refused as refused:
            raise _refusal(refused) from None

    async def do_cyxwizAdvance(self, values: list[Any]) -> int:
        """[seconds]: moves the chain's time ahead; the slot afterwards."""
        return await self._chain.advance(Params(values, 1).integer(0, "seconds"))


def _status(status: Status | None) -> Json | None:
    if status is None:
        return None
    return {
        "slot": status.slot,
        "confirmations": None,
        "err": status.error,
        "status": {"Ok": None} if status.error is None else {"Err": status.error},
        "confirmationStatus": FINAL,
    }


def _simulated(error: Any, logs: list[str], units: int) -> Json:
    return {
        "err": error,
        "logs": logs,
        "accounts": None,
        "unitsConsumed": units,
        "returnData": None,
        "innerInstructions": None,
        "replacementBlockhash": None,
    }


def _refusal(refused: Refused) -> RpcFault:
    return RpcFault(
        PREFLIGHT_FAILURE,
        f"Transaction simulation failed: {describe(refused.error)}",
        _simulated(refused.error, refused.logs, refused.units),
    )


def _bad_signature() -> RpcFault:
    return RpcFault(SIGNATURE_FAILURE, "Transaction signature verification failure")


def _filter(value: Any) -> Callable[[Account], bool]:
    """Whether an account passes one filter of getProgramAccounts."""
    if not isinstance(value, dict) or len(value) != 1:
        raise invalid_params("a filter is an object with dataSize or memcmp")
    config = Config(value)
    size = config.integer("dataSize", None, MAX_DATA)
    if size is not None:
        return lambda account: len(account.data) == size
    memcmp = config.object("memcmp")
    if memcmp is None:
        raise invalid_params("a filter is an object with dataSize or memcmp")
    offset = memcmp.integer("offset", 0, MAX_DATA) or 0
    text, encoding = memcmp.get("bytes"), memcmp.choice("encoding", ("base58", "base64"), "base58")
    if not isinstance(text, str) or len(text) > 256:
        raise invalid_params("memcmp.bytes: expected at most 128 bytes as a string")
    try:
        expected = base64.b64decode(text, validate=True) if encoding == "base64" else base58.decode(text)
    except (ValueError, binascii.Error):
        raise invalid_params(f"memcmp.bytes: not in {encoding}") from None
    return lambda account: bytes(account.data)[offset : offset + len(expected)] == expected
