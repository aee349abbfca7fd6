"""Documents as a person reads them."""

from __future__ import annotations

from typing import Any

import pytest

from cyxwiz.cli import show
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


def test_a_cancel_is_a_reason_and_no_error(capsys: Any) -> None:
    ended = shown(capsys, status="cancelled", reason="", error={"code": "", "message": "cancelled by its owner"})
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
