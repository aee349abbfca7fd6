"""The name under which training takes its data: see `cyxwiz.compute.data`."""

from __future__ import annotations

from cyxwiz.compute.data.dataset import Dataset
from cyxwiz.compute.data.load import load

__all__ = ["Dataset", "load"]
