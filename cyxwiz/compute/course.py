"""The epochs of one training job: steps, reports, checkpoints, and what is decided at an epoch's end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cyxwiz.compute import checkpoint
from cyxwiz.compute.augment import make_augment
from cyxwiz.compute.best import Best
from cyxwiz.compute.chain import state_digest
from cyxwiz.compute.checkpoint import Place, Saver, State
from cyxwiz.compute.gang.team import Alone
from cyxwiz.compute.optim import class_weights, loss_function, make_optimizer, make_schedule, penalty
from cyxwiz.compute.orders import Orders
from cyxwiz.compute.precision import Precision
from cyxwiz.compute.samples import CLASS_LOSSES, Samples
from cyxwiz.compute.tally import Tally, weight_of
from cyxwiz.compute.wishes import change
from cyxwiz.domain.checkpoint import parse_every
from cyxwiz.domain.errors import invalid
from cyxwiz.domain.proof import Kind
from cyxwiz.graph import Graph, Hyperparameters, Part
from cyxwiz.graph.fit import augmented_shape
from cyxwiz.graph.hyperparameters import check_class_weights
from cyxwiz.ports.executor import FirstStep, Logged, Progressed, Report, Work

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from cyxwiz.compute.chain import Chain
    from cyxwiz.compute.stream import Stream

REPORT_SECONDS = 0.5
_VALIDATION_BATCH = 4096
_VALIDATION_VALUES = 2**22  # features of a batch that is only looked at

Send = Callable[[Report], None]


class Stopped(Exception):
    """The job was told to stop; if it was preempted, after a checkpoint."""


class Halted(Exception):
    """The run has come to the step at which a check ends."""


@dataclass(slots=True)
class Plan:
    """Everything that is settled before the first step."""

    work: Work
    graph: Graph
    hyper: Hyperparameters
    loss: Part
    device: torch.device
    model: nn.Module
    train: Samples
    held_out: Samples
    sample_shape: tuple[int, ...]
    classes: int | None
    batch: int
    threads: int
    fingerprint: str
    resumed: State | None
    team: Alone = field(default_factory=Alone)
    test: Samples | None = None  # what the end is measured by
    chain: Chain | None = None  # of whoever speaks for the job
    stream: Stream | None = None  # of data that still come


class Course:
    """Runs epochs. The inner loop reads nothing back from the device except for a report or a checkpoint."""

    def __init__(self, plan: Plan, send: Send, orders: Orders, began: float) -> None:
        import torch

        hyper = plan.hyper
        self._plan, self._send, self._orders, self._began = plan, send, orders, began
        self._batches = -(-len(plan.train) // plan.batch)
        weights = _class_weights(plan)
        self._loss = loss_function(plan.loss, weights=weights, smoothing=hyper.label_smoothing)
        # By which the loss is a mean; where it is a sum of several, none is the mean of all of them.
        self._weights = weights if plan.loss.type in CLASS_LOSSES and not plan.loss.also else None
        self._step_mass = 0.0  # what the batches of this step weigh
        self._penalty = penalty(hyper, plan.model)
        plan.team.join(plan.model)
        self._optimizer = make_optimizer(hyper, plan.model)
        steps = -(-self._batches // hyper.accumulate)
        self._best = Best(hyper, len(plan.held_out) > 0, plan.classes is not None)
        if note := self._best.replaced:
            send(Logged("warning", note))
        self._schedule = make_schedule(
            hyper, self._optimizer, self._best.monitor, epochs=plan.work.epochs, steps_per_epoch=steps
        )
        self._augment = make_augment(plan.graph.augment, augmented_shape(plan.graph, plan.sample_shape))
        self._draw = torch.Generator(plan.device).manual_seed(plan.work.seed)
        self._cast = Precision(hyper.precision, plan.device, send)
        self._forward: Callable[[Any], Tensor] = plan.team.take(plan.model, self._optimizer)
        if hyper.compile and plan.team.world == 1:
            self._forward = _compiled(plan, send)
        self._shuffle = torch.Generator().manual_seed(plan.work.seed)
        self._shuffle_before = self._shuffle.get_state()  # as it was when the epoch began
        self._reported = time.perf_counter()
        self._trained_seconds, self._trained_epochs = 0.0, 0
        self.step = 0
        self._last: Tensor | None = None  # loss of the last batch
        self._last_loss = 0.0  # as a checkpoint had it
        self._halt = plan.work.check.stop_step if plan.work.check is not None else 0
        self.halted_at: State | None = None  # of a check
        self._stepped = False  # in this run
        self._save_wanted = False  # by the job's owner
        self._inside: dict[str, Any] | None = None  # figures of the epoch that a checkpoint was taken in
        self.metrics: dict[str, float] = {}
        self.history: dict[str, list[float]] = {}
        self.first_epoch = 1
        every = parse_every(plan.work.checkpoint_every)
        steps = (self._halt,) if self._halt else plan.work.link_steps
        self.saver = Saver(plan.work.work_dir / "checkpoints", plan.fingerprint, every, send, self._prove, steps)
        if plan.resumed is not None:
            self._restore(plan.resumed)

    def run(self) -> int:
        """All epochs, or as many as early stopping lets; returns how many were done."""
        epoch = self.first_epoch - 1
        while epoch < self._plan.work.epochs and not self._best.exhausted:
            epoch += 1
            self._run_epoch(epoch)
        if self._best.exhausted:
            self._send(Logged("info", f"stopped after epoch {epoch}: {self._best.why}"))
        if self.saver.proves_at(self.step):
            self._save(epoch + 1, 0, {})
        self.saver.finish()
        self._plan.team.settle()
        if self._plan.hyper.keep_best and self._best.weights is not None:
            checkpoint.load_model(self._plan.model, self._best.weights)
            self.metrics = {**self._best.metrics, "best_epoch": float(self._best.epoch)}
        if self._plan.test is not None and len(self._plan.test):
            self.metrics = {**self.metrics, **self._test(self._plan.test)}
        return epoch

    def _test(self, data: Samples) -> dict[str, float]:
        """What the end is measured by; a figure that is no number is left out."""
        if self._plan.stream is not None:
            self._plan.stream.complete("the model is tested")
        with self._plan.team.together():
            measured = self._measure(data, "test")
        finite = {name: value for name, value in measured.items() if math.isfinite(value)}
        for name in measured.keys() - finite.keys():
            self._send(Logged("warning", f"{name} is no number and left out"))
        return finite

    def final_metrics(self) -> dict[str, float]:
        """The last epoch's, or the best one's if that is the result, with the speed over all epochs."""
        samples = len(self._plan.train) * self._trained_epochs
        speed = samples / max(self._trained_seconds, 1e-9)
        return {**self.metrics, "samples_per_second": speed, **self._plan.team.figures()}

    # an epoch

    def _run_epoch(self, epoch: int) -> None:
        plan, started = self._plan, time.perf_counter()
        inside, self._inside = self._inside, None
        if inside is not None:
            started -= float(inside["seconds"])
        tally = self._train(epoch, inside, started)
        tally.replace(*plan.team.sums(tally.sums()))
        loss = self._finite(tally.loss(), epoch, "loss")
        seconds = max(time.perf_counter() - started, 1e-9)
        self._trained_seconds += seconds
        self._trained_epochs += 1
        metrics = {"loss": loss, "learning_rate": self._schedule.rate, "samples_per_second": len(plan.train) / seconds}
        if plan.train.labels is not None:
            metrics["accuracy"] = tally.accuracy()
        with plan.team.together():
            if len(plan.held_out):
                metrics |= self._measure(plan.held_out, "val")
                self._finite(metrics["val_loss"], epoch, "validation loss")
            self._best.see(epoch, metrics, plan.model)
        self.metrics = metrics
        for name, value in metrics.items():
            self.history.setdefault(name, []).append(value)
        self._schedule.step_epoch(self._best.value_of(metrics))
        self._report(epoch, self._batches, metrics, ended=True)
        self._shuffle_before = self._shuffle.get_state()
        saver, now = self.saver, time.perf_counter()
        due = saver.due_after(epoch) or now >= saver.next_time or self.step >= saver.next_step
        due = (due or self._save_wanted) and not saver.busy
        ending = plan.team.world == 1 and self._orders.ending
        if epoch < plan.work.epochs and plan.team.agree(ending, due, now=True):
            self._save_wanted = False
            self._save(epoch + 1, 0, {}, wait=ending)
            if ending:
                raise Stopped
            self._halt_if_there()

    def _train(self, epoch: int, inside: dict[str, Any] | None, started: float) -> Tally:
        import torch

        plan, loss_of, orders, saver = self._plan, self._loss, self._orders, self.saver
        optimizer, schedule, accumulate, forward = self._optimizer, self._schedule, plan.hyper.accumulate, self._forward
        samples, y = plan.train, plan.train.y
        count = len(samples)
        shuffled = torch.randperm(count, generator=self._shuffle) if plan.hyper.shuffle else torch.arange(count)
        team, stream = plan.team, plan.stream
        batches = shuffled.to(y.device).split(plan.batch)
        mine = [index[team.rows] for index in batches]
        tally = Tally(samples.labels, plan.loss.type, torch.cat(mine), self._weights)
        plan.model.train()
        done = 0
        if inside is not None:
            done = int(inside["batch"])
            place = sum(len(index) for index in mine[:done])
            if team.leads:
                tally.resume(inside, sum(len(index) for index in batches[:done]), place)
            else:
                tally.skip(place)
        if stream is not None:
            stream.begin(shuffled, done * plan.batch)
        optimizer.zero_grad(set_to_none=True)
        for batch, (everybody, own) in enumerate(zip(batches[done:], mine[done:], strict=True), start=done + 1):
            if stream is not None and (batch - 1) % accumulate == 0 and not stream.whole:
                self._await(stream, mine[batch - 1 : batch - 1 + accumulate], epoch, batch - 1, tally, started)
            index = own if len(own) else everybody[:1]  # a member without a row steps along
            team.draw(plan.work.seed, epoch, batch, self._draw)
            inputs = samples.take(index)
            if self._augment is not None:
                inputs = self._augmented(inputs)
            stepping = batch % accumulate == 0 or batch == self._batches
            with team.gathering(stepping):
                with self._cast.context():
                    outputs = forward(inputs)
                    loss = loss_of(outputs, y.index_select(0, index).to(plan.device))
                objective = team.weigh(loss, self._mass(own), self._mass(everybody))
                objective = objective if self._penalty is None else objective + self._penalty()
                self._cast.backward(objective if accumulate == 1 else objective * self._share(batch, batches))
            if stepping:
                self._clip()
                self._cast.step(optimizer)
                optimizer.zero_grad(set_to_none=True)
                schedule.step_batch()
                self.step += 1
                team.stepped(self.step)
            self._last = loss
            if len(own):
                tally.add(loss, outputs)
            if not self._stepped:
                self._stepped = True
                self._send(FirstStep())
            now = time.perf_counter()
            due = batch < self._batches and (now >= saver.next_time or self.step >= saver.next_step)
            if orders.given and stepping:
                self._heed()
            due = (due or self._save_wanted) and not saver.busy
            # After an epoch's last batch its end comes first: who does it again stops there too, with the same state.
            last = batch == self._batches and team.world == 1
            if orders.cancelled or (stepping and not last and team.agree(orders.ending, due)):
                self._attend(epoch, batch, tally, now - started)
            if now - self._reported >= REPORT_SECONDS and batch < self._batches:
                metrics = {"loss": self._finite(tally.loss(), epoch, "loss")}
                self._report(epoch, batch, metrics, ended=False)
        if stream is not None:
            self._await(stream, None, epoch, self._batches, tally, started)
        return tally

    def _await(
        self, stream: Stream, batches: list[Tensor] | None, epoch: int, batch: int, tally: Tally, started: float
    ) -> None:
        """Waits for the samples of the next step, or for what is held out; a job that is to stop meanwhile does so."""
        if stream.wait_for(batches):
            return
        if not self._stepped:  # where it began is where it goes on
            raise Stopped
        self._attend(epoch, batch, tally, time.perf_counter() - started)

    def _share(self, batch: int, batches: Sequence[Tensor]) -> float:
        """What a batch weighs in the mean of its step; an epoch's last step may have fewer of them than the others."""
        accumulate = self._plan.hyper.accumulate
        first = (batch - 1) // accumulate * accumulate
        if batch - 1 == first:
            self._step_mass = sum(map(self._mass, batches[first : first + accumulate]))
        mass, whole = self._mass(batches[batch - 1]), self._step_mass
        return mass / whole if whole else 1 / min(accumulate, self._batches - first)

    def _mass(self, rows: Tensor) -> float:
        """What these rows of the training data weigh in their mean loss, to put several means together."""
        labels, alone = self._plan.train.labels, self._plan.team.world == 1 and self._plan.hyper.accumulate == 1
        if self._weights is None or labels is None or alone:
            return float(len(rows))
        return float(weight_of(self._weights, labels[rows]))

    def _augmented(self, inputs: Tensor | dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
        assert self._augment is not None
        if isinstance(inputs, dict):
            return {**inputs, "x": self._augment(inputs["x"], self._draw)}
        return self._augment(inputs, self._draw)

    def _clip(self) -> None:
        from torch.nn import utils

        hyper = self._plan.hyper
        if not hyper.clip_norm and not hyper.clip_value:
            return
        self._cast.unscale(self._optimizer)
        if hyper.clip_value:
            utils.clip_grad_value_(self._plan.model.parameters(), hyper.clip_value)
        if hyper.clip_norm:
            utils.clip_grad_norm_(self._plan.model.parameters(), hyper.clip_norm)

    def _measure(self, data: Samples, name: str) -> dict[str, float]:
        """Loss and accuracy on samples that are not trained on. Members of a gang look at a share each; of a sharded
        model they all compute as often."""
        import torch

        plan = self._plan
        order = torch.arange(len(data), device=data.y.device)[plan.team.rows]
        tally = Tally(data.labels, plan.loss.type, order, self._weights)
        size = max(1, min(_VALIDATION_BATCH, max(plan.batch, _VALIDATION_VALUES // math.prod(plan.sample_shape))))
        plan.model.eval()
        with torch.inference_mode(), self._cast.context():
            for index in self._shares(order, len(data), size):
                if self._orders.cancelled:
                    raise Stopped
                if not len(index):
                    plan.model(data.example(1))
                    continue
                outputs = plan.model(data.take(index))
                tally.add(self._loss(outputs, data.y.index_select(0, index).to(plan.device)), outputs)
        tally.replace(*plan.team.sums(tally.sums()))
        metrics = {f"{name}_loss": tally.loss()}
        if data.labels is not None:
            metrics[f"{name}_accuracy"] = tally.accuracy()
        return metrics

    def _shares(self, rows: Tensor, count: int, size: int) -> list[Tensor]:
        """Batches of these rows, a member's of `count`; empty ones after them where others have more."""
        mine = list(rows.split(size)) if len(rows) else []
        if self._plan.team.sharded:
            most = math.ceil(math.ceil(count / self._plan.team.world) / size)
            mine += [rows[:0]] * (most - len(mine))
        return mine

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

    # checkpoints

    def _heed(self) -> None:
        """Does what the job's owner asked for; a checkpoint is saved as soon as one can be."""
        for wish in self._orders.take():
            if wish.order == "checkpoint":
                self._save_wanted = True
            elif self._plan.work.fixed:
                self._send(Logged("error", "a job whose work is verified can't be changed while it runs"))
            elif self._plan.team.world > 1:
                self._send(Logged("error", "what several nodes train together can't be changed while it runs"))
            else:
                change(self._schedule, wish.values, self._send)

    def _attend(self, epoch: int, batch: int, tally: Tally, seconds: float) -> None:
        """A checkpoint is due, or an order was given."""
        if self._orders.cancelled:
            raise Stopped
        loss_sum, weight, right, _ = self._plan.team.sums(tally.sums())
        self._finite(loss_sum / (weight or 1.0), epoch, "loss")  # what has diverged is not worth keeping
        inside = {"loss_sum": loss_sum, "mass": weight, "right": int(right), "seconds": seconds}
        self._save_wanted = False
        stopping = self._orders.preempted or self._plan.team.stops
        self._save(epoch, batch, inside, wait=stopping)
        if stopping:
            raise Stopped
        self._halt_if_there()

    def _halt_if_there(self) -> None:
        if self._halt and self.step >= self._halt:
            self.saver.finish()
            raise Halted

    @property
    def last_loss(self) -> float:
        """Of the last batch: what the proof's links have, as it is the same however often a job was moved."""
        return self._last_loss if self._last is None else float(self._last.detach())

    def _prove(self, state: State) -> str:
        chain = self._plan.chain
        if chain is None:
            return ""
        if self._halt:
            self.halted_at = state
        return chain.add(Kind.CHECKPOINT, state.place.step, state.figures["last_loss"], state_digest(state))

    def _save(self, epoch: int, batch: int, inside: dict[str, Any], *, wait: bool = False) -> None:
        """`inside`: what was counted of the epoch so far. The generators are those of now, but for the sampler's, which
        draws the same order again."""
        import torch

        plan = self._plan
        batches = (epoch - 1) * self._batches + batch
        place = Place(epoch, batch, self.step, batches / (self._batches * plan.work.epochs))

        def take() -> State:
            drawn = self._draw.get_state()
            random = {"cpu": torch.get_rng_state(), "shuffle": self._shuffle_before, "augment": drawn}
            if plan.device.type == "cuda":
                random["cuda"] = torch.cuda.get_rng_state(plan.device)
            figures = {
                "metrics": self.metrics,
                "history": self.history,
                "trained": [self._trained_epochs, self._trained_seconds],
                "schedule": self._schedule.state_dict(),
                "precision": self._cast.state_dict(),
                "best": self._best.figures(),
                "inside": inside,
                "last_loss": self.last_loss,
            }
            extra = {f"best/{name}": value for name, value in (self._best.weights or {}).items()}
            extra |= plan.team.tensors()
            return checkpoint.snapshot(place, plan.threads, plan.model, self._optimizer, random, figures, extra)

        if plan.team.leads:
            self.saver.save(take, wait=wait)
        elif plan.team.sharded:
            take()

    def _restore(self, state: State) -> None:
        import torch

        plan, figures, place = self._plan, state.figures, state.place
        checkpoint.restore(state, plan.model, self._optimizer)
        plan.team.restore(state.tensors)
        random = checkpoint.below(state, "random/")
        self._shuffle.set_state(random["shuffle"])
        self._shuffle_before = random["shuffle"]
        torch.set_rng_state(random["cpu"])
        if plan.device.type == "cuda" and "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"], plan.device)
        self._draw.set_state(random["augment"])
        self.metrics, self.history = dict(figures["metrics"]), {k: list(v) for k, v in figures["history"].items()}
        self._trained_epochs, self._trained_seconds = int(figures["trained"][0]), float(figures["trained"][1])
        self._schedule.load_state_dict(figures["schedule"])
        self._cast.load_state_dict(figures["precision"])
        self._best.load(figures["best"], checkpoint.below(state, "best/"))
        self.step, self.first_epoch = place.step, place.epoch
        self._last_loss = float(figures.get("last_loss", 0.0))  # what saved it may be older
        if plan.chain is not None:
            plan.chain.resume(figures.get("proof"))
        self._inside = {**figures["inside"], "batch": place.batch} if place.batch else None
        self.saver.resumed(place)
        self._send(Logged("info", f"going on from a checkpoint: epoch {place.epoch}, step {place.step}"))


def _class_weights(plan: Plan) -> Tensor | None:
    hyper, weights = plan.hyper, None
    if plan.classes is not None and plan.train.labels is not None:
        weights = class_weights(hyper, plan.train.labels.flatten().bincount(minlength=plan.classes))
    elif hyper.class_weights != "none":
        check_class_weights((), None)
    return None if weights is None else weights.to(plan.device)


def _compiled(plan: Plan, send: Send) -> Callable[[Any], Tensor]:
    """The model compiled, if this machine can (it needs a C++ compiler); else as it is, and the log says so."""
    import torch
    from torch._inductor import config

    # One compiler at a time, and no headers compiled beforehand: those alone take more memory than a small job has.
    for name, value in (("compile_threads", 1), ("cpp_cache_precompile_headers", False)):
        if hasattr(config, name):  # not every version of torch has both
            setattr(config, name, value)
    compiled: Any = torch.compile(plan.model)
    plan.model.eval()
    try:
        with torch.no_grad():
            compiled(plan.train.example(plan.batch))
    except Exception as error:
        send(Logged("warning", f"the model is not compiled here: {type(error).__name__}: {str(error)[:200]}"))
        return plan.model
    return compiled  # type: ignore[no-any-return]
