"""What can be changed of a training job while it runs, and what its owner is told of the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from cyxwiz.compute.optim import Schedule
from cyxwiz.domain.errors import CyxError
from cyxwiz.graph.parts import LEARNING_RATE
from cyxwiz.ports.executor import Logged, Report


def change(schedule: Schedule, values: Mapping[str, Any], send: Callable[[Report], None]) -> None:
    """Applies new hyperparameters: the learning rate, within the bounds that it has at submit. Each of the others is
    refused by a line of the level error."""
    for name, value in values.items():
        if name != "learning_rate":
            send(Logged("error", f"{name} can't be changed while the job runs; submit a job with another one"))
            continue
        try:
            schedule.set_base(cast("float", LEARNING_RATE.read(name, value)))
        except CyxError as error:
            send(Logged("error", error.message))
        else:
            send(Logged("info", f"the learning rate is {schedule.rate:g} from here on"))
