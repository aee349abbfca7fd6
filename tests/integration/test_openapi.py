"""The OpenAPI document is true: requests made from it, good and bad, get what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from cyxwiz import wire
from cyxwiz.transports.rest.schemas import DOCUMENTS
from cyxwiz.transports.rest.server import RestServer
from cyxwiz.transports.rest.shapes import MONEY, maybe
from tests.soak import examples
from tests.wiring import Central, central

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
UNKNOWN_PARAMETER = (ParameterLocation.QUERY, ("additionalProperties",))
SETTINGS = hypothesis.settings(
    max_examples=examples(12),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.generate],
)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Central]:
    made = await central(tmp_path, rate_limit={"enabled": False})
    yield made
    await made.aclose()


def objects(where: str, schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The fields of every object that a schema has within."""
    if isinstance(schema, dict):
        if isinstance(fields := schema.get("properties"), dict):
            yield where, fields
        for name, each in schema.items():
            yield from objects(f"{where}.{name}", each)
    elif isinstance(schema, list):
        for each in schema:
            yield from objects(where, each)


def test_every_amount_has_its_units_beside_it() -> None:
    documents = {name: each for name, each in DOCUMENTS.items() if not name.startswith("Blockchain")}
    amounts = [
        (where, name, fields)
        for where, fields in objects("", documents)
        for name, schema in fields.items()
        if schema in (MONEY, maybe(MONEY))
    ]
    assert amounts
    assert [f"{where} {name}" for where, name, fields in amounts if f"{name}_units" not in fields] == []


@pytest.mark.parametrize("mode", list(GenerationMode), ids=str)
async def test_every_operation_does_what_its_description_says(
    house: Central, served: RestServer, mode: GenerationMode
) -> None:
    await asyncio.to_thread(check_all, served.url, house.admin, mode)


def check_all(url: str, key: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    # A stream has no end.
    for result in schema.exclude(path_regex="events$").get_all_operations():
        operation = result.ok()
        if mode.is_negative and not (operation.query or operation.body or operation.path_parameters):
            continue  # nothing that could be wrong

        @SETTINGS
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            response = case.call(headers={"Authorization": f"Bearer {key}"})
            assert response.status_code < 500 or response.json()["error"]["code"] == "UNSUPPORTED", response.text
            sound = [each for each in CHECKS if each is not negative_data_rejection]
            case.validate_response(response, checks=sound if dropped_when_written(case, response) else CHECKS)
            if response.status_code >= 400 and case.method != "HEAD":
                error = response.json()["error"]
                assert set(error) == {"code", "message", "details", "retryable", "request_id"}
                assert response.status_code in (wire.CODES[error["code"]].http, 405, 416)

        check()


def dropped_when_written(case: Any, response: Any) -> bool:
    """Whether all that is wrong with a case is unknown query parameters that the request as sent does not have.

    An empty list or null is not written. That Authorization is missing is no wrong here: every request gets ours.
    """
    wrong = [
        mutation
        for mutation in case.meta.phase.data.mutations
        if (mutation.parameter_location, mutation.keywords) != (ParameterLocation.HEADER, ("required",))
    ]
    declared = {parameter.name for parameter in case.operation.query}
    return (
        bool(wrong)
        and all((each.parameter_location, each.keywords) == UNKNOWN_PARAMETER for each in wrong)
        and parse_qs(urlsplit(response.request.url).query, keep_blank_values=True).keys() <= declared
    )


async def test_the_document_names_what_there_is(house: Central) -> None:
    document = house.app.openapi()
    body = document["paths"]["/api/jobs"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/JobFile"}
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            if verb != "head":
                shape = operation["responses"]["400"]["content"]["application/json"]["schema"]
                assert shape == {"$ref": "#/components/schemas/Error"}, (path, verb)
            assert "422" not in operation["responses"]
    free = {path for path, verbs in document["paths"].items() if not all(each["security"] for each in verbs.values())}
    wallet = {"/api/auth/wallet/nonce", "/api/auth/wallet/login"}
    assert free == {"/api/health", "/api/ready", "/api/platform", "/api/auth/login", "/api/auth/refresh"} | wallet
