"""`ComputeService` at a node's own door, in a real process."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import grpc
import numpy as np
import pytest

from cyxwiz.protocol import common_pb2 as common
from cyxwiz.protocol import compute_pb2 as pb
from cyxwiz.protocol import compute_pb2_grpc, job_pb2, job_pb2_grpc
from tests.e2e.processes import LONG, cyxwiz, submit, until

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def tensor(array: np.ndarray) -> pb.Tensor:
    info = common.TensorInfo(shape=array.shape, dtype=common.DATA_TYPE_FLOAT32)
    return pb.Tensor(info=info, data=array.tobytes())


def test_whoever_has_a_job_there_or_an_account_beside_it_may_compute(tmp_path: Path) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    request = pb.ComputeRequest(operation_id="1", operation=pb.OP_MATMUL, inputs=[tensor(x), tensor(x.T)])
    settings = ("node.operations.input_bytes=1024", "node.operations.children=1")
    with cyxwiz("both", tmp_path, *settings) as process, process.http() as http:
        job_id = submit(http, LONG)
        until(http, job_id, "running")
        with grpc.insecure_channel(process.ready["grpc"]) as central:
            asked = job_pb2.GetJobStatusRequest(job_id=job_id)
            jobs = job_pb2_grpc.JobServiceStub(central)
            given = jobs.GetJobStatus(asked, metadata=bearer(process.key)).node_assignment
        assert given.node_endpoint == process.ready["node"]
        with grpc.insecure_channel(given.node_endpoint) as node:
            compute = compute_pb2_grpc.ComputeServiceStub(node)
            for token in (given.auth_token, process.key):
                answer = compute.Execute(request, metadata=bearer(token))
                assert np.array_equal(np.frombuffer(answer.outputs[0].data, np.float32).reshape(2, 2), x @ x.T)
            large = pb.ComputeRequest(operation=pb.OP_MATMUL, inputs=[tensor(np.ones((16, 17), np.float32))] * 2)
            with pytest.raises(grpc.RpcError) as caught:
                compute.Execute(large, metadata=bearer(process.key))
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "at most 1024 are taken (node.operations.input_bytes of" in caught.value.details()
            for metadata in ((), bearer("rubbish"), bearer(given.auth_token[:-4] + "abcd")):
                with pytest.raises(grpc.RpcError) as caught:
                    compute.Execute(request, metadata=metadata)
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_node_that_its_owner_has_closed_computes_nothing(tmp_path: Path) -> None:
    other_day = WEEKDAYS[(datetime.now(UTC).weekday() + 3) % 7]
    with cyxwiz("both", tmp_path, f"node.schedule={other_day}") as process:
        with grpc.insecure_channel(process.ready["node"]) as node, pytest.raises(grpc.RpcError) as caught:
            request = pb.ComputeRequest(operation=pb.OP_MATMUL, inputs=[tensor(np.ones((2, 2), np.float32))] * 2)
            compute_pb2_grpc.ComputeServiceStub(node).Execute(request, metadata=bearer(process.key))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert f"closed: its owner's schedule is {other_day}" in str(caught.value.details())


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)
