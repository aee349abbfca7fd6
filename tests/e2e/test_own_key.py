"""The page with a wallet's keypair file, in a real browser: what it signs, what it refuses, what it says."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from solders.hash import Hash
from solders.instruction import CompiledInstruction, Instruction
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer

from cyxwiz.client.keypair import Keypair
from cyxwiz.domain.base58 import decode
from cyxwiz.ledger.instructions import escrow as program
from tests.e2e.browser import SECONDS, browser, lose_answers, sign_in
from tests.e2e.processes import DIGITS, Process, cyxwiz

pytestmark = pytest.mark.timeout(300)

Json = dict[str, Any]
SEED = bytes(range(7, 39))
MINE, OTHER = Keypair(SEED), Pubkey.from_bytes(b"\x05" * 32)
LIMIT, UNITS = "0.05", 36_360_000  # what an hour on a CPU costs
JOB = {**DIGITS, "name": "paid by my key"}
# Every message that is signed and every body that is sent, as the page sees them.
WATCH = """
window.signed = [];
if (globalThis.crypto?.subtle) {
  const sign = crypto.subtle.sign.bind(crypto.subtle);
  crypto.subtle.sign = (name, key, data) => {
    window.signed.push({size: new Uint8Array(data.buffer || data).length, extractable: key.extractable});
    return sign(name, key, data);
  };
}
"""


def keypair_file(directory: Path, keypair: Keypair = MINE, seed: bytes = SEED) -> Path:
    path = directory / "wallet.json"
    path.write_text(json.dumps([*seed, *decode(keypair.address)]))
    return path


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with cyxwiz("both", tmp_path_factory.mktemp("both")) as started, started.http() as http:
        answer = http.post("/api/wallet/withdrawals", json={"to": MINE.address, "amount": "1"}, timeout=60)
        assert answer.status_code == 201, answer.text
        yield started


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    context = chromium.new_context()
    made = context.new_page()
    made.add_init_script(WATCH)
    yield made
    context.close()


def fill(page: Any, file: Path, job: Json = JOB, limit: str = LIMIT) -> None:
    """The form with a job and a key; the next click asks for a quote."""
    page.click("#submit summary")
    page.check("#pay-key")
    page.fill("#job-text", json.dumps(job))
    page.fill("#max-price", limit)
    page.set_input_files("#keypair", file)


def said(page: Any) -> str:
    page.wait_for_selector("#submit-error:not([hidden])", timeout=SECONDS)
    return str(page.inner_text("#submit-error"))


def nothing_was_signed(page: Any) -> bool:
    """Nothing but the 32 random bytes by which the page checks that a file's halves belong together."""
    return all(each["size"] == 32 for each in page.evaluate("window.signed"))


def balance(http: httpx.Client, wallet: str) -> int:
    return int(http.get("/api/wallet", params={"address": wallet}).json()["balance_units"])


def test_a_job_is_paid_by_the_users_own_key(page: Any, both: Process, tmp_path: Path) -> None:
    bodies: list[str] = []
    page.on("request", lambda request: bodies.append(request.post_data or ""))
    errors = sign_in(page, both)
    fill(page, keypair_file(tmp_path))
    page.get_by_text(MINE.address).wait_for(timeout=SECONDS)
    page.click("#ask")
    page.wait_for_selector("#review:not([hidden])", timeout=SECONDS)
    shown = page.inner_text("#review-facts")
    for part in ("0.03636 CYXWIZ", "36360000 units", "10 % of what is paid out", "at most 0.003636 CYXWIZ", "open"):
        assert part in shown, shown
    with both.http() as http:
        platform = http.get("/api/platform").json()["ledger"]
        for address in (MINE.address, platform["platform"], platform["token_mint"], platform["program_id"]):
            assert address in shown
        assert nothing_was_signed(page), "only shown so far"
        before = balance(http, MINE.address)
        page.click("#sign")
        page.wait_for_selector("#submit-done:not([hidden])", timeout=SECONDS)
        assert "starts once its money is locked" in page.inner_text("#submit-done")
        page.locator("#job-rows tr", has_text="paid by my key").get_by_text("completed").wait_for(timeout=SECONDS)
        paid = http.get("/api/payments").json()["payments"][0]
        assert (paid["funding"], paid["client"], paid["amount_units"]) == ("signed", MINE.address, UNITS)
        paid = settled(http, paid["job_id"])
        assert 0 < paid["paid_units"] < UNITS
        assert balance(http, MINE.address) == before - paid["paid_units"], "the rest came back to the wallet"
    # The key is gone: it was in no request, is in no storage, and has to be chosen again.
    sent = "".join(bodies)
    hidden = (SEED.hex(), base64.b64encode(SEED)[:40].decode(), json.dumps([*SEED])[1:-1], ",".join(map(str, SEED)))
    assert not [each for each in hidden if each in sent]
    assert page.evaluate("[Object.keys(sessionStorage), localStorage.length]") == [["cyxwiz.key"], 0]
    assert page.input_value("#keypair") == ""
    assert page.evaluate("window.signed.map((each) => each.extractable)") == [False, False]
    page.click("#ask")
    assert "Choose your keypair file first" in said(page)
    assert errors == []


