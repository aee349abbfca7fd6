"""The chain on the real VM: admission, durability, replay, time."""

from __future__ import annotations

import asyncio
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from solders.sysvar import CLOCK
from solders.transaction import VersionedTransaction

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ledger.instructions import staking
from cyxwiz.ledger.instructions.values import token_account
from cyxwiz.ledger.localnet import genesis
from cyxwiz.ledger.localnet.chain import BadSignature, Chain, Refused, open_chain
from cyxwiz.ledger.localnet.genesis import load_or_make_genesis
from cyxwiz.ledger.localnet.journal import FileJournal
from cyxwiz.ledger.localnet.timeline import VALID_SLOTS
from cyxwiz.ledger.localnet.transactions import decode, signature_of
from cyxwiz.ledger.localnet.vm import Tokens
from cyxwiz.ledger.programs import Program, local_id
from cyxwiz.runtime.clock import SystemClock
from tests.ledger import ADA, BOB, SOL, chain_with, lamports, payment

FEE = 5000


class HandClock(SystemClock):
    """Moved by hand; `sleep` only yields."""

    def __init__(self) -> None:
        self.at = datetime(2030, 1, 1, tzinfo=UTC)
        self.passed = 0.0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.passed

    def move(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.passed += seconds


async def refusal(chain: Chain, raw: bytes, *, preflight: bool = True) -> object:
    with pytest.raises(Refused) as caught:
        await chain.submit(raw, preflight=preflight)
    return caught.value.error


async def test_genesis_has_keys_a_mint_programs_and_a_staking_config(tmp_path: Path) -> None:
    chain = await open_chain(tmp_path / "chain", SystemClock())
    genesis = chain.genesis
    mint = chain.account(genesis.mint)
    assert mint is not None
    data = bytes(mint.data)
    assert data[:4] == b"\1\0\0\0"
    assert data[4:36] == bytes(genesis.keys.mint_authority.pubkey)
    assert data[44] == 9
    assert data[46:50] == bytes(4), "there is an authority that can freeze accounts"
    for program in Program:
        account = chain.account(local_id(program))
        assert account is not None
        assert account.executable
    config = chain.account(genesis.staking_config)
    assert config is not None
    rules = staking.Config.decode(genesis.staking_config, bytes(config.data))
    assert (rules.admin, rules.judge) == (genesis.keys.platform.pubkey, genesis.keys.judge.pubkey)
    assert lamports(chain, genesis.keys.platform.pubkey) > 0
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "chain").iterdir()}
    assert set(modes.values()) == {0o600}, modes
    assert stat.S_IMODE((tmp_path / "chain").stat().st_mode) == 0o700
    await chain.aclose()


async def test_a_chain_comes_back_as_it_was(tmp_path: Path) -> None:
    clock = HandClock()
    chain = await chain_with(ADA, directory=tmp_path, clock=clock)
    raw = payment(chain, ADA, BOB.pubkey, SOL)
    landed = await chain.submit(raw)
    failed = await chain.submit(payment(chain, ADA, BOB.pubkey, 1000 * SOL), preflight=False)
    await refusal(chain, payment(chain, ADA, BOB.pubkey, 1001 * SOL))
    await chain.token_airdrop(ADA.pubkey, 77)
    await chain.advance(10)
    early, _ = chain.latest_blockhash()
    seen = (chain.slot(), chain.history.status(landed), chain.history.status(failed), chain.genesis.hash)
    addresses = [
        ADA.pubkey,
        BOB.pubkey,
        token_account(ADA.pubkey, chain.genesis.mint),
        chain.genesis.keys.faucet.pubkey,
    ]
    accounts = [chain.account(each) for each in addresses]
    assert seen[2] is not None
    assert seen[2].error == {"InstructionError": [0, {"Custom": 1}]}
    await chain.aclose()

    clock.move(1)
    again = await open_chain(tmp_path, clock)
    assert [again.account(each) for each in addresses] == accounts
    assert (again.history.status(landed), again.history.status(failed), again.genesis.hash) == seen[1:]
    assert again.slot() == seen[0] + 2  # a second, of 400 ms slots
    assert await refusal(again, raw) == "AlreadyProcessed"
    await again.submit(payment(again, ADA, BOB.pubkey, 5, early))  # given out before the stop, and still good
    await again.airdrop(BOB.pubkey, SOL)
    await again.aclose()


async def test_a_wall_clock_that_was_set_back_does_not_turn_the_chain_back(tmp_path: Path) -> None:
    clock = HandClock()
    clock.move(3600)
    chain = await chain_with(ADA, directory=tmp_path, clock=clock)
    clock.move(60)
    await chain.submit(payment(chain, ADA, BOB.pubkey, SOL))
    slot = chain.slot()
    await chain.aclose()
    clock.move(-3000)
    again = await open_chain(tmp_path, clock)
    assert again.slot() == slot
    clock.move(4)
    assert again.slot() == slot + 10
    await again.aclose()


