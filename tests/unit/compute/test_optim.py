"""Optimizers, schedules, penalties and losses by their effect."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from cyxwiz.compute.optim import class_weights, loss_function, make_optimizer, make_schedule, penalty
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.graph import Part, parse, parse_hyperparameters

BASE = 0.1


def rates(
    given: dict[str, str], epochs: int, steps: int, metrics: list[float] | None = None, graph: Any = None
) -> list[float]:
    """The rate of every optimizer step."""
    model = nn.Linear(2, 1)
    hyper = parse_hyperparameters({"learning_rate": str(BASE), "optimizer": "sgd", **given}, graph)
    optimizer = make_optimizer(hyper, model)
    schedule = make_schedule(hyper, optimizer, hyper.monitor, epochs=epochs, steps_per_epoch=steps)
    found: list[float] = []
    for epoch in range(epochs):
        for _ in range(steps):
            found.append(schedule.rate)
            schedule.step_batch()
        schedule.step_epoch(metrics[epoch] if metrics else None)
    return found


@pytest.mark.parametrize(
    ("given", "make"),
    [
        ({"schedule": "step_lr", "schedule_step_size": "2", "schedule_gamma": "0.5"},
         lambda o: torch.optim.lr_scheduler.StepLR(o, 2, 0.5)),
        ({"schedule": "exponential", "schedule_gamma": "0.9"},
         lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9)),
        ({"schedule": "cosine", "schedule_t_max": "6", "schedule_eta_min": "0.01"},
         lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 6, 0.01)),
    ],
)  # fmt: skip
def test_schedules_are_those_of_torch(given: dict[str, str], make: Any) -> None:
    optimizer = torch.optim.SGD(nn.Linear(2, 1).parameters(), BASE)
    theirs = make(optimizer)
    expected: list[float] = []
    for _ in range(6):
        expected += [optimizer.param_groups[0]["lr"]] * 3
        optimizer.step()
        theirs.step()
    assert rates(given, 6, 3) == pytest.approx(expected)


def test_without_a_schedule_the_rate_stays() -> None:
    assert rates({}, 3, 2) == [BASE] * 6
    assert rates({"schedule": "none"}, 2, 1, graph=parse('{"layers": ["exponential_lr", "dense"]}')) == [BASE] * 2


def test_a_cosine_ends_at_its_floor() -> None:
    found = rates({"schedule": "cosine", "schedule_T_max": "2"}, 4, 1)
    assert found == pytest.approx([BASE, BASE / 2, 0, 0], abs=1e-12)
    assert rates({"schedule": "cosine"}, 4, 1)[2] == pytest.approx(BASE / 2)


def test_a_warm_up_comes_first_and_the_other_schedule_after_it() -> None:
    found = rates({"schedule": "exponential,warmup", "schedule_warmup_steps": "4", "schedule_gamma": "0.5"}, 4, 2)
    warm = [BASE * (0.1 + 0.9 * step / 4) for step in range(4)]
    assert found == pytest.approx([*warm, BASE, BASE, BASE / 2, BASE / 2])
    by_epochs = rates({"schedule": "warmup", "schedule_warmup_epochs": "2", "schedule_start_factor": "0"}, 3, 2)
    assert by_epochs == pytest.approx([0, BASE / 4, BASE / 2, BASE * 3 / 4, BASE, BASE])


def test_a_plateau_lowers_the_rate_after_its_patience() -> None:
    given = {"schedule": "reduce_on_plateau", "schedule_factor": "0.5", "schedule_patience": "1"}
    assert rates(given, 6, 1, [1.0, 0.9, 0.9, 0.9, 0.9, 0.5]) == pytest.approx([BASE] * 4 + [BASE / 2] * 2)
    accuracy = {**given, "monitor": "val_accuracy"}
    assert rates(accuracy, 4, 1, [0.1, 0.2, 0.3, 0.4]) == pytest.approx([BASE] * 4)
    assert rates({**accuracy, "schedule_mode": "min"}, 4, 1, [0.1, 0.2, 0.3, 0.4])[3] == pytest.approx(BASE / 2)


def test_schedules_of_the_graph_act_together_unless_the_job_names_one() -> None:
    steps = {"type": "step_lr", "step_size": 1, "gamma": 0.5}
    text = json.dumps({"layers": [steps, {"type": "ExponentialLR", "gamma": 0.5}, "dense"]})
    assert rates({}, 3, 1, graph=parse(text)) == pytest.approx([BASE, BASE / 4, BASE / 16])
    assert rates({"schedule": "cosine"}, 2, 1, graph=parse(text)) == pytest.approx([BASE, BASE / 2])


def test_a_schedule_goes_on_from_its_state() -> None:
    given = {"schedule": "warmup,plateau,exponential", "schedule_warmup_steps": "3", "schedule_patience": "0"}
    hyper = parse_hyperparameters({"learning_rate": "0.1", **given})
    whole: list[float] = []
    pair = []
    for _ in range(2):
        optimizer = make_optimizer(hyper, nn.Linear(2, 1))
        pair.append(make_schedule(hyper, optimizer, hyper.monitor, epochs=6, steps_per_epoch=2))
    first, second = pair
    for epoch in range(6):
        if epoch == 3:
            second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        for one in (first, second)[: 1 if epoch < 3 else 2]:
            one.step_batch()
            one.step_batch()
            one.step_epoch(1.0)
        whole.append(first.rate)
    assert second.rate == first.rate
    assert whole[-1] < whole[1]


def test_a_schedule_goes_on_within_an_epoch_at_the_rate_that_it_had() -> None:
    """A warm-up that ends within an epoch moves none of the places where the others act."""
    given = {"schedule": "warmup,step_lr", "schedule_warmup_steps": "7", "schedule_step_size": "2"}
    hyper = parse_hyperparameters({"learning_rate": "0.1", **given})

    def fresh() -> Any:
        optimizer = make_optimizer(hyper, nn.Linear(2, 1))
        return make_schedule(hyper, optimizer, hyper.monitor, epochs=6, steps_per_epoch=6)

    whole = fresh()
    for step in range(1, 37):
        whole.step_batch()
        if step % 6 == 0:
            whole.step_epoch(1.0)
        resumed = fresh()
        resumed.load_state_dict(whole.state_dict())
        assert resumed.rate == whole.rate, step
    assert whole.rate == pytest.approx(0.001)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "adagrad", "nadam"])
def test_every_optimizer_steps_with_its_numbers(name: str) -> None:
    torch.manual_seed(0)
    moved = []
    for rate in ("0.1", "0.2"):
        model = nn.Linear(2, 1)
        nn.init.ones_(model.weight)
        optimizer = make_optimizer(parse_hyperparameters({"optimizer": name, "learning_rate": rate}), model)
        assert type(optimizer).__name__.lower() == name
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        moved.append((1 - model.weight).abs().max().item())
    assert 0 < moved[0] < moved[1]


@pytest.mark.parametrize(("name", "key", "value"), [("rmsprop", "alpha", "0.5"), ("adagrad", "lr_decay", "1.0")])
def test_what_one_optimizer_alone_has_acts(name: str, key: str, value: str) -> None:
    ends: list[torch.Tensor] = []
    for given in ({}, {key: value}):
        model = nn.Linear(2, 1)
        nn.init.ones_(model.weight)
        optimizer = make_optimizer(parse_hyperparameters({"optimizer": name, **given}), model)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(1, 2)).square().sum().backward()
            optimizer.step()
        ends.append(model.weight.detach())
    assert not torch.equal(*ends)
    assert parse_hyperparameters({"optimizer": "adam", key: value}).notes == (
        f"The hyperparameter {key} has no effect with Adam",
    )  # fmt: skip


# --- penalty


@pytest.mark.parametrize(
    ("given", "layers", "expected"),
    [
        ({"l1": "0.5"}, [], 0.5 * 3),
        ({"l2": "0.5"}, [], 0.5 * 5),
        ({"l1": "1", "l2": "2"}, [], 3 + 10),
        ({}, [{"type": "l1_regularization", "lambda": 0.1}], 0.3),
        ({}, [{"type": "L2Regularization"}], 0.05),
        ({}, [{"type": "elastic_net", "l1": 0.1, "l2": 0.2}, {"type": "l1_regularization", "lambda": 1}], 0.3 + 1 + 3),
        ({"l1": "0"}, [{"type": "elastic_net", "l1": 0.1, "l2": 0.2}], 1.0),
        ({}, [{"type": "elastic_net"}], 0.03 + 0.05),
        # As the editor writes it: the strength of both, and the share of l1 in it.
        ({}, [{"type": 72, "parameters": {"lambda": "0.1", "l1_ratio": "0.25"}}], 0.025 * 3 + 0.075 * 5),
    ],
)
def test_a_penalty_is_on_weights_and_not_on_biases(given: dict[str, str], layers: list[Any], expected: float) -> None:
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0]]))
    add = penalty(parse_hyperparameters(given, parse(json.dumps({"layers": [*layers, "dense"]}))), model)
    assert add is not None
    assert add().item() == pytest.approx(expected)
    add().backward()
    assert model.weight.grad is not None
    assert model.bias.grad is None


def test_without_l1_and_l2_there_is_no_penalty() -> None:
    assert penalty(parse_hyperparameters({}), nn.Linear(2, 1)) is None


# --- loss


def test_class_weights_and_smoothing_reach_the_loss() -> None:
    scores, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 2, 2])
    balanced = class_weights(parse_hyperparameters({"class_weights": "balanced"}), labels.bincount())
    assert balanced is not None
    assert balanced.tolist() == pytest.approx([2, 2, 0.5])
    assert (balanced[labels].mean()).item() == pytest.approx(1)
    stated = class_weights(parse_hyperparameters({"class_weights": "1, 2, 3"}), labels.bincount())
    assert stated is not None
    loss = loss_function(Part("CrossEntropyLoss"), weights=stated, smoothing=0.1)
    expected = functional.cross_entropy(scores, labels, torch.tensor([1.0, 2, 3]), label_smoothing=0.1)
    assert loss(scores, labels).item() == pytest.approx(expected.item())
    assert class_weights(parse_hyperparameters({}), labels.bincount()) is None
    wide = loss_function(Part("NLLLoss"), weights=stated)(torch.randn(6, 5), labels)
    assert math.isfinite(wide.item())
    with pytest.raises(CyxError) as caught:
        class_weights(parse_hyperparameters({"class_weights": "1,2"}), labels.bincount())
    assert caught.value.code is Code.INVALID


def test_a_batch_of_classes_that_weigh_nothing_moves_nothing() -> None:
    scores, labels = torch.randn(4, 3, requires_grad=True), torch.zeros(4, dtype=torch.int64)
    loss = loss_function(Part("CrossEntropyLoss"), weights=torch.tensor([0.0, 1, 1]), smoothing=0.1)(scores, labels)
    loss.backward()
    assert loss.item() == 0
    assert scores.grad is not None
    assert not scores.grad.any()


def test_probability_losses_weigh_columns_or_the_two_targets() -> None:
    weights = torch.tensor([1.0, 3.0])
    for name, outputs in (("BCELoss", torch.full((2, 1), 0.5)), ("BCEWithLogits", torch.zeros(2, 1))):
        one = loss_function(Part(name), weights=weights)(outputs, torch.tensor([[0.0], [1.0]]))
        assert one.item() == pytest.approx(math.log(2) * (1 + 3) / 2)
        columns = loss_function(Part(name), weights=weights)(outputs.expand(2, 2), torch.eye(2))
        assert columns.item() == pytest.approx(math.log(2) * 2)


def test_a_class_for_every_step() -> None:
    scores, labels = torch.randn(2, 5, 3), torch.randint(0, 3, (2, 5))
    expected = functional.cross_entropy(scores.reshape(10, 3), labels.reshape(10))
    assert loss_function(Part("CrossEntropyLoss"))(scores, labels).item() == pytest.approx(expected.item())


def test_several_losses_are_summed_by_weight() -> None:
    graph = parse('{"layers": [{"type": "mse", "weight": 2}, {"type": "cross_entropy", "weight": 0.5}, "dense"]}')
    assert graph.loss is not None
    scores, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 2])
    expected = 0.5 * functional.cross_entropy(scores, labels) + 2 * functional.mse_loss(
        scores, functional.one_hot(labels, 3).float()
    )
    assert loss_function(graph.loss)(scores, labels).item() == pytest.approx(expected.item())
    numbers = parse('{"layers": [{"type": "mse"}, {"type": "l1", "weight": 3}, "dense"]}').loss
    assert numbers is not None
    x, y = torch.randn(4, 1), torch.randn(4, 1)
    expected = functional.mse_loss(x, y) + 3 * functional.l1_loss(x, y)
    assert loss_function(numbers)(x, y).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("name", ["MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCEWithLogits", "BCELoss"])
def test_a_loss_falls_as_the_outputs_come_nearer(name: str) -> None:
    loss, target = loss_function(Part(name)), torch.ones(3, 1)
    far, near = torch.full((3, 1), 0.1), torch.full((3, 1), 0.8)
    assert loss(far, target) > loss(near, target)
