"""The same operations by PyTorch's own functions: a second backend, and the GPU's where CuPy is not installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from cyxwiz.compute.kernels.kernel import FLOATS, Call, Outputs
from cyxwiz.compute.kernels.losses import bce, check_classes, reduced
from cyxwiz.compute.kernels.windows import Slide, convolution_slide, pool_slide


def _first(x: Any, call: Call) -> Any:
    return x if call["layout"] == "NCHW" else x.permute(0, 3, 1, 2)


def _last(x: Any, call: Call) -> Any:
    return x if call["layout"] == "NCHW" else x.permute(0, 2, 3, 1)


def _padded(x: Any, slide: Slide, value: float = 0.0) -> Any:
    around = (slide.before[1], slide.after[1], slide.before[0], slide.after[0])
    return F.pad(x, around, value=value) if any(around) else x


def _conv2d(call: Call) -> Outputs:
    slide = convolution_slide(call)
    x = _padded(_first(call.inputs[0], call), slide)
    bias = call.inputs[2] if len(call.inputs) > 2 else None
    made = F.conv2d(x, call.inputs[1], bias, slide.stride, 0, slide.dilation, call["groups"])
    return {"result": _last(made, call)}


def _pool(call: Call) -> Outputs:
    slide, highest = pool_slide(call), call["function"] == "max"
    pictures = _first(call.inputs[0], call)
    x = _padded(pictures, slide, -torch.inf if highest else 0.0)
    if highest:
        return {"result": _last(F.max_pool2d(x, slide.kernel, slide.stride), call)}
    made = F.avg_pool2d(x, slide.kernel, slide.stride)
    if not call["count_include_pad"]:
        made = made / F.avg_pool2d(_padded(torch.ones_like(pictures), slide), slide.kernel, slide.stride)
    return {"result": _last(made, call)}


_ACTIVATIONS: dict[str, Callable[[Call, Any], Any]] = {
    "relu": lambda call, x: F.relu(x),
    "leaky_relu": lambda call, x: F.leaky_relu(x, call["negative_slope"]),
    "elu": lambda call, x: F.elu(x, call["alpha"]),
    "selu": lambda call, x: F.selu(x),
    "gelu": lambda call, x: F.gelu(x, approximate=call["approximate"]),
    "silu": lambda call, x: F.silu(x),
    "mish": lambda call, x: F.mish(x),
    "sigmoid": lambda call, x: torch.sigmoid(x),
    "softplus": lambda call, x: F.softplus(x),
    "tanh": lambda call, x: torch.tanh(x),
    "softmax": lambda call, x: F.softmax(x, call["axis"]),
    "log_softmax": lambda call, x: F.log_softmax(x, call["axis"]),
}


def _activation(call: Call) -> Outputs:
    return {"result": _ACTIVATIONS[call["function"]](call, call.inputs[0])}


def _softmax(call: Call) -> Outputs:
    return {"result": F.softmax(call.inputs[0], call["axis"])}


def _of_classes(call: Call, p: Any, t: Any, loss: Callable[..., Any]) -> Any:
    if call.dtypes[1] in FLOATS:
        return loss(p, t, reduction="none")
    check_classes(t, p.shape[1])
    return loss(p, t.long(), reduction="none")


LOSSES: dict[str, Callable[[Call, Any, Any], Any]] = {
    "mse": lambda call, p, t: F.mse_loss(p, t, reduction="none"),
    "l1": lambda call, p, t: F.l1_loss(p, t, reduction="none"),
    "smooth_l1": lambda call, p, t: F.smooth_l1_loss(p, t, reduction="none", beta=call["beta"]),
    "huber": lambda call, p, t: F.huber_loss(p, t, reduction="none", delta=call["delta"]),
    "bce": bce,  # PyTorch's own refuses what is no probability, on a GPU by an assertion that breaks the process
    "bce_with_logits": lambda call, p, t: F.binary_cross_entropy_with_logits(p, t, reduction="none"),
    "kl_div": lambda call, p, t: F.kl_div(p, t, reduction="none"),
    "hinge": lambda call, p, t: F.relu(1 - p * t),
    "cross_entropy": lambda call, p, t: _of_classes(call, p, t, F.cross_entropy),
    "nll": lambda call, p, t: _of_classes(call, p, t, F.nll_loss),
    "cosine_embedding": lambda call, p, t: F.cosine_embedding_loss(
        p, call.inputs[2], (t > 0) * 2 - 1, margin=call["margin"], reduction="none"
    ),
}


def _loss(call: Call) -> Outputs:
    return reduced(call, LOSSES[call["function"]](call, call.inputs[0], call.inputs[1]))


def _layer_norm(call: Call) -> Outputs:
    x, *scaling = call.inputs
    shape = call.shapes[1] if scaling else x.shape[-1:]
    return {"result": F.layer_norm(x, shape, *scaling, eps=call["eps"])}


def _attention(call: Call) -> Outputs:
    query, key, value, *mask = call.inputs
    hidden = mask[0] if mask else None
    if call["causal"]:
        rows, columns = query.shape[-2], key.shape[-2]
        later = torch.full((rows, columns), -torch.inf, dtype=query.dtype, device=query.device).triu(1)
        hidden = later if hidden is None else hidden + later
    made = F.scaled_dot_product_attention(query, key, value, attn_mask=hidden, scale=call["scale"])
    return {"result": made}


RUNS: dict[str, Callable[[Call], Outputs]] = {
    "conv2d": _conv2d,
    "pool": _pool,
    "activation": _activation,
    "softmax": _softmax,
    "loss": _loss,
    "layer_norm": _layer_norm,
    "attention": _attention,
}
