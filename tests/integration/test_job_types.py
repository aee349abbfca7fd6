"""Jobs of every type in real children of the executor; packages for scripts; their network."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import ssl
import threading
import zipfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cyxwiz.cli.certs import make
from cyxwiz.compute.executor import ProcessExecutor
from cyxwiz.compute.install import failure
from cyxwiz.compute.packages import Packages, PackageSettings, environment_key
from cyxwiz.compute.sandbox.choose import choose
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.script import Script
from cyxwiz.ports.executor import Checkpointed, Failed, Finished, FirstStep, Logged, Outcome, Preempted, Report, Work
from cyxwiz.runtime.clock import SystemClock
from tests.webserver import Served, webserver

pytestmark = pytest.mark.timeout(120)
LAYERS = json.dumps({"layers": [{"type": "dense", "units": 8}, "relu", {"type": "dense", "units": 3}]})


@pytest.fixture
async def executor(tmp_path: Path) -> AsyncIterator[ProcessExecutor]:
    sandbox = await asyncio.to_thread(choose, "auto", tmp_path / "sandbox")
    executor = ProcessExecutor(SystemClock(), sandbox, warm_children=1)
    try:
        executor.warm()
        yield executor
    finally:
        await executor.aclose()


def job(folder: Path, kind: str, **changes: Any) -> Work:
    fields: dict[str, Any] = {
        "job_id": kind, "job_type": kind, "model": "", "dataset_uri": "builtin:wine", "hyperparameters": {},
        "epochs": 1, "batch_size": 32, "seed": 0, "device": "cpu", "threads": 1, "work_dir": folder / kind,
    }  # fmt: skip
    work = Work(**{**fields, **changes})
    work.work_dir.mkdir(parents=True, exist_ok=True)
    return work


async def outcome(executor: ProcessExecutor, work: Work, sent: list[Report] | None = None) -> Any:
    run = await executor.start(work)
    reports = [report async for report in run.reports()]
    if sent is not None:
        sent.extend(reports)
    assert isinstance(reports[-1], Outcome)
    return reports[-1]


async def test_data_are_made_a_model_trained_judged_and_asked(executor: ProcessExecutor, tmp_path: Path) -> None:
    steps = json.dumps({"steps": [{"type": "split", "test": 0.25}, {"type": "standardize"}]})
    made = await outcome(executor, job(tmp_path, "preprocessing", model=steps))
    assert isinstance(made, Finished), made
    assert [each.name for each in made.artefacts] == ["dataset.npz", "pipeline.json"]
    data = made.artefacts[0]
    uri = f"blob://sha256/{data.sha256}"
    trained = await outcome(
        executor,
        job(tmp_path, "training", model=LAYERS, epochs=20, dataset_uri=uri, dataset_path=data.path,
            hyperparameters={"learning_rate": "0.02"}),
    )  # fmt: skip
    assert isinstance(trained, Finished), trained
    given: dict[str, Any] = {"weights": trained.artefacts[0].path, "dataset_path": data.path}
    sent: list[Report] = []
    judged = await outcome(executor, job(tmp_path, "evaluation", dataset_uri=f"{uri}?split=test", **given), sent)
    assert isinstance(judged, Finished), judged
    assert judged.final_metrics["accuracy"] > 0.9
    assert judged.final_metrics["samples"] == 45
    assert any(isinstance(report, FirstStep) for report in sent)
    asked = await outcome(executor, job(tmp_path, "inference", dataset_uri=f"{uri}?split=test", **given))
    assert isinstance(asked, Finished), asked
    with np.load(asked.artefacts[0].path) as answers, np.load(data.path) as whole:
        right = (answers["predictions"] == whole["y_test"]).mean()
    assert right == pytest.approx(judged.final_metrics["accuracy"])


async def test_an_inference_is_preempted_and_goes_on_in_another_process(
    executor: ProcessExecutor, tmp_path: Path
) -> None:
    trained = await outcome(executor, job(tmp_path, "training", model=LAYERS))
    rows = np.random.default_rng(0).random((400_000, 13), dtype=np.float32)
    np.save(tmp_path / "rows.npy", rows)
    digest = hashlib.sha256((tmp_path / "rows.npy").read_bytes()).hexdigest()
    given: dict[str, Any] = {
        "weights": trained.artefacts[0].path, "dataset_uri": f"blob://sha256/{digest}?format=npy",
        "dataset_path": tmp_path / "rows.npy",
    }  # fmt: skip
    whole = await outcome(executor, job(tmp_path / "whole", "inference", **given))
    run = await executor.start(job(tmp_path / "first", "inference", checkpoint_every="none", **given))
    saved: list[Checkpointed] = []
    end: Report | None = None
    async for report in run.reports():
        if isinstance(report, FirstStep):
            run.preempt()
        if isinstance(report, Checkpointed):
            saved.append(report)
        end = report
    assert isinstance(end, Preempted), end
    assert 0 < saved[-1].step < len(rows)
    sent: list[Report] = []
    rest = await outcome(executor, job(tmp_path / "second", "inference", resume=saved[-1].file.path, **given), sent)
    assert isinstance(rest, Finished), rest
    assert any(isinstance(each, Logged) and f"going on after row {saved[-1].step}" in each.message for each in sent)
    assert rest.artefacts[0].sha256 == whole.artefacts[0].sha256


# --- packages


def wheel(folder: Path, name: str, version: str, body: str, *, data: str = "") -> str:
    """A wheel and its line in a lock file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", body)
        archive.writestr(f"{name}/data.txt", data)
        archive.writestr(f"{name}.pth", "import os; os.environ['PTH'] = 'ran'\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", f"{name}/__init__.py,,\n{name}/data.txt,,\n{name}.pth,,\n")
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def packages(executor: ProcessExecutor, tmp_path: Path, size: int = 1 << 30, index: str = "") -> Packages:
    settings = PackageSettings(index or f"file://{tmp_path / 'index'}", size)
    (tmp_path / "index").mkdir(exist_ok=True)
    return Packages(tmp_path / "packages", settings, executor, SystemClock())


