"""`preprocess`: a data set through the steps of a job, to `dataset.npz` and `pipeline.json`.

The arithmetic runs on the GPU by CuPy where the job has a CUDA device and CuPy is there, else by NumPy. The same job
with the same seed gives the same bytes on the same kind of machine. `dataset.npz` has the arrays x and y, or after a
split x_train, y_train, x_validation and so on: the names that training reads. `pipeline.json` says what each step
learned. One that is stopped halfway starts over on the next node: what it does is short, and is not saved.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cyxwiz.compute.artefacts import artefact
from cyxwiz.compute.course import Stopped
from cyxwiz.compute.orders import Orders
from cyxwiz.compute.preprocess.frame import PARTS, Frame, read_frame
from cyxwiz.compute.preprocess.steps import apply
from cyxwiz.compute.progress import Pass
from cyxwiz.compute.spool import write_npz
from cyxwiz.domain.errors import CyxError, invalid
from cyxwiz.graph import parse_pipeline, shape_after
from cyxwiz.graph.rule import show
from cyxwiz.ports.executor import Finished, Logged, Report, Work

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]


def preprocess(work: Work, send: Callable[[Report], None], orders: Orders) -> Finished:
    """Runs the job to its end. Raises `Stopped` when told to stop, CyxError for data that the steps can't act on."""
    began = time.perf_counter()
    pipeline = parse_pipeline(work.model)
    xp, backend = array_module(work.device)
    frame = read_frame(
        work.dataset_uri, xp, seed=work.seed, data_roots=work.data_roots, blob=work.dataset_path
    )  # fmt: skip
    for note in frame.notes:
        send(note)
    shape = show(tuple(frame.x.shape[1:]))
    send(Logged("info", f"preprocessing {len(frame)} rows of {shape} with {backend}: {len(pipeline)} steps"))
    steps = Pass(len(pipeline) + 1, send, orders, began)
    for number, step in enumerate(pipeline):
        if steps.stopped():
            raise Stopped
        shape_after(number, step, tuple(frame.x.shape[1:]))
        apply(frame, number, step, work.seed)
        steps.done(number + 1)
    folder = work.work_dir / "out"
    folder.mkdir(exist_ok=True)
    arrays = _arrays(frame, send)
    write_npz(folder / "dataset.npz", arrays)
    told = {
        "dataset": work.dataset_uri,
        "seed": work.seed,
        "arrays": {name: [str(array.dtype), list(array.shape)] for name, array in sorted(arrays.items())},
        "steps": frame.learned,
    }
    (folder / "pipeline.json").write_text(json.dumps(told, indent=1, sort_keys=True), encoding="utf-8")
    if steps.stopped():
        raise Stopped
    steps.done(len(pipeline) + 1)
    files = (artefact(folder / "dataset.npz"), artefact(folder / "pipeline.json"))
    return Finished(files, _metrics(frame), 1, time.perf_counter() - began)


def array_module(device: str) -> tuple[Any, str]:
    """NumPy, or CuPy for a CUDA device; and what it is in words."""
    import numpy as np

    if not device.startswith("cuda"):
        return np, "NumPy"
    if importlib.util.find_spec("cupy") is None:
        return np, "NumPy, as CuPy is not installed on this node"
    try:
        cupy: Any = importlib.import_module("cupy")
        cupy.arange(2).sum().get()  # a kernel, seen to run
    except Exception as error:  # whatever its libraries and the driver disagree on
        return np, f"NumPy, as CuPy does not work on this node ({type(error).__name__}: {str(error)[:200]})"
    return cupy, f"CuPy on {device}"


def _arrays(frame: Frame, send: Callable[[Report], None]) -> dict[str, Array]:
    """What is written: the features in the type that was asked for, and what goes with the rows, by parts."""
    import numpy as np

    x: Array = frame.x.get() if hasattr(frame.x, "get") else frame.x
    missing = int(np.isnan(x).sum())
    if missing:
        send(Logged("warning", f"{missing} values are missing still; training refuses them: impute or drop them"))
    whole = {"x": _typed(x, frame.dtype), **frame.rows}
    if frame.part is None:
        made = dict(whole)
    else:
        made = {
            f"{name}_{word}": array[frame.part == number]
            for number, word in enumerate(PARTS)
            if (frame.part == number).any()
            for name, array in whole.items()
        }
    if frame.class_names:
        made["class_names"] = np.array(frame.class_names)
    return made


def _typed(x: Array, name: str) -> Array:
    import numpy as np

    dtype = np.dtype(name)
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            made = x.astype(dtype)
        if np.isinf(made).any():
            raise _too_large(name)
        return made
    bounds = np.iinfo(dtype)
    rounded = np.rint(x)
    if np.isnan(rounded).any() or rounded.min() < bounds.min or rounded.max() > bounds.max:
        raise _too_large(name)
    return rounded.astype(dtype)


def _too_large(name: str) -> CyxError:
    return invalid(f"steps: the features don't fit {name}: values are missing or out of its range", field="steps")


def _metrics(frame: Frame) -> dict[str, float]:
    made = {"rows": float(len(frame)), "values_per_row": float(math.prod(frame.x.shape[1:]))}
    if frame.part is not None:
        made |= {f"rows_{word}": float((frame.part == number).sum()) for number, word in enumerate(PARTS)}
    return made
