"""A cluster by settings alone: `cyxwiz localnet` is one process, central another, and either may be killed."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from solders.pubkey import Pubkey

from cyxwiz.ledger.instructions.values import token_account
from cyxwiz.ledger.keys import Key, save_key
from tests.e2e.processes import cyxwiz, free_port, submit, until

pytestmark = pytest.mark.timeout(300)

FUNDS = 100 * 10**9
JOB: dict[str, Any] = {
    "name": "iris",
    "dataset": "builtin:iris",
    "epochs": 2,
    "batch_size": 32,
    "model": {"layers": [{"type": "dense", "units": 8}, {"type": "relu"}, {"type": "dense", "units": 3}]},
}


@dataclass
class Chain:
    """A `cyxwiz localnet` in a directory, always at the same port."""

    directory: Path
    port: int
    popen: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        ready = self.directory / "ready.json"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "cyxwiz", "--data-dir", str(self.directory), "localnet"]
        with (self.directory / "log").open("ab") as log:
            flags = ["--port", str(self.port), "--ready-file", str(ready)]
            self.popen = subprocess.Popen([*command, *flags], stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert self.popen.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def kill(self) -> None:
        if self.popen is not None:
            self.popen.kill()
            self.popen.wait(10)

    def call(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = httpx.post(self.url, json=body, timeout=10).json()
        assert "error" not in answer, answer
        return answer["result"]

    def units(self, owner: str, mint: str) -> int:
        address = token_account(Pubkey.from_string(owner), Pubkey.from_string(mint))
        found = self.call("getAccountInfo", str(address), {"encoding": "jsonParsed"})["value"]
        return int(found["data"]["parsed"]["info"]["tokenAmount"]["amount"]) if found else 0


@pytest.fixture
def chain(tmp_path: Path) -> Generator[Chain]:
    made = Chain(tmp_path / "chain", free_port())
    made.directory.mkdir()
    made.start()
    yield made
    made.kill()


def payer(chain: Chain, path: Path, sol: int = 5) -> str:
    """A platform's key file, with SOL on the chain; its address."""
    key = Key.new()
    save_key(key, path)
    if sol:
        chain.call("requestAirdrop", str(key.pubkey), sol * 10**9)
    return str(key.pubkey)


def settings(chain: Chain, key: Path, **changed: str) -> list[str]:
    info = chain.call("cyxwizInfo")
    values = {
        "network": "localnet",
        "solana_rpc_url": chain.url,
        "payer_keypair_path": str(key),
        "token_mint": info["mint"],
        "program_id": info["programs"]["escrow"],
        "arbiter": info["judge"],
        **changed,
    }
    return ["ledger.backend=solana", *(f"blockchain.{name}={value}" for name, value in values.items())]


