"""A data set through a declared pipeline, to a data set: see `job.preprocess`."""

from __future__ import annotations

from cyxwiz.compute.preprocess.job import preprocess

__all__ = ["preprocess"]
