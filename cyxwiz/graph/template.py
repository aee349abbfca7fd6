"""`fill`: a pattern file to the graph that it stands for.

A pattern has `template` (nodes and links whose texts hold `$name`), `parameters` (a list of objects with `name` and
maybe `default_value`, as the editor's own patterns call it, or `default`) and `params` (the values given for this use).
A text that is one placeholder takes the value as it is; inside of a longer text the value is written out. `${name}` is
the same as `$name`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

from cyxwiz.domain.errors import invalid
from cyxwiz.graph import values
from cyxwiz.graph.nodes import MAX_NODES, Table, entries, table

_NAME = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))", re.ASCII)
_DEFAULTS = ("default_value", "default", "value")
_MAX_DEPTH = 40
_MAX_WRITTEN = 10_000
_WRITTEN = "a number, a flag, a short text or a list of them"


def fill(document: Table) -> Table:
    """`template` with every placeholder replaced; CyxError INVALID naming the one that has no value."""
    known = _defaults(document)
    given = document.get("params", document.get("values"))
    for name, value in table({} if given is None else given, "params").items():
        if name not in known:
            raise invalid(
                f"params has {values.quote(name)}, which the pattern does not declare; known: {', '.join(known)}.",
                parameter=values.quote(name),
            )
        known[name] = value
    for name, value in known.items():
        if not isinstance(value, _Missing) and not _plain(value):
            raise invalid(f"params: {name} is {values.quote(value)}; it must be {_WRITTEN}.", parameter=name)
    return cast("Table", _filled(table(document.get("template"), "template"), known, 0))


class _Missing:
    """The value of a parameter that has no default."""


def _defaults(document: Table) -> dict[str, object]:
    known: dict[str, object] = {}
    stated = document.get("parameters")
    if isinstance(stated, dict):  # also in use: name to default
        return dict(cast("Mapping[str, object]", stated))
    for position, value in enumerate(entries(document, "parameters", MAX_NODES) if stated is not None else []):
        where = f"parameters[{position}]"
        entry = table(value, where)
        name = values.word(f"{where}: name", entry.get("name", entry.get("id")))
        known[name] = next((entry[key] for key in _DEFAULTS if key in entry), _Missing())
    return known


def _plain(value: object) -> bool:
    if isinstance(value, list):
        listed = cast("list[object]", value)
        return len(listed) <= 64 and all(not isinstance(item, list) and _plain(item) for item in listed)
    return isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= 200)


def _filled(value: object, known: Mapping[str, object], depth: int) -> object:
    if depth > _MAX_DEPTH:
        raise invalid(f"The template is nested more than {_MAX_DEPTH} deep.")
    if isinstance(value, dict):
        return {key: _filled(item, known, depth + 1) for key, item in cast("Table", value).items()}
    if isinstance(value, list):
        return [_filled(item, known, depth + 1) for item in cast("list[object]", value)]
    if not isinstance(value, str) or "$" not in value:
        return value
    whole = _NAME.fullmatch(value.strip())
    if whole:
        return _value(whole, known)
    if len(value) > _MAX_WRITTEN:
        raise invalid(f"A text of the template has {len(value)} characters; at most {_MAX_WRITTEN} are filled in.")
    return _NAME.sub(lambda match: _written(_value(match, known)), value)


def _value(match: re.Match[str], known: Mapping[str, object]) -> object:
    name = match[1] or match[2]
    if name not in known:
        raise invalid(f"The template holds ${name}, which parameters does not declare.", parameter=name)
    if isinstance(known[name], _Missing):
        raise invalid(f"The pattern's parameter {name} has no value; give it in params.", parameter=name)
    return known[name]


def _written(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_written(item) for item in cast('list[object]', value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
