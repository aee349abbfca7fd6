"""TLS from end to end: certificates by `cyxwiz certs init`, doors that speak nothing else, a node that checks them."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.e2e.processes import DIGITS, cyxwiz, submit, until


def certs(data_dir: Path) -> tuple[str, ...]:
    command = [sys.executable, "-m", "cyxwiz", "--data-dir", str(data_dir), "certs", "init"]
    subprocess.run(command, check=True, capture_output=True)
    directory = data_dir / "certs"
    names = {"tls.cert_file": "server.crt", "tls.key_file": "server.key", "tls.ca_file": "ca.crt"}
    assert (directory / "server.key").stat().st_mode & 0o777 == 0o600
    return tuple(f"{key}={directory / name}" for key, name in names.items())


def test_a_job_over_tls(tmp_path: Path) -> None:
    flags = certs(tmp_path)
    ca = flags[2].partition("=")[2]
    trusting = ssl.create_default_context(cafile=ca)
    with cyxwiz("central", tmp_path / "central", *flags, "server.grpc_address=0.0.0.0:0") as central:
        assert central.ready["rest"].startswith("https://")
        headers = {"Authorization": f"Bearer {central.key}"}
        with httpx.Client(base_url=central.ready["rest"], headers=headers, verify=trusting) as http:
            token = http.post("/api/node-tokens", json={}).json()["token"]
            where = (f"node.central={central.ready['grpc'].replace('0.0.0.0', 'localhost')}", "node.tls=true", flags[2])
            with cyxwiz("node", tmp_path / "node", *where, env={"CYXWIZ_NODE__JOIN_TOKEN": token}):
                job = until(http, submit(http, DIGITS), "completed", "failed")
                assert job["status"] == "completed", job
        command = [sys.executable, "-m", "cyxwiz", "--data-dir", str(tmp_path / "central"), "--output", "json"]
        listed = subprocess.run([*command, "jobs", "list"], capture_output=True, check=True)
        assert json.loads(listed.stdout)["total"] == 1, "the CLI finds address and authority in the data directory"


def test_client_certificates_on_the_address_of_nodes(tmp_path: Path) -> None:
    flags = (*certs(tmp_path), "tls.require_client_cert=true")
    ca = flags[2].partition("=")[2]
    with cyxwiz("central", tmp_path / "central", *flags, "server.node_grpc_address=127.0.0.1:0") as central:
        headers = {"Authorization": f"Bearer {central.key}"}
        trusting = ssl.create_default_context(cafile=ca)
        with httpx.Client(base_url=central.ready["rest"], headers=headers, verify=trusting) as http:
            token = http.post("/api/node-tokens", json={}).json()["token"]
            where = (f"node.central={central.ready['node_grpc']}", "node.tls=true")
            env = {"CYXWIZ_NODE__JOIN_TOKEN": token}
            with cyxwiz("node", tmp_path / "bare", *where, flags[2], env=env):
                time.sleep(2)
                assert http.get("/api/stats").json()["online_nodes"] == 0, "without a certificate it gets nowhere"
            with cyxwiz("node", tmp_path / "node", *where, *flags[:3], env=env):
                assert until(http, submit(http, DIGITS), "completed", "failed")["status"] == "completed"


def test_client_certificates_of_people(tmp_path: Path) -> None:
    flags = (*certs(tmp_path), "tls.require_client_cert=true")
    cert, key, ca = (flag.partition("=")[2] for flag in flags[:3])
    with cyxwiz("central", tmp_path / "central", *flags) as central:

        def whoami(*options: str, folder: str = "elsewhere") -> int:
            command = [sys.executable, "-m", "cyxwiz", "--data-dir", str(tmp_path / folder), "whoami", *options]
            environ = {name: value for name, value in os.environ.items() if not name.startswith("CYXWIZ_")}
            environ["CYXWIZ_TOKEN"] = central.key
            return subprocess.run(command, capture_output=True, timeout=60, check=False, env=environ).returncode

        assert whoami(folder="central") == 0, "on central's machine nothing has to be named"
        there = ("--server", central.ready["grpc"], "--ca-file", ca)
        assert whoami(*there) == 5
        assert whoami(*there, "--cert-file", cert) == 2
        assert whoami(*there, "--cert-file", cert, "--key-file", key) == 0


def test_plaintext_beyond_loopback_is_refused(tmp_path: Path) -> None:
    host = socket.gethostbyname(socket.gethostname())
    command = [sys.executable, "-m", "cyxwiz", "run", "--role", "central", "--data-dir", str(tmp_path)]
    for address in {"0.0.0.0:0", f"{host}:0"} - {"127.0.0.1:0"}:
        refused = subprocess.run(
            [*command, "--set", f"server.grpc_address={address}"], capture_output=True, timeout=30, check=False
        )
        if address.startswith("127."):
            continue
        assert refused.returncode == 2
        assert b"tls.cert_file" in refused.stderr
    opened = subprocess.run(
        [*command, "--set", "server.rest_address=0.0.0.0:0", "--set", "auth.mode=open"],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert opened.returncode == 2
    assert b"loopback" in opened.stderr
