from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.graph import check_model_fits, cost, infer, parse
from cyxwiz.graph.catalogue import BY_NAME, BY_NUMBER, find_type
from cyxwiz.graph.layers import RULES
from tests.soak import examples


def types(definition: object) -> list[str]:
    return [layer.type for layer in parse(json.dumps(definition)).layers]


def refused(definition: object, code: Code = Code.INVALID) -> CyxError:
    with pytest.raises(CyxError) as caught:
        parse(definition if isinstance(definition, str) else json.dumps(definition))
    assert caught.value.code is code, caught.value
    return caught.value


def cyxgraph(*nodes: tuple[int, Any, dict[str, Any]], links: list[tuple[int, int]] | None = None) -> dict[str, Any]:
    if links is None:
        links = [(a[0], b[0]) for a, b in itertools.pairwise(nodes)]
    return {
        "version": "1.0",
        "framework": 0,
        "nodes": [
            {"id": ident, "type": kind, "name": f"n{ident}", "parameters": params, "pos_x": 0, "pos_y": 0}
            for ident, kind, params in nodes
        ],
        "links": [
            {"id": i, "from_node": a, "from_pin": 2, "to_node": b, "to_pin": 3, "link_type": 0}
            for i, (a, b) in enumerate(links)
        ],
    }


def test_a_cyxgraph_with_all_kinds_of_nodes_is_read() -> None:
    graph = parse(
        json.dumps(
            cyxgraph(
                (1, 77, {"input_shape": "[28, 28]"}),
                (2, 78, {"batch_size": "16", "shuffle": "false"}),
                (3, 80, {"train_ratio": "0.7", "val_ratio": "0.2", "test_ratio": "0.1"}),
                (4, 82, {"mean": "0.1307", "std": "0.3081"}),
                (5, 0, {"units": "128"}),
                (6, 30, {"negative_slope": "0.2"}),
                (7, 14, {"rate": "0.25", "seed": "1"}),
                (8, 0, {"units": "10"}),
                (9, 50, {}),
                (10, 52, {}),
                (11, 61, {"learning_rate": "0.01"}),
            )
        )
    )
    assert [layer.type for layer in graph.layers] == ["Dense", "LeakyReLU", "Dropout", "Dense", "Output"]
    assert graph.layers[0].params == {"units": 128, "bias": True, "flatten": True}
    assert graph.layers[1].params == {"negative_slope": 0.2}
    assert graph.layers[1].inputs == ("5",)
    assert (graph.inputs, graph.outputs, graph.input_shape) == (("1",), ("9",), (28, 28))
    assert (graph.batch_size, graph.shuffle, graph.validation_split, graph.test_split) == (16, False, 0.2, 0.1)
    assert graph.normalize == (0.1307, 0.3081)
    assert graph.loss is not None
    assert graph.loss.type == "CrossEntropyLoss"
    assert graph.optimizer is not None
    assert graph.optimizer.params == {"learning_rate": 0.01}
    assert graph.notes == ("node 7 (Dropout): the parameter 'seed' has no effect",)
    assert infer(graph, (28, 28))["9"] == (10,)
    assert cost(graph, (28, 28)).parameters == 784 * 128 + 128 + 128 * 10 + 10


