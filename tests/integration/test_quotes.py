"""Jobs that their client pays for with a key of its own, on the real program: what counts, and all that does not.

Long, as it is a list: what a client may send, or a way in which it goes wrong, a test.
"""

from __future__ import annotations

import base64
import copy
import json
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from solders.instruction import Instruction
from solders.keypair import Keypair as SoldersKeypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from cyxwiz.cli.chain import act
from cyxwiz.client.escrow import pay_with
from cyxwiz.client.keypair import Keypair
from cyxwiz.client.receipts import verify_receipt
from cyxwiz.config import Blockchain, ConfigError
from cyxwiz.domain.errors import CyxError
from cyxwiz.ext.v1 import link_pb2
from cyxwiz.ledger.instructions import escrow as program
from cyxwiz.ledger.instructions.values import token_account
from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.localnet.chain import Chain, open_chain
from cyxwiz.ledger.localnet.direct import direct_rpc
from cyxwiz.ledger.localnet.server import LocalnetServer
from cyxwiz.ledger.programs import Program, local_id
from cyxwiz.ledger.solana import SolanaLedger
from cyxwiz.ledger.tokens import make_account, transfer
from cyxwiz.protocol import common_pb2 as common
from cyxwiz.protocol import job_pb2 as pb
from cyxwiz.protocol import job_pb2_grpc
from tests.central import central as served
from tests.contract.conftest import HandClock
from tests.integration.conftest import client, refused
from tests.integration.test_receipts import settle
from tests.integration.test_rest import run_to_end
from tests.wiring import JOB, Central, central, progress

Json = dict[str, Any]
HAS = 10_000_000_000  # units in the wallet
ESCROW = (
    "program_id",
    "platform",
    "arbiter",
    "deadline_seconds",
    "fee_bps",
    "window_seconds",
    "interval_seconds",
    "cap_units",
    "account",
    "mint",
    "fee_account",
)
PRICED = {**JOB, "payment": {"max_price": "0.03"}}


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def chain(clock: HandClock) -> Chain:
    return await open_chain(None, clock)


@pytest.fixture
async def house(tmp_path: Path, chain: Chain, clock: HandClock) -> AsyncIterator[Central]:
    made = await central(tmp_path, clock=clock, chain=chain)
    yield made
    await made.aclose()


@pytest.fixture
async def alice(house: Central) -> AsyncIterator[httpx.AsyncClient]:
    async with client(house, house.alice) as made:
        yield made


@pytest.fixture
async def wallet(chain: Chain) -> Keypair:
    pair = Keypair(b"\7" * 32)
    await chain.token_airdrop(Pubkey.from_string(pair.address), HAS)
    await chain.airdrop(Pubkey.from_string(pair.address), 10**9)
    return pair


def ledger(house: Central) -> SolanaLedger:
    payments = house.api.payments
    assert payments is not None
    assert isinstance(payments.ledger, SolanaLedger)
    return payments.ledger


async def quote(asker: httpx.AsyncClient, wallet: Keypair, job: Json = PRICED) -> Json:
    answer = await asker.post("/api/jobs/quote", json={"job": job, "wallet_address": wallet.address})
    assert answer.status_code == 200, answer.text
    return answer.json()


def paying(given: Json, job: Json = PRICED) -> Json:
    return {**job, "payment": {**job["payment"], **given}}


async def settle_after_a_run(house: Central, job_id: str, clock: HandClock) -> None:
    await run_to_end(house, job_id)
    with pytest.raises(CyxError, match="does not allow all of it yet"):
        await settle(house)
    clock.advance(10)  # a stream earns by the seconds since its node was assigned
    await settle(house)


# with the quote's own transaction


