"""`train`: one training job, for real, in this process.

Every sample of every epoch is used, with the optimizer, loss and seed that the job names; the same seed on the same
number of CPU threads gives the same curve and the same model file, bit by bit. A share of the data (stratified by
class) is held out for validation. Features are scaled by a Normalize node if the graph has one, else as the dataset
asks; what was done is written into the model file beside the definition, so that who predicts can do the same.

Checkpoints are taken between two steps. A job that goes on from one takes the steps that it would have taken anyhow.

Refuses what cannot train with CyxError, also a loss that is no longer a number, and raises `Stopped` when told to stop.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cyxwiz.compute import checkpoint
from cyxwiz.compute.build import build
from cyxwiz.compute.checkpoint import Place, Saver, State
from cyxwiz.compute.datasets import Dataset, load
from cyxwiz.compute.optim import loss_function, make_optimizer
from cyxwiz.compute.orders import Orders
from cyxwiz.compute.tensors import write_tensors
from cyxwiz.domain.checkpoint import parse_every
from cyxwiz.domain.errors import Code, CyxError, invalid, unsupported
from cyxwiz.graph import (
    Graph,
    Hyperparameters,
    Part,
    check_fits,
    default_loss,
    infer,
    parse,
    parse_hyperparameters,
    skipped_softmax,
)
from cyxwiz.ports.executor import Artefact, Finished, FirstStep, Logged, Progressed, Report, Work

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

REPORT_SECONDS = 0.5
DEFAULT_BATCH = 32
_VALIDATION_BATCH = 4096
_FLUSH_BATCHES = 256
_CLASS_LOSSES = ("CrossEntropyLoss", "NLLLoss")

Send = Callable[[Report], None]


class Stopped(Exception):
    """The job was told to stop; if it was preempted, after a checkpoint."""


@dataclass(slots=True)
class _Data:
    """One part of the data on its device: what goes in, what the loss compares with, what accuracy compares with."""

    x: Tensor
    y: Tensor
    labels: Tensor | None  # None for a regression

    def __len__(self) -> int:
        return len(self.x)


@dataclass(slots=True)
class _Plan:
    """Everything that is settled before the first step."""

    work: Work
    graph: Graph
    hyper: Hyperparameters
    loss: Part
    device: torch.device
    model: nn.Module
    train: _Data
    held_out: _Data
    scaling: dict[str, object]
    batch: int
    threads: int
    resumed: State | None


def _fingerprint(work: Work) -> str:
    hyperparameters = json.dumps(dict(work.hyperparameters), sort_keys=True)
    return checkpoint.fingerprint(work.model, work.dataset_uri, work.seed, work.batch_size, hyperparameters)


def train(work: Work, send: Send, orders: Orders) -> Finished:
    """Runs the job to its end and gives its outcome; reports on the way through `send`."""
    began = time.perf_counter()
    plan = _prepare(work, send)
    course = _Course(plan, send, orders, began)
    for epoch in range(course.first_epoch, work.epochs + 1):
        course.run_epoch(epoch)
    course.saver.finish()
    artefact = _save(plan)
    return Finished((artefact,), course.final_metrics(), work.epochs, time.perf_counter() - began)


def _prepare(work: Work, send: Send) -> _Plan:
    import torch

    if work.job_type.lower() != "training":
        raise unsupported(f"Jobs of type {work.job_type} cannot be run yet; supported: training.", type=work.job_type)
    if work.epochs < 1:
        raise invalid(f"epochs is {work.epochs}; it must be at least 1.", epochs=work.epochs)
    graph = parse(work.model)
    hyper = parse_hyperparameters(work.hyperparameters, graph)
    unknown = [f"The hyperparameter {key} is unknown and has no effect" for key in hyper.extra]
    for note in (*graph.notes, *hyper.notes, *unknown):
        send(Logged("warning", note))
    device = _device(work.device)
    resumed = checkpoint.read(work.resume, _fingerprint(work)) if work.resume is not None else None
    # Sums depend on how many threads take part: who goes on takes as many as who began.
    threads = resumed.threads if resumed is not None and device.type == "cpu" else max(1, work.threads)
    torch.set_num_threads(threads)
    dataset = load(work.dataset_uri, seed=work.seed, data_roots=work.data_roots, blob=work.dataset_path)
    loss = hyper.loss or Part(default_loss(dataset.classes))
    check_fits(graph, dataset.shape, work.dataset_uri, loss.type)
    torch.manual_seed(work.seed)
    model = build(graph, dataset.shape.features, loss.type).to(device)
    train_part, held_out, scaling = _parts(dataset, graph, hyper, loss.type, work.seed, device)
    batch = work.batch_size if work.batch_size > 0 else graph.batch_size or DEFAULT_BATCH
    weights = sum(parameter.numel() for parameter in model.parameters())
    send(
        Logged(
            "info",
            f"training {weights} parameters on {device} with {hyper.optimizer} and {loss.type}: "
            f"{len(train_part)} samples, {len(held_out)} held out",
        )
    )
    return _Plan(work, graph, hyper, loss, device, model, train_part, held_out, scaling, batch, threads, resumed)


def _device(name: str) -> torch.device:
    import torch

    if name.startswith("cuda") and not torch.cuda.is_available():
        raise CyxError(Code.UNAVAILABLE, f"The device {name} is not usable: this PyTorch sees no CUDA device.")
    if name.startswith("cuda"):
        torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device(name)


# --- data


def _parts(
    dataset: Dataset, graph: Graph, hyper: Hyperparameters, loss: str, seed: int, device: torch.device
) -> tuple[_Data, _Data, dict[str, object]]:
    import torch

    x, labels = torch.from_numpy(dataset.features), torch.from_numpy(dataset.labels)
    groups = labels if dataset.classes is not None else torch.zeros(len(x), dtype=torch.int64)
    kept, held_out = _split(groups, hyper.validation_split, seed)
    x, scaling = _scale(x, kept, graph, dataset.standardize)
    width = infer(graph, dataset.shape.features)[graph.last.id]
    scaling["divisor"] = dataset.divisor
    y = _targets(labels, dataset.classes, loss, width)

    def part(index: Tensor) -> _Data:
        shown = labels[index].to(device) if dataset.classes is not None else None
        return _Data(x[index].to(device), y[index].to(device), shown)

    return part(kept), part(held_out), scaling


def _split(groups: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices to train on and to hold out, drawn by the seed, with the same share of every group."""
    import torch

    shuffled = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed))
    order = shuffled[groups[shuffled].argsort(stable=True)]
    counts = groups.bincount()
    # A group keeps at least one sample to train on, however small it is.
    wanted = torch.minimum((counts * share + 0.5).floor().long(), (counts - 1).clamp(min=0))
    rank = torch.arange(len(groups)) - (counts.cumsum(0) - counts)[groups[order]]
    out = rank < wanted[groups[order]]
    return order[~out].sort().values, order[out].sort().values


