"""What operations are refused for, graphs, the registry and the frames; in this process."""

from __future__ import annotations

import importlib
import re
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyxwiz.compute.child_protocol import ProtocolError
from cyxwiz.compute.kernels import elementwise, frames, losses, registry, steps
from cyxwiz.compute.kernels.run import run
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.operation import Computed, Operation, Output, Reference, arrange, find_reference
from tests.kernel_calls import ROOM, array, call, operation, result, tensor

X = np.ones((2, 3), np.float32)
PICTURE, WEIGHT = np.ones((1, 2, 5, 5), np.float32), np.ones((2, 2, 3, 3), np.float32)
NUMBERS = np.arange(6, dtype=np.int32).reshape(2, 3)


def refused(code: Code, *words: str) -> Any:
    """Expects a CyxError with that code whose message has those words."""
    match = "(?s)" + "".join(f"(?=.*{re.escape(word)})" for word in words)
    return pytest.raises(CyxError, match=match, check=lambda error: error.code is code)


@pytest.mark.parametrize(
    ("kind", "inputs", "texts", "words"),
    [
        ("matmul", (X, X), {}, ["[2, 3]", "3 columns meet 2 rows"]),
        ("matmul", (X,), {}, ["1 inputs", "a, b, bias (optional)"]),
        ("matmul", (X, X, X, X), {}, ["4 inputs"]),
        ("matmul", (X, X.T, X), {}, ["bias", "[2, 3]"]),
        ("matmul", (np.float32(1), X), {}, ["at least one dimension"]),
        ("matmul", (np.ones((2, 4, 3)), np.ones((3, 3, 4))), {}, ["[2]", "[3]", "go together"]),
        ("matmul", (X, X.T.astype(np.float64)), {}, ["one type", "float32, float64"]),
        ("matmul", (np.ones((2, 2), np.uint8),) * 2, {}, ["uint8", "float32"]),
        ("matmul", (X, X), {"transpose_b": "True"}, ["transpose_b", "true or false", "'True'"]),
        ("matmul", (X, X), {"transpos_b": "true"}, ["transpos_b", "unknown", "transpose_b"]),
        ("matmul", (X, X), {"kernel": "softmax"}, ["OP_CUSTOM"]),
        ("matmul", (X, X), {"backend": "mkl"}, ["backend", "one of auto, numpy, cupy, torch"]),
        ("conv2d", (X, WEIGHT), {}, ["four dimensions", "[2, 3]"]),
        ("conv2d", (PICTURE, WEIGHT[:, :1]), {}, ["2 channels", "not of 1"]),
        ("conv2d", (PICTURE, WEIGHT, np.ones(3, np.float32)), {}, ["bias", "[2]", "[3]"]),
        ("conv2d", (PICTURE, WEIGHT), {"dilation": "3"}, ["7 x 7", "5 x 5"]),
        ("conv2d", (PICTURE, WEIGHT), {"stride": "0"}, ["stride", "from 1"]),
        ("conv2d", (PICTURE, WEIGHT), {"stride": "1,2,3"}, ["stride"]),
        ("conv2d", (PICTURE, WEIGHT), {"stride": "[1.5, 2]"}, ["stride"]),
        ("conv2d", (PICTURE, WEIGHT), {"padding": "full"}, ["padding", "same, valid"]),
        ("conv2d", (PICTURE, WEIGHT), {"padding": "-1"}, ["padding"]),
        ("conv2d", (PICTURE, WEIGHT[:, :1]), {"groups": "2", "layout": "CHWN"}, ["layout", "NCHW, NHWC"]),
        ("conv2d", (np.ones((1, 6, 5, 5)), np.ones((4, 2, 3, 3))), {"groups": "3"}, ["4 filters", "3 groups"]),
        ("pool", (PICTURE,), {"function": "max"}, ["kernel_size is missing"]),
        ("pool", (PICTURE,), {"function": "max", "kernel_size": "2", "padding": "2"}, ["half of its window"]),
        ("pool", (PICTURE,), {"function": "max", "kernel_size": "9"}, ["9 x 9", "5 x 5"]),
        ("pool", (PICTURE.astype(np.int32),), {"function": "max", "kernel_size": "2"}, ["int32"]),
        ("activation", (X,), {}, ["function is missing"]),
        ("activation", (X,), {"function": "relu6"}, ["function", "'relu6'"]),
        ("activation", (X,), {"function": "elu", "alpha": "nan"}, ["alpha", "finite", "'nan'"]),
        ("activation", (X,), {"function": "elu", "alpha": "inf"}, ["alpha", "finite"]),
        ("activation", (X,), {"function": "elu", "alpha": "1_0"}, ["alpha"]),
        ("activation", (X,), {"function": "elu", "alpha": "٣"}, ["alpha"]),
        ("activation", (X,), {"function": "softmax", "axis": "2"}, ["axis 2", "2 dimensions"]),
        ("activation", (np.float32(1),), {"function": "softmax"}, ["axis -1", "0 dimensions"]),
        ("activation", (NUMBERS,), {"function": "relu"}, ["int32", "float32, float64"]),
        ("loss", (X, X[:1]), {"function": "mse"}, ["[2, 3]", "[1, 3]"]),
        ("loss", (X, NUMBERS), {"function": "mse"}, ["target of type int32"]),
        ("loss", (NUMBERS, NUMBERS), {"function": "mse"}, ["prediction", "int32"]),
        ("loss", (X, NUMBERS[:, 2]), {"function": "cross_entropy"}, ["outside of 0 to 2"]),
        ("loss", (X, NUMBERS[:, 0] - 1), {"function": "nll"}, ["outside of 0 to 2"]),
        ("loss", (X, X), {"function": "nll"}, ["class numbers"]),
        ("loss", (X, X, X), {"function": "mse"}, ["third input"]),
        ("loss", (X, X), {"function": "huber", "delta": "0"}, ["delta", "above 0"]),
        ("loss", (X, X), {"function": "mse", "reduction": "max"}, ["reduction"]),
        ("optimizer_step", (X, X), {}, ["optimizer is missing", "sgd"]),
        ("optimizer_step", (X, X), {"optimizer": "lion"}, ["optimizer", "'lion'"]),
        ("optimizer_step", (X, X), {"optimizer": "adam"}, ["lr is missing"]),
        ("optimizer_step", (X, X), {"optimizer": "sgd", "lr": "0.1", "beta1": "0.9"}, ["beta1", "unknown"]),
        ("optimizer_step", (X, X), {"optimizer": "adam", "lr": "0.1", "beta2": "1"}, ["beta2", "below 1"]),
        ("optimizer_step", (X, X, X), {"optimizer": "adam", "lr": "0.1", "step": "2"}, ["mean, square", "1 tensors"]),
        ("optimizer_step", (X, X, X, X), {"optimizer": "adam", "lr": "0.1"}, ["first step"]),
        ("optimizer_step", (X, X[:1]), {"optimizer": "sgd", "lr": "0.1"}, ["one shape"]),
        ("optimizer_step", (X, X), {"optimizer": "sgd", "lr": "1", "nesterov": "true"}, ["momentum"]),
        ("custom", (X,), {}, ["kernel is missing", "softmax", "attention"]),
        ("layer_norm", (X, np.ones(2, np.float32)), {}, ["weight", "[2]"]),
        ("layer_norm", (np.float32(1),), {}, ["one dimension"]),
        ("attention", (X, X, X[:1]), {}, ["query", "[1, 3]"]),
        ("attention", (X, X, X, np.ones((3, 3), np.float32)), {}, ["go together"]),
        ("top_k", (X,), {"k": "4"}, ["k is 4", "only 3"]),
        ("top_k", (X,), {"k": "0"}, ["k", "from 1"]),
        ("cosine_similarity", (X, X[0]), {}, ["(N, D)"]),
        ("fft", (X, X[:1]), {}, ["one shape"]),
        ("add", (X, X[:, :2]), {}, ["[2, 3]", "[2, 2]"]),
        ("reshape", (X,), {"shape": "4,2"}, ["6 elements", "[4, 2]"]),
        ("reshape", (X,), {"shape": "-1,-1"}, ["one -1"]),
        ("reshape", (X,), {"shape": "[1, true]"}, ["shape"]),
        ("reshape", (X,), {"shape": "1,1,1,1,1,1,1,1,6"}, ["6 elements"]),
        ("transpose", (X,), {"axes": "0,0"}, ["axes"]),
        ("concat", (X, X.T), {"axis": "0"}, ["[2, 3]", "[3, 2]"]),
        ("embedding", (X, NUMBERS), {}, ["outside of 0 to 1"]),
        ("embedding", (X, X), {}, ["indices", "float32"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(kind: str, inputs: Any, texts: dict[str, str], words: list[str]) -> None:
    with refused(Code.INVALID, *words):
        call(kind, *inputs, **texts)


@pytest.mark.parametrize(
    ("kind", "inputs", "texts"),
    [
        ("matmul", (np.ones((1000, 1)), np.ones((1, 1000))), {}),
        ("conv2d", (PICTURE, WEIGHT), {"padding": "1000"}),
        ("conv2d", (PICTURE, np.ones((20_000, 2, 1, 1), np.float32)), {}),
        ("im2col", (np.ones((1, 1, 100, 100)),), {"kernel_size": "20"}),
        ("pool", (PICTURE,), {"function": "avg", "kernel_size": "4000", "padding": "2000"}),
        ("add", (np.ones((1000, 1)), np.ones((1, 1000))), {}),
        ("attention", (np.ones((1000, 1)),) * 3, {}),
        ("cosine_similarity", (np.ones((1000, 1)),) * 2, {}),
        ("embedding", (np.ones((1, 1000)), np.zeros(1000, np.int64)), {}),
        ("fft", (np.ones(100_000),), {}),
        ("top_k", (np.ones(200_000, np.uint8),), {"k": "1"}),
    ],
)
def test_what_would_be_too_large_is_not_made(kind: str, inputs: Any, texts: dict[str, str]) -> None:
    with refused(Code.EXHAUSTED, "at most 1048576 may be made (node.operations.room_bytes") as caught:
        call(kind, *inputs, **texts)
    assert not caught.value.retryable


def test_outputs_together_are_bounded() -> None:
    many = [operation("activation", np.ones(60_000), ident=str(i), function="relu") for i in range(3)]
    with refused(Code.EXHAUSTED, "together"):
        run(many, ROOM)


@pytest.mark.parametrize(
    ("made", "code", "words"),
    [
        (operation("winograd", X), Code.UNSUPPORTED, ["'winograd'", "attention", "rms_norm"]),
        (operation("matmul", X, X.T, device="cuda", backend="numpy"), Code.UNSUPPORTED, ["CPU"]),
        (operation("matmul", X, X.T, backend="cupy"), Code.UNSUPPORTED, ["CUDA"]),
        (operation("fft", X, backend="torch"), Code.UNSUPPORTED, ["fft", "torch", "numpy"]),
        (Operation("", "winograd", (tensor(X),), {}), Code.UNSUPPORTED, ["matmul", "custom"]),
    ],
)
def test_what_is_not_here_is_said(made: Operation, code: Code, words: list[str]) -> None:
    with refused(code, *words):
        run([made], ROOM)


# tensors


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"data": bytes(23)}, ["24 bytes", "23 were sent"]),
        ({"data": b""}, ["0 were sent"]),
        ({"shape": (2, -3)}, ["below 1"]),
        ({"shape": (2, 0)}, ["below 1"]),
        ({"shape": (1,) * 9}, ["9 dimensions"]),
        ({"shape": (2**62, 2**62)}, ["were sent"]),
        ({"dtype": "float16"}, ["float16", "float32"]),
    ],
)
def test_tensors_must_fit_their_bytes(wrong: dict[str, Any], words: list[str]) -> None:
    with refused(Code.INVALID, "input 0", *words):
        replace(tensor(X), **wrong).check("input 0")


