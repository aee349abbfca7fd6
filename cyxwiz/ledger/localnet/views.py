"""What the chain has, as Solana writes it in JSON."""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import Any

from solders.account import Account
from solders.instruction import CompiledInstruction
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.token import ID as TOKEN_PROGRAM
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import TransactionMetadata

from cyxwiz.domain import base58
from cyxwiz.ledger.localnet.chain import Chain
from cyxwiz.ledger.localnet.genesis import MINT_SIZE
from cyxwiz.ledger.localnet.history import Details
from cyxwiz.ledger.localnet.jsonrpc import INVALID_REQUEST, RpcFault
from cyxwiz.ledger.localnet.params import Config
from cyxwiz.ledger.localnet.transactions import Keys
from cyxwiz.ledger.localnet.vm import Balance, Tokens

Json = dict[str, Any]
ENCODINGS = ("base58", "base64", "base64+zstd", "jsonParsed", "binary")
TRANSACTION_ENCODINGS = ("json", "jsonParsed", "base58", "base64", "binary")
MAX_BASE58_DATA = 128
_ZSTD_BLOCK = 128 * 1024  # bytes of a block at most
_STATES = ("uninitialized", "initialized", "frozen")


def account_view(chain: Chain, account: Account | None, config: Config, default: str = "binary") -> Json | None:
    """An account with its data in the encoding that `config` asks for; jsonParsed knows SPL Token's accounts."""
    encoding = config.choice("encoding", ENCODINGS, default)
    part = config.object("dataSlice")
    if account is None:
        return None
    data = bytes(account.data)
    shown = None
    if encoding == "jsonParsed":
        shown = _parsed(chain, account, data)
        encoding = "base64"
    if part is not None:
        offset, length = part.integer("offset", 0) or 0, part.integer("length", 0) or 0
        data = data[offset : offset + length]
    return {
        "data": shown or _encoded(data, encoding),
        "executable": account.executable,
        "lamports": account.lamports,
        "owner": str(account.owner),
        "rentEpoch": account.rent_epoch,
        "space": len(account.data),
    }


def _encoded(data: bytes, encoding: str) -> Any:
    if encoding == "base64":
        return [base64.b64encode(data).decode(), "base64"]
    if encoding == "base64+zstd":
        return [base64.b64encode(_zstd(data)).decode(), encoding]
    if len(data) > MAX_BASE58_DATA:
        said = f"Encoded binary (base 58) data should be less than {MAX_BASE58_DATA} bytes, please use Base64 encoding."
        raise RpcFault(INVALID_REQUEST, said)
    text = base58.encode(data)
    return text if encoding == "binary" else [text, "base58"]


def _zstd(data: bytes) -> bytes:
    """A frame of Zstandard whose blocks are not compressed: here nothing is gained by it, and Solana's own clients ask
    for no other encoding."""
    blocks = [data[at : at + _ZSTD_BLOCK] for at in range(0, len(data), _ZSTD_BLOCK)] or [b""]
    frame = [b"\x28\xb5\x2f\xfd\xa0", len(data).to_bytes(4, "little")]  # magic; one segment of this size
    for number, block in enumerate(blocks, 1):
        frame += [(len(block) << 3 | (number == len(blocks))).to_bytes(3, "little"), block]
    return b"".join(frame)


def _parsed(chain: Chain, account: Account, data: bytes) -> Json | None:
    if account.owner != TOKEN_PROGRAM:
        return None
    if len(data) == MINT_SIZE:
        parsed = {"type": "mint", "info": _mint(data)}
    elif (tokens := Tokens.of(account)) is not None:
        parsed = {"type": "account", "info": _token_account(chain, tokens, data)}
    else:
        return None
    return {"program": "spl-token", "parsed": parsed, "space": len(data)}


def _optional_key(data: bytes, offset: int) -> str | None:
    return str(Pubkey(data[offset + 4 : offset + 36])) if data[offset] else None


def _mint(data: bytes) -> Json:
    return {
        "mintAuthority": _optional_key(data, 0),
        "supply": str(int.from_bytes(data[36:44], "little")),
        "decimals": data[44],
        "isInitialized": bool(data[45]),
        "freezeAuthority": _optional_key(data, 46),
    }


def _token_account(chain: Chain, tokens: Tokens, data: bytes) -> Json:
    decimals = decimals_of(chain, tokens.mint)
    info: Json = {
        "mint": str(tokens.mint),
        "owner": str(tokens.owner),
        "tokenAmount": amount_view(tokens.amount, decimals),
        "state": _STATES[data[108]],
        "isNative": bool(data[109]),
    }
    if (delegate := _optional_key(data, 72)) is not None:
        info |= {"delegate": delegate}
        info |= {"delegatedAmount": amount_view(int.from_bytes(data[121:129], "little"), decimals)}
    if data[109]:
        info |= {"rentExemptReserve": amount_view(int.from_bytes(data[113:121], "little"), decimals)}
    if (closer := _optional_key(data, 129)) is not None:
        info |= {"closeAuthority": closer}
    return info


def decimals_of(chain: Chain, mint: Pubkey) -> int:
    account = chain.account(mint)
    return bytes(account.data)[44] if account is not None and len(account.data) == MINT_SIZE else 0


