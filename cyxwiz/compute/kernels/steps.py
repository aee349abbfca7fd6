"""Steps of optimizers: one tensor of weights, its gradient and what the optimizer remembers of it.

The inputs are weight, gradient, and the state in the order in which the step gave it; without a state it begins with
zeros. The outputs are the new weight and state. The formulas are those of the optimizers' papers, with PyTorch's
reading of them: SGD with momentum without dampening, Adam (Kingma and Ba 2015), AdamW (Loshchilov and Hutter 2019),
RMSprop (Hinton 2012), Adagrad (Duchi et al. 2011).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cyxwiz.compute.kernels.kernel import Call, Kernel, Outputs, Parameter, choice, flag, number, whole
from cyxwiz.domain.errors import invalid

STATES: dict[str, tuple[str, ...]] = {
    "sgd": ("momentum",),
    "adam": ("mean", "square"),
    "adamw": ("mean", "square"),
    "rmsprop": ("square",),
    "adagrad": ("sum",),
}
_DECAY = number(0.0, at_least=0)
_RATE = number(above=0, at_most=1e6)
_ADAM: dict[str, Parameter] = {
    "lr": _RATE,
    "beta1": number(0.9, at_least=0, below=1),
    "beta2": number(0.999, at_least=0, below=1),
    "eps": number(1e-8, above=0),
    "step": whole(1, at_least=1),
}
_OF: dict[str, dict[str, Parameter]] = {
    "sgd": {"lr": _RATE, "momentum": number(0.0, at_least=0, below=1), "nesterov": flag(), "weight_decay": _DECAY},
    "adam": {**_ADAM, "weight_decay": _DECAY},
    "adamw": {**_ADAM, "weight_decay": number(0.01, at_least=0)},
    "rmsprop": {
        "lr": _RATE, "alpha": number(0.99, at_least=0, below=1), "eps": number(1e-8, above=0), "weight_decay": _DECAY,
    },
    "adagrad": {"lr": _RATE, "eps": number(1e-10, above=0), "weight_decay": _DECAY},
}  # fmt: skip


class _Step(Kernel):
    """Its parameters are those of the optimizer that is named."""

    def read(self, texts: Mapping[str, str]) -> dict[str, Any]:
        named = choice(*STATES)
        own = Kernel(_run, (), parameters={"optimizer": named, **_OF.get(texts.get("optimizer", ""), {})})
        if "optimizer" not in texts or texts["optimizer"] not in STATES:
            own = Kernel(_run, (), parameters={"optimizer": named})
            texts = {name: text for name, text in texts.items() if name == "optimizer"}
        return own.read(texts)


def _check(call: Call) -> None:
    names = STATES[call["optimizer"]]
    many = len(call.shapes) - 2
    if many not in (0, len(names)):
        raise invalid(f"the state of {call['optimizer']} is {', '.join(names)}; {many} tensors of it were sent.")
    call.need(len(set(call.shapes)) == 1, "weight, gradient and state must be of one shape.")
    if call.parameters.get("nesterov") and not call["momentum"]:
        raise invalid("nesterov needs a momentum above 0.")
    call.need(many == 0 or call.parameters.get("step", 2) > 1, "the first step has no state: set step.")
    call.fits(call.shapes[0], call.dtypes[0])


def _sgd(call: Call, w: Any, g: Any, state: Sequence[Any]) -> list[Any]:
    g = g + call["weight_decay"] * w
    velocity = call["momentum"] * state[0] + g
    way = g + call["momentum"] * velocity if call["nesterov"] else velocity
    return [w - call["lr"] * way, velocity]


def _adam(call: Call, w: Any, g: Any, state: Sequence[Any]) -> list[Any]:
    if call["optimizer"] == "adamw":
        w = w * (1 - call["lr"] * call["weight_decay"])
    else:
        g = g + call["weight_decay"] * w
    one, two, step = call["beta1"], call["beta2"], call["step"]
    mean = one * state[0] + (1 - one) * g
    square = two * state[1] + (1 - two) * g * g
    root = call.xp.sqrt(square) / (1 - two**step) ** 0.5 + call["eps"]
    return [w - call["lr"] / (1 - one**step) * mean / root, mean, square]


def _rmsprop(call: Call, w: Any, g: Any, state: Sequence[Any]) -> list[Any]:
    g = g + call["weight_decay"] * w
    square = call["alpha"] * state[0] + (1 - call["alpha"]) * g * g
    return [w - call["lr"] * g / (call.xp.sqrt(square) + call["eps"]), square]


def _adagrad(call: Call, w: Any, g: Any, state: Sequence[Any]) -> list[Any]:
    g = g + call["weight_decay"] * w
    total = state[0] + g * g
    return [w - call["lr"] * g / (call.xp.sqrt(total) + call["eps"]), total]


_STEPS: dict[str, Callable[[Call, Any, Any, Sequence[Any]], list[Any]]] = {
    "sgd": _sgd, "adam": _adam, "adamw": _adam, "rmsprop": _rmsprop, "adagrad": _adagrad,
}  # fmt: skip


def _run(call: Call) -> Outputs:
    weight, gradient, *state = call.inputs
    names = STATES[call["optimizer"]]
    state = state or [call.xp.zeros_like(weight)] * len(names)
    made = _STEPS[call["optimizer"]](call, weight, gradient, state)
    return dict(zip(("weight", *names), made, strict=True))


KERNELS = {"optimizer_step": _Step(_run, ("weight", "gradient"), _check, optional=("state1", "state2"), torch=_run)}
