"""A balance that the platform keeps for a user leaves for a wallet: once a call, and only what is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from solders.pubkey import Pubkey

from cyxwiz.bus.local import LocalBus
from cyxwiz.client.keypair import Keypair
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import JobId, UserId, new_id
from cyxwiz.domain.payment import Payment, Step
from cyxwiz.ledger.instructions.values import token_account
from cyxwiz.ledger.localnet.chain import open_chain
from cyxwiz.ledger.localnet.direct import DirectRpc
from cyxwiz.ledger.localnet.ledger import POLICY, local_ledger
from cyxwiz.ledger.sending import Record
from cyxwiz.ledger.solana import SolanaLedger
from cyxwiz.ports.store import MovementQuery
from cyxwiz.services.settlement import NO_WORK
from cyxwiz.store.memory import MemoryStore
from tests.contract.conftest import HandClock
from tests.integration.conftest import client, refused
from tests.ledger import lamports, payment
from tests.wiring import Central, central

TO = Keypair(b"\5" * 32).address
PATH = "/api/wallet/withdrawals"
UNIT = 10**9
WELCOME = 1000


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def house(tmp_path: Path, clock: HandClock) -> AsyncIterator[Central]:
    made = await central(tmp_path, clock=clock, chain=await open_chain(None, clock))
    yield made
    await made.aclose()


@pytest.fixture
async def alice(house: Central) -> AsyncIterator[httpx.AsyncClient]:
    async with client(house, house.alice) as made:
        yield made


async def has(alice: httpx.AsyncClient, address: str = "") -> int:
    return int((await alice.get("/api/wallet", params={"address": address})).json()["balance_units"])


async def test_a_withdrawal_happens_once_a_key(house: Central, alice: httpx.AsyncClient) -> None:
    before, key = await has(alice), {"Idempotency-Key": "one"}
    body = {"to": TO, "amount": "2.5"}
    answers = await asyncio.gather(*(alice.post(PATH, json=body, headers=key) for _ in range(3)))
    assert [each.status_code for each in answers] == [201] * 3
    assert len({each.json()["reference"] for each in answers}) == 1
    assert (await has(alice), await has(alice, TO)) == (before - 25 * UNIT // 10, 25 * UNIT // 10)
    assert (await alice.post(PATH, json=body)).status_code == 201, "another call is another withdrawal"
    assert await has(alice, TO) == 5 * UNIT
    refused(await alice.get("/api/wallet/history?kind=foo"), "INVALID")
    moves = (await alice.get("/api/wallet/history?kind=withdraw")).json()["transactions"]
    told = [(each["amount"], each["destination"]) for each in moves]
    assert told == [("2.5", TO)] * 2


@pytest.fixture
async def two(clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[SolanaLedger]]:
    """The ledgers of two centrals on one chain and one store; what is asked of both at once crosses."""
    chain, store = await open_chain(None, clock), MemoryStore(clock, LocalBus())
    monkeypatch.setattr("cyxwiz.ledger.localnet.ledger.POLICY", replace(POLICY, simulate=True))
    made = [local_ledger(chain, store, clock, custody=b"c" * 32, welcome_units=WELCOME * UNIT) for _ in range(2)]
    latest = DirectRpc.latest_blockhash

    async def another(rpc: DirectRpc) -> Any:
        await asyncio.sleep(0.05)  # both have looked before either has sent
        clock.advance(1)  # else both sign the same transaction
        return await latest(rpc)

    monkeypatch.setattr(DirectRpc, "latest_blockhash", another)
    yield made
    for each in made:
        await each.aclose()
    await store.aclose()


@pytest.mark.parametrize("amount", [25, WELCOME])
async def test_two_centrals_send_one_withdrawal(two: list[SolanaLedger], amount: int) -> None:
    """The same call at both at once; the larger one leaves nothing for a second."""
    user = UserId(new_id())
    before = await two[0].balance(two[0].client_account(user))
    calls = [each.withdraw(user, TO, amount * UNIT, "one") for each in two for _ in range(2)]
    assert len(set(await asyncio.gather(*calls))) == 1
    assert await two[0].balance(two[0].client_account(user)) == before - amount * UNIT
    assert await two[1].balance(TO) == amount * UNIT


@pytest.mark.parametrize("amount", [25, WELCOME])
async def test_two_centrals_lock_the_same_once(two: list[SolanaLedger], clock: HandClock, amount: int) -> None:
    """As an extension of a reservation does that is asked for at both: who is second is not refused."""
    user = UserId(new_id())
    account = two[0].client_account(user)
    before, now, ident = await two[0].balance(account), clock.now(), JobId(new_id())
    lock = Payment(ident, ident, user, amount * UNIT, 1000, account, 0.0, 0, now, now + timedelta(days=1))
    done = await asyncio.gather(*(each.perform(lock, Step.LOCK, NO_WORK) for each in two for _ in range(2)))
    assert len({each.reference for each in done}) == 1
    assert await two[0].balance(account) == before - amount * UNIT


async def test_out_of_the_balance_all_is_paid_at_once(two: list[SolanaLedger], clock: HandClock) -> None:
    """Also after a little of it was streamed: nobody waits for an interval to pass."""
    user, payee = UserId(new_id()), two[0].client_account(UserId(new_id()))
    account, now, ident = two[0].client_account(user), clock.now(), JobId(new_id())
    await two[0].balance(account)
    work = replace(NO_WORK, node=payee)
    paying = Payment(ident, ident, user, UNIT, 1000, account, 1000.0, 60, now, now + timedelta(days=1), node=payee)
    await two[0].perform(paying, Step.LOCK, work)
    await two[0].perform(paying, Step.ASSIGN, work)
    clock.advance(60)
    assert (await two[0].perform(replace(paying, earned_units=60_000), Step.PAY, work)).paid_units == 60_000
    clock.advance(2)
    done = await two[0].perform(replace(paying, earned_units=UNIT), Step.SETTLE, work)
    assert (done.more, done.paid_units) == (False, UNIT)


async def test_what_was_sent_before_a_crash_is_not_sent_again(
    house: Central, alice: httpx.AsyncClient, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Central dies when the transaction has landed and nothing has heard of it."""
    assert house.api.payments is not None
    send: Any = house.api.payments.ledger._send  # type: ignore[attr-defined]
    body, key, before = {"to": TO, "amount": "1"}, {"Idempotency-Key": "two"}, await has(alice)

    async def dies(record: Record) -> None:
        if record.ended:
            raise CyxError(Code.UNAVAILABLE, "the store is away")

    with monkeypatch.context() as patched:
        patched.setattr(send, "keep", dies)
        refused(await alice.post(PATH, json=body, headers=key), "UNAVAILABLE")
    assert await has(alice) == before - UNIT

    async def in_doubt() -> int:
        found = await house.store.read(lambda tx: tx.movements(MovementQuery(state="pending")))
        return found.total

    await house.api.payments.ledger.mend()
    assert await in_doubt() == 1, "it may be under way"
    clock.advance(301)
    await house.api.payments.ledger.mend()
    assert await in_doubt() == 0, "nobody has to ask again"
    assert (await alice.post(PATH, json=body, headers=key)).status_code == 201
    assert (await has(alice), await has(alice, TO)) == (before - UNIT, UNIT)


