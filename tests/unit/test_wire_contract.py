"""The generated descriptors are the published wire contract, to the last number, and nothing besides."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor, ServiceDescriptor

CONTRACT = json.loads((Path(__file__).parent / "wire-contract.json").read_text())
FILES = {entry["file"]: entry for entry in CONTRACT["files"]}
MODULES = Path(__file__).parents[2] / "cyxwiz" / "protocol"

_PROTO = descriptor_pb2.FieldDescriptorProto
TYPE_NAMES = {number: name.removeprefix("TYPE_").lower() for name, number in _PROTO.Type.items()}


def descriptor(file: str) -> FileDescriptor:
    module = importlib.import_module(f"cyxwiz.protocol.{file.removesuffix('.proto')}_pb2")
    found: FileDescriptor = module.DESCRIPTOR
    return found


def describe_field(field: FieldDescriptor) -> dict[str, Any]:
    described: dict[str, Any] = {"number": field.number, "name": field.name, "json_name": field.json_name}
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        entry = field.message_type.fields_by_name
        kinds = {"map_key": _kind(entry["key"]), "map_value": _kind(entry["value"])}
        return {**described, "label": "map", "type": "map", **kinds}
    described |= {"label": "repeated" if field.is_repeated else "singular", "type": TYPE_NAMES[field.type]}
    if field.message_type is not None or field.enum_type is not None:
        described["type_name"] = _kind(field)
    if field.is_repeated and field.is_packed:
        described["packed"] = True
    if field.containing_oneof is not None:
        described["oneof"] = field.containing_oneof.name
    return described


def _kind(field: FieldDescriptor) -> str:
    named = field.message_type or field.enum_type
    return str(named.full_name) if named is not None else TYPE_NAMES[field.type]


def describe_messages(message: Descriptor) -> list[dict[str, Any]]:
    """The message and those declared inside it; the entries that stand for maps belong to their fields."""
    described: dict[str, Any] = {
        "full_name": message.full_name,
        "fields": [describe_field(field) for field in message.fields],
    }
    if message.oneofs:
        described["oneofs"] = [oneof.name for oneof in message.oneofs]
    inner = [each for each in message.nested_types if not each.GetOptions().map_entry]
    return [described, *(part for each in inner for part in describe_messages(each))]


def describe_enum(enum: EnumDescriptor) -> dict[str, Any]:
    return {"full_name": enum.full_name, "values": [{"name": v.name, "number": v.number} for v in enum.values]}


def describe_service(service: ServiceDescriptor) -> dict[str, Any]:
    return {
        "full_name": service.full_name,
        "methods": [
            {
                "name": method.name,
                "path": f"/{service.full_name}/{method.name}",
                "request": method.input_type.full_name,
                "response": method.output_type.full_name,
                "client_streaming": method.client_streaming,
                "server_streaming": method.server_streaming,
            }
            for method in service.methods
        ],
    }


def all_enums(file: FileDescriptor) -> list[EnumDescriptor]:
    found = list(file.enum_types_by_name.values())
    todo = list(file.message_types_by_name.values())
    while todo:
        message = todo.pop()
        found += message.enum_types
        todo += message.nested_types
    return found


def by(entries: list[dict[str, Any]], key: str) -> dict[Any, dict[str, Any]]:
    keyed = {entry[key]: entry for entry in entries}
    assert len(keyed) == len(entries)
    return keyed


def test_there_are_the_contracts_files_and_no_other() -> None:
    ours = {path.name.removesuffix("_pb2.py") + ".proto" for path in MODULES.glob("*_pb2.py")}
    assert ours == set(FILES)


def test_every_files_package_and_imports() -> None:
    for name, entry in FILES.items():
        proto = descriptor_pb2.FileDescriptorProto()
        descriptor(name).CopyToProto(proto)
        assert proto.syntax == entry["syntax"]
        assert proto.package == entry["package"]
        assert sorted(Path(each).name for each in proto.dependency) == sorted(
            Path(each).name for each in entry["imports"]
        )


@pytest.mark.parametrize("name", FILES)
def test_every_message_field_and_oneof(name: str) -> None:
    ours = by(
        [m for top in descriptor(name).message_types_by_name.values() for m in describe_messages(top)], "full_name"
    )
    theirs = by(FILES[name]["messages"], "full_name")
    assert set(ours) == set(theirs)
    for full_name, message in theirs.items():
        assert by(ours[full_name]["fields"], "number") == by(message["fields"], "number"), full_name
        assert names(ours[full_name].get("oneofs", [])) == names(message.get("oneofs", [])), full_name


def names(oneofs: list[Any]) -> set[str]:
    return {each if isinstance(each, str) else each["name"] for each in oneofs}


@pytest.mark.parametrize("name", FILES)
def test_every_enum_and_value(name: str) -> None:
    ours = by([describe_enum(enum) for enum in all_enums(descriptor(name))], "full_name")
    assert ours == by(FILES[name]["enums"], "full_name")


@pytest.mark.parametrize("name", FILES)
def test_every_service_and_method(name: str) -> None:
    ours = by([describe_service(each) for each in descriptor(name).services_by_name.values()], "full_name")
    theirs = by(FILES[name]["services"], "full_name")
    assert set(ours) == set(theirs)
    for full_name, service in theirs.items():
        assert by(ours[full_name]["methods"], "name") == by(service["methods"], "name"), full_name
