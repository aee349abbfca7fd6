from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml

from cyxwiz import wire
from cyxwiz.__main__ import main
from cyxwiz.cli import demo
from cyxwiz.cli.app import PANELS, app, run_command
from cyxwiz.cli.arguments import Options, split
from cyxwiz.cli.session import Session
from cyxwiz.domain.errors import Code, CyxError
from tests.unit.client.server import FakeCentral, job, serving_beside, update

JOB = job()["id"]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeCentral]:
    made = FakeCentral()
    made.answers["SubmitJob"] = made.answers["GetJob"] = made.answers["CancelJob"] = job()
    with serving_beside(made) as port:
        monkeypatch.setenv("CYXWIZ_SERVER", f"127.0.0.1:{port}")
        monkeypatch.setenv("CYXWIZ_TOKEN", "cyx_test")
        monkeypatch.setenv("CYXWIZ_DATA_DIR", str(tmp_path / "data"))
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.chdir(tmp_path)
        yield made


def cyxwiz(*args: str) -> int:
    return run_command(*split(args))


def jobfile(folder: Path, text: str = 'name = "x"\nepochs = 0\n') -> str:
    path = folder / "job.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("code", list(Code))
def test_the_exit_status_of_every_code(fake: FakeCentral, code: Code, capsys: Any) -> None:
    fake.answers["GetJob"] = CyxError(code, "two\nlines", {"a": 1}, retryable=False)
    assert cyxwiz("jobs", "show", JOB) == wire.CODES[code].exit
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "error: two lines\n")
    assert cyxwiz("jobs", "show", JOB, "--output", "json") == wire.CODES[code].exit
    said = capsys.readouterr()
    assert said.out == ""
    assert json.loads(said.err) == {
        "error": {"code": code, "message": "two\nlines", "details": {"a": 1}, "retryable": False}
    }


@pytest.mark.parametrize(
    "args",
    [
        ("jobs", "show"),
        ("jobs", "nonsense"),
        ("nonsense",),
        ("submit",),
        ("submit", "none.toml"),
        ("submit", "x.toml", "--plan", "--wait"),
        ("jobs", "list", "--limit", "1000"),
        ("jobs", "list", "--bogus"),
        ("jobs", "list", "--output", "xml"),
        ("jobs", "list", "--server"),
        ("jobs", "list", "--server", "ftp://x"),
        ("node", "token", "create", "--expires", "soon"),
        ("login", "bob"),
        ("config", "check", "--set", "nonsense"),
        ("config", "check", "--config", "none.toml"),
        ("completion", "tcsh"),
        ("certs", "init", "--host", "a b"),
    ],
)
def test_bad_usage_is_one_line_and_2(
    fake: FakeCentral, args: tuple[str, ...], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO())
    assert cyxwiz(*args) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert cyxwiz("--output=json", *args) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert json.loads(said.err)["error"]["code"] == "INVALID"


def test_nobody_there_is_5(fake: FakeCentral, capsys: Any) -> None:
    assert cyxwiz("jobs", "list", "--server", "127.0.0.1:1") == 5
    assert "127.0.0.1:1" in capsys.readouterr().err


