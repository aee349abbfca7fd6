"""Address tables: made with a recent slot, as clients make them, read by transactions, there at a replay."""

from __future__ import annotations

from pathlib import Path

import pytest
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.instruction import AccountMeta, Instruction
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from cyxwiz.ledger.localnet.chain import Chain, Flag, Refused, open_chain
from cyxwiz.ledger.localnet.genesis import signed
from cyxwiz.ledger.localnet.vm import TABLE_PROGRAM
from cyxwiz.runtime.clock import SystemClock
from tests.ledger import ADA, BOB, SOL, chain_with, lamports


def table_made(chain: Chain) -> tuple[Pubkey, VersionedTransaction]:
    slot = chain.slot()
    table, bump = Pubkey.find_program_address([bytes(ADA.pubkey), slot.to_bytes(8, "little")], TABLE_PROGRAM)
    data = b"\0" * 4 + slot.to_bytes(8, "little") + bytes([bump])
    last = AccountMeta(SYSTEM_PROGRAM, False, False)
    accounts = [
        AccountMeta(table, False, True),
        AccountMeta(ADA.pubkey, True, False),
        AccountMeta(ADA.pubkey, True, True),
    ]
    make = Instruction(TABLE_PROGRAM, data, [*accounts, last])
    extend = Instruction(TABLE_PROGRAM, b"\2\0\0\0" + (1).to_bytes(8, "little") + bytes(BOB.pubkey), [*accounts, last])
    return table, signed([make, extend], [ADA], chain.latest_blockhash()[0])


async def test_a_table_of_a_recent_slot_is_made_and_used(tmp_path: Path) -> None:
    chain = await chain_with(ADA, directory=tmp_path)
    await chain.advance(300)  # more slots than a program can ask for
    table, made = table_made(chain)
    assert chain.simulate(made, verify=True, any_blockhash=False)[0] is None
    await chain.submit(bytes(made))
    await chain.advance(1)
    give = transfer(TransferParams(from_pubkey=ADA.pubkey, to_pubkey=BOB.pubkey, lamports=SOL))
    tables = [AddressLookupTableAccount(table, [BOB.pubkey])]
    message = MessageV0.try_compile(ADA.pubkey, [give], tables, chain.latest_blockhash()[0])
    assert message.address_table_lookups
    await chain.submit(bytes(VersionedTransaction.populate(message, [ADA.sign(to_bytes_versioned(message))])))
    assert lamports(chain, BOB.pubkey) == SOL
    held = chain.account(table)
    await chain.aclose()
    again = await open_chain(tmp_path, SystemClock())
    assert again.account(table) == held
    assert lamports(again, BOB.pubkey) == SOL
    await again.aclose()


async def test_what_an_earlier_version_refused_is_refused_at_its_replay(tmp_path: Path) -> None:
    chain = await chain_with(ADA, directory=tmp_path)
    await chain.advance(1)
    table, made = table_made(chain)
    with pytest.raises(Refused):
        await chain._enqueue_one(made, chain.timeline.now_ms(), Flag.TAKE_BACK)
    before = lamports(chain, ADA.pubkey)
    await chain.aclose()
    again = await open_chain(tmp_path, SystemClock())
    assert again.account(table) is None
    assert lamports(again, ADA.pubkey) == before
    await again.aclose()
