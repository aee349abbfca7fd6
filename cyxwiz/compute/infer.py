"""`infer`: a trained model's answers to every row of a data set, as one file in the rows' order.

Rows go in and answers go out batch by batch; memory does not grow with them. A checkpoint holds the answers so far: the
run that goes on from one asks for the rest, so each row is answered once, whatever happened in between.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cyxwiz.compute import checkpoint
from cyxwiz.compute.artefacts import artefact
from cyxwiz.compute.asked import Asked, builds_itself, check_arrays, gives_classes, read_asked, rows_at_once
from cyxwiz.compute.course import Stopped
from cyxwiz.compute.data.columns import TRAINING, Columns
from cyxwiz.compute.data.rows import Rows, open_rows
from cyxwiz.compute.devices import device_of
from cyxwiz.compute.orders import Orders
from cyxwiz.compute.progress import Pass
from cyxwiz.compute.spool import Spool, write_answers
from cyxwiz.domain.checkpoint import Unit, parse_every
from cyxwiz.domain.errors import invalid
from cyxwiz.graph import parse_inference
from cyxwiz.ports.executor import Checkpointed, Finished, Logged, Report, Work

if TYPE_CHECKING:
    from torch import device as Device


def infer(work: Work, send: Callable[[Report], None], orders: Orders) -> Finished:
    """Runs the job to its end. Raises `Stopped` when told to stop, CyxError for what can't be asked."""
    import torch

    began = time.perf_counter()
    asked = parse_inference(work.hyperparameters)
    torch.set_num_threads(max(1, work.threads))
    device = device_of(work.device)
    model, rows = _open(work, device)
    for note in rows.notes:
        send(note)
    with contextlib.closing(Spool(work.work_dir / "answers.bin", _fingerprint(work))) as spool:
        if work.resume is not None:
            spool.load(work.resume)
            send(Logged("info", f"going on after row {spool.count}"))
        send(Logged("info", f"asking a {model.kind} model on {device}: {len(rows)} rows"))
        done = spool.count
        _ask(work, model, rows, spool, Pass(len(rows), send, orders, began, done), send)
        folder = work.work_dir / "out"
        folder.mkdir(exist_ok=True)
        path = folder / f"predictions.{asked.output}"
        divide = 0.0 if model.loss == "BCEWithLogits" else 0.5
        write_answers(spool, path, gives_classes(model, asked.classes), model.class_names, divide)
        seconds = time.perf_counter() - began
        figures = {"rows": float(spool.count), "samples_per_second": (spool.count - done) / max(seconds, 1e-9)}
    return Finished((artefact(path),), figures, 1, seconds)


def _open(work: Work, device: Device) -> tuple[Asked, Rows]:
    """The model and the rows. Tables need the model first, which says what columns it reads; a model whose file has no
    definition needs the rows first."""
    assert work.weights is not None
    folder = work.work_dir / "rows"

    def rows(columns: Columns, width: int | None) -> Rows:
        return open_rows(
            work.dataset_uri,
            folder,
            wanted=replace(columns, labels=False, width=width),
            seed=work.seed,
            data_roots=work.data_roots,
            blob=work.dataset_path,
        )

    if work.model and not builds_itself(work.weights):
        found = rows(TRAINING, None)
        model = read_asked(work.weights, work.model, found.shapes(), device, work.threads)
    else:
        model = read_asked(work.weights, work.model, {}, device, work.threads)
        shape = model.shapes.get("x", ())
        found = rows(model.columns, None if None in shape else math.prod(size or 1 for size in shape))
    check_arrays(model, found.shapes(), work.dataset_uri)
    return model, found


def _fingerprint(work: Work) -> str:
    assert work.weights is not None
    hyperparameters = json.dumps(dict(work.hyperparameters), sort_keys=True)
    digest = artefact(work.weights).sha256
    return checkpoint.fingerprint("inference", work.model, digest, work.dataset_uri, work.seed, hyperparameters)


def _ask(work: Work, model: Asked, rows: Rows, spool: Spool, steps: Pass, send: Callable[[Report], None]) -> None:
    import numpy as np

    size = rows_at_once(work.batch_size, rows.shapes())
    every = parse_every(work.checkpoint_every)
    saved_at, saved_batch, batch = time.perf_counter(), 0, 0
    if spool.count > len(rows):
        raise invalid(f"The checkpoint has {spool.count} rows, the dataset {work.dataset_uri} {len(rows)}.")
    while spool.count < len(rows):
        if steps.stopped():
            _save(work, spool, len(rows), send)
            raise Stopped
        stop = min(len(rows), spool.count + size)
        answers = model.answers(model.scores(rows.take(spool.count, stop), rows.divisor))
        made: Any = answers.float().cpu().numpy()
        spool.append(np.ascontiguousarray(made, dtype=np.float32))
        batch += 1
        steps.done(spool.count)
        now = time.perf_counter()
        late = every.unit is Unit.SECOND and now - saved_at >= every.count
        many = every.unit is Unit.STEP and batch - saved_batch >= every.count
        if (late or many) and spool.count < len(rows):
            _save(work, spool, len(rows), send)
            saved_at, saved_batch = time.perf_counter(), batch


def _save(work: Work, spool: Spool, total: int, send: Callable[[Report], None]) -> None:
    folder = work.work_dir / "checkpoints"
    file = spool.save(folder / f"row-{spool.count:012d}.safetensors")
    for older in sorted(folder.glob("*.safetensors"))[:-2]:
        older.unlink()  # the node has it, or has a newer one
    step = min(spool.count, 2**32 - 1)
    send(Checkpointed((file,), 1, 0, step, spool.count / total, max(1, work.threads)))