def delegate_of(account: Account) -> bytes | None:
    """Who may spend of a token account besides its owner."""
    data = bytes(account.data)
    return data[76:108] if int.from_bytes(data[72:76], "little") else None


def amount_view(amount: int, decimals: int) -> Json:
    exact = Decimal(amount).scaleb(-decimals)
    text = f"{exact:f}"
    shown = text.rstrip("0").rstrip(".") if "." in text else text
    return {"amount": str(amount), "decimals": decimals, "uiAmount": float(exact), "uiAmountString": shown}


def short_meta_view(chain: Chain, details: Details) -> Json:
    """What became of a transaction, without what its instructions did."""
    outcome = details.outcome
    return {
        "err": outcome.error,
        "status": {"Ok": None} if outcome.error is None else {"Err": outcome.error},
        "fee": outcome.meta.fee(),
        "preBalances": [lamports for lamports, _ in outcome.before],
        "postBalances": [lamports for lamports, _ in outcome.after],
        "preTokenBalances": _token_balances(chain, outcome.before),
        "postTokenBalances": _token_balances(chain, outcome.after),
    }


def meta_view(chain: Chain, details: Details, encoding: str) -> Json:
    outcome, meta = details.outcome, details.outcome.meta
    own = len(details.transaction.message.account_keys)
    writable, _ = outcome.keys.loaded
    addresses = [str(each) for each in outcome.keys.addresses]
    return {
        **short_meta_view(chain, details),
        "innerInstructions": inner_view(meta, outcome.keys if encoding == "jsonParsed" else None),
        "logMessages": meta.logs(),
        "rewards": [],
        "loadedAddresses": {"writable": addresses[own : own + writable], "readonly": addresses[own + writable :]},
        "computeUnitsConsumed": meta.compute_units_consumed(),
        **returned_view(meta),
    }


def returned_view(meta: TransactionMetadata) -> Json:
    """The data that a program returned, or nothing."""
    returned = meta.return_data()
    data = bytes(returned.data)
    if not data:
        return {}
    shown = [base64.b64encode(data).decode(), "base64"]
    return {"returnData": {"programId": str(returned.program_id), "data": shown}}


def inner_view(meta: TransactionMetadata, keys: Keys | None) -> list[Json]:
    """The instructions that programs called: with addresses where `keys` are given, else with indices."""
    return [
        {
            "index": index,
            "instructions": [_instruction(each.instruction(), keys, each.stack_height()) for each in inner],
        }
        for index, inner in enumerate(meta.inner_instructions())
        if inner
    ]


def _token_balances(chain: Chain, balances: tuple[Balance, ...]) -> list[Json]:
    return [
        {
            "accountIndex": index,
            "mint": str(tokens.mint),
            "owner": str(tokens.owner),
            "programId": str(TOKEN_PROGRAM),
            "uiTokenAmount": amount_view(tokens.amount, decimals_of(chain, tokens.mint)),
        }
        for index, (_, tokens) in enumerate(balances)
        if tokens is not None
    ]


def _instruction(each: CompiledInstruction, keys: Keys | None = None, height: int | None = 1) -> Json:
    data = base58.encode(bytes(each.data))
    if keys is None:
        return {
            "programIdIndex": each.program_id_index,
            "accounts": list(each.accounts),
            "data": data,
            "stackHeight": height,
        }
    return {  # as Solana writes those that no parser knows
        "programId": str(keys.addresses[each.program_id_index]),
        "accounts": [str(keys.addresses[at]) for at in each.accounts],
        "data": data,
        "stackHeight": height,
    }


def transaction_view(details: Details, encoding: str) -> Any:
    raw = bytes(details.transaction)
    if encoding == "base64":
        return [base64.b64encode(raw).decode(), "base64"]
    if encoding in ("base58", "binary"):
        return [base58.encode(raw), "base58"] if encoding == "base58" else base58.encode(raw)
    message = details.transaction.message
    header, keys = message.header, details.outcome.keys
    shown: Json = {"recentBlockhash": str(message.recent_blockhash)}
    if encoding == "json":
        shown |= {
            "accountKeys": [str(each) for each in message.account_keys],
            "header": {
                "numRequiredSignatures": header.num_required_signatures,
                "numReadonlySignedAccounts": header.num_readonly_signed_accounts,
                "numReadonlyUnsignedAccounts": header.num_readonly_unsigned_accounts,
            },
            "instructions": [_instruction(each) for each in message.instructions],
        }
    else:
        own = len(message.account_keys)
        shown |= {
            "accountKeys": [
                {
                    "pubkey": str(address),
                    "signer": at < header.num_required_signatures,
                    "writable": writable,
                    "source": "transaction" if at < own else "lookupTable",
                }
                for at, (address, writable) in enumerate(zip(keys.addresses, keys.writable, strict=True))
            ],
            "instructions": [_instruction(each, keys) for each in message.instructions],
        }
    if isinstance(message, MessageV0):
        shown["addressTableLookups"] = [
            {
                "accountKey": str(each.account_key),
                "writableIndexes": list(each.writable_indexes),
                "readonlyIndexes": list(each.readonly_indexes),
            }
            for each in message.address_table_lookups
        ]
    return {"signatures": [str(each) for each in details.transaction.signatures], "message": shown}


def version_of(transaction: VersionedTransaction) -> str | int:
    return 0 if isinstance(transaction.message, MessageV0) else "legacy"
