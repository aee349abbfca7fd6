"""`cyxwiz stake …` as a person types it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cyxwiz.cli.app import run_command
from cyxwiz.cli.arguments import split
from cyxwiz.domain.errors import Code, CyxError
from tests.unit.client.server import FakeCentral, serving_beside

NODE = "33333333-3333-4333-8333-333333333333"
FREE = "2030-01-08T00:00:00+00:00"


def step(kind: str, amount: str) -> dict[str, Any]:
    return {
        "id": "s",
        "kind": kind,
        "status": "done",
        "amount": amount,
        "by": "me",
        "reference": "r1",
        "error": None,
        "at": FREE,
    }


def stake(**changes: Any) -> dict[str, Any]:
    amounts = {
        "stake": "200",
        "cooling": "50",
        "withdrawable": "0",
        "contested": "0",
        "slashed": "0",
        "required": "100",
        "rewards_due": "0.25",
        "rewards_vault": "7",
    }
    document = {
        "node_id": NODE,
        "account": "a",
        "rewards_account": "vault-1",
        "rewards_percent": 5.0,
        **amounts,
        "required_units": 100,
        "cooling_until": FREE,
        "contest": "none",
        "contested_until": None,
        "evidence_hash": None,
        "steps": [step("cooldown", "50")],
        "did": None,
    }
    return {**document, **changes}


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


def nodes(*idents: str) -> dict[str, Any]:
    return {"nodes": [{"id": each, "name": f"rig-{each[:4]}"} for each in idents], "total": len(idents)}


@pytest.mark.parametrize(
    ("words", "method", "args"),
    [
        (["show"], "GetStake", {}),
        (["add", "1.5"], "AddStake", {"amount": "1.5"}),
        (["rewards"], "GetStake", {}),
        (["rewards", "--claim"], "ClaimRewards", {}),
        (["withdraw"], "WithdrawStake", {}),
        (["withdraw", "50"], "WithdrawStake", {"amount": "50"}),
        (["appeal"], "AppealSlash", {}),
        (["judge", "--uphold"], "JudgeSlash", {"upheld": True}),
        (["judge", "--dismiss"], "JudgeSlash", {"upheld": False}),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_each_verb_asks_about_the_node_or_the_only_one(
    fake: FakeCentral, words: list[str], method: str, args: dict[str, Any], named: bool, capsys: Any
) -> None:
    fake.answers["ListNodes"] = nodes(NODE)
    fake.answers[method] = stake(did=step("cooldown", "50"))
    assert cyxwiz("stake", *words, *(["--node", NODE] if named else []), "--output", "json") == 0
    assert json.loads(capsys.readouterr().out)["node_id"] == NODE
    assert fake.calls[-1][:3] == (method, NODE, args)
    if not named:
        assert fake.calls[0][0] == "ListNodes"
        assert fake.calls[0][2]["mine"] is True
    assert ("idempotency-key" in fake.calls[-1][3]) == (method != "GetStake")


@pytest.mark.parametrize("found", [[], [NODE, NODE.replace("3", "4")]])
def test_without_a_single_node_one_must_be_named(fake: FakeCentral, found: list[str], capsys: Any) -> None:
    fake.answers["ListNodes"] = nodes(*found)
    assert cyxwiz("stake", "add", "1") == 2
    said = capsys.readouterr().err
    assert "--node" in said
    assert all(each in said for each in found)
    assert [each[0] for each in fake.calls] == ["ListNodes"]


def test_withdraw_says_which_it_was_and_when(fake: FakeCentral, capsys: Any) -> None:
    fake.answers["WithdrawStake"] = stake(did=step("cooldown", "50"))
    assert cyxwiz("stake", "withdraw", "50", "--node", NODE) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("50 CYXWIZ cool down")
    assert "2030-01-08" in first
    fake.answers["WithdrawStake"] = stake(did=step("unstake", "50"), cooling_until=None)
    assert cyxwiz("stake", "withdraw", "--node", NODE) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("withdrawn 50 CYXWIZ")


def test_rewards_show_what_is_due_and_where_they_are_funded(fake: FakeCentral, capsys: Any) -> None:
    fake.answers["GetStake"] = stake()
    assert cyxwiz("stake", "rewards", "--node", NODE) == 0
    said = capsys.readouterr().out
    assert all(each in said for each in ("vault-1", "5 % of it", "0.25 CYXWIZ", "7 CYXWIZ"))
    assert cyxwiz("stake", "show", "--node", NODE) == 0
    assert "0.25 CYXWIZ" in capsys.readouterr().out
    fake.answers["ClaimRewards"] = stake(did=step("rewards", "0.25"))
    assert cyxwiz("stake", "rewards", "--claim", "--node", NODE) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("claimed 0.25 CYXWIZ")


def test_funding_shows_the_vault(fake: FakeCentral, capsys: Any) -> None:
    fake.answers["FundRewards"] = {"rewards_account": "vault-1", "rewards_vault": "9", "amount": "2"}
    assert cyxwiz("stake", "fund", "2") == 0
    assert fake.calls[-1][:3] == ("FundRewards", "", {"amount": "2"})
    assert "idempotency-key" in fake.calls[-1][3]
    assert "vault-1" in capsys.readouterr().out


def test_an_open_slash_is_shown_with_its_end(fake: FakeCentral, capsys: Any) -> None:
    fake.answers["GetStake"] = stake(contest="pending", contested="7", contested_until=FREE, evidence_hash="ab" * 32)
    assert cyxwiz("stake", "show", "--node", NODE) == 0
    said = capsys.readouterr().out
    assert "appeal until" in said
    assert "ab" * 32 in said
    assert "7 CYXWIZ" in said


@pytest.mark.parametrize(("code", "status"), [(Code.FUNDS, 6), (Code.FORBIDDEN, 4), (Code.INVALID, 2)])
def test_a_refusal_has_its_exit_status(fake: FakeCentral, code: Code, status: int) -> None:
    fake.answers["AddStake"] = CyxError(code, "no")
    assert cyxwiz("stake", "add", "5", "--node", NODE) == status
