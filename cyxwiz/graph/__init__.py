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
    check_fits,
    check_model_fits,
    default_loss,
    known_shape,
)
from cyxwiz.graph.hyperparameters import Hyperparameters, parse_hyperparameters
from cyxwiz.graph.ir import Graph, Layer, Part
from cyxwiz.graph.parse import parse
from cyxwiz.graph.shapes import Cost, cost, infer

__all__ = [
    "BUILTIN",
    "Cost",
    "DataShape",
    "DatasetUri",
    "Graph",
    "Hyperparameters",
    "Layer",
    "Part",
    "blob_digest",
    "check_dataset_uri",
    "check_fits",
    "check_model_fits",
    "cost",
    "default_loss",
    "infer",
    "known_shape",
    "parse",
    "parse_hyperparameters",
]
