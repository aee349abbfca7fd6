"""Runs hostile code where a job's child runs: for the tests alone, the product has no such door.

`attack` runs a program in a cell, after it has confined itself as a child does. The children of a `liar` run a program
that speaks the protocol and does something else than its job.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cyxwiz.compute.executor import ProcessExecutor
from cyxwiz.compute.sandbox import choose
from cyxwiz.compute.sandbox.sandbox import Bounds, Cell, Needs, Sandbox
from cyxwiz.config import ConfigError
from cyxwiz.ports.executor import Report, Work
from tests.missing import missing

MODES = ("bubblewrap", "rlimits")  # "none" is the control: there every attack must succeed
MLP = json.dumps({"layers": [{"type": "dense", "units": 16}, {"type": "relu"}, {"type": "dense", "units": 10}]})
SMALL = Bounds(processes=64, disk_bytes=32 << 20, tmp_bytes=256 << 20)

HOOK = """
from cyxwiz.compute.sandbox.confine import confine
confine()
import contextlib, ctypes, errno, json, mmap, os, signal, socket, subprocess, sys, time

def breach(what=""):
    print("BREACH", what, flush=True)

def listed(path):
    try:
        return os.listdir(path)
    except OSError:
        return []

def tried(call, *args):
    # Whether a call goes through.
    try:
        call(*args)
        return True
    except OSError as error:
        print(call, args, error)
        return False
"""
_LIAR = """
from cyxwiz.compute.child_protocol import encode, read_frame
channel = socket.socket(fileno=int(sys.argv[-1]))
job = read_frame(channel)["work"]
channel.sendall(encode("started", {"pid": os.getpid()}))
os.chdir(job["work_dir"])

def finish(name, path, size, times=1, more=[]):
    file = {"name": name, "path": str(path), "sha256": "", "size": size}
    end = {"artefacts": [file] * times + more, "final_metrics": {}, "epochs_completed": 1, "compute_seconds": 0}
    channel.sendall(encode("finished", end))
"""


@contextmanager
def sandboxed(mode: str, folder: Path, **options: Any) -> Iterator[Sandbox]:
    """The sandbox of that mode; where it does not work, the test is told as not run."""
    try:
        made = choose.choose(mode, folder / "sandbox", allow_unsafe=True, **{"bounds": SMALL, **options})
    except ConfigError as error:
        missing(f"sandbox {mode}: {str(error)[:150]}")
    try:
        yield made
    finally:
        made.close()


def attack(sandbox: Sandbox, code: str, *arguments: object, needs: Needs | None = None) -> list[str]:
    """What the attack breached. It must run to its end."""
    given = [json.dumps(argument, default=str) for argument in arguments]
    program = f"{HOOK}args = [json.loads(each) for each in sys.argv[1:]]\n{code}"
    status, out, error = choose.run(sandbox, ["-P", "-c", program, *given], needs, 60.0)
    assert status == 0, f"the attack itself broke: {status} {out} {error}"
    return [line.removeprefix("BREACH").strip() for line in out.splitlines() if line.startswith("BREACH")]


def breaches(mode: str, folder: Path, code: str, *arguments: object) -> list[str]:
    with sandboxed(mode, folder) as sandbox:
        return attack(sandbox, code, *arguments)


class Lying(Sandbox):
    """Its children run `code` instead of a job."""

    code = ""

    def start(
        self, arguments: Sequence[str], needs: Needs, *, pass_fds: Sequence[int] = (), python: str | None = None
    ) -> Cell:
        lie = ["-P", "-c", HOOK + _LIAR + self.code, arguments[-1]]
        return super().start(lie, needs, pass_fds=pass_fds, python=python)


def liar(sandbox: Sandbox, code: str) -> Lying:
    """A sandbox like this one, which must be closed by now, for an executor whose children lie."""
    made = Lying(sandbox.mode, sandbox.folder, sandbox.program, bounds=sandbox.bounds)
    made.code = code
    return made


def job(folder: Path, **changes: Any) -> Work:
    fields: dict[str, Any] = {
        "job_id": "job", "job_type": "training", "model": MLP, "dataset_uri": "builtin:digits", "hyperparameters": {},
        "epochs": 2, "batch_size": 64, "seed": 0, "device": "cpu", "threads": 1, "work_dir": folder / "job",
    }  # fmt: skip
    return Work(**{**fields, **changes})


async def reports(executor: ProcessExecutor, work: Work) -> list[Report]:
    run = await executor.start(work)
    return [report async for report in run.reports()]