def test_what_nobody_foresaw_is_one_line(fake: FakeCentral, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cyxwiz.cli.show.job", lambda _: 1 / 0)
    assert cyxwiz("jobs", "show", JOB) == 1
    said = capsys.readouterr().err
    assert said == "error: ZeroDivisionError: division by zero (this should not happen; --debug shows where)\n"
    with pytest.raises(ZeroDivisionError):
        cyxwiz("--debug", "jobs", "show", JOB)


def test_settings_as_json_are_values(fake: FakeCentral, capsys: Any) -> None:
    sets = ("--set", "database.url=postgresql://ann:word@db/x", "--set", "node.join_token=cyxjoin_x")
    assert cyxwiz("config", "show", *sets, "--output", "json") == 0
    shown = {each["key"]: each["value"] for each in json.loads(capsys.readouterr().out)["settings"]}
    assert shown["server.grpc_address"] == "127.0.0.1:50051"
    assert (shown["server.max_connections"], shown["server.public_url"]) == (10000, None)
    assert shown["node.devices"] == ["all"]
    assert (shown["database.url"], shown["node.join_token"]) == ("postgresql://ann:********@db/x", "********")
    assert cyxwiz("config", "show") == 0
    assert any(
        line.split() == ["server.public_url", "unset", "default"] for line in capsys.readouterr().out.split("\n")
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_without_room_is_one_line_and_1(unbuffered: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cyxwiz", "config", "show"],
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    said = "error: Standard output can't be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_a_file_that_the_system_refuses_is_bad_usage(fake: FakeCentral, capsys: Any, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the data directory should be")
    assert cyxwiz("db", "upgrade") == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'data'}: File exists\n"


def test_an_interrupt_is_quiet(fake: FakeCentral, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cyxwiz.cli.show.job", interrupt)
    assert cyxwiz("jobs", "show", JOB) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "args",
    [
        ("jobs", "show", JOB),
        ("jobs", "list"),
        ("jobs", "cancel", JOB, "--reason", "enough"),
        ("jobs", "delete", JOB),
        ("jobs", "explain", JOB),
        ("jobs", "result", JOB),
        ("jobs", "receipt", JOB),
        ("receipts", "show", JOB),
        ("receipts", "list"),
        ("jobs", "topup", JOB, "1.5"),
        ("wallet", "history"),
        ("wallet", "grant", "bob", "5"),
        ("wallet", "unlink", "11111111111111111111111111111111"),
        ("nodes", "list", "--status", "online"),
        ("nodes", "show", "n"),
        ("nodes", "drain", "n"),
        ("reservations", "show", "r"),
        ("reservations", "extend", "r", "--minutes", "5"),
        ("reservations", "release", "r", "--reason", "enough"),
        ("nodes", "resume", "n"),
        ("nodes", "ban", "n", "--for", "2h"),
        ("nodes", "unban", "n"),
        ("nodes", "complain", "n", "--job", JOB, "--reason", "late"),
        ("node", "token", "create", "--uses", "1", "--expires", "24h"),
        ("node", "token", "list"),
        ("node", "token", "revoke", "t"),
        ("users", "create", "bob", "--no-password"),
        ("users", "list"),
        ("users", "disable", "bob"),
        ("users", "budget", "bob"),
        ("users", "budget", "bob", "5"),
        ("keys", "create", "--name", "ci"),
        ("keys", "list"),
        ("keys", "revoke", "k"),
        ("whoami",),
        ("logout",),
        ("version",),
        ("config", "show"),
        ("config", "check"),
        ("db", "current"),
        ("simulate", "--steps", "2", "--jobs", "1", "--nodes", "1", "--count", "2"),
    ],
)
def test_json_is_one_document_and_nothing_else(fake: FakeCentral, args: tuple[str, ...], capsys: Any) -> None:
    assert cyxwiz(*args, "--output", "json") == 0
    said = capsys.readouterr()
    assert isinstance(json.loads(said.out), dict)
    assert said.err == ""
    assert cyxwiz("--output=yaml", *args) == 0
    assert yaml.safe_load(capsys.readouterr().out) == json.loads(said.out)


def test_options_before_and_after(fake: FakeCentral) -> None:
    for args in (("--token", "mine", "jobs", "show", JOB), ("jobs", "--token=mine", "show", JOB, "--output=json")):
        assert cyxwiz(*args) == 0
        assert fake.calls[-1][3]["authorization"] == "Bearer mine"


def test_submit(fake: FakeCentral, tmp_path: Path, capsys: Any) -> None:
    path = jobfile(tmp_path)
    assert cyxwiz("submit", path, "--set", "epochs=3", "--idempotency-key", "k1", "--output", "json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == job()
    assert said.err == ""
    _, _, args, metadata = fake.calls[-1]
    assert (args, metadata["idempotency-key"]) == ({"name": "x", "epochs": 3}, "k1")
    assert cyxwiz("submit", path) == 0
    assert JOB in capsys.readouterr().out


@pytest.mark.parametrize("args", [("--p2p", "--p2p-way", "elsewhere"), ("--p2p-way", "relay")])
def test_a_wrong_way_is_told_before_the_job_is_paid(
    fake: FakeCentral, tmp_path: Path, capsys: Any, args: tuple[str, ...]
) -> None:
    assert cyxwiz("submit", jobfile(tmp_path), *args) == 2
    assert "--p2p-way" in capsys.readouterr().err
    assert fake.calls == []


def test_what_central_refuses_is_placed_in_the_file(fake: FakeCentral, tmp_path: Path, capsys: Any) -> None:
    fake.answers["SubmitJob"] = CyxError(Code.INVALID, "epochs: too few", {"field": "epochs"})
    path = jobfile(tmp_path)
    assert cyxwiz("submit", path) == 2
    assert capsys.readouterr().err == f"error: {path}:2: epochs: too few\n"
    assert cyxwiz("submit", path, "--set", "epochs=0") == 2
    assert capsys.readouterr().err == "error: epochs: too few\n"


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("failed", 1), ("cancelled", 1)])
@pytest.mark.parametrize("how", ["--wait", "--watch"])
def test_waiting_ends_as_the_job_does(
    fake: FakeCentral, tmp_path: Path, capsys: Any, status: str, code: int, how: str
) -> None:
    final = update("2.2.0", 2, status=status, error={"code": "INTERNAL", "message": "it broke"})
    fake.answers["WatchJob"] = [update("1.1.0", 1, status="running"), final]
    assert cyxwiz("submit", jobfile(tmp_path), how, "--output", "json") == code
    said = capsys.readouterr()
    assert json.loads(said.out)["status"] == status
    assert said.err.startswith(f"job {JOB} submitted\n")
    assert ("epoch 1/2  loss 1  val_accuracy 0.9" in said.err) == (how == "--watch")
    assert cyxwiz("submit", jobfile(tmp_path), how) == code
    assert status in capsys.readouterr().out
    if how == "--watch":
        assert cyxwiz("jobs", "watch", JOB) == code