async def test_a_wallet_pays_for_its_job(
    house: Central, alice: httpx.AsyncClient, wallet: Keypair, clock: HandClock
) -> None:
    asked = await quote(alice, wallet)
    assert (asked["amount"], asked["amount_units"], asked["network"]) == ("0.03", 30_000_000, "localnet")
    body = paying(pay_with(wallet, asked))
    made = await alice.post("/api/jobs", json=body)
    assert made.status_code == 201, made.text
    job = made.json()
    assert (job["id"], job["phase"]) == (asked["id"], "awaiting_payment")
    again = await alice.post("/api/jobs", json=body)
    assert (again.status_code, again.json()["id"]) == (200, job["id"]), "the same quote is the same job"
    before = (await alice.get("/api/wallet")).json()["balance_units"]
    await settle(house)
    assert (await alice.get(f"/api/jobs/{job['id']}")).json()["phase"] == "queued"
    locked = await ledger(house).balance(wallet.address)
    assert locked == HAS - 30_000_000
    await settle_after_a_run(house, job["id"], clock)
    receipt = (await alice.get(f"/api/jobs/{job['id']}/receipt")).json()
    verify_receipt(receipt)
    assert (receipt["settled"], receipt["charged"]) == (True, True)
    assert receipt["payments"][0]["client"] == wallet.address
    assert await ledger(house).balance(wallet.address) == HAS - receipt["paid_units"], (
        "the rest came back to the wallet"
    )
    assert (await alice.get("/api/payments")).json()["payments"][0]["funding"] == "signed"
    assert (await alice.get("/api/wallet")).json()["balance_units"] == before, "the balance paid nothing"


async def test_a_wallet_without_money_is_told_so(house: Central, alice: httpx.AsyncClient, chain: Chain) -> None:
    poor = Keypair(b"\x09" * 32)
    body = paying(pay_with(poor, await quote(alice, poor)))
    said = refused(await alice.post("/api/jobs", json=body), "FUNDS")
    assert f"The wallet {poor.address} has 0 CYXWIZ, and this job locks 0.03" in said["message"]
    assert said["details"] == {"needed_units": 30_000_000, "available_units": 0}
    await chain.token_airdrop(Pubkey.from_string(poor.address), 30_000_000)
    assert (await alice.post("/api/jobs", json=body)).status_code == 201
    await settle(house)
    assert await ledger(house).balance(poor.address) == 0
    assert (await alice.post("/api/jobs", json=body)).status_code == 200, "the same quote is the same job"


async def test_a_quote_that_has_paid_is_its_job_for_ever(
    alice: httpx.AsyncClient, wallet: Keypair, clock: HandClock
) -> None:
    """Whose answer was lost asks again, however late; another job is another payment."""
    given = pay_with(wallet, await quote(alice, wallet))
    job = (await alice.post("/api/jobs", json=paying(given))).json()
    clock.advance(3600)
    again = await alice.post("/api/jobs", json=paying(given))
    assert (again.status_code, again.json()["id"]) == (200, job["id"])
    other = {**PRICED, "name": "another"}
    said = refused(await alice.post("/api/jobs", json=paying(given, other)), "CONFLICT")["message"]
    assert "This quote was used for something else" in said


async def test_a_wallet_that_is_emptied_after_the_submit_fails_its_job(
    house: Central, alice: httpx.AsyncClient, wallet: Keypair, chain: Chain, clock: HandClock
) -> None:
    asked = await quote(alice, wallet)
    job = (await alice.post("/api/jobs", json=paying(pay_with(wallet, asked)))).json()
    mint, other = terms_of(asked).mint, Key.new().pubkey
    mine = Pubkey.from_string(wallet.address)
    await send(chain, make_account(mine, other, mint), transfer(mine, other, mint, HAS))
    with pytest.raises(CyxError) as error:
        await settle(house)
    assert error.value.code == "FUNDS"
    clock.advance(2)
    await settle(house)
    ended = (await alice.get(f"/api/jobs/{job['id']}")).json()
    assert (ended["status"], ended["error"]["code"]) == ("failed", "FUNDS")
    receipt = (await alice.get(f"/api/jobs/{job['id']}/receipt")).json()
    assert (receipt["settled"], receipt["charged"], receipt["paid_units"]) == (True, False, 0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"verify": {"mode": "spot"}}, "differs in whether its result is verified"),
        ({"payment": {"max_price": "0.02"}}, "locks 0.03 CYXWIZ, more than this job's payment.max_price"),
    ],
)
async def test_a_quote_is_of_its_own_job_only(
    alice: httpx.AsyncClient, wallet: Keypair, changed: Json, said: str
) -> None:
    asked = await quote(alice, wallet)
    job = {**PRICED, **changed}
    answer = await alice.post("/api/jobs", json=paying(pay_with(wallet, asked), job))
    assert said in refused(answer, "CONFLICT")["message"]


