"""Every type of layer: built, run, counted and trained."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cyxwiz.compute.build import build
from cyxwiz.compute.layers import BUILDERS
from cyxwiz.compute.layers.attention import sinusoids
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.graph import cost, infer, parse
from cyxwiz.graph.catalogue import BY_NUMBER, Role
from cyxwiz.graph.layers import RULES
from tests.layer_cases import SEVERAL, SINGLE, cases

CASES = [pytest.param(kind, text, shape, id=name) for name, kind, text, shape in cases()]


def samples(kind: str, shape: tuple[int, ...], count: int = 6) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    if kind == "Embedding":
        return torch.randint(0, 10, (count, *shape), generator=draw).float()
    return torch.randn(count, *shape, generator=draw)


def test_every_layer_has_a_rule_a_builder_and_a_case() -> None:
    layers = {node_type.name for node_type in BY_NUMBER if node_type.role is Role.LAYER} | {"TensorReshape"}
    assert layers == set(RULES) == set(BUILDERS) == set(SINGLE) | set(SEVERAL)
    assert len(BY_NUMBER) == 85


@pytest.mark.parametrize(("kind", "text", "shape"), CASES)
def test_a_layer_gives_the_inferred_shape_counts_its_weights_and_learns(
    kind: str, text: str, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    graph = parse(text)
    assert not graph.notes
    expected, price = infer(graph, shape)[graph.last.id], cost(graph, shape)
    x = samples(kind, shape)
    # The output as the layer gives it, without the flattening that comes before a loss.
    model = build(graph, shape, "", label_shape=(1,))
    assert tuple(model.eval()(x).shape[1:]) == expected
    parameters = list(model.parameters())
    assert sum(parameter.numel() for parameter in parameters) == price.parameters
    assert price.forward_flops >= 0
    if not parameters:
        return
    model.train()
    before = [parameter.detach().clone() for parameter in parameters]
    made = model(x)
    assert tuple(made.shape) == (6, *expected)
    target = torch.randn(made.shape, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(parameters, 0.01)
    (made - target).square().mean().backward()
    optimizer.step()
    changed = [bool((old != new).any()) for old, new in zip(before, parameters, strict=True)]
    assert all(parameter.grad is not None for parameter in parameters)
    assert any(changed)
    assert all(torch.isfinite(parameter).all() for parameter in parameters)


def one(kind: str, shape: tuple[int, ...], **params: Any) -> nn.Module:
    torch.manual_seed(0)
    return build(parse(json.dumps({"layers": [{"type": kind, **params}]})), shape, "", label_shape=(1,)).eval()


def test_convolutions_are_torchs_own_with_channels_last() -> None:
    model, x = one("Conv2D", (6, 5, 3), filters=4, stride=2, padding=1), torch.randn(2, 6, 5, 3)
    weights = model.state_dict()
    assert list(weights) == ["layer0.weight", "layer0.bias"]
    plain = functional.conv2d(x.permute(0, 3, 1, 2), weights["layer0.weight"], weights["layer0.bias"], 2, 1)
    torch.testing.assert_close(model(x), plain.permute(0, 2, 3, 1))


def test_same_padding_keeps_ceil_of_size_by_stride() -> None:
    for size in range(3, 10):
        for stride in (1, 2, 3):
            graph = parse(json.dumps({"layers": [{"type": "Conv1D", "padding": "same", "stride": stride}]}))
            assert infer(graph, (size, 2))["layers[0]"] == (-(-size // stride), 32)


@pytest.mark.parametrize("padding", [1, "same"])
def test_padding_counts_in_no_pool(padding: int | str) -> None:
    ones = torch.ones(1, 5, 5, 1)
    for kind in ("MaxPool2D", "AvgPool2D"):
        assert (one(kind, (5, 5, 1), pool_size=3, stride=2, padding=padding)(-ones) == -1).all(), kind


def test_a_last_step_is_the_last_of_each_direction() -> None:
    model, x = one("Bidirectional", (6, 3), layer="LSTM", units=4), torch.randn(2, 6, 3)
    cell = model.get_submodule("layer0.cell")
    steps, (last, _) = cell(x)
    torch.testing.assert_close(model(x), torch.cat((last[0], last[1]), 1))
    torch.testing.assert_close(model(x), torch.cat((steps[:, -1, :4], steps[:, 0, 4:]), 1))


def test_attention_is_the_softmax_of_scaled_products() -> None:
    model, x = one("SelfAttention", (5, 4), num_heads=2), torch.randn(2, 5, 4)
    layer = model.get_submodule("layer0")

    def heads(name: str) -> Tensor:
        return layer.get_submodule(name)(x).reshape(2, 5, 2, 2).transpose(1, 2)

    weights = (heads("query") @ heads("key").transpose(2, 3) / 2**0.5).softmax(-1)
    mixed = (weights @ heads("value")).transpose(1, 2).reshape(2, 5, 4)
    torch.testing.assert_close(model(x), layer.get_submodule("out")(mixed))


@pytest.mark.parametrize(
    ("kind", "params"),
    [("MultiHeadAttention", {"num_heads": 2}), ("LinearAttention", {}), ("TransformerEncoder", {"num_heads": 2})],
)
def test_a_causal_layer_does_not_see_what_follows(kind: str, params: dict[str, Any]) -> None:
    x = torch.randn(1, 6, 4)
    other = x.clone()
    other[:, 4:] += 1
    causal, free = one(kind, (6, 4), causal=True, **params), one(kind, (6, 4), **params)
    torch.testing.assert_close(causal(x)[:, :4], causal(other)[:, :4])
    assert not torch.allclose(free(x)[:, :4], free(other)[:, :4])


def test_causal_linear_attention_ends_where_the_free_one_does() -> None:
    x = torch.randn(2, 6, 4)
    causal, free = one("LinearAttention", (6, 4), causal=True), one("LinearAttention", (6, 4))
    torch.testing.assert_close(causal(x)[:, -1], free(x)[:, -1])


def test_a_decoder_reads_its_memory_and_not_the_future() -> None:
    definition, shape = SEVERAL["TransformerDecoder"][0]
    model = build(parse(json.dumps({"layers": definition})), shape, "", label_shape=(1,)).eval()
    x = torch.randn(1, *shape)
    other = x.clone()
    other[:, 4] += 1  # the memory, a convolution over two steps, sees this one at its end
    assert not torch.allclose(model(x)[:, 0], model(other)[:, 0])


def test_positions_are_sines_and_cosines() -> None:
    table = sinusoids(50, 6)
    assert table[0].tolist() == [0, 1, 0, 1, 0, 1]
    assert table[7, 2].item() == pytest.approx(torch.sin(torch.tensor(7 / 10_000 ** (2 / 6))).item(), abs=1e-6)


def test_a_batch_of_one_trains_through_a_batch_norm() -> None:
    model = one("BatchNorm", (3,)).train()
    mean = model.get_buffer("layer0.running_mean").clone()
    assert torch.isfinite(model(torch.randn(1, 3))).all()
    assert torch.equal(model.get_buffer("layer0.running_mean"), mean)
    model(torch.randn(8, 3))
    assert not torch.equal(model.get_buffer("layer0.running_mean"), mean)


@pytest.mark.parametrize("value", [10.0, -1.0, 2.5, float("nan")])
def test_an_embedding_says_what_it_cannot_read(value: float) -> None:
    model = one("Embedding", (3,), vocab_size=10)
    with pytest.raises(CyxError) as caught:
        model(torch.tensor([[1.0, value, 2.0]]))
    assert caught.value.code is Code.INVALID
    assert "from 0 to 9" in caught.value.message
    assert f"{value:g}" in caught.value.message


def test_merges_follow_the_pins_and_align_channels() -> None:
    nodes = [{"id": i, "type": kind, "parameters": params} for i, (kind, params) in enumerate(
        [("DatasetInput", {"columns": "0:2"}), ("DatasetInput", {"columns": "2:4"}), ("Concatenate", {})]
    )]  # fmt: skip
    links = [{"from": 0, "to": 2, "to_pin_index": 1}, {"from": 1, "to": 2, "to_pin_index": 0}]
    model = build(parse(json.dumps({"nodes": nodes, "links": links})), (4,), "")
    assert model(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).tolist() == [[3, 4, 1, 2]]
    added = build(parse(json.dumps({"layers": SEVERAL["Constant"][0][0]})), (2, 2, 3), "", label_shape=(1,))
    assert added(torch.zeros(1, 2, 2, 3))[0, 1, 1].tolist() == [1, 2, 3]


def test_inputs_read_fields_and_shapes_of_their_own() -> None:
    nodes = [
        {"id": "image", "type": "DatasetInput", "parameters": {"field": "image", "input_shape": "[4, 4, 1]"}},
        {"id": "table", "type": "DatasetInput"},
        {"id": "conv", "type": "Conv2D", "parameters": {"filters": 2}},
        {"id": "flat", "type": "Flatten"},
        {"id": "join", "type": "Concatenate"},
    ]
    pairs = [("image", "conv"), ("conv", "flat"), ("flat", "join"), ("table", "join")]
    graph = parse(json.dumps({"nodes": nodes, "links": [{"from": a, "to": b} for a, b in pairs]}))
    shapes = {"image": (16,), "x": (3,)}
    assert infer(graph, shapes)["join"] == (2 * 2 * 2 + 3,)
    model = build(graph, shapes, "")
    assert model({"image": torch.randn(5, 16), "x": torch.randn(5, 3)}).shape == (5, 11)


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_a_residual_network_is_that_of_the_paper(depth: int) -> None:
    graph = parse(json.dumps({"type": "resnet", "layers": depth}))
    # Parameters of the published networks on 224 x 224 x 3 with 1000 classes.
    known = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160}
    assert cost(graph, (224, 224, 3)).parameters == known[depth]
    assert infer(graph, (224, 224, 3))[graph.last.id] == (1000,)


def test_a_residual_network_learns() -> None:
    torch.manual_seed(0)
    text = '{"type": "resnet", "layers": 18, "stem": "small", "width": 8, "num_classes": 2, "input_shape": [8, 8, 1]}'
    model = build(parse(text), (64,), "CrossEntropyLoss")
    x, y = torch.randn(16, 64), torch.arange(16) % 2
    x += y.unsqueeze(1) * 1.0
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    losses: list[float] = []
    for _ in range(8):
        loss = functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