async def test_a_blockhash_is_good_until_its_last_block_height_and_no_longer() -> None:
    clock = HandClock()
    chain = await chain_with(ADA, clock=clock)
    blockhash, last = chain.latest_blockhash()
    assert last == chain.slot() + VALID_SLOTS
    clock.move(0.4 * VALID_SLOTS)
    assert chain.slot() == last
    await chain.submit(payment(chain, ADA, BOB.pubkey, SOL, blockhash))
    clock.move(0.4)
    for preflight in (True, False):
        raw = payment(chain, ADA, BOB.pubkey, SOL + 1, blockhash)
        assert await refusal(chain, raw, preflight=preflight) == "BlockhashNotFound"
    await chain.advance(10**6)
    assert chain.timeline.slot_of(chain.latest_blockhash()[0]) == chain.slot()


async def test_time_moves_by_the_clock_for_programs_too() -> None:
    clock = HandClock()
    chain = await chain_with(clock=clock)
    before = chain.slot()
    clock.move(10)
    assert chain.slot() == before + 25
    await chain.advance(3600)
    assert chain.slot() == before + 25 + 9000
    sysvar = chain.account(CLOCK)
    assert sysvar is not None
    assert int.from_bytes(bytes(sysvar.data)[:8], "little") == chain.slot()
    assert int.from_bytes(bytes(sysvar.data)[32:40], "little") == int(clock.now().timestamp()) + 3600


async def test_a_failed_transaction_pays_its_fee_only_without_preflight() -> None:
    chain = await chain_with(ADA)
    raw = payment(chain, ADA, BOB.pubkey, 1000 * SOL)
    assert await refusal(chain, raw) == {"InstructionError": [0, {"Custom": 1}]}
    assert lamports(chain, ADA.pubkey) == 100 * SOL
    signature = await chain.submit(raw, preflight=False)
    assert lamports(chain, ADA.pubkey) == 100 * SOL - FEE
    status = await chain.status(signature)
    assert status is not None
    assert status.error == {"InstructionError": [0, {"Custom": 1}]}


@pytest.mark.parametrize("preflight", [True, False])
async def test_who_cannot_pay_the_fee_does_not_land(preflight: bool) -> None:
    chain = await chain_with()
    raw = payment(chain, BOB, ADA.pubkey, 1)
    assert await refusal(chain, raw, preflight=preflight) == "AccountNotFound"
    assert await chain.status(signature_of(decode(raw))) is None


async def test_a_transaction_is_executed_once_however_often_it_comes() -> None:
    chain = await chain_with(ADA)
    raw = payment(chain, ADA, BOB.pubkey, SOL)
    await asyncio.gather(*(chain.submit(raw, preflight=number % 2 == 0) for number in range(20)))
    assert await refusal(chain, raw) == "AlreadyProcessed"
    await chain.submit(raw, preflight=False)
    assert (lamports(chain, BOB.pubkey), lamports(chain, ADA.pubkey)) == (SOL, 99 * SOL - FEE)


async def test_a_foreign_signature_is_refused() -> None:
    chain = await chain_with(ADA)
    transaction = decode(payment(chain, ADA, BOB.pubkey, SOL))
    forged = VersionedTransaction.populate(transaction.message, [BOB.sign(bytes(transaction.message))])
    with pytest.raises(BadSignature):
        await chain.submit(bytes(forged))


async def test_rubbish_is_refused() -> None:
    chain = await chain_with(ADA)
    good = payment(chain, ADA, BOB.pubkey, SOL)
    for raw in (b"", b"\0" * 100, b"\xff" * 300, good + b"\0", good[:-1], b"\1" * 1233, b"\x81" + good[1:]):
        with pytest.raises((CyxError, BadSignature)):
            await chain.submit(raw)
    assert len(chain.history) == 4  # three of the genesis, and the airdrop