def test_what_was_signed_once_is_sent_again_without_the_key(page: Any, both: Process, tmp_path: Path) -> None:
    errors = sign_in(page, both)
    fill(page, keypair_file(tmp_path), {**JOB, "name": "answer lost"})
    page.click("#ask")
    page.wait_for_selector("#review:not([hidden])", timeout=SECONDS)
    lose_answers(page, "**/api/jobs")
    page.click("#sign")
    assert "whether the job has arrived is not known" in said(page)
    page.unroute("**/api/jobs")
    page.click("#ask")
    page.wait_for_selector("#submit-done:not([hidden])", timeout=SECONDS)
    with both.http() as http:
        jobs = http.get("/api/jobs", params={"name": "answer lost"}).json()["jobs"]
        assert [job["id"] in page.inner_text("#submit-done") for job in jobs] == [True]
        settled(http, jobs[0]["id"])
    assert errors == []


def settled(http: httpx.Client, job_id: str) -> Json:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = http.get("/api/payments", params={"job_id": job_id}).json()["payments"][0]
        if found["status"] == "completed":
            return dict(found)
        time.sleep(0.1)
    raise AssertionError(f"not settled: {found}")


# what is not what the quote says


def message(quote: Json, payer: str = "", *others: Instruction, **changes: Any) -> str:
    """The quote's transaction, made anew with other terms."""
    told = quote["escrow"]
    keys = {name: Pubkey.from_string(told[name]) for name in ("mint", "platform", "arbiter", "fee_account")}
    terms = program.Terms(
        client=Pubkey.from_string(quote["wallet_address"]),
        job=uuid.UUID(quote["id"]).bytes,
        amount=told["amount_units"],
        deadline=told["deadline_seconds"],
        fee_bps=told["fee_bps"],
        window=told["window_seconds"],
        interval=told["interval_seconds"],
        cap=told["cap_units"],
        **keys,
    )
    pays = Pubkey.from_string(payer or told["platform"])
    made = program.create(Pubkey.from_string(told["program_id"]), replace(terms, **changes), payer=pays)
    return base64.b64encode(bytes(Message.new_with_blockhash([made, *others], pays, Hash.default()))).decode()


def told(**changes: Any) -> Callable[[Json], Json]:
    """The transaction stays, the quote's words change; names of its `escrow` first."""

    def change(quote: Json) -> Json:
        escrow = {name: value for name, value in changes.items() if name in quote["escrow"]}
        rest = {name: value for name, value in changes.items() if name not in escrow}
        return {**quote, **rest, "escrow": {**quote["escrow"], **escrow}}

    return change


def made(**changes: Any) -> Callable[[Json], Json]:
    """The quote's words stay, the transaction changes."""
    return lambda quote: {**quote, "message": message(quote, **changes)}


def _dearer(quote: Json) -> Json:
    """More than the user's limit, consistently."""
    more = 50_000_001
    changed = told(amount_units=more)({**quote, "amount_units": more, "amount": "0.050000001"})
    return {**changed, "message": message(changed)}


