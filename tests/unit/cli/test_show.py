"""Documents as a person reads them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cyxwiz.cli import show, show_money, show_nodes
from tests.unit.client.server import job


def shown(capsys: Any, **changed: Any) -> dict[str, str]:
    show.job(job(**changed))
    lines = [line.partition("  ") for line in capsys.readouterr().out.splitlines()]
    return {name: value.strip() for name, _, value in lines}


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_an_ended_job_shows_what_it_cost(capsys: Any, status: str) -> None:
    assert shown(capsys, status=status, actual_cost="0.00002")["cost"] == "0.00002 CYXWIZ"


@pytest.mark.parametrize("status", ["pending", "running", "paused"])
def test_a_job_that_goes_on_shows_what_it_costs_at_most(capsys: Any, status: str) -> None:
    assert shown(capsys, status=status)["cost"] == "at most 0.03636 CYXWIZ"


@pytest.mark.parametrize(("status", "cost"), [("completed", "0.00002 CYXWIZ"), ("running", "at most 0.03636 CYXWIZ")])
def test_a_job_of_a_reservation_is_not_charged(capsys: Any, status: str, cost: str) -> None:
    seen = shown(capsys, status=status, actual_cost="0.00002", reservation_id="9b1c")["cost"]
    assert seen == f"{cost}, not charged: its reservation is paid for"


def test_a_cancel_is_a_reason_and_no_error(capsys: Any) -> None:
    ended = shown(capsys, status="cancelled", reason="cancelled by its owner")
    assert ended["reason"] == "cancelled by its owner"
    assert "error" not in ended


def test_an_error_without_a_code_is_its_message(capsys: Any) -> None:
    assert shown(capsys, status="failed", error={"code": "", "message": "it broke"})["error"] == "it broke"
    coded = {"code": "TIMEOUT", "message": "too slow"}
    assert shown(capsys, status="failed", error=coded)["error"] == "TIMEOUT: too slow"


def test_a_plan_tells_bounds_and_no_expectations(capsys: Any) -> None:
    show.plan({"estimated_cost": "0.03636", "expected_seconds": 3600.0, "feasible_nodes": 0, "nodes": []})
    out = capsys.readouterr().out
    assert "at most 0.03636 CYXWIZ" in out
    assert "at most 3600 s" in out
    assert "expected" not in out


ADDRESSES = ("ExVUtf2qMiGhpfCDUBKxB3aVmGfGfyqRDCJKixUEPJeC", "8pTW3qmCzTk79Gss4EQsM32sLNERxTkumCb9h7yGwmkM")
TRANSACTION = {
    "at": "2030-01-01T00:00:00Z",
    "kind": "settle",
    "amount": "0.000021253",
    "platform_fee": "0.000002125",
    "refunded": "0.036338747",
    "source": ADDRESSES[0],
    "destination": ADDRESSES[1],
    "status": "confirmed",
    "reference": "5tWeHQaisq5gE1KAePpn7ANZb7xyv1j6iaNPTXd5BfzLetdsDfNXk1Xz" + "m" * 32,
}
NODE = {
    "id": "206c6916-6b32-42f5-8b2a-ff2cd33c383e",
    "name": "a-machine-with-a-name",
    "status": "online",
    "region": "eu-central",
    "current_load": 0.5,
    "cpu_cores": 64,
    "ram_total_bytes": 128 << 30,
    "gpu_model": "NVIDIA GeForce RTX 4090",
    "reputation": 0.7654,
}
OF_ONE = {"total": 1, "page": 1, "total_pages": 1}


def all_lists() -> None:
    running = job(name="a job with a long name", status="completed", metrics={"loss": 0.06921}, current_epoch=2)
    show.jobs({"jobs": [running], **OF_ONE})
    show_nodes.nodes({"nodes": [NODE], **OF_ONE})
    show_money.transactions({"transactions": [TRANSACTION], **OF_ONE})


def test_lists_are_readable_in_80_columns(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # which makes rich take any stream for a terminal
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    all_lists()
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    lines = [line for line in out.splitlines() if line.strip()]
    assert len(lines) == 9, "a heading, a rule and one line for each row"
    assert max(map(len, lines)) <= 80
    for whole in (job()["id"], NODE["id"], "completed", "online", "0.000021253", ADDRESSES[0][:11]):
        assert whole in out
    assert TRANSACTION["reference"] not in out


@pytest.mark.parametrize("columns", [30, 40, 60])
def test_ids_are_whole_in_few_columns(capsys: Any, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    show.jobs({"jobs": [job(name="a job with a long name", status="completed")], **OF_ONE})
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    for whole in (job()["id"], "a job with a long name", "completed"):
        assert whole in out


def test_what_is_piped_has_every_column_whole(capsys: Any) -> None:
    all_lists()
    out = capsys.readouterr().out
    assert len([line for line in out.splitlines() if line.strip()]) == 9
    for whole in (*TRANSACTION.values(), NODE["gpu_model"], NODE["region"], "a job with a long name", "2026-01-02"):
        assert str(whole).replace("T", " ") in out or str(whole) in out


def test_a_node_that_set_no_price_shows_none(capsys: Any) -> None:
    account = {"score": 76.54, "tier": "normal", "start": 75.0, "earlier": 0.0, "events": []}
    account |= {"strikes": 0, "bans": 0, "half_life_hours": 168.0}
    whole = {**NODE, "uptime": 0.9338, "stake": "5", "stake_units": 5 * 10**9}
    whole |= {"price_per_hour": "0.06", "price_per_hour_units": 60_000_000}
    whole |= {"devices": [], "hardware_unknown": [], "pricing": {"set_by": "tariff"}, "reputation_account": account}
    show_nodes.node(whole)
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if "0.06" in line or "units" in line]
    assert "prices: none set; the operator's tariff holds" in lines
    found = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in lines}
    assert (found["uptime"], found["stake"]) == ("93%", "5 CYXWIZ")
    assert found["reputation"] == "76.54", "as in the line that explains it"
    assert any(line.startswith("reputation 76.54 (normal)") for line in lines)


def test_an_amount_is_told_once_and_in_cyxwiz(capsys: Any) -> None:
    budget = {"user": "bob", "budget": None, "budget_units": None, "spent": "0.5", "spent_units": 500_000_000}
    show.record(budget)
    assert capsys.readouterr().out.split() == ["user", "bob", "spent", "0.5", "CYXWIZ"]


def test_times_are_written_alike(capsys: Any) -> None:
    """`whoami` and `nodes show` told them as programs read them."""
    show.record({"created_at": "2026-07-01T12:30:05.733Z", "banned_until": "2026-07-02T00:00:00Z", "ended_at": None})
    assert capsys.readouterr().out.split("\n") == [
        "created at    2026-07-01 12:30:05Z",
        "banned until  2026-07-02 00:00:00Z",
        "",
    ]


def test_sizes_of_checkpoints_are_readable(capsys: Any) -> None:
    saved = {"number": 1, "at": "2030-01-01T00:00:00Z", "epoch": 1, "step": 23, "progress": 0.5, "kept": True}
    show.checkpoints({"checkpoints": [{**saved, "size": 22324}]})
    assert "21.8 KiB" in capsys.readouterr().out


def test_a_curve_is_that_of_the_run_that_counts(capsys: Any) -> None:
    """The first run came to epoch 3, the second began at the start, the third went on from within epoch 2."""
    told = [(1, 1, 0.25), (1, 2, 0.5), (1, 3, 0.75), (2, 1, 0.25), (2, 2, 0.5), (3, 2, 0.5), (3, 3, 0.75)]
    points = [
        {"epoch": epoch, "attempt": run, "progress": share, "epoch_ended": True, "metrics": {"loss": run + epoch / 10}}
        for run, epoch, share in told
    ]
    halfway = {"epoch": 2, "attempt": 3, "progress": 0.3, "epoch_ended": False, "metrics": {"loss": 9.0}}
    show.metrics({"metrics": [*points[:5], halfway, *points[5:]]})
    assert re.findall(r"^ *(\d) +(\S+)", capsys.readouterr().out, re.MULTILINE) == [
        ("1", "2.1"),
        ("2", "3.2"),
        ("3", "3.3"),
    ]


@pytest.mark.parametrize(("name", "called"), [("model.safetensors", "weights"), ("evaluation.json", "first file")])
def test_what_is_no_model_is_not_called_weights(capsys: Any, name: str, called: str) -> None:
    show.pairs([(show.first_file([{"name": name}]), "sha256:0")])
    assert capsys.readouterr().out.split("  ")[0] == called
