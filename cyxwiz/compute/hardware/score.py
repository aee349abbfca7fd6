"""`compute_score`: one number from the challenge's measures.

    compute_score = 100 · Π (measured / reference) ^ (weight / sum of the weights of what was measured)

a weighted geometric mean, so that twice as fast in one term counts the same wherever the machine stands. The reference
machine is a notional one with the figures below; it scores 100. Matrix products and memory are summed over all devices
that the node lends. A term that could not be measured is left out, with its weight, and named.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

RESULT = "bench.json"  # in the node's folder


@dataclass(frozen=True, slots=True)
class Term:
    name: str
    unit: str
    reference: float
    weight: float


TERMS = (
    Term("matrix", "GFLOP/s float32", 1000.0, 0.6),
    Term("memory", "GB/s", 50.0, 0.2),
    Term("disk_write", "MB/s", 500.0, 0.05),
    Term("disk_read", "MB/s", 1000.0, 0.05),
    Term("network", "MB/s", 100.0, 0.1),
)


@dataclass(frozen=True, slots=True)
class Part:
    """One term as it went into the score; `value` is None where it was not measured."""

    term: Term
    value: float | None

    @property
    def ratio(self) -> float | None:
        return None if self.value is None else self.value / self.term.reference


def parts(measured: Mapping[str, float | None]) -> tuple[Part, ...]:
    return tuple(Part(term, measured.get(term.name)) for term in TERMS)


def compute_score(of: tuple[Part, ...]) -> float | None:
    """None where neither matrix products nor memory were measured: there is nothing to compare then."""
    known = [part for part in of if part.ratio is not None and part.ratio > 0]
    if not {"matrix", "memory"} <= {part.term.name for part in known}:
        return None
    weights = sum(part.term.weight for part in known)
    return 100 * math.exp(sum(part.term.weight * math.log(part.ratio or 1) for part in known) / weights)


def kept_score(folder: Path) -> float | None:
    """The score of the last `cyxwiz node bench` in that folder; None where none was run, or its file is no such."""
    path = folder / RESULT
    try:
        score = json.loads(path.read_text(encoding="utf-8"))["compute_score"]
        return None if score is None else float(score)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s can't be read: %s", path, error)
        return None
