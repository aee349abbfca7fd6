"""Losses of predictions against targets.

Predictions are (N, …) and targets of the same shape, but for `cross_entropy` and `nll`: there predictions are
(N, classes) or (N, classes, …), and targets are class numbers (N, …) of a whole-number type, or for cross_entropy also
shares of classes in the predictions' shape. `cosine_embedding` compares rows (N, D) by targets (N,) of 1 and -1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from cyxwiz.compute.kernels.elementwise import log_softmax, softplus
from cyxwiz.compute.kernels.kernel import ALL, FLOATS, Call, Kernel, Outputs, choice, number
from cyxwiz.domain.errors import invalid

_CLASS_LOSSES = ("cross_entropy", "nll")
_LOG_FLOOR = -100.0  # of a logarithm of a probability, as PyTorch's binary cross-entropy has it


def _smooth(call: Call, p: Any, t: Any) -> Any:
    gap, beta = call.xp.abs(p - t), call["beta"]
    return call.xp.where(gap < beta, gap * gap / (2 * beta), gap - beta / 2)


def _huber(call: Call, p: Any, t: Any) -> Any:
    gap, delta = call.xp.abs(p - t), call["delta"]
    return call.xp.where(gap <= delta, gap * gap / 2, delta * (gap - delta / 2))


def bce(call: Call, p: Any, t: Any) -> Any:
    xp = call.xp
    yes, no = xp.log(p).clip(_LOG_FLOOR), xp.log1p(-p).clip(_LOG_FLOOR)
    return -(t * yes + (1 - t) * no)


def _kl(call: Call, p: Any, t: Any) -> Any:
    """Of log-probabilities against probabilities; 0 log 0 is 0."""
    xp = call.xp
    return xp.where(t > 0, t * (xp.log(xp.where(t > 0, t, 1)) - p), 0)


def _cosine(call: Call, p: Any, t: Any) -> Any:
    xp, other = call.xp, call.inputs[2]
    norms = xp.sqrt((p * p).sum(-1) * (other * other).sum(-1))
    cosine = (p * other).sum(-1) / xp.maximum(norms, 1e-12)
    return xp.where(t > 0, 1 - cosine, xp.maximum(cosine - call["margin"], 0))


_Loss = Callable[[Call, Any, Any], Any]
FUNCTIONS: dict[str, _Loss] = {
    "mse": lambda call, p, t: (p - t) ** 2,
    "l1": lambda call, p, t: call.xp.abs(p - t),
    "smooth_l1": _smooth,
    "huber": _huber,
    "bce": bce,
    "bce_with_logits": lambda call, p, t: softplus(call.xp, p) - t * p,
    "kl_div": _kl,
    "hinge": lambda call, p, t: call.xp.maximum(1 - p * t, 0),
    "cross_entropy": lambda call, p, t: _of_classes(call, log_softmax(call.xp, p, 1), t),
    "nll": lambda call, p, t: _of_classes(call, p, t),
    "cosine_embedding": _cosine,
}


def _of_classes(call: Call, logs: Any, t: Any) -> Any:
    xp = call.xp
    if call.dtypes[1] in FLOATS:
        return -(t * logs).sum(1)
    check_classes(t, logs.shape[1])
    return -xp.take_along_axis(logs, xp.expand_dims(t.astype("int64"), 1), 1).squeeze(1)


def check_classes(t: Any, classes: int) -> None:
    """Raises INVALID for class numbers, of any library's, that are none."""
    if bool(((t < 0) | (t >= classes)).any()):
        raise invalid(f"target has class numbers outside of 0 to {classes - 1}.")


def _check(call: Call) -> None:
    function, (p, t, *rest) = call["function"], call.shapes
    kind = call.dtypes[1]
    call.need(call.dtypes[0] in FLOATS, f"prediction is of type {call.dtypes[0]}; taken are {', '.join(FLOATS)}.")
    call.need(bool(rest) == (function == "cosine_embedding"), "a third input goes with cosine_embedding alone.")
    by_class = function in _CLASS_LOSSES and kind not in FLOATS
    call.need(by_class or kind == call.dtypes[0], f"target of type {kind} does not go with {function}.")
    call.need(function != "nll" or by_class, "the targets of nll are class numbers: send int64.")
    if function == "cosine_embedding":
        same = len(p) == 2 and rest[0] == p and call.dtypes[2] == call.dtypes[0]
        call.need(same, "cosine_embedding takes two inputs (N, D) of one shape and type.")
        expected = p[:1]
    elif by_class:
        call.need(len(p) > 1, f"{function} takes predictions (N, classes, …), not of shape {list(p)}.")
        expected = (p[0], *p[2:])
    else:
        call.need(function != "cross_entropy" or len(p) > 1, "cross_entropy takes predictions (N, classes, …).")
        expected = p
    call.need(t == expected, f"target must be of shape {list(expected)}, not {list(t)}.")
    call.fits(p, call.dtypes[0], "An array")


def _run(call: Call) -> Outputs:
    return reduced(call, FUNCTIONS[call["function"]](call, call.inputs[0], call.inputs[1]))


def reduced(call: Call, each: Any) -> Outputs:
    """What the losses of the rows come to."""
    match call["reduction"]:
        case "none":
            return {"loss": each}
        case "sum":
            return {"loss": each.sum()}
        case "batchmean":
            return {"loss": each.sum() / call.shapes[0][0]}
        case _:
            return {"loss": each.sum() / math.prod(each.shape)}


KERNELS = {
    "loss": Kernel(
        _run,
        ("prediction", "target"),
        _check,
        optional=("other",),
        dtypes=ALL,
        mixed=True,
        parameters={
            "function": choice(*FUNCTIONS),
            "reduction": choice("mean", "sum", "none", "batchmean", default="mean"),
            "beta": number(1.0, above=0),
            "delta": number(1.0, above=0),
            "margin": number(0.0, at_least=-1, at_most=1),
        },
    )
}