def test_download_after_the_end(fake: FakeCentral, tmp_path: Path, capsys: Any) -> None:
    sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    fake.blobs[sha256] = b"hello"
    fake.answers["WatchJob"] = [update("2.2.0", status="completed")]
    fake.answers["GetJobResult"] = {"files": [{"name": "model.bin", "sha256": sha256, "size": 5}]}
    assert cyxwiz("submit", jobfile(tmp_path), "--download", "out", "--output", "json") == 0
    assert (tmp_path / "out" / "model.bin").read_text() == "hello"
    assert json.loads(capsys.readouterr().out)["status"] == "completed"
    fake.answers["WatchJob"] = [update("2.2.0", status="failed")]
    assert cyxwiz("submit", jobfile(tmp_path), "--download", "out2") == 1
    assert list((tmp_path / "out2").iterdir()) == []


@pytest.mark.parametrize("way", [(), ("--p2p",)])
def test_a_folder_that_takes_no_files_is_told_before_the_job_is_paid(
    fake: FakeCentral, tmp_path: Path, capsys: Any, way: tuple[str, ...]
) -> None:
    path = jobfile(tmp_path)
    assert cyxwiz("submit", path, *way, "--download", f"{path}/out") == 2
    assert capsys.readouterr().err == f"error: {path}/out can't be written: Not a directory\n"
    assert fake.calls == []


def test_a_file_of_a_result_that_can_not_be_written_is_invalid(fake: FakeCentral, tmp_path: Path, capsys: Any) -> None:
    fake.blobs["0" * 64] = b""
    fake.answers["GetJobResult"] = {"files": [{"name": "model.bin", "sha256": "0" * 64, "size": 0}]}
    path = jobfile(tmp_path)
    assert cyxwiz("jobs", "result", JOB, "--download", path) == 2
    assert capsys.readouterr().err == f"error: {path}/model.bin can't be written: File exists\n"


