"""The local chain as others' programs reach it: the solana library's typed client, and whoever sends rubbish."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from typing import Any

import httpx
import pytest
from solana.rpc.async_api import AsyncClient
from solana.rpc.core import RPCException
from solana.rpc.models import DataSliceOpts, MemcmpOpts, TokenAccountOpts, TxOpts
from solana.rpc.websocket_api import SolanaWsClient
from solders.account import Account
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.rpc.errors import SendTransactionPreflightFailureMessage
from solders.rpc.responses import AccountNotification, SignatureNotification
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.token import ID as TOKEN_PROGRAM
from solders.transaction import VersionedTransaction
from websockets.asyncio.client import connect

from cyxwiz.domain import base58
from cyxwiz.domain.errors import CyxError
from cyxwiz.ledger.instructions.values import token_account
from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.localnet.chain import Chain
from cyxwiz.ledger.localnet.server import MAX_BODY_BYTES, LocalnetServer
from cyxwiz.ledger.localnet.subscriptions import MAX_SUBSCRIPTIONS, MAX_WAITING, Peer, TooSlow
from cyxwiz.ledger.localnet.transactions import decode
from cyxwiz.ledger.programs import Program, local_id
from tests.ledger import ADA, BOB, SOL, payment


async def test_the_typed_client_asks_about_the_cluster(client: AsyncClient, chain: Chain) -> None:
    assert await client.is_connected()
    assert (await client.get_version()).value.solana_core
    assert (await client.get_genesis_hash()).value == chain.genesis.hash
    slot = (await client.get_slot()).value
    assert abs(chain.slot() - slot) <= 1
    assert (await client.get_block_height()).value >= slot
    info = (await client.get_epoch_info()).value
    assert info.block_height == info.absolute_slot >= slot
    latest = (await client.get_latest_blockhash()).value
    assert latest.last_valid_block_height - 150 >= slot
    assert chain.timeline.slot_of(latest.blockhash) is not None
    assert (await client.get_block_time(0)).value == chain.genesis.created_ms // 1000
    assert (await client.get_minimum_balance_for_rent_exemption(0)).value == 890_880
    assert (await client.get_transaction_count()).value == 4


async def test_the_typed_client_reads_accounts(client: AsyncClient, chain: Chain) -> None:
    await chain.token_airdrop(ADA.pubkey, 1_500_000_000)
    mint, tokens = chain.genesis.mint, token_account(ADA.pubkey, chain.genesis.mint)
    assert (await client.get_balance(ADA.pubkey)).value == 100 * SOL
    assert (await client.get_account_info(tokens)).value == chain.account(tokens)
    part = (await client.get_account_info(tokens, data_slice=DataSliceOpts(offset=64, length=8))).value
    assert part is not None
    assert int.from_bytes(part.data, "little") == 1_500_000_000
    both = (await client.get_multiple_accounts([tokens, Key.new().pubkey])).value
    assert both == [chain.account(tokens), None]
    balance = (await client.get_token_account_balance(tokens)).value
    assert (balance.amount, balance.decimals, balance.ui_amount_string) == ("1500000000", 9, "1.5")
    assert (await client.get_token_supply(mint)).value.ui_amount_string == "1.5"
    for opts in (TokenAccountOpts(mint=mint), TokenAccountOpts(program_id=TOKEN_PROGRAM)):
        found = (await client.get_token_accounts_by_owner(ADA.pubkey, opts)).value
        assert [each.pubkey for each in found] == [tokens]
    parsed = (await client.get_token_accounts_by_owner_json_parsed(ADA.pubkey, TokenAccountOpts(mint=mint))).value
    assert parsed[0].account.data.parsed["info"]["tokenAmount"]["uiAmountString"] == "1.5"
    minted = (await client.get_account_info_json_parsed(mint)).value
    assert minted is not None
    assert minted.data.parsed["info"]["freezeAuthority"] is None
    filters: list[int | MemcmpOpts] = [165, MemcmpOpts(offset=32, bytes=str(ADA.pubkey))]
    kept = (await client.get_program_accounts(TOKEN_PROGRAM, filters=filters, encoding="base64")).value
    assert [each.pubkey for each in kept] == [tokens]
    filters = [165, MemcmpOpts(offset=32, bytes=str(BOB.pubkey))]
    assert (await client.get_program_accounts(TOKEN_PROGRAM, filters=filters, encoding="base64")).value == []
    staking = (await client.get_program_accounts(local_id(Program.STAKING), encoding="base64")).value
    assert [each.pubkey for each in staking] == [chain.genesis.staking_config]


@pytest.mark.parametrize("size", [0, 1, 255, 256, 128 * 1024, 300_001])
async def test_solanas_own_clients_read_their_encoding(chain: Chain, client: AsyncClient, size: int) -> None:
    data = random.Random(size).randbytes(size)
    chain._machine._svm.set_account(BOB.pubkey, Account(SOL * 10, data, Pubkey.default(), False, 0))
    found = (await client.get_account_info(BOB.pubkey, encoding="base64+zstd")).value
    assert found is not None
    assert found.data == data
    if size > 128:
        with pytest.raises(RPCException, match="InvalidRequest"):
            await client.get_account_info(BOB.pubkey, encoding="base58")


async def test_the_typed_client_sends_and_looks_up(client: AsyncClient, chain: Chain) -> None:
    latest = (await client.get_latest_blockhash()).value
    give = transfer(TransferParams(from_pubkey=ADA.pubkey, to_pubkey=BOB.pubkey, lamports=SOL))
    message = MessageV0.try_compile(ADA.pubkey, [give], [], latest.blockhash)
    assert (await client.get_fee_for_message(message)).value == 5000
    unsigned = VersionedTransaction.populate(message, [Signature.default()])
    simulated = (await client.simulate_transaction(unsigned)).value
    assert simulated.err is None
    assert simulated.units_consumed == 150
    made = VersionedTransaction.populate(message, [ADA.sign(to_bytes_versioned(message))])
    signature = (await client.send_transaction(made)).value
    confirmed = await client.confirm_transaction(signature, last_valid_block_height=latest.last_valid_block_height)
    assert confirmed.value[0] is not None
    for encoding in ("json", "jsonParsed", "base64", "base58"):
        found = (await client.get_transaction(signature, encoding, max_supported_transaction_version=0)).value
        assert found is not None
        meta = found.transaction.meta
        assert meta is not None
        assert (meta.fee, meta.err) == (5000, None)
        assert meta.pre_balances[0] - meta.post_balances[0] == SOL + 5000
    with pytest.raises(RPCException, match="maxSupportedTransactionVersion"):
        await client.get_transaction(signature)
    history = (await client.get_signatures_for_address(BOB.pubkey)).value
    assert [each.signature for each in history] == [signature]
    again = await client.send_transaction(made, TxOpts(skip_preflight=True))
    assert again.value == signature
    airdrop = (await client.request_airdrop(BOB.pubkey, SOL)).value
    assert chain.history.status(airdrop) is not None
    history = (await client.get_signatures_for_address(BOB.pubkey)).value
    assert [each.memo for each in history] == ["[9] airdrop 2", None]


async def test_a_preflight_failure_has_its_logs(client: AsyncClient, chain: Chain) -> None:
    with pytest.raises(RPCException) as caught:
        await client.send_raw_transaction(payment(chain, ADA, BOB.pubkey, 10**6 * SOL))
    told = caught.value.args[0]
    assert isinstance(told, SendTransactionPreflightFailureMessage)
    assert "custom program error: 0x1" in told.message
    assert any("insufficient lamports" in line for line in told.data.logs or [])


async def test_token_transfers_are_told_with_balances(client: AsyncClient, chain: Chain) -> None:
    signature = await chain.token_airdrop(ADA.pubkey, 7)
    found = (await client.get_transaction(signature)).value
    assert found is not None
    meta = found.transaction.meta
    assert meta is not None
    assert meta.pre_token_balances == []
    assert [each.ui_token_amount.amount for each in meta.post_token_balances or []] == ["7"]
    assert meta.inner_instructions


def decoded(instructions: list[dict[str, Any]]) -> bool:
    return all(set(each) == {"programId", "accounts", "data", "stackHeight"} for each in instructions)


async def test_what_programs_called_has_addresses_in_json_parsed(server: LocalnetServer, chain: Chain) -> None:
    signature = str(await chain.token_airdrop(ADA.pubkey, 7))
    options = {"encoding": "jsonParsed", "maxSupportedTransactionVersion": 0}
    shown = (await post(server, json.dumps(call("getTransaction", [signature, options])))).json()["result"]
    called = [each for inner in shown["meta"]["innerInstructions"] for each in inner["instructions"]]
    assert called
    assert decoded(called)
    assert decoded(shown["transaction"]["message"]["instructions"])
    assert str(TOKEN_PROGRAM) in {each["programId"] for each in called}
    plain = (await post(server, json.dumps(call("getTransaction", [signature, "json"])))).json()["result"]
    assert "programIdIndex" in plain["meta"]["innerInstructions"][0]["instructions"][0]
    await chain.advance(1)
    assert (await post(server, json.dumps(call("getBlock", [shown["slot"], "base64"])))).json()["result"]
    options["transactionDetails"] = "accounts"
    block = (await post(server, json.dumps(call("getBlock", [shown["slot"], options])))).json()["result"]
    assert all("innerInstructions" not in each["meta"] for each in block["transactions"])

    details = chain.history.details(Signature.from_string(signature))
    assert details is not None
    raw = base64.b64encode(bytes(details.transaction)).decode()
    options = {"encoding": "base64", "replaceRecentBlockhash": True, "innerInstructions": True}
    again = (await post(server, json.dumps(call("simulateTransaction", [raw, options])))).json()["result"]["value"]
    assert again["err"] is None
    assert decoded([each for inner in again["innerInstructions"] for each in inner["instructions"]])


async def test_subscriptions_tell_what_lands(server: LocalnetServer, chain: Chain) -> None:
    raw = payment(chain, ADA, BOB.pubkey, SOL)
    signature = decode(raw).signatures[0]
    async with SolanaWsClient(server.websocket_url) as socket, asyncio.timeout(10):
        await socket.signature_subscribe(signature=signature)
        account = await socket.account_subscribe(pubkey=BOB.pubkey, encoding="base64")
        await chain.submit(raw)
        told = {type(each): each for each in (await socket.recv(), await socket.recv())}
        landed = told[SignatureNotification]
        assert isinstance(landed, SignatureNotification)
        assert landed.result.value.err is None
        changed = told[AccountNotification]
        assert isinstance(changed, AccountNotification)
        assert changed.result.value.lamports == SOL
        late = await socket.signature_subscribe(signature=signature)
        note = await socket.recv()
        assert isinstance(note, SignatureNotification)
        assert note.subscription == late.subscription_id
        await socket.unsubscribe(account)
        await chain.submit(payment(chain, ADA, BOB.pubkey, 2 * SOL))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await socket.recv()


async def test_a_receipt_is_told_to_who_asks_for_it(server: LocalnetServer, chain: Chain) -> None:
    raw = payment(chain, ADA, BOB.pubkey, SOL)
    signature = str(decode(raw).signatures[0])
    async with connect(server.websocket_url) as socket, asyncio.timeout(10):
        numbers = []
        for options in ({"enableReceivedNotification": True}, {}):
            await socket.send(json.dumps(call("signatureSubscribe", [signature, options])))
            numbers.append(json.loads(await socket.recv())["result"])
        await chain.submit(raw)
        told = [json.loads(await socket.recv())["params"] for _ in range(3)]
    found = [(each["subscription"], each["result"]["value"]) for each in told]
    landed = {"err": None}
    assert found == [(numbers[0], "receivedSignature"), (numbers[0], landed), (numbers[1], landed)]


async def test_a_stop_ends_open_connections(chain: Chain) -> None:
    server = LocalnetServer(chain, port=0)
    await server.start()
    async with SolanaWsClient(server.websocket_url) as socket:
        await socket.account_subscribe(pubkey=BOB.pubkey)
        async with asyncio.timeout(3):
            await server.stop(5.0)
    assert chain._watchers == []


async def test_a_taken_port_is_told(server: LocalnetServer, chain: Chain) -> None:
    with pytest.raises(CyxError, match="--port"):
        await LocalnetServer(chain, port=server.port).start()


async def post(server: LocalnetServer, body: bytes | str, kind: str = "application/json") -> httpx.Response:
    async with httpx.AsyncClient() as plain:
        return await plain.post(server.url, content=body, headers={"Content-Type": kind})


def call(method: Any = "getSlot", params: Any = None, ident: Any = 1, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": [] if params is None else params, "id": ident, **more}


ADDRESS = str(ADA.pubkey)
BAD_CALLS = [
    (-32700, b""),
    (-32700, b"\xff\xfe{"),
    (-32700, b"[" * 100_000),
    (-32700, b'{"jsonrpc":"2.0","method":"getSlot","id":NaN}'),
    (-32600, b"[]"),
    (-32600, b"7"),
    (-32600, b'"getSlot"'),
    (-32600, b"{}"),
    (-32600, json.dumps([call()] * 501).encode()),
    (-32600, json.dumps(call(jsonrpc="1.0")).encode()),
    (-32600, json.dumps(call(method=5)).encode()),
    (-32600, json.dumps(call(ident=[1])).encode()),
    (-32601, json.dumps(call("getEverything")).encode()),
    (-32601, json.dumps(call("__class__")).encode()),
    (-32602, json.dumps(call(params={"a": 1})).encode()),
    (-32602, json.dumps(call(params=[5])).encode()),
    (-32602, json.dumps(call(params=[{"commitment": "maybe"}])).encode()),
    (-32016, json.dumps(call(params=[{"minContextSlot": 2**60}])).encode()),
    (-32602, json.dumps(call("getBalance")).encode()),
    (-32602, json.dumps(call("getBalance", ["short"])).encode()),
    (-32602, json.dumps(call("getBalance", [[ADDRESS]])).encode()),
    (-32602, json.dumps(call("getBalance", [ADDRESS, {}, 3])).encode()),
    (-32602, json.dumps(call("getAccountInfo", [ADDRESS, {"encoding": "base64+gzip"}])).encode()),
    (-32602, json.dumps(call("getAccountInfo", [ADDRESS, {"dataSlice": 5}])).encode()),
    (-32602, json.dumps(call("getMultipleAccounts", [[ADDRESS] * 101])).encode()),
    (-32602, json.dumps(call("getTokenAccountsByOwner", [ADDRESS, {}])).encode()),
    (-32602, json.dumps(call("getTokenAccountsByOwner", [ADDRESS, {"mint": ADDRESS}])).encode()),
    (-32602, json.dumps(call("getTokenAccountsByOwner", [ADDRESS, {"programId": ADDRESS}])).encode()),
    (-32602, json.dumps(call("getTokenAccountBalance", [ADDRESS])).encode()),
    (-32602, json.dumps(call("getProgramAccounts", [ADDRESS, {"filters": [{"memcmp": {"bytes": "0OIl"}}]}])).encode()),
    (-32602, json.dumps(call("getProgramAccounts", [ADDRESS, {"filters": [{}]}])).encode()),
    (-32602, json.dumps(call("getFeeForMessage", ["AAAA"])).encode()),
    (-32602, json.dumps(call("sendTransaction", ["0OIl"])).encode()),
    (-32602, json.dumps(call("sendTransaction", ["1" * 1684])).encode()),
    (-32602, json.dumps(call("sendTransaction", ["****", {"encoding": "base64"}])).encode()),
    (-32602, json.dumps(call("sendTransaction", ["AAAA", {"encoding": "base64"}])).encode()),
    (-32602, json.dumps(call("sendTransaction", ["A" * 4000, {"encoding": "base64"}])).encode()),
    (-32602, json.dumps(call("simulateTransaction", ["AAAA", {"encoding": "base64"}])).encode()),
    (-32602, json.dumps(call("getSignatureStatuses", [["x"]])).encode()),
    (-32602, json.dumps(call("getSignatureStatuses", [[str(Signature.default())] * 257])).encode()),
    (-32602, json.dumps(call("getSignaturesForAddress", [ADDRESS, {"limit": 0}])).encode()),
    (-32602, json.dumps(call("requestAirdrop", [ADDRESS, -1])).encode()),
    (-32602, json.dumps(call("requestAirdrop", [ADDRESS, 1.5])).encode()),
    (-32602, json.dumps(call("requestAirdrop", [ADDRESS, 2**63])).encode()),
    (-32602, json.dumps(call("cyxwizAirdrop", [ADDRESS, 5])).encode()),
    (-32602, json.dumps(call("cyxwizAirdrop", [ADDRESS, "-5"])).encode()),
    (-32602, json.dumps(call("cyxwizAirdrop", [ADDRESS, "0.0000000001"])).encode()),
    (-32602, json.dumps(call("cyxwizAdvance", [0])).encode()),
    (-32602, json.dumps(call("getBalance", [ADDRESS, json.loads("[" * 200 + "]" * 200)])).encode()),
    (-32004, json.dumps(call("getBlockTime", [2**40])).encode()),
]


async def test_rubbish_gets_an_error_and_breaks_nothing(server: LocalnetServer, chain: Chain) -> None:
    before = len(chain.history)
    for code, body in BAD_CALLS:
        response = await post(server, body)
        assert response.status_code == 200
        document = response.json()
        assert set(document) == {"jsonrpc", "error", "id"}, body
        assert document["error"]["code"] == code, (body, document)
        assert document["error"]["message"]
    assert len(chain.history) == before


async def test_mutated_calls_never_end_in_an_internal_error(server: LocalnetServer, chain: Chain) -> None:
    chance = random.Random(5)
    good = base64.b64encode(payment(chain, ADA, BOB.pubkey, SOL)).decode()
    odd: list[Any] = [
        None,
        0,
        -1,
        2**64,
        1.5,
        "",
        "x" * 50,
        [],
        {},
        True,
        ADDRESS,
        good,
        [ADDRESS],
        {"encoding": "base64"},
    ]
    odd += [{"mint": ADDRESS}, {"filters": [{"dataSize": 165}]}, str(Signature.default()), [str(Signature.default())]]
    names = sorted(server._app._dispatcher._methods)
    names.remove("cyxwizAdvance")
    calls = [call(chance.choice(names), [chance.choice(odd) for _ in range(chance.randrange(4))]) for _ in range(3000)]
    for start in range(0, len(calls), 500):
        answers = (await post(server, json.dumps(calls[start : start + 500]))).json()
        assert len(answers) == 500
        for asked, answer in zip(calls[start:], answers, strict=False):
            assert answer.get("error", {}).get("code") != -32603, (asked, answer)


async def test_batches_and_notifications(server: LocalnetServer) -> None:
    silent = {"jsonrpc": "2.0", "method": "getSlot"}
    body = [call(ident="a"), 5, silent, call("nothing", ident=2), call("getHealth", ident=None)]
    answers = (await post(server, json.dumps(body))).json()
    assert [answer["id"] for answer in answers] == ["a", None, 2, None]
    assert [answer.get("error", {}).get("code") for answer in answers] == [None, -32600, -32601, None]
    assert (await post(server, json.dumps(silent))).content == b""


async def test_http_itself(server: LocalnetServer) -> None:
    assert (await post(server, b"x" * (MAX_BODY_BYTES + 1))).status_code == 413
    assert (await post(server, json.dumps(call()), "text/plain")).status_code == 415
    async with httpx.AsyncClient() as plain:
        assert (await plain.get(server.url + "/health")).text == "ok"
        assert (await plain.get(server.url)).status_code == 405
        assert (await plain.post(server.url + "/admin")).status_code == 404
        asked = await plain.options(server.url)
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, "*")
        other = await plain.post(f"http://127.0.0.1:{server.websocket_port}", json=call("getHealth"))
        assert other.json()["result"] == "ok"


async def test_tokens_come_from_the_faucet(server: LocalnetServer, chain: Chain) -> None:
    answer = (await post(server, json.dumps(call("cyxwizAirdrop", [ADDRESS, "12.5"])))).json()
    assert chain.history.status(Signature.from_string(answer["result"])) is not None
    info = (await post(server, json.dumps(call("cyxwizInfo")))).json()["result"]
    assert info["mint"] == str(chain.genesis.mint)
    slot = chain.slot()
    later = (await post(server, json.dumps(call("cyxwizAdvance", [3600])))).json()["result"]
    assert later >= slot + 9000


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\1", bytes(range(256)), b"\xff" * 1232, bytes(32)])
def test_base_58_goes_both_ways(data: bytes) -> None:
    assert base58.decode(base58.encode(data)) == data
    if len(data) == 32:
        assert base58.encode(data) == str(Pubkey(data))


async def test_rubbish_on_a_websocket_gets_errors(server: LocalnetServer) -> None:
    bad: list[str | bytes] = ["", "{", b"\xff\xfe", "[]", json.dumps(call("accountSubscribe", ["short"]))]
    bad += [json.dumps(call("signatureUnsubscribe", [77])), json.dumps(call("logsSubscribe", ["all"]))]
    codes = (-32700, -32700, -32700, -32600, -32602, -32602, -32601)
    async with connect(server.websocket_url) as socket, asyncio.timeout(10):
        for text, code in zip(bad, codes, strict=True):
            await socket.send(text)
            assert json.loads(await socket.recv())["error"]["code"] == code
        await socket.send(json.dumps(call("getHealth")))
        assert json.loads(await socket.recv())["result"] == "ok"


async def test_subscriptions_are_bounded_and_a_slow_reader_is_cut_off(chain: Chain) -> None:
    peer = Peer(chain)
    for number in range(MAX_SUBSCRIPTIONS + 1):
        await peer.take(json.dumps(call("accountSubscribe", [ADDRESS])))
        answer = json.loads(peer.outgoing.get_nowait() or "")
        assert ("error" in answer) == (number == MAX_SUBSCRIPTIONS)
    await chain.airdrop(ADA.pubkey, SOL)
    assert peer.outgoing.qsize() == MAX_SUBSCRIPTIONS
    await chain.airdrop(ADA.pubkey, SOL)
    assert peer.slow
    with pytest.raises(TooSlow):
        await peer.take(json.dumps(call()))
    assert peer.outgoing.qsize() <= MAX_WAITING
    peer.close()
    assert chain._watchers == []
