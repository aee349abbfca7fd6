"""The command line against a real `cyxwiz run`: every verb that is built, every class of error, from the outside."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.processes import Process, cyxwiz, free_port

EXAMPLES = Path(__file__).parents[2] / "examples"
UNKNOWN = "00000000-0000-4000-8000-00000000abcd"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def command(data_dir: Path, *args: str) -> list[str]:
    return [sys.executable, "-m", "cyxwiz", *args, "--data-dir", str(data_dir)]


def environment(**more: str) -> dict[str, str]:
    return {**{key: value for key, value in os.environ.items() if not key.startswith("CYXWIZ_")}, **more}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with cyxwiz("both", tmp_path_factory.mktemp("both")) as process:
        yield process


@pytest.fixture
def run(both: Process, tmp_path: Path) -> Run:
    def act(*args: str, status: int = 0, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command(both.data_dir, *args),
            input=stdin,
            env=environment(**env),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == status, (args, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        assert not status or "--output" in args or done.stderr.startswith("error: ")
        return done

    return act


def document(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["digits.toml", "iris.yaml", "wine.json"])
def test_the_examples_run(run: Run, tmp_path: Path, name: str) -> None:
    sets = ("--set", "epochs=3")
    job = document(run("submit", str(EXAMPLES / name), *sets, "--wait", "--download", "out", "--output", "json"))
    assert (job["status"], job["epochs"]) == ("completed", 3)
    assert (tmp_path / "out" / "model.safetensors").stat().st_size > 100


def test_a_job_from_graph_to_nothing(run: Run) -> None:
    graph = (str(EXAMPLES / "mlp.cyxgraph"), "--set", "dataset=builtin:digits", "--set", "epochs=3")
    watched = run("submit", *graph, "--watch")
    assert "epoch 3/3" in watched.stderr
    job_id = document(run("jobs", "list", "--name", "mlp", "--output", "json"))["jobs"][0]["id"]
    for verb, shown in (
        ("show", "completed"),
        ("explain", "Can run it"),
        ("metrics", "val_accuracy"),
        ("logs", "parameters"),
        ("result", "model.safetensors"),
        ("receipt", "CYXWIZ"),
        ("watch", "completed"),
    ):
        assert shown in run("jobs", verb, job_id).stdout
        assert isinstance(document(run("jobs", verb, job_id, "--output", "json")), dict)
    assert "sha256:" in run("receipts", "show", job_id).stdout
    run("jobs", "cancel", job_id, status=1)
    run("jobs", "delete", job_id)
    run("jobs", "show", job_id, status=3)


def test_submit_json_is_the_job_and_a_key_makes_one_job(run: Run) -> None:
    args = ("submit", str(EXAMPLES / "digits.toml"), "--set", "epochs=1", "--idempotency-key", "once")
    first = run(*args, "--output", "json")
    assert first.stderr == ""
    assert document(first)["status"] == "pending"
    assert document(run(*args, "--output", "json"))["id"] == document(first)["id"]
    run(*args, "--set", "epochs=2", status=1)


def test_plan_submits_nothing(run: Run) -> None:
    before = document(run("jobs", "list", "--output", "json"))["total"]
    plan = document(run("submit", str(EXAMPLES / "digits.toml"), "--plan", "--output", "json"))
    assert plan["feasible_nodes"] == 1
    assert "yes" in run("submit", str(EXAMPLES / "digits.toml"), "--plan").stdout
    assert document(run("jobs", "list", "--output", "json"))["total"] == before


def test_cancel_ends_a_wait_with_1(run: Run, both: Process) -> None:
    long = ("submit", str(EXAMPLES / "digits.toml"), "--set", "epochs=100000", "--set", "name=endless")
    waiting = subprocess.Popen(
        command(both.data_dir, *long, "--wait", "--output", "json"), stdout=-1, stderr=-1, env=environment(), text=True
    )
    said = waiting.stderr.readline() if waiting.stderr else ""
    job_id = re.findall(r"[0-9a-f-]{36}", said)[0]
    assert document(run("jobs", "cancel", job_id, "--reason", "enough", "--output", "json"))["status"] == "cancelled"
    out, _ = waiting.communicate(timeout=30)
    assert waiting.returncode == 1
    assert json.loads(out)["status"] == "cancelled"


@pytest.mark.parametrize(
    ("text", "args", "message"),
    [
        ('name = "x\n', (), r"job\.toml:1:10: "),
        ("epochs = 0\ndataset = 'builtin:digits'\n[model]\nlayers = [10]\n", (), r"job\.toml:1: epochs: "),
        ("[model]\nlayers = [10]\n", (), r"dataset: missing"),
        ("dataset = 'builtin:nope'\n[model]\nlayers = [64, 10]\n", (), r"builtin:nope"),
        ("epocs = 1\n", (), r"job\.toml:1: epocs: "),
        ("dataset = 'builtin:digits'\n[model]\nlayers = [64, 3]\n", (), r"needs at least 10"),
        ("dataset = 'builtin:digits'\n", ("--set", "epochs"), r"must be key=value"),
    ],
)
def test_bad_job_files(run: Run, tmp_path: Path, text: str, args: tuple[str, ...], message: str) -> None:
    (tmp_path / "job.toml").write_text(text)
    said = run("submit", "job.toml", *args, status=2).stderr
    assert re.search(message, said)
    assert said.count("\n") == 1


def test_the_exit_status_of_each_class_of_error(run: Run, tmp_path: Path) -> None:
    run("jobs", "show", UNKNOWN, status=3)
    run("jobs", "show", "nonsense", status=2)
    run("jobs", "nonsense", status=2)
    run("jobs", "result", UNKNOWN, status=3)
    run("nodes", "show", UNKNOWN, status=3)
    run("keys", "revoke", UNKNOWN, status=3)
    run("jobs", "list", status=4, CYXWIZ_TOKEN="cyx_wrong")
    run("jobs", "list", "--server", f"127.0.0.1:{free_port()}", status=5)
    (tmp_path / "train.sh").write_text("echo")
    run("submit", "train.sh", status=2)
    error = json.loads(run("jobs", "show", UNKNOWN, "--output", "json", status=3).stderr)["error"]
    assert (error["code"], error["retryable"]) == ("NOT_FOUND", False)


def test_users_log_in_and_keys(run: Run) -> None:
    secret = "a long enough word\n"
    assert document(run("whoami", "--output", "json"))["name"] == "admin"
    run("users", "create", "bob", "--password-stdin", stdin=secret)
    run("users", "create", "bob", "--password-stdin", stdin=secret, status=1)
    run("login", "bob", "--password-stdin", stdin="wrong word\n", status=4)
    run("login", "bob", "--password-stdin", stdin=secret)
    try:
        assert document(run("whoami", "--output", "json"))["name"] == "bob"
        run("users", "list", status=4)
        made = document(run("keys", "create", "--name", "ci", "--output", "json"))
        assert made["key"] not in run("keys", "list").stdout
    finally:
        run("logout")
    assert document(run("whoami", "--output", "json"))["name"] == "admin"
    assert document(run("whoami", "--output", "json", CYXWIZ_TOKEN=made["key"]))["name"] == "bob"
    run("nodes", "ban", UNKNOWN, status=4, CYXWIZ_TOKEN=made["key"])
    run("keys", "revoke", made["id"])
    run("whoami", status=4, CYXWIZ_TOKEN=made["key"])
    assert "bob" in run("users", "list").stdout
    run("users", "disable", "bob")
    run("login", "bob", "--password-stdin", stdin=secret, status=4)


def test_nodes_and_tokens(run: Run, both: Process) -> None:
    node = both.ready["node_id"]
    assert node in run("nodes", "list").stdout
    assert "online" in run("nodes", "show", node).stdout
    run("nodes", "drain", node)
    assert document(run("submit", str(EXAMPLES / "digits.toml"), "--plan", "--output", "json"))["feasible_nodes"] == 0
    run("nodes", "resume", node)
    made = document(run("node", "token", "create", "--uses", "1", "--expires", "1h", "--output", "json"))
    assert made["token"].startswith("cyxjoin_")
    assert made["id"] in run("node", "token", "list").stdout
    run("node", "token", "revoke", made["id"])


def test_every_listening_address_is_told_once(both: Process, tmp_path: Path) -> None:
    names = ("grpc", "rest", "node", "node_terminal", "node_service", "node_deployment")
    addresses = [both.ready[name] for name in names]
    assert len(set(addresses)) == len(names)
    printed = both.log.read_text().splitlines()
    for name, address in zip(names, addresses, strict=True):
        assert printed.count(f"{name} {address}") == 1
        host, _, port = address.rpartition("/")[2].rpartition(":")
        socket.create_connection((host, int(port)), 5).close()
    shared = f"127.0.0.1:{free_port()}"
    same = [
        f"node.{name}={shared}" for name in ("address", "terminal_address", "service_address", "deployment_address")
    ]
    with cyxwiz("both", tmp_path / "shared", *same) as process:
        assert [key for key, value in process.ready.items() if value == shared] == ["node"]
        assert [line for line in process.log.read_text().splitlines() if line.endswith(shared)] == [f"node {shared}"]


def test_blobs_there_and_back(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(os.urandom(3_000_000))
    uri = run("blobs", "push", "data").stdout.strip()
    assert document(run("blobs", "push", "data", "--output", "json"))["sent"] == 0
    run("blobs", "pull", uri, "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "data").read_bytes()
    run("blobs", "pull", "0" * 64, "none", status=3)


def test_settings_database_version(run: Run, tmp_path: Path) -> None:
    shown = run("config", "show", "--set", "scheduler.max_retries=7", CYXWIZ_AUTH__JWT_SECRET="hidden-" * 5).stdout
    assert "hidden" not in shown
    assert re.search(r"scheduler\.max_retries\s+7\s+flag", shown)
    assert "max_retries" in run("config", "check", "--set", "scheduler.max_retries=-1", status=2).stderr
    unsafe = ("config", "check", "--set", "node.sandbox=none")
    assert "node.sandbox = 'none': " in run(*unsafe, status=2).stderr
    assert "are good" in run(*unsafe, "--allow-unsafe").stdout
    assert "are good" in run(*unsafe, "--role", "central").stdout
    assert "--role rig" in run("config", "check", "--role", "rig", status=2).stderr
    assert "up to date" in run("db", "current").stdout
    run("db", "upgrade", status=1)  # central has the file
    assert document(run("version", "--output", "json"))["version"]


def test_the_database_of_a_new_directory(tmp_path: Path) -> None:
    def ask(verb: str) -> Any:
        words = command(tmp_path / "new", "db", verb, "--output", "json")
        return json.loads(subprocess.run(words, env=environment(), capture_output=True, check=True).stdout)

    before = ask("current")
    assert (before["revision"], before["up_to_date"]) == (None, False)
    assert not (tmp_path / "new").exists(), "to look is not to make"
    assert ask("upgrade") == ask("upgrade") == {"revision": before["head"]}
    assert ask("current")["up_to_date"]


@pytest.mark.parametrize("how", ["--watch", "--wait"])
def test_an_interrupt_is_130_and_tells_that_the_job_goes_on(both: Process, how: str) -> None:
    endless = ("submit", str(EXAMPLES / "digits.toml"), "--set", "epochs=100000", how)

    def as_in_the_foreground() -> None:
        """Where the tests run in the background of a shell, what they start would ignore an interrupt as they do."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        command(both.data_dir, *endless),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
        preexec_fn=as_in_the_foreground,
    ) as watching:
        try:
            assert watching.stderr
            said = watching.stderr.readline()
            watching.send_signal(signal.SIGINT)
            out, err = watching.communicate(timeout=20)
        finally:
            watching.kill()
    assert watching.returncode == 130
    assert out == ""
    job_id = said.split()[1]
    assert f"`cyxwiz jobs watch {job_id}`" in err
    assert f"`cyxwiz jobs cancel {job_id}`" in err
    assert "Traceback" not in err
    assert "error" not in err
    with both.http() as http:  # the job runs on; the others want the node
        for job in http.get("/api/jobs").json()["jobs"]:
            if job["status"] in ("pending", "assigned", "running"):
                http.post(f"/api/jobs/{job['id']}/cancel", json={}).raise_for_status()


