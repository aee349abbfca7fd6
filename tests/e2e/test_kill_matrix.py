"""Whatever ends, and whenever: each job completes once, with the very weights of one that was left alone.

{node, child, central, network} by {before the first step, mid-epoch, while uploading, after the last step}, on real
processes and sockets. A phase is held by stopping the process that trains (SIGSTOP), an upload by a narrow line, so
that nothing here depends on how fast a machine is.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.processes import Process, cyxwiz, free_port, submit, until
from tests.e2e.proxy import Proxy, proxy

pytestmark = pytest.mark.timeout(300)

WHO = ("node", "child", "central", "network")
WHEN = ("before the first step", "mid-epoch", "while uploading", "after the last step")
EPOCHS = 2
STEPS = 90  # of an epoch
JOB: dict[str, Any] = {
    "name": "matrix",
    "dataset": "builtin:digits",
    "epochs": EPOCHS,
    "batch_size": 16,
    # 4.5 MB of weights, 13 MB a checkpoint: an upload is long enough to be broken off in the middle.
    "model": {
        "layers": [
            {"type": "dense", "units": 1024},
            {"type": "relu"},
            {"type": "dropout", "rate": 0.2},
            {"type": "dense", "units": 1024},
            {"type": "relu"},
            {"type": "dense", "units": 10},
        ]
    },
}
NARROW = 2e6  # bytes a second


class World:
    """A central and a node with a network between them, each of which can be broken and mended."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self._directory, self._stack = directory, stack
        self._grpc, self._rest = free_port(), free_port()
        self.central = self._start_central()
        self.http = stack.enter_context(self.central.http())
        self.line: Proxy = stack.enter_context(proxy(self._grpc))
        self._token = str(self.http.post("/api/node-tokens", json={}).json()["token"])
        self.node = self._start_node()
        wait(lambda: self.http.get(self._node_url).is_success, "the node has joined")

    @property
    def _node_url(self) -> str:
        return f"/api/nodes/{self.node.ready['node_id']}"

    def _start_central(self) -> Process:
        addresses = (f"server.grpc_address=127.0.0.1:{self._grpc}", f"server.rest_address=127.0.0.1:{self._rest}")
        return self._stack.enter_context(cyxwiz("central", self._directory / "central", *addresses))

    def _start_node(self) -> Process:
        env = {"CYXWIZ_NODE__JOIN_TOKEN": self._token}
        central = f"node.central={self.line.address}"
        return self._stack.enter_context(cyxwiz("node", self._directory / "node", central, env=env))

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.http.get(f"/api/jobs/{job_id}").json())

    def checkpoints(self, job_id: str) -> list[dict[str, Any]]:
        return list(self.http.get(f"/api/jobs/{job_id}/checkpoints").json()["checkpoints"])

    def completed(self) -> int:
        """Results that central has taken from the node."""
        return int(self.http.get(self._node_url).json()["jobs_completed"])

    def trainer(self) -> psutil.Process | None:
        """The process that trains: the one that used most of the processor."""
        found: dict[psutil.Process, float] = {}
        for process in psutil.Process(self.node.popen.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                found[process] = sum(process.cpu_times()[:2])
        return max(found, key=lambda process: found[process], default=None)

    def stop_trainer(self) -> psutil.Process:
        trainer = self.trainer()
        assert trainer is not None, "nothing trains"
        trainer.suspend()
        return trainer

    # breaking and mending

    def kill_node(self) -> None:
        children = psutil.Process(self.node.popen.pid).children(recursive=True)
        self.node.kill()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive, "a child outlived its node"
        self.node = self._start_node()

    def kill_central(self, meanwhile: Callable[[], None]) -> None:
        self.central.kill()
        meanwhile()
        self.central = self._start_central()

    def cut_network(self, meanwhile: Callable[[], None]) -> None:
        self.line.cut()
        meanwhile()
        before = self.line.refused
        wait(lambda: self.line.refused > before, "the node dials again")
        self.line.heal()


def wait(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain until {what}"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Generator[World]:
    with contextlib.ExitStack() as stack:
        yield World(tmp_path_factory.mktemp("matrix"), stack)


@pytest.fixture(scope="module")
def undisturbed(world: World) -> Callable[[int], str]:
    """The hash of the weights that a seed gives in a run that nothing disturbs."""

    @functools.cache
    def run(seed: int) -> str:
        job = until(world.http, submit(world.http, {**JOB, "seed": seed}), "completed", "failed")
        assert job["status"] == "completed", job
        return weights(world.http, job["id"])

    return run


def weights(http: httpx.Client, job_id: str) -> str:
    return str(http.get(f"/api/jobs/{job_id}/result").json()["model_weights_hash"])


# --- the job is brought to a phase and held there: what is stopped is given back


def before_the_first_step(world: World, job_id: str) -> psutil.Process | None:
    until(world.http, job_id, "running")
    trainer = world.stop_trainer()
    settle(world, job_id, lambda job: job["phase"] == "starting" and job["first_step_at"] is None)
    return trainer


def mid_epoch(world: World, job_id: str) -> psutil.Process | None:
    wait(lambda: any(0 < each["batch"] < STEPS for each in world.checkpoints(job_id)), "a checkpoint is there")
    trainer = world.stop_trainer()
    settle(world, job_id, lambda job: job["phase"] == "training" and job["progress"] < 1)
    return trainer


def while_uploading(world: World, job_id: str) -> psutil.Process | None:
    until(world.http, job_id, "running")
    wait(lambda: world.job(job_id)["phase"] == "uploading", "its result is uploaded")
    before = world.line.sent
    wait(lambda: world.line.sent > before + 500_000, "a part is there")
    assert world.job(job_id)["phase"] == "uploading"
    return None


def while_a_checkpoint_uploads(world: World, job_id: str) -> psutil.Process | None:
    """A child is gone when its result is uploaded: what it can leave halfway is a checkpoint."""
    until(world.http, job_id, "running")
    before = world.line.sent
    wait(lambda: world.line.sent > before + 500_000, "a part is there")
    trainer = world.stop_trainer()
    assert world.checkpoints(job_id) == []
    return trainer


def after_the_last_step(world: World, job_id: str) -> psutil.Process | None:
    """The ONNX file is what keeps the process from its end."""
    wait(lambda: world.job(job_id)["progress"] == 1.0, "the last epoch has ended")
    trainer = world.stop_trainer()
    settle(world, job_id, lambda job: job["phase"] == "training" and job["status"] == "running")
    return trainer


def settle(world: World, job_id: str, holds: Callable[[dict[str, Any]], bool]) -> None:
    """What was reported before the process stopped has arrived, and the phase is still the one that is wanted."""
    for _ in range(5):
        time.sleep(0.05)
        job = world.job(job_id)
        assert holds(job), job


HOLD = {
    "before the first step": before_the_first_step,
    "mid-epoch": mid_epoch,
    "while uploading": while_uploading,
    "after the last step": after_the_last_step,
}


@pytest.mark.parametrize(("who", "when"), [*itertools.product(WHO, WHEN)])
def test_kill_matrix(world: World, undisturbed: Callable[[int], str], who: str, when: str) -> None:
    uploading, of_child = when == "while uploading", who == "child"
    # Central has what it has seen once: an upload needs weights of its own.
    seed = 8 + WHO.index(who) if uploading and not of_child else 7
    every = "none" if uploading and not of_child else "25 steps"
    hyperparameters = {"export": "onnx"} if when == "after the last step" else {}
    before = world.completed()
    if uploading:
        world.line.narrow(NARROW)
    job_id = submit(
        world.http, {**JOB, "seed": seed, "checkpoint": {"every": every}, "hyperparameters": hyperparameters}
    )
    hold = while_a_checkpoint_uploads if uploading and of_child else HOLD[when]
    trainer = hold(world, job_id)

    def alone_to_the_end() -> None:
        """What was stopped goes on, and its process ends with nobody to tell."""
        if trainer is not None:
            trainer.resume()
            running = trainer.is_running
            wait(lambda: not running(), "the run has ended")

    if who == "node":
        world.kill_node()
    elif who == "child":
        assert trainer is not None
        trainer.kill()
    elif who == "central":
        world.kill_central(alone_to_the_end)
    else:
        world.cut_network(alone_to_the_end)
    world.line.heal()

    job = until(world.http, job_id, "completed", "failed", "cancelled")
    assert job["status"] == "completed", job
    # A result that its node has is not worked out again; a run whose process is gone is.
    lost = of_child or (who == "node" and not uploading)
    assert job["attempts"] == 1 + lost, job
    assert (job["retry_count"], job["node_losses"]) == (int(of_child), int(who == "node" and lost)), job
    assert world.completed() == before + 1, "one result, once"
    assert weights(world.http, job_id) == undisturbed(seed)
    epochs = [point["epoch"] for point in points(world.http, job_id)]
    assert sorted(set(epochs)) == [*range(1, EPOCHS + 1)]
    if not lost:
        assert len(epochs) == EPOCHS, "no epoch is told twice"


def points(http: httpx.Client, job_id: str) -> list[dict[str, Any]]:
    """The ends of epochs."""
    found = http.get(f"/api/jobs/{job_id}/metrics", params={"limit": 10000}).json()["metrics"]
    return [point for point in found if point["epoch_ended"]]