def _scale(x: Tensor, kept: Tensor, graph: Graph, standardize: bool) -> tuple[Tensor, dict[str, object]]:
    if graph.normalize is not None:
        mean, std = graph.normalize
        return (x - mean) / std, {"mean": mean, "std": std}
    if not standardize:
        return x, {}
    known = x[kept].double()
    means, stds = known.mean(0), known.std(0, correction=0)
    stds[stds == 0] = 1.0  # a constant column carries nothing, and must not divide by nothing
    return ((x - means) / stds).float(), {"mean": means.tolist(), "std": stds.tolist()}


def _targets(labels: Tensor, classes: int | None, loss: str, output: tuple[int, ...]) -> Tensor:
    """What the loss compares the outputs with: class numbers, one column per class, or the numbers to predict."""
    from torch.nn import functional

    if classes is None or loss in _CLASS_LOSSES:
        return labels
    width = 1
    for size in output:
        width *= size
    return labels.float().unsqueeze(1) if width == 1 else functional.one_hot(labels, width).float()


# --- the course of training


class _Course:
    """The epochs of one job. The inner loop reads nothing back from the device except for a report."""

    def __init__(self, plan: _Plan, send: Send, orders: Orders, began: float) -> None:
        import torch

        self._plan, self._send, self._orders, self._began = plan, send, orders, began
        self._loss = loss_function(plan.loss)
        self._optimizer = make_optimizer(plan.hyper, plan.model)
        self._shuffle = torch.Generator().manual_seed(plan.work.seed)
        self._batches = -(-len(plan.train) // plan.batch)
        self._reported = time.perf_counter()
        self._metrics: dict[str, float] = {}
        self._trained_seconds = 0.0
        self._step = 0
        self._stepped = False  # in this run
        self._inside: dict[str, Any] | None = None  # figures of the epoch that a checkpoint was taken in
        self._shuffle_before = self._shuffle.get_state()  # as it was when the epoch began
        self.first_epoch = 1
        self.saver = Saver(
            plan.work.work_dir / "checkpoints", _fingerprint(plan.work), parse_every(plan.work.checkpoint_every), send
        )
        if plan.resumed is not None:
            self._restore(plan.resumed)

    def _restore(self, state: State) -> None:
        import torch

        checkpoint.restore(state, self._plan.model, self._optimizer)
        random, figures, place = checkpoint.generators(state), state.figures, state.place
        torch.set_rng_state(random["cpu"])
        if self._plan.device.type == "cuda" and "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"], self._plan.device)
        self._shuffle.set_state(random["shuffle"])
        self._metrics, self._trained_seconds = dict(figures["metrics"]), float(figures["trained_seconds"])
        self._step, self.first_epoch = place.step, place.epoch
        self._inside = {**figures["inside"], "batch": place.batch} if place.batch else None
        self.saver.resumed(place)
        self._send(Logged("info", f"going on from a checkpoint: epoch {place.epoch}, step {place.step}"))

    def _save(self, epoch: int, batch: int, inside: dict[str, Any], *, wait: bool = False) -> None:
        """`inside`: what was counted of the epoch so far. The generators are those of now, but for the sampler's, which
        draws the same order again."""
        import torch

        plan = self._plan
        batches = (epoch - 1) * self._batches + batch
        place = Place(epoch, batch, self._step, batches / (self._batches * plan.work.epochs))

        def take() -> State:
            random = {"cpu": torch.get_rng_state(), "shuffle": self._shuffle_before}
            if plan.device.type == "cuda":
                random["cuda"] = torch.cuda.get_rng_state(plan.device)
            figures = {"metrics": self._metrics, "trained_seconds": self._trained_seconds, "inside": inside}
            return checkpoint.snapshot(place, plan.threads, plan.model, self._optimizer, random, figures)

        self.saver.save(take, wait=wait)

    def run_epoch(self, epoch: int) -> None:
        plan, started = self._plan, time.perf_counter()
        tally = _Tally(plan.train.labels, _accuracy_rule(plan.loss.type))
        inside, self._inside = self._inside, None
        if inside is not None:
            started -= float(inside["seconds"])
        self._train_epoch(epoch, tally, inside, started)
        loss = self._finite(tally.loss(), epoch, "loss")
        seconds = max(time.perf_counter() - started, 1e-9)
        self._trained_seconds += seconds
        metrics = {"loss": loss, "learning_rate": float(self._optimizer.param_groups[0]["lr"])}
        metrics["samples_per_second"] = len(plan.train) / seconds
        if plan.train.labels is not None:
            metrics["accuracy"] = tally.accuracy()
        if len(plan.held_out):
            metrics |= self._validate(epoch)
        self._metrics = metrics
        self._report(epoch, self._batches, metrics, ended=True)
        self._shuffle_before = self._shuffle.get_state()
        now = time.perf_counter()
        if epoch < plan.work.epochs and (
            self.saver.due_after(epoch) or now >= self.saver.next_time or self._step >= self.saver.next_step
        ):
            self._save(epoch + 1, 0, {})

    def _train_epoch(self, epoch: int, tally: _Tally, inside: dict[str, Any] | None, started: float) -> None:
        import torch

        plan, loss_of, orders, saver = self._plan, self._loss, self._orders, self.saver
        model, optimizer = plan.model, self._optimizer
        x, y = plan.train.x, plan.train.y
        shuffled = torch.randperm(len(x), generator=self._shuffle) if plan.hyper.shuffle else torch.arange(len(x))
        order = shuffled.to(plan.device)
        model.train()
        tally.begin(order)
        batches = order.split(plan.batch)
        done = 0
        if inside is not None:
            done = int(inside["batch"])
            tally.resume(inside, sum(len(index) for index in batches[:done]))
        for batch, index in enumerate(batches[done:], start=done + 1):
            optimizer.zero_grad(set_to_none=True)
            outputs = model(x.index_select(0, index))
            loss = loss_of(outputs, y.index_select(0, index))
            loss.backward()
            optimizer.step()
            tally.add(loss, outputs)
            self._step += 1
            if not self._stepped:
                self._stepped = True
                self._send(FirstStep())
            now = time.perf_counter()
            if orders.given or (batch < self._batches and (now >= saver.next_time or self._step >= saver.next_step)):
                self._attend(epoch, batch, tally, now - started)
            if now - self._reported >= REPORT_SECONDS and batch < self._batches:
                metrics = {"loss": self._finite(tally.loss(), epoch, "loss")}
                self._report(epoch, batch, metrics, ended=False)

    def _attend(self, epoch: int, batch: int, tally: _Tally, seconds: float) -> None:
        """A checkpoint is due, or an order was given."""
        if self._orders.cancelled:
            raise Stopped
        inside = {**tally.figures(), "seconds": seconds}
        self._finite(tally.loss(), epoch, "loss")  # what has diverged is not worth keeping
        self._save(epoch, batch, inside, wait=self._orders.preempted)
        if self._orders.preempted:
            raise Stopped

    def _validate(self, epoch: int) -> dict[str, float]:
        import torch

        plan = self._plan
        data = plan.held_out
        tally = _Tally(data.labels, _accuracy_rule(plan.loss.type))
        order = torch.arange(len(data), device=plan.device)
        tally.begin(order)
        plan.model.eval()
        with torch.inference_mode():
            for index in order.split(_VALIDATION_BATCH):
                if self._orders.cancelled:
                    raise Stopped
                outputs = plan.model(data.x.index_select(0, index))
                tally.add(self._loss(outputs, data.y.index_select(0, index)), outputs)
        metrics = {"val_loss": self._finite(tally.loss(), epoch, "validation loss")}
        if data.labels is not None:
            metrics["val_accuracy"] = tally.accuracy()
        return metrics

    def _finite(self, value: float, epoch: int, name: str) -> float:
        if value - value != 0:  # NaN or infinite
            rate = self._plan.hyper.learning_rate
            raise invalid(
                f"Training diverged at epoch {epoch}: the {name} is {value}; lower the learning rate (now {rate:g}).",
                epoch=epoch,
                learning_rate=rate,
            )
        return value

    def _report(self, epoch: int, batch: int, metrics: dict[str, float], *, ended: bool) -> None:
        self._reported = now = time.perf_counter()
        epochs = self._plan.work.epochs
        progress = 1.0 if ended and epoch == epochs else ((epoch - 1) + batch / self._batches) / epochs
        elapsed = now - self._began
        remaining = elapsed * (1 - progress) / progress
        self._send(
            Progressed(epoch, epochs, batch, self._batches, progress, metrics, elapsed, remaining, epoch_ended=ended)
        )

    def final_metrics(self) -> dict[str, float]:
        """The last epoch's, with the speed over all epochs."""
        samples = len(self._plan.train) * self._plan.work.epochs
        return {**self._metrics, "samples_per_second": samples / self._trained_seconds}