def test_compressed_tensors() -> None:
    packed = replace(tensor(X), data=zlib.compress(tensor(X).data), compressed=True)
    assert np.array_equal(result("activation", packed, function="relu"), X)
    for data in (b"rubbish", packed.data[:-1], packed.data + b"x", zlib.compress(bytes(25)), zlib.compress(bytes(23))):
        with refused(Code.INVALID, "zlib"):
            result("activation", replace(packed, data=data), function="relu")


def test_infinities_are_values_like_others() -> None:
    got = result("matmul", np.array([[np.inf, 1.0]]), np.array([[1.0], [np.nan]]))
    assert np.isnan(got).all()
    assert result("activation", np.array([-np.inf, np.inf]), function="relu").tolist() == [0, np.inf]


# graphs


def dense(ident: str, source: Any, weight: np.ndarray) -> Operation:
    return operation("matmul", source, weight, ident=ident)


def test_a_graph_gives_what_nobody_reads() -> None:
    w = np.array([[1.0, -1.0], [0.5, 2.0], [0.0, 1.0]], np.float32)
    operations = [
        dense("h", X, w),
        operation("activation", Reference("h"), ident="a", function="relu"),
        operation("top_k", Reference("a"), ident="top", k="1"),
        operation("add", Reference("a"), Reference("a"), ident="twice"),
        operation("reshape", Reference("top", 1), ident="flat", shape="2"),
    ]
    computed = run(arrange(operations), ROOM)
    made = {each.source.key: array(each.tensor) for each in computed.outputs}
    assert set(made) == {"top", "twice", "flat"}
    hidden = np.maximum(X @ w, 0)
    assert np.array_equal(made["twice"], 2 * hidden)
    assert np.array_equal(made["top"], hidden.max(1, keepdims=True))
    assert made["flat"].tolist() == hidden.argmax(1).tolist()