def test_a_result_that_its_node_kept_is_not_found(fake: FakeCentral, capsys: Any) -> None:
    fake.answers["GetJobResult"] = {"files": [], "model_weights_uri": "file:///m.bin"}
    assert cyxwiz("jobs", "result", JOB, "--download", "out") == 3
    assert "file:///m.bin" in capsys.readouterr().err


def test_logs_and_metrics_are_whole(fake: FakeCentral, capsys: Any) -> None:
    def page(name: str) -> Any:
        def answer(ident: str, args: dict[str, Any], metadata: dict[str, Any]) -> Any:
            after = args["after"]
            items = [
                {"offset": n, "at": None, "level": "info", "message": f"line {n}", "epoch": n, "epoch_ended": True}
                | {"metrics": {"loss": 0.5}, "attempt": 1, "progress": n / 1500}
                for n in range(after + 1, min(after + 1000, 1500) + 1)
            ]
            return {name: items, "next_after": items[-1]["offset"] if items else after}

        return answer

    fake.answers.update(GetJobLogs=page("logs"), GetJobMetrics=page("metrics"))
    for name in ("logs", "metrics"):
        assert cyxwiz("jobs", name, JOB, "--output", "json") == 0
        assert len(json.loads(capsys.readouterr().out)[name]) == 1500
        assert cyxwiz("jobs", name, JOB) == 0
        assert len(capsys.readouterr().out.splitlines()) >= 1500


def test_what_others_wrote_does_not_drive_the_terminal(fake: FakeCentral, capsys: Any) -> None:
    fake.answers["GetJob"] = job(name="[red]x[/red]\x1b[2J")
    assert cyxwiz("jobs", "show", JOB) == 0
    out = capsys.readouterr().out
    assert "[red]x[/red]" in out
    assert "\x1b[2J" not in out


