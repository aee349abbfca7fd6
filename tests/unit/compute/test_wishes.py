"""What a job's owner can change while it trains, in a real training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cyxwiz.compute.orders import Orders
from cyxwiz.compute.train import train
from cyxwiz.ports.executor import Checkpointed, FirstStep, Logged, Progressed, Report, Work
from tests.unit.compute.test_train import job


def run(work: Work, *wishes: tuple[str, dict[str, Any]]) -> list[Report]:
    """A training whose wishes come with its first step."""
    orders, seen = Orders(), list[Report]()

    def send(report: Report) -> None:
        seen.append(report)
        if isinstance(report, FirstStep):
            for order, values in wishes:
                orders.give(order, values)

    train(work, send, orders)
    return seen


def rates(seen: list[Report]) -> list[float]:
    return [report.metrics["learning_rate"] for report in seen if isinstance(report, Progressed) and report.epoch_ended]


@pytest.mark.parametrize("schedule", [{}, {"scheduler": "exponential", "gamma": "0.5"}])
def test_a_new_learning_rate_acts_from_the_next_step_on(tmp_path: Path, schedule: dict[str, str]) -> None:
    work = job(tmp_path, epochs=3, hyperparameters={"learning_rate": "0.001", **schedule})
    plain, changed = run(work), run(work, ("update", {"learning_rate": 0.01}))
    assert rates(changed) == pytest.approx([10 * rate for rate in rates(plain)])
    losses = [[each.metrics["loss"] for each in seen if isinstance(each, Progressed)] for seen in (plain, changed)]
    assert losses[0] != losses[1]


@pytest.mark.parametrize("rate", [-1.0, 1000.5])
def test_what_cannot_be_changed_is_told(tmp_path: Path, rate: float) -> None:
    values = {"batch_size": 8, "learning_rate": rate, "momentum": 0.5}
    seen = run(job(tmp_path), ("update", values))
    told = [report.message for report in seen if isinstance(report, Logged) and report.level == "error"]
    assert len(told) == 3
    assert all(any(name in line for line in told) for name in ("batch_size", "(0, 1000]", "momentum"))


def test_a_checkpoint_on_demand(tmp_path: Path) -> None:
    seen = run(job(tmp_path, checkpoint_every="none"), ("checkpoint", {}))
    (saved,) = [report for report in seen if isinstance(report, Checkpointed)]
    assert (saved.epoch, saved.step) == (1, 1)
    assert [report for report in seen if isinstance(report, Checkpointed)] == [saved]
    assert not [report for report in run(job(tmp_path, checkpoint_every="none")) if isinstance(report, Checkpointed)]
