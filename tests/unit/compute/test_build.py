from __future__ import annotations

import json

import pytest
import torch

from cyxwiz.compute.build import build
from cyxwiz.compute.optim import loss_function
from cyxwiz.graph import Part, cost, infer, parse
from cyxwiz.graph.catalogue import ACTIVATIONS


def test_weights_are_named_by_the_layers_place() -> None:
    graph = parse('{"layers": ["flatten", {"type": "dense", "units": 3}, "relu", {"type": "dense", "bias": false}]}')
    model = build(graph, (2, 2), "CrossEntropyLoss")
    assert list(model.state_dict()) == ["layer1.weight", "layer1.bias", "layer3.weight"]


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@pytest.mark.parametrize("shape", [(6,), (2, 3)])
def test_shapes_and_parameter_counts_are_those_of_the_module(name: str, shape: tuple[int, ...]) -> None:
    layers = ["identity", {"type": "dense", "units": 5}, {"type": name}, "dropout", {"type": "dense", "units": 4}]
    graph = parse(json.dumps({"layers": layers}))
    model = build(graph, shape, "MSELoss").eval()
    assert tuple(model(torch.randn(7, *shape)).shape[1:]) == infer(graph, shape)["layers[4]"]
    assert sum(p.numel() for p in model.parameters()) == cost(graph, shape).parameters


def test_a_last_softmax_is_left_out_before_cross_entropy_only() -> None:
    graph = parse('{"layers": [{"type": "dense", "units": 4}, "softmax", "output"]}')
    x = torch.randn(3, 2)
    assert not torch.allclose(build(graph, (2,), "CrossEntropyLoss")(x).sum(1), torch.ones(3))
    assert torch.allclose(build(graph, (2,), "MSELoss")(x).sum(1), torch.ones(3))


def test_nll_on_scores_is_cross_entropy() -> None:
    scores, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    nll, cross = loss_function(Part("NLLLoss")), loss_function(Part("CrossEntropyLoss"))
    assert torch.allclose(nll(scores, labels), cross(scores, labels))


def test_loss_parameters_act() -> None:
    far, zero = torch.full((2, 1), 10.0), torch.zeros(2, 1)
    one, two = loss_function(Part("HuberLoss", {"delta": 1.0})), loss_function(Part("HuberLoss", {"delta": 2.0}))
    assert one(far, zero) != two(far, zero)
