"""Nodes and links as a definition states them, before any meaning is given to them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import cast

from cyxwiz.domain.errors import invalid
from cyxwiz.graph import values
from cyxwiz.graph.catalogue import NodeType, find_type

MAX_NODES = 10_000
MAX_LINKS = 100_000

Table = Mapping[str, object]


def _nothing() -> Table:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Node:
    """One node as the definition states it: the type is known, its parameters are not read yet."""

    id: str
    type: NodeType
    name: str
    given: Table = field(default_factory=_nothing)

    def describe(self) -> str:
        return f"node {self.id} ({self.type.name})"


@dataclass(frozen=True, slots=True)
class Link:
    """One link. `part` is the index of the pin that it leaves by, None when it is not stated; `pin` orders the inputs
    of the node that it leads to."""

    source: str
    target: str
    part: int | None = None
    pin: tuple[int, int] = (0, 0)


def entries(document: Table, key: str, most: int) -> list[object]:
    value = document.get(key)
    if not isinstance(value, list):
        raise invalid(f"{key} is {values.quote(value)}; it must be a list.", where=key)
    found = cast("list[object]", value)
    if len(found) > most:
        raise invalid(f"{key} has {len(found)} entries; at most {most} are read.", where=key, bound=most)
    return found


def table(value: object, where: str) -> Table:
    if not isinstance(value, dict):
        raise invalid(f"{where} is {values.quote(value)}; it must be a JSON object.", where=where)
    return cast("Table", value)


def identity(value: object, where: str) -> str:
    plain = isinstance(value, str) and 0 < len(value) <= 80
    if not plain and (isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**63):
        raise invalid(f"{where} is {values.quote(value)}; it must be a whole number or a short text.", where=where)
    return values.clean(str(value))


def params_of(entry: Table, where: str) -> Table:
    for key in ("parameters", "params"):
        if entry.get(key) is not None:
            return table(entry[key], f"{where}: {key}")
    return {}


def name_of(entry: Table, node_type: NodeType) -> str:
    name = entry.get("name")
    return values.clean(name) if isinstance(name, str) and name else node_type.name


def read_nodes(document: Table, prefix: str = "") -> list[Node]:
    """The entries of `nodes`, their ids with the prefix before them."""
    nodes: list[Node] = []
    for position, value in enumerate(entries(document, "nodes", MAX_NODES), start=1):
        entry = table(value, f"entry {position} of nodes")
        ident = prefix + identity(entry.get("id"), f"id in entry {position} of nodes")
        where = f"node {ident}"
        node_type = find_type(entry.get("type"), where)
        given = params_of(entry, f"{where} ({node_type.name})")
        if node_type.name == "Subgraph":
            given = {key: entry[key] for key in ("nodes", "links", "subgraph", "graph") if key in entry} | dict(given)
        nodes.append(Node(ident, node_type, name_of(entry, node_type), given))
    return nodes


def read_links(document: Table, prefix: str = "") -> list[Link] | None:
    """The links; None when there are none, so that the nodes form a chain."""
    if document.get("links") is None:
        return None
    links: list[Link] = []
    for position, value in enumerate(entries(document, "links", MAX_LINKS), start=1):
        where = f"entry {position} of links"
        entry = table(value, where)
        source = identity(entry.get("from_node", entry.get("from")), f"from_node in {where}")
        target = identity(entry.get("to_node", entry.get("to")), f"to_node in {where}")
        pin = (_pin(entry, "to_pin_index", where) or 0, _pin(entry, "to_pin", where) or 0)
        links.append(Link(prefix + source, prefix + target, _pin(entry, "from_pin_index", where), pin))
    return links or None


def _pin(entry: Table, key: str, where: str) -> int | None:
    if entry.get(key) is None:
        return None
    return values.integer(f"{key} in {where}", entry[key], 0, 2**62)


def chain(nodes: list[Node]) -> list[Link]:
    """The links that nodes without any stand for: every layer but a Constant or Parameter reads the one before it."""
    layers = [node.id for node in nodes if is_layer(node) and node.type.name not in ("Constant", "Parameter")]
    inputs = [node.id for node in nodes if node.type.name == "DatasetInput"]
    line = [*inputs[:1], *layers]
    return [Link(source, target) for source, target in itertools.pairwise(line)]


def is_layer(node: Node) -> bool:
    """Whether the node becomes a layer: also a TensorReshape, which prepares data, and a Subgraph, which holds some."""
    return node.type.role in ("layer", "other") or node.type.name == "TensorReshape"
