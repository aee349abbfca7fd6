"""The executor with real child processes and real training."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors import safe_open

from cyxwiz.compute.executor import ProcessExecutor
from cyxwiz.compute.hardware.energy import Shares
from cyxwiz.compute.hardware.sampler import Sensors
from cyxwiz.compute.sandbox.choose import choose
from cyxwiz.compute.sandbox.sandbox import Sandbox
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ports.executor import (
    Cancelled,
    Failed,
    Finished,
    FirstStep,
    Logged,
    Progressed,
    Report,
    Run,
    Started,
    Work,
)
from cyxwiz.runtime.clock import SystemClock
from tests import machines

MLP = json.dumps({"layers": [{"type": "dense", "units": 64}, {"type": "relu"}, {"type": "dense", "units": 10}]})
LONG = {"epochs": 100_000, "dataset_uri": "mock://long", "model": '{"layers": [784, 256, 10]}'}
METRICS = {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "samples_per_second"}


def job(folder: Path, **changes: Any) -> Work:
    fields: dict[str, Any] = {
        "job_id": "job", "job_type": "training", "model": MLP, "dataset_uri": "builtin:digits", "hyperparameters": {},
        "epochs": 2, "batch_size": 64, "seed": 0, "device": "cpu", "threads": 1, "work_dir": folder / "work",
    }  # fmt: skip
    return Work(**{**fields, **changes})


@asynccontextmanager
async def running(
    folder: Path, python: str | None = None, *, warm_children: int = 0, energy: Shares | None = None
) -> AsyncIterator[ProcessExecutor]:
    """An executor that must leave nothing behind: no process, no descriptor, no task, no folder. In the strongest
    sandbox of this machine, or in none where another program is to run."""
    descriptors = len(os.listdir("/proc/self/fd"))
    sandbox = choose("auto", folder / "sandbox") if python is None else Sandbox("none", folder / "sandbox")
    executor = ProcessExecutor(SystemClock(), sandbox, warm_children=warm_children, python=python, energy=energy)
    try:
        yield executor
    finally:
        await executor.aclose()
    assert psutil.Process().children(recursive=True) == []
    assert len(os.listdir("/proc/self/fd")) <= descriptors  # fewer: an earlier test's were collected meanwhile
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not sandbox.slots.exists()


@pytest.fixture
async def executor(tmp_path: Path) -> AsyncIterator[ProcessExecutor]:
    async with running(tmp_path, warm_children=1) as executor:
        yield executor


async def collect(run: Run) -> list[Report]:
    return [report async for report in run.reports()]


async def outcome(executor: ProcessExecutor, work: Work) -> Report:
    reports = await collect(await executor.start(work))
    ends = [report for report in reports if isinstance(report, Finished | Failed | Cancelled)]
    assert ends == reports[-1:]
    return ends[0]


async def failed(executor: ProcessExecutor, work: Work, code: Code, *words: str) -> Failed:
    end = await outcome(executor, work)
    assert isinstance(end, Failed)
    assert end.code == code, end
    assert all(word in end.message for word in words), end.message
    return end


async def first(run: Run, kind: type[Report]) -> tuple[Report, AsyncIterator[Report]]:
    reports = run.reports()
    async for report in reports:
        if isinstance(report, kind):
            return report, reports
    raise AssertionError(f"no {kind.__name__}")


async def first_step(reports: AsyncIterator[Report]) -> None:
    async for report in reports:
        if isinstance(report, FirstStep):
            return


async def rest(reports: AsyncIterator[Report]) -> list[Report]:
    return [report async for report in reports]


def curve(reports: list[Report]) -> list[tuple[float, float]]:
    ends = [report for report in reports if isinstance(report, Progressed) and report.epoch_ended]
    return [(end.metrics["loss"], end.metrics["val_loss"]) for end in ends]


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def proc(pid: int, name: str) -> list[str]:
    return Path(f"/proc/{pid}/{name}").read_text().splitlines()


async def gone(pid: int) -> bool:
    for _ in range(250):
        if not alive(pid):
            return True
        await SystemClock().sleep(0.02)
    return False


async def test_digits_are_learned_and_the_model_file_is_what_it_says(executor: ProcessExecutor, tmp_path: Path) -> None:
    work = job(tmp_path, epochs=20, hyperparameters={"optimizer": "adam", "learning_rate": "0.001", "colour": "red"})
    reports = await collect(await executor.start(work))
    assert isinstance(reports[0], Started)
    assert sum(isinstance(report, FirstStep) for report in reports) == 1
    assert any("colour" in report.message for report in reports if isinstance(report, Logged))
    ends = [report for report in reports if isinstance(report, Progressed) and report.epoch_ended]
    assert [end.epoch for end in ends] == list(range(1, 21))
    assert [end.progress for end in ends] == pytest.approx([epoch / 20 for epoch in range(1, 21)])
    assert all(set(end.metrics) == METRICS for end in ends)
    assert ends[0].remaining_seconds > ends[-1].remaining_seconds == 0
    finished = reports[-1]
    assert isinstance(finished, Finished)
    assert set(finished.final_metrics) == METRICS
    assert finished.final_metrics["val_accuracy"] >= 0.95
    assert finished.epochs_completed == 20
    artefact = finished.artefacts[0]
    raw = artefact.path.read_bytes()
    assert artefact.path == work.work_dir / "out" / "model.safetensors"
    assert (hashlib.sha256(raw).hexdigest(), len(raw)) == (artefact.sha256, artefact.size)
    with safe_open(artefact.path, "pt") as file:
        assert set(file.keys()) == {"layer0.weight", "layer0.bias", "layer2.weight", "layer2.bias"}
        assert file.metadata()["cyxwiz.definition"] == MLP
        assert len(json.loads(file.metadata()["cyxwiz.scaling"])["mean"]) == 64


async def test_a_result_says_what_energy_it_took(tmp_path: Path) -> None:
    sensors = Sensors(machines.machine("h200", tmp_path / "machine"))
    async with running(tmp_path, energy=Shares(SystemClock(), sensors)) as executor:
        run = await executor.start(job(tmp_path))
        reports: list[Report] = []
        async for report in run.reports():
            reports.append(report)
            if isinstance(report, FirstStep):
                sensors.nvml.recorded["gpus"][0]["millijoules"] += 2500
    finished = reports[-1]
    assert isinstance(finished, Finished)
    assert finished.energy_joules == 2.5


async def test_the_seed_decides_the_curve_and_the_file(executor: ProcessExecutor, tmp_path: Path) -> None:
    runs = [await collect(await executor.start(job(tmp_path / str(i), seed=seed))) for i, seed in enumerate((5, 5, 6))]
    one, same, other = (curve(run) for run in runs)
    assert one == same != other
    files = [run[-1].artefacts[0].sha256 for run in runs if isinstance(run[-1], Finished)]
    assert files[0] == files[1] != files[2]


async def test_long_epochs_report_on_the_way(executor: ProcessExecutor, tmp_path: Path) -> None:
    work = job(tmp_path, dataset_uri="mock://x", batch_size=1, model='{"layers": [784, 512, 10]}', epochs=1)
    reports = [report for report in await collect(await executor.start(work)) if isinstance(report, Progressed)]
    within = [report for report in reports if not report.epoch_ended]
    assert within
    assert all(0 < report.progress < 1 and report.metrics["loss"] > 0 for report in within)
    gaps = [b.elapsed_seconds - a.elapsed_seconds for a, b in itertools.pairwise(within)]
    assert all(gap >= 0.45 for gap in gaps)


async def test_a_bad_job_fails_with_its_code_and_details(executor: ProcessExecutor, tmp_path: Path) -> None:
    end = await failed(executor, job(tmp_path, model='{"layers": [64, 9]}'), Code.INVALID, "9 outputs", "at least 10")
    assert not end.retryable
    assert end.details["got"] == 9
    diverging = {"optimizer": "sgd", "learning_rate": "1000", "loss": "mse"}
    await failed(executor, job(tmp_path, hyperparameters=diverging, epochs=20), Code.INVALID, "diverged at epoch")
    end = await failed(executor, job(tmp_path, dataset_uri="blob://sha256/" + "0" * 64), Code.UNAVAILABLE)
    assert end.retryable


# How runs end. `python` is a script here, so that the child can be of any kind.


def script(folder: Path, text: str) -> str:
    path = folder / "python.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def fake(folder: Path, body: str) -> str:
    """An interpreter that runs this body instead of the child; `channel`, `encode` and `job` are at hand."""
    code = folder / "fake.py"
    code.write_text(
        "import os, signal, socket, sys, time\n"
        "from cyxwiz.compute.child_protocol import encode, read_frame\n"
        "from cyxwiz.compute.sandbox.confine import confine\n"
        "confine()\n"
        "channel = socket.socket(fileno=int(sys.argv[-1]))\n"
        "job = read_frame(channel)['work']\n"
        "channel.sendall(encode('started', {'pid': os.getpid()}))\n" + body
    )
    return script(folder, f'exec {sys.executable} {code} "$@"')


async def with_python(python: str, work: Work) -> list[Report]:
    async with running(work.work_dir.parent, python) as executor:
        return await collect(await executor.start(work))


async def test_cancel_is_quick_and_takes_descendants_in_other_sessions_along(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    sleeper = f"setsid sh -c 'echo $$ > {pid_file}; exec sleep 300' >/dev/null 2>&1 &"
    async with running(tmp_path, script(tmp_path, f'{sleeper}\nexec {sys.executable} "$@"')) as executor:
        run = await executor.start(job(tmp_path, **LONG))
        _, reports = await first(run, FirstStep)
        started = time.monotonic()
        await run.cancel()
        assert time.monotonic() - started < 2
        assert isinstance((await rest(reports))[-1], Cancelled)
        assert await gone(int(pid_file.read_text()))
        await run.cancel()


async def test_a_child_that_ignores_everything_is_killed_within_two_seconds(tmp_path: Path) -> None:
    python = fake(tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(300)")
    async with running(tmp_path, python) as executor:
        run = await executor.start(job(tmp_path))
        started = time.monotonic()
        await asyncio.gather(run.cancel(), run.cancel())
        assert time.monotonic() - started < 2
        assert [type(report) for report in await collect(run)] == [Started, Cancelled]


async def test_a_killed_child_is_a_retryable_failure(executor: ProcessExecutor, tmp_path: Path) -> None:
    run = await executor.start(job(tmp_path, **LONG))
    started, reports = await first(run, Started)
    assert isinstance(started, Started)
    os.kill(started.pid, signal.SIGKILL)
    end = (await rest(reports))[-1]
    assert isinstance(end, Failed)
    assert (end.retryable, end.by_script) == (True, False)
    assert "SIGKILL" in end.message


async def test_a_stopped_child_is_ended_as_a_killed_one_and_a_pause_is_none(
    executor: ProcessExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cyxwiz.compute.child_run.STOPPED_SECONDS", 2.0)
    run = await executor.start(job(tmp_path, **LONG))
    started, reports = await first(run, Started)
    assert isinstance(started, Started)
    await first_step(reports)
    for number in (signal.SIGSTOP, signal.SIGCONT):
        os.kill(started.pid, number)
        await asyncio.sleep(0.6)  # two looks
    stopped_at = time.monotonic()
    os.kill(started.pid, signal.SIGSTOP)
    end = (await rest(reports))[-1]
    assert 1.5 <= time.monotonic() - stopped_at < 20
    assert isinstance(end, Failed)
    assert (end.code, end.retryable) == ("INTERNAL", True)
    assert "stopped by a signal" in end.message


async def test_a_crash_names_the_exit_status_and_the_last_line(tmp_path: Path) -> None:
    reports = await with_python(fake(tmp_path, "print('out of cheese', file=sys.stderr)\nsys.exit(3)"), job(tmp_path))
    end = reports[-1]
    assert isinstance(end, Failed)
    assert (end.code, end.retryable) == ("INTERNAL", True)
    assert "exit status 3" in end.message
    assert "out of cheese" in end.message
    assert Logged("warning", "out of cheese", "stderr") in reports


async def test_a_flood_of_output_is_bounded_in_order_and_complete(tmp_path: Path) -> None:
    body = "for i in range(20000): print(i)\nprint('x' * 100000)\nprint('end', end='')\nsys.stdout.flush()\nos._exit(0)"
    reports = await with_python(fake(tmp_path, body), job(tmp_path))
    lines = [report.message for report in reports if isinstance(report, Logged) and report.source == "stdout"]
    assert lines[:20000] == [str(i) for i in range(20000)]
    assert len(lines[20000]) == 8 * 1024 + 1
    assert lines[20001:] == ["end"]


async def test_orders_wait_for_a_child_that_is_slow_to_read(tmp_path: Path) -> None:
    """None is lost or torn, and their order is kept; the node goes on meanwhile."""
    body = (
        "time.sleep(1)\n"
        "for i in range(20000):\n    assert read_frame(channel)['values'] == {'count': i}\n"
        "print('all', flush=True)\nassert read_frame(channel)['type'] == 'cancel'"
    )
    async with running(tmp_path, fake(tmp_path, body)) as executor:
        run = await executor.start(job(tmp_path))
        _, reports = await first(run, Started)
        for count in range(20_000):
            run.tell("fed", {"count": count})
        while Logged("info", "all", "stdout") != await anext(reports):
            pass
        await run.cancel()
        assert isinstance((await rest(reports))[-1], Cancelled)


async def test_a_child_that_never_reads_is_ended(tmp_path: Path) -> None:
    async with running(tmp_path, fake(tmp_path, "time.sleep(300)")) as executor:
        run = await executor.start(job(tmp_path))
        _, reports = await first(run, Started)
        for _ in range(20):
            run.tell("fed", {"count": "1" * (1 << 20)})
        end = (await rest(reports))[-1]
        assert isinstance(end, Failed)
        assert "unread" in end.message


@pytest.mark.parametrize(
    "body",
    [
        "channel.sendall(b'\\xff' * 10); time.sleep(300)",
        "channel.sendall(encode('progressed', {'epoch': 'one'})); time.sleep(300)",
        "channel.sendall(encode('wave')); time.sleep(300)",
        (
            "file = {'name': 'm', 'path': '/etc/passwd', 'sha256': '', 'size': os.stat('/etc/passwd').st_size}\n"
            "end = {'artefacts': [file], 'final_metrics': {}, 'epochs_completed': 1, 'compute_seconds': 0}\n"
            "channel.sendall(encode('finished', end))"
        ),
    ],
)
async def test_a_lying_child_fails_its_own_job_only(tmp_path: Path, body: str) -> None:
    end = (await with_python(fake(tmp_path, body), job(tmp_path)))[-1]
    assert isinstance(end, Failed)
    assert end.code == "INTERNAL"


async def test_a_job_that_overstays_is_ended(executor: ProcessExecutor, tmp_path: Path) -> None:
    executor.warm()
    started = time.monotonic()
    end = await failed(
        executor, job(tmp_path, **LONG, max_duration_seconds=0.3), Code.TIMEOUT, "this run had 0.3 seconds"
    )
    assert not end.retryable
    assert time.monotonic() - started < 30  # a machine may be busy; the job itself would take hours


async def test_the_child_sees_no_secret_and_is_confined(
    executor: ProcessExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CYXWIZ_AUTH__JWT_SECRET", "hush")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    run = await executor.start(job(tmp_path, **LONG))
    step, reports = await first(run, Started)
    assert isinstance(step, Started)
    await first_step(reports)
    child = psutil.Process(step.pid)
    assert "hush" not in child.environ().values()
    assert os.getsid(step.pid) != os.getsid(0)
    core = next(line for line in proc(step.pid, "limits") if line.startswith("Max core file size"))
    assert core.split()[4] == "0"
    assert "NoNewPrivs:\t1" in proc(step.pid, "status")
    await executor.aclose()
    assert not alive(step.pid)
    assert isinstance((await rest(reports))[-1], Cancelled)


@pytest.mark.parametrize("mode", ["auto", "rlimits", "none"])
async def test_the_child_ends_with_its_node(tmp_path: Path, mode: str) -> None:
    program = (
        "import asyncio, sys, os\nfrom pathlib import Path\n"
        "from cyxwiz.compute.executor import ProcessExecutor\nfrom cyxwiz.ports.executor import *\n"
        "from cyxwiz.compute.sandbox.choose import choose\n"
        "from cyxwiz.runtime.clock import SystemClock\n"
        "async def main():\n"
        "  work = Work('j', 'training', '{\"layers\": [784, 256, 10]}', 'mock://x', {}, 100000, 64, 0, 'cpu', 1,"
        f" Path({str(tmp_path)!r}))\n"
        f"  sandbox = choose({mode!r}, Path({str(tmp_path)!r}) / 'sandbox', allow_unsafe=True)\n"
        "  run = await ProcessExecutor(SystemClock(), sandbox, warm_children=0).start(work)\n"
        "  async for report in run.reports():\n"
        "    if isinstance(report, Started): print(report.pid, flush=True)\n"
        "    if isinstance(report, FirstStep): os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    node = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    out, _ = await node.communicate()
    assert await gone(int(out))


async def test_a_warm_child_takes_a_job_at_once_and_a_dead_one_is_replaced(
    executor: ProcessExecutor, tmp_path: Path
) -> None:
    executor.warm()
    executor.warm()
    assert len(executor._idle) == 1
    idle = executor._idle[0]
    while not idle.ready:
        await SystemClock().sleep(0.05)
    started = time.perf_counter()
    run = await executor.start(job(tmp_path / "a"))
    assert time.perf_counter() - started < 0.25  # milliseconds on a quiet machine
    assert isinstance((await collect(run))[-1], Finished)
    for entry in executor._idle:
        os.kill(entry.child.pid, signal.SIGKILL)
    assert isinstance(await outcome(executor, job(tmp_path / "b")), Finished)


async def test_a_start_that_is_given_up_leaves_no_child(tmp_path: Path) -> None:
    code = tmp_path / "mute.py"
    code.write_text("import time; time.sleep(300)")
    async with running(tmp_path, script(tmp_path, f'exec {sys.executable} {code} "$@"')) as executor:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await executor.start(job(tmp_path))


async def test_jobs_run_side_by_side(executor: ProcessExecutor, tmp_path: Path) -> None:
    ends = await asyncio.gather(*(outcome(executor, job(tmp_path / str(i), seed=i % 2)) for i in range(4)))
    files = [end.artefacts[0].sha256 for end in ends if isinstance(end, Finished)]
    assert files == [files[0], files[1], files[0], files[1]]


async def test_a_closed_executor_starts_nothing(tmp_path: Path) -> None:
    executor = ProcessExecutor(SystemClock(), Sandbox("none", tmp_path))
    await executor.aclose()
    executor.warm()
    with pytest.raises(CyxError) as caught:
        await executor.start(job(tmp_path))
    assert caught.value.code is Code.UNAVAILABLE
    await executor.aclose()


async def test_a_missing_interpreter_is_unavailable(tmp_path: Path) -> None:
    async with running(tmp_path, str(tmp_path / "none")) as executor:
        with pytest.raises(CyxError) as caught:
            await executor.start(job(tmp_path))
    assert caught.value.code is Code.UNAVAILABLE