def _unsigned(given: Json) -> Json:
    raw = bytearray(base64.b64decode(given["transaction"]))
    raw[1 + 64 : 1 + 128] = bytes(64)
    return {**given, "transaction": base64.b64encode(raw).decode()}


def _dearer(given: Json) -> Json:
    raw = base64.b64decode(given["transaction"])
    amount = (30_000_000).to_bytes(8, "little")
    assert raw.count(amount) == 1
    return {**given, "transaction": base64.b64encode(raw.replace(amount, (1).to_bytes(8, "little"))).decode()}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_unsigned, "is not signed by the wallet"),
        (_dearer, "is not the one that the quote offers"),
        (lambda given: {**given, "transaction": "AAAA"}, "is no transaction"),
        (lambda given: {**given, "transaction": "no base64!"}, "in base64"),
        (lambda given: {**given, "transaction": "A" * 1996}, "1232 bytes"),
        (lambda given: {"quote": given["quote"]}, "one of both"),
        (lambda given: {**given, "escrow_tx_hash": "1" * 64}, "one of both"),
        (lambda given: {"transaction": given["transaction"]}, "payment.quote: missing"),
        (lambda given: {**given, "quote": str(uuid.UUID(int=5))}, "you have no quote"),
        (lambda given: {**given, "quote": "x"}, "quote ID"),
    ],
    ids=["unsigned", "other-amount", "short", "no-base64", "long", "neither", "both", "no-quote", "unknown", "no-id"],
)
async def test_what_is_not_the_signed_offer(
    house: Central, alice: httpx.AsyncClient, wallet: Keypair, change: Callable[[Json], Json], why: str
) -> None:
    given = pay_with(wallet, await quote(alice, wallet))
    for path in ("/api/jobs", "/api/jobs/plan"):
        error = refused(await alice.post(path, json=paying(change(given))), "INVALID")
        assert why in error["message"]
    assert (await alice.get("/api/jobs")).json()["total"] == 0
    assert await ledger(house).balance(wallet.address) == HAS


async def test_the_offer_is_signed_with_its_own_blockhash(
    house: Central, alice: httpx.AsyncClient, chain: Chain, wallet: Keypair, clock: HandClock
) -> None:
    """By a later one it could land after central has given it up."""
    asked = await quote(alice, wallet)
    message = base64.b64decode(asked["message"])
    clock.advance(5)
    later, last_height = chain.latest_blockhash()
    assert last_height > asked["last_valid_block_height"]
    changed = message.replace(bytes(Message.from_bytes(message).recent_blockhash), bytes(later))
    asked["message"] = base64.b64encode(changed).decode()
    error = refused(await alice.post("/api/jobs", json=paying(pay_with(wallet, asked))), "INVALID")
    assert "is not the one that the quote offers" in error["message"]
    assert await ledger(house).balance(wallet.address) == HAS


async def test_a_quote_is_its_askers_for_ten_minutes_and_that_price(
    house: Central, alice: httpx.AsyncClient, wallet: Keypair, clock: HandClock
) -> None:
    given = pay_with(wallet, await quote(alice, wallet))
    async with client(house, house.bob) as bob:
        assert "you have no quote" in refused(await bob.post("/api/jobs", json=paying(given)), "INVALID")["message"]
    dearer = {**PRICED, "payment": {"max_price": "0.035"}}
    assert "another job" in refused(await alice.post("/api/jobs", json=paying(given, dearer)), "CONFLICT")["message"]
    clock.advance(601)
    assert "expired at" in refused(await alice.post("/api/jobs", json=paying(given)), "CONFLICT")["message"]


