"""Objects to store."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from cyxwiz.domain.ids import JobId, NodeId, UserId
from cyxwiz.domain.job import Device, Job, JobSpec, JobType, Priority, Resources
from cyxwiz.domain.node import DeviceInfo, Hardware, Node
from cyxwiz.domain.weights import Weights

START = datetime(2030, 1, 1, tzinfo=UTC)
OWNER = UserId("11111111-1111-4111-8111-111111111111")


def job(
    name: str = "mnist", *, priority: Priority = Priority.NORMAL, type_: JobType = JobType.TRAINING, **given: Any
) -> Job:
    spec = JobSpec(
        name=name,
        type=type_,
        dataset_uri="mock://digits",
        model='{"layers": []}',
        priority=priority,
        hyperparameters={"lr": "0.1"},
        resources=Resources(device=Device.CUDA, regions=("eu", "us")),
        expected_seconds=60.0,
        labels={"team": "a"},
        weights=Weights("ab" * 32, "another job", "model.onnx"),
        requirements="cd" * 32,
        network=True,
    )
    return Job(**{"id": JobId(str(uuid.uuid4())), "owner_id": OWNER, "spec": spec, "created_at": START, **given})


def stored(given: Job) -> Job:
    """The job as the store gives it back: its model definition is asked for apart."""
    return replace(given, spec=replace(given.spec, model=""))


def node(name: str = "node", **given: Any) -> Node:
    gpu = DeviceInfo(Device.CUDA, "H200", memory_total_bytes=139 << 30, supports_fp16=True, compute_capability=9.0)
    cpu = DeviceInfo(Device.CPU, "cpu")
    hardware = Hardware("Xeon", 8, 64 << 30, 32 << 30, (gpu, cpu), ("power: no sensor",))
    return Node(
        **{
            "id": NodeId(str(uuid.uuid4())),
            "owner_id": OWNER,
            "name": name,
            "hardware": hardware,
            "registered_at": START,
            "last_seen_at": START,
            "public_key": b"\0\1",
            "services": ("a", "b"),
            **given,
        }
    )