def test_links_decide_the_order_and_a_label_path_is_no_branch() -> None:
    nodes = (
        (5, "Dense", {"units": 3}),
        (3, "relu", {}),
        (2, "linear", {"units": 7}),
        (1, "DatasetInput", {}),
        (8, "one_hot_encode", {"num_classes": 3}),
        (9, "CrossEntropyLoss", {}),
    )
    graph = parse(json.dumps(cyxgraph(*nodes, links=[(1, 2), (2, 3), (3, 5), (5, 9), (1, 8), (8, 9)])))
    assert [layer.id for layer in graph.layers] == ["2", "3", "5"]
    assert graph.one_hot == 3


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ({"layers": [{"type": "dense", "units": 128}]}, ["Dense"]),
        ({"layers": [{"type": "dense", "units": "64"}, {"type": "relu"}, "dropout"]}, ["Dense", "ReLU", "Dropout"]),
        ({"layers": [{"type": "Dense", "units": 4, "activation": "leaky-relu"}]}, ["Dense", "LeakyReLU"]),
        ({"layers": [64, 32, 10]}, ["Dense", "ReLU", "Dense"]),
        ({"architecture": "MLP", "layers": [784, 256, 128, 10]}, ["Dense", "ReLU", "Dense", "ReLU", "Dense"]),
        (
            {
                "type": "mlp", "input_size": 784, "output_size": 10, "hidden_layers": [256, 128],
                "activation": "relu", "output_activation": "softmax",
            },
            ["Dense", "ReLU", "Dense", "ReLU", "Dense", "Softmax"],
        ),
        (cyxgraph((1, 0, {}), (2, 29, {}), links=[]), ["Dense", "ReLU"]),
    ],
)  # fmt: skip
def test_every_form_is_read(definition: object, expected: list[str]) -> None:
    assert types(definition) == expected


def test_a_list_of_numbers_states_input_and_output() -> None:
    graph = parse('{"layers": [64, 32, 10]}')
    assert graph.input_shape == (64,)
    assert [layer.params.get("units") for layer in graph.layers] == [32, None, 10]


def test_the_catalogue_has_85_types_findable_by_number_and_name() -> None:
    assert len(BY_NUMBER) == len(BY_NAME) == 85
    for number, node_type in enumerate(BY_NUMBER):
        assert node_type.number == number
        name = node_type.name
        for spelling in (number, str(number), name, name.upper(), f"{name[:2]}_{name[2:]}"):
            assert find_type(spelling) is node_type
    expected = {0: "Dense", 22: "MultiHeadAttention", 35: "Swish", 50: "Output", 58: "NLLLoss", 64: "NAdam"}
    assert {number: BY_NUMBER[number].name for number in expected} == expected
    assert (BY_NUMBER[77].name, BY_NUMBER[84].name) == ("DatasetInput", "Subgraph")


NEEDS = {
    "AdaptiveAvgPool": {"output_size": 1}, "TimeDistributed": {"layer": "dense"},
    "Lambda": {"function": "abs"}, "Reshape": {"shape": [2, 2]}, "View": {"shape": [4]},
    "TensorReshape": {"shape": -1}, "Permute": {"dims": [0]}, "Parameter": {"shape": [4]},
    "Subgraph": {"nodes": [{"id": 1, "type": "relu"}]},
}  # fmt: skip
SEVERAL = {name: rule.inputs for name, rule in RULES.items() if rule.inputs[0] != 1}


@pytest.mark.parametrize("node_type", BY_NUMBER, ids=lambda node_type: node_type.name)
def test_every_type_is_parsed_with_its_defaults(node_type: Any) -> None:
    reads, _ = SEVERAL.get(node_type.name, (1, 1))
    layers = [{"type": "dense", "units": 4, "id": f"d{i}", "inputs": "input"} for i in range(max(reads, 1))]
    wanted = {"inputs": [f"d{i}" for i in range(reads)]} if node_type.name in RULES else {}
    last = {"type": node_type.number, **wanted, **NEEDS.get(node_type.name, {})}
    extra = [] if reads else [{"type": "add", "inputs": ["d0", "layers[1]"]}]
    graph = parse(json.dumps({"layers": [*layers, last, *extra]}))
    assert not graph.notes
    if node_type.name in RULES:
        assert node_type.name in [layer.type for layer in graph.layers]


@pytest.mark.parametrize("name", sorted(set(NEEDS) - {"Subgraph"}))
def test_a_parameter_without_a_default_must_be_stated(name: str) -> None:
    error = refused({"layers": [{"type": "dense"}, {"type": name}]})
    assert "needs the parameter" in error.message
    assert name in error.message


