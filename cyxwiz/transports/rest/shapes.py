"""What the shapes of documents are made of, as JSON Schema."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
UUID: Schema = {"type": "string", "format": "uuid"}
TIME: Schema = {"type": "string", "format": "date-time", "description": "RFC 3339, UTC"}
WHOLE: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
FLAG: Schema = {"type": "boolean"}
SHA256: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
MONEY: Schema = {"type": "string", "description": "CYXWIZ, as a decimal"}
NUMBERS: Schema = {"type": "object", "additionalProperties": {"type": "number"}}
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
ANYTHING: Schema = {"type": "object"}


def maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def many(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def record(optional: tuple[str, ...] = (), /, **fields: Schema) -> Schema:
    """An object whose fields are all there, save the optional ones; later versions may add some."""
    return {"type": "object", "properties": fields, "required": [name for name in fields if name not in optional]}


def page(plural: str, name: str, **more: Schema) -> Schema:
    return record(
        ("total_capped",),
        **more,
        **{plural: many(ref(name))},
        total=WHOLE,
        page=WHOLE,
        limit=WHOLE,
        total_pages=WHOLE,
        next_cursor=maybe(TEXT),
        total_capped=FLAG,
    )


def amounts(*names: str) -> dict[str, Schema]:
    return {key: schema for name in names for key, schema in ((name, MONEY), (f"{name}_units", WHOLE))}


def sums(name: str) -> dict[str, Schema]:
    return {f"{name}_sol": maybe(NUMBER), f"{name}_cyxwiz": MONEY, f"{name}_usd": maybe(NUMBER)}


FILE = record(name=TEXT, sha256=SHA256, size=WHOLE)
STATUS = one_of("pending", "assigned", "running", "paused", "completed", "failed", "cancelled")