def _another(quote: Json) -> Json:
    """Beside the escrow, a transfer out of the wallet."""
    give = TransferParams(from_pubkey=Pubkey.from_string(quote["wallet_address"]), to_pubkey=OTHER, lamports=1)
    return {**quote, "message": message(quote, "", transfer(give))}


def _newer(quote: Json) -> Json:
    """A message of the second kind, whose keys may be looked up elsewhere."""
    old = Message.from_bytes(base64.b64decode(quote["message"]))
    new = MessageV0(old.header, old.account_keys, old.recent_blockhash, old.instructions, [])
    return {**quote, "message": base64.b64encode(b"\x80" + bytes(new)).decode()}


def _fees(quote: Json) -> Json:
    return {**quote, "message": message(quote, quote["wallet_address"])}


def _cut(quote: Json, by: int) -> Json:
    raw = base64.b64decode(quote["message"]) + b"\0"
    return {**quote, "message": base64.b64encode(raw[:by]).decode()}


def rebuilt(
    change: Callable[[list[Pubkey]], Any] = lambda keys: None,
    *,
    places: Callable[[bytes], bytes] = bytes,
    data: Callable[[bytes], bytes] = bytes,
    only_read: int = 1,
) -> Callable[[Json], Json]:
    """The same message with other keys, places of accounts, data, or number of signers that are only read."""

    def make(quote: Json) -> Json:
        old = Message.from_bytes(base64.b64decode(quote["message"]))
        step, keys = old.instructions[0], list(old.account_keys)
        change(keys)
        steps = [CompiledInstruction(step.program_id_index, data(step.data), places(step.accounts))]
        new = Message.new_with_compiled_instructions(2, only_read, 5, keys, old.recent_blockhash, steps)
        return {**quote, "message": base64.b64encode(bytes(new)).decode()}

    return make


def put(address: str) -> Callable[[list[Pubkey]], Any]:
    return lambda keys: keys.__setitem__(keys.index(Pubkey.from_string(address)), OTHER)


def swapped(one: int, other: int) -> Callable[[Json], Json]:
    """Two keys in each other's place, with the accounts of the instruction as they were."""

    def change(keys: list[Pubkey]) -> None:
        keys[one], keys[other] = keys[other], keys[one]

    return rebuilt(change, places=lambda old: bytes({one: other, other: one}.get(each, each) for each in old))


def _over(quote: Json) -> Json:
    """A deadline that lies behind, consistently."""
    changed = told(deadline_seconds=1, deadline="1970-01-01T00:00:01Z")(quote)
    return {**changed, "message": message(changed)}


