"""Checks of intervals: honest work has the same states wherever it is done again, and what is forged is found."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cyxwiz.compute import checkpoint
from cyxwiz.compute.chain import resembles, state_digest
from cyxwiz.compute.orders import Orders
from cyxwiz.compute.train import Stopped, train
from cyxwiz.ports.executor import Check, Checkpointed, Finished, Linked, Progressed, Report, Work
from tests.unit.compute.test_train import job

DENSE = [{"type": "dense", "units": 16}, {"type": "relu"}, {"type": "dense", "units": 10}]
DROPPING = json.dumps({"layers": [DENSE[0], {"type": "batchnorm"}, DENSE[1], {"type": "dropout"}, DENSE[2]]})
SCHEDULES = ["step", "exponential", "cosine", "plateau", "warmup,cosine"]
PLAIN: dict[str, Any] = {"model": json.dumps({"layers": DENSE}), "epochs": 3}


class Kept:
    """A run with all the checkpoints that it made: its folder keeps the last two only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.points: list[Checkpointed] = []
        self.links: dict[str, Linked] = {}

    def take(self, report: Report) -> None:
        if isinstance(report, Progressed) and report.epoch_ended:  # none is left out as the one before is still written
            for thread in threading.enumerate():
                if thread.name == "checkpoint":
                    thread.join()
        if isinstance(report, Linked):
            self.links[report.link] = report
        if isinstance(report, Checkpointed):
            copy = self.folder / f"kept-{len(self.points)}.safetensors"
            shutil.copy(report.file.path, copy)
            self.points.append(replace(report, artefacts=(replace(report.file, path=copy),)))

    def run(self, work: Work, orders: Orders | None = None) -> Finished | None:
        try:
            end = train(work, self.take, orders or Orders())
        except Stopped:
            return None
        assert isinstance(end, Finished)
        return end

    def digest(self, point: Checkpointed) -> str:
        return self.links[point.link].weights


def checked(folder: Path, start: Checkpointed | None, check: Check, **changes: Any) -> tuple[str, Finished]:
    """What a check of an interval comes to: the digest of its state, and its outcome."""
    again = Kept(folder)
    folder.mkdir()
    resume = start.file.path if start is not None else None
    end = again.run(job(folder / "work", resume=resume, check=check, **changes))
    assert end is not None
    found = list(again.links.values())
    return (found[-1].weights if found else ""), end


def every_interval(tmp_path: Path, kept: Kept, **changes: Any) -> None:
    """All that is between two checkpoints, done again from the first of them, comes to the second."""
    assert len(kept.points) > 1
    for number, point in enumerate(kept.points):
        before = kept.points[number - 1] if number else None
        start = kept.digest(before) if before else ""
        digest, end = checked(tmp_path / f"{number}", before, Check(point.step, point.threads, start=start), **changes)
        assert digest == kept.digest(point), f"the interval that ends at step {point.step}"
        assert end.final_metrics == {}
        assert state_digest(checkpoint.read(point.file.path, _of(point))) == digest, "and so says its file"


def _of(point: Checkpointed) -> str:
    from safetensors import safe_open

    with safe_open(point.file.path, "pt") as file:
        return str(json.loads(file.metadata()["cyxwiz.checkpoint"])["job"])


@pytest.mark.parametrize("every", ["1 epoch", "13 steps"])
@pytest.mark.parametrize(
    "hyper",
    [
        *({"schedule": name, "validation_split": "0.2"} for name in SCHEDULES),
        *({"optimizer": name} for name in ("sgd", "rmsprop", "adagrad", "nadam", "adamw")),
        {"optimizer": "sgd", "momentum": "0.9", "nesterov": "true"},
        {"accumulate": "3", "clip_norm": "1.0"},
        {"precision": "bf16", "keep_best": "true", "validation_split": "0.2"},
        {"early_stopping": "2", "class_weights": "balanced"},
    ],
    ids=lambda hyper: ",".join(f"{name}={value}" for name, value in hyper.items())[:30],
)
def test_honest_work_has_the_same_states(tmp_path: Path, hyper: dict[str, str], every: str) -> None:
    changes: dict[str, Any] = {"model": DROPPING, "hyperparameters": hyper, "epochs": 5, "seed": 3}
    kept = Kept(tmp_path)
    kept.run(job(tmp_path / "whole", checkpoint_every=every, **changes))
    every_interval(tmp_path, kept, **changes)


@pytest.mark.parametrize("batch_size", [64, 1000, 5000])
def test_a_run_that_was_interrupted_anywhere_has_the_same_states(tmp_path: Path, batch_size: int) -> None:
    """At an epoch's last batch as well, and where it has only one."""
    changes: dict[str, Any] = {"model": DROPPING, "epochs": 4, "batch_size": batch_size}
    kept, resume = Kept(tmp_path), None
    for number in range(5):
        orders = Orders()
        work = job(tmp_path / f"run{number}", resume=resume, **changes)
        steps = 0

        def stop(report: Report, orders: Orders = orders) -> None:
            kept.take(report)
            nonlocal steps
            steps += 1
            orders.give("preempt")

        try:
            orders.give("checkpoint")
            train(work, stop, orders)
        except Stopped:
            resume = kept.points[-1].file.path
            continue
        break
    by_step = {point.step: point for point in kept.points}
    kept.points = [by_step[step] for step in sorted(by_step)]
    every_interval(tmp_path, kept, **changes)