def wait(what: Callable[[], Any], seconds: float = 120) -> Any:
    """Asks until the answer is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if found := what():
                return found
        time.sleep(0.1)
    raise AssertionError("it never came true")


def payment(http: httpx.Client, job_id: str, *states: str) -> dict[str, Any] | None:
    page = http.get("/api/payments", params={"job_id": job_id}).json()
    found = [each for each in page["payments"] if each["job_id"] == job_id]
    return found[0] if found and found[0]["status"] in states else None


def moved(http: httpx.Client, job_id: str) -> list[dict[str, Any]]:
    page = http.get("/api/wallet/history", params={"limit": 100}).json()
    return [each for each in page["transactions"] if each["job_id"] == job_id]


def check(http: httpx.Client, chain: Chain, job_id: str) -> int:
    """What a job cost, after everything that was sent for it is on the chain once. In units."""
    ended = wait(lambda: payment(http, job_id, "completed"))
    assert ended["paid_units"] + ended["refunded_units"] == ended["amount_units"]
    assert ended["paid_units"] > 0
    moves = moved(http, job_id)
    landed = [each for each in moves if each["status"] == "confirmed"]
    assert {each["status"] for each in moves} <= {"confirmed", "failed"}
    assert [each["kind"] for each in landed].count("lock") == 1
    assert [each["kind"] for each in landed].count("settle") == 1
    assert "assign" in {each["kind"] for each in landed}
    for each in landed:
        document = chain.call("getTransaction", each["reference"], {"encoding": "json"})
        assert document["meta"]["err"] is None
    return int(ended["paid_units"])


def test_a_cluster_by_settings_and_kills_of_either_side(tmp_path: Path, chain: Chain) -> None:
    platform = payer(chain, tmp_path / "payer.json")
    flags = settings(chain, tmp_path / "payer.json")
    mint = chain.call("cyxwizInfo")["mint"]
    data = tmp_path / "central"
    with cyxwiz("both", data, *flags) as process, process.http() as http:
        wallet = http.get("/api/wallet").json()
        assert (wallet["backend"], wallet["network"], wallet["token_mint"]) == ("solana", "localnet", mint)
        assert int(wallet["balance_units"]) == 0
        refused = http.post("/api/admin/grants", json={"user_id": "admin", "amount": "1"})
        assert refused.status_code == 501
        assert wallet["address"] in refused.json()["error"]["message"]
        refused = http.post("/api/jobs", json=JOB)
        assert refused.status_code == 402
        assert refused.json()["error"]["code"] == "FUNDS"
        chain.call("cyxwizAirdrop", wallet["address"], "100")
        spent = check(http, chain, first := submit(http, JOB))
        assert until(http, first, "completed")

        second = submit(http, JOB)
        chain.kill()
        answer = http.get("/api/wallet")
        assert answer.status_code == 503
        assert "127.0.0.1" in answer.json()["error"]["message"]
        time.sleep(1)
        assert payment(http, second, "pending", "locked")
        chain.start()
        spent += check(http, chain, second)

        third = submit(http, JOB)
        process.kill()
    with cyxwiz("both", data, *flags) as process, process.http() as http:
        spent += check(http, chain, third)
        until(http, third, "completed")
        fees, node = chain.units(platform, mint), chain.units(wallet["address"], mint) - (FUNDS - spent)
        assert fees + node == spent  # the node is its owner's, who is also the client
        assert fees == sum(int(each["platform_fee_units"]) for each in http.get("/api/payments").json()["payments"])


def started(data: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """A central whose settings don't fit: what it says before it ends."""
    command = [sys.executable, "-m", "cyxwiz", "run", "--role", "central", "--data-dir", str(data)]
    sets = [f"--set={flag}" for flag in ("server.grpc_address=127.0.0.1:0", "server.rest_address=127.0.0.1:0", *flags)]
    return subprocess.run([*command, *sets], capture_output=True, text=True, timeout=60, check=False, cwd=data.parent)


def test_a_chain_begun_anew_is_refused(tmp_path: Path, chain: Chain) -> None:
    payer(chain, tmp_path / "payer.json")
    data = tmp_path / "central"
    with cyxwiz("central", data, *settings(chain, tmp_path / "payer.json")) as process, process.http() as http:
        chain.call("cyxwizAirdrop", http.get("/api/wallet").json()["address"], "100")
        job_id = submit(http, JOB)
        wait(lambda: payment(http, job_id, "locked"))
    chain.kill()
    chain.directory = tmp_path / "other"
    chain.directory.mkdir()
    chain.start()
    done = started(data, *settings(chain, tmp_path / "payer.json"))
    assert done.returncode == 2
    (line,) = [each for each in done.stderr.splitlines() if each.startswith("error: ")]
    assert "start with a new database" in line
    assert "Traceback" not in done.stderr


def test_what_may_pass_is_a_warning_and_is_told_on_the_job(tmp_path: Path, chain: Chain) -> None:
    """A payer without SOL, and a cluster that is away: central starts, and money waits."""
    platform = payer(chain, tmp_path / "payer.json", sol=0)
    flags = settings(chain, tmp_path / "payer.json")
    with cyxwiz("central", tmp_path / "central", *flags) as process, process.http() as http:
        assert f"{platform} has 0.0000 SOL" in process.log.read_text()
        chain.call("cyxwizAirdrop", http.get("/api/wallet").json()["address"], "100")
        job_id = submit(http, JOB)
        told = wait(lambda: (payment(http, job_id, "pending") or {}).get("error"))
        assert "send it some" in told
        assert "send it some" in http.get(f"/api/jobs/{job_id}").json()["reason"]
        chain.call("requestAirdrop", platform, 10**9)
        wait(lambda: payment(http, job_id, "locked"))
    chain.kill()
    with cyxwiz("central", tmp_path / "central", *flags) as process, process.http() as http:
        assert "money waits: 127.0.0.1" in process.log.read_text()
        assert http.get("/api/ready").status_code == 200
