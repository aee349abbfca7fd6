"""`evaluate`: a trained model on a data set: how good it is, as figures and as `evaluation.json`.

One that is stopped halfway starts over on the next node: what it does is short, and is not saved.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cyxwiz.compute.artefacts import artefact
from cyxwiz.compute.asked import (
    Asked,
    are_probabilities,
    builds_itself,
    check_arrays,
    chosen_classes,
    read_asked,
    rows_at_once,
)
from cyxwiz.compute.course import Stopped
from cyxwiz.compute.data.columns import TRAINING, Columns
from cyxwiz.compute.data.dataset import Dataset
from cyxwiz.compute.datasets import load
from cyxwiz.compute.devices import device_of
from cyxwiz.compute.optim import loss_function
from cyxwiz.compute.orders import Orders
from cyxwiz.compute.progress import Pass
from cyxwiz.compute.samples import CLASS_LOSSES, drawn_rows, targets_of
from cyxwiz.compute.scores import ClassScores, NumberScores
from cyxwiz.domain.errors import invalid
from cyxwiz.graph import Evaluation, Part, default_loss, parse_evaluation, reads_numbers
from cyxwiz.ports.executor import Finished, Logged, Report, Work

if TYPE_CHECKING:
    from torch import Tensor
    from torch import device as Device

NAME = "evaluation.json"


def evaluate(work: Work, send: Callable[[Report], None], orders: Orders) -> Finished:
    """Runs the job to its end. Raises `Stopped` when told to stop, CyxError for what can't be evaluated."""
    import torch

    began = time.perf_counter()
    asked = parse_evaluation(work.hyperparameters)
    assert work.weights is not None
    torch.set_num_threads(max(1, work.threads))
    device = device_of(work.device)
    model, dataset = _open(work, device, asked)
    for note in dataset.notes:
        send(note)
    made = _made(model, dataset)
    if dataset.label_shape and not (len(made) > 1 and made[:-1] == dataset.label_shape):
        dataset = dataset.as_targets()  # it gives no scores of classes for every step
    if reads_numbers(model.loss or asked.loss or "", dataset.shape, made):
        dataset = dataset.as_targets()
    rows = _rows(dataset, asked, work.seed)  # before the labels change: they are drawn as in training
    dataset = _as_named(dataset, model.class_names)
    loss = asked.loss or model.loss or default_loss(dataset.classes)
    if dataset.classes is None and loss in CLASS_LOSSES:
        raise invalid(f"The loss {loss} needs classes, the dataset {work.dataset_uri} has numbers to predict.")
    count = len(dataset.features) if rows is None else len(rows)
    send(Logged("info", f"evaluating a {model.kind} model on {device} with {loss}: {count} samples"))
    document = _run(model, dataset, rows, loss, work, Pass(count, send, orders, began))
    metrics = document["metrics"]
    folder = work.work_dir / "out"
    folder.mkdir(exist_ok=True)
    path = folder / NAME
    path.write_text(json.dumps(document, indent=1, sort_keys=True), encoding="utf-8")
    return Finished((artefact(path),), metrics, 1, time.perf_counter() - began)


def _open(work: Work, device: Device, asked: Evaluation) -> tuple[Asked, Dataset]:
    """The model and the data, the model first where its file says what it is: it knows the columns that it reads."""
    assert work.weights is not None

    def data(wanted: Columns, loss: str) -> Dataset:
        return load(
            work.dataset_uri,
            seed=work.seed,
            data_roots=work.data_roots,
            blob=work.dataset_path,
            wanted=wanted,
            loss=loss or asked.loss or "",
            least=1,
        )

    if work.model and not builds_itself(work.weights):
        dataset = data(TRAINING, "")
        model = read_asked(work.weights, work.model, _shapes(dataset), device, work.threads)
    else:
        model = read_asked(work.weights, work.model, {}, device, work.threads)
        dataset = data(model.columns, model.loss)
    check_arrays(model, _shapes(dataset), work.dataset_uri)
    return model, dataset


def _shapes(dataset: Dataset) -> dict[str, tuple[int, ...]]:
    return {**dataset.shape.fields, "x": dataset.shape.features}


def _made(model: Asked, dataset: Dataset) -> tuple[int, ...]:
    """The shape of what the model gives for a sample."""
    one = {name: array[:1] for name, array in {**dataset.fields, "x": dataset.features}.items()}
    return tuple(model.scores(one, dataset.divisor).shape[1:])