class Slow(FileJournal):
    """Counts, and lets a test hold what is being written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.commits: list[int] = []
        self.go = asyncio.Event()
        self.go.set()

    async def commit(self, records: object) -> None:
        self.commits.append(len(records))  # type: ignore[arg-type]
        await super().commit(records)  # type: ignore[arg-type]
        await self.go.wait()


async def held(tmp_path: Path) -> tuple[Chain, Slow]:
    """A chain whose commits return only when they may."""
    await (await chain_with(ADA, directory=tmp_path)).aclose()
    journal = Slow(tmp_path / "chain.log")
    chain = Chain(load_or_make_genesis(tmp_path, 0), journal, SystemClock())
    await chain.begin(journal.read())
    journal.go.clear()
    return chain, journal


async def test_concurrent_transactions_share_a_commit_and_nothing_shows_before_it(tmp_path: Path) -> None:
    chain, journal = await held(tmp_path)
    raws = [payment(chain, ADA, BOB.pubkey, SOL + number) for number in range(50)]
    first = asyncio.ensure_future(chain.submit(raws[0]))
    await asyncio.sleep(0.01)
    rest = [asyncio.ensure_future(chain.submit(raw)) for raw in raws[1:]]
    asked = asyncio.ensure_future(chain.status(signature_of(decode(raws[7]))))
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in (first, asked, *rest))
    assert lamports(chain, BOB.pubkey) == 0
    journal.go.set()
    await asyncio.gather(first, *rest)
    assert await asked is not None
    assert journal.commits == [1, 49]
    assert lamports(chain, BOB.pubkey) == sum(SOL + number for number in range(50))
    await chain.aclose()


async def test_a_cancelled_caller_leaves_its_transaction_to_land(tmp_path: Path) -> None:
    chain, journal = await held(tmp_path)
    raw = payment(chain, ADA, BOB.pubkey, SOL)
    task = asyncio.ensure_future(chain.submit(raw))
    await asyncio.sleep(0.01)
    task.cancel()
    journal.go.set()
    assert await chain.status(signature_of(decode(raw))) is not None
    await chain.aclose()


async def test_a_disk_that_refuses_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = await chain_with(ADA, directory=tmp_path)
    raw = payment(chain, ADA, BOB.pubkey, SOL)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.pwrite", full)
        with pytest.raises(CyxError) as caught:
            await chain.submit(raw)
    assert caught.value.code is Code.UNAVAILABLE
    assert lamports(chain, BOB.pubkey) == 0
    await chain.submit(raw)
    await chain.aclose()
    again = await open_chain(tmp_path, SystemClock())
    assert lamports(again, BOB.pubkey) == SOL
    await again.aclose()


async def test_details_are_forgotten_and_statuses_kept() -> None:
    chain = await open_chain(None, SystemClock(), kept=5)
    signatures = [await chain.airdrop(ADA.pubkey, SOL) for _ in range(12)]
    assert all(chain.history.status(each) for each in signatures)
    assert [bool(chain.history.details(each)) for each in signatures] == [False] * 7 + [True] * 5
    found = [signature for signature, _ in chain.history.of_address(ADA.pubkey, 100, None, None)]
    assert found == signatures[:6:-1]


@pytest.mark.parametrize("name", ["mint.json", "genesis.json", "staking.so", "faucet.json"])
async def test_a_directory_with_a_missing_part_is_refused(tmp_path: Path, name: str) -> None:
    await (await chain_with(directory=tmp_path)).aclose()
    (tmp_path / name).unlink()
    with pytest.raises(CyxError) as caught:
        await open_chain(tmp_path, SystemClock())
    assert caught.value.code is Code.INVALID
    assert not (tmp_path / name).exists()


async def test_two_that_begin_at_once_have_one_genesis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = genesis._begin

    def slowly(directory: Path, path: Path, now_ms: int) -> None:
        time.sleep(0.1)
        begin(directory, path, now_ms)

    monkeypatch.setattr(genesis, "_begin", slowly)
    made = await asyncio.gather(*(asyncio.to_thread(load_or_make_genesis, tmp_path, now) for now in (1000, 2000)))
    assert made[0].hash == made[1].hash == load_or_make_genesis(tmp_path, 3000).hash


async def test_a_changed_program_is_refused(tmp_path: Path) -> None:
    await (await chain_with(directory=tmp_path)).aclose()
    body = bytearray((tmp_path / "escrow.so").read_bytes())
    body[-1] ^= 1
    (tmp_path / "escrow.so").write_bytes(body)
    with pytest.raises(CyxError, match="escrow"):
        await open_chain(tmp_path, SystemClock())


@pytest.mark.parametrize("amount", [0, -1, 2**63, 2**64])
async def test_amounts_out_of_bounds_are_refused(amount: int) -> None:
    chain = await chain_with()
    for coro in (chain.airdrop(ADA.pubkey, amount), chain.token_airdrop(ADA.pubkey, amount), chain.advance(amount)):
        with pytest.raises(CyxError) as caught:
            await coro
        assert caught.value.code is Code.INVALID


async def test_tokens_are_made_for_an_owner() -> None:
    chain = await chain_with()
    await chain.token_airdrop(ADA.pubkey, 3)
    await chain.token_airdrop(ADA.pubkey, 4)
    account = chain.account(token_account(ADA.pubkey, chain.genesis.mint))
    assert Tokens.of(account) == Tokens(chain.genesis.mint, ADA.pubkey, 7)
