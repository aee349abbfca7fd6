"""`cyxwiz.protocol.ComputeService`: tensor operations on a node.

The calls receive and decode their bytes themselves, after the caller is known; errors end a call by the one table of
codes, but for a request of `StreamExecute`, whose error is in its answer. A graph's operation reads another's output by
an input that has a name and nothing else: `ID`, or `ID:NUMBER` for another output than the first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError

from cyxwiz.domain.errors import CyxError, invalid, unsupported
from cyxwiz.domain.operation import (
    MAX_NAME,
    MAX_RANK,
    Computed,
    Operation,
    Output,
    Reference,
    Tensor,
    arrange,
    find_reference,
)
from cyxwiz.ports.kernels import Kernels
from cyxwiz.protocol import common_pb2 as common
from cyxwiz.protocol import compute_pb2 as pb
from cyxwiz.services.in_band import error_to
from cyxwiz.transports.auth import internal
from cyxwiz.transports.grpc.door import abort, only

SERVICE = pb.DESCRIPTOR.services_by_name["ComputeService"].full_name

# Says whose call it is, by a name of the caller, or raises UNAUTHENTICATED or FORBIDDEN.
Authorize = Callable[[grpc.aio.ServicerContext], Awaitable[str]]

_DTYPES = {
    common.DATA_TYPE_FLOAT32: "float32",
    common.DATA_TYPE_FLOAT64: "float64",
    common.DATA_TYPE_INT32: "int32",
    common.DATA_TYPE_INT64: "int64",
    common.DATA_TYPE_UINT8: "uint8",
}
_DTYPE_TO = {name: number for number, name in _DTYPES.items()}
_KINDS = {
    pb.OP_MATMUL: "matmul",
    pb.OP_CONV2D: "conv2d",
    pb.OP_POOL: "pool",
    pb.OP_ACTIVATION: "activation",
    pb.OP_LOSS: "loss",
    pb.OP_OPTIMIZER_STEP: "optimizer_step",
    pb.OP_CUSTOM: "custom",
}
_DEVICES = {common.DEVICE_UNKNOWN: "cpu", common.DEVICE_CPU: "cpu", common.DEVICE_CUDA: "cuda"}

M = TypeVar("M", pb.ComputeRequest, pb.ExecuteGraphRequest)


def add_compute_service(server: grpc.aio.Server, kernels: Kernels, authorize: Authorize) -> str:
    """Registers the service on a server that has not started; returns its full name, for reflection and health."""
    service = ComputeService(kernels, authorize)
    handlers = {
        "Execute": grpc.stream_unary_rpc_method_handler(service.execute),
        "ExecuteGraph": grpc.stream_unary_rpc_method_handler(service.execute_graph),
        "StreamExecute": grpc.stream_stream_rpc_method_handler(service.stream_execute),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    return SERVICE


class ComputeService:
    """The three methods, from bytes to bytes."""

    def __init__(self, kernels: Kernels, authorize: Authorize) -> None:
        self._kernels = kernels
        self._authorize = authorize

    async def execute(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> bytes:
        try:
            caller = await self._authorize(context)
            return (await self._one(caller, _decoded(pb.ComputeRequest(), await only(requests)))).SerializeToString()
        except Exception as error:
            await abort(context, error, f"/{SERVICE}/Execute")
            raise

    async def execute_graph(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> bytes:
        try:
            caller = await self._authorize(context)
            return (
                await self._graph(caller, _decoded(pb.ExecuteGraphRequest(), await only(requests)))
            ).SerializeToString()
        except Exception as error:
            await abort(context, error, f"/{SERVICE}/ExecuteGraph")
            raise

    async def stream_execute(
        self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        """Answers in the order of the requests, one at a time: the next is read when the last is answered."""
        try:
            caller = await self._authorize(context)
            async for data in requests:
                request = _decoded(pb.ComputeRequest(), data)
                yield (await self._answered(caller, request)).SerializeToString()
        except Exception as error:
            await abort(context, error, f"/{SERVICE}/StreamExecute")

    async def _answered(self, caller: str, request: pb.ComputeRequest) -> pb.ComputeResponse:
        """The answer, with the error in it where there is one."""
        try:
            return await self._one(caller, request)
        except Exception as error:
            known = error if isinstance(error, CyxError) else internal(error, f"/{SERVICE}/StreamExecute")
            ident = request.operation_id
            return pb.ComputeResponse(operation_id=ident, status=common.STATUS_ERROR, error=error_to(known))

    async def _one(self, caller: str, request: pb.ComputeRequest) -> pb.ComputeResponse:
        computed = await self._kernels.run(caller, [_operation(request, None)])
        return pb.ComputeResponse(
            operation_id=request.operation_id,
            status=common.STATUS_SUCCESS,
            outputs=[_tensor_to(each) for each in computed.outputs],
            compute_time_ms=_milliseconds(computed),
        )

    async def _graph(self, caller: str, request: pb.ExecuteGraphRequest) -> pb.ExecuteGraphResponse:
        ids = {each.operation_id: None for each in request.operations}
        operations = arrange([_operation(each, ids) for each in request.operations], list(request.execution_order))
        computed = await self._kernels.run(caller, operations)
        return pb.ExecuteGraphResponse(
            graph_id=request.graph_id,
            status=common.STATUS_SUCCESS,
            outputs={each.source.key: _tensor_to(each) for each in computed.outputs},
            total_compute_time_ms=_milliseconds(computed),
        )


def _decoded(message: M, data: bytes) -> M:
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise invalid(f"The request's bytes are no {message.DESCRIPTOR.name}.") from None
    return message


def _operation(request: pb.ComputeRequest, ids: dict[str, None] | None) -> Operation:
    """The operation; `ids` are those of its graph, None where it stands alone."""
    label = f"Operation {request.operation_id[:MAX_NAME]!r}"
    if request.operation not in _KINDS:
        raise invalid(f"{label}: operation {request.operation} is unknown; see OperationType.", field="operation")
    if request.target_device not in _DEVICES:
        known = request.target_device in common.DeviceType.values()
        name = common.DeviceType.Name(request.target_device) if known else str(request.target_device)
        raise unsupported(f"{label}: nothing is computed on {name}; set target_device to CPU or CUDA.")
    inputs = [_input(each, f"{label}, input {number}", ids) for number, each in enumerate(request.inputs)]
    device = _DEVICES[request.target_device]
    return Operation(request.operation_id, _KINDS[request.operation], tuple(inputs), dict(request.parameters), device)


def _input(tensor: pb.Tensor, where: str, ids: dict[str, None] | None) -> Tensor | Reference:
    info = tensor.info
    if tensor.ipfs_hash:
        raise unsupported(f"{where}: tensors are not fetched from IPFS here; send their bytes in data.")
    if ids is not None and info.name and not (tensor.data or info.shape or info.dtype):
        return find_reference(info.name, ids)
    if info.dtype not in _DTYPES:
        raise invalid(f"{where}: info.dtype must be one of {', '.join(_DTYPE_TO)}.", field="dtype")
    if len(info.shape) > MAX_RANK or len(info.name) > MAX_NAME:
        raise invalid(f"{where}: at most {MAX_RANK} dimensions and a name of {MAX_NAME} characters are taken.")
    made = Tensor(info.name, tuple(info.shape), _DTYPES[info.dtype], tensor.data, tensor.compressed)
    made.check(where)
    return made


def _tensor_to(output: Output) -> pb.Tensor:
    tensor = output.tensor
    info = common.TensorInfo(shape=tensor.shape, dtype=_DTYPE_TO[tensor.dtype], name=tensor.name)  # type: ignore[arg-type]
    return pb.Tensor(info=info, data=tensor.data)


def _milliseconds(computed: Computed) -> int:
    return round(computed.seconds * 1000)
