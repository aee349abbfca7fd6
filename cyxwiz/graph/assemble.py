"""`assemble`: nodes and links to a `Graph`, the same for every form of definition.

Checks identity, links, order and roles. Today a chain of layers is run: branches, several inputs and types outside the
catalogue's supported set are refused as UNSUPPORTED, contradictions as INVALID.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from cyxwiz.domain.errors import CyxError, invalid, unsupported
from cyxwiz.graph import values
from cyxwiz.graph.catalogue import ACTIVATIONS, SUPPORTED, NodeType, ParamValue, Role, find_type, read_params
from cyxwiz.graph.ir import Graph, Layer, Part

INPUT = "input"  # what the first layer of a chain reads when no DatasetInput node names it


@dataclass(frozen=True, slots=True)
class Node:
    """One node as the definition states it: the type is known, its parameters are not read yet."""

    id: str
    type: NodeType
    name: str
    given: Mapping[str, object]

    def describe(self) -> str:
        return f"node {self.id} ({self.type.name})"


class _Links:
    """Who feeds whom, by node id, each pair once."""

    def __init__(self, nodes: Mapping[str, Node], links: Sequence[tuple[str, str]]) -> None:
        self.before: dict[str, dict[str, None]] = {ident: {} for ident in nodes}
        self.after: dict[str, dict[str, None]] = {ident: {} for ident in nodes}
        for source, target in links:
            for ident in (source, target):
                if ident not in nodes:
                    raise invalid(
                        f"The link from node {source} to node {target} dangles: there is no node {ident}.", node=ident
                    )
            self.before[target][source] = None
            self.after[source][target] = None


def assemble(nodes: Sequence[Node], links: Sequence[tuple[str, str]] | None) -> Graph:
    """The graph of these nodes; without links its layers form a chain in the given order."""
    by_id = _by_id(nodes)
    wires = _Links(by_id, links or ())
    ordered = [by_id[ident] for ident in _topological(list(by_id), wires)]
    for node in nodes:
        _check_supported(node)
    layers = [node for node in ordered if node.type.role is Role.LAYER]
    if not layers:
        raise invalid("The model definition has no layer; add at least one, such as Dense.")
    if links:
        for node in ordered:
            _check_roles(node, by_id, wires)
        layers = _chain(layers, by_id, wires)
        _check_loss_at_end(layers, ordered, wires)
    return _graph(layers, ordered)


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


def _topological(idents: Sequence[str], wires: _Links) -> list[str]:
    """Kahn's order, ties by place in the definition; CyxError naming a cycle when there is one."""
    place = {ident: position for position, ident in enumerate(idents)}
    missing = {ident: len(wires.before[ident]) for ident in idents}
    ready = [position for ident, position in place.items() if not missing[ident]]
    order: list[str] = []
    while ready:
        ident = idents[heapq.heappop(ready)]
        order.append(ident)
        for later in wires.after[ident]:
            missing[later] -= 1
            if not missing[later]:
                heapq.heappush(ready, place[later])
    if len(order) < len(idents):
        raise _cycle(set(idents) - set(order), wires)
    return order


def _cycle(left: set[str], wires: _Links) -> CyxError:
    # Every node left over has one left over before it, so that walking back must come round.
    walk, seen = [min(left)], set[str]()
    while walk[-1] not in seen:
        seen.add(walk[-1])
        walk.append(next(ident for ident in wires.before[walk[-1]] if ident in left))
    circle = walk[walk.index(walk[-1]) :][::-1]
    shown = circle if len(circle) <= 10 else [*circle[:9], "…"]
    return invalid(f"The links form a cycle: {' -> '.join(shown)}; remove one of them.", node=circle[0])


def _check_supported(node: Node) -> None:
    if not node.type.supported:
        raise unsupported(
            f"{node.describe()}: this type cannot be run yet. Supported: {', '.join(SUPPORTED)}.",
            node=node.id,
            type=node.type.name,
            supported=list(SUPPORTED),
        )


def _check_roles(node: Node, by_id: Mapping[str, Node], wires: _Links) -> None:
    """Data feeds layers, layers feed the loss, the loss feeds the optimizer: nothing runs backwards."""
    for ident in wires.before[node.id]:
        source = by_id[ident]
        if node.type.role is Role.DATA and source.type.role is not Role.DATA:
            raise invalid(f"{node.describe()} prepares data and cannot follow {source.describe()}.", node=node.id)
        if node.type.role is Role.LAYER and source.type.role in (Role.LOSS, Role.OPTIMIZER):
            raise invalid(f"{node.describe()} is a layer and cannot follow {source.describe()}.", node=node.id)


