"""Trained weights that a job begins with: an uploaded file, or a file of another job's result."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cyxwiz.domain.errors import invalid

SUFFIXES = (".safetensors", ".cyxmodel", ".cyxmodel.tar", ".onnx")  # of the files that a node can build a model from
MAX_NAME = 400


@dataclass(frozen=True, slots=True)
class Weights:
    """`sha256` (hex) is empty until central has looked the job's result up; `job_id` is empty for an uploaded file."""

    sha256: str = ""
    job_id: str = ""
    file: str = ""  # of that job's result; empty: the first file of weights


def parse_blob(text: str, field: str) -> str:
    """The SHA-256 that `blob:sha256:HEX`, `blob://sha256/HEX` or `sha256:HEX` names.

    Raises:
        CyxError: INVALID, naming the field and the forms.
    """
    match = re.fullmatch(r"(?:blob:sha256:|blob://sha256/|sha256:)([0-9a-f]{64})", text)
    if match is None:
        raise invalid(f"{field}: must be blob:sha256: and 64 lower-case hex digits, not {text[:100]!r}", field=field)
    return match[1]


def is_model(name: str) -> bool:
    """Whether a file of this name may hold a model."""
    return name.lower().endswith(SUFFIXES)
