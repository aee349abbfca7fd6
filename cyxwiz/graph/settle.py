"""`settle`: what the nodes that are no layers say, laid beside the layers in a `Graph`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from cyxwiz.domain.errors import invalid, unsupported
from cyxwiz.graph import values
from cyxwiz.graph.catalogue import Role, read_params
from cyxwiz.graph.ir import Graph, Layer, Part, Source
from cyxwiz.graph.nodes import Node
from cyxwiz.graph.params import ParamValue

_SEVERAL = (Role.LAYER, Role.LOSS, Role.SCHEDULE, Role.REGULARIZATION, Role.OTHER)
_CLASS_LOSSES = ("CrossEntropyLoss", "NLLLoss")


def settle(ordered: Sequence[Node], layers: tuple[Layer, ...], sources: tuple[Source, ...], notes: list[str]) -> Graph:
    """The graph of these layers with the losses, the optimizer and the data nodes among `ordered`."""
    found: dict[str, list[Part]] = {}
    for node in ordered:
        role = node.type.role
        if role is Role.LAYER or node.type.name in ("DatasetInput", "TensorReshape"):
            continue
        key = role if role is not Role.DATA else node.type.name
        if key in found and role not in _SEVERAL:
            twin = next(other for other in ordered if key in (other.type.role, other.type.name))
            raise unsupported(
                f"{node.describe()} stands beside {twin.describe()}; one of them can be run.", node=node.id
            )
        params, unused = read_params(node.type, node.describe(), node.given)
        notes += [f"{node.describe()}: the parameter {values.quote(name)} has no effect" for name in unused]
        if node.type.name == "DataSplit":
            _check_ratios(node, params)
        found.setdefault(key, []).append(Part(node.type.name, MappingProxyType(params)))
    one = {key: parts[0] for key, parts in found.items()}
    loader = _params(one, "DataLoader")
    normalize = _params(one, "Normalize")
    validation, test = _held_out(_params(one, "DataSplit"))
    return Graph(
        layers=layers,
        sources=sources,
        loss=_loss(found.get(Role.LOSS, [])),
        optimizer=one.get(Role.OPTIMIZER),
        schedules=tuple(found.get(Role.SCHEDULE, ())),
        regularizers=tuple(found.get(Role.REGULARIZATION, ())),
        augment=one.get("Augmentation"),
        normalize=(_number(normalize["mean"]), _number(normalize["std"])) if normalize else None,
        validation_split=validation,
        test_split=test,
        batch_size=int(_number(loader["batch_size"])) if "batch_size" in loader else None,
        shuffle=bool(loader["shuffle"]) if "shuffle" in loader else None,
        one_hot=_classes(_params(one, "OneHotEncode")),
        notes=tuple(notes),
    )


def _params(parts: Mapping[str, Part], name: str) -> Mapping[str, ParamValue]:
    return parts[name].params if name in parts else {}


def _loss(losses: list[Part]) -> Part | None:
    """One loss, or the sum of several. A loss on class numbers leads, since the others' targets follow from those."""
    if not losses:
        return None
    names = {loss.type for loss in losses}
    if "BCELoss" in names and names & set(_CLASS_LOSSES):
        raise invalid(
            "BCELoss reads probabilities and a loss on classes reads raw scores: use BCEWithLogits beside it.",
            losses=sorted(names),
        )
    ordered = sorted(losses, key=lambda loss: loss.type not in _CLASS_LOSSES)
    return Part(ordered[0].type, ordered[0].params, tuple(ordered[1:]))


def _check_ratios(node: Node, params: Mapping[str, ParamValue]) -> None:
    shares = {key: _number(value) for key, value in params.items()}
    if sum(shares.values()) > 1 + 1e-6:
        raise invalid(f"{node.describe()}: the ratios {shares} add up to more than 1.", node=node.id)
    if round(1 - shares["train_ratio"], 9) > 0.9:
        raise invalid(f"{node.describe()}: train_ratio is {shares['train_ratio']}; it must be 0.1 to 1.", node=node.id)


def _held_out(params: Mapping[str, ParamValue]) -> tuple[float | None, float | None]:
    """The shares to validate on and to test on; what the ratios leave of the data is validated on."""
    if not params:
        return None, None
    test = _number(params.get("test_ratio", 0.0))
    return max(0.0, round(1 - _number(params["train_ratio"]) - test, 9)), test


def _classes(params: Mapping[str, ParamValue]) -> int | None:
    return int(_number(params["num_classes"])) if "num_classes" in params else None


def _number(value: ParamValue) -> float:
    assert isinstance(value, int | float)
    return float(value)