def _chain(layers: Sequence[Node], by_id: Mapping[str, Node], wires: _Links) -> list[Node]:
    only = {node.id for node in layers}
    firsts: list[Node] = []
    for node in layers:
        before = [ident for ident in wires.before[node.id] if ident in only]
        fed = any(by_id[ident].type.role is Role.DATA for ident in wires.before[node.id])
        after = [ident for ident in wires.after[node.id] if ident in only]
        if len(before) + (fed and bool(before)) > 1 or len(after) > 1:
            what = "feeds several layers" if len(after) > 1 else "reads several nodes"
            raise unsupported(f"{node.describe()} {what}; only a chain of layers can be run yet.", node=node.id)
        if not before:
            firsts.append(node)
    if len(firsts) > 1:
        loose = next((node for node in firsts[1:] if not wires.before[node.id]), firsts[1])
        if not wires.before[loose.id]:
            raise invalid(f"{loose.describe()} is connected to no input; link it or remove it.", node=loose.id)
        raise unsupported(
            f"{loose.describe()} starts a second branch; only a chain of layers can be run yet.", node=loose.id
        )
    return list(layers)


def _check_loss_at_end(layers: Sequence[Node], ordered: Sequence[Node], wires: _Links) -> None:
    inner = {node.id for node in layers[:-1]}
    for node in ordered:
        early = [ident for ident in wires.before[node.id] if node.type.role is Role.LOSS and ident in inner]
        if early:
            raise unsupported(
                f"{node.describe()} reads node {early[0]}; only a loss on the last layer can be run yet.", node=node.id
            )


def _graph(layers: Sequence[Node], ordered: Sequence[Node]) -> Graph:
    notes: list[str] = []
    extras = {node.type.name: node for node in ordered if node.type.role is not Role.LAYER}
    for node in ordered:
        role = node.type.role
        twin = extras.get(node.type.name, node)
        if role in (Role.LOSS, Role.OPTIMIZER):
            twin = next(other for other in ordered if other.type.role is role)
        if twin.id != node.id:
            raise unsupported(
                f"{node.describe()} stands beside {twin.describe()}; one of them can be run.", node=node.id
            )
    params = {name: _read(node, node.given, notes) for name, node in extras.items()}
    source = extras["DatasetInput"].id if "DatasetInput" in extras else INPUT
    built = _layers(layers, source, notes)
    normalize = params.get("Normalize")
    loader = params.get("DataLoader", {})
    return Graph(
        layers=built,
        inputs=(source,),
        outputs=(built[-1].id,),
        input_shape=_as_shape(params.get("DatasetInput", {}).get("input_shape")),
        loss=_part(Role.LOSS, ordered, params),
        optimizer=_part(Role.OPTIMIZER, ordered, params),
        normalize=(float(_number(normalize["mean"])), float(_number(normalize["std"]))) if normalize else None,
        validation_split=_held_out(extras["DataSplit"], params["DataSplit"]) if "DataSplit" in extras else None,
        batch_size=int(_number(loader["batch_size"])) if "batch_size" in loader else None,
        shuffle=bool(loader["shuffle"]) if "shuffle" in loader else None,
        one_hot=_classes(params.get("OneHotEncode", {})),
        notes=tuple(notes),
    )


def _read(node: Node, given: Mapping[str, object], notes: list[str]) -> dict[str, ParamValue]:
    params, unused = read_params(node.type, node.describe(), given)
    notes += [f"{node.describe()}: the parameter {values.quote(key)} has no effect" for key in unused]
    return params


def _layers(nodes: Sequence[Node], source: str, notes: list[str]) -> tuple[Layer, ...]:
    """The chain's layers. A Dense node that states an `activation` becomes two: itself and that activation."""
    taken = {node.id for node in nodes}
    layers: list[Layer] = []
    for node in nodes:
        given = dict(node.given)
        activation = _activation(node, given.pop("activation", None)) if node.type.name == "Dense" else None
        params = _read(node, given, notes)
        layers.append(Layer(node.id, node.type.name, node.name, MappingProxyType(params), (source,)))
        source = node.id
        if activation is not None:
            defaults, _ = read_params(activation, node.describe(), {})
            ident = f"{node.id}.activation"
            while ident in taken:
                ident += "_"
            taken.add(ident)
            layers.append(Layer(ident, activation.name, activation.name, MappingProxyType(defaults), (source,)))
            source = ident
    return tuple(layers)


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


def _part(role: Role, ordered: Sequence[Node], params: Mapping[str, dict[str, ParamValue]]) -> Part | None:
    for node in ordered:
        if node.type.role is role:
            return Part(node.type.name, MappingProxyType(params[node.type.name]))
    return None


def _held_out(node: Node, params: Mapping[str, ParamValue]) -> float:
    """What is not trained on is validated on: there is no third use for a test part yet."""
    shares = {key: float(_number(value)) for key, value in params.items()}
    if sum(shares.values()) > 1 + 1e-6:
        raise invalid(f"{node.describe()}: the ratios {shares} add up to more than 1.", node=node.id)
    held_out = round(1 - shares["train_ratio"], 9)
    if held_out > 0.9:
        raise invalid(f"{node.describe()}: train_ratio is {shares['train_ratio']}; it must be 0.1 to 1.", node=node.id)
    return held_out


def _classes(params: Mapping[str, ParamValue]) -> int | None:
    return int(_number(params["num_classes"])) if "num_classes" in params else None


def _number(value: ParamValue) -> int | float:
    assert isinstance(value, int | float)
    return value


def _as_shape(value: ParamValue | None) -> tuple[int, ...] | None:
    return value if isinstance(value, tuple) else None
