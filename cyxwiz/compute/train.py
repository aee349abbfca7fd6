"""`train`: one training job, for real, in this process.

Every sample of every epoch is used, with the optimizer, loss, schedule and seed that the job names; the same seed on
the same number of CPU threads gives the same curve and the same model file, bit by bit. A share of the data (stratified
by class) is held out for validation. Features are scaled by a Normalize node if the graph has one, else as the dataset
asks; what was done is written into the model file beside the definition, so that who predicts can do the same.

Checkpoints are taken between two steps. A job that goes on from one takes the steps that it would have taken anyhow.

Refuses what cannot train with CyxError, also a loss that is no longer a number, and raises `Stopped` when told to stop.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from cyxwiz.compute import checkpoint
from cyxwiz.compute.artefacts import artefact
from cyxwiz.compute.build import build
from cyxwiz.compute.chain import Chain, weights_digest
from cyxwiz.compute.checking import MOST_THREADS, WrongStart, figures_of, refuted, start_of
from cyxwiz.compute.checkpoint import State
from cyxwiz.compute.course import Course, Halted, Plan, Send, Stopped
from cyxwiz.compute.data.dataset import Dataset
from cyxwiz.compute.datasets import load
from cyxwiz.compute.devices import device_of
from cyxwiz.compute.gang.team import Alone
from cyxwiz.compute.orders import Orders
from cyxwiz.compute.samples import CLASS_LOSSES, split
from cyxwiz.domain.errors import invalid, unsupported
from cyxwiz.domain.proof import Kind
from cyxwiz.graph import (
    Hyperparameters,
    Part,
    check_fits,
    default_loss,
    features_of,
    infer,
    parse,
    parse_hyperparameters,
    reads_numbers,
)
from cyxwiz.ports.executor import Artefact, Asked, Finished, Logged, Preempted, Reached, Report, Work

if TYPE_CHECKING:
    from torch import nn

    from cyxwiz.compute.export import Trained
    from cyxwiz.compute.stream import Stream

__all__ = ["Stopped", "train"]

LOSS_SECONDS = 2.0  # before it says that it lost another member: who knows why that one ended speaks first


def train(work: Work, send: Send, orders: Orders) -> Finished | Preempted:
    """Runs the job to its end and gives its outcome; reports on the way through `send`.

    Of a gang's members the first one gives the result; the others end with Preempted once their part is done.
    """
    if work.gang is None:
        return _train(work, send, orders)
    from cyxwiz.compute.gang.meeting import is_loss, lost

    try:
        return _train(work, _of_member(send) if work.gang.rank else send, orders)
    except InterruptedError:
        raise Stopped from None
    except RuntimeError as error:
        if not is_loss(str(error)):
            raise
        time.sleep(LOSS_SECONDS)
        raise lost(work.gang, error) from error


def _train(work: Work, send: Send, orders: Orders) -> Finished | Preempted:
    began = time.perf_counter()
    try:
        plan, dataset, scaling = _prepare(work, send, orders)
    except WrongStart as wrong:
        return refuted(work.work_dir, str(wrong), time.perf_counter() - began)
    plan.team = _team(plan, send, orders)
    if plan.team.leads:
        plan.chain = Chain(work, dataset, plan.threads, plan.device, send)
    course = Course(plan, send, orders, began)
    try:
        epochs = course.run()
    except Halted:
        trained = _trained(plan, dataset, scaling, course, course.first_epoch)
        return _checked(plan, trained, course, _files(plan, trained, send, alone=True), began)
    metrics = course.final_metrics()
    if plan.team.sharded:
        plan.model = _gathered(plan, dataset)
    if not plan.team.leads:
        plan.team.leave()
        return Preempted(time.perf_counter() - began)
    trained = _trained(plan, dataset, scaling, course, epochs)
    files = _files(plan, trained, send, alone=work.check is not None)
    if plan.chain is not None:
        plan.chain.add(Kind.RESULT, course.step, course.last_loss, weights_digest(trained.weights()))
    if work.check is not None:
        return _checked(plan, trained, course, files, began)
    plan.team.leave()
    return Finished(files, metrics, epochs, time.perf_counter() - began)


def _checked(plan: Plan, trained: Trained, course: Course, files: tuple[Artefact, ...], began: float) -> Finished:
    """The outcome of a check: the weights that it came to, and how far the claimed ones are from them."""
    check = plan.work.check
    assert check is not None
    metrics = figures_of(check, plan.fingerprint, trained.weights(), course.halted_at)
    return Finished(files, metrics, plan.work.epochs, time.perf_counter() - began)


def _team(plan: Plan, send: Send, orders: Orders) -> Alone:
    """Those it trains with, met once all of them have their model and their data."""
    gang = plan.work.gang
    if gang is None:
        return Alone()
    from cyxwiz.compute.gang.meeting import join, meet
    from cyxwiz.compute.gang.strategies import make_team

    if gang.strategy == "fsdp" and (plan.hyper.l1 or plan.hyper.l2):
        raise unsupported("l1 and l2 penalties need whole weights; take another strategy than fsdp.", field="strategy")
    if plan.hyper.compile:
        send(Logged("warning", "the model is not compiled: this version does so on one node only"))
    member = join(plan.work, send, orders)
    reached = meet(member, gang, plan.work.device, send, orders)
    send(Logged("info", f"member {gang.rank} of {gang.world} trains by {gang.strategy}"))
    team = make_team(gang, plan.device, plan.hyper)
    team.reached, team.member = reached, member
    return team


def _of_member(send: Send) -> Send:
    """What a member says that is not the first: its log, and what it asks and measures to meet the others."""

    def passing(report: Report) -> None:
        if isinstance(report, Logged | Asked | Reached):
            send(report)

    return passing


def _gathered(plan: Plan, dataset: Dataset) -> nn.Module:
    """A model with the whole weights of one whose members have a share each; all of them must call it."""
    shown = plan.model.state_dict()
    weights = {name: checkpoint.whole(value.detach()) for name, value in shown.items()}
    model = build(plan.graph, features_of(dataset.shape), plan.loss.type, dataset.label_shape).to(plan.device)
    model.load_state_dict(weights)
    return model


def _prepare(work: Work, send: Send, orders: Orders) -> tuple[Plan, Dataset, dict[str, object]]:
    import torch

    if work.epochs < 1:
        raise invalid(f"epochs is {work.epochs}; it must be at least 1.", epochs=work.epochs)
    graph = parse(work.model)
    hyper = parse_hyperparameters(work.hyperparameters, graph)
    unknown = [f"The hyperparameter {key} is unknown and has no effect" for key in hyper.extra]
    for note in (*graph.notes, *hyper.notes, *unknown):
        send(Logged("warning", note))
    device = device_of(work.device)
    resumed = start_of(work.resume, _fingerprint(work), work.check) if work.resume is not None else None
    threads = _threads(work, resumed if device.type == "cpu" else None)
    torch.set_num_threads(threads)
    stream = _stream(work, hyper, send, orders)
    dataset = stream.dataset if stream is not None else _dataset(work, hyper, send)
    features = features_of(dataset.shape)
    if dataset.label_shape and not _has_steps(hyper.loss, infer(graph, features)[graph.last.id], dataset):
        dataset = dataset.as_targets()
    loss = hyper.loss or Part(default_loss(dataset.classes))
    check_fits(graph, dataset.shape, work.dataset_uri, loss.type)
    torch.manual_seed(work.seed)
    model = build(graph, features, loss.type, dataset.label_shape).to(device)
    outputs = infer(graph, features)[graph.last.id]
    if reads_numbers(loss.type, dataset.shape, outputs):
        dataset = dataset.as_targets()
    how = (graph, (hyper.validation_split, hyper.test_split), loss.type, outputs, work.seed, device)
    train_part, held_out, test, scaling = split(dataset, *how) if stream is None else stream.split(*how)
    weights = sum(parameter.numel() for parameter in model.parameters())
    send(
        Logged(
            "info",
            f"training {weights} parameters on {device} with {hyper.optimizer} and {loss.type}: "
            f"{len(train_part)} samples, {len(held_out)} held out"
            + (f", {len(test)} to test on at the end" if len(test) else ""),
        )
    )
    plan = Plan(
        work,
        graph,
        hyper,
        loss,
        device,
        model,
        train_part,
        held_out,
        dataset.shape.features,
        dataset.classes,
        work.batch_size,
        threads,
        _fingerprint(work),
        resumed,
        test=test,
        stream=stream,
    )
    return plan, dataset, scaling


def _threads(work: Work, resumed: State | None) -> int:
    """Sums depend on how many threads take part: who goes on, or checks, takes as many as who began."""
    asked = work.check.threads if work.check is not None else 0
    asked = asked or (resumed.threads if resumed is not None else 0)
    return asked if 0 < asked <= MOST_THREADS else max(1, work.threads)


def _dataset(work: Work, hyper: Hyperparameters, send: Send) -> Dataset:
    loss = hyper.loss.type if hyper.loss is not None else ""
    dataset = load(work.dataset_uri, seed=work.seed, data_roots=work.data_roots, blob=work.dataset_path, loss=loss)
    for note in dataset.notes:
        send(note)
    return dataset


def _stream(work: Work, hyper: Hyperparameters, send: Send, orders: Orders) -> Stream | None:
    """For data that still come."""
    if not work.streamed:
        return None
    from cyxwiz.compute.stream import open_stream

    return open_stream(
        work, send, orders, all_of_it="class_weights counts them" if hyper.class_weights == "balanced" else ""
    )


def _has_steps(loss: Part | None, outputs: tuple[int, ...], dataset: Dataset) -> bool:
    """Whether whole labels, several a sample, are classes of steps: for a loss on classes, or where the model gives
    scores for each step and the job names no loss. Else they are numbers to predict."""
    if loss is not None:
        return loss.type in CLASS_LOSSES
    return len(outputs) > 1 and outputs[:-1] == dataset.label_shape


def _fingerprint(work: Work) -> str:
    hyperparameters = json.dumps(dict(work.hyperparameters), sort_keys=True)
    return checkpoint.fingerprint(work.model, work.dataset_uri, work.seed, work.batch_size, hyperparameters)


# --- the result


def _trained(plan: Plan, dataset: Dataset, scaling: dict[str, object], course: Course, epochs: int) -> Trained:
    from cyxwiz.compute.export import Trained

    return Trained(
        plan.model,
        plan.graph,
        plan.work.model,
        features_of(dataset.shape),
        plan.loss.type,
        dataset.label_shape,
        scaling=scaling,
        dataset=plan.work.dataset_uri,
        classes=dataset.classes,
        class_names=dataset.class_names,
        columns=dataset.columns,
        hyper=plan.hyper,
        batch_size=plan.batch,
        epochs=epochs,
        metrics={name: value for name, value in course.metrics.items() if name != "samples_per_second"},
        history={name: values for name, values in course.history.items() if name != "samples_per_second"},
    )


def _files(plan: Plan, trained: Trained, send: Send, *, alone: bool) -> tuple[Artefact, ...]:
    """`out/model.safetensors`, and unless it stays `alone` what `export` asks for, and a card that says what it is."""
    import torch

    from cyxwiz.compute.export import export, write_safetensors

    if not all(bool(torch.isfinite(value).all()) for value in plan.model.state_dict().values()):
        raise invalid("Training diverged: the final weights are no numbers; lower the learning rate.")
    folder = plan.work.work_dir / "out"
    weights = write_safetensors(trained, folder / "model.safetensors")
    if alone:
        return (weights,)
    plan.model.eval()
    others = export(trained, plan.hyper.export, folder, lambda line: send(Logged("error", line, "node")))
    return (weights, *(artefact(path) for path in others))
