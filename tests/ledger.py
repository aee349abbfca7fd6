"""What tests of the ledger share: a chain in memory, people with SOL, transfers."""

from __future__ import annotations

from pathlib import Path

from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer

from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.localnet.chain import Chain, open_chain
from cyxwiz.ledger.localnet.genesis import signed
from cyxwiz.ports.clock import Clock
from cyxwiz.runtime.clock import SystemClock

SOL = 10**9
ADA, BOB = Key.new(), Key.new()


async def chain_with(*people: Key, directory: Path | None = None, clock: Clock | None = None) -> Chain:
    """A chain on which each of them has 100 SOL."""
    chain = await open_chain(directory, clock or SystemClock())
    for each in people:
        await chain.airdrop(each.pubkey, 100 * SOL)
    return chain


def payment(chain: Chain, payer: Key, to: Pubkey, lamports: int, blockhash: Hash | None = None) -> bytes:
    blockhash = blockhash or chain.latest_blockhash()[0]
    give = transfer(TransferParams(from_pubkey=payer.pubkey, to_pubkey=to, lamports=lamports))
    return bytes(signed([give], [payer], blockhash))


def lamports(chain: Chain, address: Pubkey) -> int:
    account = chain.account(address)
    return account.lamports if account else 0
