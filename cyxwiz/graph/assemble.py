"""`assemble`: nodes and links to a `Graph`, the same for every form of definition.

Checks identity, links, order and roles, and that there is one output to which every layer leads. Contradictions are
INVALID; what makes sense and cannot be run, such as a loss on an inner layer, is UNSUPPORTED.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from cyxwiz.domain.errors import CyxError, invalid, unsupported
from cyxwiz.graph import values
from cyxwiz.graph.catalogue import ACTIVATIONS, NodeType, Role, find_type, read_params
from cyxwiz.graph.fit import CLASS_LOSSES, SHAPELESS
from cyxwiz.graph.inline import inline
from cyxwiz.graph.ir import Graph, Layer, Source
from cyxwiz.graph.layers import RULES
from cyxwiz.graph.nodes import Link, Node, chain, is_layer
from cyxwiz.graph.params import ParamValue
from cyxwiz.graph.settle import settle

INPUT = "input"  # what the first layers read when no DatasetInput node names it
_ACTIVATED = ("Dense", "Conv1D", "Conv2D", "Conv3D", "DepthwiseConv2D")
_AFTER_LAYERS = (Role.LOSS, Role.OPTIMIZER, Role.SCHEDULE, Role.REGULARIZATION)


@dataclass(slots=True)
class _Wires:
    """Links by node, in the order of the definition."""

    into: dict[str, list[Link]] = field(default_factory=dict[str, list[Link]])
    out: dict[str, list[Link]] = field(default_factory=dict[str, list[Link]])

    @staticmethod
    def of(nodes: Mapping[str, Node], links: Iterable[Link]) -> _Wires:
        wires = _Wires({ident: [] for ident in nodes}, {ident: [] for ident in nodes})
        for link in dict.fromkeys(links):
            for ident in (link.source, link.target):
                if ident not in nodes:
                    raise invalid(
                        f"The link from node {link.source} to node {link.target} dangles: there is no node {ident}.",
                        node=ident,
                    )
            wires.into[link.target].append(link)
            wires.out[link.source].append(link)
        return wires

    def before(self, ident: str) -> dict[str, None]:
        return dict.fromkeys(link.source for link in self.into[ident])

    def after(self, ident: str) -> dict[str, None]:
        return dict.fromkeys(link.target for link in self.out[ident])


def assemble(nodes: Sequence[Node], links: Sequence[Link] | None) -> Graph:
    """The graph of these nodes; without links its layers form a chain in the given order."""
    _by_id(nodes)
    nodes, links = inline(nodes, chain(list(nodes)) if links is None else links)
    by_id = _by_id(nodes)
    wires = _Wires.of(by_id, links)
    ordered = [by_id[ident] for ident in _topological(list(by_id), wires)]
    if not any(is_layer(node) for node in nodes):
        raise invalid("The model definition has no layer; add at least one, such as Dense.")
    return _Assembly(ordered, by_id, wires).graph()


def _by_id(nodes: Sequence[Node]) -> dict[str, Node]:
    by_id: dict[str, Node] = {}
    for node in nodes:
        if node.id in by_id:
            first = by_id[node.id]
            raise invalid(
                f"Two nodes have the id {node.id}: a {first.type.name} and a {node.type.name}; ids must differ.",
                node=node.id,
            )
        by_id[node.id] = node
    return by_id


def _topological(idents: Sequence[str], wires: _Wires) -> list[str]:
    """Kahn's order, ties by place in the definition; CyxError naming a cycle when there is one."""
    place = {ident: position for position, ident in enumerate(idents)}
    missing = {ident: len(wires.before(ident)) for ident in idents}
    ready = [position for ident, position in place.items() if not missing[ident]]
    order: list[str] = []
    while ready:
        ident = idents[heapq.heappop(ready)]
        order.append(ident)
        for later in wires.after(ident):
            missing[later] -= 1
            if not missing[later]:
                heapq.heappush(ready, place[later])
    if len(order) < len(idents):
        raise _cycle(set(idents) - set(order), wires)
    return order


def _cycle(left: set[str], wires: _Wires) -> CyxError:
    # Every node left over has one left over before it, so that walking back must come round.
    walk, seen = [min(left)], set[str]()
    while walk[-1] not in seen:
        seen.add(walk[-1])
        walk.append(next(ident for ident in wires.before(walk[-1]) if ident in left))
    circle = walk[walk.index(walk[-1]) :][::-1]
    shown = circle if len(circle) <= 10 else [*circle[:9], "…"]
    return invalid(f"The links form a cycle: {' -> '.join(shown)}; remove one of them.", node=circle[0])