D = (0, {"units": 4})


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ("", ["empty"]),
        ("  \n", ["empty"]),
        ("{", ["not JSON"]),
        ("[1, 2]", ["JSON object"]),
        ("{}", ["names no layers"]),
        ('{"layers": []}', ["no layer"]),
        ('{"layers": 3}', ["layers", "list"]),
        ('{"layers": [10]}', ["one number"]),
        ('{"layers": [64, 0]}', ["output size", "0"]),
        ('{"layers": [64, true, 10]}', ["layers[1]"]),
        ('{"layers": [64, 1e30]}', ["output size"]),
        ('{"layers": ["relu", {"type": "dense", "units": NaN}]}', ["NaN", "layers[1].units"]),
        ('{"layers": [64, -Infinity, 10]}', ["-Infinity", "layers[1]"]),
        ("[" * 800 + "NaN" + "]" * 800, []),
        ('{"layers": [{"type": "dense", "units": 1e999}]}', ["units", "inf"]),
        ('{"layers": [{"type": "dense", "units": ' + "9" * 5000 + "}]}", ["JSON: a number has thousands"]),
        ('{"layers": [{"type": "dense", "units": ' + "9" * 400 + "}]}", ["units"]),
        ('{"layers": [{"units": 3}]}', ["layers[0]", "type"]),
        ('{"layers": [{"type": "blob"}]}', ["layers[0]", "blob"]),
        ('{"layers": [{"type": "dense", "units": -1}]}', ["layers[0] (Dense)", "units", "-1"]),
        ('{"layers": [{"type": "dense"}, {"type": "dropout", "rate": 1.0}]}', ["Dropout", "rate", "1.0", "1)"]),
        ('{"layers": [{"type": "dense", "activation": "dense"}]}', ["activation", "Dense"]),
        ('{"layers": [{"type": "relu", "id": "a"}, {"type": "relu", "id": "a"}]}', ["Two nodes", "a"]),
        ('{"type": "mlp", "hidden_layers": [3]}', ["output_size"]),
        ("[" * 100_000, ["deep"]),
        (cyxgraph((1, 85, {})), ["node 1", "85"]),
        (cyxgraph((1, *D), (1, *D), links=[]), ["id 1"]),
        (cyxgraph((1, *D), links=[(1, 7)]), ["dangles", "7"]),
        (cyxgraph((1, *D), (2, 29, {}), links=[(1, 2), (2, 1)]), ["cycle", "1", "2"]),
        (cyxgraph((1, *D), links=[(1, 1)]), ["cycle"]),
        (cyxgraph((1, 77, {"input_shape": "[0]"}), (2, *D)), ["input_shape"]),
        (cyxgraph((1, 77, {}), (2, 52, {})), ["no layer"]),
        (cyxgraph((1, 77, {}), (2, *D), (3, *D), links=[(1, 2)]), ["node 3", "connected"]),
        (cyxgraph((1, *D), (2, 77, {})), ["node 2", "prepares data"]),
        (cyxgraph((1, *D), (2, 52, {}), (3, *D)), ["node 3", "cannot follow"]),
        (cyxgraph((1, 80, {"train_ratio": "0.9", "val_ratio": "0.9"}), (2, *D)), ["add up"]),
        (cyxgraph((1, *D), (2, 29, {}), (3, 29, {}), links=[(1, 2), (1, 3)]), ["2 outputs", "layer 2", "layer 3"]),
        (cyxgraph((1, *D), (2, *D), (3, 29, {}), links=[(1, 3), (2, 3)]), ["node 3 (ReLU)", "2 inputs", "Add"]),
        (cyxgraph((1, *D), (2, 47, {})), ["node 2 (Add)", "1 inputs", "at least 2"]),
        (cyxgraph((1, *D), (2, 75, {})), ["node 2 (Constant)", "expected 0"]),
        (cyxgraph((1, *D), (2, 55, {}), (3, 53, {}), (4, 52, {}), links=[(1, 2), (1, 3), (1, 4)]), ["BCEWithLogits"]),
        ('{"type": "resnet", "layers": 51}', ["51", "18, 34, 50, 101"]),
        ('{"type": "resnet", "layers": [64, 10]}', ["list", "50"]),
        ({"layers": [{"type": "dense", "inputs": ["nothing"]}]}, ["dangles", "nothing"]),
        ({"layers": ["dense", {"type": "bidirectional", "layer": "conv2d"}]}, ["Bidirectional", "Conv2D", "LSTM"]),
        ({"layers": ["dense", {"type": "time_distributed", "layer": "lstm", "units": 0}]}, ["units", "0"]),
        ({"layers": ["dense", {"type": "time_distributed", "layer": "time_distributed"}]}, ["TimeDistributed"]),
        ({"layers": ["dense", {"type": "lambda", "function": "eval"}]}, ["function", "eval", "sqrt"]),
        ({"layers": ["dense", {"type": "reshape", "shape": [-1, -1]}]}, ["shape", "at most one"]),
        ({"layers": ["dense", {"type": "constant", "value": [[1, "x"]]}]}, ["value", "x"]),
        ({"nodes": [], "links": []}, ["no layer"]),
        ({"nodes": [{"id": None, "type": 0}]}, ["id", "None"]),
    ],
)
def test_a_bad_definition_is_refused_by_name(definition: object, words: list[str]) -> None:
    error = refused(definition)
    assert all(word in error.message for word in words), error.message


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ('{"type": "vgg", "layers": 16}', ["vgg", "mlp", "resnet"]),
        (cyxgraph((1, *D), (2, 29, {}), (3, 52, {}), links=[(1, 2), (1, 3)]), ["node 3 (CrossEntropyLoss)", "node 1"]),
        (cyxgraph((1, *D), (2, 59, {}), (3, 60, {})), ["node 3 (Adam)", "node 2 (SGD)"]),
        (cyxgraph((1, 78, {}), (2, 78, {}), (3, *D)), ["DataLoader"]),
    ],
)
def test_what_cannot_be_run_is_unsupported(definition: object, words: list[str]) -> None:
    error = refused(definition, Code.UNSUPPORTED)
    assert all(word in error.message for word in words), error.message


