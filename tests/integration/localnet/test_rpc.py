"""The contract of `Rpc`, in process and over HTTP with the solana library; and how its errors are told."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from solders.compute_budget import set_compute_unit_price
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.token import ID as TOKEN_PROGRAM
from solders.transaction import VersionedTransaction

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ledger.instructions import staking
from cyxwiz.ledger.instructions.values import token_account
from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.localnet.chain import Chain
from cyxwiz.ledger.localnet.genesis import signed
from cyxwiz.ledger.localnet.server import LocalnetServer
from cyxwiz.ledger.localnet.timeline import VALID_SLOTS
from cyxwiz.ledger.localnet.transactions import decode
from cyxwiz.ledger.programs import Program, local_id
from cyxwiz.ledger.rpc import Connection, JsonRpc, RpcRefusal
from cyxwiz.runtime import log
from tests.ledger import ADA, BOB, SOL, payment


async def refused(coro: Any) -> CyxError:
    with pytest.raises(CyxError) as caught:
        await coro
    return caught.value


async def test_a_payment_is_sent_and_found(rpc: JsonRpc, chain: Chain) -> None:
    blockhash, last = await rpc.latest_blockhash()
    assert last - VALID_SLOTS <= (await rpc.height()).block_height <= last
    raw = payment(chain, ADA, BOB.pubkey, SOL, blockhash)
    unknown = Signature.default()
    signature = await rpc.send(raw)
    found = await rpc.statuses([unknown, signature])
    assert found.found[0] is None
    status = found.found[1]
    assert status is not None
    assert (status.error, status.confirmed, status.finalized) == (None, True, True)
    assert status.slot <= found.slot
    account = await rpc.account(BOB.pubkey)
    assert account is not None
    assert account.lamports == SOL
    assert await rpc.account(Key.new().pubkey) is None
    document = await rpc.transaction(signature)
    assert document is not None
    assert document["transaction"]["signatures"] == [str(signature)]
    assert document["meta"]["err"] is None
    assert await rpc.transaction(unknown) is None


async def test_program_accounts_come_with_all_their_data(rpc: JsonRpc, chain: Chain) -> None:
    account = await rpc.account(chain.genesis.staking_config)
    assert account == chain.account(chain.genesis.staking_config)


async def test_token_balances(rpc: JsonRpc, chain: Chain) -> None:
    assert await rpc.token_balance(ADA.pubkey) == 0
    await chain.token_airdrop(ADA.pubkey, 2**63 - 1)
    assert await rpc.token_balance(ADA.pubkey) == 2**63 - 1


async def test_the_faucet_gives_sol(rpc: JsonRpc, chain: Chain) -> None:
    person = Key.new().pubkey
    one, two = await asyncio.gather(chain.airdrop(person, SOL), chain.airdrop(person, SOL))
    assert one != two
    account = await rpc.account(person)
    assert account is not None
    assert account.lamports == 2 * SOL
    assert (await refused(chain.airdrop(person, 0))).code is Code.INVALID


async def test_recent_fees_are_those_that_were_offered_there(rpc: JsonRpc, chain: Chain) -> None:
    assert await rpc.recent_priority_fee([BOB.pubkey]) == 0
    await chain.advance(1)  # a slot of its own

    async def offer(to: Pubkey, price: int) -> None:
        give = transfer(TransferParams(from_pubkey=ADA.pubkey, to_pubkey=to, lamports=SOL))
        await rpc.send(bytes(signed([set_compute_unit_price(price), give], [ADA], chain.latest_blockhash()[0])))

    other = Key.new().pubkey
    for to, price in ((BOB.pubkey, 777), (BOB.pubkey, 888), (other, 555)):
        await offer(to, price)
    prices = dict(chain.lowest_prices([BOB.pubkey]))
    assert max(prices.values()) == 777
    assert max(price for _, price in chain.lowest_prices([BOB.pubkey, ADA.pubkey])) == 777
    assert await rpc.recent_priority_fee([BOB.pubkey]) in prices.values()


async def test_refusals_have_codes_that_say_what_to_do(rpc: JsonRpc, chain: Chain) -> None:
    raw = payment(chain, ADA, BOB.pubkey, SOL)
    await rpc.send(raw, preflight=True)
    assert (await refused(rpc.send(raw, preflight=True))).code is Code.EXISTS
    await rpc.send(raw)  # as on every cluster
    old = payment(chain, ADA, BOB.pubkey, SOL, Hash.default())
    assert (await refused(rpc.send(old))).code is Code.STALE
    poor = payment(chain, Key.new(), BOB.pubkey, SOL)
    assert (await refused(rpc.send(poor))).code is Code.FUNDS
    much = payment(chain, ADA, BOB.pubkey, 10**6 * SOL)
    error = await refused(rpc.send(much, preflight=True))
    assert (error.code, error.details["program_error"]) == (Code.FUNDS, "ResultWithNegativeLamports")
    transaction = decode(payment(chain, ADA, BOB.pubkey, 2 * SOL))
    forged = VersionedTransaction.populate(transaction.message, [BOB.sign(b"another text")])
    assert "signature" in (await refused(rpc.send(bytes(forged)))).message
    assert (await refused(rpc.send(b"rubbish"))).code is Code.INVALID


def _again(chain: Chain) -> Instruction:
    """Configuring what is configured: the staking program refuses it with a number of its own."""
    keys = chain.genesis.keys
    rules = staking.Rules(keys.platform.pubkey, keys.judge.pubkey, 1, 60, 60, 0)
    return staking.configure(
        local_id(Program.STAKING), rules, payer=ADA.pubkey, admin=keys.platform.pubkey, mint=chain.genesis.mint
    )


async def test_a_programs_refusal_has_its_name(rpc: JsonRpc, chain: Chain) -> None:
    raw = signed([_again(chain)], [ADA, chain.genesis.keys.platform], chain.latest_blockhash()[0])
    error = await refused(rpc.send(bytes(raw), preflight=True))
    assert error.code is Code.INVALID
    assert error.details["program_error"] == "EXISTS"
    assert error.details["program"] == str(local_id(Program.STAKING))
    unsigned = VersionedTransaction.populate(raw.message, [Signature.default()] * 2)
    simulated = await rpc.simulate(unsigned)
    assert simulated is not None
    assert simulated.details["program_error"] == "EXISTS"


async def test_the_token_programs_numbers_are_not_taken_for_ours(rpc: JsonRpc, chain: Chain) -> None:
    await chain.token_airdrop(ADA.pubkey, 5)
    source = token_account(ADA.pubkey, chain.genesis.mint)
    metas = [AccountMeta(source, False, True), AccountMeta(source, False, True), AccountMeta(ADA.pubkey, True, False)]
    move = Instruction(TOKEN_PROGRAM, b"\3" + (6).to_bytes(8, "little"), metas)
    raw = signed([move], [ADA], chain.latest_blockhash()[0])
    error = await refused(rpc.send(bytes(raw), preflight=True))
    assert (error.code, error.details["program_error"]) == (Code.FUNDS, "InsufficientFunds")


async def test_a_simulation_changes_nothing(rpc: JsonRpc, chain: Chain) -> None:
    transaction = decode(payment(chain, ADA, BOB.pubkey, SOL, Hash.default()))
    assert await rpc.simulate(transaction) is None
    assert chain.account(BOB.pubkey) is None


async def test_statuses_are_asked_for_within_bounds(rpc: JsonRpc) -> None:
    for count in (0, 257):
        assert (await refused(rpc.statuses([Signature.default()] * count))).code is Code.INVALID


async def test_a_cluster_that_is_not_there_is_unavailable_and_its_key_is_not_told() -> None:
    connection = Connection("http://user:secret@127.0.0.1:1/path?api-key=secret", timeout=2)
    rpc = JsonRpc(connection.call, mint=Pubkey.default(), programs=[])
    error = await refused(rpc.height())
    assert error.code is Code.UNAVAILABLE
    assert "127.0.0.1:1" in error.message
    assert "secret" not in error.message
    await connection.aclose()


@pytest.mark.parametrize("level", ["debug", "info"])
async def test_the_key_of_a_cluster_is_not_in_the_log(
    server: LocalnetServer, level: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    before = root.level
    connection = Connection(f"{server.url}/?api-key=secret")
    try:
        log.configure(level, "json")
        await JsonRpc(connection.call, mint=Pubkey.default(), programs=[]).height()
    finally:
        root.setLevel(before)
        await connection.aclose()
    assert "secret" not in capsys.readouterr().err


@pytest.mark.parametrize("url", ["", "8899", "ftp://x", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(CyxError) as caught:
        Connection(url)
    assert caught.value.code is Code.INVALID


@pytest.mark.parametrize(
    "answer",
    [
        None,
        5,
        {},
        {"value": None},
        {"value": [1], "context": {"slot": 1}},
        "x",
        {"value": {"blockhash": "x", "lastValidBlockHeight": 1}},
    ],
)
async def test_answers_that_are_none_are_told_as_such(answer: Any) -> None:
    async def call(method: str, params: list[Any]) -> Any:
        return answer

    rpc = JsonRpc(call, mint=Pubkey.default(), programs=[])
    for coro in (rpc.height(), rpc.latest_blockhash(), rpc.statuses([Signature.default()]), rpc.send(b"")):
        assert (await refused(coro)).code is Code.UNAVAILABLE


@pytest.mark.parametrize(
    ("code", "expected"), [(-32601, Code.UNSUPPORTED), (-32005, Code.UNAVAILABLE), (429, Code.UNAVAILABLE)]
)
async def test_errors_of_the_node(code: int, expected: Code) -> None:
    async def call(method: str, params: list[Any]) -> Any:
        raise RpcRefusal(code, "so it is")

    rpc = JsonRpc(call, mint=Pubkey.default(), programs=[])
    assert (await refused(rpc.height())).code is expected
