"""The sender over the real VM on virtual time, with a cluster that fails in every way: once each, never lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.localnet.chain import Chain, open_chain
from cyxwiz.ledger.localnet.direct import direct_rpc
from cyxwiz.ledger.localnet.transactions import decode, price_of
from cyxwiz.ledger.sender import Failed, Intent, Landed, Sender, SendPolicy, Signed
from cyxwiz.runtime.clock import VirtualClock, VirtualLoop
from tests.integration.localnet.faulty import Faults, FaultyRpc
from tests.ledger import SOL
from tests.soak import examples

INTENTS = 40
FAULTS = {
    "none": Faults(),
    "lossy": Faults(lost=0.3, unanswered=0.2, behind=0.2),
    "late": Faults(delayed=0.7, doubled=0.5, longest_delay=140, behind=0.3),
    "down": Faults(down=0.6, unanswered=0.2, delayed=0.3),
    "behind": Faults(behind=0.8, longest_lag=140, delayed=0.5, longest_delay=70),
    "brink": Faults(brink=0.6, slow=1.0),
    "brink and behind": Faults(brink=0.6, behind=0.4, longest_lag=40),
    "all": Faults(lost=0.2, unanswered=0.3, delayed=0.4, doubled=0.4, behind=0.4, down=0.3, longest_lag=140),
}


def virtually(work: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(work())  # type: ignore[arg-type]


@dataclass
class Row:
    """An intent as a database would keep it: what is here outlives the sender."""

    payer: Key
    to: Pubkey
    lamports: int
    signed: list[Signed] = field(default_factory=list)
    result: Landed | Failed | None = None

    def intent(self) -> Intent:
        give = transfer(TransferParams(from_pubkey=self.payer.pubkey, to_pubkey=self.to, lamports=self.lamports))
        return Intent((give,), (self.payer,), unit_limit=1000)


def effects(chain: Chain, to: Pubkey) -> list[Signature]:
    """Transactions that paid there."""
    found = chain.history.of_address(to, 1000, None, None)
    return [signature for signature, details in found if details.outcome.error is None]


class Crash(Exception):
    """The process ended."""


async def deliver(row: Row, sender: Sender, clock: VirtualClock, chance: random.Random, crashes: int) -> None:
    """Sends a row's intent with a process that ends at some instants and is started again."""

    async def record(signature: Signature, raw: bytes, last: int) -> None:
        nonlocal crashes
        await clock.sleep(chance.random() * 0.05)
        when = chance.random()
        if crashes and when < 0.2:
            crashes -= 1
            raise Crash  # before it was written
        row.signed.append(Signed(signature, raw, last))
        if crashes and when < 0.5:
            crashes -= 1
            raise Crash  # after it was written, before anything was sent

    while row.result is None:
        patience = chance.random() * 60 if crashes else None
        try:
            async with asyncio.timeout(patience):
                row.result = await sender.send(row.intent(), record=record, signed=tuple(row.signed))
        except TimeoutError:
            crashes -= 1
        except Crash:
            await clock.sleep(chance.random() * 100)


def play(seed: int, faults: Faults, simulate: bool) -> int:
    """A history; how many faults there were."""
    wrong = 0

    async def history() -> None:
        nonlocal wrong
        chance, clock = random.Random(seed), VirtualClock()
        chain = await open_chain(None, clock)
        payers = [Key.new() for _ in range(4)]
        for payer in payers:
            await chain.airdrop(payer.pubkey, 5000 * SOL)
        rpc = FaultyRpc(direct_rpc(chain), chain, clock, seed, faults)
        policy = SendPolicy(max_signings=1000, simulate=simulate)
        rows = [Row(chance.choice(payers), Key.new().pubkey, SOL + number) for number in range(INTENTS)]
        hopeless = [Row(chance.choice(payers), Key.new().pubkey, 10**6 * SOL) for _ in range(4)]
        async with asyncio.timeout(6 * 3600), asyncio.TaskGroup() as group:
            for row in rows + hopeless:
                sender = Sender(rpc, clock, policy)
                one = random.Random(chance.random())
                group.create_task(deliver(row, sender, clock, one, chance.randrange(4)))
        rpc.heal()
        await clock.sleep(400)  # what is on its way still arrives, or never can
        for row in rows:
            assert isinstance(row.result, Landed), row.result
            assert effects(chain, row.to) == [row.result.signature]
            account = chain.account(row.to)
            assert account is not None
            assert account.lamports == row.lamports
            assert row.result.signature in {each.signature for each in row.signed}
        for row in hopeless:
            assert isinstance(row.result, Failed), row.result
            unexplained = "program" in row.result.error.details and row.result.error.details["program"] is None
            assert row.result.error.code is (Code.INVALID if unexplained else Code.FUNDS)
            assert effects(chain, row.to) == []
        wrong = rpc.wrong
        await rpc.aclose()
        await chain.aclose()

    virtually(history)
    return wrong


@pytest.mark.parametrize("name", FAULTS)
def test_every_intent_happens_once_whatever_the_cluster_does(name: str) -> None:
    wrong = sum(play(seed, FAULTS[name], simulate=seed % 2 == 0) for seed in range(examples(5)))
    assert (wrong > 0) == (name != "none")


