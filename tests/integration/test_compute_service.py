"""ComputeService over real sockets, with real children in the strongest sandbox of this machine.

Long, as it is a list: what the service promises, or a way to misuse it, a test.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest

from cyxwiz import wire
from cyxwiz.compute.kernels.pool import KernelLimits, KernelPool
from cyxwiz.compute.sandbox.choose import choose
from cyxwiz.config import OperationsSection
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import new_id
from cyxwiz.protocol import common_pb2 as common
from cyxwiz.protocol import compute_pb2 as pb
from cyxwiz.protocol import compute_pb2_grpc
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.transports.grpc import door
from cyxwiz.transports.grpc.compute import SERVICE, add_compute_service
from tests.kernel_calls import array, operation, tensor
from tests.wiring import central

TYPES = {"float32": common.DATA_TYPE_FLOAT32, "float64": common.DATA_TYPE_FLOAT64, "int32": common.DATA_TYPE_INT32,
         "int64": common.DATA_TYPE_INT64, "uint8": common.DATA_TYPE_UINT8}  # fmt: skip
NAMES = {number: name for name, number in TYPES.items()}
X = np.arange(6, dtype=np.float32).reshape(2, 3)
LIMITS = KernelLimits(children=2, input_bytes=24 << 20, room_bytes=16 << 20, memory_bytes=1 << 30, seconds=20)


def sent(value: Any, name: str = "") -> pb.Tensor:
    value = np.asarray(value)
    info = common.TensorInfo(shape=value.shape, dtype=TYPES[value.dtype.name], name=name)
    return pb.Tensor(info=info, data=np.ascontiguousarray(value).tobytes())


def got(value: pb.Tensor) -> np.ndarray:
    return np.frombuffer(value.data, NAMES[value.info.dtype]).reshape(list(value.info.shape))


def named(name: str) -> pb.Tensor:
    return pb.Tensor(info=common.TensorInfo(name=name))


def request(kind: int, *inputs: Any, ident: str = "op", device: int = 0, **parameters: str) -> pb.ComputeRequest:
    tensors = [each if isinstance(each, pb.Tensor) else sent(each) for each in inputs]
    return pb.ComputeRequest(
        operation_id=ident, operation=kind, inputs=tensors, parameters=parameters, target_device=device
    )


class Keys:
    """Knows its callers by their keys, as a node's door knows tokens."""

    def __init__(self) -> None:
        self.names = {new_id(): "alice", new_id(): "bob"}

    async def __call__(self, context: grpc.aio.ServicerContext) -> str:
        said = str(dict(context.invocation_metadata() or ()).get("authorization", ""))
        name = self.names.get(said.removeprefix("Bearer "))
        if name is None:
            raise CyxError(Code.UNAUTHENTICATED, "Missing or unknown credentials.")
        return name

    def of(self, name: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {next(key for key, who in self.names.items() if who == name)}"),)


class House:
    """A server with the service, and stubs for its callers."""

    def __init__(self, pool: KernelPool, channel: grpc.aio.Channel, keys: Keys) -> None:
        self.pool, self.channel, self.keys = pool, channel, keys
        self.stub = compute_pb2_grpc.ComputeServiceStub(channel)
        self.alice, self.bob = keys.of("alice"), keys.of("bob")

    async def execute(self, asked: pb.ComputeRequest, who: str = "alice") -> pb.ComputeResponse:
        return await self.stub.Execute(asked, metadata=self.keys.of(who), timeout=30)


@asynccontextmanager
async def pooled(folder: Path, limits: KernelLimits = LIMITS) -> AsyncIterator[KernelPool]:
    """A pool that must leave nothing behind."""
    sandbox = choose("auto", folder / "sandbox")
    pool = KernelPool(SystemClock(), sandbox, limits)
    try:
        yield pool
    finally:
        await pool.aclose()
        assert psutil.Process().children(recursive=True) == []
        assert list(sandbox.slots.iterdir()) == []
        sandbox.close()


@asynccontextmanager
async def serving(folder: Path, limits: KernelLimits = LIMITS) -> AsyncIterator[House]:
    async with pooled(folder, limits) as pool:
        keys, server = Keys(), grpc.aio.server(options=[("grpc.max_receive_message_length", 32 << 20)])
        assert add_compute_service(server, pool, keys) == SERVICE
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        options = [("grpc.max_receive_message_length", 32 << 20)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            yield House(pool, channel, keys)
        await server.stop(0)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with serving(tmp_path) as made:
        yield made


async def status_of(call: Any) -> tuple[grpc.StatusCode, dict[str, Any]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    trailers = dict(caught.value.trailing_metadata() or ())
    return caught.value.code(), json.loads(trailers[wire.ERROR_METADATA])


# behind the door that stands before every service


async def test_behind_the_door_that_other_services_have(tmp_path: Path) -> None:
    house = await central(tmp_path / "central")

    async def authorize(context: grpc.aio.ServicerContext) -> str:
        return door.caller().required.id

    seen: list[tuple[str, str]] = []
    server = grpc.aio.server(
        interceptors=(door.Door(house.guard, lambda method, code, _: seen.append((method, code))),)
    )
    async with pooled(tmp_path) as pool:
        add_compute_service(server, pool, authorize)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = compute_pb2_grpc.ComputeServiceStub(channel)
            alice = (("authorization", f"Bearer {house.alice}"),)
            good, bad = request(pb.OP_MATMUL, X, X.T), request(pb.OP_MATMUL, X, X)
            assert (await stub.Execute(good, metadata=alice)).status == common.STATUS_SUCCESS
            assert (await status_of(stub.Execute(bad, metadata=alice)))[0] is grpc.StatusCode.INVALID_ARGUMENT
            assert (await status_of(stub.Execute(good)))[0] is grpc.StatusCode.UNAUTHENTICATED
            answers = [each.status async for each in stub.StreamExecute(iter([bad, good]), metadata=alice)]
            assert answers == [common.STATUS_ERROR, common.STATUS_SUCCESS]
            rubbish = channel.stream_stream(f"/{SERVICE}/StreamExecute")(iter([b"\xff\xff"]), metadata=alice)
            assert (await status_of(rubbish.read()))[0] is grpc.StatusCode.INVALID_ARGUMENT
        await server.stop(0)
    await house.aclose()
    assert seen[0] == (f"/{SERVICE}/Execute", "OK")
    assert len(seen) == 5


# one operation


async def test_each_kind_of_operation(house: House) -> None:
    pictures = np.ones((1, 2, 4, 4), np.float32)
    cases: list[tuple[int, list[Any], dict[str, str], dict[str, Any]]] = [
        (pb.OP_MATMUL, [X, X.T], {}, {"result": X @ X.T}),
        (pb.OP_CONV2D, [pictures, pictures[:, :, :2, :2]], {"stride": "2"}, {"result": np.full((1, 1, 2, 2), 8.0)}),
        (pb.OP_POOL, [pictures], {"function": "max", "kernel_size": "2"}, {"result": np.ones((1, 2, 2, 2))}),
        (pb.OP_ACTIVATION, [X], {"function": "tanh"}, {"result": np.tanh(X)}),
        (pb.OP_LOSS, [X, X + 2], {"function": "mse"}, {"loss": np.float32(4)}),
        (pb.OP_OPTIMIZER_STEP, [X, X], {"optimizer": "sgd", "lr": "0.5"}, {"weight": X / 2, "momentum": X}),
        (pb.OP_CUSTOM, [X], {"kernel": "top_k", "k": "1"}, {"values": [[2], [5]], "indices": [[2]] * 2}),
    ]  # fmt: skip
    for kind, inputs, parameters, wanted in cases:
        response = await house.execute(request(kind, *inputs, **parameters))
        assert (response.operation_id, response.status) == ("op", common.STATUS_SUCCESS)
        assert not response.HasField("error")
        made = {each.info.name: got(each) for each in response.outputs}
        assert set(made) == set(wanted)
        for name, value in wanted.items():
            assert made[name].shape == np.shape(value)
            np.testing.assert_allclose(made[name], value, rtol=1e-6)


async def test_packed_tensors_and_time(house: House) -> None:
    big = np.random.default_rng(0).standard_normal((700, 700)).astype(np.float32)
    packed = sent(big)
    packed.data, packed.compressed = zlib.compress(packed.data, 1), True
    response = await house.execute(request(pb.OP_MATMUL, packed, packed))
    np.testing.assert_allclose(got(response.outputs[0]), big @ big, rtol=1e-3, atol=1e-3)
    assert 1 <= response.compute_time_ms < 5000


WRONG = [
    (request(pb.OP_MATMUL, X, X), grpc.StatusCode.INVALID_ARGUMENT, "columns meet"),
    (request(pb.OP_UNKNOWN, X), grpc.StatusCode.INVALID_ARGUMENT, "operation 0"),
    (request(99, X), grpc.StatusCode.INVALID_ARGUMENT, "operation 99"),
    (request(pb.OP_MATMUL), grpc.StatusCode.INVALID_ARGUMENT, "0 inputs"),
    (request(pb.OP_MATMUL, *[X] * 17), grpc.StatusCode.INVALID_ARGUMENT, "17 inputs"),
    (request(pb.OP_MATMUL, pb.Tensor(data=b"1234"), X), grpc.StatusCode.INVALID_ARGUMENT, "info.dtype"),
    (request(pb.OP_MATMUL, named("other"), X), grpc.StatusCode.INVALID_ARGUMENT, "info.dtype"),
    (request(pb.OP_ACTIVATION, X, function="elu", alpha="nan"), grpc.StatusCode.INVALID_ARGUMENT, "finite"),
    (request(pb.OP_MATMUL, X, pb.Tensor(ipfs_hash="Qm")), grpc.StatusCode.UNIMPLEMENTED, "IPFS"),
    (request(pb.OP_MATMUL, X, X.T, device=common.DEVICE_CUDA), grpc.StatusCode.UNIMPLEMENTED, "CPU only"),
    (request(pb.OP_MATMUL, X, X.T, device=common.DEVICE_OPENCL), grpc.StatusCode.UNIMPLEMENTED, "DEVICE_OPENCL"),
    (request(pb.OP_MATMUL, X, X.T, device=77), grpc.StatusCode.UNIMPLEMENTED, "77"),
    (request(pb.OP_CUSTOM, X, kernel="mine"), grpc.StatusCode.UNIMPLEMENTED, "'mine'"),
]  # fmt: skip


async def test_what_is_refused(house: House) -> None:
    if house.pool._sandbox.gpus:
        WRONG[:] = [case for case in WRONG if "CPU only" not in case[2]]
    for asked, code, words in WRONG:
        status, error = await status_of(house.execute(asked))
        assert status is code, error
        assert words in error["message"]
    short = sent(X)
    short.data = short.data[:-1]
    status, error = await status_of(house.execute(request(pb.OP_ACTIVATION, short, function="relu")))
    assert (status, "24 bytes" in error["message"]) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    huge = pb.Tensor(info=common.TensorInfo(shape=[2**40], dtype=common.DATA_TYPE_UINT8), data=b"x", compressed=True)
    status, error = await status_of(house.execute(request(pb.OP_MATMUL, huge, X)))
    assert (status, error["retryable"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, False)
    assert str(2**40 + 24) in error["message"]
    assert f"at most {24 << 20} are taken (node.operations.input_bytes of" in error["message"]


async def test_who_is_not_known_is_not_served(house: House) -> None:
    for metadata in ((), (("authorization", "Bearer nothing"),)):
        for call in (
            house.stub.Execute(request(pb.OP_MATMUL, X, X.T), metadata=metadata),
            house.stub.ExecuteGraph(pb.ExecuteGraphRequest(), metadata=metadata),
            house.stub.StreamExecute(iter([request(pb.OP_MATMUL, X, X.T)]), metadata=metadata).read(),
            house.channel.unary_unary(f"/{SERVICE}/Execute")(b"\xff\xff", metadata=metadata),
        ):
            assert (await status_of(call))[0] is grpc.StatusCode.UNAUTHENTICATED
    assert psutil.Process().children() == []


async def test_bytes_that_are_no_message(house: House) -> None:
    for method in ("Execute", "ExecuteGraph"):
        call = house.channel.unary_unary(f"/{SERVICE}/{method}")(b"\xff\xff", metadata=house.alice)
        status, error = await status_of(call)
        assert (status, error["code"]) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID")


# graphs


def graph(*operations: pb.ComputeRequest, order: tuple[str, ...] = ()) -> pb.ExecuteGraphRequest:
    return pb.ExecuteGraphRequest(graph_id="g", operations=operations, execution_order=order)


async def test_a_network_as_a_graph(house: House) -> None:
    random = np.random.default_rng(1)
    picture, filters = random.standard_normal((4, 1, 8, 8)), random.standard_normal((3, 1, 3, 3))
    weight, labels = random.standard_normal((27, 5)), np.array([0, 4, 2, 1])
    operations = [
        request(pb.OP_LOSS, named("scores"), labels, ident="loss", function="cross_entropy"),
        request(pb.OP_CONV2D, picture, filters, ident="conv"),
        request(pb.OP_ACTIVATION, named("conv"), ident="relu", function="relu"),
        request(pb.OP_POOL, named("relu"), ident="pool", function="max", kernel_size="2"),
        request(pb.OP_CUSTOM, named("pool"), ident="flat", kernel="reshape", shape="4,-1"),
        request(pb.OP_MATMUL, named("flat"), weight, ident="scores"),
        request(pb.OP_CUSTOM, named("scores"), ident="best", kernel="top_k", k="1"),
    ]
    response = await house.stub.ExecuteGraph(graph(*operations), metadata=house.alice, timeout=30)
    assert (response.graph_id, response.status) == ("g", common.STATUS_SUCCESS)
    assert set(response.outputs) == {"loss", "best", "best:1"}

    import torch
    from torch.nn import functional

    hidden = functional.max_pool2d(functional.conv2d(torch.tensor(picture), torch.tensor(filters)).relu(), 2)
    scores = hidden.flatten(1) @ torch.tensor(weight)
    wanted = functional.cross_entropy(scores, torch.tensor(labels))
    np.testing.assert_allclose(got(response.outputs["loss"]), wanted.numpy(), rtol=1e-10)
    assert got(response.outputs["best:1"]).tolist() == scores.argmax(1, keepdim=True).tolist()

    order = ("conv", "relu", "pool", "flat", "scores", "best", "loss")
    again = await house.stub.ExecuteGraph(graph(*operations, order=order), metadata=house.alice, timeout=30)
    assert again.outputs == response.outputs


async def test_graphs_that_are_refused(house: House) -> None:
    one, two = request(pb.OP_MATMUL, X, X.T, ident="one"), request(pb.OP_MATMUL, named("one"), X, ident="two")
    lost = request(pb.OP_MATMUL, named("lost"), X, ident="two")
    many = graph(*(request(pb.OP_MATMUL, X, X.T, ident=str(number)) for number in range(257)))
    cases = [
        (graph(), "no operations"),
        (graph(one, two, order=("two", "one")), "before it"),
        (graph(one, two, order=("one",)), "once"),
        (graph(one, lost), "'lost'"),
        (graph(one, one), "each its own"),
        (graph(one, request(pb.OP_MATMUL, named("one"), X.T, ident="bad")), "Operation 'bad'"),
        (many, "at most 256 are taken (node.operations.graph_operations of"),
    ]
    for asked, words in cases:
        status, error = await status_of(house.stub.ExecuteGraph(asked, metadata=house.alice, timeout=30))
        assert status is grpc.StatusCode.INVALID_ARGUMENT
        assert words in error["message"]


# streams


async def test_a_stream_answers_in_order_and_outlives_errors(house: House) -> None:
    asked = [
        request(pb.OP_MATMUL, X, X.T if number % 3 else X, ident=str(number), backend="numpy") for number in range(9)
    ]
    call = house.stub.StreamExecute(iter(asked), metadata=house.alice, timeout=30)
    answers = [answer async for answer in call]
    assert [answer.operation_id for answer in answers] == [each.operation_id for each in asked]
    for number, answer in enumerate(answers):
        if number % 3:
            assert answer.status == common.STATUS_SUCCESS
            assert np.array_equal(got(answer.outputs[0]), X @ X.T)
        else:
            assert answer.status == common.STATUS_ERROR
            assert not answer.outputs
            assert (answer.error.code, answer.error.details) == (400, "INVALID")
            assert "columns meet" in answer.error.message
    assert await call.code() is grpc.StatusCode.OK


async def test_rubbish_ends_a_stream(house: House) -> None:
    good = request(pb.OP_MATMUL, X, X.T).SerializeToString()
    call = house.channel.stream_stream(f"/{SERVICE}/StreamExecute")(
        iter([good, b"\xff\xff", good]), metadata=house.alice
    )
    assert pb.ComputeResponse.FromString(await call.read()).status == common.STATUS_SUCCESS
    assert (await status_of(call.read()))[0] is grpc.StatusCode.INVALID_ARGUMENT


# children


def slow(rows: int = 1000) -> pb.ComputeRequest:
    """Takes a second or so, and four for 1600 rows: products of whole numbers don't go through a fast library."""
    return request(pb.OP_MATMUL, *[np.ones((rows, rows), np.int32)] * 2)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


def pids_of(pool: KernelPool) -> set[int]:
    return {worker.child.pid for worker in (*pool._idle, *pool._busy)}


async def test_a_child_serves_one_caller_and_stays_warm(house: House) -> None:
    await house.execute(request(pb.OP_MATMUL, X, X.T))
    first = pids_of(house.pool)
    await house.execute(request(pb.OP_MATMUL, X, X.T))
    assert pids_of(house.pool) == first
    await house.execute(request(pb.OP_MATMUL, X, X.T), "bob")
    both = pids_of(house.pool)
    assert len(both) == 2
    assert first < both


async def test_another_callers_idle_child_makes_room(tmp_path: Path) -> None:
    async with serving(tmp_path, replace(LIMITS, children=1)) as house:
        pids: list[int] = []
        for who in ("alice", "bob", "alice", "alice"):
            await house.execute(request(pb.OP_MATMUL, X, X.T), who)
            pids += pids_of(house.pool)
            assert len(psutil.Process().children()) == 1
        assert len(set(pids)) == 3
        assert pids[2] == pids[3]


async def test_an_idle_child_ends(tmp_path: Path) -> None:
    async with serving(tmp_path, replace(LIMITS, idle_seconds=0.3)) as house:
        await house.execute(request(pb.OP_MATMUL, X, X.T))
        assert len(psutil.Process().children()) == 1
        await until(lambda: not psutil.Process().children())
        assert house.pool._idle == []
        await house.execute(request(pb.OP_MATMUL, X, X.T))


async def test_the_queue_is_bounded_and_the_loop_goes_on(tmp_path: Path) -> None:
    async with serving(tmp_path, replace(LIMITS, children=1, waiting=4, waiting_each=3)) as house:
        first = asyncio.ensure_future(house.execute(slow()))
        await until(lambda: bool(house.pool._busy))
        waiting = [asyncio.ensure_future(house.execute(request(pb.OP_MATMUL, X, X.T))) for _ in range(3)]
        await until(lambda: house.pool._waiting.total() == 3)
        status, error = await status_of(house.execute(request(pb.OP_MATMUL, X, X.T)))
        assert (status, error["retryable"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
        assert "at most 3 may (node.operations.waiting_each of" in error["message"]
        bobs = asyncio.ensure_future(house.execute(request(pb.OP_MATMUL, X, X.T), "bob"))
        await until(lambda: house.pool._waiting.total() == 4)
        status, error = await status_of(house.execute(request(pb.OP_MATMUL, X, X.T), "bob"))
        assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "at most 4 may (node.operations.waiting of" in error["message"]
        assert not first.done()
        done = await asyncio.gather(first, *waiting, bobs)
        assert all(each.status == common.STATUS_SUCCESS for each in done)


def test_every_limit_is_a_setting_with_the_same_default() -> None:
    assert KernelLimits(**OperationsSection().model_dump()) == KernelLimits()
    assert set(OperationsSection.model_fields) == {each.name for each in fields(KernelLimits)}


async def test_what_takes_too_long_is_ended(tmp_path: Path) -> None:
    async with serving(tmp_path, replace(LIMITS, children=1, seconds=1.0)) as house:
        status, error = await status_of(house.execute(slow(1600)))
        assert status is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "1 s (node.operations.seconds of" in error["message"]
        assert (await house.execute(request(pb.OP_MATMUL, X, X.T))).status == common.STATUS_SUCCESS


async def test_a_call_that_is_given_up_ends_its_operations(tmp_path: Path) -> None:
    async with serving(tmp_path, replace(LIMITS, children=1)) as house:
        call = asyncio.ensure_future(house.execute(slow(1600)))
        await until(lambda: bool(house.pool._busy))
        first = pids_of(house.pool)
        call.cancel()
        await until(lambda: not psutil.Process().children())
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await house.execute(request(pb.OP_MATMUL, X, X.T))).status == common.STATUS_SUCCESS
        assert not first & pids_of(house.pool)


async def test_never_more_children_than_places(tmp_path: Path) -> None:
    """Callers take turns, and some give up while they wait, start or compute."""
    async with pooled(tmp_path) as pool:
        quick, long = [operation("matmul", X, X.T)], [operation("matmul", *[np.ones((1600, 1600), np.int32)] * 2)]
        calls = [asyncio.ensure_future(pool.run(f"c{n % 3}", long if n % 4 == 1 else quick)) for n in range(12)]
        for number, seconds in ((1, 0.05), (9, 0.1), (5, 0.8)):  # long ones take seconds
            asyncio.get_running_loop().call_later(seconds, calls[number].cancel)
        most = 0
        async with asyncio.timeout(60):
            while not all(call.done() for call in calls):
                most = max(most, len(psutil.Process().children()))
                await asyncio.sleep(0.01)
        assert most == LIMITS.children
        assert [n for n, call in enumerate(calls) if call.cancelled()] == [1, 5, 9]
        for computed in (call.result() for call in calls if not call.cancelled()):
            assert np.array_equal(array(computed.outputs[0].tensor), X @ X.T)
        await until(lambda: not pool._endings)
        assert pool._places._value == LIMITS.children
        assert not pool._waiting


async def test_memory_is_bounded(tmp_path: Path) -> None:
    limits = replace(LIMITS, memory_bytes=300 << 20, room_bytes=64 << 20)
    async with serving(tmp_path, limits) as house:
        wide = np.ones((1, 1, 1000, 1000), np.float32)
        kernel = np.ones((1, 1, 30, 30), np.float32)  # 3.4 GB of columns
        status, error = await status_of(house.execute(request(pb.OP_CONV2D, wide, kernel)))
        assert (status, error["retryable"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, False)
        assert "node.operations.memory_bytes" in error["message"]
        assert (await house.execute(request(pb.OP_MATMUL, X, X.T))).status == common.STATUS_SUCCESS


async def test_a_child_that_is_killed_is_replaced(tmp_path: Path) -> None:
    async with pooled(tmp_path) as pool:
        fine = [operation("matmul", X, X.T)]
        await pool.run("me", fine)
        (worker,) = pool._idle
        worker.child.cell.kill()
        await worker.child.exited.wait()
        computed = await pool.run("me", fine)
        assert np.array_equal(array(computed.outputs[0].tensor), X @ X.T)

        running = asyncio.ensure_future(pool.run("me", [operation("matmul", *[np.ones((900, 900), np.int64)] * 2)]))
        await until(lambda: bool(pool._busy))
        await asyncio.sleep(0.1)
        next(iter(pool._busy)).child.cell.kill()
        with pytest.raises(CyxError, check=lambda error: error.code is Code.UNAVAILABLE and error.retryable):
            await running


async def test_a_pool_that_closes_refuses_what_runs_and_waits(tmp_path: Path) -> None:
    async with pooled(tmp_path, replace(LIMITS, children=1)) as pool:
        long = [operation("matmul", *[np.ones((1000, 1000), np.int64)] * 2)]
        calls = [asyncio.ensure_future(pool.run("me", long)) for _ in range(3)]
        await until(lambda: len(pool._busy) == 1 and pool._waiting.total() == 2)
        async with asyncio.timeout(10):
            await pool.aclose()
            results = await asyncio.gather(*calls, return_exceptions=True)
        assert [getattr(each, "code", None) for each in results] == [Code.UNAVAILABLE] * 3
        with pytest.raises(CyxError, match="stopping"):
            await pool.run("me", long)


async def test_the_node_itself_loads_no_arithmetic(tmp_path: Path) -> None:
    program = (
        "import sys, cyxwiz.compute.kernels.pool, cyxwiz.transports.grpc.compute;"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & {'numpy', 'torch', 'cupy'}))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert (process.returncode, out.split()) == (0, []), err


async def test_whole_numbers_of_every_type_travel(tmp_path: Path) -> None:
    async with pooled(tmp_path) as pool:
        for dtype in TYPES:
            value = np.array([[0, 1], [7, 255 if dtype == "uint8" else -5]], dtype)
            computed = await pool.run("me", [operation("transpose", tensor(value))])
            made = array(computed.outputs[0].tensor)
            assert made.dtype == value.dtype
            assert np.array_equal(made, value.T)
            assert math.isfinite(computed.seconds)
