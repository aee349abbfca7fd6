"""What a script sees of the job that it is: `import cyxwiz.job as job`.

On a node everything here talks to the platform. Run by hand, outside of any job, every call does nothing: `load` gives
None, `should_stop` False, and the folders are those in which the script was started.

    state = job.load() or {"step": 0}
    for step in range(state["step"], 1000):
        ...
        job.report(step + 1, {"loss": loss}, of=1000)
        if job.should_stop():
            job.save({"step": step + 1, "model": model.state_dict()})
            sys.exit(job.AGAIN)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

AGAIN = 85  # exit status: a state was saved, run me again


class Session(Protocol):
    """The platform's side, put in place by who runs the script."""

    params: Mapping[str, str]
    data_dir: Path
    out_dir: Path
    rank: int
    world: int

    def report(self, step: int, metrics: Mapping[str, float], of: int | None) -> None: ...

    def log(self, message: str, level: str) -> None: ...

    def save(self, state: Any) -> None: ...

    def load(self) -> Any: ...

    def should_stop(self) -> bool: ...


_session: Session | None = None

# As they are outside of a job. `params` has the job's hyperparameters, and epochs, batch_size and seed, as text.
params: Mapping[str, str] = {}
data_dir = Path()
out_dir = Path()
rank = 0
world = 1


def report(step: int, metrics: Mapping[str, float], of: int | None = None) -> None:
    """Tells how far the job is: `step` of `of` steps (or of the job's epochs), with figures by name.

    Raises:
        ValueError: a step that is not whole, below 0 or from 2^32 on, a figure that is no finite number, or figures by
            more than 255 names in all reports.
    """
    if _session is not None:
        _session.report(step, metrics, of)


def log(message: object, level: str = "info") -> None:
    """A line of the job's log; level is debug, info, warning or error. What is printed is logged as well."""
    if _session is not None:
        _session.log(str(message), level)


def save(state: Any) -> None:
    """Saves a state to go on from: dicts, lists, tuples, text, bytes, numbers, None, tensors and NumPy arrays.

    A single number of NumPy comes back as Python's. Returns when it is durable on this machine; it is uploaded while
    the script goes on.

    Raises:
        TypeError: something else is in it, such as an object of a class: what is loaded may run no code.
        ValueError: more tensors and arrays (about a million) than one file has room for.
    """
    if _session is not None:
        _session.save(state)


def load() -> Any:
    """The state last saved, on whichever machine; None at the first start."""
    return _session.load() if _session is not None else None


def should_stop() -> bool:
    """Whether to save and exit with `AGAIN` soon: paused, preempted, or the machine is wanted back."""
    return _session.should_stop() if _session is not None else False


def enter(session: Session) -> None:
    """For who runs scripts: makes `session` what this module talks to."""
    global _session, params, data_dir, out_dir, rank, world
    _session = session
    params, data_dir, out_dir = session.params, session.data_dir, session.out_dir
    rank, world = session.rank, session.world
