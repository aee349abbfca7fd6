"""Parameters of the nodes that are no layers: losses, optimizers, schedules, regularisers, data nodes.

A parameter without a default here is left out when the node does not state it, so that the job's own hyperparameters
and the optimizer's defaults can fill it in.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from cyxwiz.graph.params import Param, flag, integer

MAX_UNITS = 1_048_576
MAX_BATCH = 1_048_576

LEARNING_RATE = Param("float", 0.001, 0.0, 1e3, above=True, aliases=("lr",))
WEIGHT_DECAY = Param("float", 0.0, 0.0, 1e3)
MOMENTUM = Param("float", 0.0, 0.0, 1.0, below=True)
BETA1 = Param("float", 0.9, 0.0, 1.0, below=True)
BETA2 = Param("float", 0.999, 0.0, 1.0, below=True)
EPS = Param("float", 1e-8, 0.0, 1.0, above=True, aliases=("epsilon",))
ALPHA = Param(
    "float", 0.99, 0.0, 1.0, below=True, aliases=("rho",), meaning="how much RMSprop keeps of its mean square"
)
LR_DECAY = Param("float", 0.0, 0.0, 1e3, meaning="Adagrad: the rate falls as 1 / (1 + steps x lr_decay)")
TEST_SPLIT = Param("float", 0.0, 0.0, 0.9, aliases=("test_fraction",), meaning="held out until the end")
VALIDATION_SPLIT = Param("float", 0.2, 0.0, 0.9, aliases=("val_split", "validation_fraction"))
SHUFFLE = Param("bool", True)

_STEP: dict[str, Param] = {"learning_rate": LEARNING_RATE, "weight_decay": WEIGHT_DECAY}
_MOMENTS: dict[str, Param] = {**_STEP, "beta1": BETA1, "beta2": BETA2, "eps": EPS}
_WEIGHT = {"weight": Param("float", None, 0.0, 1e6, above=True, meaning="its share when there are several losses")}
_GAMMA = Param("float", 0.1, 0.0, 1.0, above=True, meaning="factor of every step")
_COUNT = 10_000_000


def _strength(*aliases: str) -> Param:
    return Param("float", 0.01, 0.0, 1e6, aliases=(*aliases, "alpha", "strength", "weight", "factor"))


OPTIMIZERS: dict[str, dict[str, Param]] = {
    "SGD": {**_STEP, "momentum": MOMENTUM},
    "Adam": _MOMENTS,
    "AdamW": _MOMENTS,
    "RMSprop": {**_STEP, "momentum": MOMENTUM, "eps": EPS, "alpha": ALPHA},
    "Adagrad": {**_STEP, "eps": EPS, "lr_decay": LR_DECAY},
    "NAdam": _MOMENTS,
}

LOSSES: dict[str, dict[str, Param]] = {
    **dict.fromkeys(("MSELoss", "CrossEntropyLoss", "BCELoss", "BCEWithLogits", "L1Loss", "NLLLoss"), _WEIGHT),
    "SmoothL1Loss": {"beta": Param("float", 1.0, 0.0, 1e6, above=True), **_WEIGHT},
    "HuberLoss": {"delta": Param("float", 1.0, 0.0, 1e6, above=True, aliases=("beta",)), **_WEIGHT},
}  # fmt: skip

SCHEDULES: dict[str, dict[str, Param]] = {
    "StepLR": {"step_size": integer(1, _COUNT, 10, meaning="epochs from step to step"), "gamma": _GAMMA},
    "CosineAnnealing": {
        "t_max": integer(1, _COUNT, None, "T_max", "tmax", meaning="epochs of the half wave; by default all of them"),
        "eta_min": Param("float", 0.0, 0.0, 1e3, aliases=("min_lr",)),
    },
    "ReduceOnPlateau": {
        "factor": Param("float", 0.1, 0.0, 1.0, above=True, below=True),
        "patience": integer(0, _COUNT, 10, meaning="epochs without a better value before the rate falls"),
        "mode": Param("choice", choices=("min", "max"), meaning="by default as the monitored value asks"),
    },
    "ExponentialLR": {"gamma": Param("float", 0.95, 0.0, 1.0, above=True, meaning="factor of every epoch")},
    "WarmupScheduler": {
        "warmup_steps": integer(0, _COUNT, None, "steps", meaning="batches; wins over warmup_epochs"),
        "warmup_epochs": integer(0, _COUNT, 1, "epochs"),
        "start_factor": Param("float", 0.1, 0.0, 1.0, meaning="share of the rate at the first step"),
    },
}

REGULARIZERS: dict[str, dict[str, Param]] = {
    "L1Regularization": {"lambda": _strength("l1")},
    "L2Regularization": {"lambda": _strength("l2", "weight_decay")},
    "ElasticNet": {
        "lambda": Param("float", 0.02, 0.0, 1e6, aliases=("alpha", "strength"), meaning="both penalties together"),
        "l1_ratio": Param("float", 0.5, 0.0, 1.0, meaning="share of l1 in lambda"),
        "l1": Param("float", None, 0.0, 1e6, aliases=("l1_lambda", "lambda_l1"), meaning="instead of its share"),
        "l2": Param("float", None, 0.0, 1e6, aliases=("l2_lambda", "lambda_l2"), meaning="instead of its share"),
    },
}

DATA: dict[str, dict[str, Param]] = {
    "DatasetInput": {
        "input_shape": Param("shape", aliases=("shape",), meaning="the features are given this shape"),
        "columns": Param("columns", meaning="only these of a sample's flattened features"),
        "field": Param("word", meaning="the array of that name in an npz, instead of x"),
    },
    "DataLoader": {"batch_size": Param("int", None, 1, MAX_BATCH), "shuffle": Param("bool")},
    "Augmentation": {
        "horizontal_flip": flag(False, "hflip", "flip"),
        "vertical_flip": flag(False, "vflip"),
        "rotate90": flag(False, "rotation", meaning="by 0, 90, 180 or 270 degrees; the half turn alone unless square"),
        "probability": Param("float", 0.5, 0.0, 1.0, aliases=("p", "flip_prob"), meaning="of each flip"),
        "crop_padding": integer(0, 1024, 0, "padding", meaning="shifts by up to this many cells, zeros come in"),
        "cutout": integer(0, 4096, 0, "cutout_size", meaning="side of the square that is set to 0"),
        "noise_std": Param("float", 0.0, 0.0, 1e3, aliases=("noise", "gaussian_noise")),
        "brightness": Param("float", 0.0, 0.0, 1e3, meaning="adds a number of at most this size"),
        "contrast": Param("float", 0.0, 0.0, 1.0, meaning="stretches around the mean by 1 - c to 1 + c"),
    },
    "DataSplit": {
        "train_ratio": Param("float", 0.8, 0.0, 1.0, above=True, aliases=("train", "train_split")),
        "val_ratio": Param("float", None, 0.0, 1.0, aliases=("val", "val_split")),
        "test_ratio": Param("float", None, 0.0, 1.0, aliases=("test", "test_split")),
    },
    "Normalize": {"mean": Param("float", 0.0, -1e9, 1e9), "std": Param("float", 1.0, 0.0, 1e9, above=True)},
    "OneHotEncode": {"num_classes": Param("int", None, 1, MAX_UNITS, aliases=("classes",))},
}

PARAMS: Mapping[str, Mapping[str, Param]] = MappingProxyType(
    {**OPTIMIZERS, **LOSSES, **SCHEDULES, **REGULARIZERS, **DATA}
)
