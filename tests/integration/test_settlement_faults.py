"""Settlement under every fault of a cluster and with a central that is killed at any step: never double, never lost.

CYXWIZ_SETTLEMENT_RUNS says how many histories, 300 unless told; `make soak` plays 10,000. A history that breaks is
printed with its seed and played alone by `python -m tests.settlement`.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.integration.localnet.faulty import Faults
from tests.settlement.mutations import FIRST, MUTATIONS, Mutate
from tests.settlement.run import simulate
from tests.soak import SOAKING

RUNS = int(os.environ.get("CYXWIZ_SETTLEMENT_RUNS", "300"))
CHUNKS = 6
MOST_SEEDS = 150  # in which a mutation must be found
STEADY = Faults()
WHOLE_LIVES = {"localnet": 48, "credits": 23}  # seeds with a job that streams, moves and is completed


@pytest.mark.slow
@pytest.mark.timeout(60 + RUNS)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_never_double_never_lost(chunk: int) -> None:
    seen: Counter[str] = Counter()
    for seed in range(chunk, RUNS, CHUNKS):
        outcome = simulate(seed)
        assert not outcome.violation, str(outcome)
        seen.update(outcome.seen)
    if RUNS < 300:
        return
    happened = {each for each, count in seen.items() if count}
    assert happened >= {"killed", "faults", "completed", "refunded", "failed", "pay", "yield", "signed anew"}


@pytest.mark.slow
@pytest.mark.timeout(60 + RUNS)
def test_the_books_neither() -> None:
    for seed in range(RUNS // 3):
        outcome = simulate(seed, "credits")
        assert not outcome.violation, str(outcome)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("ledger", "seed"), WHOLE_LIVES.items())
def test_central_may_end_at_every_single_place(ledger: str, seed: int) -> None:
    whole = simulate(seed, ledger, deaths=[], faults=STEADY)
    assert not whole.violation, str(whole)
    assert whole.places > 50
    assert whole.seen["pay"]
    assert whole.seen["complete"]
    for place in range(1, whole.places + 1, 1 if SOAKING else 3):
        outcome = simulate(seed, ledger, deaths=[place], faults=STEADY)
        assert not outcome.violation, f"killed at place {place}: {outcome}"
        assert outcome.seen["killed"] == 1


def test_a_seed_has_one_history() -> None:
    first = simulate(7)
    simulate(8)
    assert simulate(7).trace == first.trace
    assert simulate(7).places == first.places


@pytest.mark.slow
@pytest.mark.parametrize(("ledger", "mutate", "faults"), MUTATIONS, ids=[mutate.__name__ for _, mutate, _ in MUTATIONS])
def test_a_broken_settlement_is_found_out(ledger: str, mutate: Mutate, faults: Faults | None) -> None:
    first = FIRST.get(mutate, 0)
    with pytest.MonkeyPatch.context() as monkeypatch:
        mutate(monkeypatch)
        outcomes = (simulate(seed, ledger, faults=faults) for seed in range(first, first + MOST_SEEDS))
        found = next((outcome for outcome in outcomes if outcome.violation), None)
    assert found is not None, f"{mutate.__name__} was not found in {MOST_SEEDS} seeds"
    assert "Broken" in found.violation
    assert f"tests.settlement {ledger} {found.seed}" in str(found)