def _as_named(dataset: Dataset, names: tuple[str, ...]) -> Dataset:
    """With the model's numbers for classes that both name: a data set numbers those that occur in it.

    Raises:
        CyxError: INVALID for a class that the model has never seen.
    """
    import numpy as np

    if not names or not dataset.class_names or dataset.class_names == names:
        return dataset
    if unknown := [name for name in dataset.class_names if name not in names]:
        raise invalid(
            f"The dataset {dataset.uri} has the class {unknown[0][:100]!r}, the model {', '.join(names)[:200]}.",
            uri=dataset.uri,
        )
    numbers = np.array([names.index(name) for name in dataset.class_names])
    return replace(dataset, labels=numbers[dataset.labels], classes=max(2, len(names)), class_names=names)


def _rows(dataset: Dataset, asked: Evaluation, seed: int) -> Tensor | None:
    """Which samples are looked at; None for all of them."""
    if asked.rows == "all":
        return None
    _, held_out, test = drawn_rows(dataset, (asked.validation_split, asked.test_split), seed)
    rows, split = (test, "test_split") if asked.rows == "test" else (held_out, "validation_split")
    if not len(rows):
        raise invalid(f"rows: nothing is held out: {split} is 0, or the data set too small", field="rows")
    return rows


def _run(model: Asked, dataset: Dataset, rows: Tensor | None, loss: str, work: Work, steps: Pass) -> dict[str, Any]:
    import numpy as np
    import torch

    every = {**dataset.fields, "x": dataset.features}
    size = rows_at_once(work.batch_size, {name: tuple(array.shape[1:]) for name, array in every.items()})
    picked = None if rows is None else rows.numpy()
    labels = dataset.labels if picked is None else dataset.labels[picked]
    scores: ClassScores | None = None
    numbers = None if dataset.classes is not None else NumberScores(labels)
    loss_of = _loss(loss, model)
    total, count = 0.0, len(labels)
    for start in range(0, count, size):
        if steps.stopped():
            raise Stopped
        stop = min(count, start + size)
        index: Any = slice(start, stop) if picked is None else picked[start:stop]
        part = {name: np.ascontiguousarray(array[index]) for name, array in every.items()}
        made = model.scores(part, dataset.divisor)
        known = torch.from_numpy(np.ascontiguousarray(labels[start:stop])).to(made.device)
        _check_width(made, dataset, work.dataset_uri)
        wanted = targets_of(known, dataset.classes, loss, math.prod(made.shape[1:]))
        total += float(loss_of(made, wanted)) * (stop - start)
        if numbers is not None:
            numbers.add(labels[start:stop], made.cpu().numpy())
        else:
            scores = scores or ClassScores(max(dataset.classes or 0, 2, made.shape[-1]))
            scores.add(labels[start:stop], chosen_classes(made, loss).cpu().numpy())
        steps.done(stop)
    if not math.isfinite(total):
        raise invalid("The model's loss on these data is no number: its weights or its outputs are not finite.")
    counted = numbers if numbers is not None else scores
    assert counted is not None
    metrics = {"loss": total / count, **counted.metrics(), "samples": float(count)}
    of_what: Mapping[str, Any] = (
        counted.document(dataset.class_names or model.class_names)
        if isinstance(counted, ClassScores)
        else counted.document()
    )
    return {
        "dataset": work.dataset_uri,
        "samples": count,
        "loss": loss,
        "model": model.kind,
        "metrics": metrics,
        **of_what,
    }


def _check_width(made: Tensor, dataset: Dataset, uri: str) -> None:
    """The outputs against what the labels need."""
    width = made.shape[-1] if dataset.label_shape else math.prod(made.shape[1:])
    if dataset.classes is None:
        fits, wanted = width == dataset.shape.targets, str(dataset.shape.targets)
    elif dataset.classes <= 2:
        fits, wanted = True, "1 or more"
    else:
        fits, wanted = width >= dataset.classes, f"at least {dataset.classes}"
    if not fits:
        hint = " Name a loss such as MSELoss if it predicts numbers." if width == 1 and dataset.classes else ""
        raise invalid(
            f"The model has {width} outputs, the dataset {uri} needs {wanted}.{hint}", expected=wanted, got=width
        )


def _loss(name: str, model: Asked) -> Callable[[Tensor, Tensor], Tensor]:
    """The mean over a batch. Where a program already gives probabilities, the loss on classes reads their logarithm."""
    from cyxwiz.graph.catalogue import BY_NAME, read_params

    part = model.loss_part(name) or Part(name, read_params(BY_NAME[name], "loss", {})[0])
    plain = loss_function(part)
    if model.kind != "onnx" or name not in CLASS_LOSSES:
        return plain

    def on_probabilities(outputs: Tensor, labels: Tensor) -> Tensor:
        return plain(outputs.clamp(min=1e-12).log() if are_probabilities(outputs) else outputs, labels)

    return on_probabilities