def script(tmp_path: Path, text: str, **changes: Any) -> Work:
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    (source / "train.py").write_text(text)
    return job(tmp_path, "training", script=Script("train.py", {"train.py": "0" * 64}), source=source, dataset_uri="",
               **changes)  # fmt: skip


USES = """
import os, torch, tiny, safetensors
import cyxwiz.job as job
assert tiny.VALUE == 42
assert not hasattr(safetensors, "OURS"), "what the node has comes first"
assert "PTH" not in os.environ, "no code of a package ran by itself"
try:
    open(tiny.__file__, "a")
except OSError as error:
    print("read only:", type(error).__name__)
job.report(1, {"value": tiny.VALUE})
"""


async def test_the_packages_of_a_lock_are_installed_once_and_used(executor: ProcessExecutor, tmp_path: Path) -> None:
    lock = wheel(tmp_path / "index", "tiny", "1.0", "VALUE = 42\n")
    lock += wheel(tmp_path / "index", "safetensors", "0.0.1", "OURS = True\n")
    wheel(tmp_path / "index", "other", "1.0", "")
    kept = packages(executor, tmp_path)
    first, second = await asyncio.gather(*(kept.hold(lock, lambda: True, None) for _ in range(2)))
    assert first.path == second.path
    assert {each.name for each in first.path.iterdir() if each.suffix == ""} == {"tiny", "safetensors"}
    again = await packages(executor, tmp_path).hold(lock, lambda: True, None)
    assert (first.fresh, again.fresh) == (True, False)
    sent: list[Report] = []
    end = await outcome(executor, script(tmp_path, USES, packages=again.path), sent)
    assert isinstance(end, Finished), end
    assert end.final_metrics["value"] == 42
    lines = [report.message for report in sent if isinstance(report, Logged)]
    assert any("requirements name 0.0.1" in line for line in lines), lines
    assert any(line.startswith("read only:") for line in lines), lines
    await kept.aclose()


