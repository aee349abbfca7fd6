"""`inline`: Subgraph nodes replaced by what they hold, so that the rest of the program knows none.

The nodes of subgraph `7` get ids such as `7.1`. Its DatasetInput nodes become Identity layers (a Reshape with an
`input_shape`) that pass on what is linked to the subgraph, in the order of the pins; without any, its layers that read
nothing read the one input. Its outputs are its Output nodes by pin, or the one node that no other reads. Nothing is
held by reference, so that the result is as long as the text; depth and nodes are bounded all the same.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from cyxwiz.domain.errors import CyxError, invalid
from cyxwiz.graph.catalogue import BY_NAME, Role
from cyxwiz.graph.layers import RULES
from cyxwiz.graph.nodes import MAX_LINKS, MAX_NODES, Link, Node, Table, chain, is_layer, read_links, read_nodes, table

MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class _Body:
    """What a subgraph holds, its inner subgraphs already replaced."""

    nodes: list[Node]
    links: list[Link]
    entries: list[str]  # by pin; the nodes that read what comes in
    spread: bool  # all entries read the one input
    exits: list[str]  # by pin


def inline(nodes: Sequence[Node], links: Sequence[Link], depth: int = 0) -> tuple[list[Node], list[Link]]:
    """The same graph without Subgraph nodes; CyxError INVALID for one that cannot be read or wired."""
    bodies = {node.id: _body(node, depth) for node in nodes if node.type.name == "Subgraph"}
    if not bodies:
        return list(nodes), list(links)
    flat = [inner for node in nodes for inner in (bodies[node.id].nodes if node.id in bodies else [node])]
    wires = [link for body in bodies.values() for link in body.links]
    incoming: dict[str, list[Link]] = defaultdict(list)
    for link in links:
        if link.target in bodies:
            incoming[link.target].append(link)
        else:
            wires.append(_leave(link, bodies))
    by_id = {node.id: node for node in nodes}
    for ident, arriving in incoming.items():
        wires += _enter(by_id[ident], bodies[ident], [_leave(link, bodies) for link in arriving])
    if len(flat) > MAX_NODES or len(wires) > MAX_LINKS:
        raise invalid(
            f"The definition has {len(flat)} nodes and {len(wires)} links with those of its subgraphs; "
            f"at most {MAX_NODES} and {MAX_LINKS} are read."
        )
    return flat, wires


def _enter(node: Node, body: _Body, arriving: list[Link]) -> list[Link]:
    if body.spread:
        if len({(link.source, link.part) for link in arriving}) > 1:
            raise invalid(
                f"{node.describe()} gets {len(arriving)} inputs but holds no DatasetInput nodes; give it one for each.",
                node=node.id,
            )
        return [Link(arriving[0].source, entry, arriving[0].part) for entry in body.entries]
    ordered = sorted(arriving, key=lambda link: link.pin)
    if len(ordered) != len(body.entries):
        raise invalid(
            f"{node.describe()} gets {len(ordered)} inputs but holds {len(body.entries)} DatasetInput nodes.",
            node=node.id,
            expected=len(body.entries),
            got=len(ordered),
        )
    return [Link(link.source, entry, link.part) for link, entry in zip(ordered, body.entries, strict=True)]


def _leave(link: Link, bodies: dict[str, _Body]) -> Link:
    body = bodies.get(link.source)
    if body is None:
        return link
    pin = link.part or 0
    if pin >= len(body.exits):
        raise invalid(
            f"The link from node {link.source} (Subgraph) leaves by pin {pin}; it has {len(body.exits)}.",
            node=link.source,
        )
    return replace(link, source=body.exits[pin], part=None)


def _body(node: Node, depth: int) -> _Body:
    if depth >= MAX_DEPTH:
        raise invalid(f"{node.describe()}: subgraphs are nested more than {MAX_DEPTH} deep.", node=node.id)
    document = _document(node)
    try:
        stated = read_nodes(document, f"{node.id}.")
        links = read_links(document, f"{node.id}.")
    except CyxError as error:
        raise CyxError(error.code, f"{node.describe()}: {error.message}", {"node": node.id, **error.details}) from None
    for inner in stated:
        if not is_layer(inner) and inner.type.name != "DatasetInput":
            raise invalid(f"{inner.describe()} belongs outside of the subgraph {node.id}.", node=inner.id)
    links = chain(stated) if links is None else links
    linked = {link.target for link in links}
    inputs = [inner.id for inner in stated if inner.type.name == "DatasetInput"]
    roots = [inner.id for inner in stated if is_layer(inner) and inner.id not in linked and _reads(inner)]
    nodes, links = inline([_pass(inner) for inner in stated], links, depth + 1)
    if not inputs and any(ident not in {inner.id for inner in nodes} for ident in roots):
        raise invalid(f"{node.describe()}: give it a DatasetInput that leads to its inner subgraph.", node=node.id)
    return _Body(nodes, links, inputs or roots, not inputs, _exits(node, nodes, links))


def _pass(node: Node) -> Node:
    """A DatasetInput as the layer that passes on what comes in, in the shape that it states."""
    if node.type.role is not Role.DATA or is_layer(node):
        return node
    shape = node.given.get("input_shape", node.given.get("shape"))
    if shape is None:
        return Node(node.id, BY_NAME["Identity"], node.name)
    return Node(node.id, BY_NAME["Reshape"], node.name, {"shape": shape})


def _reads(node: Node) -> bool:
    return node.type.name not in RULES or RULES[node.type.name].inputs[1] > 0


def _exits(node: Node, nodes: list[Node], links: list[Link]) -> list[str]:
    read = {link.source for link in links}
    outputs = [inner.id for inner in nodes if inner.type.name == "Output" and inner.id not in read]
    loose = [inner.id for inner in nodes if inner.id not in read]
    if not outputs and len(loose) != 1:
        raise invalid(
            f"{node.describe()} has {len(loose)} nodes that no other reads; mark its outputs with Output nodes.",
            node=node.id,
        )
    return outputs or loose


def _document(node: Node) -> Table:
    value: object = node.given
    for key in ("subgraph", "graph", "definition"):
        if key in node.given:
            value = node.given[key]
    if isinstance(value, str):
        try:
            value = cast("object", json.loads(value))
        except (ValueError, RecursionError):
            raise invalid(f"{node.describe()}: what it holds is not JSON.", node=node.id) from None
    document = dict(table(value, node.describe()))
    for key in ("nodes", "links"):
        inner = document.get(key)
        if isinstance(inner, str):  # the parameters of a .cyxgraph are texts
            try:
                document[key] = json.loads(inner)
            except (ValueError, RecursionError):
                raise invalid(f"{node.describe()}: {key} is not JSON.", node=node.id) from None
    return document
