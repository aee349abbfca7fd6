"""What a document may be, at every door alike, and what a person is told when it has the wrong shape."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

from google.protobuf.message import Message
from pydantic import BaseModel, ValidationError

from cyxwiz.domain.errors import CyxError, invalid, meant

# Where pydantic's own words speak of Python, ours speak of the document.
WORDS = {
    "extra_forbidden": "unknown field",
    "missing": "must be given",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "dict_type": "must be an object of keys and values",
    "list_type": "must be a list",
    "model_type": "must be an object of keys and values",
    "finite_number": "must be a finite number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
}


def first_problem(error: ValidationError, whole: str, model: type[BaseModel]) -> CyxError:
    """INVALID for the first thing that is wrong with a `model`, naming the field; `whole` names the document itself."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or whole
    words = WORDS.get(first["type"], "").format(**first.get("ctx", {})) or first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        words += _meant(model, first["loc"])
    return invalid(f"{field}: {words}", field=field, problems=error.error_count())


def _meant(model: type[BaseModel], place: Sequence[int | str]) -> str:
    """What to say of a field that is not there: a part beside it may have one of that name."""
    *above, name = map(str, place)
    beside = _fields_at(model, above)
    part = next((each for each in beside if name in _fields_at(model, [*above, each])), None)
    return meant(name, beside) if part is None else f"; did you mean {'.'.join([*above, part, name])}?"


def _fields_at(model: type[BaseModel], place: Sequence[int | str]) -> Sequence[str]:
    """The fields of the part of a model that stands there; none where it is no part with fields of its own."""
    for name in place:
        found = model.model_fields.get(str(name))
        parts = [] if found is None else [found.annotation, *get_args(found.annotation)]
        part = next((each for each in parts if isinstance(each, type) and issubclass(each, BaseModel)), None)
        if part is None:
            return ()
        model = part
    return list(model.model_fields)


def read_object(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object that `data` is; `what` names it.

    Raises:
        CyxError: INVALID for what is not UTF-8, not strict JSON (NaN, Infinity), no object, or holds what can't be
            stored as text (NUL, half a surrogate pair).
    """
    try:
        value: object = json.loads(data.decode("utf-8"), parse_constant=_no_constant)
        if b"\\u" in data:  # only an escape can bring in what no text may hold
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise invalid(f"The {what} is nested too deeply") from None
    except UnicodeDecodeError:
        raise invalid(f"The {what} is not UTF-8") from None
    except UnicodeEncodeError:
        raise invalid(f"The {what} holds half a surrogate pair, which is no text") from None
    except ValueError as error:
        raise invalid(f"The {what} is no JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise invalid(f"The {what} must be a JSON object")
    if b"\\u0000" in data and _holds_nul(value):
        raise invalid(f"The {what} holds a NUL character, which can't be stored")
    return cast("dict[str, Any]", value)


def refuse_nul(message: Message) -> None:
    """Raises INVALID for a message of the wire with a NUL character in a text: not every database stores it."""
    for field, value in message.ListFields():
        if _holds_nul(value):
            raise invalid(f"{field.name}: holds a NUL character, which can't be stored", field=field.name)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _holds_nul(value: Any) -> bool:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            if "\0" in item:
                return True
        elif isinstance(item, Message):
            pending.extend(each for _, each in item.ListFields())
        elif isinstance(item, Mapping):
            table = cast("Mapping[str, Any]", item)
            pending.extend([*table.keys(), *table.values()])
        elif isinstance(item, Sequence) and not isinstance(item, bytes):
            pending.extend(cast("Sequence[Any]", item))
    return False