ELSE = str(OTHER)
TOKENS, SYSTEM = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA", "1" * 32
TAMPERED: dict[str, tuple[Callable[[Json], Json], str]] = {
    "dearer than the limit": (_dearer, "more than your limit of 0.05"),
    "amount": (made(amount=UNITS + 1), "its amount is 36360001, not 36360000"),
    "deadline": (made(deadline=2**62), "its deadline is"),
    "fee": (made(fee_bps=9999), "its fee is 9999, not 1000"),
    "cap": (made(cap=2**63), "its cap is"),
    "interval": (made(interval=1), "its interval is 1, not 600"),
    "no streaming": (made(interval=0, cap=0), "its cap is 0"),
    "a deadline that is over": (_over, "deadline is over"),
    "window": (made(window=0), "its dispute window is 0"),
    "node": (made(node=OTHER), f"its node is {ELSE}"),
    "platform": (made(platform=OTHER), f"its platform is {ELSE}"),
    "arbiter": (made(arbiter=OTHER), f"its arbiter is {ELSE}"),
    "mint": (made(mint=OTHER), f"its mint is {ELSE}"),
    "fee account": (made(fee_account=OTHER), f"its fee account is {ELSE}"),
    "another wallet's money": (made(client=OTHER), f"its client is {ELSE}"),
    "another job": (made(job=bytes(16)), "its job is 00000000-"),
    "a second instruction": (_another, "its number of instructions is 2, not 1"),
    "the wallet pays the fees": (_fees, "its payer is"),
    "the wallet's key comes first": (swapped(0, 1), f"its first key is {MINE.address}"),
    "another second signer": (swapped(1, 2), "its second key is"),
    "more to sign for": (rebuilt(only_read=0), "its header is 2,0,5, not 2,1,5"),
    "a key too many": (rebuilt(lambda keys: keys.insert(5, OTHER)), "nothing was signed"),
    "a key too many at the end": (rebuilt(lambda keys: keys.append(OTHER)), "its number of keys is 11, not 10"),
    "an account too many": (rebuilt(places=lambda old: old + old[:1]), "its number of accounts is 10, not 9"),
    "another token program": (rebuilt(put(TOKENS)), f"its token program is {ELSE}"),
    "another system program": (rebuilt(put(SYSTEM)), f"its system program is {ELSE}"),
    "longer data": (rebuilt(data=lambda old: old + bytes(1)), "its length is 161, not 160"),
    "another step": (rebuilt(data=lambda old: bytes([3]) + old[1:]), "its step is 3, not 0"),
    "second kind": (_newer, "nothing was signed"),
    "cut off": (lambda quote: _cut(quote, -2), "it is cut off"),
    "more behind": (lambda quote: _cut(quote, 9999), "its end is"),
    "no base64": (told(message="%"), "nothing was signed"),
    "said amount": (told(amount="0.01"), "its price in CYXWIZ is 0.03636, not 0.01"),
    "said units": (lambda quote: {**quote, "amount_units": 1}, "its price is 36360000, not 1"),
    "said amount of the escrow": (told(amount_units=1), "its amount is 36360000, not 1"),
    "said fee": (lambda quote: {**quote, "fee_bps": 1}, "its fee is 1000, not 1"),
    "said fee of the escrow": (told(fee_bps=1), "its fee is 1000, not 1"),
    "said deadline of the escrow": (told(deadline_seconds=1), "its deadline is"),
    "said deadline": (told(deadline="2999-01-01T00:00:00Z"), "its deadline is"),
    "said program": (told(program_id=ELSE), "its program is"),
    "said account": (told(account=ELSE), "its escrow is"),
    "said mint": (told(mint=ELSE), "its mint is"),
    "said wallet": (told(wallet_address=ELSE), f"is for the wallet {ELSE}, not for {MINE.address}"),
    "a number that floats can't hold": (told(cap_units=2**60), "no whole number that this page can compare"),
    "no escrow": (lambda quote: {**quote, "escrow": None}, "nothing was signed"),
}


def test_a_quote_that_was_changed_on_its_way_is_not_signed(page: Any, both: Process, tmp_path: Path) -> None:
    bodies: list[str] = []
    page.on("request", lambda request: request.url.endswith("/api/jobs") and bodies.append(request.method))
    errors = sign_in(page, both)
    fill(page, keypair_file(tmp_path))
    change: Callable[[Json], Json] = dict

    def altered(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=change(answer.json()))

    page.route("**/api/jobs/quote", altered)
    wrong: dict[str, str] = {}
    for name, (change, why) in TAMPERED.items():  # noqa: B007  `altered` reads it
        page.click("#ask")
        message = said(page)
        if why not in message or "nothing was signed" not in message or page.locator("#review").is_visible():
            wrong[name] = message
    assert wrong == {}
    assert nothing_was_signed(page)
    assert "POST" not in bodies
    change = dict
    page.click("#ask")
    page.wait_for_selector("#review:not([hidden])", timeout=SECONDS)
    assert errors == []


def test_what_expired_while_it_was_shown_is_not_signed(page: Any, both: Process, tmp_path: Path) -> None:
    page.clock.install()
    sign_in(page, both)
    fill(page, keypair_file(tmp_path))
    page.click("#ask")
    page.wait_for_selector("#review:not([hidden])", timeout=SECONDS)
    page.clock.fast_forward("10:01")
    page.click("#sign")
    assert "The quote has expired: ask for a new one; nothing was signed" in said(page)
    assert nothing_was_signed(page)
    page.click("#ask")
    page.wait_for_selector("#review:not([hidden])", timeout=SECONDS)
    page.fill("#max-price", "0.04")
    assert page.locator("#review").is_hidden(), "what was changed needs a new quote"


# files