def test_a_long_cycle_is_found_quickly_and_shown_short() -> None:
    nodes = [(i, 29, {}) for i in range(5000)]
    error = refused(cyxgraph(*nodes, links=[(i, (i + 1) % 5000) for i in range(5000)]))
    assert "cycle" in error.message
    assert len(error.message) < 300


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
_params = st.dictionaries(
    st.sampled_from(["units", "rate", "negative_slope", "alpha", "mean", "std", "activation", "train_ratio", "x"]),
    _scalars | st.sampled_from(["relu", "0.5", "3", "[1, 2]"]),
    max_size=3,
)
_types = st.integers(-1, 86) | st.sampled_from(["dense", "relu", "Softmax", "mse", "adam"]) | _scalars
_node = st.fixed_dictionaries(
    {"id": st.integers(0, 6) | _scalars, "type": _types}, optional={"parameters": _params | _scalars}
)
_link = st.fixed_dictionaries({"from_node": st.integers(0, 6) | _scalars, "to_node": st.integers(0, 6) | _scalars})
_near = st.one_of(
    st.fixed_dictionaries({"nodes": st.lists(_node, max_size=6)}, optional={"links": st.lists(_link, max_size=8)}),
    st.fixed_dictionaries(
        {"layers": st.lists(st.builds(lambda p, t: {**p, "type": t}, _params, _types) | _scalars, max_size=5)},
        optional={"loss": _types, "optimizer": _types, "input_shape": _scalars, "type": _scalars},
    ),
    st.fixed_dictionaries(
        {"type": st.just("mlp"), "output_size": _scalars},
        optional={"hidden_layers": st.lists(_scalars) | _scalars, "activation": _scalars, "input_size": _scalars},
    ),
    st.recursive(_scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner), max_leaves=12),
)


def _survives(text: str) -> None:
    try:
        graph = parse(text)
        infer(graph, (4, 4))
        cost(graph, (4, 4))
        check_model_fits(graph, "builtin:iris")
    except CyxError as error:
        error.message.encode()
        json.dumps(error.details)


@settings(max_examples=examples(400), deadline=None)
@given(_near.map(json.dumps))
def test_nothing_but_cyxerror_escapes_from_near_valid_definitions(text: str) -> None:
    _survives(text)


@settings(max_examples=examples(200), deadline=None)
@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_nothing_but_cyxerror_escapes_from_any_text(text: str) -> None:
    _survives(text)
