"""Jobs that are not training: what their files may say, and whose weights they may name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.job import JobType
from cyxwiz.domain.lockfile import lock_digest
from cyxwiz.domain.weights import Weights
from cyxwiz.services.definition import Definition, parse_definition
from cyxwiz.services.jobfile import parse_jobfile

SHA = "0" * 64
JOB = "0b9d7f3a-2f3c-4c1e-9d55-0d6f4e3a1b2c"
BLOB = {"weights": f"blob:sha256:{SHA}"}
STEPS = [{"type": "standardize"}, {"type": "split", "test": 0.25}]
LOCK = f"tiny==1.0 --hash=sha256:{SHA}\n"
SCRIPT = {"script": "train.py", "files": {"train.py": SHA}}


def refusal(data: object) -> CyxError:
    with pytest.raises(CyxError) as caught:
        parse_jobfile(data)
    assert caught.value.code is Code.INVALID
    return caught.value


@pytest.mark.parametrize(
    ("model", "weights"),
    [
        (BLOB, Weights(SHA)),
        ({"weights": f"blob://sha256/{SHA}"}, Weights(SHA)),
        ({"from_job": JOB}, Weights(job_id=JOB)),
        ({"from_job": JOB, "file": "model.onnx"}, Weights(job_id=JOB, file="model.onnx")),
    ],
)
@pytest.mark.parametrize("kind", ["evaluation", "inference"])
def test_a_trained_model_is_used(kind: str, model: dict[str, Any], weights: Weights) -> None:
    spec = parse_jobfile({"type": kind, "dataset": "builtin:digits", "model": model, "epochs": 7})
    assert (spec.type, spec.weights, spec.model) == (JobType(kind), weights, "")
    assert spec.epochs == 1, "only training goes over its data more than once"
    assert parse_definition(json.dumps(model)).weights == weights, "the same on the wire"


def test_a_definition_may_stand_beside_the_weights() -> None:
    layers = [{"type": "dense", "units": 10}]
    spec = parse_jobfile({"type": "evaluation", "dataset": "builtin:digits", "model": {**BLOB, "layers": layers}})
    assert json.loads(spec.model) == {"layers": layers}


def test_a_pipeline() -> None:
    spec = parse_jobfile({"type": "preprocessing", "dataset": "builtin:wine", "steps": STEPS})
    assert (spec.type, json.loads(spec.model), spec.weights) == (JobType.PREPROCESSING, {"steps": STEPS}, None)
    assert parse_definition(json.dumps({"steps": STEPS})) == Definition(spec.model), "the same on the wire"


def test_packages_and_the_network_of_a_script() -> None:
    spec = parse_jobfile({"model": SCRIPT, "requirements": LOCK, "network": True})
    assert (spec.model, spec.requirements, spec.network) == (LOCK, lock_digest(LOCK), True)
    wire = parse_definition(json.dumps({**SCRIPT, "requirements": LOCK, "network": True}))
    assert (wire.model, wire.requirements, wire.network) == (LOCK, lock_digest(LOCK), True)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"type": "evaluation"}, "model: give exactly one of"),
        ({"type": "evaluation", "model": {"layers": [64, 10]}}, "model: an evaluation job needs trained weights"),
        ({"type": "training", "model": BLOB}, "model: a training job starts from weights of its own"),
        ({"type": "inference", "model": {"weights": "model.onnx"}}, "model.weights: must be blob:sha256:"),
        ({"type": "inference", "model": {**BLOB, "from_job": JOB}}, "model.from_job: give it or model.weights"),
        ({"type": "inference", "model": {**BLOB, "file": "a.onnx"}}, "model.file: names a file of model.from_job"),
        ({"type": "inference", "model": {"file": "a", "layers": [1]}}, "model.file: names a file of a job's result"),
        ({"type": "inference", "model": {"from_job": "x"}}, "model.from_job: Invalid job ID"),
        ({"type": "inference", "model": BLOB, "hyperparameters": {"lr": 1}}, "hyperparameters: an inference job takes"),
        ({"type": "inference", "model": BLOB, "hyperparameters": {"output": "xlsx"}}, "output is 'xlsx'"),
        ({"type": "evaluation", "model": BLOB, "hyperparameters": {"rows": "some"}}, "rows is 'some'"),
        ({"type": "evaluation", "model": BLOB, "hyperparameters": {"loss": "dense"}}, "loss is 'dense'"),
        ({"type": "evaluation", "model": {**BLOB, "layers": [64, 3]}}, "outputs, the dataset"),
        ({"type": "evaluation", "model": SCRIPT}, "type: a script is a job of the type training"),
        ({"type": "inference", "model": BLOB, "dataset": ""}, "dataset: missing"),
        ({"type": "preprocessing", "model": BLOB}, "steps: missing"),
        ({"type": "preprocessing", "model": {"layers": [1]}, "steps": STEPS}, "model.layers: a preprocessing job has"),
        ({"type": "preprocessing", "steps": STEPS, "hyperparameters": {"lr": 1}}, "a preprocessing job takes none"),
        ({"type": "preprocessing", "steps": []}, "steps: a preprocessing job needs a list"),
        ({"type": "training", "steps": STEPS}, "steps: are for jobs of the type preprocessing, not training"),
        ({"model": {"layers": [64, 10]}, "network": True}, "network: is for your own code"),
        ({"model": {"layers": [64, 10]}, "requirements": LOCK}, "requirements: is for your own code"),
        ({"model": SCRIPT, "requirements": "tiny>=1"}, "requirements: line 1: 'tiny>=1' is no NAME==VERSION"),
    ],
)
def test_what_does_not_go_together_is_named(data: dict[str, Any], words: str) -> None:
    error = refusal({"dataset": "builtin:digits", **data})
    assert words in error.message
