"""What moves while a person waits: a job's bar and loss curve, a transfer's bar. Plain lines without a terminal.

All of it goes to standard error, so that standard output stays what the command answers.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from cyxwiz.cli.show import plain

Json = Mapping[str, Any]
BLOCKS = "▁▂▃▄▅▆▇█"
BAR_WIDTH = 30
KNOWN = ("loss", "accuracy", "val_loss", "val_accuracy")


def sparkline(values: list[float], width: int = 40) -> str:
    """The values as blocks between their least and greatest; the mean of neighbours where there are more than fit."""
    finite = [value for value in values if value == value and abs(value) != float("inf")]
    if not finite:
        return ""
    if len(finite) > width:
        edges = [round(index * len(finite) / width) for index in range(width + 1)]
        finite = [sum(finite[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, span = min(finite), max(finite) - min(finite)
    return "".join(BLOCKS[round((value - low) / span * (len(BLOCKS) - 1)) if span else 0] for value in finite)


def bar(share: float, width: int = BAR_WIDTH) -> str:
    full = round(max(0.0, min(share, 1.0)) * width)
    return "━" * full + "─" * (width - full)


class JobView:
    """A job as its updates come in."""

    def __init__(self, *, stdout: bool = False) -> None:
        from rich.console import Console

        self._console = Console(stderr=not stdout, highlight=False, markup=False)
        self._plain = not self._console.is_terminal or "utf" not in (self._console.encoding or "").lower()
        self._file = sys.stdout if stdout else sys.stderr
        self._live: Any = None
        self._losses: list[float] = []
        self._attempt = 0
        self._said = ""
        self._job: Json = {}

    def __enter__(self) -> Self:
        if not self._plain:
            from rich.live import Live

            self._live = Live(console=self._console, auto_refresh=True, refresh_per_second=10)
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def update(self, update: Json) -> None:
        self._job = update["job"]
        goes_on = self._job["status"] in ("pending", "assigned", "running")
        if self._plain and goes_on:
            self._say_state()
        for point in update["metrics"]:
            self._add(point)
        if self._plain and not goes_on:  # it came after all that
            self._say_state()
        if self._live is not None:
            self._live.update(self._picture())

    def _add(self, point: Json) -> None:
        if point["attempt"] != self._attempt:
            self._attempt = point["attempt"]
            self._losses.clear()  # another run of the job begins its curve anew
        if not point["epoch_ended"]:
            return
        loss = point["metrics"].get("loss")
        if isinstance(loss, (int, float)):
            self._losses.append(float(loss))
        figures = "  ".join(f"{plain(name)} {value:.4g}" for name, value in _told(point["metrics"]))
        if self._plain and figures:
            print(f"epoch {point['epoch']}/{self._job['epochs']}  {figures}", file=self._file, flush=True)

    def _say_state(self) -> None:
        said = f"{self._job['status']} {self._job['phase'] or ''}".strip()
        if said != self._said:
            self._said = said
            reason = plain(self._job["reason"]) if self._job["reason"] else ""
            print(f"{said}{f': {reason}' if reason else ''}", file=self._file, flush=True)

    def _picture(self) -> Any:
        from rich.text import Text

        job, metrics = self._job, self._job["metrics"]
        colour = {"completed": "green", "failed": "red", "cancelled": "yellow"}.get(job["status"], "cyan")
        text = Text()
        text.append(f"{plain(job['name'])}  ", style="bold")
        text.append(job["status"], style=colour)
        waits = job["status"] in ("pending", "assigned") and job["reason"]
        text.append(f"  {plain(job['reason'])}" if waits else f"  {job['phase'] or ''}", style="dim")
        text.append(f"\n{bar(job['progress'])}", style=colour)
        text.append(f" {job['progress'] * 100:3.0f}%  epoch {job['current_epoch']}/{job['epochs']}")
        if self._losses:
            text.append("\nloss ", style="dim")
            text.append(sparkline(self._losses), style="magenta")
            text.append(f" {self._losses[-1]:.4g}")
        if "val_accuracy" in metrics:
            text.append("   accuracy on held-out data ", style="dim")
            text.append(f"{metrics['val_accuracy']:.4f}")
        return text


def _told(metrics: Mapping[str, float]) -> list[tuple[str, float]]:
    """The figures that a line of a training has room for: of a script that reports others, some of its own."""
    names = [name for name in KNOWN if name in metrics] or sorted(metrics)[: len(KNOWN)]
    return [(name, metrics[name]) for name in names]


@contextmanager
def transfer() -> Iterator[Callable[[str, int, int], None] | None]:
    """A bar for files on their way; nothing at all where there is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, Any] = {}

        def moved(name: str, done: int, size: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(plain(name), total=size)
            progress.update(tasks[name], completed=done)

        yield moved