class _Tally:
    """Loss and accuracy of a pass. Outputs are kept and counted many batches at a time: two list appends per batch are
    all that the loop pays."""

    def __init__(self, labels: Tensor | None, predict: Callable[[Tensor], Tensor]) -> None:
        self._labels, self._predict = labels, predict
        self._losses: list[Tensor] = []
        self._outputs: list[Tensor] = []
        self._loss_sum: Tensor | float = 0.0
        self._right: Tensor | int = 0
        self._seen = 0

    def begin(self, order: Tensor) -> None:
        self._order = order

    def resume(self, figures: dict[str, Any], seen: int) -> None:
        """Goes on counting after the first `seen` samples."""
        self._loss_sum, self._right, self._seen = float(figures["loss_sum"]), int(figures["right"]), seen

    def figures(self) -> dict[str, Any]:
        self._count()
        return {"loss_sum": float(self._loss_sum), "right": int(self._right)}

    def add(self, loss: Tensor, outputs: Tensor) -> None:
        self._losses.append(loss.detach())
        self._outputs.append(outputs.detach())
        if len(self._losses) >= _FLUSH_BATCHES:
            self._count()

    def _count(self) -> None:
        import torch

        if not self._losses:
            return
        sizes = torch.tensor([len(outputs) for outputs in self._outputs], dtype=torch.float64)
        losses = torch.stack(self._losses)
        self._loss_sum = self._loss_sum + (losses.double() * sizes.to(losses.device)).sum()
        seen = self._seen + int(sizes.sum())
        if self._labels is not None:
            labels = self._labels.index_select(0, self._order[self._seen : seen])
            self._right = self._right + (self._predict(torch.cat(self._outputs)) == labels).sum()
        self._seen = seen
        self._losses.clear()
        self._outputs.clear()

    def loss(self) -> float:
        self._count()
        return float(self._loss_sum) / max(1, self._seen)

    def accuracy(self) -> float:
        self._count()
        return float(self._right) / max(1, self._seen)