async def test_a_wheel_that_is_not_the_one_of_the_lock_is_refused(executor: ProcessExecutor, tmp_path: Path) -> None:
    lock = wheel(tmp_path / "index", "tiny", "1.0", "VALUE = 42\n")
    wheel(tmp_path / "index", "tiny", "1.0", "VALUE = 'evil'\n")
    kept = packages(executor, tmp_path)
    with pytest.raises(CyxError) as caught:
        await kept.hold(lock, lambda: True, None)
    assert caught.value.code is Code.INVALID
    assert "can't be installed" in caught.value.message
    said: list[str] = []

    async def tell(line: str) -> None:
        said.append(line)

    with pytest.raises(CyxError, match="can't be installed"):
        await kept.hold("missing==1 --hash=sha256:" + "0" * 64, lambda: True, None, tell)
    assert any("No matching distribution found for missing==1" in line for line in said)
    assert [each.name for each in (tmp_path / "packages").iterdir()] == []
    await kept.aclose()


async def test_an_index_of_an_authority_that_the_node_trusts(
    executor: ProcessExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a company's proxy: by SSL_CERT_FILE, as its data."""
    lock = wheel(tmp_path / "wheels", "tiny", "1.0", "VALUE = 42\n")
    (file,) = (tmp_path / "wheels").iterdir()
    make(tmp_path / "certs", ["127.0.0.1"], days=1)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "certs" / "server.crt", tmp_path / "certs" / "server.key")
    async with webserver(tls) as web:
        web.pages["/simple/tiny/"] = Served(f'<a href="/{file.name}">{file.name}</a>'.encode(), type="text/html")
        web.pages[f"/{file.name}"] = Served(file.read_bytes())
        kept = packages(executor, tmp_path, index=web.url("/simple", scheme="https"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certs" / "ca.crt"))
        made = await kept.hold(lock, lambda: True, None)
        assert (made.path / "tiny" / "__init__.py").read_text() == "VALUE = 42\n"
        await kept.aclose()


async def test_an_index_that_is_away_is_not_the_locks_fault(executor: ProcessExecutor, tmp_path: Path) -> None:
    kept = packages(executor, tmp_path, index="http://127.0.0.1:9/simple")
    said: list[list[str]] = [[], []]

    async def told(number: int) -> CyxError:
        async def tell(line: str) -> None:
            said[number].append(line)

        with pytest.raises(CyxError, match="does not reach its index of packages") as caught:
            await kept.hold("tiny==1 --hash=sha256:" + "0" * 64, lambda: True, None, tell)
        return caught.value

    for error in await asyncio.gather(told(0), told(1)):
        assert (error.code, error.retryable) == (Code.UNAVAILABLE, True)
    assert said[0] == said[1], "each run that waited has it in its log"
    assert any("connection broken" in line for line in said[0])
    await kept.aclose()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("ERROR: Could not find a version that satisfies the requirement tiny==3 (from versions: 1, 2)", Code.INVALID),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", Code.INVALID),
        (
            "ERROR: Could not find a version that satisfies the requirement tiny==3 (from versions: none)",
            Code.UNAVAILABLE,
        ),
        ("ERROR: Could not install packages due to an OSError: Max retries exceeded", Code.UNAVAILABLE),
    ],
)
def test_a_connection_that_broke_and_held_again_is_no_excuse(line: str, code: Code) -> None:
    assert failure(["WARNING: Retrying after connection broken by 'ReadTimeoutError'", line]).code is code


async def test_environments_are_bounded_and_the_oldest_goes(executor: ProcessExecutor, tmp_path: Path) -> None:
    locks = [wheel(tmp_path / "index", f"pack{n}", "1.0", "", data="x" * 300_000) for n in range(3)]
    kept = packages(executor, tmp_path, 800_000)
    held = await kept.hold(locks[0], lambda: True, None)
    (await kept.hold(locks[1], lambda: True, None)).release()
    (await kept.hold(locks[2], lambda: True, None)).release()
    there = {each.name for each in (tmp_path / "packages").iterdir()}
    assert there == {environment_key(locks[0]), environment_key(locks[2])}, "what a run has stays"
    held.release()
    large = wheel(tmp_path / "index", "large", "1.0", "", data="x" * 900_000)
    with pytest.raises(CyxError, match="package_cache_bytes"):
        await kept.hold(large, lambda: True, None)
    with pytest.raises(CyxError, match="not wanted any more"):
        await kept.hold(locks[1], lambda: False, None)
    await kept.aclose()