class _Assembly:
    """One pass over the nodes in topological order: what each gives, then the layers that come of it."""

    def __init__(self, ordered: Sequence[Node], by_id: Mapping[str, Node], wires: _Wires) -> None:
        self._ordered, self._by_id, self._wires = ordered, by_id, wires
        self._notes: list[str] = []
        self._layers: list[Layer] = []
        self._taken = set(by_id)
        self._gives: dict[str, str] = {}  # by node: the layer or source that stands for what it gives
        self._data: set[str] = set()  # nodes that prepare data, also a TensorReshape before the layers
        self._parts = {node.id: self._numbered(node) for node in ordered if node.type.name == "Split"}
        inputs = [node for node in ordered if node.type.name == "DatasetInput"]
        self._default = inputs[0].id if inputs else INPUT
        self._inputs = inputs
        self._roots_read = not self._lead_to_layers(inputs)

    def graph(self) -> Graph:
        for node in self._ordered:
            self._check_roles(node)
            if is_layer(node):
                self._add(node)
            elif node.type.role is Role.DATA:
                self._data.add(node.id)
                self._gives[node.id] = node.id if node.type.name == "DatasetInput" else self._origin(node)
        self._check_one_output()
        self._check_losses()
        return settle(self._ordered, tuple(self._layers), self._sources(), self._notes)

    # --- links

    def _lead_to_layers(self, inputs: Sequence[Node]) -> bool:
        todo = [node.id for node in inputs]
        seen = set(todo)
        while todo:
            for later in self._wires.after(todo.pop()):
                if is_layer(self._by_id[later]):
                    return True
                if later not in seen and self._by_id[later].type.role is Role.DATA:
                    seen.add(later)
                    todo.append(later)
        return False

    def _check_roles(self, node: Node) -> None:
        """Data feeds layers, layers feed the loss, the loss feeds the optimizer: nothing runs backwards."""
        for ident in self._wires.before(node.id):
            source = self._by_id[ident]
            if node.type.role is Role.DATA and not is_layer(node) and ident not in self._data:
                raise invalid(f"{node.describe()} prepares data and cannot follow {source.describe()}.", node=node.id)
            if is_layer(node) and source.type.role in _AFTER_LAYERS:
                raise invalid(f"{node.describe()} is a layer and cannot follow {source.describe()}.", node=node.id)

    def _origin(self, node: Node) -> str:
        """What a data node passes on: the one entry or reshape before it."""
        found = {self._gives[ident] for ident in self._wires.before(node.id)}
        if len(found) > 1:
            raise invalid(f"{node.describe()} reads several inputs: {', '.join(sorted(found))}.", node=node.id)
        return found.pop() if found else self._default

    def _numbered(self, node: Node) -> dict[Link, int]:
        """The part of a Split that each of its links reads: as stated, else by the order of the links."""
        out = self._wires.out[node.id]
        if len(out) > 1 and all(link.part is None for link in out):
            return {link: position for position, link in enumerate(out)}
        return {link: link.part for link in out if link.part is not None}

    def _reads(self, node: Node) -> tuple[str, ...]:
        """The names of the layers and entries that a layer reads, in the order of its pins."""
        low, high = RULES[node.type.name].inputs
        links = sorted(self._wires.into[node.id], key=lambda link: link.pin)
        names = [self._named(link) for link in links]
        if high <= 1:
            names = list(dict.fromkeys(names))
        if not names and low > 0:
            names = [self._implied(node)]
        if not low <= len(names) <= high:
            wanted = f"{low}" if low == high else f"{low} to {high}" if high < 100 else f"at least {low}"
            hint = "; join them with Add or Concatenate first" if high == 1 else ""
            raise invalid(
                f"{node.describe()} reads {len(names)} inputs ({', '.join(names[:5]) or 'none'}), "
                f"expected {wanted}{hint}.",
                node=node.id,
                type=node.type.name,
                expected=wanted,
                got=len(names),
            )
        return tuple(names)

    def _named(self, link: Link) -> str:
        if link.source not in self._parts:
            return self._gives[link.source]
        part = self._parts[link.source].get(link)
        return self._gives[link.source] if part is None else f"{link.source}:{part}"

    def _implied(self, node: Node) -> str:
        if not self._roots_read or (self._inputs and any(layer.inputs == (self._default,) for layer in self._layers)):
            raise invalid(f"{node.describe()} is connected to no input; link it or remove it.", node=node.id)
        return self._default

    # --- layers

    def _add(self, node: Node) -> None:
        if node.type.name == "TensorReshape" and all(ident in self._data for ident in self._wires.before(node.id)):
            self._data.add(node.id)
        given = dict(node.given)
        activation = _activation(node, given.pop("activation", None)) if node.type.name in _ACTIVATED else None
        params, unused = read_params(node.type, node.describe(), given)
        self._notes += [f"{node.describe()}: the parameter {values.quote(key)} has no effect" for key in unused]
        inputs = self._reads(node)
        if node.type.name == "Split":
            self._split(node, params, inputs)
            return
        self._gives[node.id] = self._layer(node.id, node.type, node.name, params, inputs)
        if activation is not None:
            defaults, _ = read_params(activation, node.describe(), {})
            ident = self._fresh(f"{node.id}.activation")
            self._gives[node.id] = self._layer(ident, activation, activation.name, defaults, (node.id,))

    def _split(self, node: Node, params: dict[str, ParamValue], inputs: tuple[str, ...]) -> None:
        """One layer for each part that is read; the one that the node names, or the first, when none is."""
        stated = params["part"]
        numbers = self._parts[node.id]
        read = {numbers.get(link, stated) for link in self._wires.out[node.id]} or {stated}
        for part in sorted(int(part) for part in read if isinstance(part, int)):
            self._layer(f"{node.id}:{part}", node.type, node.name, {**params, "part": part}, inputs)
        self._gives[node.id] = f"{node.id}:{stated}"

    def _layer(
        self, ident: str, kind: NodeType, name: str, params: dict[str, ParamValue], inputs: tuple[str, ...]
    ) -> str:
        self._layers.append(Layer(ident, kind.name, name, MappingProxyType(params), inputs))
        return ident

    def _fresh(self, ident: str) -> str:
        while ident in self._taken:
            ident += "_"
        self._taken.add(ident)
        return ident

    # --- the whole

    def _check_one_output(self) -> None:
        read = {name for layer in self._layers for name in layer.inputs}
        loose = [layer for layer in self._layers if layer.id not in read]
        if len(loose) > 1:
            shown = ", ".join(layer.describe() for layer in loose[:5])
            raise invalid(
                f"The model has {len(loose)} outputs ({shown}); one is trained: join them or remove the others.",
                outputs=[layer.id for layer in loose[:5]],
            )

    def _check_losses(self) -> None:
        last = self._layers[-1].id
        for node in self._ordered:
            if node.type.role is not Role.LOSS:
                continue
            read = self._read_at_the_end(node.type.name)
            for link in self._wires.into[node.id]:
                source = self._by_id[link.source]
                if is_layer(source) and link.source not in self._data and self._named(link) not in read:
                    raise unsupported(
                        f"{node.describe()} reads node {link.source}; only a loss on the output, {last}, can be run.",
                        node=node.id,
                    )

    def _read_at_the_end(self, loss: str) -> set[str]:
        """The layers that a loss may name for what it reads: the output, those that it only passes on, and before a
        loss on classes what the Softmax at the end reads, which such a loss holds itself."""
        by_id = {layer.id: layer for layer in self._layers}
        layer: Layer | None = self._layers[-1]
        found: set[str] = set()
        while layer is not None:
            found.add(layer.id)
            softmax = layer.type == "Softmax" and layer.params.get("axis") == -1 and loss in CLASS_LOSSES
            layer = by_id.get(layer.inputs[0]) if softmax or layer.type in SHAPELESS else None
        return found

    def _sources(self) -> tuple[Source, ...]:
        read = {name for layer in self._layers for name in layer.inputs}
        used = [node for node in self._inputs if node.id in read] or self._inputs[:1]
        sources: list[Source] = []
        for node in used:
            params, unused = read_params(node.type, node.describe(), node.given)
            self._notes += [f"{node.describe()}: the parameter {values.quote(key)} has no effect" for key in unused]
            shape, columns, named = params.get("input_shape"), params.get("columns"), params.get("field")
            sources.append(
                Source(
                    node.id,
                    tuple(int(size) for size in shape) if isinstance(shape, tuple) else None,
                    (int(columns[0]), int(columns[1])) if isinstance(columns, tuple) else None,
                    named if isinstance(named, str) else None,
                )
            )
        return tuple(sources) or (Source(INPUT),)


def _activation(node: Node, value: object) -> NodeType | None:
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "none", "linear", "identity")):
        return None
    found = find_type(value, f"{node.describe()}: activation")
    if found.name not in ACTIVATIONS:
        raise invalid(
            f"{node.describe()}: activation is {found.name}; it must be one of {', '.join(sorted(ACTIVATIONS))}.",
            node=node.id,
        )
    return found
