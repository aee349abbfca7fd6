"""`parse`: the text of a model definition to a checked `Graph`.

Reads every form in use: node graphs (`.cyxgraph`: `nodes` and `links`; without links the nodes form a chain in their
order), pattern files (`template`, `parameters`, `params`), `{"layers": [{"type": "dense", "units": 64}, ...]}` (each
layer reads the one before it, or those that its `inputs` names), `{"layers": [64, 32, 10]}` (input, hidden..., output,
ReLU between, also with `"architecture": "MLP"`), `{"type": "mlp", "input_size", "output_size", "hidden_layers",
"activation", "output_activation"}` and `{"type": "resnet", "layers": 50}`. Parameter values may be numbers or text.

Refuses with CyxError only, whatever the text: UNSUPPORTED for what makes sense and cannot be run, INVALID for the rest,
each naming the node and the parameter.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import cast

from cyxwiz.domain.errors import invalid, unsupported
from cyxwiz.graph import values
from cyxwiz.graph.assemble import assemble
from cyxwiz.graph.catalogue import BY_NAME, find_type
from cyxwiz.graph.ir import Graph
from cyxwiz.graph.nodes import (
    MAX_NODES,
    Link,
    Node,
    Table,
    entries,
    identity,
    is_layer,
    name_of,
    params_of,
    read_links,
    read_nodes,
    table,
)
from cyxwiz.graph.parts import MAX_UNITS
from cyxwiz.graph.resnet import resnet
from cyxwiz.graph.template import fill

MAX_TEXT = 4 * 1024 * 1024

_FORMS = (
    'Give {"nodes": [...], "links": [...]}, {"layers": [...]}, {"type": "mlp", "output_size": ...} or '
    '{"type": "resnet", "layers": 50}.'
)
_NO_ACTIVATION = ("", "none", "linear", "identity")


def parse(definition: str) -> Graph:
    """The checked graph of a model definition; CyxError INVALID or UNSUPPORTED when there is none."""
    document = _document(definition)
    if "template" in document:
        document = fill(document)
    if "nodes" in document:
        return assemble(read_nodes(document), read_links(document))
    stated = document.get("type", document.get("architecture", "sequential"))
    kind = stated.strip().lower() if isinstance(stated, str) else ""
    if kind == "resnet":
        return _residual(document)
    if kind not in ("mlp", "sequential"):
        raise unsupported(
            f"The model type {values.quote(stated)} cannot be built; supported: mlp, resnet. {_FORMS}",
            type=values.quote(stated),
            supported=["mlp", "resnet"],
        )
    if "layers" in document:
        return assemble(*_listed(document))
    if kind == "mlp" and ("output_size" in document or "hidden_layers" in document):
        return assemble(_perceptron(document), None)
    raise invalid(f"The model definition names no layers. {_FORMS}")


def _residual(document: Table) -> Graph:
    stated = document.get("input_shape", document.get("input_size"))
    given = {} if stated is None else {"input_shape": list(values.shape("input_shape", stated))}
    nodes, links = resnet(document, "input")
    return assemble([Node("input", BY_NAME["DatasetInput"], "Input", given), *nodes, *_parts(document)], links)


def _document(definition: object) -> Table:
    if not isinstance(definition, str) or not definition.strip():
        raise invalid(f"The model definition is empty. {_FORMS}")
    if len(definition) > MAX_TEXT:
        raise invalid(f"The model definition has {len(definition)} characters; at most {MAX_TEXT} are read.")
    constants: list[str] = []  # NaN and infinities, for which JSON has no word
    try:
        document = json.loads(definition, parse_constant=constants.append)
        if constants:
            raise ValueError(f"{constants[0]} is not a JSON number ({_not_finite(json.loads(definition), '')})")
    except RecursionError:
        raise invalid("The model definition is nested too deeply to be read.") from None
    except ValueError as error:
        raise invalid(f"The model definition is not JSON: {values.no_json(error)}. {_FORMS}") from None
    if not isinstance(document, dict):
        raise invalid(f"The model definition is {values.quote(document)}; it must be a JSON object. {_FORMS}")
    return cast("Table", document)


def _not_finite(value: object, place: str) -> str | None:
    """Where the first number stands that is none, as `layers[0].units`; None if there is no such number."""
    if isinstance(value, float):
        return None if math.isfinite(value) else place
    inner: list[tuple[str, object]] = []
    if isinstance(value, dict):
        inner = [(f"{place}.{key}".lstrip("."), each) for key, each in cast("Table", value).items()]
    elif isinstance(value, list):
        inner = [(f"{place}[{index}]", each) for index, each in enumerate(cast("list[object]", value))]
    return next((found for where, each in inner if (found := _not_finite(each, where))), None)


def _listed(document: Table) -> tuple[list[Node], list[Link] | None]:
    items = entries(document, "layers", MAX_NODES)
    if items and all(isinstance(item, int | float) for item in items):
        return _input(items[0], "layers[0]") + _widths(items[1:], "layers", 1) + _parts(document), None
    stated = document.get("input_shape", document.get("input_size"))
    first = [] if stated is None else _input(stated, "input_shape")
    rows = [_listed_layer(item, position) for position, item in enumerate(items)]
    nodes = first + [node for node, _ in rows] + _parts(document)
    if all(inputs is None for _, inputs in rows):
        return nodes, None
    if not any(node.type.name == "DatasetInput" for node in nodes):
        nodes = [Node("input", BY_NAME["DatasetInput"], "Input"), *nodes]
    return nodes, _row_links(nodes, rows)


def _row_links(nodes: list[Node], rows: list[tuple[Node, object]]) -> list[Link]:
    """Links of a list of layers: to the ids that `inputs` names (`ID:PART` of a Split, `input` for the
    first DatasetInput), else to the layer before."""
    ids = {node.id for node in nodes}
    before = entry = next(node.id for node in nodes if node.type.name == "DatasetInput")
    links: list[Link] = []
    for node, inputs in rows:
        if inputs is not None:
            names = cast("list[object]", inputs) if isinstance(inputs, list) else [inputs]
            for pin, value in enumerate(names):
                name, part = identity(value, f"{node.id}: inputs"), None
                if name not in ids and name == "input":
                    name = entry
                elif name not in ids and ":" in name:
                    name, _, text = name.rpartition(":")
                    part = values.integer(f"{node.id}: inputs", text, 0, 4095)
                links.append(Link(name, node.id, part, (pin, 0)))
        elif is_layer(node):
            links.append(Link(before, node.id))
        if is_layer(node):
            before = node.id
    return links


def _listed_layer(value: object, position: int) -> tuple[Node, object]:
    """The node and what its `inputs` says, None when it says nothing."""
    where = f"layers[{position}]"
    if isinstance(value, str):
        value = {"type": value}
    entry = table(value, where)
    node_type = find_type(entry.get("type"), where)
    ident = identity(entry["id"], f"{where}: id") if "id" in entry else where
    apart = ("type", "id", "name", "parameters", "params", "inputs", "input")
    # A Lambda's function may be called its name.
    name = {"name": entry["name"]} if node_type.name == "Lambda" and "name" in entry else {}
    flat = {key: item for key, item in entry.items() if key not in apart} | name
    node = Node(ident, node_type, name_of(entry, node_type), {**flat, **params_of(entry, where)})
    return node, entry.get("inputs", entry.get("input"))


def _perceptron(document: Table) -> list[Node]:
    hidden = entries(document, "hidden_layers", MAX_NODES) if "hidden_layers" in document else []
    if document.get("output_size") is None:
        raise invalid("output_size is missing; state the number of outputs of the mlp.", where="output_size")
    stated = document.get("input_size", document.get("input_shape"))
    nodes = [] if stated is None else _input(stated, "input_size")
    nodes += _widths([*hidden, document["output_size"]], "hidden_layers", 0, document.get("activation", "relu"))
    return nodes + _activation("output_activation", document.get("output_activation", "")) + _parts(document)


def _widths(sizes: Sequence[object], where: str, first: int, activation: object = "relu") -> list[Node]:
    """Dense layers of these widths with an activation between them; the last width is the output."""
    if not sizes:
        raise invalid(f"{where} has one number; give input, hidden layers and output, like [64, 32, 10].", where=where)
    nodes: list[Node] = []
    for position, size in enumerate(sizes, start=first):
        last = position == first + len(sizes) - 1
        ident = "output" if last else f"{where}[{position}]"
        units = values.integer("output size" if last else ident, size, 1, MAX_UNITS)
        nodes.append(Node(ident, BY_NAME["Dense"], "Dense", {"units": units}))
        if not last:
            nodes += _activation(f"{ident}.activation", activation)
    return nodes


def _activation(ident: str, value: object) -> list[Node]:
    if value is None or (isinstance(value, str) and value.strip().lower() in _NO_ACTIVATION):
        return []
    node_type = find_type(value, ident)
    return [Node(ident, node_type, node_type.name, {})]


def _input(size: object, where: str) -> list[Node]:
    return [Node("input", BY_NAME["DatasetInput"], "Input", {"input_shape": list(values.shape(where, size))})]


def _parts(document: Table) -> list[Node]:
    """`loss` and `optimizer` beside a list of layers: a type's name, or an object with `type` and parameters."""
    nodes: list[Node] = []
    for key in ("loss", "optimizer"):
        value = document.get(key)
        if value is None:
            continue
        entry = table({"type": value} if isinstance(value, str | int) else value, key)
        node_type = find_type(entry.get("type"), key)
        if node_type.role != key:
            raise invalid(f"{key} is {node_type.name}, which is no {key}.", where=key)
        given = {name: value for name, value in entry.items() if name not in ("type", "parameters", "params")}
        nodes.append(Node(key, node_type, node_type.name, {**given, **params_of(entry, key)}))
    return nodes