async def test_nobody_is_given_packages_that_are_being_removed(
    executor: ProcessExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run asks for the oldest ones at the very moment in which they make room for others."""
    locks = [wheel(tmp_path / "index", f"pack{n}", "1.0", "", data="x" * 300_000) for n in range(3)]
    kept = packages(executor, tmp_path, 800_000)
    for lock in locks[:2]:
        (await kept.hold(lock, lambda: True, None)).release()
    oldest, remove, loop = environment_key(locks[0]), shutil.rmtree, asyncio.get_running_loop()
    reached, go = asyncio.Event(), threading.Event()

    def waits(path: Any, *args: Any, **kwargs: Any) -> None:
        if not reached.is_set() and (Path(path).name == oldest or Path(path, oldest).exists()):
            loop.call_soon_threadsafe(reached.set)
            go.wait(30)
        remove(path, *args, **kwargs)

    monkeypatch.setattr(shutil, "rmtree", waits)
    newest = asyncio.create_task(kept.hold(locks[2], lambda: True, None))
    await asyncio.wait_for(reached.wait(), 60)
    again = asyncio.create_task(kept.hold(locks[0], lambda: True, None))
    await asyncio.sleep(0)  # it has looked what is there
    go.set()
    for number, held in ((0, await again), (2, await newest)):
        assert (held.path / f"pack{number}" / "data.txt").stat().st_size == 300_000
    assert (again.result().fresh, newest.result().fresh) == (True, True)
    await kept.aclose()


async def test_only_the_node_itself_installs_with_the_network_where_scripts_have_none(
    executor: ProcessExecutor, tmp_path: Path
) -> None:
    with pytest.raises(CyxError, match="gives to no job"):
        await executor.start(script(tmp_path, "", network=True))
    end = await outcome(executor, job(tmp_path, "mining"))
    assert isinstance(end, Failed)
    assert (end.code, end.retryable) == ("UNSUPPORTED", False)


@pytest.mark.parametrize("saves", [True, False])
async def test_a_script_may_leave_by_the_back_door(executor: ProcessExecutor, tmp_path: Path, saves: bool) -> None:
    text = "import os\nimport cyxwiz.job as job\n" + "job.save({'at': 1})\n" * saves + "os._exit(job.AGAIN)\n"
    sent: list[Report] = []
    end = await outcome(executor, script(tmp_path, text), sent)
    if saves:
        assert isinstance(end, Preempted)
        assert 0 < end.compute_seconds < 60
    else:
        assert isinstance(end, Failed)
        assert "exit status 85" in end.message


FORGED = """
import os, time
from cyxwiz.compute.child_protocol import encode
os.write(3, encode({0!r}, {1!r}))
time.sleep(60)
"""
POINT = {
    "epoch": 1, "epochs": 1, "batch": 1, "batches": 1, "progress": 0.5, "metrics": {}, "elapsed_seconds": 0,
    "remaining_seconds": 0, "epoch_ended": True,
}  # fmt: skip
SAVED = {
    "artefacts": [{"name": "a", "path": "/a", "sha256": "", "size": 1}], "epoch": 1, "batch": 0, "step": 1,
    "progress": 0.5, "threads": 1, "link": "",
}  # fmt: skip
DONE = {
    "artefacts": [{"name": "m", "path": "OUT/m", "sha256": "", "size": 2}], "final_metrics": {}, "epochs_completed": 1,
}  # fmt: skip
LINK = {"kind": 0, "step": 1, "loss": 0.5, "weights": "", "link": "", "data": "", "environment": ""}


@pytest.mark.parametrize(
    ("text", "words", "retryable"),
    [
        ("import os; os._exit(3)", "exit status 3", False),
        ("import os; os._exit(0)", "exit status 0", False),
        ("import os; os.kill(os.getpid(), 11)", "SIGSEGV", False),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL", True),  # as the kernel does for want of memory
        ("raise MemoryError", "out of memory", True),
        ("import os; os.write(3, b'garbage' * 10)", "sent a frame", False),
        (FORGED.format("failed", {"code": "INTERNAL", "message": "no", "details": {}, "retryable": True}), "no", True),
        (FORGED.format("progressed", {**POINT, "epoch": 9, "epochs": 9}), "epoch 9", False),
        (FORGED.format("progressed", {**POINT, "batch": 2**32}), "batch is wrong", False),
        (FORGED.format("checkpointed", {**SAVED, "epoch": 0}), "epoch 0", False),
        (FORGED.format("checkpointed", {**SAVED, "batch": 2**31}), "more batches or threads", False),
        (FORGED.format("checkpointed", {**SAVED, "threads": 2**32 - 1}), "more batches or threads", False),
        (FORGED.format("checkpointed", {**SAVED, "link": "0" * 64}), "a link", False),
        (FORGED.format("linked", LINK), "a link", False),
        (FORGED.format("started", {"pid": 1}), "a second start", False),
        (FORGED.format("cancelled", {}), "nobody did that", False),
        (FORGED.format("preempted", {"compute_seconds": 0}), "nothing saved", False),
        (FORGED.format("wanted", {"rows": ""}), "nobody streams", False),
        ("import cyxwiz.job as job\njob.report(2**40, {}, of=2**41)", "below 2^32", False),
    ],
)
async def test_how_a_script_breaks_is_its_own_doing(
    executor: ProcessExecutor, tmp_path: Path, text: str, words: str, retryable: bool
) -> None:
    """Its node is not at fault, whether or not it is tried again."""
    end = await outcome(executor, script(tmp_path, text))
    assert isinstance(end, Failed), end
    assert words in end.message
    assert (end.by_script, end.retryable) == (True, retryable)


@pytest.mark.parametrize("said", [0.0, 1e308])
async def test_the_nodes_clock_says_how_long_a_script_ran(
    executor: ProcessExecutor, tmp_path: Path, said: float
) -> None:
    text = "import os, time\nimport cyxwiz.job as job\n(job.out_dir / 'm').write_text('hi')\ntime.sleep(0.5)\n"
    forged = FORGED.format("finished", {**DONE, "compute_seconds": said}).replace("'OUT/m'", "str(job.out_dir / 'm')")
    end = await outcome(executor, script(tmp_path, text + forged))
    assert isinstance(end, Finished), end
    assert 0.5 <= end.compute_seconds < 60


async def test_a_script_that_saves_nothing_when_told_to_is_billed(
    executor: ProcessExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cyxwiz.compute.child_run.PREEMPT_SECONDS", 0.5)
    run = await executor.start(script(tmp_path, "import time; time.sleep(60)"))
    run.preempt()
    end = [report async for report in run.reports()][-1]
    assert isinstance(end, Preempted), end
    assert 0.5 <= end.compute_seconds < 60


async def test_what_a_script_left_behind_is_waited_for(executor: ProcessExecutor, tmp_path: Path) -> None:
    """As the interpreter does where it is run by hand: threads, then what is to be called at the end."""
    text = """
import atexit, threading, time
from concurrent.futures import ThreadPoolExecutor
import cyxwiz.job as job

def late(name, seconds):
    time.sleep(seconds)
    (job.out_dir / name).write_text("there")

atexit.register(late, "at_exit.txt", 0)
threading.Thread(target=late, args=("thread.txt", 0.3)).start()
ThreadPoolExecutor(1).submit(late, "pool.txt", 0.3)
threading.Thread(target=late, args=("daemon.txt", 3600), daemon=True).start()
"""
    end = await outcome(executor, script(tmp_path, text))
    assert isinstance(end, Finished), end
    assert sorted(each.name for each in end.artefacts) == ["at_exit.txt", "pool.txt", "thread.txt"]


async def test_a_script_reads_a_file_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots" / "notes.txt").write_text("as it is")
    text = "import cyxwiz.job as job\nassert (job.data_dir / 'dataset').read_text() == 'as it is'\n"
    sandbox = await asyncio.to_thread(choose, "auto", tmp_path / "sandbox", data_roots=(tmp_path / "roots",))
    executor = ProcessExecutor(SystemClock(), sandbox, warm_children=0)
    try:
        work = replace(
            script(tmp_path, text), dataset_uri=f"file://{tmp_path}/roots/notes.txt", data_roots=(tmp_path / "roots",)
        )
        end = await outcome(executor, work, [])
    finally:
        await executor.aclose()
    assert isinstance(end, Finished), end