def test_files_that_are_no_key(page: Any, both: Process, tmp_path: Path) -> None:
    errors = sign_in(page, both)
    page.click("#submit summary")
    page.check("#pay-key")
    good = [*SEED, *decode(MINE.address)]
    shape = "is no keypair file: it must hold a JSON array of 64 numbers"
    halves = "its public half does not belong to its secret half"
    for text, why in (
        ("rubbish", shape),
        ("", shape),
        ("{}", shape),
        (json.dumps(good[:63]), shape),
        (json.dumps([*good[:63], 256]), shape),
        (json.dumps([*good[:63], "1"]), shape),
        (json.dumps(good) + " " * 5000, shape),
        (json.dumps([*reversed(SEED), *decode(MINE.address)]), halves),
        (json.dumps([*SEED, *bytes(32)]), "is damaged"),
    ):
        file = tmp_path / "wallet.json"
        file.write_text(text)
        page.set_input_files("#keypair", file)
        assert why in said(page), text
        assert page.inner_text("#keypair-address") == ""
    page.set_input_files("#keypair", keypair_file(tmp_path, Keypair(bytes(32)), bytes(32)))
    page.get_by_text(Keypair(bytes(32)).address).wait_for(timeout=SECONDS)
    page.fill("#job-text", json.dumps(JOB))
    page.click("#ask")
    assert "Say what the job may cost at most" in said(page)
    page.fill("#max-price", "a lot")
    page.click("#ask")
    assert "not an amount of CYXWIZ" in said(page)
    page.fill("#max-price", LIMIT)
    page.click("#ask")
    assert "balance is too low: it holds 0 CYXWIZ, 0.03636 are to be locked; nothing was signed" in said(page)
    page.fill("#job-text", "name = 'a'")
    page.click("#ask")
    assert "not a job file as JSON" in said(page)
    assert "cyxwiz submit FILE" in said(page), "what README shows is TOML"
    assert nothing_was_signed(page)
    assert errors == []


@pytest.mark.parametrize(
    ("lacking", "why"),
    [
        (
            "crypto.subtle.importKey = async () => { throw new DOMException('', 'NotSupportedError'); }",
            "has no Ed25519",
        ),
        ("Object.defineProperty(Crypto.prototype, 'subtle', {value: undefined})", "over https or from this machine"),
    ],
    ids=["no-ed25519", "not-secure"],
)
def test_a_browser_that_can_not_sign(page: Any, both: Process, tmp_path: Path, lacking: str, why: str) -> None:
    page.add_init_script(lacking)
    sign_in(page, both)
    fill(page, keypair_file(tmp_path))
    assert why in said(page)


# signing in


def test_a_wallet_signs_in_and_signs_nothing_else(page: Any, both: Process, tmp_path: Path) -> None:
    with both.http() as http:
        given = {"wallet_address": MINE.address, "purpose": "link"}
        asked = http.post("/api/auth/wallet/nonce", json=given).json()
        proof = {"wallet_address": MINE.address, "nonce": asked["nonce"]}
        signature = MINE.sign(asked["message"].encode()).hex()
        answer = http.post("/api/wallet/links", json={**proof, "signature": signature})
        assert answer.status_code == 201, answer.text
    file = keypair_file(tmp_path)
    page.goto(both.ready["rest"])
    page.route("**/nonce", lambda route: _reworded(route))
    page.set_input_files("#wallet-file", file)
    page.get_by_text("asked to sign something else than a sign-in; nothing was signed").wait_for(timeout=SECONDS)
    assert nothing_was_signed(page)
    page.unroute("**/nonce")
    page.set_input_files("#wallet-file", file)
    page.wait_for_selector("#board:not([hidden])", timeout=SECONDS)
    page.click("#leave")
    (tmp_path / "other").mkdir()
    page.set_input_files("#wallet-file", keypair_file(tmp_path / "other", Keypair(b"\3" * 32), b"\3" * 32))
    page.get_by_text("linked to no user").wait_for(timeout=SECONDS)
    assert page.locator("#board").is_hidden()


def _reworded(route: Any) -> None:
    answer = route.fetch()
    body = answer.json()
    route.fulfill(
        response=answer, json={**body, "message": body["message"].replace("Sign in to", "Empty my account at")}
    )
