"""Tensor operations: the kernels, what runs them in a child process, and the pool of those children."""

from __future__ import annotations

from cyxwiz.compute.kernels.kernel import (
    ALL,
    FLOATS,
    NUMBERS,
    REQUIRED,
    Call,
    Kernel,
    Outputs,
    Parameter,
    choice,
    either,
    flag,
    number,
    pair,
    whole,
    wholes,
)

__all__ = [
    "ALL",
    "FLOATS",
    "NUMBERS",
    "REQUIRED",
    "Call",
    "Kernel",
    "Outputs",
    "Parameter",
    "choice",
    "either",
    "flag",
    "number",
    "pair",
    "whole",
    "wholes",
]
