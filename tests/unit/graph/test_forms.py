"""Branches, subgraphs, patterns and families: the forms beyond a chain of layers."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.graph import check_model_fits, cost, infer, parse, skipped_softmax


def graph_of(nodes: list[dict[str, Any]], links: list[Any] | None = None) -> Any:
    written = [link if isinstance(link, dict) else {"from": link[0], "to": link[1]} for link in links or []]
    return parse(json.dumps({"nodes": nodes, "links": written}))


def node(ident: Any, kind: Any, **params: Any) -> dict[str, Any]:
    return {"id": ident, "type": kind, "parameters": params}


def test_a_skip_connection_in_a_cyxgraph() -> None:
    graph = graph_of(
        [node(1, 77), node(2, 0, units="8"), node(3, 0, units="8"), node(4, 47), node(5, 0, units="3"), node(6, 52)],
        [(1, 2), (2, 3), {"from_node": 3, "to_node": 4, "to_pin_index": 1},
         {"from_node": 2, "to_node": 4, "to_pin_index": 0}, (4, 5), (5, 6)],
    )  # fmt: skip
    by_id = {layer.id: layer for layer in graph.layers}
    assert by_id["4"].inputs == ("2", "3")
    assert infer(graph, (8,))["5"] == (3,)


def test_an_axis_may_count_the_batch_as_the_editor_does() -> None:
    """Its Concatenate has a dim of 1, its Softmax may have; a sample has one axis less."""
    graph = graph_of(
        [node(1, 77), node(2, 0, units="4"), node(3, 46, dim="1"), node(4, 0, units="3"), node(5, 39, dim="1"),
         node(6, 52)],
        [(1, 2), (2, 3), {"from": 1, "to": 3, "to_pin_index": 1}, (3, 4), (4, 5), (5, 6)],
    )  # fmt: skip
    assert infer(graph, (8,)) == {"2": (4,), "3": (12,), "4": (3,), "5": (3,)}
    skipped = skipped_softmax(graph, (8,), "CrossEntropyLoss")
    assert skipped is not None
    assert skipped.id == "5"
    with pytest.raises(CyxError, match="an axis from -1 to 0, got 2"):
        infer(graph_of([node(1, 0), node(2, 39, dim="2")], [(1, 2)]), (8,))


def test_a_reshape_may_name_the_batch_as_the_editor_does() -> None:
    graph = graph_of([node(1, 81, shape="-1,8,8,1"), node(2, 2, filters="4"), node(3, 40, shape="-1,144")])
    assert infer(graph, (64,)) == {"1": (8, 8, 1), "2": (6, 6, 4), "3": (144,)}
    assert infer(graph_of([node(1, 40, shape="-1,8")]), (64,)) == {"1": (8, 8)}


def test_a_transposed_convolution_is_one_and_not_another() -> None:
    """As the editor draws decoders and generators."""
    graph = graph_of([node(1, 2, filters="4", kernel_size="4", stride="2", padding="1", transposed="true")])
    assert infer(graph, (7, 7, 3)) == {"1": (14, 14, 4)}
    assert not graph_of([node(1, 2, filters="4", transposed="false")]).notes


def test_a_loss_on_classes_may_read_what_the_softmax_at_the_end_reads() -> None:
    """So the earlier system draws a classifier: the scores go to the loss, and by a Softmax to the Output."""
    nodes = [node(1, 77), node(2, 0, units="3"), node(3, 39), node(4, 50), node(6, 60)]
    links = [(1, 2), (2, 3), (3, 4), (2, 5), {"from": 1, "to": 5, "from_pin_index": 1}, (5, 6)]
    graph = graph_of([*nodes, node(5, 52)], links)
    assert [layer.id for layer in graph.layers] == ["2", "3", "4"]
    skipped = skipped_softmax(graph, (8,), "CrossEntropyLoss")
    assert skipped is not None
    assert skipped.id == "3"
    with pytest.raises(CyxError, match="only a loss on the output"):
        graph_of([*nodes, node(5, 51)], links)
    with pytest.raises(CyxError, match="only a loss on the output"):
        graph_of([*nodes, node(5, 52), node(7, 0)], [*links, (4, 7)])


def test_parts_of_a_split_are_read_by_pin_or_in_order() -> None:
    nodes = [node(1, "Split", sections=2, axis=0), node(2, "Dense", units=2), node(3, "Concatenate")]
    by_order = graph_of(nodes, [(1, 2), (1, 3), (2, 3)])
    assert [layer.id for layer in by_order.layers] == ["1:0", "1:1", "2", "3"]
    assert {layer.id: layer.inputs for layer in by_order.layers}["3"] == ("1:1", "2")
    pins = [{"from": 1, "to": 2, "from_pin_index": 1}, {"from": 1, "to": 3, "from_pin_index": 0}, (2, 3)]
    assert {layer.id: layer.inputs for layer in graph_of(nodes, pins).layers}["2"] == ("1:1",)


def test_data_nodes_lie_between_an_input_and_its_layers() -> None:
    graph = graph_of(
        [node(1, 77), node(2, 81, shape="[8, 8, 1]"), node(3, 82, mean="1"), node(4, 79, horizontal_flip="true"),
         node(5, 2, filters="2"), node(6, 83), node(7, 52)],
        [(1, 2), (2, 3), (3, 4), (4, 5), (5, 7), (1, 6), (6, 7)],
    )  # fmt: skip
    assert [(layer.type, layer.inputs) for layer in graph.layers] == [("TensorReshape", ("1",)), ("Conv2D", ("2",))]
    assert graph.augment is not None
    assert graph.augment.params["horizontal_flip"] is True


INNER = {
    "nodes": [node(1, "DatasetInput"), node(2, "Dense", units=4), node(3, "Add"), node(4, "Output")],
    "links": [{"from": 1, "to": 2}, {"from": 2, "to": 3}, {"from": 1, "to": 3}, {"from": 3, "to": 4}],
}


@pytest.mark.parametrize(
    "params",
    [
        INNER,
        {"graph": json.dumps(INNER)},
        {"subgraph": INNER},
        {key: json.dumps(value) for key, value in INNER.items()},
    ],
)
def test_a_subgraph_is_inlined(params: dict[str, Any]) -> None:
    graph = graph_of(
        [node("a", 84, **params), node("b", 84, **params), node("c", 0, units=2)], [("a", "b"), ("b", "c")]
    )
    assert [layer.id for layer in graph.layers] == ["a.1", "a.2", "a.3", "a.4", "b.1", "b.2", "b.3", "b.4", "c"]
    assert {layer.id: layer.inputs for layer in graph.layers}["b.1"] == ("a.4",)
    assert infer(graph, (4,))["c"] == (2,)


def test_a_subgraph_with_several_inputs_and_outputs_goes_by_pins() -> None:
    inner = {
        "nodes": [node("x", "DatasetInput"), node("y", "DatasetInput", input_shape=[2, 2]), node("f", "Flatten"),
                  node("o", "Output"), node("p", "Output")],
        "links": [{"from": "x", "to": "o"}, {"from": "y", "to": "f"}, {"from": "f", "to": "p"}],
    }  # fmt: skip
    graph = graph_of(
        [node(1, 77, columns="0:3"), node(2, 77, columns="3:7"), node(3, 84, **inner), node(4, 46)],
        [{"from": 2, "to": 3, "to_pin_index": 1}, {"from": 1, "to": 3, "to_pin_index": 0},
         {"from": 3, "to": 4, "from_pin_index": 1, "to_pin_index": 0},
         {"from": 3, "to": 4, "from_pin_index": 0, "to_pin_index": 1}],
    )  # fmt: skip
    by_id = {layer.id: layer for layer in graph.layers}
    assert by_id["4"].inputs == ("3.p", "3.o")
    assert (by_id["3.x"].inputs, by_id["3.y"].inputs) == (("1",), ("2",))
    assert infer(graph, (7,))["4"] == (7,)


def nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"nodes": [node(0, "DatasetInput"), node(1, "relu")], "links": [{"from": 0, "to": 1}]}
    for _ in range(depth):
        inner = {"nodes": [node(0, "DatasetInput"), node(1, 84, **inner)], "links": [{"from": 0, "to": 1}]}
    return inner


def test_subgraphs_nest_up_to_a_bound() -> None:
    graph = graph_of([node(1, 0), node(2, 84, **nested(6))], [(1, 2)])
    assert graph.last.id == "2.1.1.1.1.1.1.1"
    with pytest.raises(CyxError, match="nested more than 8"):
        graph_of([node(1, 0), node(2, 84, **nested(9))], [(1, 2)])


@pytest.mark.parametrize(
    ("inner", "links", "words"),
    [
        ({}, [(1, 2)], ["node 2 (Subgraph)", "nodes", "list"]),
        ({"nodes": [{"type": "relu"}]}, [(1, 2)], ["node 2 (Subgraph)", "id in entry 1"]),
        ({"graph": "{"}, [(1, 2)], ["not JSON"]),
        ({"nodes": "["}, [(1, 2)], ["not JSON"]),
        ({"nodes": [node(1, "adam")]}, [(1, 2)], ["2.1 (Adam)", "outside"]),
        ({"nodes": [node(1, "relu"), node(2, "relu")], "links": [{"from": 1, "to": 3}]}, [(1, 2)], ["dangles", "2.3"]),
        (INNER, [(1, 2), (3, 2)], ["2 inputs", "1 DatasetInput"]),
        ({"nodes": [node(1, "relu")]}, [(1, 2), (3, 2)], ["2 inputs", "no DatasetInput"]),
        (INNER, [(1, 2), {"from": 2, "to": 3, "from_pin_index": 4}], ["pin 4", "has 1"]),
    ],
)
def test_a_subgraph_that_cannot_be_wired_is_refused(inner: dict[str, Any], links: list[Any], words: list[str]) -> None:
    with pytest.raises(CyxError) as caught:
        graph_of([node(1, 0), node(2, 84, **inner), node(3, 0)], links)
    assert caught.value.code is Code.INVALID
    assert all(word in caught.value.message for word in words), caught.value.message


PATTERN = {
    "id": "block", "name": "Block", "description": "", "category": "cnn", "tags": ["a"],
    "parameters": [
        {"name": "filters", "type": "int", "default": 16}, {"name": "kernel", "type": "int", "default": 3},
        {"name": "act", "default": "relu"}, {"name": "classes"},
    ],
    "template": {
        "nodes": [
            {"id": "in", "type": "DatasetInput", "pos": [0, 0], "params": {"input_shape": "[8, 8, 1]"}},
            {"id": "c", "type": "Conv2D", "pos": [1, 0], "params": {
                "filters": "$filters", "kernel_size": "[$kernel, ${kernel}]"}},
            {"id": "a", "type": "$act", "pos": [2, 0]},
            {"id": "d", "type": "Dense", "pos": [3, 0], "params": {"units": "$classes"}},
        ],
        "links": [{"from": "in", "to": "c"}, {"from": "c", "to": "a"}, {"from": "a", "to": "d"}],
    },
}  # fmt: skip


def test_a_pattern_is_filled_with_its_defaults_and_params() -> None:
    graph = parse(json.dumps({**PATTERN, "params": {"classes": 10, "act": "gelu", "kernel": "5"}}))
    assert [layer.type for layer in graph.layers] == ["Conv2D", "GELU", "Dense"]
    assert graph.layers[0].params["kernel_size"] == (5, 5)
    assert infer(graph, (64,)) == {"c": (4, 4, 16), "a": (4, 4, 16), "d": (10,)}


def test_a_pattern_of_the_editor_calls_a_default_its_default_value() -> None:
    stated = [{**entry, "type": "int", "min_value": "1", "max_value": "512"} for entry in PATTERN["parameters"]]
    for entry, value in zip(stated, ("4", "3", "relu", "10"), strict=True):
        entry.pop("default", None)
        entry["default_value"] = value
    graph = parse(json.dumps({**PATTERN, "parameters": stated}))
    assert infer(graph, (64,)) == {"c": (6, 6, 4), "a": (6, 6, 4), "d": (10,)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ["classes", "no value"]),
        ({"params": {"classes": 10, "depth": 3}}, ["depth", "not declare"]),
        ({"params": {"classes": {"a": 1}}}, ["classes", "a number"]),
        ({"params": {"classes": "ten"}}, ["units", "ten"]),
        ({"params": [1]}, ["params", "object"]),
        ({"parameters": []}, ["$filters", "parameters does not declare"]),
        ({"template": 3}, ["template", "object"]),
        ({"params": {"classes": 10, "act": "dance"}}, ["dance"]),
    ],
)
def test_a_pattern_says_what_it_lacks(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(CyxError) as caught:
        parse(json.dumps({**PATTERN, **changes}))
    assert caught.value.code is Code.INVALID
    assert all(word in caught.value.message for word in words), caught.value.message


def test_a_resnet_of_the_short_form() -> None:
    graph = parse('{"type": "resnet", "layers": 50}')
    assert cost(graph, (32, 32, 3)).parameters == 25_557_032
    for given, picture in (((64,), (8, 8, 1)), ((3072,), (32, 32, 3)), ((28, 28), (28, 28, 1)), ((9, 8, 2), (9, 8, 2))):
        assert infer(graph, given)["picture"] == picture
    with pytest.raises(CyxError, match=r"picture \(Reshape\): expected \(H, W, C\).*square picture"):
        infer(graph, (65,))
    stated = parse('{"type": "resnet", "layers": 18, "input_shape": [8, 8, 1]}')
    assert "picture" not in infer(stated, (64,))


@pytest.mark.parametrize(
    "definition",
    [
        {"layers": ["relu"] * 10_000},
        {"nodes": [node(i, 77) for i in range(9_000)] + [node("d", 0)], "links": [{"from": 1, "to": "d"}]},
        {"nodes": [node(i, 77 if i < 5000 else 78) for i in range(9_999)] + [node("d", 0)],
         "links": [{"from": i, "to": i + 4999} for i in range(5000)] + [{"from": 5000, "to": "d"}]},
        {"nodes": [node(i, 29) for i in range(3_000)] + [node("a", 47)],
         "links": [{"from": i, "to": "a"} for i in range(3_000)]},
        {"nodes": [node("s", 45, sections=4000), node("a", 47)],
         "links": [{"from": "s", "to": "a", "from_pin_index": i, "to_pin_index": i} for i in range(4_000)]},
        {"nodes": [node(0, 77)] + [node(i, 84, **nested(7)) for i in range(1, 900)],
         "links": [{"from": i, "to": i + 1} for i in range(898)]},
        {**PATTERN, "template": {"nodes": [{"id": i, "type": "$act"} for i in range(9_999)]}},
        {"nodes": [node(0, 75, value=[[[0] * 50] * 50] * 50)]},
    ],
    ids=["chain", "inputs", "loaders", "sum", "split", "subgraphs", "pattern", "constant"],
)  # fmt: skip
def test_a_large_definition_is_read_or_refused_quickly(definition: object) -> None:
    text = json.dumps(definition)
    began = time.process_time()
    with contextlib.suppress(CyxError):  # what is too large is refused, and nothing else is raised
        cost(parse(text), (4000,))
    assert time.process_time() - began < 4


@pytest.mark.parametrize("uri", ["builtin:digits", "mock://anything"])
def test_the_short_form_of_a_resnet_fits_flat_pictures(uri: str) -> None:
    check_model_fits(parse('{"type": "resnet", "layers": 50}'), uri)
