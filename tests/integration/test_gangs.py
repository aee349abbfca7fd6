"""Two real processes train one job over gloo: as one would, or with far fewer bytes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from cyxwiz.compute.evaluate import evaluate
from cyxwiz.compute.executor import ProcessExecutor
from cyxwiz.compute.orders import Orders
from cyxwiz.compute.sandbox.choose import choose
from cyxwiz.compute.train import train
from cyxwiz.domain.errors import CyxError
from cyxwiz.domain.script import Script
from cyxwiz.ports.executor import Asked, Failed, Finished, Gang, Logged, Outcome, Preempted, Progressed, Report, Started
from cyxwiz.runtime.clock import SystemClock
from tests.gangs import Keeper, Told, train_together
from tests.integration.test_executor import job, running

SEVERAL = json.dumps({"layers": [{"type": "dense", "units": 48}, {"type": "relu"}, {"type": "dense", "units": 10}]})
# 1438 samples are no multiple of 45, nor 45 of two: members have unequal shares. Gradients are accumulated.
JOB = {"batch_size": 45, "epochs": 3, "model": SEVERAL}
PARAMETERS = {"accumulate": "2", "clip_norm": "1.0", "schedule": "step", "keep_best": "true"}


def alone(folder: Path, **changes: object) -> tuple[list[float], Finished]:
    reports: list[Report] = []
    end = train(job(folder, **changes), reports.append, Orders())
    assert isinstance(end, Finished)
    losses = [each.metrics["loss"] for each in reports if isinstance(each, Progressed) and each.epoch_ended]
    return losses, end


def finished(told: Told) -> Finished:
    first, *others = told.ends
    assert isinstance(first, Finished), (first, [each for each in told.reports if isinstance(each, Logged)][-3:])
    assert all(isinstance(each, Preempted) for each in others), others
    return first


SAME = ("dataset_uri", "model", "batch_size", "epochs", "hyperparameters")


@pytest.mark.parametrize(
    ("strategy", "further"), [("ddp", {}), ("fsdp", {}), ("ddp", {"class_weights": "9,1,1,1,1,1,1,1,1,0"})]
)
async def test_two_members_compute_what_one_does(tmp_path: Path, strategy: str, further: dict[str, str]) -> None:
    parameters = {**PARAMETERS, **further}
    losses, end = alone(tmp_path / "alone", **JOB, hyperparameters=parameters)
    async with running(tmp_path) as executor:
        told = await train_together(executor, job(tmp_path, **JOB, hyperparameters=parameters), 2, strategy)
        both = finished(told)
        assert told.losses == pytest.approx(losses, rel=1e-4)
        for name in ("val_loss", "val_accuracy", "accuracy"):
            assert both.final_metrics[name] == pytest.approx(end.final_metrics[name], rel=1e-4)
        mine, ours = load_file(end.artefacts[0].path), load_file(both.artefacts[0].path)
        assert {name: value.shape for name, value in ours.items()} == {n: v.shape for n, v in mine.items()}
        for name, value in mine.items():
            assert (ours[name] - value).abs().max() < 1e-4, name


async def test_a_sharded_model_is_tested_on_fewer_rows_than_members(tmp_path: Path) -> None:
    """Each of them has to compute as often, whether it has a row or not."""
    work = job(
        tmp_path,
        dataset_uri="builtin:diabetes",
        model='{"layers": [{"type": "dense", "units": 8}, {"type": "dense", "units": 1}]}',
        batch_size=50,
        epochs=1,
        hyperparameters={"test_split": "0.002"},
    )
    async with running(tmp_path) as executor:
        both = finished(await train_together(executor, work, 2, "fsdp"))
    _, end = alone(tmp_path / "alone", **{name: getattr(work, name) for name in SAME})
    assert both.final_metrics["test_loss"] == pytest.approx(end.final_metrics["test_loss"], rel=1e-4)


@pytest.mark.parametrize(("strategy", "world", "batch"), [("ddp", 1, 5), ("fsdp", 2, 15), ("diloco", 2, 5)])
async def test_a_gang_goes_on_from_a_checkpoint_with_another_number_of_members(
    tmp_path: Path, strategy: str, world: int, batch: int
) -> None:
    """The last member alone is told to stop: all do, in the middle of an epoch. Every sample still counts once."""
    work = job(tmp_path, batch_size=batch, epochs=4, checkpoint_every="none", hyperparameters={"sync_every": "50"})
    async with running(tmp_path) as executor:
        told = await train_together(executor, work, 2, strategy, preempt_at=1)
        assert all(isinstance(each, Preempted) for each in told.ends), told.ends
        (saved,) = told.checkpoints
        assert saved.batch > 0
        again = replace(work, work_dir=tmp_path / "again", resume=saved.file.path)
        if world == 1:
            reports: list[Report] = []
            end = train(again, reports.append, Orders())
            losses = [each.metrics["loss"] for each in reports if isinstance(each, Progressed) and each.epoch_ended]
        else:
            more = await train_together(executor, again, world, strategy)
            end, losses = finished(more), more.losses
    assert isinstance(end, Finished)
    expected, _ = alone(tmp_path / "alone", batch_size=batch, epochs=4)
    if strategy == "diloco":
        assert end.final_metrics["val_accuracy"] > 0.85
    else:
        assert [*told.losses, *losses] == pytest.approx(expected, rel=1e-3)
        assert len(told.losses) + len(losses) == 4


async def test_an_order_is_heard_where_epochs_are_shorter_than_the_time_between_votes(tmp_path: Path) -> None:
    work = job(tmp_path, batch_size=500, epochs=2000, checkpoint_every="none")
    async with running(tmp_path) as executor:
        told = await train_together(executor, work, 2, preempt_at=20)
        assert all(isinstance(each, Preempted) for each in told.ends), told.ends
        (saved,) = told.checkpoints
        assert saved.epoch < 1000


async def test_what_members_draw_by_chance_is_the_same_after_a_checkpoint(tmp_path: Path) -> None:
    chance = [{"type": "augmentation", "noise_std": 0.1}, {"type": "dropout", "rate": 0.4}]
    model = json.dumps({"layers": [*chance, {"type": "dense", "units": 10}]})
    work = job(tmp_path, batch_size=10, epochs=20, checkpoint_every="none", model=model)
    async with running(tmp_path) as executor:
        through = await train_together(executor, replace(work, work_dir=tmp_path / "through"), 2)
        expected = finished(through)
        told = await train_together(executor, work, 2, preempt_at=1)
        (saved,) = told.checkpoints
        again = replace(work, work_dir=tmp_path / "again", resume=saved.file.path)
        more = await train_together(executor, again, 2)
        assert [*told.losses, *more.losses] == pytest.approx(through.losses, rel=1e-6)
        mine, ours = (load_file(each.artefacts[0].path) for each in (expected, finished(more)))
        for name, value in mine.items():
            assert (ours[name] - value).abs().max() < 1e-6, name


@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "local_sgd"])
async def test_figures_are_those_of_the_model_that_is_delivered(tmp_path: Path, strategy: str) -> None:
    """Members have their own means and variances of batch norm, and measure a share of the rows each."""
    layers = [{"type": "dense", "units": 16}, {"type": "batch_norm"}, {"type": "relu"}, {"type": "dense", "units": 10}]
    hyper = {"keep_best": "true", "sync_every": "7"}
    work = job(tmp_path, model=json.dumps({"layers": layers}), batch_size=45, epochs=2, hyperparameters=hyper)
    async with running(tmp_path) as executor:
        both = finished(await train_together(executor, work, 2, strategy))
    given = {"weights": both.artefacts[0].path, "model": "", "hyperparameters": {"rows": "held_out"}}
    asked = job(tmp_path / "asked", job_type="evaluation", **given)
    asked.work_dir.mkdir(parents=True)
    measured = evaluate(asked, lambda _: None, Orders())
    assert both.final_metrics["val_loss"] == pytest.approx(measured.final_metrics["loss"], rel=1e-5)


async def test_diloco_sends_a_hundredth_of_the_bytes(tmp_path: Path) -> None:
    rates = {"learning_rate": "0.003", "sync_every": "150", "optimizer": "adamw"}
    work = job(tmp_path, batch_size=32, epochs=20, hyperparameters=rates)
    async with running(tmp_path) as executor:
        ddp = finished(await train_together(executor, work, 2, "ddp")).final_metrics
        diloco = finished(await train_together(executor, work, 2, "diloco")).final_metrics
    assert ddp["bytes_sent"] == pytest.approx(ddp["bytes_sent_ddp_equivalent"], rel=0.1), "what is computed is measured"
    assert diloco["bytes_sent"] < ddp["bytes_sent"] / 100
    assert diloco["val_accuracy"] > ddp["val_accuracy"] - 0.015


async def test_gradients_that_accumulate_are_exchanged_once_a_step(tmp_path: Path) -> None:
    work = job(tmp_path, batch_size=32, epochs=5, hyperparameters={"accumulate": "4"})
    async with running(tmp_path) as executor:
        figures = finished(await train_together(executor, work, 2, "ddp")).final_metrics
    assert figures["bytes_sent"] == pytest.approx(figures["bytes_sent_ddp_equivalent"], rel=0.15)


async def test_a_member_whose_peer_dies_says_so(tmp_path: Path) -> None:
    work = job(tmp_path, epochs=100_000, dataset_uri="mock://long", model='{"layers": [784, 256, 10]}')
    keeper, pids, ends = Keeper(), dict[int, int](), dict[int, Outcome]()
    async with running(tmp_path) as executor:

        async def member(rank: int) -> None:
            run = await executor.start(replace(work, work_dir=tmp_path / str(rank), gang=Gang(rank, 2, "ddp")))
            async with asyncio.TaskGroup() as answers:
                async for report in run.reports():
                    if isinstance(report, Started):
                        pids[rank] = report.pid
                    elif isinstance(report, Asked):
                        answers.create_task(keeper.answer(run, report))
                    elif isinstance(report, Progressed) and 1 in pids:
                        os.kill(pids.pop(1), signal.SIGKILL)
                    elif isinstance(report, Outcome):
                        ends[rank] = report

        async with asyncio.timeout(60):
            await asyncio.gather(member(0), member(1))
    left, gone = ends[0], ends[1]
    assert isinstance(left, Failed)
    assert (left.code, left.retryable) == ("UNAVAILABLE", True), left
    assert isinstance(gone, Failed)
    assert gone.code == "INTERNAL"


SCRIPT = """
import torch, torch.distributed as dist
import cyxwiz.job as job
dist.init_process_group("gloo")
total = torch.tensor([float(job.rank + 1)])
dist.all_reduce(total)
job.report(1, {"total": float(total), "world": float(job.world), "rank": float(dist.get_rank())}, of=1)
(job.out_dir / "said.txt").write_text(f"{dist.get_rank()} of {dist.get_world_size()}")
"""


@pytest.mark.parametrize("world", [2, 1], ids=["two", "left alone"])
async def test_a_script_finds_the_others_as_under_torchrun(tmp_path: Path, world: int) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "train.py").write_text(SCRIPT)
    work = job(tmp_path, model="", dataset_uri="", source=source, script=Script("train.py", {"train.py": "0" * 64}))
    sandbox = choose("auto", tmp_path / "sandbox", allow_network=True)
    executor = ProcessExecutor(SystemClock(), sandbox, warm_children=0)
    try:
        end = finished(await train_together(executor, work, world))
    finally:
        await executor.aclose()
    assert end.final_metrics == {"total": sum(range(world + 1)), "world": world, "rank": 0.0}
    assert end.artefacts[0].path.read_text() == f"0 of {world}"


LEAVES_EARLY = """
import os, time
import torch.distributed as dist
import cyxwiz.job as job
assert dist.is_torchelastic_launched()
assert os.environ["TORCHELASTIC_RUN_ID"] and os.environ["GROUP_RANK"] == str(job.rank)
dist.init_process_group("gloo")
if job.rank:
    time.sleep(2)
    dist.distributed_c10d._get_default_store().add("late", 1)  # which the first member's process keeps
job.report(1, {"rank": float(job.rank)}, of=1)
"""


async def test_a_member_that_is_done_waits_for_the_others(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "train.py").write_text(LEAVES_EARLY)
    work = job(tmp_path, model="", dataset_uri="", source=source, script=Script("train.py", {"train.py": "0" * 64}))
    executor = ProcessExecutor(
        SystemClock(), choose("auto", tmp_path / "sandbox", allow_network=True), warm_children=0
    )  # fmt: skip
    try:
        finished(await train_together(executor, work, 2))
    finally:
        await executor.aclose()


async def test_a_script_in_a_gang_gets_no_network_from_an_owner_who_gives_none(tmp_path: Path) -> None:
    work = job(tmp_path, model="", script=Script("train.py", {}), gang=Gang(0, 2, "ddp"))
    async with running(tmp_path) as executor:
        with pytest.raises(CyxError, match=r"node\.network"):
            await executor.start(work)