def test_backends_hand_over_within_a_graph() -> None:
    one = operation("activation", X, ident="one", function="tanh", backend="torch")
    two = operation("softmax", Reference("one"), ident="two", backend="numpy")
    three = operation("matmul", Reference("two"), X.T, ident="three", backend="torch")
    (output,) = run([one, two, three], ROOM).outputs
    shares = np.exp(np.tanh(X)) / np.exp(np.tanh(X)).sum(1, keepdims=True)
    np.testing.assert_allclose(array(output.tensor), shares @ X.T, rtol=1e-6)


def test_an_error_in_a_graph_names_its_operation() -> None:
    with refused(Code.INVALID, "Operation 'second'", "no output number 1"):
        run([dense("first", X, X.T), dense("second", Reference("first", 1), X)], ROOM)
    with refused(Code.INVALID, "Operation 'second'", "2 columns meet 3 rows"):
        run([dense("first", X, X.T), dense("second", Reference("first"), X.T)], ROOM)


@given(st.permutations("abcdef"))
def test_an_order_is_found_for_any_sequence(sequence: list[str]) -> None:
    reads = {"a": "", "b": "a", "c": "a", "d": "bc", "e": "d", "f": ""}
    operations = [Operation(i, "add", tuple(map(Reference, reads[i])) or (tensor(X),), {}) for i in sequence]
    order = [each.id for each in arrange(operations)]
    assert sorted(order) == sorted(reads)
    assert all(order.index(read) < order.index(ident) for ident, each in reads.items() for read in each)


