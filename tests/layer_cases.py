"""One or more small models for every type of layer: what the tests of layers and of exports run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

# By type: the layer's parameters and the shape of a sample.
SINGLE: dict[str, list[tuple[dict[str, Any], tuple[int, ...]]]] = {
    "Dense": [
        ({"units": 3}, (5,)), ({"units": 3, "bias": False}, (4, 5)), ({"units": 3, "flatten": False}, (4, 5)),
        ({"units": 3, "activation": "tanh"}, (5,)),
    ],
    "Conv1D": [
        ({"filters": 4}, (9, 3)), ({"filters": 2, "stride": 2, "padding": "same"}, (9,)),
        ({"filters": 2, "stride": 2, "padding": "same", "transposed": True}, (5,)),
        ({"filters": 2, "stride": 2, "dilation": 6, "output_padding": 5, "transposed": True}, (6, 4)),
    ],
    "Conv2D": [
        ({"filters": 4}, (7, 6, 3)),
        ({"filters": 6, "kernel_size": "[3, 2]", "stride": 2, "padding": "same", "groups": 3}, (8, 7, 3)),
        ({"filters": 4, "kernel_size": 2, "padding": [1, 2], "dilation": 2, "bias": "false"}, (6, 6)),
        ({"filters": 4, "padding": "valid", "activation": "relu"}, (6, 6, 1)),
        ({"filters": 6, "kernel_size": 4, "stride": 2, "padding": 1, "groups": 2, "transposed": True}, (3, 5, 4)),
        ({"filters": 2, "stride": [1, 3], "dilation": [3, 1], "output_padding": 2, "padding": 1, "transposed": True},
         (3, 5, 2)),
    ],
    "Conv3D": [
        ({"filters": 2, "kernel_size": 2}, (4, 5, 3, 2)), ({"filters": 2, "padding": "same"}, (3, 3, 3)),
        ({"filters": 2, "kernel_size": 2, "stride": 2, "transposed": True}, (2, 3, 2, 2)),
    ],
    "DepthwiseConv2D": [
        ({"depth_multiplier": 2, "padding": 1}, (5, 5, 3)), ({"stride": 2}, (6, 7)),
        ({"depth_multiplier": 2, "stride": 2, "transposed": True}, (3, 4, 2)),
    ],
    "MaxPool2D": [
        ({}, (6, 5, 2)), ({"pool_size": 3, "stride": 2, "padding": 1}, (7, 7, 2)),
        ({"pool_size": 3, "stride": 2, "padding": "same"}, (6, 7)), ({"pool_size": [1, 3]}, (4, 7, 1)),
    ],
    "AvgPool2D": [
        ({}, (6, 5, 2)), ({"pool_size": 3, "stride": 2, "padding": 1}, (7, 7, 2)),
        ({"pool_size": 2, "stride": 1, "padding": "same"}, (4, 5, 2)),
    ],
    "GlobalMaxPool": [({}, (4, 3)), ({}, (4, 5, 3)), ({}, (2, 3, 4, 2))],
    "GlobalAvgPool": [({}, (4, 3)), ({}, (4, 5, 3)), ({}, (2, 3, 4, 2))],
    "AdaptiveAvgPool": [
        ({"output_size": 2}, (6, 4, 3)), ({"output_size": [3, 2]}, (7, 5, 2)), ({"output_size": 3}, (7, 2)),
        ({"output_size": 1}, (2, 3, 4, 2)), ({"output_size": [3, 2, 3]}, (2, 3, 4, 2)),
    ],
    "BatchNorm": [
        ({}, (5,)), ({"eps": 1e-3, "momentum": 0.5}, (4, 3)), ({"affine": False}, (4, 5, 3)), ({}, (2, 3, 4, 2)),
    ],
    "LayerNorm": [({}, (4, 6)), ({"normalized_shape": [4, 6]}, (4, 6)), ({"affine": "false"}, (3, 4, 5))],
    "GroupNorm": [({"num_groups": 2}, (4, 5, 6)), ({}, (5, 6)), ({"num_groups": 2}, (6,))],
    "InstanceNorm": [({}, (4, 5, 3)), ({"affine": True}, (6, 3))],
    "Dropout": [({"rate": 0.5}, (6,))],
    "Flatten": [({}, (3, 4, 2)), ({}, (5,))],
    "RNN": [
        ({"units": 4}, (6, 3)), ({"units": 4, "nonlinearity": "relu", "return_sequences": True, "num_layers": 2}, (5,)),
    ],
    "LSTM": [
        ({"hidden_size": "4", "bidirectional": "true"}, (6, 3)),
        ({"units": 4, "num_layers": 2, "dropout": 0.5}, (6, 3)), ({"units": 4, "return_sequences": "true"}, (6, 3)),
    ],
    "GRU": [({"units": 4}, (6, 3)), ({"units": 4, "return_sequences": True}, (6,))],
    "Bidirectional": [
        ({"units": 4}, (6, 3)),
        ({"layer": "gru", "units": 4, "return_sequences": True, "merge": "sum"}, (6, 3)),
        ({"layer": {"type": "LSTM", "units": 3, "num_layers": 2}, "merge": "average"}, (6, 3)),
        ({"layer": "RNN", "units": 3, "merge": "multiply"}, (6, 3)),
    ],
    "TimeDistributed": [
        ({"layer": "Dense", "units": 3}, (4, 5)), ({"layer": "conv2d", "filters": 2}, (3, 5, 5)),
        ({"inner": {"type": "LSTM", "parameters": {"units": 3}}}, (2, 4, 3)),
    ],
    "Embedding": [({"vocab_size": 10, "dim": 3}, (4,)), ({"num_embeddings": 10, "embedding_dim": 2}, (2, 3))],
    "MultiHeadAttention": [({"num_heads": 2}, (5, 4)), ({"num_heads": 4, "causal": True, "bias": False}, (5, 4))],
    "SelfAttention": [({}, (5, 4)), ({"num_heads": 2, "dropout": 0.1}, (5, 4))],
    "LinearAttention": [({"num_heads": 2}, (5, 4)), ({"causal": True}, (5, 4))],
    "TransformerEncoder": [
        ({"num_heads": 2, "dim_feedforward": 8, "num_layers": 2}, (5, 4)),
        ({"num_heads": 1, "d_model": 4, "norm_first": True, "activation": "gelu", "causal": True}, (5, 4)),
    ],
    "PositionalEncoding": [
        ({}, (5, 4)), ({"mode": "learned", "max_length": 9}, (5, 3)), ({"mode": "learned"}, (5, 3)), ({}, (4, 5)),
    ],
    "ReLU": [({}, (4,))], "LeakyReLU": [({"negative_slope": 0.2}, (4,))], "PReLU": [({}, (4,))],
    "ELU": [({"alpha": 0.5}, (4,))], "SELU": [({}, (4,))], "GELU": [({}, (4,))], "Swish": [({}, (4,))],
    "Mish": [({}, (4,))], "Sigmoid": [({}, (4,))], "Tanh": [({}, (4,))],
    "Softmax": [({}, (3, 4)), ({"axis": 0}, (3, 4))],
    "Reshape": [({"shape": "[2, -1]"}, (3, 4))], "View": [({"shape": [12]}, (3, 4))],
    "TensorReshape": [({"shape": "4, 3, 1"}, (12,)), ({"shape": "-1,4,3,1"}, (12,))],
    "Permute": [({"dims": [2, 0, 1]}, (2, 3, 4)), ({"dims": "0,2,1"}, (2, 3)), ({"dims": [2, 1]}, (3, 4))],
    "Squeeze": [({}, (1, 3, 1)), ({"axis": 0}, (1, 3, 1)), ({}, (1, 1))],
    "Unsqueeze": [({}, (3,)), ({"axis": 0}, (3, 2))],
    "Split": [({"sections": 2, "part": 1}, (3, 4)), ({"axis": 0, "sizes": [1, 2], "part": 1}, (3, 4)),
              ({"split_size": "3", "part": 1}, (2, 5))],
    "Output": [({}, (4,))], "Identity": [({}, (3, 4))],
    "Lambda": [
        ({"function": name}, (4,))
        for name in ("abs", "ceil", "cos", "exp", "floor", "log", "log1p", "neg", "reciprocal", "round", "sign", "sin",
                     "sqrt", "square")
    ] + [
        ({"function": "scale", "value": 3}, (4,)), ({"function": "shift", "value": -2}, (4,)),
        ({"function": "identity"}, (4,)), ({"function": "lambda x: x"}, (4,)),
        ({"function": "clamp", "min": -0.5, "max": 0.5}, (4,)),
    ],
}  # fmt: skip

_TWO = [{"type": "dense", "id": "a", "units": 3}, {"type": "dense", "id": "b", "units": 3, "inputs": "input"}]
_SEQUENCES = [
    {"type": "dense", "id": "a", "units": 4, "flatten": False},
    {"type": "conv1d", "id": "b", "filters": 6, "kernel_size": 2, "inputs": "input"},
]

# By type: whole models of several branches.
SEVERAL: dict[str, list[tuple[list[dict[str, Any]], tuple[int, ...]]]] = {
    "Concatenate": [
        ([*_TWO, {"type": "concatenate", "inputs": ["b", "a"]}], (4,)),
        ([*_TWO[:1], {"type": "reshape", "shape": [3, 1], "id": "r"}, {"type": "reshape", "shape": [2, 1], "id": "s",
         "inputs": "input"}, {"type": "concat", "axis": 0, "inputs": ["r", "s"]}], (2,)),
    ],
    "Add": [
        ([*_TWO, {"type": "add", "inputs": ["a", "b", "a"]}], (4,)),
        ([{"type": "dense", "id": "a", "units": 3}, {"type": "add", "inputs": ["a", "input"]}], (2, 4, 3)),
    ],
    "Multiply": [
        ([*_TWO, {"type": "multiply", "inputs": ["a", "b"]}], (4,)),
        # squeeze and excitation
        ([{"type": "global_avg_pool"}, {"type": "dense", "id": "g", "units": 3}, {"type": "multiply",
         "inputs": ["input", "g"]}], (4, 4, 3)),
    ],
    "Average": [([*_TWO, {"type": "average", "inputs": ["a", "b"]}], (4,))],
    "MultiHeadAttention": [
        ([*_SEQUENCES, {"type": "multi_head_attention", "num_heads": 2, "inputs": ["a", "b", "b"]}], (5, 3)),
    ],
    "CrossAttention": [
        ([*_SEQUENCES, {"type": "cross_attention", "num_heads": 2, "inputs": ["a", "b"]}], (5, 3)),
        ([*_SEQUENCES, {"type": "cross_attention", "num_heads": 2, "inputs": ["a", "b", "b"]}], (5, 3)),
    ],
    "TransformerDecoder": [
        ([*_SEQUENCES, {"type": "transformer_decoder", "num_heads": 2, "num_layers": 2, "inputs": ["a", "b"]}], (5, 3)),
        ([*_SEQUENCES, {"type": "transformer_decoder", "num_heads": 1, "norm_first": 1, "inputs": ["a", "b"]}], (5, 3)),
    ],
    "Split": [
        ([{"type": "split", "id": "s", "sections": 3}, {"type": "dense", "id": "d", "units": 2, "inputs": "s:2"},
          {"type": "add", "inputs": ["d", "s:0"]}], (6,)),
    ],
    "Constant": [
        ([{"type": "constant", "id": "c", "value": "[1, 2, 3]", "inputs": []},
          {"type": "add", "inputs": ["c", "input"]}], (3,)),
        ([{"type": "constant", "id": "c", "value": 2, "shape": [2, 2], "inputs": []}, {"type": "concat", "inputs":
         ["c", "input"]}], (2, 3)),
    ],
    "Parameter": [
        ([{"type": "parameter", "id": "p", "shape": [3], "init": init, "value": 2, "inputs": []},
          {"type": "multiply", "inputs": ["p", "input"]}], (4, 3))
        for init in ("normal", "uniform", "xavier", "ones", "value")
    ] + [([{"type": "parameter", "shape": [2, 3], "init": "zeros", "inputs": []}], (3,))],
}  # fmt: skip


def cases() -> Iterator[tuple[str, str, str, tuple[int, ...]]]:
    """Name of the case, its type, its definition and the shape of a sample."""
    for kind, variants in SINGLE.items():
        for place, (params, shape) in enumerate(variants):
            yield f"{kind}-{place}", kind, json.dumps({"layers": [{"type": kind, **params}]}), shape
    for kind, models in SEVERAL.items():
        for place, (layers, shape) in enumerate(models):
            yield f"{kind}-branches-{place}", kind, json.dumps({"layers": layers}), shape