def forged(point: Checkpointed, path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Checkpointed:
    """The checkpoint with other tensors or figures."""
    state = checkpoint.read(point.file.path, _of(point))
    tensors, figures = dict(state.tensors), json.loads(json.dumps(state.figures))
    change(tensors, figures)
    made = checkpoint.write(path, replace(state, tensors=tensors, figures=figures), _of(point), point.link)
    return replace(point, artefacts=(made,))


def learns_nothing(tensors: dict[str, Any], figures: dict[str, Any]) -> None:
    for group in figures["optimizer"]["groups"]:
        group["lr"] = 0.0


def remembers_much(tensors: dict[str, Any], figures: dict[str, Any]) -> None:
    for name in tensors:
        if name.endswith("exp_avg_sq"):
            tensors[name] = tensors[name] + 1e12


def stops_early(tensors: dict[str, Any], figures: dict[str, Any]) -> None:
    figures["best"]["waited"] = 1000


def other_weights(tensors: dict[str, Any], figures: dict[str, Any]) -> None:
    name = next(name for name in tensors if name.startswith("model/"))
    tensors[name] = tensors[name] * 0.5


def lacks_figures(tensors: dict[str, Any], figures: dict[str, Any]) -> None:
    del figures["schedule"]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    folder = tmp_path_factory.mktemp("honest")
    kept = Kept(folder)
    kept.run(job(folder / "whole", checkpoint_every="1 epoch", **PLAIN))
    return kept


@pytest.mark.parametrize("change", [learns_nothing, remembers_much, stops_early, other_weights, lacks_figures])
def test_a_state_that_is_not_its_links_is_no_start(tmp_path: Path, honest: Kept, change: Any) -> None:
    """Else each interval could be right by itself, though none goes on from the one before."""
    first, second = honest.points[:2]
    start = forged(first, tmp_path / "forged.safetensors", change)
    check = Check(second.step, second.threads, start=honest.digest(first))
    digest, end = checked(tmp_path / "check", start, check, **PLAIN)
    assert (digest, end.final_metrics) == ("", {"start_matches": 0.0})
    assert end.artefacts[0].path.is_file()


@pytest.mark.parametrize("rubbish", [b"", b"{}", bytes(range(256)) * 10])
def test_a_start_that_is_no_checkpoint_is_the_fault_of_whose_it_is(
    tmp_path: Path, honest: Kept, rubbish: bytes
) -> None:
    first, second = honest.points[:2]
    path = tmp_path / "rubbish"
    path.write_bytes(rubbish)
    start = replace(first, artefacts=(replace(first.file, path=path),))
    _, end = checked(tmp_path / "check", start, Check(second.step, 1, start=honest.digest(first)), **PLAIN)
    assert end.final_metrics == {"start_matches": 0.0}


@pytest.mark.parametrize("change", [learns_nothing, remembers_much, lacks_figures])
def test_on_other_hardware_a_forged_state_is_not_near(tmp_path: Path, honest: Kept, change: Any) -> None:
    """Its weights are those of honest work: what is left out comes later."""
    second = honest.points[1]
    claim = forged(second, tmp_path / "forged.safetensors", change)
    check = Check(second.step, second.threads, claim=claim.file.path)
    _, end = checked(tmp_path / "check", None, check, **PLAIN)
    assert end.final_metrics == {"incomparable": 1.0}
    fair = replace(check, claim=second.file.path)
    _, end = checked(tmp_path / "fair", None, fair, **PLAIN)
    assert end.final_metrics == {"max_abs": 0.0, "max_rel": 0.0}


def test_a_claim_that_can_not_be_read_is_a_wrong_one(tmp_path: Path, honest: Kept) -> None:
    path = tmp_path / "rubbish"
    path.write_bytes(b"rubbish")
    second = honest.points[1]
    _, end = checked(tmp_path / "one", None, Check(second.step, 1, claim=path), **PLAIN)
    assert end.final_metrics == {"incomparable": 1.0}
    _, end = checked(tmp_path / "two", None, Check(0, 1, "0" * 64, claim=path, result=path), **PLAIN)
    assert end.final_metrics == {"incomparable": 1.0, "result_matches": 0.0}


def test_nobody_is_made_to_take_any_number_of_threads(tmp_path: Path, honest: Kept) -> None:
    import torch

    first = honest.points[0]
    checked(tmp_path / "check", None, Check(first.step, 1_000_000), **PLAIN)
    assert torch.get_num_threads() == 1


def test_states_that_differ_a_little_resemble_each_other(honest: Kept) -> None:
    state = checkpoint.read(honest.points[1].file.path, _of(honest.points[1]))
    near = {name: value * 1.2 if name.startswith("optimizer/") else value for name, value in state.tensors.items()}
    assert resembles(state, replace(state, tensors=near))
    counted = {**state.figures["best"], "epoch": 1, "waited": 1}
    assert resembles(state, replace(state, figures={**state.figures, "best": counted})), "two losses were nearly equal"
    other = checkpoint.read(honest.points[0].file.path, _of(honest.points[0]))
    assert not resembles(state, other)
