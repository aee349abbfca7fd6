"""`cyxwiz replay` against a real central and node: equal, and not once somebody has rewritten what is stored."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

from cyxwiz.domain.proof import Kind, extend, loss_bits
from tests.e2e.processes import DIGITS, cyxwiz, submit, until


def replay(data_dir: Path, job_id: str, status: int) -> dict[str, object]:
    command = [sys.executable, "-m", "cyxwiz", "replay", job_id, "--data-dir", str(data_dir), "--output", "json"]
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
        rewrite(process.data_dir / "cyxwiz.db", job_id, proof["genesis"], steps[1])
        differs = replay(process.data_dir, job_id, 1)
        assert differs["equal"] is False
        assert differs["first_difference"] == steps[1]
        assert differs["differs_in"] == ["weights"]
