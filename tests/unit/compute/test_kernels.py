"""The kernels against plain references: loops and formulas written a second time, and the other backend."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyxwiz.compute.kernels import steps, with_torch
from cyxwiz.compute.kernels.backends import cupy_works
from cyxwiz.compute.kernels.elementwise import FUNCTIONS as ACTIVATIONS
from cyxwiz.compute.kernels.losses import FUNCTIONS as LOSSES
from cyxwiz.domain.errors import CyxError
from tests.kernel_calls import array, call, operation, result
from tests.missing import missing
from tests.soak import examples

FLOATS = st.sampled_from(["float32", "float64"])
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}
FEW = settings(max_examples=examples(25))


def drawn(seed: int, shape: Sequence[int], dtype: str = "float64", scale: float = 2.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal(tuple(shape))).astype(dtype)


def same(got: np.ndarray, wanted: Any, dtype: str = "float64", *, exact: bool = False) -> None:
    wanted = np.asarray(wanted)
    assert got.shape == wanted.shape
    assert got.dtype.name == dtype
    if exact:
        assert np.array_equal(got, wanted)
    else:
        scale = max(1.0, float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0)))
        np.testing.assert_allclose(got, wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * scale)


# products


@FEW
@given(
    st.lists(st.integers(1, 3), max_size=2), st.tuples(*[st.integers(1, 6)] * 3), st.booleans(), st.booleans(),
    st.booleans(), st.sampled_from(["float32", "float64", "int32", "int64"]), st.integers(0, 99),
)  # fmt: skip
def test_matrix_products(batch: list[int], sizes: Any, turn_a: bool, turn_b: bool, biased: bool, dtype: str, seed: int):
    m, k, n = sizes
    a, b, bias = drawn(seed, [*batch, m, k], dtype), drawn(seed + 1, [*batch[:1], k, n], dtype), drawn(seed, [n], dtype)
    if len(batch) == 2:
        b = b.reshape(batch[0], 1, k, n)
    wanted = (a[..., :, :, None] * b[..., None, :, :]).sum(-2) + (bias if biased else 0)
    sent = (a.swapaxes(-1, -2) if turn_a else a, b.swapaxes(-1, -2) if turn_b else b, *([bias] if biased else []))
    flags = {"transpose_a": str(turn_a).lower(), "transpose_b": str(turn_b).lower()}
    for backend in ("numpy", "torch"):
        got = result("matmul", *sent, **flags, backend=backend)
        same(got, wanted, dtype, exact=dtype.startswith("int"))


@pytest.mark.parametrize(("a", "b", "made"), [((3,), (3,), ()), ((3,), (3, 2), (2,)), ((4, 3), (3,), (4,))])
def test_products_of_vectors(a: tuple[int, ...], b: tuple[int, ...], made: tuple[int, ...]) -> None:
    got = result("matmul", drawn(0, a), drawn(1, b))
    assert got.shape == made
    same(got, np.dot(drawn(0, a), drawn(1, b)))


# what slides


def padding_of(padding: str, size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Any) -> Any:
    if padding == "valid":
        return [(0, 0), (0, 0)]
    if padding != "same":
        rows, _, columns = padding.partition(",")
        return [(int(rows),) * 2, (int(columns or rows),) * 2]
    pads = []
    for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        total = max((math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n, 0)
        pads.append((total // 2, total - total // 2))
    return pads


def windows(x: np.ndarray, kernel: Any, stride: Any, dilation: Any, pads: Any, fill: float = 0.0) -> np.ndarray:
    """(N, C, OH, OW, KH, KW), element by element."""
    x = np.pad(x, [(0, 0), (0, 0), *pads], constant_values=fill)
    out = [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)]
    seen = np.empty((*x.shape[:2], *out, *kernel), x.dtype)
    for i, j, u, v in itertools.product(*map(range, (*out, *kernel))):
        seen[:, :, i, j, u, v] = x[:, :, i * stride[0] + u * dilation[0], j * stride[1] + v * dilation[1]]
    return seen


def laid(x: np.ndarray, layout: str) -> np.ndarray:
    return x if layout == "NCHW" else x.transpose(0, 2, 3, 1)


PAIR = st.tuples(st.integers(1, 3), st.integers(1, 3))
PADDING = st.sampled_from(["0", "1", "0,2", "same", "valid"])
LAYOUT = st.sampled_from(["NCHW", "NHWC"])


@settings(max_examples=examples(40))
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(7, 9), st.integers(7, 9)), st.integers(1, 2), PAIR,
    PAIR, PAIR, PADDING, st.integers(1, 2), LAYOUT, st.booleans(), FLOATS, st.integers(0, 99),
)  # fmt: skip
def test_convolutions(
    shape: Any, filters: int, kernel: Any, stride: Any, dilation: Any, padding: str, groups: int, layout: str,
    biased: bool, dtype: str, seed: int,
) -> None:  # fmt: skip
    count, channels, *size = shape
    x = drawn(seed, (count, channels * groups, *size), dtype)
    weight, bias = drawn(seed + 1, (filters * groups, channels, *kernel), dtype), drawn(seed, [filters * groups], dtype)
    pads = padding_of(padding, size, kernel, stride, dilation)
    seen = windows(x, kernel, stride, dilation, pads)
    parts = [
        np.einsum("nchwuv,ocuv->nohw", part, each)
        for part, each in zip(np.split(seen, groups, 1), np.split(weight, groups), strict=True)
    ]
    wanted = np.concatenate(parts, 1) + (bias.reshape(1, -1, 1, 1) if biased else 0)
    texts = {"stride": f"{stride[0]},{stride[1]}", "dilation": f"[{dilation[0]}, {dilation[1]}]", "padding": padding}
    sent = (laid(x, layout), weight, *([bias] if biased else []))
    for backend in ("numpy", "torch"):
        got = result("conv2d", *sent, **texts, groups=str(groups), layout=layout, backend=backend)
        same(got, laid(wanted, layout), dtype)
    columns = result("im2col", laid(x, layout), kernel_size=f"{kernel[0]},{kernel[1]}", layout=layout, **texts)
    same(columns, seen.transpose(0, 1, 4, 5, 2, 3).reshape(columns.shape), dtype, exact=True)


def test_a_convolution_in_parts_is_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = drawn(1, (5, 2, 6, 6)), drawn(2, (3, 2, 3, 3))
    whole = result("conv2d", x, weight)
    monkeypatch.setattr("cyxwiz.compute.kernels.windows._COLUMN_BYTES", 5000)
    same(result("conv2d", x, weight), whole)


@FEW
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(3, 8), st.integers(3, 8)),
    st.sampled_from(["max", "avg"]), PAIR, st.one_of(st.none(), PAIR), st.sampled_from(["0", "1", "valid"]),
    st.booleans(), LAYOUT, FLOATS, st.integers(0, 99),
)  # fmt: skip
def test_pools(
    shape: Any, function: str, kernel: Any, stride: Any, padding: str, counted: bool, layout: str, dtype: str, seed: int
) -> None:
    if padding == "1" and min(kernel) < 2:
        padding = "0"
    x, step = drawn(seed, shape, dtype), stride or kernel
    pads = padding_of(padding, shape[2:], kernel, step, (1, 1))
    fill = -math.inf if function == "max" else 0.0
    seen = windows(x, kernel, step, (1, 1), pads, fill)
    if function == "max":
        wanted = seen.max((-1, -2))
    else:
        there = windows(np.ones_like(x), kernel, step, (1, 1), pads).sum((-1, -2))
        wanted = seen.sum((-1, -2)) / (math.prod(kernel) if counted else there)
    texts = {"kernel_size": f"{kernel[0]},{kernel[1]}", "padding": padding, "count_include_pad": str(counted).lower()}
    if stride:
        texts["stride"] = f"{stride[0]},{stride[1]}"
    for backend in ("numpy", "torch"):
        got = result("pool", laid(x, layout), function=function, layout=layout, backend=backend, **texts)
        same(got, laid(wanted, layout), dtype)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_mean_over_an_edge_counts_the_padding_or_not(backend: str) -> None:
    texts = {"function": "avg", "kernel_size": "3", "padding": "1", "stride": "1", "backend": backend}
    alone = result("pool", np.ones((1, 1, 2, 4)), count_include_pad="false", **texts)
    same(alone, np.ones((1, 1, 2, 4)))
    counted = result("pool", np.ones((1, 1, 2, 4)), **texts)
    same(counted, np.array([[[[4, 6, 6, 4], [4, 6, 6, 4]]]]) / 9)


def test_a_pool_over_all() -> None:
    x = drawn(3, (2, 3, 4, 5))
    same(result("pool", x, function="avg", kernel_size="global"), x.mean((2, 3), keepdims=True))


# element by element


def over(function: Callable[[float], float]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.vectorize(function, otypes=[float])(x.astype(float))


def soft(x: np.ndarray) -> np.ndarray:
    return np.exp(x.astype(float)) / np.exp(x.astype(float)).sum(-1, keepdims=True)


PLAIN: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": over(lambda x: max(x, 0)),
    "leaky_relu": over(lambda x: x if x > 0 else 0.2 * x),
    "elu": over(lambda x: x if x > 0 else 0.7 * (math.exp(x) - 1)),
    "selu": over(lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * (math.exp(x) - 1))),
    "gelu": over(lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2),
    "silu": over(lambda x: x / (1 + math.exp(-x))),
    "mish": over(lambda x: x * math.tanh(math.log(1 + math.exp(x)))),
    "sigmoid": over(lambda x: 1 / (1 + math.exp(-x))),
    "softplus": over(lambda x: math.log(1 + math.exp(x))),
    "tanh": over(math.tanh),
    "softmax": soft,
    "log_softmax": lambda x: np.log(soft(x)),
}
TEXTS = {"leaky_relu": {"negative_slope": "0.2"}, "elu": {"alpha": "0.7"}}


@pytest.mark.parametrize("function", ACTIVATIONS)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), FLOATS, st.integers(0, 99))
@settings(max_examples=examples(8))
def test_activations(function: str, shape: list[int], dtype: str, seed: int) -> None:
    x = drawn(seed, shape, dtype, 4.0)
    for backend in ("numpy", "torch"):
        got = result("activation", x, function=function, backend=backend, **TEXTS.get(function, {}))
        np.testing.assert_allclose(got, PLAIN[function](x), rtol=1e-5 if dtype == "float32" else 1e-9, atol=1e-6)
        assert got.dtype == x.dtype


@pytest.mark.parametrize("function", ACTIVATIONS)
def test_activations_far_out_agree_with_torch(function: str) -> None:
    far = [[-1e4, -100.0, -7.0, -1e-8, 0.0, 1e-8, 7.0, 100.0, 1e4]]
    for dtype in ("float32", "float64"):
        x = np.array(far, dtype)
        one, two = (result("activation", x, function=function, backend=each) for each in ("numpy", "torch"))
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-7)


def test_nan_stays_nan_and_axes_count() -> None:
    for function in ACTIVATIONS:
        assert np.isnan(result("activation", np.array([[np.nan]]), function=function)).all(), function
    x = drawn(0, (3, 4, 5))
    same(result("activation", x, function="softmax", axis="1"), soft(x.swapaxes(1, 2)).swapaxes(1, 2))
    same(result("softmax", x, axis="0"), soft(x.T).T)
    tanh = result("activation", x, function="gelu", approximate="tanh")
    assert 1e-6 < np.abs(tanh - PLAIN["gelu"](x)).max() < 2e-3


# losses


LOSS_CASES = [name for name in LOSSES if name not in ("cross_entropy", "nll", "cosine_embedding")]


def loss_of(function: str, p: float, t: float) -> float:
    gap = abs(p - t)
    match function:
        case "mse":
            return gap**2
        case "l1":
            return gap
        case "smooth_l1":
            return gap**2 / 2 / 0.5 if gap < 0.5 else gap - 0.25
        case "huber":
            return gap**2 / 2 if gap <= 1.5 else 1.5 * (gap - 0.75)
        case "bce":
            return -(t * math.log(p) + (1 - t) * math.log(1 - p))
        case "bce_with_logits":
            chance = 1 / (1 + math.exp(-p))
            return -(t * math.log(chance) + (1 - t) * math.log(1 - chance))
        case "kl_div":
            return t * (math.log(t) - p) if t else 0.0
        case _:
            return max(0.0, 1 - p * t)


@pytest.mark.parametrize("function", LOSS_CASES)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), FLOATS, st.integers(0, 99))
@settings(max_examples=examples(8))
def test_losses(function: str, shape: list[int], dtype: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    p, t = (random.uniform(0.05, 0.95, shape).astype(dtype) for _ in range(2))
    if function in ("mse", "l1", "smooth_l1", "huber"):
        p = p * 5
    if function == "kl_div":
        p, t = np.log(p), np.where(t > 0.5, t, 0).astype(dtype)
    each = np.vectorize(lambda a, b: loss_of(function, float(a), float(b)), otypes=[float])(p, t)
    for backend in ("numpy", "torch"):
        texts = {"function": function, "beta": "0.5", "delta": "1.5", "backend": backend}
        same(result("loss", p, t, **texts, reduction="none"), each, dtype)
        same(result("loss", p, t, **texts), each.mean(), dtype)
        same(result("loss", p, t, **texts, reduction="sum"), each.sum(), dtype)
        same(result("loss", p, t, **texts, reduction="batchmean"), each.sum() / shape[0], dtype)


@FEW
@given(st.lists(st.integers(1, 3), max_size=2), st.integers(1, 5), FLOATS, st.sampled_from(["int32", "int64", "uint8"]))
def test_losses_of_classes(rest: list[int], classes: int, dtype: str, kind: str) -> None:
    logits = drawn(classes, (4, classes, *rest), dtype)
    labels = np.random.default_rng(7).integers(0, classes, (4, *rest)).astype(kind)
    logs = np.log(soft(np.moveaxis(logits, 1, -1)))
    wanted = -sum(float(logs[place][labels[place]]) for place in np.ndindex(labels.shape)) / labels.size
    plain = np.moveaxis(logs, -1, 1).astype(dtype)
    shares = np.moveaxis(np.eye(classes)[labels], -1, 1).astype(dtype)
    for backend in ("numpy", "torch"):
        same(result("loss", logits, labels, function="cross_entropy", backend=backend), wanted, dtype)
        same(result("loss", plain, labels, function="nll", backend=backend), wanted, dtype)
        same(result("loss", logits, shares, function="cross_entropy", backend=backend), wanted, dtype)


def test_the_loss_of_directions() -> None:
    a, b, t = drawn(0, (6, 3)), drawn(1, (6, 3)), np.array([1.0, -1, 1, -1, -1, 1])
    cosine = np.array([x @ y / math.sqrt((x @ x) * (y @ y)) for x, y in zip(a, b, strict=True)])
    wanted = np.where(t > 0, 1 - cosine, np.maximum(0, cosine - 0.1))
    for backend in ("numpy", "torch"):
        texts = {"function": "cosine_embedding", "margin": "0.1", "reduction": "none", "backend": backend}
        same(result("loss", a, t, b, **texts), wanted)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_the_edges_of_losses(backend: str) -> None:
    sure = np.array([0.0, 1.0, 0.0, 1.0])
    bce = result("loss", sure, sure[::-1].copy(), function="bce", reduction="none", backend=backend)
    assert bce.tolist() == [100.0] * 4
    no_chance = result("loss", sure - 2, sure, function="bce", reduction="none", backend=backend)
    assert np.isnan(no_chance[0]), "a logarithm of what is no probability"
    with pytest.raises(CyxError, match="outside of 0 to 2"):
        result("loss", np.zeros((1, 3)), np.array([3]), function="nll", backend=backend)


# optimizers


OPTIMIZERS: list[tuple[str, dict[str, str], str, dict[str, Any]]] = [
    ("sgd", {"lr": "0.1"}, "SGD", {"lr": 0.1}),
    ("sgd", {"lr": "0.1", "momentum": "0.9", "weight_decay": "0.01", "nesterov": "true"}, "SGD",
     {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}),
    ("adam", {"lr": "0.05", "weight_decay": "0.1"}, "Adam", {"lr": 0.05, "weight_decay": 0.1}),
    ("adamw", {"lr": "0.05", "beta1": "0.8", "beta2": "0.9"}, "AdamW", {"lr": 0.05, "betas": (0.8, 0.9)}),
    ("rmsprop", {"lr": "0.01", "alpha": "0.9"}, "RMSprop", {"lr": 0.01, "alpha": 0.9}),
    ("adagrad", {"lr": "0.1", "weight_decay": "0.1"}, "Adagrad", {"lr": 0.1, "weight_decay": 0.1}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "texts", "torch_name", "options"), OPTIMIZERS)
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_steps_of_optimizers(name: str, texts: Any, torch_name: str, options: Any, backend: str) -> None:
    import torch

    weight = drawn(1, (3, 4))
    parameter = torch.nn.Parameter(torch.from_numpy(weight.copy()))
    optimizer = getattr(torch.optim, torch_name)([parameter], **options)
    state: list[np.ndarray] = []
    for step in range(1, 6):
        gradient = drawn(step + 10, weight.shape)
        parameter.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
        counted = {"step": str(step)} if "step" in steps._OF[name] else {}
        made = call("optimizer_step", weight, gradient, *state, optimizer=name, backend=backend, **texts, **counted)
        assert list(made) == ["weight", *steps.STATES[name]]
        weight, *state = made.values()
        same(weight, parameter.detach().numpy())


# by name


def test_norms() -> None:
    x, weight, bias = drawn(0, (3, 4, 5)), drawn(1, (4, 5)), drawn(2, (4, 5))
    low = x - x.mean((1, 2), keepdims=True)
    wanted = low / np.sqrt(low.var((1, 2), keepdims=True) + 1e-3) * weight + bias
    for backend in ("numpy", "torch"):
        same(result("layer_norm", x, weight, bias, eps="1e-3", backend=backend), wanted)
        last = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        same(result("layer_norm", x, backend=backend), last)
    rms = np.sqrt((x**2).mean((1, 2), keepdims=True) + 1e-5)
    same(result("rms_norm", x, weight), x / rms * weight)


@FEW
@given(
    st.lists(st.integers(1, 2), max_size=2), st.tuples(*[st.integers(1, 4)] * 4), st.booleans(), st.booleans(), FLOATS
)
def test_attention(batch: list[int], sizes: Any, causal: bool, masked: bool, dtype: str) -> None:
    rows, columns, inner, width = sizes
    q, k, v = (drawn(i, (*batch, *s), dtype) for i, s in enumerate([(rows, inner), (columns, inner), (columns, width)]))
    mask = drawn(9, (rows, columns), dtype)
    wanted = np.empty((*batch, rows, width))
    for place in np.ndindex(*batch):
        for row in range(rows):
            seen = [c for c in range(columns) if not causal or c <= row]
            scores = [q[place][row] @ k[place][c] * 0.3 + (mask[row, c] if masked else 0) for c in seen]
            shares = soft(np.array(scores))
            wanted[place][row] = sum(share * v[place][c] for share, c in zip(shares, seen, strict=True))
    texts = {"scale": "0.3", "causal": str(causal).lower()}
    for backend in ("numpy", "torch"):
        same(result("attention", q, k, v, *([mask] if masked else []), backend=backend, **texts), wanted, dtype)


@FEW
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.sampled_from(["float32", "int64", "uint8"]), st.data())
def test_the_largest(shape: list[int], dtype: str, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    k = data.draw(st.integers(1, shape[axis]))
    x = np.random.default_rng(len(shape)).integers(0, 4, shape).astype(dtype)  # many are equal
    made = call("top_k", x, k=str(k), axis=str(axis))
    lines, values, places = (np.moveaxis(each, axis, -1) for each in (x, made["values"], made["indices"]))
    for place in np.ndindex(lines.shape[:-1]):
        order = sorted(range(lines.shape[-1]), key=lambda i: (-int(lines[place][i]), i))[:k]
        assert list(places[place]) == order
        assert list(values[place]) == [lines[place][i] for i in order]
    assert made["values"].dtype == x.dtype
    assert made["indices"].dtype == np.int64


def test_likeness_of_rows() -> None:
    a, b = drawn(0, (3, 5)), drawn(1, (4, 5))
    wanted = [[x @ y / math.sqrt((x @ x) * (y @ y)) for y in b] for x in a]
    same(result("cosine_similarity", a, b), wanted)
    assert np.array_equal(result("cosine_similarity", a * 0, b), np.zeros((3, 4)))


@FEW
@given(st.integers(1, 8), st.integers(1, 3), FLOATS, st.booleans())
def test_fourier(length: int, rows: int, dtype: str, turned: bool) -> None:
    x = drawn(length, (rows, length), dtype)
    n = np.arange(length)
    matrix = np.exp(-2j * np.pi * np.outer(n, n) / length)
    made = call("fft", x.T if turned else x, axis="0" if turned else "-1")
    wanted = (matrix @ x.T) if turned else (x @ matrix)
    same(made["real"], wanted.real, dtype)
    same(made["imaginary"], wanted.imag, dtype)
    back = call("fft", made["real"], made["imaginary"], axis="0" if turned else "-1", inverse="true")
    same(back["real"], x.T if turned else x, dtype)
    same(back["imaginary"], np.zeros_like(back["imaginary"]), dtype)


def test_what_joins_others() -> None:
    x, y = drawn(0, (2, 3, 4)), drawn(1, (3, 1))
    same(result("add", x, y), x + y)
    same(result("multiply", x, y), x * y)
    same(result("reshape", x, shape="4,-1"), x.reshape(4, 6), exact=True)
    same(result("transpose", x), x.T, exact=True)
    same(result("transpose", x, axes="[2, 0, 1]"), x.transpose(2, 0, 1), exact=True)
    same(result("concat", x, x[:, :1], x, axis="1"), np.concatenate([x, x[:, :1], x], 1), exact=True)
    rows = np.array([[1, 0], [1, 1]], np.int32)
    same(result("embedding", x[0], rows), x[0][rows], exact=True)


# backends


def test_each_torch_kernel_is_one_of_the_nodes() -> None:
    from cyxwiz.compute.kernels.registry import OPERATIONS, SHIPPED

    assert set(with_torch.RUNS) <= {*OPERATIONS, *SHIPPED}
    assert set(with_torch._ACTIVATIONS) == set(ACTIVATIONS)
    assert set(with_torch.LOSSES) == set(LOSSES)
    assert all(kernel.torch or name in with_torch.RUNS for name, kernel in OPERATIONS.items())


def test_cupy_agrees_with_numpy() -> None:
    """Every kernel that has no other way of being wrong on a GPU than its library."""
    if not cupy_works():
        missing("CuPy: it needs a GPU of NVIDIA's and cupy-cuda12x")
    from cyxwiz.compute.kernels.run import run

    x, weight = drawn(0, (2, 3, 8, 8), "float32"), drawn(1, (4, 3, 3, 3), "float32")
    rows = drawn(2, (6, 5), "float32")
    cases: list[tuple[str, tuple[Any, ...], dict[str, str]]] = [
        ("matmul", (rows, rows), {"transpose_b": "true"}),
        ("conv2d", (x, weight), {"padding": "same", "stride": "2"}),
        ("pool", (x,), {"function": "max", "kernel_size": "2", "padding": "1"}),
        ("pool", (x,), {"function": "avg", "kernel_size": "3", "padding": "1", "count_include_pad": "false"}),
        *[("activation", (rows,), {"function": name}) for name in ACTIVATIONS],
        *[("loss", (abs(rows) / 9, abs(rows) / 8), {"function": name}) for name in LOSS_CASES],
        ("loss", (rows, np.array([0, 1, 2, 3, 4, 0])), {"function": "cross_entropy"}),
        ("optimizer_step", (rows, rows), {"optimizer": "adam", "lr": "0.1"}),
        ("layer_norm", (rows,), {}), ("rms_norm", (rows,), {}), ("top_k", (rows,), {"k": "2"}), ("fft", (rows,), {}),
        ("attention", (rows, rows, rows), {"causal": "true"}), ("cosine_similarity", (rows, rows), {}),
        ("im2col", (x,), {"kernel_size": "3"}), ("concat", (rows, rows), {}), ("transpose", (rows,), {}),
    ]  # fmt: skip
    for kind, inputs, texts in cases:
        here, there = (
            run([operation(kind, *inputs, device=device, backend=backend, **texts)], 1 << 20)
            for device, backend in (("cpu", "numpy"), ("cuda", "cupy"))
        )
        for one, two in zip(here.outputs, there.outputs, strict=True):
            np.testing.assert_allclose(array(one.tensor), array(two.tensor), rtol=1e-4, atol=1e-5)
