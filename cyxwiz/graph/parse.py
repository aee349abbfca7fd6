"""`parse`: the text of a model definition to a checked `Graph`.

Reads every form in use: node graphs (`.cyxgraph`: `nodes` and `links`; without links the nodes form a chain in their
order), `{"layers": [{"type": "dense", "units": 64}, ...]}`, `{"layers": [64, 32, 10]}` (input, hidden..., output, ReLU
between, also with `"architecture": "MLP"`) and `{"type": "mlp", "input_size", "output_size", "hidden_layers",
"activation", "output_activation"}`. Parameter values may be numbers or text.

Refuses with CyxError only, whatever the text: UNSUPPORTED for what later versions may run, INVALID for the rest, each
naming the node and the parameter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NoReturn, cast

from cyxwiz.domain.errors import invalid, unsupported
from cyxwiz.graph import values
from cyxwiz.graph.assemble import Node, assemble
from cyxwiz.graph.catalogue import BY_NAME, MAX_UNITS, find_type
from cyxwiz.graph.ir import Graph

MAX_TEXT = 4 * 1024 * 1024
MAX_NODES = 10_000
MAX_LINKS = 100_000

_FORMS = 'Give {"nodes": [...], "links": [...]}, {"layers": [...]} or {"type": "mlp", "output_size": ...}.'
_NO_ACTIVATION = ("", "none", "linear", "identity")

Table = Mapping[str, object]


def parse(definition: str) -> Graph:
    """The checked graph of a model definition; CyxError INVALID or UNSUPPORTED when there is none."""
    document = _document(definition)
    if "template" in document:
        raise unsupported(
            "This is a pattern template whose nodes hold placeholders; fill it in and submit the resulting graph.",
            form="template",
        )
    if "nodes" in document:
        return assemble(_nodes(document), _links(document))
    stated = document.get("type", document.get("architecture", "sequential"))
    kind = stated.strip().lower() if isinstance(stated, str) else ""
    if kind not in ("mlp", "sequential"):
        raise unsupported(
            f"The model type {values.quote(stated)} cannot be built; supported: mlp. {_FORMS}",
            type=values.quote(stated),
            supported=["mlp"],
        )
    if "layers" in document:
        return assemble(_listed(document), None)
    if kind == "mlp" and ("output_size" in document or "hidden_layers" in document):
        return assemble(_perceptron(document), None)
    raise invalid(f"The model definition names no layers. {_FORMS}")


def _document(definition: object) -> Table:
    if not isinstance(definition, str) or not definition.strip():
        raise invalid(f"The model definition is empty. {_FORMS}")
    if len(definition) > MAX_TEXT:
        raise invalid(f"The model definition has {len(definition)} characters; at most {MAX_TEXT} are read.")
    try:
        document = json.loads(definition, parse_constant=_no_constant)
    except RecursionError:
        raise invalid("The model definition is nested too deeply to be read.") from None
    except ValueError as error:
        reason = values.clean(str(error))
        raise invalid(f"The model definition is not JSON: {reason}. {_FORMS}") from None
    if not isinstance(document, dict):
        raise invalid(f"The model definition is {values.quote(document)}; it must be a JSON object. {_FORMS}")
    return cast("Table", document)


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _entries(document: Table, key: str, most: int) -> list[object]:
    value = document.get(key)
    if not isinstance(value, list):
        raise invalid(f"{key} is {values.quote(value)}; it must be a list.", where=key)
    entries = cast("list[object]", value)
    if len(entries) > most:
        raise invalid(f"{key} has {len(entries)} entries; at most {most} are read.", where=key, bound=most)
    return entries


def _table(value: object, where: str) -> Table:
    if not isinstance(value, dict):
        raise invalid(f"{where} is {values.quote(value)}; it must be a JSON object.", where=where)
    return cast("Table", value)


def _ident(value: object, where: str) -> str:
    plain = isinstance(value, str) and 0 < len(value) <= 80
    if not plain and (isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**63):
        raise invalid(f"{where} is {values.quote(value)}; it must be a whole number or a short text.", where=where)
    return values.clean(str(value))


def _params_of(entry: Table, where: str) -> Table:
    for key in ("parameters", "params"):
        if entry.get(key) is not None:
            return _table(entry[key], f"{where}: {key}")
    return {}


def _nodes(document: Table) -> list[Node]:
    nodes: list[Node] = []
    for position, value in enumerate(_entries(document, "nodes", MAX_NODES), start=1):
        entry = _table(value, f"entry {position} of nodes")
        ident = _ident(entry.get("id"), f"id in entry {position} of nodes")
        where = f"node {ident}"
        node_type = find_type(entry.get("type"), where)
        name = values.clean(str(entry.get("name", node_type.name))) if _is_plain(entry.get("name")) else node_type.name
        nodes.append(Node(ident, node_type, name, _params_of(entry, f"{where} ({node_type.name})")))
    return nodes


def _is_plain(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _links(document: Table) -> list[tuple[str, str]] | None:
    """The links as (from, to); None when there are none, so that the nodes form a chain."""
    if document.get("links") is None:
        return None
    links: list[tuple[str, str]] = []
    for position, value in enumerate(_entries(document, "links", MAX_LINKS), start=1):
        where = f"entry {position} of links"
        entry = _table(value, where)
        source = _ident(entry.get("from_node", entry.get("from")), f"from_node in {where}")
        links.append((source, _ident(entry.get("to_node", entry.get("to")), f"to_node in {where}")))
    return links or None


def _listed(document: Table) -> list[Node]:
    entries = _entries(document, "layers", MAX_NODES)
    if entries and all(isinstance(entry, int | float) for entry in entries):
        return _input(entries[0], "layers[0]") + _widths(entries[1:], "layers", 1) + _parts(document)
    nodes = [_listed_layer(entry, position) for position, entry in enumerate(entries)]
    stated = document.get("input_shape", document.get("input_size"))
    return ([] if stated is None else _input(stated, "input_shape")) + nodes + _parts(document)


def _listed_layer(value: object, position: int) -> Node:
    where = f"layers[{position}]"
    if isinstance(value, str):
        value = {"type": value}
    entry = _table(value, where)
    for key in ("inputs", "input"):
        if key in entry:
            raise unsupported(f"{where}: {key} is not read in a list of layers; write nodes and links.", where=where)
    node_type = find_type(entry.get("type"), where)
    ident = _ident(entry["id"], f"{where}: id") if "id" in entry else where
    name = values.clean(str(entry["name"])) if _is_plain(entry.get("name")) else node_type.name
    flat = {key: value for key, value in entry.items() if key not in ("type", "id", "name", "parameters", "params")}
    return Node(ident, node_type, name, {**flat, **_params_of(entry, where)})


def _perceptron(document: Table) -> list[Node]:
    hidden = _entries(document, "hidden_layers", MAX_NODES) if "hidden_layers" in document else []
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
        entry = _table({"type": value} if isinstance(value, str | int) else value, key)
        node_type = find_type(entry.get("type"), key)
        if node_type.role != key:
            raise invalid(f"{key} is {node_type.name}, which is no {key}.", where=key)
        given = {name: value for name, value in entry.items() if name not in ("type", "parameters", "params")}
        nodes.append(Node(key, node_type, node_type.name, {**given, **_params_of(entry, key)}))
    return nodes
