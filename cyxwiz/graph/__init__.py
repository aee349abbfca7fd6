"""Model definitions, pure: parse and check them, infer shapes and costs, check datasets and hyperparameters.

Needs the standard library only, so that a central without torch can refuse a bad job at submit.
"""

from __future__ import annotations

from cyxwiz.graph.dataset_uri import (
    BUILTIN,
    DatasetUri,
    DataShape,
    blob_digest,
    check_dataset_uri,
    content_digest,
    known_shape,
)
from cyxwiz.graph.fit import (
    check_fits,
    check_model_fits,
    default_loss,
    features_of,
    labels_for,
    reads_numbers,
    skipped_softmax,
)
from cyxwiz.graph.hyperparameters import Hyperparameters, check_hyperparameters, parse_hyperparameters
from cyxwiz.graph.ir import Graph, Layer, Part, Source
from cyxwiz.graph.parse import parse
from cyxwiz.graph.pipeline import Step, check_pipeline, parse_pipeline, shape_after
from cyxwiz.graph.rule import Cost, Shape, Site
from cyxwiz.graph.shapes import Features, cost, entry_shapes, infer, sites
from cyxwiz.graph.tasks import (
    Evaluation,
    Inference,
    check_no_hyperparameters,
    parse_evaluation,
    parse_inference,
)
from cyxwiz.graph.write import to_cyxgraph

__all__ = [
    "BUILTIN",
    "Cost",
    "DataShape",
    "DatasetUri",
    "Evaluation",
    "Features",
    "Graph",
    "Hyperparameters",
    "Inference",
    "Layer",
    "Part",
    "Shape",
    "Site",
    "Source",
    "Step",
    "blob_digest",
    "check_dataset_uri",
    "check_fits",
    "check_hyperparameters",
    "check_model_fits",
    "check_no_hyperparameters",
    "check_pipeline",
    "content_digest",
    "cost",
    "default_loss",
    "entry_shapes",
    "features_of",
    "infer",
    "known_shape",
    "labels_for",
    "parse",
    "parse_evaluation",
    "parse_hyperparameters",
    "parse_inference",
    "parse_pipeline",
    "reads_numbers",
    "shape_after",
    "sites",
    "skipped_softmax",
    "to_cyxgraph",
]