async def test_a_platform_without_sol_is_not_the_users_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of funds, nor for good: what was asked for happens when it is asked for again."""
    clock = HandClock()
    chain = await open_chain(None, clock)
    # As for a cluster: what would fail is not sent.
    monkeypatch.setattr("cyxwiz.ledger.localnet.ledger.POLICY", replace(POLICY, simulate=True))
    made = await central(tmp_path, clock=clock, chain=chain)
    platform = chain.genesis.keys.platform
    async with client(made, made.alice) as alice:
        before, key = await has(alice), {"Idempotency-Key": "three"}
        rest = lamports(chain, platform.pubkey) - 5000
        await chain.submit(payment(chain, platform, chain.genesis.keys.faucet.pubkey, rest))
        body = {"to": TO, "amount": "1"}
        error = refused(await alice.post(PATH, json=body, headers=key), "UNAVAILABLE")
        assert (error["retryable"], error["message"][:31]) == (True, "The platform's SOL has run out:")
        await chain.airdrop(platform.pubkey, UNIT)
        assert (await alice.post(PATH, json=body, headers=key)).status_code == 201
        assert (await has(alice), await has(alice, TO)) == (before - UNIT, UNIT)
    await made.aclose()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"amount": "1001"}, "FUNDS"),
        ({"amount": "0"}, "INVALID"),
        ({"amount": "-1"}, "INVALID"),
        ({"amount": "0.0000000001"}, "INVALID"),
        ({"amount": "9223372036.854775808"}, "INVALID"),
        ({"amount": 1}, "INVALID"),
        ({"to": ""}, "INVALID"),
        ({"to": TO[:-4]}, "INVALID"),
        ({"to": "0" * 44}, "INVALID"),
    ],
)
async def test_what_is_refused_moves_nothing(alice: httpx.AsyncClient, changes: dict[str, object], code: str) -> None:
    before = await has(alice)
    refused(await alice.post(PATH, json={"to": TO, "amount": "1", **changes}), code)
    assert await has(alice) == before


async def test_central_s_own_books_keep_what_is_in_them(tmp_path: Path) -> None:
    house = await central(tmp_path, charged=True)
    async with client(house, house.alice) as alice:
        refused(await alice.post(PATH, json={"to": TO, "amount": "1"}), "UNSUPPORTED")
    await house.aclose()


async def test_nothing_is_sent_to_an_account_of_a_program(house: Central, alice: httpx.AsyncClient) -> None:
    """Tokens that a token account owns are lost: nobody can sign for it."""
    before = await has(alice)
    mine = (await alice.get("/api/wallet")).json()
    tokens = token_account(Pubkey.from_string(mine["address"]), Pubkey.from_string(mine["token_mint"]))
    for address in (str(tokens), mine["token_mint"], mine["program_id"]):
        answer = await alice.post(PATH, json={"to": address, "amount": "1"})
        refused(answer, "INVALID")
        assert "no wallet" in answer.json()["error"]["message"]
    assert await has(alice) == before


async def test_where_sol_costs_something_a_wallet_opens_its_account_itself(
    house: Central, alice: httpx.AsyncClient
) -> None:
    """Else its rent, which goes to whoever closes it again, would be there for the taking."""
    payments = house.api.payments
    assert payments is not None
    assert isinstance(payments.ledger, SolanaLedger)
    withdrawals = payments.ledger._withdrawals
    withdrawals._at = replace(withdrawals._at, faucet=None)
    before = await has(alice)
    said = refused(await alice.post(PATH, json={"to": TO, "amount": "1"}), "INVALID")
    assert "has no account for CYXWIZ yet: open one first, `spl-token create-account" in said["message"]
    assert await has(alice) == before
    withdrawals._at = replace(withdrawals._at, faucet=lambda owner, units: ((), ()))
    assert (await alice.post(PATH, json={"to": TO, "amount": "1"})).status_code == 201, "where it is opened for it"
    withdrawals._at = replace(withdrawals._at, faucet=None)
    assert (await alice.post(PATH, json={"to": TO, "amount": "1"})).status_code == 201, "where it has one"
    assert await has(alice, TO) == 2 * UNIT
