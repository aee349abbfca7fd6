"""The OpenAPI document is true: requests made from it, good and bad, get what it says."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from cyxwiz import wire
from tests.wiring import Central, central

RATES = {"requests_per_second": 10**6, "logins_per_minute": 10**6}


@pytest.fixture(scope="module")
def loose() -> Iterator[Central]:
    """A central outside of a running loop: the memory store has no tasks."""
    with tempfile.TemporaryDirectory() as folder:
        made = asyncio.run(central(Path(folder), rate_limit=RATES))
        yield made
        asyncio.run(made.aclose())


@pytest.fixture(scope="module")
def api_schema(loose: Central) -> Any:
    schema = schemathesis.openapi.from_dict(loose.app.openapi())
    schema.app = loose.app
    schema.location = "/openapi.json"
    # A stream has no end, and a body of bytes is no document.
    return schema.exclude(path_regex="events$|^/metrics$").exclude(path_regex="^/api/auth/logout$")


schema = schemathesis.pytest.from_fixture("api_schema")

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@schema.parametrize()
@hypothesis.settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck)
)
def test_every_operation_does_what_its_description_says(case: Any, loose: Central) -> None:
    response = case.call(base_url="http://127.0.0.1", headers={"Authorization": f"Bearer {loose.admin}"})
    case.validate_response(response, checks=CHECKS, excluded_checks=[ignored_auth])
    if response.status_code >= 400 and case.method != "HEAD":
        error = response.json()["error"]
        assert set(error) == {"code", "message", "details", "retryable", "request_id"}
        assert wire.CODES[error["code"]].http == response.status_code or response.status_code in (405, 416)


def test_the_document_names_what_there_is(loose: Central) -> None:
    document = loose.app.openapi()
    assert document["paths"]["/api/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/JobFile"
    }
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            if verb != "head":
                shape = operation["responses"]["400"]["content"]["application/json"]["schema"]
                assert shape == {"$ref": "#/components/schemas/Error"}, (path, verb)
            assert "422" not in operation["responses"]
    free = {path for path, verbs in document["paths"].items() if not all(op["security"] for op in verbs.values())}
    assert free == {"/api/health", "/api/ready", "/api/auth/login", "/api/auth/refresh"}
