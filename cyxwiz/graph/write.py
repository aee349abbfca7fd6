"""`to_cyxgraph`: a `Graph` as the document of a `.cyxgraph` file, which `parse` reads back as the same model."""

from __future__ import annotations

import json
from collections.abc import Mapping

from cyxwiz.graph.catalogue import BY_NAME, Role
from cyxwiz.graph.ir import Graph, Layer, Part, Source
from cyxwiz.graph.params import ParamValue

_STEP = 200  # distance of two nodes in the editor


def to_cyxgraph(graph: Graph) -> dict[str, object]:
    """Nodes and links with the numbers of the types. Ids that are whole numbers are written as such; values of
    parameters are texts, as in the editor's files."""
    nodes: dict[str, dict[str, object]] = {}
    links: list[dict[str, object]] = []

    def add(ident: str, kind: str, name: str, params: Mapping[str, object]) -> None:
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in params.items()}
        place = {"pos_x": _STEP * len(nodes), "pos_y": 0}
        number = BY_NAME[kind].number
        nodes[ident] = {"id": _written(ident), "type": number, "name": name, "parameters": texts, **place}

    def link(source: str, target: str, pin: int = 0) -> None:
        node, part = places.get(source, (source, 0))
        ends = {"from_node": _written(node), "to_node": _written(target), "from_pin_index": part, "to_pin_index": pin}
        links.append({"id": len(links) + 1, **ends, "link_type": 0})

    # The parts of a Split are layers of their own and one node.
    places = {layer.id: _split_pin(layer) for layer in graph.layers if layer.type == "Split"}
    for source in graph.sources:
        add(source.id, "DatasetInput", "Input", _source(source))
    for layer in graph.layers:
        ident, _ = places.get(layer.id, (layer.id, 0))
        if ident in nodes:
            continue
        add(ident, layer.type, layer.name, {key: _value(value) for key, value in layer.params.items()})
        for pin, name in enumerate(layer.inputs):
            link(name, ident, pin)
    for position, (kind, params) in enumerate(_others(graph)):
        ident = f"part{position}"
        while ident in nodes:
            ident += "_"
        add(ident, kind, kind, params)
        if BY_NAME[kind].role is Role.LOSS:
            link(graph.last.id, ident)
    return {"version": "1.0", "framework": 0, "nodes": list(nodes.values()), "links": links}


def _split_pin(layer: Layer) -> tuple[str, int]:
    part = layer.params["part"]
    assert isinstance(part, int)
    return layer.id.removesuffix(f":{part}"), part


def _written(ident: str) -> str | int:
    return int(ident) if ident.isdecimal() and ident.isascii() and str(int(ident)) == ident else ident


def _source(source: Source) -> dict[str, object]:
    found: dict[str, object] = {}
    if source.shape is not None:
        found["input_shape"] = list(source.shape)
    if source.columns is not None:
        found["columns"] = f"{source.columns[0]}:{source.columns[1]}"
    if source.field is not None:
        found["field"] = source.field
    return found


def _value(value: ParamValue) -> object:
    return list(value) if isinstance(value, tuple) else value


def _others(graph: Graph) -> list[tuple[str, dict[str, object]]]:
    parts: list[Part] = [*graph.schedules, *graph.regularizers]
    if graph.loss is not None:
        parts += [graph.loss, *graph.loss.also]
    parts += [part for part in (graph.optimizer, graph.augment) if part is not None]
    found = [(part.type, {key: _value(value) for key, value in part.params.items()}) for part in parts]
    if graph.normalize is not None:
        found.append(("Normalize", {"mean": graph.normalize[0], "std": graph.normalize[1]}))
    if graph.validation_split is not None:
        test = graph.test_split or 0.0
        ratios: dict[str, object] = {"train_ratio": round(1 - graph.validation_split - test, 9)}
        found.append(("DataSplit", {**ratios, "test_ratio": test} if test else ratios))
    loader: dict[str, object] = {"batch_size": graph.batch_size, "shuffle": graph.shuffle}
    if graph.batch_size is not None or graph.shuffle is not None:
        found.append(("DataLoader", {key: value for key, value in loader.items() if value is not None}))
    if graph.one_hot is not None:
        found.append(("OneHotEncode", {"num_classes": graph.one_hot}))
    return found