@pytest.mark.slow
def test_a_watch_outlives_central(tmp_path: Path) -> None:
    port = free_port()
    flags = (f"server.grpc_address=127.0.0.1:{port}", "scheduler.node_heartbeat_timeout_ms=2000")
    with cyxwiz("both", tmp_path / "data", *flags) as first:
        args = ("submit", str(EXAMPLES / "digits.toml"), "--set", "epochs=60", "--watch", "--output", "json")
        watching = subprocess.Popen(command(first.data_dir, *args), stdout=-1, stderr=-1, env=environment(), text=True)
        assert watching.stderr
        while "epoch 2/" not in watching.stderr.readline():
            assert watching.poll() is None
        first.kill()
    time.sleep(0.5)
    with cyxwiz("both", tmp_path / "data", *flags):
        out, err = watching.communicate(timeout=100)
    assert watching.returncode == 0, err
    assert json.loads(out)["status"] == "completed"


@pytest.mark.slow
def test_the_demo(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cyxwiz", "demo"],
        env=environment(TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=110,
        check=True,
    )
    for said in ("epoch 50/50", "held-out", "Receipt", "platform's fee", "by hand", "sha256:"):
        assert said in done.stdout
    for said in ("lock", "stream", "release"):
        assert re.search(rf"^{said} +[1-9A-HJ-NP-Za-km-z]{{80,90}}$", done.stdout, re.MULTILINE), "signed on the chain"
    assert "The changes add up to nothing." in done.stdout
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


@pytest.mark.slow
def test_a_demo_that_learns_too_little_fails(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cyxwiz", "demo", "--epochs", "1", "--keep", "--output", "json"],
        env=environment(TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)["passed"] is False
    kept = next(iter(tmp_path.iterdir()))
    assert str(kept) in done.stderr
    assert (kept / "cyxwiz.db").exists()


def test_a_demo_that_is_killed_leaves_nothing_running(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "cyxwiz", "demo"],
        env=environment(TMPDIR=str(tmp_path)),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout is not None
    assert any("has joined" in line for line in demo.stdout)
    started = psutil.Process(demo.pid).children(recursive=True)
    assert started
    demo.kill()
    demo.wait()
    demo.stdout.close()
    assert psutil.wait_procs(started, timeout=40)[1] == []