async def world() -> tuple[Chain, VirtualClock, Key]:
    clock = VirtualClock()
    chain = await open_chain(None, clock)
    payer = Key.new()
    await chain.airdrop(payer.pubkey, 100 * SOL)
    return chain, clock, payer


async def keep(*_: object) -> None:
    """Records nothing."""


def test_it_is_recorded_before_it_is_sent_and_not_sent_when_that_fails() -> None:
    async def one() -> None:
        chain, clock, payer = await world()
        rpc = FaultyRpc(direct_rpc(chain), chain, clock, 1, Faults())
        row = Row(payer, Key.new().pubkey, SOL)
        sent: list[int] = []

        async def record(signature: Signature, raw: bytes, last: int) -> None:
            sent.append(rpc.sent)
            raise OSError("no space")

        with pytest.raises(OSError, match="no space"):
            await Sender(rpc, clock).send(row.intent(), record=record)
        assert sent == [0]
        assert rpc.sent == 0

    virtually(one)


def test_the_same_bytes_are_sent_until_they_are_over_and_the_fee_rises() -> None:
    async def one() -> None:
        chain, clock, payer = await world()
        rpc = FaultyRpc(direct_rpc(chain), chain, clock, 1, Faults())
        raws: list[bytes] = []

        async def send(raw: bytes, *, preflight: bool = False) -> Signature:
            raws.append(raw)
            return Signature.default()  # swallowed

        rpc.send = send  # type: ignore[method-assign]
        row = Row(payer, Key.new().pubkey, SOL)
        prices: list[int] = []

        async def record(signature: Signature, raw: bytes, last: int) -> None:
            assert chain.slot() > (row.signed[-1].last_valid_block_height if row.signed else -1)
            row.signed.append(Signed(signature, raw, last))
            prices.append(price_of(decode(raw)))

        policy = SendPolicy(max_signings=4, cap=5000)
        result = await Sender(rpc, clock, policy).send(row.intent(), record=record)
        assert isinstance(result, Failed)
        assert result.error.code is Code.TIMEOUT
        assert prices == [1000, 2000, 4000, 5000]
        for each in row.signed:
            assert 25 <= raws.count(each.raw) <= 31  # a minute, every two seconds

    virtually(one)


def test_one_that_landed_unknown_is_found_and_not_signed_again() -> None:
    async def one() -> None:
        chain, clock, payer = await world()
        good = direct_rpc(chain)
        row = Row(payer, Key.new().pubkey, SOL)

        async def record(signature: Signature, raw: bytes, last: int) -> None:
            row.signed.append(Signed(signature, raw, last))

        class Gone(FaultyRpc):
            async def send(self, raw: bytes, *, preflight: bool = False) -> Signature:
                await good.send(raw)
                raise Crash

        with pytest.raises(Crash):
            await Sender(Gone(good, chain, clock, 1, Faults()), clock).send(row.intent(), record=record)
        await clock.sleep(10_000)
        result = await Sender(good, clock).send(row.intent(), record=record, signed=row.signed)
        assert result == Landed(row.signed[0].signature, 0) or isinstance(result, Landed)
        assert len(row.signed) == 1
        assert effects(chain, row.to) == [row.signed[0].signature]

    virtually(one)


@pytest.mark.parametrize("simulate", [True, False])
def test_what_a_program_refuses_fails_with_its_name(simulate: bool) -> None:
    async def one() -> None:
        chain, clock, payer = await world()
        give = transfer(TransferParams(from_pubkey=payer.pubkey, to_pubkey=Key.new().pubkey, lamports=10**6 * SOL))
        sender = Sender(direct_rpc(chain), clock, SendPolicy(simulate=simulate))
        result = await sender.send(Intent((give,), (payer,)), record=keep)
        assert isinstance(result, Failed)
        assert result.error.code is Code.FUNDS
        assert result.error.details["program_error"] == "ResultWithNegativeLamports"
        assert (result.signature is None) == simulate

    virtually(one)


def test_who_cannot_pay_fails_once_nothing_can_land() -> None:
    async def one() -> None:
        chain, clock, _ = await world()
        poor = Key.new()
        give = transfer(TransferParams(from_pubkey=poor.pubkey, to_pubkey=Key.new().pubkey, lamports=SOL))
        sender = Sender(direct_rpc(chain), clock, SendPolicy(simulate=False))
        before = clock.monotonic()
        result = await sender.send(Intent((give,), (poor,)), record=keep)
        assert isinstance(result, Failed)
        assert result.error.code is Code.FUNDS
        assert clock.monotonic() - before >= 60

    virtually(one)


def test_intents_that_cannot_be_signed_are_refused() -> None:
    async def one() -> None:
        chain, clock, payer = await world()
        sender = Sender(direct_rpc(chain), clock, SendPolicy(simulate=False))
        other = Key.new()
        give = transfer(TransferParams(from_pubkey=other.pubkey, to_pubkey=payer.pubkey, lamports=1))
        many = [transfer(TransferParams(from_pubkey=payer.pubkey, to_pubkey=Key.new().pubkey, lamports=1))] * 60
        for instructions, words in (((give,), str(other.pubkey)), (tuple(many), "split it")):
            with pytest.raises(CyxError, match=words) as caught:
                await sender.send(Intent(instructions, (payer,)), record=keep)
            assert caught.value.code is Code.INVALID

    virtually(one)