def _accuracy_rule(loss: str) -> Callable[[Tensor], Tensor]:
    """From outputs to class numbers. One output stands for the second of two classes."""
    threshold = 0.0 if loss == "BCEWithLogits" else 0.5

    def predict(outputs: Tensor) -> Tensor:
        return (outputs[:, 0] > threshold).long() if outputs.shape[1] == 1 else outputs.argmax(1)

    return predict


# --- the result


def _save(plan: _Plan) -> Artefact:
    """Writes `out/model.safetensors`."""
    import torch

    state = {name: value.detach().cpu().contiguous() for name, value in plan.model.state_dict().items()}
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise invalid("Training diverged: the final weights are no numbers; lower the learning rate.")
    skipped = skipped_softmax(plan.graph, plan.loss.type)
    metadata = {
        "format": "pt",
        "cyxwiz.definition": plan.work.model,
        "cyxwiz.dataset": plan.work.dataset_uri,
        "cyxwiz.input_shape": json.dumps(list(plan.train.x.shape[1:])),
        "cyxwiz.loss": plan.loss.type,
        "cyxwiz.scaling": json.dumps(plan.scaling),
        "cyxwiz.skipped_softmax": "" if skipped is None else skipped.id,
    }
    return write_tensors(plan.work.work_dir / "out" / "model.safetensors", state, metadata)