def test_passwords_come_by_standard_input(
    fake: FakeCentral, capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CYXWIZ_TOKEN")
    monkeypatch.setattr(sys, "stdin", StringIO("secret word\n"))
    fake.answers["Login"] = {
        "access_token": "a",
        "refresh_token": "r",
        "expires_in": 9,
        "user": {"name": "bob", "role": "user"},
    }
    assert cyxwiz("login", "bob", "--password-stdin", "--output", "json") == 0
    assert json.loads(capsys.readouterr().out) == {"user": {"name": "bob", "role": "user"}, "expires_in": 9}
    assert fake.calls[-1][2] == {"name": "bob", "password": "secret word"}
    assert cyxwiz("whoami", "--output", "json") == 0
    assert fake.calls[-1][3]["authorization"] == "Bearer a"
    assert cyxwiz("logout") == 0
    assert not (tmp_path / "data" / "session.json").exists()


def test_blobs(fake: FakeCentral, capsys: Any, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello")
    assert cyxwiz("blobs", "push", "x") == 0
    uri = capsys.readouterr().out.strip()
    assert cyxwiz("blobs", "pull", uri, "y", "--output", "json") == 0
    assert json.loads(capsys.readouterr().out)["size"] == 5
    assert (tmp_path / "y").read_text() == "hello"


def test_help_names_every_verb(fake: FakeCentral, capsys: Any) -> None:
    assert cyxwiz("--help") == 0
    out = capsys.readouterr().out
    for verb in ("run", "demo", "submit", "jobs", "nodes", "node", "blobs", "receipts", "login", "logout", "whoami"):
        assert f" {verb} " in out
    for verb in ("users", "keys", "config", "certs", "db", "version", "completion"):
        assert f" {verb} " in out


def test_help_of_drain_says_that_jobs_move(fake: FakeCentral, capsys: Any) -> None:
    assert cyxwiz("nodes", "drain", "--help") == 0
    assert "goes on elsewhere" in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(fake: FakeCentral, capsys: Any, shell: str) -> None:
    assert cyxwiz("completion", shell) == 0
    assert "_CYXWIZ_COMPLETE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "position", "expected"),
    [("cyxwiz jo", 1, ["jobs"]), ("cyxwiz jobs re", 2, ["resume", "result", "receipt"]), ("cyxwiz nothing-", 1, [])],
)
def test_a_shell_asks_for_completions(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, words: str, position: int, expected: list[str]
) -> None:
    monkeypatch.setenv("_CYXWIZ_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(position))
    with pytest.raises(SystemExit) as ended:
        cyxwiz()
    assert ended.value.code == 0
    assert capsys.readouterr().out.split() == expected


WILD = "\x1b[2J\x1b]0;owned\x07"


def test_what_others_wrote_does_not_reach_the_terminal_raw(fake: FakeCentral, capsys: Any) -> None:
    line = {"offset": 1, "at": "2030-01-01T00:00:00Z", "level": WILD, "source": WILD, "message": WILD}
    fake.answers["GetJobLogs"] = {"job_id": JOB, "logs": [line], "next_after": 1}
    point = {"epoch": 1, "epoch_ended": True, "metrics": {WILD: 0.5}}
    fake.answers["GetJobMetrics"] = {"job_id": JOB, "metrics": [point], "next_after": 1}
    fake.answers["GetJob"] = CyxError(Code.NOT_FOUND, f"no {WILD}")
    assert cyxwiz("jobs", "logs", JOB) == 0
    assert cyxwiz("jobs", "metrics", JOB) == 0
    assert cyxwiz("jobs", "show", JOB) == 3
    here = Session(Options())
    here.note(f"saved {WILD}\nand more")
    said = capsys.readouterr()
    assert said.err.endswith("owned\ufffd\nand more\n")
    assert said.out.count("owned") == 3
    for text in (said.out, said.err):
        assert all(ch.isprintable() or ch == "\n" for ch in text), text


def test_database_commands_on_rubbish(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dump").write_bytes(b"\xff\xfe\x00")
    assert cyxwiz("--data-dir", "data", "db", "import", "dump") == 2
    away = "database.url=postgresql://ann:a-password@127.0.0.1:1/x"
    assert cyxwiz("--data-dir", "data", "db", "current", "--set", away) == 5
    (tmp_path / "deep.toml").write_text("a = " + "[" * 100_000)
    (tmp_path / "long.toml").write_text("[server]\nmax_connections = " + "9" * 5000)
    for file in ("deep.toml", "long.toml"):
        assert cyxwiz("config", "check", "--config", file) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 4
    assert "a-password" not in said
    assert "should not happen" not in said


def test_an_interrupt_while_the_program_loads_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cyxwiz.cli.arguments.split", interrupted)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 130
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_a_command_that_is_told_to_end_says_nothing(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    async def ended(*_: Any) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(demo, "_demo", ended)
    assert cyxwiz("demo") == 143
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_the_lines_of_certs_init_go_into_the_shipped_settings(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cyxwiz("--data-dir", "data", "certs", "init") == 0
    said = capsys.readouterr().out.splitlines()
    shipped = (Path(__file__).parents[3] / "config.toml").read_text()
    assert shipped.count("\n[tls]\n") == 1
    assert "[tls]" not in said, "a second header would be refused"
    lines = "\n".join(line for line in said if " = " in line)
    Path("config.toml").write_text(shipped.replace("\n[tls]\n", f"\n[tls]\n{lines}\n"))
    assert cyxwiz("config", "show", "--output", "json") == 0
    shown = {each["key"]: each for each in json.loads(capsys.readouterr().out)["settings"]}
    for name in ("cert_file", "key_file", "ca_file"):
        assert shown[f"tls.{name}"]["origin"] == "config.toml"


def test_every_command_stands_in_a_panel_of_the_help() -> None:
    parts = [*app.registered_commands, *app.registered_groups]
    assert all(part.rich_help_panel in PANELS for part in parts)
    assert len(parts) == sum(map(len, PANELS.values()))


def test_a_job_of_several_nodes_is_not_replayed_and_called_different(fake: FakeCentral, capsys: Any) -> None:
    fake.answers["GetJob"] = job(resources={"nodes": 2})
    fake.answers["GetJobProof"] = CyxError(Code.INTERNAL, "it was asked for")
    assert cyxwiz("replay", JOB) == wire.CODES[Code.UNSUPPORTED].exit
    assert "several nodes" in capsys.readouterr().err
