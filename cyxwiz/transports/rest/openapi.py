"""The OpenAPI document, made from the same operations as the routes: neither says what the other does not."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from cyxwiz import __version__, wire
from cyxwiz.domain.errors import Code
from cyxwiz.transports.rest.request import Access, Operation
from cyxwiz.transports.rest.schemas import DOCUMENTS
from cyxwiz.transports.rest.shapes import Schema, ref

_PREFIX = "#/components/schemas/"
_AMOUNT: Schema = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "examples": ["512MiB", "8GB"]}]}
_SPAN: Schema = {"type": "string", "examples": ["90s", "30m", "1h"], "pattern": r"^\s*\d+(\.\d+)?\s*(ms|s|m|h|d)\s*$"}
_SCALAR: Schema = {"type": ["string", "number", "boolean"]}
# What the job file takes and then turns into numbers or text: pydantic's schema knows only what comes out.
_TAKEN: dict[tuple[str, str], Schema] = {
    ("Resources", "vram"): {**_AMOUNT, "default": 0},
    ("Resources", "ram"): {**_AMOUNT, "default": "1GiB"},
    ("Resources", "max_duration"): {**_SPAN, "default": "1h"},
    ("Payment", "max_price"): {"type": ["string", "number"], "description": "CYXWIZ; left out: no limit"},
    ("JobFile", "hyperparameters"): {"type": "object", "maxProperties": 200, "additionalProperties": _SCALAR},
}


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    schemas = copy.deepcopy(DOCUMENTS)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "CyxWiz",
            "version": __version__,
            "description": "Submit training jobs, watch them run on the nodes, take the models home.",
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "an access token or an API key"},
                "ticket": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "ticket",
                    "description": "single use, 60 seconds, from POST /api/tickets; for browsers' event streams",
                },
            },
        },
    }


def _operation(operation: Operation, schemas: dict[str, Schema]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": f"{operation.method.lower()}_{re.sub('[^a-z0-9]+', '_', operation.path.lower()).strip('_')}",
        "tags": [operation.tag or operation.path.split("/")[2 if operation.path.startswith("/api/") else 1] or "page"],
        "parameters": _parameters(operation),
        "responses": _responses(operation),
        "security": _security(operation.access),
    }
    if operation.raw_body:
        content: dict[str, Any] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        described["requestBody"] = {"required": True, "content": content}
    elif operation.body is not None:
        content = {"application/json": {"schema": _schema_of(operation.body, schemas)}}
        described["requestBody"] = {"required": not operation.body_optional, "content": content}
    return described


def _security(access: Access) -> list[dict[str, list[str]]]:
    if access in (Access.ANYBODY, Access.LOGIN, Access.REFRESH):
        return []
    if access is Access.STREAM:
        return [{"bearer": []}, {"ticket": []}]
    return [{"bearer": []}] if access is Access.CALLER else [{"bearer": []}, {}]


def _parameters(operation: Operation) -> list[Schema]:
    found: list[Schema] = [
        {"name": name, "in": "path", "required": True, "schema": _path_schema(operation.path, name)}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    schema = operation.query.model_json_schema()
    for name, field in schema.get("properties", {}).items():
        field = {key: value for key, value in field.items() if key != "title"}
        options = [each for each in field.pop("anyOf", ()) if each != {"type": "null"}]
        if options:
            field = {**field, **options[0]}
        if field.get("default", 0) is None:
            del field["default"]
        found.append({"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": field})
    for name, meaning in (operation.headers or {}).items():
        found.append(
            {"name": name, "in": "header", "required": False, "description": meaning, "schema": {"type": "string"}}
        )
    return found


def _path_schema(path: str, name: str) -> Schema:
    if name == "sha256":
        return {"type": "string", "pattern": "^[0-9a-f]{64}$"}
    if path.startswith(("/api/jobs/", "/api/nodes/")):
        return {"type": "string", "format": "uuid"}
    return {"type": "string", "minLength": 1, "maxLength": 64, "pattern": r"^[A-Za-z0-9._@-]+$"}


def _responses(operation: Operation) -> dict[str, Any]:
    if operation.answer in DOCUMENTS:
        content: dict[str, Any] = {"application/json": {"schema": ref(operation.answer)}}
    else:
        content = {operation.answer: {"schema": {"type": "string"}}}
    if operation.method == "HEAD":
        content = {}
    responses: dict[str, Any] = {str(operation.status): {"description": operation.summary, "content": content}}
    for status, meaning in (operation.also or {}).items():
        responses[str(status)] = {"description": meaning, "content": {} if status == 304 else content}
    codes = {Code.INVALID, Code.FORBIDDEN, Code.INTERNAL, Code.UNAVAILABLE, *operation.refuses}
    if operation.access is not Access.ANYBODY:
        codes |= {Code.UNAUTHENTICATED, Code.EXHAUSTED}
    if "{" in operation.path:
        codes.add(Code.NOT_FOUND)
    by_status: dict[int, list[str]] = {}
    for code in sorted(codes):
        by_status.setdefault(wire.CODES[code].http, []).append(str(code))
    error = {} if operation.method == "HEAD" else {"application/json": {"schema": ref("Error")}}
    for status, names in sorted(by_status.items()):
        responses.setdefault(str(status), {"description": ", ".join(names), "content": error})
    if "Range" in (operation.headers or {}):
        responses["416"] = {"description": "INVALID: the range is outside the blob", "content": error}
    return responses


def _schema_of(model: type[BaseModel], schemas: dict[str, Schema]) -> Schema:
    """A reference to the model's schema, which is added with those that it needs."""
    made = model.model_json_schema(ref_template=_PREFIX + "{model}")
    for name, schema in [*made.pop("$defs", {}).items(), (model.__name__, made)]:
        public = name.lstrip("_")
        assert public not in DOCUMENTS, f"two schemas are called {public}"
        for (owner, field), taken in _TAKEN.items():
            if owner == public:
                schema["properties"][field] = taken
        schemas[public] = _renamed(schema)
    return ref(model.__name__.lstrip("_"))


def _renamed(value: Any) -> Any:
    """References to private models under their public names; titles add nothing and go."""
    if isinstance(value, dict):
        return {
            key: each.replace(_PREFIX + "_", _PREFIX) if key == "$ref" else _renamed(each)
            for key, each in value.items()
            if not (key == "title" and isinstance(each, str))
        }
    return [_renamed(each) for each in value] if isinstance(value, list) else value
