"""The sandbox for honest jobs: modes, the network, warm children, and what the doctor says."""

from __future__ import annotations

import ast
import asyncio
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import cyxwiz
from cyxwiz.compute.executor import ProcessExecutor
from cyxwiz.compute.sandbox import choose
from cyxwiz.compute.sandbox.sandbox import Needs
from cyxwiz.config import ConfigError
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ports.executor import Finished
from cyxwiz.runtime.clock import SystemClock
from tests.integration.hostile import MODES, job, liar, reports, sandboxed
from tests.missing import missing

ROOT = os.geteuid() == 0
held_and_not = pytest.mark.parametrize(
    ("mode", "breached"), [("bubblewrap", False), ("rlimits", False), ("none", True)]
)


# --- the owner's files, keys and environment


@pytest.mark.parametrize("mode", [*MODES, "none"])
async def test_an_honest_job_of_each_kind_of_data(mode: str, tmp_path: Path) -> None:
    """What a job needs is there: the libraries, data roots, a fetched data set. The result is the same in each mode."""
    data = Path(f"/var/tmp/cyxwiz-test-{os.getpid()}-{mode}")  # where every user can read
    data.mkdir(mode=0o755)
    rows = "\n".join(f"{i % 7},{i % 5},{i % 2}" for i in range(200))
    (data / "table.csv").write_text(rows)
    blob = tmp_path / "dataset"
    blob.write_text(rows)
    model = json.dumps({"layers": [{"type": "dense", "units": 4}, {"type": "relu"}, {"type": "dense", "units": 2}]})
    jobs = [
        job(tmp_path / "a"),
        job(tmp_path / "b", model=model, dataset_uri="file://csv/table.csv", data_roots=(data,)),
        job(tmp_path / "c", model=model, dataset_uri="blob://sha256/" + "0" * 64, dataset_path=blob),
    ]
    try:
        with sandboxed(mode, tmp_path, data_roots=(data,)) as sandbox:
            executor = ProcessExecutor(SystemClock(), sandbox, warm_children=1)
            try:
                ends = [(await reports(executor, work))[-1] for work in jobs]
            finally:
                await executor.aclose()
    finally:
        shutil.rmtree(data)
    for work, end in zip(jobs, ends, strict=True):
        assert isinstance(end, Finished), end
        file = end.artefacts[0]
        assert file.path == work.work_dir / "out" / "model.safetensors"
        assert hashlib.sha256(file.path.read_bytes()).hexdigest() == file.sha256
        assert file.path.stat().st_uid == os.geteuid()
    assert blob.read_text() == rows


async def test_the_network_is_for_jobs_that_ask_where_the_owner_allows_it(tmp_path: Path) -> None:
    with sandboxed("auto", tmp_path) as chosen:
        pass  # it works here
    listener = socket.create_server(("127.0.0.1", 0))
    code = f"""
with contextlib.suppress(OSError):
    socket.create_connection(("127.0.0.1", {listener.getsockname()[1]}), 2)
    print("reached", flush=True)
os._exit(0)
"""
    with listener:
        for allowed, asked, reached in ((True, True, True), (True, False, False)):
            sandbox = liar(chosen, code)
            sandbox.allow_network = allowed
            executor = ProcessExecutor(SystemClock(), sandbox, warm_children=0)
            found = await reports(executor, job(tmp_path, network=asked))
            await executor.aclose()
            assert any(getattr(report, "message", "") == "reached" for report in found) is reached
        executor = ProcessExecutor(SystemClock(), liar(chosen, code), warm_children=0)
        with pytest.raises(CyxError) as caught:
            await executor.start(job(tmp_path, network=True))
        await executor.aclose()
    assert (caught.value.code, caught.value.retryable) == (Code.UNSUPPORTED, True)


async def test_warm_children_serve_jobs_with_the_same_needs_only(tmp_path: Path) -> None:
    with sandboxed("auto", tmp_path) as sandbox:
        executor = ProcessExecutor(SystemClock(), sandbox, warm_children=1)
        executor.warm()
        warm = executor._idle[0].child
        assert executor._take_idle(Needs("cuda:0")) is None
        assert executor._take_idle(Needs("cpu", network=True)) is None
        assert executor._take_idle(Needs("cpu")) is warm
        warm.cell.kill()
        await asyncio.wait_for(warm.exited.wait(), 10)
        await executor.aclose()


