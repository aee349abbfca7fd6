"""What a person is told when a document has the wrong shape."""

from __future__ import annotations

from pydantic import ValidationError

from cyxwiz.domain.errors import CyxError, invalid

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
    "string_too_long": "must have at most {max_length} characters",
}


def first_problem(error: ValidationError, whole: str) -> CyxError:
    """INVALID for the first thing that is wrong, naming the field; `whole` names the document itself."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or whole
    words = WORDS.get(first["type"], "").format(**first.get("ctx", {})) or first["msg"].removeprefix("Value error, ")
    return invalid(f"{field}: {words}", field=field, problems=error.error_count())
