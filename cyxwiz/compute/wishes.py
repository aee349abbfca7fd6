"""What can be changed of a training job while it runs, and what its owner is told of the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from cyxwiz.compute.optim import Schedule
from cyxwiz.ports.executor import Logged, Report

MAX_RATE = 1e6


def change(schedule: Schedule, values: Mapping[str, Any], send: Callable[[Report], None]) -> None:
    """Applies new hyperparameters: the learning rate. Each of the others is refused by a line of the level error."""
    for name, value in values.items():
        if name != "learning_rate":
            send(Logged("error", f"{name} can't be changed while the job runs; submit a job with another one"))
        elif not isinstance(value, (int, float)) or not math.isfinite(value) or not 0 < value <= MAX_RATE:
            send(Logged("error", f"the learning rate {value} is none: it must be above 0 and at most {MAX_RATE:g}"))
        else:
            schedule.set_base(float(value))
            send(Logged("info", f"the learning rate is {schedule.rate:g} from here on"))