@pytest.mark.parametrize(
    ("reads", "order", "words"),
    [
        ({}, [], ["no operations"]),
        ({"": ""}, [], ["need ids"]),
        ({"a": "b", "b": "a"}, [], ["circle", "a"]),
        ({"a": "a"}, [], ["circle"]),
        ({"a": "", "b": "a"}, ["b", "a"], ["'b' reads 'a'", "before"]),
        ({"a": "", "b": "a"}, ["a"], ["once", "b"]),
        ({"a": "", "b": "a"}, ["a", "b", "z"], ["z"]),
        ({"a": "", "b": "a"}, ["a", "b", "b"], ["twice"]),
    ],
)
def test_orders_that_can_not_be(reads: dict[str, str], order: list[str], words: list[str]) -> None:
    operations = [Operation(ident, "add", tuple(map(Reference, each)), {}) for ident, each in reads.items()]
    with refused(Code.INVALID, *words):
        arrange(operations, order)


def test_ids_are_unique_and_references_found() -> None:
    with refused(Code.INVALID, "each its own"):
        arrange([dense("a", X, X), dense("a", X, X)])
    assert find_reference("a:1", ["a"]) == Reference("a", 1)
    assert find_reference("a:1", ["a", "a:1"]) == Reference("a:1")
    for name in ("b", "a:", "a:x", "a:-1", "a:²", "a:99999"):
        with refused(Code.INVALID, "no operation"):
            find_reference(name, ["a"])


# the owner's kernels


OWN = """
from cyxwiz.compute.kernels import Kernel, number

double = Kernel(lambda call: {"result": call.inputs[0] * call["by"]}, ("x",), parameters={"by": number(2.0)})
complexes = Kernel(lambda call: {"result": call.inputs[0] * 1j}, ("x",))
thing = 7
"""
POINTS = """[cyxwiz.kernels]
double = owners_kernels:double
complexes = owners_kernels:complexes
softmax = owners_kernels:double
thing = owners_kernels:thing
gone = owners_kernels:gone
"""


@pytest.fixture
def owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of the owner's, installed as packages are."""
    (tmp_path / "owners_kernels.py").write_text(OWN)
    info = tmp_path / "owners_kernels-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: owners-kernels\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, "owners_kernels", raising=False)


