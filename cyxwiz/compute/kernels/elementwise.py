"""Activations, and the functions that they and the losses share."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

from cyxwiz.compute.kernels.kernel import Call, Kernel, Outputs, choice, number, whole

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. 2017
_ERF_END = 6.0  # from there on erf is 1 in float64


@cache
def _erf_series() -> tuple[float, ...]:
    """Coefficients of the Chebyshev series of erf from 0 to `_ERF_END`, to the precision of float64."""
    from numpy.polynomial import chebyshev

    def erf(places: Any) -> Any:
        return [math.erf((place + 1) * _ERF_END / 2) for place in places]

    return tuple(map(float, chebyshev.chebinterpolate(erf, 50)))


def erf(xp: Any, x: Any) -> Any:
    """The error function, by Clenshaw's recurrence over its Chebyshev series; NaN stays NaN."""
    place = xp.clip(xp.abs(x), 0, _ERF_END) * (2 / _ERF_END) - 1
    ahead = later = xp.zeros_like(x)
    first, *rest = _erf_series()
    for coefficient in reversed(rest):
        ahead, later = coefficient + 2 * place * ahead - later, ahead
    return xp.sign(x) * (first + place * ahead - later)


def sigmoid(xp: Any, x: Any) -> Any:
    """1 / (1 + exp(-x)), without overflow on either side."""
    small = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1 / (1 + small), small / (1 + small))


def softplus(xp: Any, x: Any) -> Any:
    """log(1 + exp(x)), without overflow."""
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


def softmax(xp: Any, x: Any, axis: int) -> Any:
    """exp(x) over its sum along an axis."""
    raised = xp.exp(x - x.max(axis, keepdims=True))
    return raised / raised.sum(axis, keepdims=True)


def log_softmax(xp: Any, x: Any, axis: int) -> Any:
    """The logarithm of softmax."""
    low = x - x.max(axis, keepdims=True)
    return low - xp.log(xp.exp(low).sum(axis, keepdims=True))


def _gelu(call: Call, x: Any) -> Any:
    xp = call.xp
    if call["approximate"] == "tanh":
        return x * (1 + xp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
    return x * (1 + erf(xp, x / math.sqrt(2))) / 2


def _elu(xp: Any, x: Any, alpha: float) -> Any:
    return xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, 0)))


_Function = Callable[[Call, Any], Any]
FUNCTIONS: dict[str, _Function] = {
    "relu": lambda call, x: call.xp.maximum(x, 0),
    "leaky_relu": lambda call, x: call.xp.where(x > 0, x, call["negative_slope"] * x),
    "elu": lambda call, x: _elu(call.xp, x, call["alpha"]),
    "selu": lambda call, x: _SELU_SCALE * _elu(call.xp, x, _SELU_ALPHA),
    "gelu": _gelu,
    "silu": lambda call, x: x * sigmoid(call.xp, x),
    "mish": lambda call, x: x * call.xp.tanh(softplus(call.xp, x)),
    "sigmoid": lambda call, x: sigmoid(call.xp, x),
    "softplus": lambda call, x: softplus(call.xp, x),
    "tanh": lambda call, x: call.xp.tanh(x),
    "softmax": lambda call, x: softmax(call.xp, x, call["axis"]),
    "log_softmax": lambda call, x: log_softmax(call.xp, x, call["axis"]),
}
_ALONG_AXIS = ("softmax", "log_softmax")


def _check(call: Call) -> None:
    if call["function"] in _ALONG_AXIS:
        call.axis(call["axis"], len(call.shapes[0]))
    call.fits(call.shapes[0], call.dtypes[0])


def _run(call: Call) -> Outputs:
    return {"result": FUNCTIONS[call["function"]](call, call.inputs[0])}


AXIS = whole(-1, at_least=-8, at_most=7)

KERNELS = {
    "activation": Kernel(
        _run,
        ("x",),
        _check,
        parameters={
            "function": choice(*FUNCTIONS),
            "negative_slope": number(0.01),
            "alpha": number(1.0),
            "approximate": choice("none", "tanh", default="none"),
            "axis": AXIS,
        },
    )
}
