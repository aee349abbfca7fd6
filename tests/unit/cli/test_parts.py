from __future__ import annotations

import re
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from cryptography import x509

from cyxwiz.cli import live, show
from cyxwiz.cli.arguments import Options, split
from cyxwiz.cli.certs import make
from cyxwiz.cli.demo import _by_hand
from cyxwiz.cli.p2p import _until_given
from cyxwiz.cli.session import Session
from cyxwiz.cli.show import _summary
from cyxwiz.cli.start import run
from cyxwiz.domain.errors import CyxError
from tests.unit.client.server import update

if TYPE_CHECKING:
    from cyxwiz.client import Client


def test_splitting_the_command_line() -> None:
    args = ["--server", "s", "jobs", "--output=json", "list", "--data-dir", "d", "--", "--token", "x"]
    options, rest, wrong = split(args)
    assert options == Options(server="s", data_dir="d", output="json")
    assert rest == ["jobs", "list", "--", "--token", "x"]
    assert wrong is None
    assert split(["--token"])[2] == "--token needs a value"
    assert "xml" in str(split(["--output", "xml"])[2])


def test_sparkline() -> None:
    assert live.sparkline([]) == ""
    assert live.sparkline([1.0, 1.0]) == "▁▁"
    assert live.sparkline([3.0, 2.0, 1.0]) == "█▅▁"
    assert live.sparkline([float("nan"), 1.0, float("inf"), 0.0]) == "█▁"
    assert len(live.sparkline([1 / n for n in range(1, 500)])) == 40


def test_bar() -> None:
    assert live.bar(0.5, 4) == "━━──"
    assert live.bar(7, 2) == "━━"


def test_a_new_run_of_a_job_begins_its_curve_anew(capsys: pytest.CaptureFixture[str]) -> None:
    with live.JobView() as view:
        view.update(update("1.1.0", 1, 2, status="running"))
        again: dict[str, Any] = update("2.2.0", 1, status="running")
        again["metrics"][0]["attempt"] = 2
        view.update(again)
        assert view._losses == [1.0]
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("running") == 1, "a state is said once"


@pytest.mark.parametrize("status", ["completed", "paused"])
def test_a_state_comes_after_the_epochs_that_led_to_it(capsys: pytest.CaptureFixture[str], status: str) -> None:
    with live.JobView() as view:
        view.update(update("1.1.0", 1, status="running"))
        view.update(update("2.2.0", 2, status=status))
    said = [line.split()[0] for line in capsys.readouterr().err.splitlines()]
    assert said == ["running:", "epoch", "epoch", f"{status}:"]


def test_a_script_shows_its_own_figures_and_no_empty_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with live.JobView() as view:
        for metrics in ({"reward": 3.0}, {}):
            told = update("1.1.0", 1, status="running")
            told["metrics"][0]["metrics"] = metrics
            view.update(told)
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")] == [
        "epoch 1/2  reward 3",
    ]


async def test_who_waits_for_a_node_over_p2p_is_told_why(capsys: pytest.CaptureFixture[str]) -> None:
    class Central:
        async def watch(self, job_id: str) -> AsyncGenerator[dict[str, Any]]:
            for status, reason in (
                ("pending", "no GPU"),
                ("pending", "no GPU"),
                ("assigned", ""),
                ("pending", "later"),
            ):
                yield {"job": {"id": job_id, "status": status, "reason": reason}}

    await _until_given(Session(Options()), cast("Client", Central()), "1")
    assert capsys.readouterr().err == "pending: no GPU\n"


def test_a_narrow_terminal_shows_all_of_a_job(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wider than the terminal goes on in the next line: the status after a long name, the loss."""
    for name, value in {"FORCE_COLOR": "1", "NO_COLOR": "1", "COLUMNS": "40", "PYTHONIOENCODING": "utf-8"}.items():
        monkeypatch.setenv(name, value)
    told = update("1.1.0", 1, status="running")
    told["job"] |= {"name": "a job that was named by somebody who had time", "phase": "training"}
    with live.JobView() as view:
        view.update(told)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err).replace("\r", "").splitlines()
    assert max(map(len, lines)) <= 40
    assert "running" in "".join(lines)
    assert any(line.startswith("loss") for line in lines)


def test_cells() -> None:
    assert [show.plain(each) for each in (None, True, 0.123456, [1, 2], {"a": 1}, "a\x07")] == [
        "-",
        "yes",
        "0.1235",
        "1, 2",
        "a=1",
        "a�",
    ]
    figures = (20240.4, 9999.6, 3600.0, -123456.7, 2.5e7, 1e-5)
    assert [show.plain(each) for each in figures] == ["20240", "10000", "3600", "-123457", "2.5e+07", "1e-05"]
    assert [show.size(each) for each in (None, 5, 1024, 3 << 30)] == ["-", "5 B", "1.0 KiB", "3.0 GiB"]


def test_no_name_of_a_figure_reaches_the_terminal_as_it_is() -> None:
    """Scripts and nodes name figures as they like: an escape sequence could act on the terminal of who looks."""
    assert show.plain({"lo\x1b]0;x\x07ss": 1.5}) == "lo�]0;x�ss=1.5"


@pytest.mark.parametrize(("path", "told"), [("", True), (f"{sys.prefix}/bin", False)])
def test_the_demo_says_how_the_command_is_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, path: str, told: bool
) -> None:
    monkeypatch.setenv("PATH", path)
    _by_hand({"job": {"id": "1"}})
    assert ("bin/activate" in capsys.readouterr().out) is told


def test_certificates(tmp_path: Path) -> None:
    made = make(tmp_path / "data" / "certs", ["central.example", "10.0.0.7"], days=30)
    server = x509.load_pem_x509_certificate(Path(made["cert_file"]).read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "central.example"} <= set(names.get_values_for_type(x509.DNSName))
    assert {"127.0.0.1", "::1", "10.0.0.7"} <= {str(each) for each in names.get_values_for_type(x509.IPAddress)}
    for name in ("ca.key", "server.key"):
        assert (tmp_path / "data" / "certs" / name).stat().st_mode & 0o777 == 0o600
    for folder in (tmp_path / "data", tmp_path / "data" / "certs"):
        assert folder.stat().st_mode & 0o777 == 0o700
    ssl.create_default_context(cafile=made["ca_file"])
    before = Path(made["ca_file"]).read_bytes()
    with pytest.raises(CyxError, match="--force"):
        make(tmp_path / "data" / "certs", [], days=30)
    assert Path(made["ca_file"]).read_bytes() == before
    make(tmp_path / "data" / "certs", [], days=30, force=True)
    with pytest.raises(CyxError, match="without a port"):
        make(tmp_path / "other", ["host:1"], days=30)


def test_run_refuses_bad_settings_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = Options(data_dir=str(tmp_path))
    assert run(options, ["--set", "scheduler.max_retries=-1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: scheduler.max_retries")
    assert said.count("\n") == 1
    with pytest.raises(SystemExit) as caught:
        run(options, ["--role", "nonsense"])
    assert caught.value.code == 2


def test_run_loads_nothing_for_people() -> None:
    program = "import sys, cyxwiz.__main__, cyxwiz.cli.start, cyxwiz.config\n"
    program += "print([name for name in ('rich', 'typer', 'torch', 'yaml', 'grpc') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_figures_of_classes_are_left_out_and_a_jobs_own_are_not() -> None:
    figures = {"loss": 1.0, "f1_class_3": 0.5, "my_class_loss": 2.0, "accuracy": 0.9}
    assert list(_summary(figures)) == ["accuracy", "loss", "my_class_loss"]
