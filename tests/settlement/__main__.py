"""`python -m tests.settlement localnet 17` plays one seed and shows what happened; `… localnet 0 500` many."""

from __future__ import annotations

import sys
import time
from collections import Counter

from tests.settlement.run import simulate


def main(ledger: str, first: int, count: int = 1) -> int:
    seen: Counter[str] = Counter()
    bad = 0
    began = time.perf_counter()
    for seed in range(first, first + count):
        outcome = simulate(seed, ledger)
        seen.update(outcome.seen)
        if outcome.violation:
            bad += 1
            _say(str(outcome) if count == 1 else f"seed {seed}: {outcome.violation.splitlines()[0]}")
        elif count == 1:
            _say("\n".join(outcome.trace))
    _say(f"{count} histories, {bad} broken, {time.perf_counter() - began:.1f} s; {dict(sorted(seen.items()))}")
    return bad


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    raise SystemExit(bool(main(sys.argv[1], *map(int, sys.argv[2:]))))
