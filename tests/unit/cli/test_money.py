"""The money's verbs as a person types them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cyxwiz.cli.app import run_command
from cyxwiz.cli.arguments import split
from cyxwiz.client.keypair import Keypair
from cyxwiz.domain.base58 import decode
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.receipt import AMOUNTS, sealed
from cyxwiz.domain.wallet_proof import Purpose, proof_message
from tests.unit.client.server import FakeCentral, asks_to_sign, job, serving_beside

JOB = job()["id"]
CLIENT = "11111111111111111111111111111112"
SEED = b"\3" * 32


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeCentral]:
    made = FakeCentral()
    with serving_beside(made) as port:
        monkeypatch.setenv("CYXWIZ_SERVER", f"127.0.0.1:{port}")
        monkeypatch.setenv("CYXWIZ_TOKEN", "cyx_test")
        monkeypatch.setenv("CYXWIZ_DATA_DIR", str(tmp_path / "data"))
        yield made


def cyxwiz(*args: str) -> int:
    return run_command(*split(args))


@pytest.fixture
def receipt(tmp_path: Path) -> tuple[Path, str]:
    """(a receipt of a job that cost nothing, the key that signed it)"""
    key = Ed25519PrivateKey.from_private_bytes(SEED)
    amounts = {f"{name}{unit}": 0 if unit else "0" for name in ("price", *AMOUNTS) for unit in ("", "_units")}
    document = {"version": 1, "job_id": JOB, "files": [], "payments": [], "settled": True, "charged": False}
    document |= {"proof": None, **amounts}
    public = key.public_key().public_bytes_raw().hex()
    path = tmp_path / "receipt.json"
    path.write_text(json.dumps(sealed(document, public, key.sign), indent=2))
    return path, public


def test_a_receipt_is_checked_without_a_server(
    receipt: tuple[Path, str], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CYXWIZ_SERVER", "127.0.0.1:1")
    path, key = receipt
    assert cyxwiz("receipts", "verify", str(path)) == 0
    said = capsys.readouterr()
    assert key in said.out
    assert "--key" in said.err
    assert cyxwiz("receipts", "verify", str(path), "--key", key, "--output", "json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["pinned"] is True
    assert said.err == ""


@pytest.mark.parametrize(
    ("old", "new", "status", "said"),
    [
        ('"charged": false', '"charged": true', 1, "charged"),
        ('"version": 1', '"version": 2', 1, "version"),
        ('"signature"', '"seal"', 1, "signature"),
        ("{", "", 2, "JSON"),
    ],
)
def test_a_receipt_that_was_changed_is_refused_by_name(
    receipt: tuple[Path, str], old: str, new: str, status: int, said: str, capsys: Any
) -> None:
    path, _ = receipt
    path.write_text(path.read_text().replace(old, new, 1))
    assert cyxwiz("receipts", "verify", str(path)) == status
    assert said in capsys.readouterr().err


def test_another_platforms_key_is_refused(receipt: tuple[Path, str], capsys: Any) -> None:
    assert cyxwiz("receipts", "verify", str(receipt[0]), "--key", "ab" * 32) == 1
    assert "pinned" in capsys.readouterr().err
    assert cyxwiz("receipts", "verify", str(receipt[0]), "--key", "short") == 2
    assert cyxwiz("receipts", "verify", str(receipt[0]), "--files", "no-folder") == 2
    assert cyxwiz("receipts", "verify", "none.json") == 2


def test_a_key_that_is_there_twice_is_refused(receipt: tuple[Path, str]) -> None:
    path, _ = receipt
    path.write_text(path.read_text().replace("{", '{"charged": true,', 1))
    assert cyxwiz("receipts", "verify", str(path)) == 2


def test_too_little_money_is_6(fake: FakeCentral, capsys: Any) -> None:
    fake.answers["TopUpJob"] = CyxError(Code.FUNDS, "add funds")
    assert cyxwiz("jobs", "topup", JOB, "5") == 6
    fake.answers["TopUpJob"] = job()
    assert cyxwiz("jobs", "topup", JOB, "1.5") == 0
    assert fake.calls[-1][:3] == ("TopUpJob", JOB, {"amount": "1.5"})


def test_an_airdrop_is_a_grant_to_oneself(fake: FakeCentral, capsys: Any) -> None:
    fake.answers["WhoAmI"] = {"id": JOB, "name": "me", "role": "admin"}
    fake.answers["GrantFunds"] = {"user_id": JOB, "amount": "5", "amount_units": 5 * 10**9, "reference": "r"}
    assert cyxwiz("wallet", "airdrop", "5") == 0
    name, _, args, metadata = fake.calls[-1]
    assert (name, args) == ("GrantFunds", {"user_id": JOB, "amount": "5"})
    assert metadata["idempotency-key"]
    fake.answers["GrantFunds"] = CyxError(Code.FORBIDDEN, "This needs the role admin")
    assert cyxwiz("wallet", "airdrop", "5") == 4


def test_link_signs_nothing_but_the_link_and_sends_no_secret(fake: FakeCentral, tmp_path: Path, capsys: Any) -> None:
    pair = Keypair(SEED)
    path = tmp_path / "id.json"
    path.write_text(json.dumps([*SEED, *decode(pair.address)]))
    assert cyxwiz("wallet", "link", str(path)) == 2  # others can read it
    path.chmod(0o600)
    asks_to_sign(fake)
    fake.answers["LinkWallet"] = {"wallet_address": pair.address, "linked_at": "2026-01-01T00:00:00.000Z"}
    assert cyxwiz("wallet", "link", str(path)) == 0
    sent = fake.calls[-1][2]
    message = proof_message(Purpose.LINK, pair.address, "ab" * 32, "1.2.c")
    assert sent == {"wallet_address": pair.address, "nonce": "1.2.c", "signature": pair.sign(message.encode()).hex()}
    assert SEED.hex() not in json.dumps([each[2] for each in fake.calls])


@pytest.mark.parametrize(
    "asked",
    [
        {"nonce": "1.2.c", "message": "sign me"},
        {"nonce": "1.2.c", "message": None},
        {"nonce": "1.2.c\nWallet: other", "message": "x"},
        {},
    ],
)
def test_what_is_no_link_is_not_signed(fake: FakeCentral, tmp_path: Path, asked: dict[str, Any], capsys: Any) -> None:
    path = tmp_path / "id.json"
    path.write_text(json.dumps([*SEED, *decode(Keypair(SEED).address)]))
    path.chmod(0o600)
    asks_to_sign(fake)
    fake.answers["WalletNonce"] = asked
    assert cyxwiz("wallet", "link", str(path)) == 1
    assert "nothing was signed" in capsys.readouterr().err
    assert "LinkWallet" not in [each[0] for each in fake.calls]


@pytest.mark.parametrize(
    ("given", "status", "words"),
    [
        (("rubbish",), 2, "is not a UUID"),
        ((JOB,), 5, "could not be asked"),
        ((JOB, "--set", "blockchain.program_id=x"), 2, "must be 32 bytes in base58"),
    ],
)
def test_what_an_own_key_does_asks_the_chain_alone(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], status: int, words: str
) -> None:
    monkeypatch.setenv("CYXWIZ_SERVER", "127.0.0.1:1")
    monkeypatch.setenv("CYXWIZ_BLOCKCHAIN__SOLANA_RPC_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("CYXWIZ_BLOCKCHAIN__PROGRAM_ID", "11111111111111111111111111111111")
    path = tmp_path / "wallet.json"
    path.write_text(json.dumps([*SEED, *Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw()]))
    path.chmod(0o600)
    job, *more = given
    for deed in (("reclaim",), ("dispute",), ("claim", "--client", CLIENT), ("resolve", "1.5", "--client", CLIENT)):
        command, *its = deed
        assert cyxwiz("wallet", command, job, str(path), *its, *more) == status
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("claim", JOB, "KEY"), "Missing option '--client'"),
        (("claim", JOB, "KEY", "--client", CLIENT), "blockchain.program_id is not set: name the escrow program"),
        (
            ("claim", JOB, "KEY", "--client", "nobody", "--set", "blockchain.network=localnet"),
            "client: 'nobody' is no address",
        ),
        (("resolve", JOB, "KEY", "-1", "--client", CLIENT), "amount"),
        (("resolve", JOB, "KEY", "x", "--client", CLIENT), "amount"),
    ],
)
def test_what_an_escrow_is_asked_wrongly_is_said(
    tmp_path: Path, capsys: Any, given: tuple[str, ...], words: str
) -> None:
    path = tmp_path / "wallet.json"
    path.write_text(json.dumps([*SEED, *Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw()]))
    path.chmod(0o600)
    assert cyxwiz("wallet", *[str(path) if each == "KEY" else each for each in given]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (("wallet", "withdraw", "ADDR", "-1"), ("WithdrawFunds", {"to": "ADDR", "amount": "-1"})),
        (("wallet", "grant", "bob", "-.5"), ("GrantFunds", {"amount": "-.5"})),
        (("stake", "add", "-5", "--node", JOB), ("AddStake", {"amount": "-5"})),
        (("stake", "withdraw", "--node", JOB, "-5"), ("WithdrawStake", {"amount": "-5"})),
        (("stake", "fund", "-5"), ("FundRewards", {"amount": "-5"})),
        (("jobs", "topup", JOB, "-1"), ("TopUpJob", {"amount": "-1"})),
        (("users", "budget", "bob", "-1"), ("SetUserBudget", {"amount": "-1"})),
    ],
)
def test_an_amount_below_zero_is_refused_as_an_amount(
    fake: FakeCentral, given: tuple[str, ...], sent: tuple[str, dict[str, Any]], capsys: Any
) -> None:
    fake.answers[sent[0]] = CyxError(Code.INVALID, "amount: '-1' is not an amount of CYXWIZ")
    assert cyxwiz(*given) == 2
    assert "is not an amount" in capsys.readouterr().err
    assert fake.calls[-1][0] == sent[0]
    assert sent[1].items() <= fake.calls[-1][2].items()


@pytest.mark.parametrize(
    "given",
    [
        ("wallet", "withdraw", "ADDR", "--bogus"),
        ("wallet", "withdraw", "-x", "1"),
        ("wallet", "airdrop", "1", "--bogus"),
        ("stake", "add", "-5", "--bogus"),
        ("stake", "withdraw", "--all"),
        ("jobs", "topup", JOB, "-n"),
    ],
)
def test_an_option_that_is_none_is_still_bad_usage(fake: FakeCentral, given: tuple[str, ...], capsys: Any) -> None:
    assert cyxwiz(*given) == 2
    assert "--help" in capsys.readouterr().err
    assert not fake.calls
