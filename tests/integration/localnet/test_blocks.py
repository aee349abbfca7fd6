"""Blocks, the cluster and what is on the chain in all, as the solana library's typed client reads them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from solana.rpc.async_api import AsyncClient
from solana.rpc.core import RPCException
from solana.rpc.models import TokenAccountOpts
from solders.instruction import AccountMeta, Instruction
from solders.message import MessageV0, to_bytes_versioned
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.token import ID as TOKEN_PROGRAM
from solders.transaction import VersionedTransaction

from cyxwiz.ledger.instructions.values import token_account
from cyxwiz.ledger.localnet.chain import Chain
from cyxwiz.ledger.localnet.genesis import signed
from tests.ledger import ADA, BOB, SOL, payment


def slot_of(chain: Chain, sent: Signature) -> int:
    landed = chain.history.status(sent)
    assert landed is not None
    return landed.slot


async def test_a_block_has_what_landed_in_its_slot(client: AsyncClient, chain: Chain) -> None:
    await chain.advance(1)
    sent = await chain.submit(payment(chain, ADA, BOB.pubkey, SOL))
    slot = slot_of(chain, sent)
    await chain.advance(1)
    block: Any = (await client.get_block(slot, max_supported_transaction_version=0)).value
    assert str(sent) in [str(each.transaction.signatures[0]) for each in block.transactions]
    assert all(each.meta.err is None for each in block.transactions)
    assert (block.block_height, block.parent_slot) == (slot, slot - 1)
    assert block.block_time == chain.timeline.unix_of_slot(slot)
    assert block.blockhash == chain.timeline.blockhash(slot)
    before: Any = (await client.get_block(slot - 1, max_supported_transaction_version=0)).value
    assert block.previous_blockhash == before.blockhash
    assert slot in (await client.get_blocks(slot, slot + 1)).value
    assert (await client.get_blocks(slot + 10**6)).value == []
    for encoding in ("jsonParsed", "base64"):
        assert (await client.get_block(slot, encoding, max_supported_transaction_version=0)).value
    for details in ("accounts", "signatures", "none"):
        options = {"transactionDetails": details, "maxSupportedTransactionVersion": 0}
        shown = await ask(client, "getBlock", slot, options)
        assert (str(sent) in str(shown), "transactions" in shown) == (details != "none", details == "accounts")


async def ask(client: AsyncClient, method: str, *params: Any) -> Any:
    """As it goes over the wire, where the library has no argument for it."""
    async with httpx.AsyncClient() as http:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        return (await http.post(str(client._provider.endpoint_uri), json=body)).json()["result"]


async def test_a_block_that_is_not_made_or_not_kept_is_told(client: AsyncClient, chain: Chain) -> None:
    with pytest.raises(RPCException, match="not available"):
        await client.get_block(chain.slot() + 1000)
    latest = chain.latest_blockhash()[0]
    give = transfer(TransferParams(from_pubkey=ADA.pubkey, to_pubkey=BOB.pubkey, lamports=SOL))
    message = MessageV0.try_compile(ADA.pubkey, [give], [], latest)
    made = VersionedTransaction.populate(message, [ADA.sign(to_bytes_versioned(message))])
    sent = await chain.submit(bytes(made))
    slot = slot_of(chain, sent)
    await chain.advance(1)
    with pytest.raises(RPCException, match="maxSupportedTransactionVersion"):
        await client.get_block(slot)
    chain.history._kept = 1
    await chain.submit(payment(chain, ADA, BOB.pubkey, SOL + 1))
    first = (await client.get_first_available_block()).value
    assert first == slot + 1 == (await client.get_minimum_ledger_slot()).value
    with pytest.raises(RPCException, match=f"First available block: {first}"):
        await client.get_block(slot)
    assert (await client.get_blocks(0, slot)).value == []


async def test_the_supply_and_who_has_most_of_it(client: AsyncClient, chain: Chain) -> None:
    await chain.token_airdrop(ADA.pubkey, 7)
    await chain.token_airdrop(BOB.pubkey, 5)
    mint = chain.genesis.mint
    largest = (await client.get_token_largest_accounts(mint)).value
    accounts = [token_account(each.pubkey, mint) for each in (ADA, BOB)]
    assert [(each.address, each.amount.amount) for each in largest][:2] == [(accounts[0], "7"), (accounts[1], "5")]
    supply = (await client.get_supply()).value
    faucet = chain.genesis.keys.faucet.pubkey
    assert supply.non_circulating_accounts == [faucet]
    assert supply.total == supply.circulating + supply.non_circulating
    assert supply.circulating > 100 * SOL
    richest = (await ask(client, "getLargestAccounts", {"filter": "circulating"}))["value"]
    assert {"address": str(ADA.pubkey), "lamports": 100 * SOL} in richest
    assert str(faucet) not in [each["address"] for each in richest]
    assert (await client.get_largest_accounts()).value[0].address == faucet


async def test_what_another_may_spend_is_found_by_its_name(client: AsyncClient, chain: Chain) -> None:
    await chain.token_airdrop(ADA.pubkey, 7)
    mint, account = chain.genesis.mint, token_account(ADA.pubkey, chain.genesis.mint)
    spender = AccountMeta(BOB.pubkey, False, False)
    metas = [AccountMeta(account, False, True), spender, AccountMeta(ADA.pubkey, True, False)]
    approve = Instruction(TOKEN_PROGRAM, b"\x04" + (3).to_bytes(8, "little"), metas)
    await chain.submit(bytes(signed([approve], [ADA], chain.latest_blockhash()[0])))
    found = (await client.get_token_accounts_by_delegate(BOB.pubkey, TokenAccountOpts(mint=mint))).value
    assert [each.pubkey for each in found] == [account]
    assert (await client.get_token_accounts_by_delegate(ADA.pubkey, TokenAccountOpts(mint=mint))).value == []


async def test_a_cluster_of_one_says_so(client: AsyncClient, chain: Chain) -> None:
    faucet = chain.genesis.keys.faucet.pubkey
    assert (await client.get_identity()).value.identity == faucet
    assert (await client.get_slot_leader()).value == faucet
    assert (await client.get_slot_leaders(0, 3)).value == [faucet] * 3
    assert (await client.get_cluster_nodes()).value == []
    votes = (await client.get_vote_accounts()).value
    assert (votes.current, votes.delinquent) == ([], [])
    assert (await client.get_inflation_rate()).value.total == 0
    assert (await client.get_inflation_governor()).value.initial == 0
    assert (await client.get_inflation_reward([ADA.pubkey])).value == [None]
    assert await ask(client, "getBlockCommitment", 0) == {"commitment": None, "totalStake": 0}
    await client.get_block_commitment(0)
    assert (await client.get_epoch_schedule()).value.slots_per_epoch == 432_000
    await chain.advance(120)
    samples = (await client.get_recent_performance_samples(2)).value
    assert [each.sample_period_secs for each in samples] == [60, 60]
    assert samples[0].slot - samples[1].slot == 150