@pytest.mark.parametrize("address", ["", "x", "0" * 40, "1" * 31, "é" * 40])
async def test_no_wallet_is_quoted(alice: httpx.AsyncClient, address: str) -> None:
    refused(await alice.post("/api/jobs/quote", json={"job": PRICED, "wallet_address": address}), "INVALID")


async def test_a_plan_refuses_what_a_submit_would(alice: httpx.AsyncClient, wallet: Keypair) -> None:
    given = pay_with(wallet, await quote(alice, wallet))
    before = (await alice.post("/api/jobs/plan", json=paying(given))).json()
    assert before["estimated_cost_units"]
    nowhere = {**JOB, "payment": {"address": "x"}}
    for path in ("/api/jobs", "/api/jobs/plan"):
        assert "payment_address" in refused(await alice.post(path, json=nowhere), "INVALID")["message"]
    assert (await alice.get("/api/jobs")).json()["total"] == 0
    assert (await alice.post("/api/jobs", json=paying(given))).status_code == 201, "a plan uses no quote up"


async def test_a_gang_pays_out_of_the_balance(alice: httpx.AsyncClient, wallet: Keypair) -> None:
    job = {**PRICED, "resources": {"nodes": 2}}
    refused(await alice.post("/api/jobs/quote", json={"job": job, "wallet_address": wallet.address}), "UNSUPPORTED")


async def test_books_without_keys_quote_nothing(tmp_path: Path, wallet: Keypair) -> None:
    for charged in (True, False):
        house = await central(tmp_path / str(charged), charged=charged)
        async with client(house, house.alice) as alice:
            body = {"job": PRICED, "wallet_address": wallet.address}
            refused(await alice.post("/api/jobs/quote", json=body), "UNSUPPORTED")
            given = {"quote": str(uuid.UUID(int=1)), "escrow_tx_hash": "1" * 64}
            refused(await alice.post("/api/jobs", json=paying(given)), "INVALID" if charged else "UNSUPPORTED")
        await house.aclose()


@pytest.mark.parametrize("field", ["id", "amount_units", "message", *ESCROW])
async def test_a_client_signs_nothing_else_than_what_the_quote_says(
    alice: httpx.AsyncClient, wallet: Keypair, field: str
) -> None:
    asked = await quote(alice, wallet)
    pay_with(wallet, asked)
    lying = copy.deepcopy(asked)
    if field == "message":
        lying[field] = base64.b64encode(base64.b64decode(asked["message"])[:-1]).decode()
    elif field == "id":
        lying[field] = str(uuid.UUID(int=1))
    else:
        holder = lying["escrow"] if field in lying["escrow"] and field != "amount_units" else lying
        holder[field] = wallet.address if isinstance(holder[field], str) else holder[field] + 1
    with pytest.raises(CyxError, match="nothing was signed"):
        pay_with(wallet, lying)
    with pytest.raises(CyxError, match="is for the wallet"):
        pay_with(Keypair(b"\3" * 32), asked)


@pytest.mark.parametrize("changed", ["node", "mint", "fee_account", "client", "payer"])
async def test_a_client_signs_no_other_accounts(alice: httpx.AsyncClient, wallet: Keypair, changed: str) -> None:
    asked = await quote(alice, wallet)
    terms, payer = terms_of(asked), Pubkey.from_string(asked["escrow"]["platform"])
    if changed == "payer":
        payer = terms.client
    else:
        terms = replace(terms, **{changed: Pubkey.from_string(asked["escrow"]["account"])})
    made = program.create(local_id(Program.ESCROW), terms, payer=payer)
    lying = {**asked, "message": base64.b64encode(bytes(Message([made], payer))).decode()}
    with pytest.raises(CyxError, match="nothing was signed"):
        pay_with(wallet, lying)


# with a transaction of the client's own


def terms_of(asked: Json) -> program.Terms:
    """What a client reads in the quote."""
    said = asked["escrow"]
    keys = {name: Pubkey.from_string(said[name]) for name in ("mint", "platform", "arbiter", "fee_account")}
    return program.Terms(
        client=Pubkey.from_string(asked["wallet_address"]),
        job=uuid.UUID(asked["id"]).bytes,
        amount=said["amount_units"],
        deadline=said["deadline_seconds"],
        fee_bps=said["fee_bps"],
        window=said["window_seconds"],
        interval=said["interval_seconds"],
        cap=said["cap_units"],
        **keys,
    )


