"""Shape inference refuses before anything runs, naming the node, its type, what was expected and what it got."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.graph import DataShape, check_fits, check_model_fits, cost, infer, parse, to_cyxgraph
from tests.layer_cases import cases


def layers(*entries: Any) -> Any:
    return parse(json.dumps({"layers": list(entries)}))


MISFITS: list[tuple[list[Any], tuple[int, ...], list[str]]] = [
    ([{"type": "conv2d"}], (64,), ["layers[0] (Conv2D)", "(H, W, C)", "(64,)", "input_shape"]),
    ([{"type": "conv2d", "kernel_size": 5}], (3, 3, 1), ["at least 5", "(3, 3, 1)"]),
    ([{"type": "conv2d", "kernel_size": [3, 3, 3]}], (5, 5, 1), ["one kernel_size or 2", "[3, 3, 3]"]),
    ([{"type": "conv2d", "groups": 2}], (5, 5, 3), ["2 groups", "3 and 32"]),
    ([{"type": "maxpool2d", "padding": 2}], (5, 5, 3), ["half the pool_size", "2"]),
    ([{"type": "global_avg_pool"}], (5,), ["(T, C)", "(5,)"]),
    ([{"type": "adaptive_avg_pool", "output_size": 2}], (5,), ["(T, C)", "(5,)"]),
    ([{"type": "lstm"}], (4, 4, 4), ["LSTM", "(T, F)", "(4, 4, 4)"]),
    ([{"type": "multi_head_attention"}], (5, 6), ["8 heads", "(5, 6)"]),
    ([{"type": "self_attention", "d_model": 8}], (5, 4), ["(T, 8)", "(5, 4)"]),
    ([{"type": "transformer_encoder"}], (8,), ["TransformerEncoder", "(T, F)", "(8,)"]),
    ([{"type": "positional_encoding", "max_length": 3}], (5, 4), ["3 steps", "(5, 4)"]),
    ([{"type": "group_norm", "num_groups": 4}], (6,), ["4 groups", "(6,)"]),
    ([{"type": "instance_norm"}], (6,), ["several places", "(6,)"]),
    ([{"type": "layer_norm", "normalized_shape": [3]}], (6,), ["(3,)", "(6,)"]),
    ([{"type": "reshape", "shape": [4, -1]}], (6,), ["multiple", "(6,)"]),
    ([{"type": "reshape", "shape": [4]}], (6,), ["4 numbers", "(6,)"]),
    ([{"type": "permute", "dims": [0, 0]}], (2, 3), ["every axis", "[0, 0]"]),
    ([{"type": "squeeze", "axis": 1}], (2, 3), ["size of 1 at axis 1", "(2, 3)"]),
    ([{"type": "softmax", "axis": 3}], (2, 3), ["axis from -2 to 1", "3"]),
    ([{"type": "split", "sections": 3}], (4,), ["3 sections", "(4,)"]),
    ([{"type": "split", "sizes": [1, 2]}], (4,), ["add up to 4", "[1, 2]"]),
    ([{"type": "split", "part": 2}], (4,), ["part from 0 to 1", "2"]),
    ([{"type": "time_distributed", "layer": "dense"}], (4,), ["(T, …)", "(4,)"]),
    ([{"type": "constant", "value": [1, 2], "shape": [3], "inputs": []}], (4,), ["1 or 3 numbers", "2"]),
    ([{"type": "lambda", "function": "clamp", "min": 2, "max": 1}], (4,), ["min 2, max 1"]),
    ([{"type": "dense", "id": "a", "units": 3}, {"type": "add", "inputs": ["a", "input"]}], (4,), ["(3,)", "(4,)"]),
    ([{"type": "dense", "id": "a"}, {"type": "concat", "axis": 0, "inputs": ["a", "input"]}], (4, 4), ["(4, 4)"]),
    ([{"type": "unsqueeze"}] * 8, (4,), ["8 axes"]),
    ([{"type": "reshape", "shape": [1] * 8}, {"type": "unsqueeze"}], (1,), ["axes"]),
    ([{"type": "embedding", "vocab_size": 9, "dim": 1048576}], (4096,), ["elements"]),
    ([{"type": "transformer_encoder", "num_layers": 256, "dim_feedforward": 1048576}], (5, 512), ["parameters"]),
]  # fmt: skip


@pytest.mark.parametrize(("entries", "shape", "words"), MISFITS, ids=lambda value: str(value)[:40])
def test_a_misfit_names_node_type_expected_and_got(
    entries: list[Any], shape: tuple[int, ...], words: list[str]
) -> None:
    with pytest.raises(CyxError) as caught:
        cost(layers(*entries), shape)
    assert caught.value.code is Code.INVALID
    assert all(word in caught.value.message for word in words), caught.value.message
    assert "layers[" in caught.value.message or "layer " in caught.value.message


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "steps"), [(28, 5, 1, 2, 28), (7, 3, 2, 0, 3), (8, 3, 3, 1, 3)]
)
def test_windows_step_as_the_reference_says(size: int, kernel: int, stride: int, padding: int, steps: int) -> None:
    given = {"kernel_size": str(kernel), "stride": str(stride), "padding": str(padding)}
    graph = layers({"type": "conv2d", "filters": "3", **given})
    assert infer(graph, (size, size, 1))[graph.last.id] == (steps, steps, 3)
    pool = layers({"type": "max_pool_2d", "pool_size": str(kernel), "stride": str(stride)})
    assert infer(pool, (size, size))[pool.last.id] == ((size - kernel) // stride + 1,) * 2 + (1,)


@pytest.mark.parametrize("padding", [0, 1, "same"])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "more"), [(3, 1, 1, 0), (4, 2, 1, 1), (2, 3, 1, 2), (3, 2, 2, 1)]
)
def test_a_transposed_convolution_turns_the_arithmetic_round(
    kernel: int, stride: int, dilation: int, more: int, padding: int | str
) -> None:
    given = {"kernel_size": kernel, "stride": stride, "dilation": dilation, "padding": padding, "output_padding": more}
    graph = layers({"type": "conv2d", "filters": 3, "transposed": True, **given})
    made = 5 * stride if padding == "same" else 4 * stride - 2 * int(padding) + dilation * (kernel - 1) + 1 + more
    assert infer(graph, (5, 5, 2))[graph.last.id] == (made, made, 3)
    assert cost(graph, (5, 5, 2)).forward_flops == 2 * 5 * 5 * kernel * kernel * 2 * 3


@pytest.mark.parametrize(
    ("given", "words"),
    [({"output_padding": 2, "stride": 2}, "below the stride"), ({"padding": 4}, "at least one cell")],
)
def test_a_transposed_convolution_that_gives_nothing_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(CyxError, match=words):
        infer(layers({"type": "conv1d", "filters": 3, "transposed": True, **given}), (4, 2))


def test_costs_count_multiply_adds_twice() -> None:
    assert cost(layers({"type": "dense", "units": 10}), (64,)).forward_flops == 2 * 64 * 10
    conv = cost(layers({"type": "conv2d", "filters": 4}), (5, 5, 3))
    assert (conv.parameters, conv.forward_flops) == (3 * 3 * 3 * 4 + 4, 2 * 3 * 3 * 3 * 4 * 9)


@pytest.mark.parametrize(("text", "shape"), [pytest.param(text, shape, id=name) for name, _, text, shape in cases()])
def test_a_graph_written_out_reads_back_as_the_same_model(text: str, shape: tuple[int, ...]) -> None:
    graph = parse(text)
    again = parse(json.dumps(to_cyxgraph(graph)))
    assert [(layer.id, layer.type, dict(layer.params), layer.inputs) for layer in again.layers] == [
        (layer.id, layer.type, dict(layer.params), layer.inputs) for layer in graph.layers
    ]
    assert infer(again, shape) == infer(graph, shape)


def test_everything_beside_the_layers_is_written_out_too() -> None:
    text = json.dumps(
        {
            "layers": [
                {"type": "dataset_input", "columns": "0:8", "field": "table", "input_shape": [2, 4]},
                {"type": "data_loader", "batch_size": 7, "shuffle": "false"},
                {"type": "data_split", "train_ratio": 0.7},
                {"type": "normalize", "mean": 1, "std": 2}, {"type": "one_hot", "num_classes": 4},
                {"type": "augmentation", "horizontal_flip": True}, {"type": "warmup", "warmup_steps": 5},
                {"type": "cosine"}, {"type": "l1_regularization", "lambda": 0.5}, {"type": "dense", "units": 4},
                {"type": "mse", "weight": 0.5}, {"type": "cross_entropy"}, {"type": "sgd", "lr": 0.3},
            ]
        }
    )  # fmt: skip
    graph = parse(text)
    assert graph.loss is not None
    assert (graph.loss.type, [part.type for part in graph.loss.also]) == ("CrossEntropyLoss", ["MSELoss"])
    assert parse(json.dumps(to_cyxgraph(graph))) == graph


def test_numbers_as_ids_stay_numbers() -> None:
    document = to_cyxgraph(
        parse('{"nodes": [{"id": 1, "type": 77}, {"id": 2, "type": 0}], "links": [{"from": 1, "to": 2}]}')
    )
    assert [node["id"] for node in document["nodes"]] == [1, 2]  # type: ignore[attr-defined]


# --- fits


SEQUENCE = DataShape(10, (6,), 5, label_shape=(6,))


def test_a_class_for_every_step_is_read_from_the_last_axis() -> None:
    tagger = layers({"type": "embedding", "vocab_size": 9}, {"type": "dense", "units": 5, "flatten": False})
    check_fits(tagger, SEQUENCE, "x")
    for graph, loss, words in [
        (layers({"type": "dense", "units": 5}), None, ["(5,)", "(6, classes)"]),
        (tagger, "MSELoss", ["MSELoss", "every step"]),
        (layers({"type": "embedding", "vocab_size": 9, "dim": 4}), None, ["4 outputs", "at least 5"]),
    ]:
        with pytest.raises(CyxError) as caught:
            check_fits(graph, SEQUENCE, "x", loss)
        assert all(word in caught.value.message for word in words), caught.value.message


def test_features_are_given_the_shape_that_the_input_states() -> None:
    cnn = layers({"type": "dataset_input", "input_shape": "[8, 8, 1]"}, "conv2d", {"type": "dense", "units": 10})
    check_model_fits(cnn, "builtin:digits")
    assert infer(cnn, (64,))["layers[1]"] == (6, 6, 32)
    with pytest.raises(CyxError, match=r"8 x 8 x 1 features, the dataset 'builtin:iris' has 4"):
        check_model_fits(cnn, "builtin:iris")


@pytest.mark.parametrize(
    ("params", "words"),
    [({"columns": "0:65"}, ["0:65", "64"]), ({"field": "image"}, ["image", "x"]), ({"input_shape": 4}, ["4", "64"])],
)
def test_an_input_that_does_not_fit_is_told(params: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(CyxError) as caught:
        check_model_fits(layers({"type": "input", **params}, {"type": "dense", "units": 10}), "builtin:digits")
    assert all(word in caught.value.message for word in words), caught.value.message


def test_a_model_without_a_known_dataset_is_checked_by_its_input() -> None:
    model = layers({"type": "input", "input_shape": [4]}, "conv2d")
    with pytest.raises(CyxError, match="Conv2D"):
        check_model_fits(model, "file://csv/a.csv")