# --- choosing, and without root


def test_none_needs_to_be_allowed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--allow-unsafe"):
        choose.choose("none", tmp_path)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "cyxwiz",
            "run",
            "--role",
            "node",
            "--data-dir",
            str(tmp_path),
            "--set",
            "node.sandbox=none",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "--allow-unsafe" in done.stderr.splitlines()[-1]


def test_what_does_not_work_is_said_and_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: not on this machine' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(choose.bubblewrap, "programs", lambda: [broken])
    with pytest.raises(ConfigError, match="bwrap: not on this machine"):
        choose.choose("bubblewrap", tmp_path / "sandbox")
    sandbox = choose.choose("auto", tmp_path / "sandbox")
    assert sandbox.mode == "rlimits"
    sandbox.close()


def test_data_roots_that_hold_the_system_are_refused(tmp_path: Path) -> None:
    for root in ("/", "/usr", "/opt"):
        with pytest.raises(ConfigError, match="data_roots"):
            choose.choose("auto", tmp_path, data_roots=(Path(root),))


RUNS = "import os, sys, cyxwiz, psutil; open(os.path.realpath(sys._base_executable)).close()"


def unprivileged_python() -> tuple[str, dict[str, str]]:
    """An interpreter that every user can run, with this environment's packages."""
    folders = [Path(entry).resolve() for entry in (*sys.path, Path(cyxwiz.__file__).parents[1]) if entry]
    for python in (sys.executable, shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin:/usr/local/bin")):
        if python is None:
            continue
        paths = [str(path) for path in folders if path.name == "site-packages" or (path / "cyxwiz").is_dir()]
        environment = {"PYTHONPATH": ":".join(paths), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
        line = ["setpriv", "--reuid=65533", "--regid=65533", "--clear-groups", python, "-c", RUNS]
        if subprocess.run(line, env=environment, cwd="/", capture_output=True, check=False).returncode == 0:
            return python, environment
    return missing("the sandbox of an unprivileged user: an interpreter and a checkout that every user can read")


@pytest.mark.parametrize("mode", MODES)
def test_the_doctor_as_an_unprivileged_user_and_as_this_one(mode: str, tmp_path: Path) -> None:
    command = ["-m", "cyxwiz", "node", "doctor", "--output", "json", "--set", f"node.sandbox={mode}"]
    runs: list[tuple[list[str], dict[str, str]]] = [([sys.executable, *command], dict(os.environ))]
    if ROOT and shutil.which("setpriv"):
        python, environment = unprivileged_python()
        line = ["setpriv", "--reuid=65533", "--regid=65533", "--clear-groups", python, *command]
        runs.append((line, {**environment, "HOME": "/nonexistent"}))
    for line, environment in runs:
        done = subprocess.run(line, env=environment, cwd="/", capture_output=True, text=True, timeout=60, check=False)
        document = json.loads(done.stdout)
        if document["error"]:
            assert done.returncode == 1
            missing(f"sandbox {mode}: {document['error'][:150]}")
        assert (done.returncode, document["mode"]) == (0, mode)
        open_ = {each["name"] for each in document["protections"] if not each["holds"]}
        # What root keeps open in rlimits with an interpreter of its own, and what a container may lack.
        assert open_ <= ({"user", "processes bounded", "control groups"} if mode == "rlimits" else {"control groups"})


def test_the_doctor_says_what_does_not_hold(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "cyxwiz", "node", "doctor", "--output", "json", "--set", "node.sandbox=none"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    held = {each["name"]: each["holds"] for each in json.loads(done.stdout)["protections"]}
    for name in ("owner's files", "system read-only", "no network", "no sight of processes", "system calls filtered"):
        assert not held[name]
    assert held["environment"]
    assert held["nothing outlives its node"]


# --- pickles


def test_nothing_loads_a_pickle() -> None:
    """torch.load and numpy.load are called with what keeps them from it; ruff bans the module itself."""
    loose: list[str] = []
    for path in Path(cyxwiz.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load", "numpy.load"):
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                if given.get("weights_only") != "True" and given.get("allow_pickle") != "False":
                    loose.append(f"{path.name}:{node.lineno}")
    assert loose == []
