"""`cyxwiz replay` against a real central and node: equal, and not once somebody has rewritten what is stored."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx

from cyxwiz.client.weights import WEIGHTS
from cyxwiz.domain.proof import Kind, extend, loss_bits
from tests.e2e.processes import DIGITS, cyxwiz, submit, until


def replay(data_dir: Path, job_id: str, status: int, *more: str) -> dict[str, object]:
    command = [sys.executable, "-m", "cyxwiz", "replay", job_id, "--data-dir", str(data_dir), "--output", "json", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == status, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return dict(json.loads(done.stdout or "{}"))


def rewrite(database: Path, job_id: str, genesis: str, from_step: int) -> None:
    """Other weights from a step on, in a chain that holds in itself: what a node would have sent that skipped them."""
    connection = sqlite3.connect(database)
    rows = connection.execute(
        "SELECT number, kind, step, loss, weights FROM job_links WHERE job_id = ? ORDER BY number", (job_id,)
    ).fetchall()
    before = genesis
    for number, kind, step, loss, weights in rows:
        other = "f" * 64 if step >= from_step else weights
        link = extend(before, Kind(kind), step, loss_bits(loss), other)
        change = "UPDATE job_links SET weights = ?, link = ? WHERE job_id = ? AND number = ?"
        connection.execute(change, (other, link.link, job_id, number))
        before = link.link
    connection.commit()
    connection.close()


def swap_file(http: httpx.Client, database: Path, job_id: str) -> None:
    """Another file of weights as the job's result."""
    (weights,) = (e["sha256"] for e in http.get(f"/api/jobs/{job_id}/result").json()["files"] if e["name"] == WEIGHTS)
    data = bytearray(http.get(f"/api/blobs/{weights}").content)
    data[-1] ^= 1
    sent = http.post("/api/blobs", content=bytes(data), headers={"Content-Type": "application/octet-stream"})
    assert sent.status_code == 201, sent.text
    other = str(sent.json()["sha256"])
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE job_results SET files = replace(files, ?, ?)", (weights, other))
    connection.close()


def test_a_job_is_done_again_link_by_link(tmp_path: Path) -> None:
    with cyxwiz("both", tmp_path / "both") as process, process.http() as http:
        job_id = submit(http, {**DIGITS, "epochs": 6, "checkpoint": {"every": "2 epochs"}})
        until(http, job_id, "completed")
        equal = replay(process.data_dir, job_id, 0)
        assert equal["equal"] is True
        assert equal["first_difference"] is None
        proof = http.get(f"/api/jobs/{job_id}/proof").json()
        assert equal["links"] == len(proof["links"]) >= 3
        steps = [each["step"] for each in proof["links"]]
        swap_file(http, process.data_dir / "cyxwiz.db", job_id)
        spoiled = replay(process.data_dir, job_id, 1)
        assert (spoiled["equal"], spoiled["first_difference"], spoiled["differs_in"]) == (False, steps[-1], ["file"])
        rewrite(process.data_dir / "cyxwiz.db", job_id, proof["genesis"], steps[1])
        differs = replay(process.data_dir, job_id, 1)
        assert differs["equal"] is False
        assert differs["first_difference"] == steps[1]
        assert differs["differs_in"] == ["weights"]


def test_a_job_on_files_is_done_again_where_they_are_lent(tmp_path: Path) -> None:
    """By the settings of a node on this machine; other data are told from other work."""
    data, roots = tmp_path / "lent" / "rows.csv", f"node.data_roots={tmp_path / 'lent'}"
    data.parent.mkdir()
    data.write_text("".join(f"{number / 100},{number % 7},{number % 2}\n" for number in range(100)))
    with cyxwiz("both", tmp_path / "both", roots) as process, process.http() as http:
        model = {"layers": [{"type": "dense", "units": 2}]}
        job_id = submit(http, {**DIGITS, "dataset": f"file://csv/{data}?header=false", "model": model, "epochs": 2})
        until(http, job_id, "completed")
        replay(process.data_dir, job_id, 4)  # FORBIDDEN: nothing is lent here
        assert replay(process.data_dir, job_id, 0, "--set", roots)["equal"] is True
        data.write_text(data.read_text().replace("0.5,", "0.7,"))
        differs = replay(process.data_dir, job_id, 1, "--set", roots)
        assert "data" in str(differs["differs_in"])