async def send(chain: Chain, *instructions: Instruction, by: Key | None = None) -> str:
    """A transaction of the wallet's own, or of another key: it pays the fees as well."""
    pair = by or Key(SoldersKeypair.from_seed(b"\7" * 32))
    blockhash, _ = await direct_rpc(chain).latest_blockhash()
    message = Message.new_with_blockhash(list(instructions), pair.pubkey, blockhash)
    raw = bytes(VersionedTransaction.populate(message, [pair.sign(bytes(message))]))
    return str(await chain.submit(raw))


def make(terms: program.Terms, **changes: Any) -> Instruction:
    return program.create(local_id(Program.ESCROW), replace(terms, **changes), payer=terms.client)


async def test_a_transaction_of_the_clients_own(
    house: Central, chain: Chain, alice: httpx.AsyncClient, wallet: Keypair
) -> None:
    asked = await quote(alice, wallet)
    sent = await send(chain, make(terms_of(asked)))
    body = paying({"quote": asked["id"], "escrow_tx_hash": sent})
    job = (await alice.post("/api/jobs", json=body)).json()
    await settle(house)
    assert (await alice.get(f"/api/jobs/{job['id']}")).json()["phase"] == "queued"
    await alice.post(f"/api/jobs/{job['id']}/cancel", json={})
    await settle(house)
    assert await ledger(house).balance(wallet.address) == HAS, "all of it came back"
    receipt = (await alice.get(f"/api/jobs/{job['id']}/receipt")).json()
    assert receipt["payments"][0]["transactions"][0]["reference"] == sent
    other = await quote(alice, wallet)
    replayed = paying({"quote": other["id"], "escrow_tx_hash": sent})
    assert "is of something else" in refused(await alice.post("/api/jobs", json=replayed), "INVALID")["message"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"amount": 29_999_999}, "its amount is 29999999, not 30000000"),
        ({"amount": 30_000_001}, "its amount is"),
        ({"deadline": 1_893_460_000}, "its deadline is"),
        ({"fee_bps": 0}, "its fee_bps is 0, not 1000"),
        ({"platform": Key.new().pubkey}, "its platform is"),
        ({"arbiter": Key.new().pubkey}, "its arbiter is"),
        ({"window": 1}, "its dispute window is 1"),
        ({"interval": 0, "cap": 0}, "its interval is 0"),
        ({"cap": 1}, "its cap is 1"),
        ({"fee_account": None}, "its fee account is"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_an_escrow_on_other_terms(
    chain: Chain, alice: httpx.AsyncClient, wallet: Keypair, changes: Json, why: str
) -> None:
    asked = await quote(alice, wallet)
    if "fee_account" in changes:
        changes = {"fee_account": token_account(Pubkey.from_string(wallet.address), terms_of(asked).mint)}
    sent = await send(chain, make(terms_of(asked), **changes))
    body = paying({"quote": asked["id"], "escrow_tx_hash": sent})
    assert why in refused(await alice.post("/api/jobs", json=body), "INVALID")["message"]


async def test_references_of_something_else(
    house: Central, chain: Chain, alice: httpx.AsyncClient, wallet: Keypair
) -> None:
    asked = await quote(alice, wallet)
    foreign = await quote(alice, wallet)
    of_another_job = await send(chain, make(terms_of(foreign)))
    gift = await chain.token_airdrop(Pubkey.from_string(wallet.address), 1)

    async def why(reference: str) -> str:
        body = paying({"quote": asked["id"], "escrow_tx_hash": reference})
        return str(refused(await alice.post("/api/jobs", json=body), "INVALID")["message"])

    assert "is no signature" in await why("abc")
    assert "is not on the chain" in await why(str(Key.new().sign(b"never sent")))
    assert "is of something else" in await why(of_another_job)
    assert "is of something else" in await why(str(gift))
    assert (await alice.get("/api/jobs")).json()["total"] == 0


async def test_the_wire_contract_answers_in_band(tmp_path: Path) -> None:
    """`job_id` names the quote; what is wrong with an escrow, or with the balance, is in the answer."""
    async with served(tmp_path, "ledger.backend=localnet", "ledger.welcome=0", charged=True) as house:
        _, key = await house.user("alice")
        definition = json.dumps(PRICED["model"])
        base = pb.JobConfig(job_type=pb.JOB_TYPE_TRAINING, model_definition=definition, dataset_uri="builtin:digits")
        async with house.channel() as channel:
            stub = job_pb2_grpc.JobServiceStub(channel)

            async def submit(**changes: Any) -> Any:
                config = pb.JobConfig()
                config.CopyFrom(base)
                for name, value in changes.items():
                    setattr(config, name, value)
                request = pb.SubmitJobRequest(config=config)
                return await stub.SubmitJob(request, metadata=(("authorization", f"Bearer {key}"),))

            async def told(**changes: Any) -> str:
                answer = await submit(**changes)
                assert (answer.status, answer.job_id) == (common.STATUS_ERROR, "")
                return str(answer.error.message)

            assert "balance is 0" in await told()
            assert "job_id: missing" in await told(escrow_tx_hash="1" * 64)
            assert "you have no quote" in await told(escrow_tx_hash="1" * 64, job_id=str(uuid.UUID(int=3)))
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await submit(payment_address="no wallet")
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "payment_address" in str(error.value.details())


# taking it back without the platform


def own_key(folder: Path) -> Path:
    path = folder / "wallet.json"
    path.write_text(json.dumps(list(b"\7" * 32 + bytes(Pubkey.from_string(Keypair(b"\7" * 32).address)))))
    path.chmod(0o600)
    return path


async def test_a_wallet_takes_back_what_it_locked(
    house: Central, alice: httpx.AsyncClient, wallet: Keypair, chain: Chain, tmp_path: Path, clock: HandClock
) -> None:
    asked = await quote(alice, wallet)
    assert (await alice.post("/api/jobs", json=paying(pay_with(wallet, asked)))).status_code == 201
    await settle(house)
    assert await ledger(house).balance(wallet.address) == HAS - 30_000_000
    server: Any = LocalnetServer(chain, port=0)
    await server.start()
    try:
        at = Blockchain(network="localnet", solana_rpc_url=server.url)
        job, key = uuid.UUID(asked["id"]).bytes, own_key(tmp_path)
        done = await act(at, key, job, "reclaim")
        assert (done["escrow"], done["taken_back"], done["paid_units"]) == (asked["escrow"]["account"], "0.03", 0)
        assert await ledger(house).balance(wallet.address) == HAS
        with pytest.raises(CyxError, match="it has ended, or is elsewhere") as gone:
            await act(at, key, job, "reclaim")
        assert gone.value.code == "NOT_FOUND"
        with pytest.raises(ConfigError, match="program_id"):
            await act(at.model_copy(update={"program_id": "rubbish"}), key, job, "reclaim")
    finally:
        await server.stop(5.0)
    path = f"/api/jobs/{asked['id']}"
    lease = await house.lease(asked["id"], await house.node())
    await house.report(lease, progress(1))
    await settle(house)
    paused = (await alice.get(path)).json()
    assert paused["intent"] == "pause", "no node works for an escrow that is gone"
    assert paused["reason"].startswith("what was set aside for it was ended on the ledger")
    ended = (await alice.get("/api/payments")).json()["payments"][0]
    assert (ended["status"], ended["paid_units"], ended["refunded"]) == ("refunded", 0, "0.03")
    await house.report(lease, link_pb2.Preempted(reason="told to"), after=1)
    assert (await alice.post(f"{path}/resume")).status_code == 200
    resumed = (await alice.get(path)).json()
    assert (resumed["status"], resumed["phase"]) == ("pending", "awaiting_payment"), "not for nothing"
    assert (await alice.post(f"{path}/topup", json={"amount": "0.03"})).status_code == 200
    await settle(house)
    assert (await alice.get(path)).json()["phase"] == "queued"
