"""A wheel, built and installed outside the checkout, runs, migrates and serves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx

from tests.e2e.processes import cyxwiz

ROOT = Path(__file__).resolve().parents[2]


def test_wheel(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("cyxwiz-*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    assert (site / "cyxwiz" / "ledger" / "programs" / "escrow.so").exists()
    env = {"PYTHONPATH": str(site)}
    where = [sys.executable, "-c", "import cyxwiz.store.migrate as m; print(m.__file__); print(m.directory())"]
    found = subprocess.run(where, check=True, capture_output=True, text=True, env=env, cwd=tmp_path).stdout.split()
    assert all(path.startswith(str(site)) for path in found), found
    with cyxwiz("central", tmp_path / "data", env=env, cwd=tmp_path) as central, central.http() as http:
        assert http.get("/").status_code == 200
        assert http.get("/api/jobs").json()["total"] == 0
        assert httpx.get(central.ready["rest"] + "/openapi.json").status_code == 200
