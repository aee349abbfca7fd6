"""A run that checks another one's work: where it may begin, and how what it came to compares with what is claimed.

What the other run left is its word: a file that is none says that the work was wrong, not that the check went wrong.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from cyxwiz.compute import checkpoint
from cyxwiz.compute.artefacts import artefact
from cyxwiz.compute.chain import MODEL, distances, resembles, state_digest, weights_digest, weights_of_file
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ports.executor import Check, Finished

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from cyxwiz.compute.checkpoint import State

INCOMPARABLE = {"incomparable": 1.0}
MOST_THREADS = 256  # that a check or a checkpoint may ask for: they are a stranger's word


class WrongStart(Exception):
    """The state to go on from is none of this job's, or not the one that its link names."""


def start_of(path: Path, job: str, check: Check | None) -> State:
    """The state that a run goes on from; `job` is its fingerprint.

    Raises:
        CyxError: INVALID for a file that is none.
        WrongStart: the same, of a check; and for a state that has not the digest which it is to have.
    """
    try:
        state = checkpoint.read(path, job)
    except CyxError as error:
        if check is None or error.code is not Code.INVALID:
            raise
        raise WrongStart(error.message) from error
    if check is not None and check.start and _digest(state) != check.start:
        raise WrongStart("its state is not the one that its link names")
    return state


def _digest(state: State) -> str:
    try:
        return state_digest(state)
    except (KeyError, TypeError, AttributeError) as error:
        raise WrongStart(f"its state lacks something: {error}") from error


def refuted(work_dir: Path, why: str, seconds: float) -> Finished:
    """The end of a check that could not begin, for the fault of whose work it checks."""
    path = work_dir / "out" / "check.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"start": why[:500]}))
    return Finished((artefact(path),), {"start_matches": 0.0}, 0, seconds)


def figures_of(check: Check, job: str, weights: Mapping[str, Tensor], state: State | None) -> dict[str, float]:
    """How far what is claimed is from what a check came to: `weights`, at the `state` at which it was to stop."""
    figures: dict[str, float] = {}
    if check.claim is not None:
        figures |= _distances(check.claim, job, weights, state)
    if check.result is not None and check.result_weights:
        figures["result_matches"] = float(_has(check.result, check.result_weights))
    return figures


def _distances(claim: Path, job: str, weights: Mapping[str, Tensor], state: State | None) -> dict[str, float]:
    try:
        if state is None:
            return distances(weights, weights_of_file(claim))
        claimed = checkpoint.read(claim, job)
        if not resembles(state, claimed):
            return INCOMPARABLE
    except (CyxError, KeyError, TypeError, AttributeError):
        return INCOMPARABLE
    return distances(_kept(state), _kept(claimed))


def _kept(state: State) -> dict[str, Tensor]:
    """The weights of a state."""
    names = (name for name in state.tensors if name.startswith(MODEL))
    return {name: state.tensors[name] for name in names if not name.endswith("num_batches_tracked")}


def _has(path: Path, digest: str) -> bool:
    try:
        return weights_digest(weights_of_file(path)) == digest
    except CyxError:
        return False