@pytest.mark.usefixtures("owners")
def test_kernels_of_the_owner() -> None:
    assert "double" in registry.names()
    assert np.array_equal(result("double", X, by="3"), 3 * X)
    assert np.allclose(result("softmax", X), 1 / 3)  # ours can't be replaced
    with refused(Code.INVALID, "by", "finite"):
        result("double", X, by="nan")
    for name, words in (("thing", ["no cyxwiz.compute.kernels.Kernel"]), ("gone", ["can't be loaded"])):
        with refused(Code.UNSUPPORTED, f"'{name}'", *words):
            result(name, X)
    with refused(Code.INTERNAL, "complexes", "complex64"):
        result("complexes", X)


# frames


def test_frames_carry_operations_and_outputs_in_any_pieces() -> None:
    packed = replace(tensor(X, "x"), data=zlib.compress(tensor(X).data), compressed=True)
    sent = [operation("matmul", packed, NUMBERS, ident="ä", transpose_a="true"), dense("b", Reference("ä", 1), X)]
    stream = b"".join(frames.encode_run(sent)) * 2
    decoder = frames.Decoder(1000)
    got = [frame for start in range(0, len(stream), 7) for frame in decoder.feed(stream[start : start + 7])]
    assert [frames.decode_run(frame) for frame in got] == [sent, sent]

    computed = Computed((Output(Reference("b", 1), tensor(NUMBERS, "x")), Output(Reference("ä"), tensor(X))), 0.5)
    (answer,) = frames.Decoder(1000).feed(b"".join(frames.encode_done(computed)))
    assert frames.decode_answer(answer) == computed
    (failure,) = frames.Decoder(0).feed(b"".join(frames.encode_failed(CyxError(Code.TIMEOUT, "slow"))))
    with refused(Code.TIMEOUT, "slow") as caught:
        frames.decode_answer(failure)
    assert caught.value.retryable


GOOD = {"name": "", "shape": [2], "dtype": "uint8", "operation": "a", "output": 0}


@pytest.mark.parametrize(
    ("kind", "fields", "body"),
    [
        ("done", {}, b""),
        ("done", {"outputs": [GOOD], "seconds": 0}, b"x"),
        ("done", {"outputs": [GOOD], "seconds": 0}, b"xyz"),
        ("done", {"outputs": [GOOD | {"shape": [-2]}], "seconds": 0}, b"xy"),
        ("done", {"outputs": [GOOD | {"shape": ["2"]}], "seconds": 0}, b"xy"),
        ("done", {"outputs": [GOOD | {"dtype": "float16"}], "seconds": 0}, b"xy"),
        ("done", {"outputs": [GOOD | {"name": 1}], "seconds": 0}, b"xy"),
        ("done", {"outputs": 7, "seconds": 0}, b""),
        ("done", {"outputs": [], "seconds": "never"}, b""),
        ("failed", {"code": "STRANGE", "message": "", "retryable": True}, b""),
        ("failed", {"code": "INVALID", "message": 1, "retryable": True}, b""),
        ("warm", {}, b""),
    ],
)
def test_answers_of_a_child_are_checked(kind: str, fields: dict[str, Any], body: bytes) -> None:
    (frame,) = frames.Decoder(100).feed(b"".join(frames.encode(kind, fields, [body])))
    with pytest.raises(ProtocolError):
        frames.decode_answer(frame)


@pytest.mark.parametrize("head", [b"{", b"[]", b'{"v":2,"type":"done"}', b'{"v":1}', b"\xff"])
def test_what_is_no_frame(head: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(frames.Decoder(100).feed(frames._LENGTHS.pack(len(head), 0) + head))


@pytest.mark.parametrize("lengths", [(frames.MAX_HEAD + 1, 0), (1, 101)])
def test_frames_are_bounded_before_they_are_read(lengths: tuple[int, int]) -> None:
    with pytest.raises(ProtocolError, match="at most"):
        list(frames.Decoder(100).feed(frames._LENGTHS.pack(*lengths)))


def test_the_guide_names_every_kernel_and_parameter() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "guides" / "compute.md").read_text()
    words = set(re.findall(r"[a-z][a-z0-9_]+", guide))
    for name, kernel in {**registry.OPERATIONS, **registry.SHIPPED}.items():
        lone = f"OP_{name.upper()}" if name in registry.OPERATIONS else name
        assert lone in guide, name
        assert set(kernel.parameters or {}) <= words | {"k"}, name
    for own in steps._OF.values():
        assert set(own) <= words
    for functions in (elementwise.FUNCTIONS, losses.FUNCTIONS, steps.STATES):
        assert set(functions) <= words
