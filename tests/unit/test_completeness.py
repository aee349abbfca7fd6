"""Nothing is half there: every code, state, event, setting and call has all of its counterparts."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import grpc
import pytest
from google.protobuf import json_format
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from cyxwiz import wire
from cyxwiz.config import SECRETS, Config, load, sections, settings_of
from cyxwiz.domain import events, states
from cyxwiz.domain.errors import Code
from cyxwiz.domain.events import Event
from cyxwiz.domain.states import TABLES, TERMINAL_JOB_STATES, JobState
from cyxwiz.ext.v1 import events_pb2
from cyxwiz.services.api import Api
from cyxwiz.services.jobfile import JobFile
from cyxwiz.services.watch import LIVE, Note
from cyxwiz.transports.grpc.client_api import SERVICE, snake
from cyxwiz.transports.grpc.events import BODIES, event_to
from cyxwiz.transports.rest.app import build as build_rest

ROOT = Path(__file__).parents[2]

# code: gRPC name and number, HTTP status, WebSocket close code, exit status
PUBLISHED = {
    "INVALID": ("INVALID_ARGUMENT", 3, 400, 4400, 2),
    "UNAUTHENTICATED": ("UNAUTHENTICATED", 16, 401, 4401, 4),
    "FORBIDDEN": ("PERMISSION_DENIED", 7, 403, 4403, 4),
    "NOT_FOUND": ("NOT_FOUND", 5, 404, 4404, 3),
    "EXISTS": ("ALREADY_EXISTS", 6, 409, 4409, 1),
    "CONFLICT": ("FAILED_PRECONDITION", 9, 409, 4409, 1),
    "STALE": ("ABORTED", 10, 409, 4409, 1),
    "FUNDS": ("FAILED_PRECONDITION", 9, 402, 4402, 6),
    "EXHAUSTED": ("RESOURCE_EXHAUSTED", 8, 429, 4429, 1),
    "UNSUPPORTED": ("UNIMPLEMENTED", 12, 501, 4501, 1),
    "UNAVAILABLE": ("UNAVAILABLE", 14, 503, 4503, 5),
    "TIMEOUT": ("DEADLINE_EXCEEDED", 4, 504, 4504, 5),
    "INTERNAL": ("INTERNAL", 13, 500, 4500, 1),
}


# error codes


def test_every_code_has_the_published_numbers() -> None:
    assert {str(code) for code in Code} == set(PUBLISHED)
    assert {code: tuple(row) for code, row in wire.CODES.items()} == PUBLISHED


def test_grpc_numbers_are_grpcs_own() -> None:
    for row in wire.CODES.values():
        assert grpc.StatusCode[row.grpc_name].value[0] == row.grpc


def test_a_bare_grpc_status_becomes_a_code_that_has_that_status() -> None:
    assert set(wire.FROM_GRPC) == {row.grpc for row in wire.CODES.values()}
    for number, code in wire.FROM_GRPC.items():
        assert wire.CODES[code].grpc == number
    assert wire.FROM_GRPC[9] == "CONFLICT"  # not FUNDS: most refusals of a state are no matter of money


# states


def reachable(table: Mapping[tuple[Any, Any], Any], start: StrEnum) -> set[StrEnum]:
    found, todo = {start}, [start]
    while todo:
        state = todo.pop()
        for (before, _), after in table.items():
            if before == state and after not in found:
                found.add(after)
                todo.append(after)
    return found


@pytest.mark.parametrize("name", TABLES)
def test_every_state_can_be_reached(name: str) -> None:
    table, initial = TABLES[name]
    assert set(type(initial)) - reachable(table, initial) == set()


def test_every_job_can_come_to_an_end() -> None:
    for state in JobState:
        assert reachable(states.JOB, state) & TERMINAL_JOB_STATES, state


def test_no_trigger_leaves_an_end() -> None:
    assert not [pair for pair in states.JOB if pair[0] in TERMINAL_JOB_STATES]
    assert not [pair for pair in states.LEASE if pair[0] is states.LeaseState.ENDED]


def test_every_trigger_is_used() -> None:
    for table, triggers in (
        (states.JOB, states.JobTrigger),
        (states.LEASE, states.LeaseTrigger),
        (states.NODE, states.NodeTrigger),
        (states.RESERVATION, states.ReservationTrigger),
    ):
        assert {trigger for _, trigger in table} == set(triggers)


# events


BASES = (Event, events.JobEvent, events.NodeEvent)
# From the module, not from __subclasses__: a dataclass with slots leaves its first draft there until it is collected.
EVENTS: list[type[Event]] = [
    value
    for value in vars(events).values()
    if inspect.isclass(value) and issubclass(value, Event) and value not in BASES
]


def sample(kind: type[Event]) -> Event:
    values: dict[str, Any] = {"str": "a", "int": 1}
    return kind(**{field.name: values[str(field.type)] for field in dataclasses.fields(kind)})


def test_every_event_class_has_a_kind_of_its_own() -> None:
    assert len(EVENTS) > 10
    assert all("kind" in vars(each) for each in EVENTS)
    assert len({each.kind for each in EVENTS}) == len(EVENTS)


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.kind)
def test_every_event_has_a_json_form(kind: type[Event]) -> None:
    event = sample(kind)
    data = event.data()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert set(data) == {field.name for field in dataclasses.fields(kind)}
    thing, dot, _ = event.kind.partition(".")
    assert dot
    assert event.topics == (f"{thing}s", f"{thing}:a")


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.kind)
def test_every_event_has_a_protobuf_form(kind: type[Event]) -> None:
    data = sample(kind).data()
    message = event_to(Note(7, kind.kind, datetime(2026, 1, 1, tzinfo=UTC), data))
    assert (message.seq, message.kind, message.at_ms) == (7, kind.kind, 1767225600000)
    assert snake(kind.__name__) == message.WhichOneof("body")
    body = getattr(message, snake(kind.__name__))
    assert json_format.MessageToDict(body, preserving_proto_field_name=True) == data


def test_no_protobuf_event_stands_for_nothing() -> None:
    bodies = [field.name for field in events_pb2.Event.DESCRIPTOR.oneofs_by_name["body"].fields]
    assert sorted(bodies) == sorted(BODIES.values())
    assert set(BODIES) == {each.kind for each in EVENTS} | set(LIVE)


# settings


def settings() -> list[tuple[str, str, Any]]:
    assert set(Config.model_fields) <= set(sections()), "what is no section is no setting"
    return [(section, name, field) for section, kind in sections().items() for name, field in settings_of(kind).items()]


def test_every_setting_is_described() -> None:
    assert [f"{section}.{name}" for section, name, field in settings() if not field.description] == []


def test_every_setting_stands_in_the_sample_file() -> None:
    section, found = "", []
    for line in (ROOT / "config.toml").read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line.startswith("# ") and line.split(" ")[2:3] == ["="]:
            found.append((section, line.split(" ")[1]))
    assert found == [(section, name) for section, name, _ in settings()]


def test_the_sample_file_sets_nothing_and_its_values_are_the_defaults(tmp_path: Path) -> None:
    text = (ROOT / "config.toml").read_text()
    assert load(file=ROOT / "config.toml", environ={}).origins == {}
    lines = []
    for line in text.splitlines():
        words = line.split(" ")
        is_setting = line.startswith("# ") and words[2:3] == ["="] and len(words) > 3
        lines.append(line.removeprefix("# ") if is_setting else line)
    used = tmp_path / "used.toml"
    used.write_text("\n".join(lines))
    assert sum(len(part) for part in tomllib.loads(used.read_text()).values()) > 40
    assert load(file=used, environ={}).config == Config()


def test_every_secret_has_a_file_twin() -> None:
    names = {f"{section}.{name}" for section, name, _ in settings()}
    assert names >= SECRETS
    assert {f"{key}_file" for key in SECRETS} == {name for name in names if name.endswith("_file")} - {
        "tls.cert_file",
        "tls.key_file",
        "tls.ca_file",
    }


# what is generated


@pytest.mark.parametrize("script", ["gen_state_docs.py", "gen_config_docs.py", "gen_model_docs.py", "gen_protos.py"])
def test_what_is_generated_is_up_to_date(script: str) -> None:
    command = [sys.executable, str(ROOT / "scripts" / script), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# calls


def api_methods() -> set[str]:
    return {
        name
        for name, value in vars(Api).items()
        if not name.startswith("_") and (inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value))
    }


def test_every_rpc_of_the_client_service_has_its_method() -> None:
    for method in SERVICE.methods:
        act = getattr(Api, snake(method.name), None)
        assert act is not None, method.name
        assert inspect.isasyncgenfunction(act) == method.server_streaming, method.name


def test_every_method_is_served_by_a_door() -> None:
    """By name: what a door takes from `api`, besides the client service, which takes all that it lists."""
    named: set[str] = set()
    for path in (ROOT / "cyxwiz" / "transports").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
                owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
                named |= {node.attr} if owner in ("api", "_api") else set()
    assert api_methods() - named - {snake(method.name) for method in SERVICE.methods} == set()


def documented(head: str) -> list[list[str]]:
    """The rows of a table of docs/guides/api.md by the first cell of its head."""
    lines = (ROOT / "docs" / "guides" / "api.md").read_text().splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(f"| {head} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip(" `") for cell in line.strip("|").split("|")])
    return rows


def test_every_route_is_documented_and_every_documented_route_is_there(tmp_path: Path) -> None:
    api, guard = MagicMock(), MagicMock()
    guard.accounts.open = False
    app = build_rest(
        api,
        guard,
        MagicMock(),
        MagicMock(),
        MagicMock(),
        config=Config(),
        spool=tmp_path,
        ready=lambda: True,
        registry=CollectorRegistry(),
    )
    there = {
        (verb.upper(), path): operation["summary"]
        for path, verbs in app.openapi()["paths"].items()
        for verb, operation in verbs.items()
    }
    assert {(verb, path): summary for verb, path, summary, _ in documented("Verb")} == there


def test_the_documented_error_codes_are_the_table() -> None:
    assert documented("Code") == [
        [code, f"{row.grpc_name} ({row.grpc})", str(row.http), str(row.websocket), str(row.exit)]
        for code, row in wire.CODES.items()
    ]


def test_every_key_of_a_job_file_is_documented() -> None:
    def keys(model: type[BaseModel], prefix: str = "") -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            inner = field.annotation
            is_table = inspect.isclass(inner) and issubclass(inner, BaseModel)
            found += keys(inner, f"{prefix}{name}.") if is_table else [f"{prefix}{name}"]  # type: ignore[arg-type]
        return found

    text = (ROOT / "docs" / "guides" / "job-files.md").read_text()
    assert [key for key in keys(JobFile) if f"`{key}`" not in text] == []


def test_the_documented_layers_are_those_that_are_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    assert "\n```\n" + "\n".join(layers) + "\n```\n" in (ROOT / "docs" / "architecture.md").read_text()


def test_every_link_between_documents_leads_somewhere() -> None:
    dead = []
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
            if "://" not in target and not (path.parent / target).exists():
                dead.append(f"{path.relative_to(ROOT)}: {target}")
    assert dead == []
